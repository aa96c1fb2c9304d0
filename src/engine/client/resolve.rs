//! One dirty path: what it is now, against what the view says, to operations.

use super::moves::Moved;
use super::scan::{is_clean, same_directory};
use super::{ClientEngine, Output, Scan};
use crate::debounce::{Hint, Key, Wait};
use crate::engine::source::{Found, FoundKind, Place, Source, SourceError};
use crate::index::{Node, NodeId};
use crate::model::limits::MAX_INLINE;
use crate::model::{Digest, Entry, Kind, RelPath};
use crate::wire::{Content, Op, WireBytes, WirePath};
use std::time::Duration;

/// A file that keeps changing while it is read is tried again after so long, doubled each time.
const REREAD: Duration = Duration::from_millis(10);
const LONGEST_REREAD: Duration = Duration::from_secs(2);

impl ClientEngine {
    /// Looks at one path and does what its state asks for.
    pub(super) fn resolve(
        &mut self,
        key: Key,
        wait: Wait,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = Some(wait);
            return;
        }
        let Some(place) = self.place(key.dir) else {
            self.troubles.remove(&key);
            self.skipped.remove(&key);
            return;
        };
        match source.look(&place, &key.name) {
            Ok(None) => self.gone(&key, wait, source),
            Ok(Some(found)) if wait.made && is_plain(&found) => {
                self.queue.hint(key, Hint::Touched, now);
            }
            Ok(Some(found)) => self.present(key, wait, &found, &place, now, source, out),
            Err(SourceError::Displaced | SourceError::Gone | SourceError::Changed) => {
                self.displaced(key, wait, now);
            }
            Err(SourceError::Failed(message) | SourceError::WatchLimit(message)) => {
                self.fail(key, wait, message, now);
            }
        }
    }

    /// The directory of a path is not where the view has it: first it has to be found, or found gone.
    fn displaced(&mut self, key: Key, mut wait: Wait, now: Duration) {
        let Some(parent) = self.key_of(key.dir) else {
            let message =
                "the source directory is missing or was replaced: nothing is deleted".to_owned();
            self.paused = Some((message, now + Duration::from_secs(1)));
            wait.event = true;
            self.queue.wait(key, now + Duration::from_secs(1), wait);
            return;
        };
        if self.missing.contains(&parent) {
            // A scan missed the directory: it is judged whether it may be deleted. If it was moved, it is scanned.
            return;
        }
        wait.event = true;
        if self.queue.get(&parent).is_none() {
            self.queue.hint(parent.clone(), Hint::Gone, now);
        }
        let due = self
            .queue
            .get(&parent)
            .map_or(now, |parent| parent.due.max(now));
        self.queue.wait(key, due + Duration::from_millis(1), wait);
    }

    /// Nothing is there any more.
    fn gone(&mut self, key: &Key, wait: Wait, source: &mut impl Source) {
        self.skipped.remove(key);
        self.troubles.remove(key);
        self.no_delta.remove(key);
        let Some(id) = self.view.child(key.dir, key.name.as_bytes()) else {
            return;
        };
        let Some(path) = self.view.path(id) else {
            return;
        };
        self.look_at_links(key, None);
        self.forget(id, source);
        self.emit(
            Op::Delete {
                path: WirePath::from(&path),
            },
            &[],
            key.clone(),
            wait,
        );
    }

    /// Takes a node out of the view, and its directories off the watch.
    pub(super) fn forget(&mut self, id: NodeId, source: &mut impl Source) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id) else {
                continue;
            };
            if node.entry.is_dir() {
                source.unwatch(id);
                todo.extend(node.children().map(|(_, child)| child));
            }
        }
        self.view.remove(id);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and state, and the outside"
    )]
    fn present(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        place: &Place,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) {
        if let FoundKind::Special(reason) = found.kind {
            self.gone(&key, wait, source);
            self.skipped.insert(key, reason);
            return;
        }
        self.skipped.remove(&key);
        let Ok(path) = place.path.join(&key.name) else {
            return self.fail(
                key,
                wait,
                "the path is too long to be mirrored".to_owned(),
                now,
            );
        };
        self.look_at_links(&key, Some(found.stat.inode));
        let twin = match self.relocate(&key, &wait, found, &path, now, source) {
            Moved::Later(due) => return self.queue.wait(key, due, wait),
            Moved::Done => None,
            Moved::No(twin) => twin,
        };
        match &found.kind {
            FoundKind::Directory => self.directory(key, wait, found, &path, source),
            FoundKind::Symlink { target } => self.symlink(key, wait, found, &path, target, source),
            FoundKind::File { size } if *size > MAX_INLINE => {
                self.large_file(key, wait, found, &path, twin, now, out);
            }
            FoundKind::File { .. } => self.small_file(key, wait, found, place, &path, now, source),
            FoundKind::Special(_) => {}
        }
    }

    fn existing(&self, key: &Key) -> Option<(NodeId, &Node)> {
        let id = self.view.child(key.dir, key.name.as_bytes())?;
        Some((id, self.view.get(id)?))
    }

    fn directory(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        path: &RelPath,
        source: &mut impl Source,
    ) {
        let old = self
            .existing(&key)
            .map(|(id, node)| (id, node.entry.is_dir(), same_directory(node, found)));
        match old {
            Some((id, true, same)) => {
                self.view.set_stat(id, Some(found.stat));
                if !same {
                    self.scans.push(Scan {
                        dir: id,
                        deep: true,
                    });
                }
                self.attributes(key, wait, id, found, path);
            }
            other => {
                if let Some((id, ..)) = other {
                    self.forget(id, source);
                }
                let entry = Entry {
                    kind: Kind::Directory,
                    mode: found.mode,
                    mtime: found.mtime,
                };
                let op = Op::Mkdir {
                    path: WirePath::from(path),
                    mode: found.mode,
                    mtime: found.mtime.into(),
                };
                if let Some(id) = self.view.put(key.dir, &key.name, entry, Some(found.stat)) {
                    self.scans.push(Scan {
                        dir: id,
                        deep: true,
                    });
                    self.emit(op, &[], key, wait);
                }
            }
        }
    }

    fn symlink(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        path: &RelPath,
        target: &[u8],
        source: &mut impl Source,
    ) {
        self.troubles.remove(&key);
        let kind = Kind::Symlink {
            target: target.into(),
        };
        match self
            .existing(&key)
            .map(|(id, node)| (id, node.entry.clone()))
        {
            Some((id, entry)) if entry.kind == kind => {
                self.view.set_stat(id, Some(found.stat));
                self.attributes(key, wait, id, found, path);
            }
            other => {
                if let Some((id, ..)) = other.filter(|(_, entry)| entry.is_dir()) {
                    self.forget(id, source);
                }
                let entry = Entry {
                    kind,
                    mode: 0,
                    mtime: found.mtime,
                };
                self.view.put(key.dir, &key.name, entry, Some(found.stat));
                let op = Op::Symlink {
                    path: WirePath::from(path),
                    target: WireBytes::new(target),
                    mtime: found.mtime.into(),
                };
                self.emit(op, &[], key, wait);
            }
        }
    }

    /// Mode and time, where only they differ.
    pub(super) fn attributes(
        &mut self,
        key: Key,
        wait: Wait,
        id: NodeId,
        found: &Found,
        path: &RelPath,
    ) {
        let Some(node) = self.view.get(id) else {
            return;
        };
        if node.entry.mode == found.mode && node.entry.mtime == found.mtime {
            return;
        }
        self.view.set_attributes(id, found.mode, found.mtime);
        let op = Op::Attributes {
            path: WirePath::from(path),
            mode: found.mode,
            mtime: found.mtime.into(),
        };
        self.emit(op, &[], key, wait);
    }

    /// A file of one leaf: read here and sent whole.
    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and state, and the outside"
    )]
    fn small_file(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        place: &Place,
        path: &RelPath,
        now: Duration,
        source: &mut impl Source,
    ) {
        if !wait.event
            && self
                .existing(&key)
                .is_some_and(|(_, node)| is_clean(node, found))
        {
            self.troubles.remove(&key);
            return;
        }
        match source.read(place, &key.name, MAX_INLINE) {
            Ok((found, bytes)) => {
                let digest = crate::delta::digest(&bytes);
                self.file_content(
                    key,
                    wait,
                    &found,
                    path,
                    digest,
                    bytes.len() as u64,
                    &bytes,
                    source,
                );
            }
            Err(SourceError::Failed(message) | SourceError::WatchLimit(message)) => {
                self.fail(key, wait, message, now);
            }
            Err(SourceError::Displaced) => self.displaced(key, wait, now),
            Err(SourceError::Gone) => self.queue.wait(key, now + REREAD, wait),
            Err(SourceError::Changed) => self.reread(key, wait, now),
        }
    }

    /// A file changed while it was read: it is read again, ever later.
    pub(super) fn reread(&mut self, key: Key, wait: Wait, now: Duration) {
        let age = now.saturating_sub(wait.since);
        let pause = (age / 2).clamp(REREAD, LONGEST_REREAD);
        self.queue.wait(
            key,
            now + pause,
            Wait {
                event: true,
                ..wait
            },
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and content, and the outside"
    )]
    fn file_content(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        path: &RelPath,
        digest: Digest,
        size: u64,
        bytes: &[u8],
        source: &mut impl Source,
    ) {
        let kind = Kind::File { size, digest };
        self.troubles.remove(&key);
        self.note_links(&key, found, &wait, digest);
        match self
            .existing(&key)
            .map(|(id, node)| (id, node.entry.clone()))
        {
            Some((id, entry)) if entry.kind == kind => {
                self.view.set_stat(id, Some(found.stat));
                self.attributes(key, wait, id, found, path);
            }
            other => {
                if let Some((id, ..)) = other.filter(|(_, entry)| entry.is_dir()) {
                    self.forget(id, source);
                }
                let entry = Entry {
                    kind,
                    mode: found.mode,
                    mtime: found.mtime,
                };
                self.view.put(key.dir, &key.name, entry, Some(found.stat));
                let op = Op::Put {
                    path: WirePath::from(path),
                    mode: found.mode,
                    mtime: found.mtime.into(),
                    size,
                    content: Content::Inline {},
                };
                self.emit(op, &[&digest.0, bytes], key, wait);
            }
        }
    }

    /// A name of a file with several names went, or is another file now: it may have been written before that.
    fn look_at_links(&mut self, key: &Key, now: Option<u64>) {
        let Some(stat) = self.existing(key).and_then(|(_, node)| node.stat) else {
            return;
        };
        if stat.links < 2 || now == Some(stat.inode) {
            return;
        }
        if let Some(names) = self.linked.get_mut(&stat.inode) {
            names.remove(key);
            self.found.extend(names.iter().cloned());
        }
    }

    /// A write through one name of a file gives no event for its other names: they are looked at too.
    pub(super) fn note_links(&mut self, key: &Key, found: &Found, wait: &Wait, digest: Digest) {
        if found.stat.links < 2 {
            return;
        }
        // The name that the view knows may have been the only one when it was mirrored.
        let first = self
            .view
            .by_inode(found.stat.inode)
            .and_then(|id| self.key_of(id));
        let names = self.linked.entry(found.stat.inode).or_default();
        names.extend(first);
        names.insert(key.clone());
        if !wait.event {
            return;
        }
        let others: Vec<Key> = names
            .iter()
            .filter(|other| *other != key)
            .cloned()
            .collect();
        for other in others {
            let stale = self.existing(&other).is_some_and(|(_, node)| {
                !matches!(node.entry.kind, Kind::File { digest: known, .. } if known == digest)
                    || node.entry.mode != found.mode
                    || node.entry.mtime != found.mtime
            });
            if stale && self.queue.get(&other).is_none() {
                self.found.push(other);
            }
        }
    }
}

/// Whether it is a regular file with one name: its writer may still be at work.
fn is_plain(found: &Found) -> bool {
    matches!(found.kind, FoundKind::File { .. }) && found.stat.links < 2
}
