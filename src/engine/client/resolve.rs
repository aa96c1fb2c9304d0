//! One dirty path: what it is now, against what the view says, to operations.

use super::moves::Moved;
use super::scan::same_directory;
use super::{ClientEngine, Output};
use crate::debounce::{Hint, Key, Wait};
use crate::engine::source::{Found, FoundKind, Place, Source, SourceError};
use crate::index::{Node, NodeId};
use crate::model::limits::MAX_INLINE;
use crate::model::{Entry, Kind, RelPath};
use crate::wire::{Op, WireBytes, WirePath};
use std::time::Duration;

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
        if self.busy.contains(&key) {
            self.again.wait(key, now, wait);
            return;
        }
        let Some(place) = self.place(key.dir) else {
            self.troubles.remove(&key);
            self.skipped.remove(&key);
            return;
        };
        let looked = source.look(&place, &key.name);
        match looked {
            Ok(None) if self.is_kept(&key) => drop(self.skipped.remove(&key)),
            Ok(Some(found)) if self.ignores(&key, matches!(found.kind, FoundKind::Directory)) => {
                self.leave_out(key, wait, now, source);
            }
            Ok(None) if self.may_return(&key, &wait) => self.hold(key, wait, now),
            Ok(None) => {
                self.rules_changed(&key, &place, None, source);
                self.gone(&key, wait, now, source);
            }
            Ok(Some(found)) if is_empty(&found) && self.may_return(&key, &wait) => {
                self.hold(key, wait, now);
            }
            Ok(Some(found)) if wait.made && is_plain(&found) => {
                self.queue
                    .hint_since(key.clone(), Hint::Touched, now, wait.stamp);
                if wait.left {
                    self.queue.went(&key);
                }
            }
            Ok(Some(found)) => {
                self.rules_changed(&key, &place, Some(&found), source);
                self.present(key, wait, &found, &place, now, source, out);
            }
            Err(SourceError::Displaced | SourceError::Gone | SourceError::Changed) => {
                self.displaced(key, wait, now);
            }
            Err(SourceError::Failed(message) | SourceError::WatchLimit(message)) => {
                self.fail(key, wait, message, now);
            }
        }
    }

    /// Whether a mirrored file that is gone or empty may be so for a moment: its last event was no deletion.
    pub(super) fn may_return(&self, key: &Key, wait: &Wait) -> bool {
        let full = |node: &Node| {
            !matches!(
                node.entry.kind,
                Kind::Directory | Kind::File { size: 0, .. }
            )
        };
        let id = self.view.child(key.dir, key.name.as_bytes());
        wait.event && !wait.held && id.and_then(|id| self.view.get(id)).is_some_and(full)
    }

    pub(super) fn hold(&mut self, key: Key, wait: Wait, now: Duration) {
        let due = now + self.settings.timing.delete_hold;
        self.queue.wait(key, due, Wait { held: true, ..wait });
    }

    /// The directory of a path is not where the view has it: first it has to be found, or found gone.
    pub(super) fn displaced(&mut self, key: Key, mut wait: Wait, now: Duration) {
        let Some(parent) = self.key_of(key.dir) else {
            let message =
                "the source directory is missing or was replaced: nothing is deleted".to_owned();
            self.root_event();
            self.paused = Some((message, now + Duration::from_secs(1)));
            wait.event = true;
            self.queue.wait(key, now + Duration::from_secs(1), wait);
            return;
        };
        if self.is_below_missing(key.dir) {
            // A scan missed the directory: it is judged whether it may be deleted. If it turns up, it is listed.
            self.scans.mark(key.dir);
            if wait.left && self.existing(&key).is_some() {
                self.scans.note_gone(key);
            }
            return;
        }
        wait.event = true;
        if self.queue.get(&parent).is_none() {
            let due = now + self.settings.timing.delete_hold;
            self.owe(parent.clone(), due, now);
        }
        let due = self
            .queue
            .get(&parent)
            .map_or(now, |parent| parent.due.max(now));
        self.queue.wait(key, due + Duration::from_millis(1), wait);
    }

    /// Nothing is there any more.
    pub(super) fn gone(
        &mut self,
        key: &Key,
        mut wait: Wait,
        now: Duration,
        source: &mut impl Source,
    ) {
        self.left_link(key, None, now);
        self.skipped.remove(key);
        self.troubles.remove(key);
        self.known.whole.remove(key);
        let Some(id) = self.view.child(key.dir, key.name.as_bytes()) else {
            return;
        };
        let Some(path) = self.view.path(id) else {
            return;
        };
        let seen = wait.left && !self.has_mount(id);
        if !seen || !self.check_root(now, source) || self.root.suspicion().is_some() {
            // Nobody saw it go, or not from the source of the mirror: it is judged with all that is missing.
            return self.miss(key.clone());
        }
        self.guard.remove(key);
        self.forget(id, &mut wait, source);
        self.emit(
            Op::Delete {
                path: WirePath::from(&path),
            },
            &[],
            key.clone(),
            wait,
        );
    }

    /// Takes a node out of the view, and its directories off the watch. The change that does so takes along what waits
    /// below: whoever waits for that waits for it.
    pub(super) fn forget(&mut self, id: NodeId, wait: &mut Wait, source: &mut impl Source) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id) else {
                continue;
            };
            if let Some(key) = self.key_of(id) {
                wait.stamp = wait.stamp.min(self.awaited(&key));
                self.guard.remove(&key);
            }
            if node.entry.is_dir() {
                source.unwatch(id);
                todo.extend(node.children().map(|(_, child)| child));
                self.scans.done(id);
                self.unwatched.remove(id);
                self.ignore.forget(id);
                self.forget_reports(id);
            } else if let Some(key) = self.key_of(id) {
                self.found.extend(self.links.leave(&key, None));
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
        mut wait: Wait,
        found: &Found,
        place: &Place,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) {
        if let FoundKind::Special(reason) = found.kind {
            // An event told that something took its place: so it went, unless it holds more than itself.
            wait.left |= wait.event && !self.replaces_tree(&key, found);
            self.gone(&key, wait, now, source);
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
        if !wait.left && self.replaces_tree(&key, found) {
            return self.miss(key);
        }
        self.guard.remove(&key);
        self.left_link(&key, Some(found.stat.inode), now);
        self.note_link(&key, found);
        let twin = match self.relocate(&key, &mut wait, found, &path, now, source) {
            Moved::Later(due) => return self.queue.wait(key, due, wait),
            Moved::Done => None,
            Moved::Judged => return,
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

    /// Whether a path that nobody saw go takes a directory with all below it along.
    fn replaces_tree(&self, key: &Key, found: &Found) -> bool {
        let full = |node: &Node| node.child_count() > 0;
        !matches!(found.kind, FoundKind::Directory)
            && self.existing(key).is_some_and(|(_, node)| full(node))
    }

    pub(super) fn existing(&self, key: &Key) -> Option<(NodeId, &Node)> {
        let id = self.view.child(key.dir, key.name.as_bytes())?;
        Some((id, self.view.get(id)?))
    }

    fn directory(
        &mut self,
        key: Key,
        mut wait: Wait,
        found: &Found,
        path: &RelPath,
        source: &mut impl Source,
    ) {
        let old = self
            .existing(&key)
            .map(|(id, node)| (id, node.entry.is_dir(), same_directory(node, found)));
        match old {
            Some((id, true, same)) => {
                let unmounted = self.found_directory(id, found.stat);
                // The one that went is back.
                wait.left &= !same;
                if !same && wait.left && !unmounted {
                    self.scans.push_replaced(id);
                } else if !same || self.scans.is_marked(id) {
                    self.scans.push(id);
                } else {
                    self.troubles.remove(&key);
                }
                self.attributes(key, wait, id, found, path);
            }
            other => {
                if let Some((id, ..)) = other {
                    self.forget(id, &mut wait, source);
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
                    self.scans.push(id);
                    self.emit(op, &[], key, wait);
                }
            }
        }
    }

    fn symlink(
        &mut self,
        key: Key,
        mut wait: Wait,
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
                    self.forget(id, &mut wait, source);
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
}

/// Whether it is a regular file with one name: its writer may still be at work.
fn is_plain(found: &Found) -> bool {
    matches!(found.kind, FoundKind::File { .. }) && found.stat.links < 2
}

pub(super) fn is_empty(found: &Found) -> bool {
    matches!(found.kind, FoundKind::File { size: 0 })
}
