//! An engine with its source, and the file of what it remembers.

use crate::debounce::Hint;
use crate::engine::brake::Hold;
use crate::engine::client::{ClientEngine, Memory, Settings};
use crate::engine::source::RootId;
use crate::host::database::Origin;
use crate::host::index::{IndexStore, Loaded};
use crate::host::source::{DiskSource, SourceRoot};
use crate::host::watch::{Mailbox, Merged, Seen, WatchError, Watcher};
use crate::index::Tree;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Names of the values that are stored beside the view.
const ROOT: &str = "root";
const HELD: &str = "held";

/// An engine with its source and the file of its view.
pub(super) struct Bench {
    pub(super) mirror: String,
    pub(super) engine: ClientEngine,
    pub(super) source: DiskSource,
    stored: Memory,
    store: Option<Arc<IndexStore>>,
    /// The save that is under way, and whether the file turned out to be lost.
    pub(super) saving: Option<JoinHandle<bool>>,
}

impl Bench {
    /// An engine with what an earlier run left in `private`, if it was for the same mirror.
    ///
    /// # Errors
    /// When events cannot be had.
    pub(super) fn open(
        mirror: String,
        private: &Path,
        root: SourceRoot,
        settings: Settings,
        mailbox: Arc<Mailbox>,
    ) -> Result<Self, WatchError> {
        let watcher = Watcher::new(private, mailbox)?;
        let (store, view, stored) = load(private, &mirror);
        let engine = ClientEngine::new(settings, root.check().ok(), view, &stored);
        let source = DiskSource::new(root, watcher);
        Ok(Self {
            mirror,
            engine,
            source,
            stored,
            store,
            saving: None,
        })
    }

    /// Has changed rows of the view written, unless a save is under way. The file is a cache: what is lost costs a
    /// comparison.
    pub(super) fn save(&mut self, runtime: &Handle) {
        if self
            .saving
            .as_ref()
            .is_some_and(|saving| !saving.is_finished())
        {
            return;
        }
        self.join(runtime);
        if !self.is_touched() {
            return;
        }
        if let Some(store) = &self.store {
            let (store, rows) = (Arc::clone(store), self.engine.view_mut().take_touched());
            let memory = self.engine.memory();
            self.stored = memory;
            self.saving = Some(runtime.spawn_blocking(move || {
                let root = memory.root.map(pack_root);
                let held = memory.held.map(Hold::word);
                let values = [
                    (ROOT, root.as_ref().map(<[u8; 24]>::as_slice)),
                    (HELD, held.map(str::as_bytes)),
                ];
                match store.save(rows, &values) {
                    Ok(origin) => origin != Origin::Kept,
                    Err(error) => {
                        tracing::warn!(%error, "the view is not stored: the next start compares");
                        false
                    }
                }
            }));
        }
    }

    /// Tells the engine what was seen.
    pub(super) fn events(&mut self, seen: Seen, now: Duration) {
        if seen.overflow {
            tracing::warn!("events were lost: the whole tree is looked at again");
            self.engine.rescan();
        }
        for ((dir, name), Merged { last: hint, went }) in seen.entries {
            if went && hint != Hint::Gone {
                self.engine.event(dir, &name, Hint::Gone, now);
            }
            self.engine.event(dir, &name, hint, now);
        }
        for (dir, hint) in seen.directories {
            self.engine.directory_event(dir, hint, now);
        }
    }

    /// Whether there is anything to store.
    pub(super) fn is_touched(&mut self) -> bool {
        self.engine.view_mut().is_touched() || self.engine.memory() != self.stored
    }

    /// Waits for a save, and learns whether everything has to be written again.
    fn join(&mut self, runtime: &Handle) {
        if let Some(done) = self.saving.take()
            && runtime.block_on(done).unwrap_or(true)
        {
            self.engine.view_mut().touch_all();
        }
    }

    /// Writes what is left and waits for it.
    pub(super) fn finish(&mut self, runtime: &Handle) {
        self.join(runtime);
        self.save(runtime);
        self.join(runtime);
    }
}

/// The view that an earlier run left, and its file. Without one, everything is compared.
fn load(private: &Path, mirror: &str) -> (Option<Arc<IndexStore>>, Tree, Memory) {
    let name = blake3::hash(mirror.as_bytes()).to_hex();
    let name: String = name.chars().take(16).collect();
    match IndexStore::open(&private.join(format!("view-{name}"))) {
        Ok((store, Loaded { rows, meta, .. })) => {
            (Some(Arc::new(store)), Tree::from_rows(rows), memory(&meta))
        }
        Err(error) => {
            tracing::warn!(%error, "the view cannot be stored: the next start compares");
            (None, Tree::new(), Memory::default())
        }
    }
}

fn memory(meta: &HashMap<String, Vec<u8>>) -> Memory {
    let held = meta.get(HELD);
    Memory {
        root: meta.get(ROOT).and_then(|packed| unpack_root(packed)),
        held: held.and_then(|word| Hold::of_word(word)),
    }
}

/// Inode number, birth time and file system; what it is mounted through does not outlive the run.
fn pack_root(root: RootId) -> [u8; 24] {
    let mut packed = [0; 24];
    let words = [root.inode, root.birth.cast_unsigned(), root.fs];
    for (bytes, word) in packed.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    packed
}

fn unpack_root(packed: &[u8]) -> Option<RootId> {
    let (words, []) = packed.as_chunks::<8>() else {
        return None;
    };
    let [inode, birth, fs] = *words else {
        return None;
    };
    Some(RootId {
        inode: u64::from_le_bytes(inode),
        birth: i64::from_le_bytes(birth),
        fs: u64::from_le_bytes(fs),
        mount: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{pack_root, unpack_root};
    use crate::engine::source::RootId;

    #[test]
    fn a_root_is_stored_without_its_mount() {
        let root = RootId {
            inode: 7,
            birth: -9,
            fs: u64::MAX,
            mount: 3,
        };
        assert_eq!(
            unpack_root(&pack_root(root)),
            Some(RootId { mount: 0, ..root })
        );
        assert_eq!(unpack_root(&[0; 23]), None);
        assert_eq!(unpack_root(&[0; 32]), None);
    }
}
