//! File events: `notify`, one non-recursive watch a directory, to hints about nodes of the view.
//!
//! `notify` knows a watch by the path under which it was set. Paths move: after a rename it would report old names, and
//! would take a watch away together with the name that the directory used to have. So each directory is watched under
//! an alias that is its own for ever: a path through a private directory that spells the node's id in steps which
//! lead nowhere (`a/../3/../` for 0xa3), and then, by `/proc/self/fd`, to the directory's open descriptor. What
//! comes back names the node, wherever the directory is by then.
//!
//! The handler only decodes and merges; it never waits, so that the kernel's queue stays short.

use crate::debounce::Hint;
use crate::engine::source::SourceError;
use crate::index::NodeId;
use crate::model::Name;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{
    Config, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The node under which the directory of flush markers is watched.
const MARKERS: NodeId = NodeId(u64::MAX);
/// More merged hints than this are dropped for a scan of the whole tree.
const MAX_HINTS: usize = 200_000;
const DIGITS: [&str; 16] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f",
];
/// The name of the link to `/proc/self/fd` in the private directory.
const DESCRIPTORS: &str = "fd";

/// What the watcher saw since it was asked last, merged by path.
#[derive(Debug, Default)]
pub struct Seen {
    /// What each entry, by directory and name, is worth a look for.
    pub entries: HashMap<(NodeId, Name), Merged>,
    /// Hints of directories themselves.
    pub directories: HashMap<NodeId, Hint>,
    /// Names of flush markers, in order.
    pub markers: Vec<String>,
    /// Events were lost: everything has to be looked at.
    pub overflow: bool,
}

/// The hints of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// The last one.
    pub last: Hint,
    /// Whether it was seen to go, though something may be there again.
    pub went: bool,
}

impl Seen {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.directories.is_empty()
            && self.markers.is_empty()
            && !self.overflow
    }

    fn entry(&mut self, dir: NodeId, name: Name, hint: Hint) {
        if self.entries.len() >= MAX_HINTS {
            self.entries.clear();
            self.overflow = true;
        }
        if matches!(hint, Hint::Made | Hint::Gone | Hint::Settled) {
            self.directories.entry(dir).or_insert(Hint::Inside);
        }
        let first = Merged {
            last: hint,
            went: false,
        };
        let merged = self.entries.entry((dir, name)).or_insert(first);
        merged.went |= hint == Hint::Gone;
        if hint != Hint::Attributes {
            merged.last = hint;
        }
    }
}

/// Where events wait until they are taken.
#[derive(Debug, Default)]
pub struct Mailbox {
    seen: Mutex<Seen>,
    arrived: Notify,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was seen.
    #[must_use]
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something was seen.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn put(&self, edit: impl FnOnce(&mut Seen)) {
        edit(&mut self.lock());
        self.arrived.notify_one();
    }
}

