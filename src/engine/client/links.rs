//! Files with several names. A write through one name gives no event for the others.

use super::ClientEngine;
use crate::debounce::Key;
use crate::engine::source::Found;
use crate::model::{Digest, Kind};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// The names under which files with several names were seen.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: HashMap<u64, BTreeSet<Key>>,
    inodes: HashMap<Key, u64>,
}

impl Links {
    /// Notes a name of a file.
    pub(super) fn note(&mut self, key: Key, inode: u64) {
        if let Some(old) = self
            .inodes
            .insert(key.clone(), inode)
            .filter(|old| *old != inode)
        {
            self.drop_name(&key, old);
        }
        self.names.entry(inode).or_default().insert(key);
    }

    /// Forgets a name unless it is one of this file. The other names of the file that it was a name of.
    pub(super) fn leave(&mut self, key: &Key, now: Option<u64>) -> Vec<Key> {
        let Some(old) = self
            .inodes
            .get(key)
            .copied()
            .filter(|old| Some(*old) != now)
        else {
            return Vec::new();
        };
        self.inodes.remove(key);
        self.drop_name(key, old);
        self.names
            .get(&old)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// The other names of the file that this is a name of.
    pub(super) fn beside(&self, key: &Key) -> Vec<Key> {
        let inode = self.inodes.get(key).copied();
        let others = inode.into_iter().flat_map(|inode| self.others(key, inode));
        others.cloned().collect()
    }

    fn drop_name(&mut self, key: &Key, inode: u64) {
        if let Some(names) = self.names.get_mut(&inode) {
            names.remove(key);
            if names.is_empty() {
                self.names.remove(&inode);
            }
        }
    }

    fn others<'a>(&'a self, key: &'a Key, inode: u64) -> impl Iterator<Item = &'a Key> {
        let names = self.names.get(&inode).into_iter().flatten();
        names.filter(move |other| *other != key)
    }
}

impl ClientEngine {
    /// A name of a file with several names went, or is another file now (of this inode number): it may have been
    /// written before that, so the other names are looked at.
    pub(super) fn left_link(&mut self, key: &Key, inode: Option<u64>, now: Duration) {
        for other in self.links.leave(key, inode) {
            self.owe(other, now, now);
        }
    }

    /// Notes a path that was found, if its file has several names.
    pub(super) fn note_link(&mut self, key: &Key, found: &Found) {
        if found.stat.links < 2 {
            return;
        }
        let inode = found.stat.inode;
        // The name that the view knows may have been the only one when it was mirrored.
        if let Some(first) = self.view.by_inode(inode).and_then(|id| self.key_of(id)) {
            self.links.note(first, inode);
        }
        self.links.note(key.clone(), inode);
    }

    /// The content of a file is known now: its other names, and those that it had, are looked at where the view has
    /// something else.
    pub(super) fn look_at_links(
        &mut self,
        key: &Key,
        found: &Found,
        digest: Digest,
        now: Duration,
    ) {
        let stale = |other: &&Key| {
            self.existing(other).is_some_and(|(_, node)| {
                !matches!(node.entry.kind, Kind::File { digest: known, .. } if known == digest)
                    || node.entry.mode != found.mode
                    || node.entry.mtime != found.mtime
            })
        };
        let others = self.links.others(key, found.stat.inode).filter(stale);
        for other in others.cloned().collect::<Vec<_>>() {
            // An event of its own may be later than the change that is known by this name.
            let stamp = self.first_flush().unwrap_or(u64::MAX);
            if !self.queue.since(&other, stamp) {
                self.owe(other, now, now);
            }
        }
    }
}
