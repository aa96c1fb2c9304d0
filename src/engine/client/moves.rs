//! Moves: a path whose inode the view knows under another name.
//!
//! Pairing goes by inode number, birth time and kind, not by the event's cookie: so chains, moves whose events were
//! lost, and moves made while the client was down are all the same case. A file's content is hashed afterwards like
//! that of any dirty path, so a wrong guess costs a message and no truth.

use super::ClientEngine;
use super::scan::same_directory;
use crate::debounce::{Hint, Key, Wait};
use crate::engine::source::{Found, FoundKind, Source};
use crate::index::{Node, NodeId};
use crate::model::{Kind, RelPath};
use crate::wire::{Op, WirePath};
use std::time::Duration;

/// Where another directory has taken the place of one that was mirrored, the old one was perhaps moved: its new name
/// is looked at first.
const REPLACED: Duration = Duration::from_millis(5);

/// A directory that is seen under two names is looked at again for so long; after that it is believed (a bind mount).
const MOVED_BACK: Duration = Duration::from_millis(50);

/// What became of a path that may have been moved.
pub(super) enum Moved {
    /// It is no move. The file of the view that has the same inode, if there is one, has perhaps the same content.
    No(Option<NodeId>),
    /// The view and the server follow the move now.
    Done,
    /// The old name may come back: look again at this time.
    Later(Duration),
    /// It would take the place of a full directory that nobody saw go: that is judged first.
    Judged,
}

impl ClientEngine {
    /// Follows a move that ended at `key`.
    pub(super) fn relocate(
        &mut self,
        key: &Key,
        wait: &mut Wait,
        found: &Found,
        path: &RelPath,
        now: Duration,
        source: &mut impl Source,
    ) -> Moved {
        let existing = self.view.child(key.dir, key.name.as_bytes());
        let patience = wait.since + REPLACED;
        if wait.event && now < patience && self.replaces_directory(existing, found) {
            return Moved::Later(patience);
        }
        let Some(origin) = self
            .origin(key, found)
            .filter(|origin| Some(*origin) != existing && !self.is_unknown(existing))
        else {
            return Moved::No(None);
        };
        let (Some(from), Some(old_path)) = (self.key_of(origin), self.view.path(origin)) else {
            return Moved::No(None);
        };
        let looked = match self.old_name(&from, origin, wait, found, now, source) {
            Ok(looked) => looked,
            Err(verdict) => return verdict,
        };
        wait.stamp = wait.stamp.min(self.awaited(&from));
        let vacant = looked == Some(None);
        let there = looked.flatten();
        if let (Some(there), Some(existing)) = (&there, existing)
            && self
                .view
                .get(existing)
                .is_some_and(|node| knows(node, there))
            && self.exchange(origin, existing)
        {
            let op = Op::Exchange {
                a: WirePath::from(&old_path),
                b: WirePath::from(path),
            };
            self.emit(op, &[], key.clone(), wait.clone());
            self.vacated(from.clone(), wait);
            self.queue.hint_since(from, Hint::Settled, now, wait.stamp);
            return Moved::Done;
        }
        if !is_directory(found) {
            let replaced = there.is_some() || existing.is_some();
            if let Some(verdict) = self.hesitate(&from, wait, replaced, there.is_none(), now) {
                return verdict.unwrap_or(Moved::No(Some(origin)));
            }
        }
        if let Some(existing) = existing
            && let Err(verdict) = self.vacate(key, existing, origin, wait, source)
        {
            return verdict;
        }
        let unlisted = self.is_unlisted(origin);
        if !self.view.rename(origin, key.dir, &key.name) {
            return Moved::No(None);
        }
        if unlisted {
            self.scans.mark(origin);
        }
        if is_directory(found) && self.has_rules() {
            // Where it is now, other rules may hold.
            self.scans.push(origin);
        }
        self.guard.remove(&from);
        self.troubles.remove(&from);
        if !vacant {
            self.queue
                .hint_since(from.clone(), Hint::Settled, now, wait.stamp);
        } else if let Some(old) = self.queue.remove(&from) {
            wait.join(&old);
        }
        self.emit_rename((from, &old_path), (key, path), wait);
        Moved::Done
    }

    fn emit_rename(
        &mut self,
        (from, old_path): (Key, &RelPath),
        (key, path): (&Key, &RelPath),
        wait: &Wait,
    ) {
        let op = Op::Rename {
            from: WirePath::from(old_path),
            to: WirePath::from(path),
        };
        self.emit(op, &[], key.clone(), wait.clone());
        self.vacated(from, wait);
    }

    /// Notes that what was at a path is elsewhere now: should the server not hear of it, it went all the same.
    fn vacated(&mut self, from: Key, wait: &Wait) {
        let left = Wait {
            left: true,
            ..wait.clone()
        };
        self.batch.sent.vacated.push((from, left));
    }

    /// Takes what is in the way of a move out of the view, unless it has to be judged whether it may go.
    fn vacate(
        &mut self,
        key: &Key,
        existing: NodeId,
        origin: NodeId,
        wait: &mut Wait,
        source: &mut impl Source,
    ) -> Result<(), Moved> {
        if self.view.is_within(origin, existing) {
            return Err(Moved::No(None));
        }
        let full = self
            .view
            .get(existing)
            .is_some_and(|node| node.child_count() > 0);
        if full && !wait.left {
            self.scans.mark(existing);
            self.guard.insert_displacing(key.clone(), origin);
            return Err(Moved::Judged);
        }
        self.forget(existing, wait, source);
        Ok(())
    }