/// Why events cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system has no more watchers for this user, or no more open files for this process.
    #[error(
        "cannot watch files: the system's limit of watchers of one user, or of open files, is reached"
    )]
    Limit,
    /// The system gives no watcher.
    #[error("cannot watch files")]
    Notify(#[from] notify::Error),
    /// The private directory cannot be made.
    #[error("cannot prepare `{}`", .path.display())]
    Prepare {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The watches of one source.
#[derive(Debug)]
pub struct Watcher {
    notify: RecommendedWatcher,
    aliases: PathBuf,
    watches: HashMap<NodeId, (PathBuf, (u64, i64))>,
    owners: HashMap<(u64, i64), NodeId>,
}

impl Watcher {
    /// A watcher that leaves what it sees in the mailbox. `private` is a directory of its own, made if need be, for
    /// the aliases and, in `markers`, the files of [`Seen::markers`].
    ///
    /// # Errors
    /// When the system gives no watcher or the directory cannot be made.
    pub fn new(private: &Path, mailbox: Arc<Mailbox>) -> Result<Self, WatchError> {
        let prepare = |path: &Path, done: std::io::Result<()>| match done {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(WatchError::Prepare {
                    path: path.to_owned(),
                    source,
                })
            }
            _ => Ok(()),
        };
        let aliases = private.join("watch");
        let markers = private.join("markers");
        for digit in DIGITS {
            prepare(&aliases, std::fs::create_dir_all(aliases.join(digit)))?;
        }
        prepare(
            &aliases,
            std::os::unix::fs::symlink("/proc/self/fd", aliases.join(DESCRIPTORS)),
        )?;
        prepare(&markers, std::fs::create_dir_all(&markers))?;
        let base = aliases.clone();
        let handler = move |event: notify::Result<Event>| handle(&base, &mailbox, event);
        let config = Config::default()
            .with_follow_symlinks(false)
            .with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE);
        let notify = RecommendedWatcher::new(handler, config).map_err(refused)?;
        let mut watcher = Self {
            notify,
            aliases,
            watches: HashMap::new(),
            owners: HashMap::new(),
        };
        let fd = std::fs::File::open(&markers).map_err(|source| WatchError::Prepare {
            path: markers,
            source,
        })?;
        let alias = watcher.alias(&fd, MARKERS);
        watcher.notify.watch(&alias, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// How many directories are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    fn alias(&self, fd: &impl AsFd, node: NodeId) -> PathBuf {
        let mut path = self.aliases.as_os_str().to_owned();
        for digit in format!("{:x}", node.0).chars() {
            path.push("/");
            path.push(digit.to_string());
            path.push("/..");
        }
        path.push(format!("/{DESCRIPTORS}/{}", fd.as_fd().as_raw_fd()));
        PathBuf::from(path)
    }

    /// Watches an open directory as a node.
    ///
    /// # Errors
    /// When the system has no more watches, or refuses.
    pub fn watch(
        &mut self,
        fd: &impl AsFd,
        identity: (u64, i64),
        node: NodeId,
    ) -> Result<(), SourceError> {
        if self
            .watches
            .get(&node)
            .is_some_and(|(_, watched)| *watched == identity)
            && self.owners.get(&identity) == Some(&node)
        {
            return Ok(());
        }
        self.unwatch(node);
        let alias = self.alias(fd, node);
        self.notify.watch(&alias, RecursiveMode::NonRecursive).map_err(|error| match error.kind {
            notify::ErrorKind::MaxFilesWatch => SourceError::WatchLimit(format!(
                "not watched: the system's limit of watches is reached; run `sysctl fs.inotify.max_user_watches={}`",
                (self.watches.len() * 2).next_power_of_two().max(524_288)
            )),
            notify::ErrorKind::PathNotFound => SourceError::Displaced,
            _ => SourceError::Failed(format!("cannot watch it: {error}")),
        })?;
        // Another node may have the directory, too: which of the two the view keeps is not known yet, so both stay.
        self.owners.insert(identity, node);
        self.watches.insert(node, (alias, identity));
        Ok(())
    }

    /// Ends all watches of the tree: it is another one, or reached through another mount.
    pub fn clear(&mut self) {
        let nodes: Vec<NodeId> = self.watches.keys().copied().collect();
        for node in nodes {
            self.unwatch(node);
        }
    }

    /// Ends the watch of a node. The kernel has one watch a directory, whatever it is called: where the directory is
    /// watched as another node by now, that stays. The name has to go all the same: it would be taken for a watch of
    /// the node's next directory.
    pub fn unwatch(&mut self, node: NodeId) {
        let Some((alias, identity)) = self.watches.remove(&node) else {
            return;
        };
        if self.owners.get(&identity) == Some(&node) {
            self.owners.remove(&identity);
        }
        // A directory that was removed is not watched any more: nothing to end, and no harm.
        if let Err(error) = self.notify.unwatch(&alias) {
            tracing::trace!(%error, "the watch had ended already");
        }
    }
}

fn refused(error: notify::Error) -> WatchError {
    match &error.kind {
        // EMFILE, for descriptors and for watchers alike.
        notify::ErrorKind::Io(io) if io.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            WatchError::Limit
        }
        _ => WatchError::Notify(error),
    }
}

fn handle(aliases: &Path, mailbox: &Mailbox, event: notify::Result<Event>) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "file events failed: the whole tree is looked at again");
            return mailbox.put(|seen| seen.overflow = true);
        }
    };
    if event.need_rescan() {
        return mailbox.put(|seen| seen.overflow = true);
    }
    let hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Settled,
        EventKind::Create(CreateKind::Folder)
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Hint::Settled,
        EventKind::Create(_) => Hint::Made,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Hint::Gone,
        EventKind::Modify(ModifyKind::Metadata(_)) => Hint::Attributes,
        EventKind::Modify(ModifyKind::Data(_)) => Hint::Touched,
        _ => return,
    };
    for path in &event.paths {
        let Some((node, name)) = decode(aliases, path) else {
            continue;
        };
        match name {
            Some(name) if node == MARKERS && hint == Hint::Settled => {
                mailbox.put(|seen| seen.markers.push(name.to_string()));
            }
            Some(_) if node == MARKERS => {}
            Some(name) => mailbox.put(|seen| seen.entry(node, name, hint)),
            None if hint == Hint::Attributes => {
                mailbox.put(|seen| {
                    let old = seen.directories.entry(node).or_insert(hint);
                    if *old == Hint::Inside {
                        *old = hint;
                    }
                });
            }
            // That a directory itself went or moved, its parent says with its name; only the root has no parent.
            None if node == NodeId(0) => {
                mailbox.put(|seen| {
                    seen.directories.insert(node, hint);
                });
            }
            None => {}
        }
    }
}

/// Reads the node, and the name if there is one, out of the path of an event.
fn decode(aliases: &Path, path: &Path) -> Option<(NodeId, Option<Name>)> {
    let rest = path
        .as_os_str()
        .as_bytes()
        .strip_prefix(aliases.as_os_str().as_bytes())?;
    let mut steps = rest.strip_prefix(b"/")?.split(|byte| *byte == b'/');
    let mut id = 0u64;
    loop {
        let step = steps.next()?;
        if step == DESCRIPTORS.as_bytes() {
            break;
        }
        let digit = char::from(*step.first()?).to_digit(16)?;
        id = id.checked_mul(16)?.checked_add(u64::from(digit))?;
        if steps.next()? != b".." {
            return None;
        }
    }
    steps.next()?; // the descriptor's number
    let name = match steps.next() {
        None => None,
        Some(name) => Some(Name::new(name).ok()?),
    };
    Some((NodeId(id), name))
}

#[cfg(test)]
mod tests;
