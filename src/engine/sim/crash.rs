//! What is left of a disk in memory when its machine stops.

use super::Dice;
use super::ledger::{Body, Inode, Ledger, ROOT};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a crash left of what was not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Crash {
    /// Changes of names that survived.
    pub survived: usize,
    /// Changes of names that were lost.
    pub lost: usize,
}

impl Ledger {
    /// Loses what is not durable, but for what the dice spare.
    pub(super) fn crash(&mut self, dice: &mut Dice) -> Crash {
        let mut crash = Crash::default();
        let mut blocked = BTreeSet::new();
        // One journal for everything: a front part of it survives. Otherwise only what shares a directory is ordered.
        let (journal, odds) = (dice.one_in(2), dice.below(4) + 1);
        for change in std::mem::take(&mut self.pending) {
            let waits = change.iter().any(|edit| blocked.contains(&edit.dir));
            let ended = journal && crash.lost > 0;
            if waits || ended || dice.one_in(odds) {
                blocked.extend(change.iter().map(|edit| edit.dir));
                crash.lost += 1;
            } else {
                self.make_durable(&change);
                crash.survived += 1;
            }
        }
        let mut left = std::mem::take(&mut self.durable);
        for (inode, now) in &self.inodes {
            match left.get_mut(inode) {
                Some(kept) if dice.one_in(2) => {
                    (kept.mode, kept.mtime, kept.ctime) = (now.mode, now.mtime, now.ctime);
                }
                Some(_) => {}
                None => drop(left.insert(*inode, damaged(now, dice))),
            }
        }
        self.inodes = left;
        self.seen.clear();
        self.parents.clear();
        self.keep_reachable();
        self.durable = self.inodes.clone();
        crash
    }

    /// Ends what has no name any more: the stage and the trash are emptied.
    fn keep_reachable(&mut self) {
        let mut reached = BTreeMap::new();
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            let Some(there) = self.inodes.remove(&inode) else {
                continue;
            };
            if let Body::Dir(children) = &there.body {
                for (name, child) in children {
                    if self.inodes.get(child).is_some_and(Inode::is_dir) {
                        self.parents.insert(*child, (inode, name.clone()));
                    }
                    todo.push(*child);
                }
            }
            reached.insert(inode, there);
        }
        self.inodes = reached;
    }
}

/// What is left of a file that was not synced.
fn damaged(file: &Inode, dice: &mut Dice) -> Inode {
    let mut left = file.clone();
    if let Body::File { bytes, digest } = &mut left.body {
        let whole = bytes.len();
        *bytes = match dice.below(4) {
            0 => return left,
            1 => Arc::from([]),
            2 => vec![0; whole].into(),
            _ => bytes[..whole / 2].into(),
        };
        *digest = crate::delta::digest(bytes);
    }
    left
}
