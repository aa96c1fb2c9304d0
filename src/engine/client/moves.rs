//! Moves: a path whose inode the view knows under another name.
//!
//! Pairing goes by inode number, birth time and kind, not by the event's cookie: so chains, moves whose events were
//! lost, and moves made while the client was down are all the same case. A file's content is hashed afterwards like
//! that of any dirty path, so a wrong guess costs a message and no truth.

use super::scan::same_directory;
use super::{ClientEngine, Scan};
use crate::debounce::{Hint, Key, Wait};
use crate::engine::source::{Found, FoundKind, Source};
use crate::index::{Node, NodeId};
use crate::model::{Kind, RelPath};
use crate::wire::{Op, WirePath};
use std::time::Duration;

/// Where another directory has taken the place of one that was mirrored, the old one was perhaps moved: its new name
/// is looked at first.
const REPLACED: Duration = Duration::from_millis(5);

/// What became of a path that may have been moved.
pub(super) enum Moved {
    /// It is no move. The file of the view that has the same inode, if there is one, has perhaps the same content.
    No(Option<NodeId>),
    /// The view and the server follow the move now.
    Done,
    /// The old name may come back: look again at this time.
    Later(Duration),
}

impl ClientEngine {
    /// Follows a move that ended at `key`.
    pub(super) fn relocate(
        &mut self,
        key: &Key,
        wait: &Wait,
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
            .filter(|origin| Some(*origin) != existing)
        else {
            return Moved::No(None);
        };
        let (Some(from), Some(old_path)) = (self.key_of(origin), self.view.path(origin)) else {
            return Moved::No(None);
        };
        let there = self
            .place(from.dir)
            .and_then(|place| source.look(&place, &from.name).ok().flatten());
        if there.as_ref().is_some_and(|there| same_inode(there, found)) {
            return Moved::No(Some(origin)); // a hard link
        }
        if let (Some(there), Some(existing)) = (&there, existing)
            && self
                .view
                .get(existing)
                .is_some_and(|node| knows(node, there))
            && self.view.exchange(origin, existing)
        {
            let op = Op::Exchange {
                a: WirePath::from(&old_path),
                b: WirePath::from(path),
            };
            self.emit(op, &[], key.clone(), wait.clone());
            self.queue.hint(from, Hint::Settled, now);
            return Moved::Done;
        }
        if !matches!(found.kind, FoundKind::Directory) {
            let replaced = there.is_some() || existing.is_some();
            if let Some(verdict) = self.hesitate(&from, wait, replaced, there.is_none(), now) {
                return verdict.unwrap_or(Moved::No(Some(origin)));
            }
        }
        if let Some(existing) = existing {
            if self.view.is_within(origin, existing) {
                return Moved::No(None);
            }
            self.forget(existing, source);
        }
        if !self.view.rename(origin, key.dir, &key.name) {
            return Moved::No(None);
        }
        let missed = self.missing.contains(&from);
        self.missing.retain(|key| *key != from);
        if there.is_some() {
            self.queue.hint(from, Hint::Settled, now);
        } else {
            self.queue.remove(&from);
        }
        if missed || wait.deep {
            // It moved unseen: so may have what is in it.
            self.scans.push(Scan {
                dir: origin,
                deep: true,
            });
        }
        let op = Op::Rename {
            from: WirePath::from(&old_path),
            to: WirePath::from(path),
        };
        self.emit(op, &[], key.clone(), wait.clone());
        Moved::Done
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
            self.queue.hint(from.clone(), Hint::Gone, now);
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

    /// The node of the view that was last seen as this inode, if a move from there is possible.
    fn origin(&self, key: &Key, found: &Found) -> Option<NodeId> {
        let origin = self.view.by_inode(found.stat.inode)?;
        let node = self.view.get(origin)?;
        let possible = origin != self.view.root()
            && knows(node, found)
            && !self.view.is_within(key.dir, origin);
        possible.then_some(origin)
    }
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
