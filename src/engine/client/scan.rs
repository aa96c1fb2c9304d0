//! Looking at directories: watch first, list second, and mark what differs from the view.

use super::{ClientEngine, Scan, Trouble};
use crate::debounce::{Hint, Key};
use crate::engine::brake;
use crate::engine::source::{Found, FoundKind, Source, SourceError};
use crate::index::{Node, NodeId};
use crate::model::{Kind, Name};
use std::collections::HashSet;
use std::time::Duration;

impl ClientEngine {
    pub(super) fn scan(&mut self, scan: Scan, now: Duration, source: &mut impl Source) {
        // A scan of something that was moved, and is no directory, is over at once.
        let Some(place) = self.place(scan.dir) else {
            return;
        };
        if let Err(error) = source.watch(&place, scan.dir) {
            match error {
                SourceError::WatchLimit(message) => self.unwatched(scan.dir, message, now),
                other => return self.scan_failed(scan, other, now),
            }
        }
        match source.list(&place) {
            Ok(entries) => self.scanned_entries(scan, entries),
            Err(error) => self.scan_failed(scan, error, now),
        }
    }

    fn scanned_entries(&mut self, scan: Scan, entries: Vec<(Name, Found)>) {
        if scan.dir == self.view.root() {
            self.top_entries = entries.len();
        }
        let mut here = HashSet::with_capacity(entries.len());
        for (name, found) in entries {
            let key = Key {
                dir: scan.dir,
                name,
            };
            let node = self.view.child(scan.dir, key.name.as_bytes());
            here.extend(node);
            match node.and_then(|id| self.view.get(id).map(|node| (id, node))) {
                Some((id, node))
                    if matches!(found.kind, FoundKind::Directory) && node.entry.is_dir() =>
                {
                    let clean = is_clean(node, &found);
                    // A directory of another inode is scanned when it is resolved.
                    if scan.deep && same_directory(node, &found) {
                        self.scans.push(Scan {
                            dir: id,
                            deep: true,
                        });
                    }
                    if !clean {
                        self.found.push(key);
                    }
                }
                Some((_, node)) if is_clean(node, &found) => {
                    if found.stat.links > 1 {
                        self.linked.entry(found.stat.inode).or_default().insert(key);
                    }
                }
                _ => self.found.push(key),
            }
        }
        if let Some(key) = self.key_of(scan.dir) {
            self.troubles.remove(&key);
        }
        let Some(node) = self.view.get(scan.dir) else {
            return;
        };
        let gone = node
            .children()
            .filter(|(_, id)| !here.contains(id))
            .filter_map(|(name, _)| Name::new(name).ok());
        let gone: Vec<Key> = gone
            .map(|name| Key {
                dir: scan.dir,
                name,
            })
            .collect();
        self.missing.extend(gone);
    }

    fn scan_failed(&mut self, scan: Scan, error: SourceError, now: Duration) {
        let message = match error {
            SourceError::Displaced | SourceError::Gone if scan.dir != self.view.root() => {
                return self.directory_event(scan.dir, Hint::Gone, now);
            }
            SourceError::Displaced | SourceError::Gone | SourceError::Changed => {
                "the source directory is missing or was replaced".to_owned()
            }
            SourceError::Failed(message) | SourceError::WatchLimit(message) => message,
        };
        match self.key_of(scan.dir) {
            Some(key) => {
                // The stat goes, so that the next look at the directory scans it again.
                self.view.set_stat(scan.dir, None);
                let wait = self.fresh_wait(now);
                self.fail(key, wait, format!("cannot look into it: {message}"), now);
            }
            None => self.paused = Some((message, now + Duration::from_secs(1))),
        }
    }

    fn unwatched(&mut self, dir: NodeId, message: String, now: Duration) {
        if let Some(key) = self.key_of(dir) {
            self.troubles.entry(key).or_insert(Trouble {
                message,
                since: now,
            });
        }
    }

    /// Once a scan is over: whether what it missed may be deleted.
    pub(super) fn judge_missing(&mut self) {
        let missing = self
            .missing
            .iter()
            .filter_map(|key| self.view.child(key.dir, key.name.as_bytes()));
        let missing = missing.map(|id| self.count(id)).sum();
        self.held = brake::judge(missing, self.view.len(), self.top_entries);
    }

    fn count(&self, id: NodeId) -> usize {
        let (mut count, mut todo) = (0, vec![id]);
        while let Some(id) = todo.pop() {
            count += 1;
            todo.extend(
                self.view
                    .get(id)
                    .into_iter()
                    .flat_map(Node::children)
                    .map(|(_, child)| child),
            );
        }
        count
    }
}

/// Whether a directory is the one that was scanned before.
pub(super) fn same_directory(node: &Node, found: &Found) -> bool {
    node.stat
        .is_some_and(|stat| (stat.inode, stat.birth) == (found.stat.inode, found.stat.birth))
}

/// Whether a path looks as it did when it was last mirrored.
pub(super) fn is_clean(node: &Node, found: &Found) -> bool {
    let same_kind = match (&node.entry.kind, &found.kind) {
        (Kind::Directory, FoundKind::Directory) => {
            return same_directory(node, found)
                && node.entry.mode == found.mode
                && node.entry.mtime == found.mtime;
        }
        (Kind::File { size, .. }, FoundKind::File { size: found }) => size == found,
        (Kind::Symlink { target }, FoundKind::Symlink { target: found }) => target == found,
        _ => false,
    };
    same_kind
        && node.stat == Some(found.stat)
        && node.entry.mode == found.mode
        && node.entry.mtime == found.mtime
}