    /// What is now at the name that a path had before (`None` when that cannot be told), unless that says already
    /// that it was not moved.
    fn old_name(
        &self,
        from: &Key,
        origin: NodeId,
        wait: &Wait,
        found: &Found,
        now: Duration,
        source: &mut impl Source,
    ) -> Result<Option<Option<Found>>, Moved> {
        let looked = self
            .place(from.dir)
            .map(|place| source.look(&place, &from.name));
        match looked {
            Some(Ok(Some(there))) if same_inode(&there, found) => {
                if is_directory(found) && now < wait.since + MOVED_BACK {
                    // A directory has one name: it was moved between the two looks.
                    return Err(Moved::Later(now + Duration::from_millis(1)));
                }
                Err(Moved::No(Some(origin))) // a hard link
            }
            Some(Ok(there)) => Ok(Some(there)),
            // The old name may well be there still, in a directory that is elsewhere by now.
            Some(Err(_)) if found.stat.links > 1 && !is_directory(found) => {
                Err(Moved::No(Some(origin)))
            }
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// Lets two nodes of the view change places.
    fn exchange(&mut self, a: NodeId, b: NodeId) -> bool {
        let unlisted = [a, b].map(|id| self.is_unlisted(id));
        let done = self.view.exchange(a, b);
        for (id, unlisted) in [a, b].into_iter().zip(unlisted) {
            if done && unlisted {
                self.scans.mark(id);
            }
            if done && self.has_rules() {
                self.scans.push(id);
            }
        }
        done
    }

    /// Whether a directory still has to be listed because one above it has to: when it moves from there, that must
    /// not be forgotten.
    pub(super) fn is_unlisted(&self, id: NodeId) -> bool {
        if self.scans.none_marked() || !self.view.get(id).is_some_and(|node| node.entry.is_dir()) {
            return false;
        }
        let mut at = id;
        while let Some(node) = self.view.get(at) {
            if self.scans.is_marked(at) {
                return true;
            }
            if node.parent() == at {
                break;
            }
            at = node.parent();
        }
        false
    }

    /// Whether a file's move is not followed (`Some(None)`) or not yet (`Some(Some(Later))`): an editor may be at
    /// work, and the old name must stay visible until it is known what becomes of it.
    fn hesitate(
        &mut self,
        from: &Key,
        wait: &Wait,
        replaced: bool,
        vanished: bool,
        now: Duration,
    ) -> Option<Option<Moved>> {
        if vanished && self.queue.get(from).is_none() && (replaced || wait.event) {
            self.queue
                .hint_since(from.clone(), Hint::Gone, now, wait.stamp);
        }
        if replaced {
            return Some(None);
        }
        let hold = self.queue.get(from).map_or(now, |held| held.due);
        let margin = Duration::from_millis(2);
        let patience = wait.since + self.settings.timing.delete_hold * 2;
        (now + margin < hold && now < patience)
            .then(|| Some(Moved::Later(hold.saturating_sub(margin))))
    }

    /// Whether another directory has taken the place of one of the view.
    fn replaces_directory(&self, existing: Option<NodeId>, found: &Found) -> bool {
        let existing = existing.and_then(|id| self.view.get(id));
        existing.is_some_and(|node| {
            node.entry.is_dir() && node.stat.is_some() && !same_directory(node, found)
        })
    }

    /// Whether the server holds something here that was not seen in the source yet: it may well be what is there, and
    /// then a move from elsewhere would take it away and have it sent again.
    fn is_unknown(&self, existing: Option<NodeId>) -> bool {
        let existing = existing.and_then(|id| self.view.get(id));
        existing.is_some_and(|node| node.stat.is_none())
    }

    /// The node of the view that was last seen as this inode, if a move from there is possible.
    fn origin(&self, key: &Key, found: &Found) -> Option<NodeId> {
        let origin = self.view.by_inode(found.stat.inode)?;
        let node = self.view.get(origin)?;
        let possible = origin != self.view.root()
            && !self.root.may_be_other()
            && knows(node, found)
            && !self.view.is_within(key.dir, origin);
        possible.then_some(origin)
    }
}

fn is_directory(found: &Found) -> bool {
    matches!(found.kind, FoundKind::Directory)
}

fn same_inode(a: &Found, b: &Found) -> bool {
    (a.stat.inode, a.stat.birth) == (b.stat.inode, b.stat.birth)
}

/// Whether a node was last seen as this inode, of this kind.
fn knows(node: &Node, found: &Found) -> bool {
    let kind = match (&node.entry.kind, &found.kind) {
        (Kind::Directory, FoundKind::Directory) => true,
        (Kind::File { .. }, FoundKind::File { .. }) => true,
        (Kind::Symlink { target }, FoundKind::Symlink { target: other }) => target == other,
        _ => false,
    };
    kind && node
        .stat
        .is_some_and(|stat| (stat.inode, stat.birth) == (found.stat.inode, found.stat.birth))
}
