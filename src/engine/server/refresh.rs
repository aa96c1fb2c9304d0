//! Looking at the disk: the tree is made equal to what is there, and what the writer had not made is counted as drift.

use super::Server;
use crate::delta::ContentHasher;
use crate::engine::ports::{Store, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::index::{Node, NodeId, Stat};
use crate::model::{Digest, Entry, Fault, Kind, Name, RelPath};
use std::collections::HashSet;

/// How often a file is read again that changes while it is read, before it is left out.
const READS: usize = 3;

impl<S: Store> Server<S> {
    /// Compares the whole tree with the disk by `lstat`, and reads what does not match. How many entries differed.
    pub fn refresh(&mut self) -> u64 {
        let differences = self.look_below(self.tree.root());
        self.count_drift(differences);
        differences
    }

    /// Compares one path with the disk; where it or an ancestor is a directory that was not known as one, with all below
    /// that.
    pub(super) fn relook(&mut self, path: &RelPath) {
        let mut dir = self.tree.root();
        let mut at = RelPath::root();
        for bytes in path.components() {
            let Ok(name) = Name::new(bytes) else {
                return;
            };
            let Ok(next) = at.join(&name) else {
                return;
            };
            at = next;
            let known = self.tree.child(dir, name.as_bytes());
            let found = match self.store.lstat(&at) {
                Ok(found) => found,
                Err(error) if error.fault == Fault::Changed => None,
                // It cannot be seen now: what is known of it stays.
                Err(_) => return,
            };
            let is_dir = |node: &Node| node.entry.is_dir();
            let on_the_way = &at != path
                && known.and_then(|id| self.tree.get(id)).is_some_and(is_dir)
                && matches!(&found, Some(found) if found.kind == FoundKind::Directory);
            match known {
                Some(id) if on_the_way => dir = id,
                _ => {
                    let differences = self.relook_at(dir, &name, &at, found);
                    self.count_drift(differences);
                    return;
                }
            }
        }
    }

    fn relook_at(&mut self, dir: NodeId, name: &Name, path: &RelPath, found: Option<Found>) -> u64 {
        let Some(found) = found else {
            return self.forget(dir, name);
        };
        let known = self.tree.child(dir, name.as_bytes());
        let was_dir = known
            .and_then(|id| self.tree.get(id))
            .is_some_and(|node| node.entry.is_dir());
        let is_new_dir = found.kind == FoundKind::Directory && !was_dir;
        let own = self.absorb(dir, name, path, found);
        match self.tree.child(dir, name.as_bytes()) {
            Some(id) if is_new_dir => own + self.look_below(id),
            _ => own,
        }
    }

    fn count_drift(&mut self, differences: u64) {
        if differences > 0 {
            self.drift += differences;
            self.version += 1;
        }
    }

    fn look_below(&mut self, top: NodeId) -> u64 {
        let mut differences = 0;
        let mut todo = vec![top];
        while let Some(dir) = todo.pop() {
            let Some(path) = self.tree.path(dir) else {
                continue;
            };
            let names = match self.store.scan(&path) {
                Ok(names) => names,
                Err(error) => {
                    self.note_problem(&path, &error);
                    continue;
                }
            };
            let mut seen = HashSet::with_capacity(names.len());
            for (name, found) in names {
                let Ok(inner) = path.join(&name) else {
                    continue;
                };
                match found {
                    Ok(found) => {
                        let is_dir = found.kind == FoundKind::Directory;
                        differences += self.absorb(dir, &name, &inner, found);
                        if is_dir {
                            todo.extend(self.tree.child(dir, name.as_bytes()));
                        }
                    }
                    Err(error) => {
                        self.note_problem(&inner, &error);
                        differences += self.forget(dir, &name);
                    }
                }
                seen.insert(name);
            }
            differences += self.forget_unseen(dir, &seen);
        }
        differences
    }

    fn forget_unseen(&mut self, dir: NodeId, seen: &HashSet<Name>) -> u64 {
        let Some(node) = self.tree.get(dir) else {
            return 0;
        };
        let gone: Vec<NodeId> = node
            .children()
            .filter(|(name, _)| !seen.contains(*name))
            .map(|(_, id)| id)
            .collect();
        for id in &gone {
            self.tree.remove(*id);
        }
        gone.len() as u64
    }

    fn forget(&mut self, dir: NodeId, name: &Name) -> u64 {
        match self.tree.child(dir, name.as_bytes()) {
            Some(id) => {
                self.tree.remove(id);
                1
            }
            None => 0,
        }
    }

    /// Enters what was found under a name into the tree. How many entries differed: none or one.
    fn absorb(&mut self, dir: NodeId, name: &Name, path: &RelPath, found: Found) -> u64 {
        let known = self
            .tree
            .child(dir, name.as_bytes())
            .and_then(|id| self.tree.get(id));
        let trusted = known.and_then(|node| trusted_digest(node, &found));
        let (kind, found) = match found.kind.clone() {
            FoundKind::Directory => (Kind::Directory, found),
            FoundKind::Symlink { target } => (Kind::Symlink { target }, found),
            FoundKind::Special(_) => return self.forget(dir, name),
            FoundKind::File { size } => match trusted.map(|digest| (digest, size)) {
                Some((digest, size)) => (Kind::File { size, digest }, found),
                None => match self.hash(path) {
                    Ok((digest, size, found)) => (Kind::File { size, digest }, found),
                    Err(error) => {
                        self.note_problem(path, &error);
                        return self.forget(dir, name);
                    }
                },
            },
        };
        let entry = Entry {
            kind,
            mode: found.mode,
            mtime: found.mtime,
        };
        let known = self.tree.child(dir, name.as_bytes());
        let same = known
            .and_then(|id| self.tree.get(id))
            .is_some_and(|node| node.entry == entry);
        match known {
            Some(id) if same => self.tree.set_stat(id, Some(found.stat)),
            _ => {
                self.tree.put(dir, name, entry, Some(found.stat));
            }
        }
        u64::from(!same)
    }

    /// Reads a file. Its digest, its size, and what it was when it was read.
    fn hash(&self, path: &RelPath) -> Result<(Digest, u64, Found), StoreError> {
        let mut last = StoreError::changed("it was not read");
        for _ in 0..READS {
            let mut hasher = ContentHasher::new();
            match self.store.read(path, &mut |bytes| hasher.update(bytes)) {
                Ok(found) => {
                    let (size, digest) = hasher.finish();
                    return Ok((digest, size, found));
                }
                Err(error) if error.fault == Fault::Changed => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// The digest of a file that is as it was when the digest was taken.
fn trusted_digest(node: &Node, found: &Found) -> Option<Digest> {
    let Kind::File { size, digest } = &node.entry.kind else {
        return None;
    };
    let same = |stat: &Stat| {
        (stat.inode, stat.birth, stat.ctime)
            == (found.stat.inode, found.stat.birth, found.stat.ctime)
    };
    let unchanged = node.stat.as_ref().is_some_and(same)
        && found.kind == FoundKind::File { size: *size }
        && node.entry.mtime == found.mtime;
    unchanged.then_some(*digest)
}
