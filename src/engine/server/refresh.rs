//! Looking at the disk: the tree is made equal to what is there, and what the writer had not made is counted as drift.

use super::{Memory, Server};
use crate::delta::ContentHasher;
use crate::engine::ports::{Scanned, Store, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::index::{Node, NodeId, Stat};
use crate::model::{Digest, Entry, Fault, Kind, Name, RelPath};
use std::collections::{BTreeMap, HashSet};

/// How often a file is read again that changes while it is read, before it is left out.
const READS: usize = 3;

/// How many directories the store is asked for at a time.
const BATCH: usize = 64;
/// How many paths that differ a look names.
const NAMED: usize = 100;

/// What a look at the disk found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Entries that differed from the tree.
    pub differences: u64,
    /// The first of them.
    pub paths: Vec<RelPath>,
    /// Files that were read.
    pub read: u64,
    /// Whether the differences are somebody else's doing.
    pub drift: bool,
    /// Files whose content is not known are read later, if this is there.
    pub(super) later: Option<Later>,
}

/// Contents that are read apart from a look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Later {
    /// What was read.
    pub(super) contents: BTreeMap<RelPath, Content>,
    /// What is to be read.
    pub(super) unread: Vec<RelPath>,
}

/// What a file held when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    digest: Digest,
    size: u64,
    found: Found,
}

impl Look {
    pub(super) fn differs(&mut self, path: &RelPath) {
        self.differences += 1;
        if self.paths.len() < NAMED {
            self.paths.push(path.clone());
        }
    }
}

impl<S: Store> Server<S> {
    /// Compares the whole tree with the disk by `lstat`, and reads what does not match.
    pub fn refresh(&mut self) -> Look {
        self.problems.clear();
        let mut look = Look::default();
        self.look_below(self.tree.root(), &mut look);
        look.drift = look.differences > 0 && self.memory == Memory::Whole;
        self.memory = Memory::Whole;
        self.count(&look);
        look
    }

    /// Puts the tree right at one path, and where an ancestor of it is not what the tree says, below that.
    pub fn look_at(&mut self, path: &RelPath) {
        self.relook(path);
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
                    let mut look = Look::default();
                    self.relook_at(dir, &name, &at, found, &mut look);
                    look.drift = true;
                    self.count(&look);
                    return;
                }
            }
        }
    }

    fn relook_at(
        &mut self,
        dir: NodeId,
        name: &Name,
        path: &RelPath,
        found: Option<Found>,
        look: &mut Look,
    ) {
        let Some(found) = found else {
            if let Some(id) = self.tree.child(dir, name.as_bytes()) {
                look.differs(path);
                self.tree.remove(id);
            }
            return;
        };
        let known = self.tree.child(dir, name.as_bytes());
        let was_dir = known
            .and_then(|id| self.tree.get(id))
            .is_some_and(|node| node.entry.is_dir());
        let is_new_dir = found.kind == FoundKind::Directory && !was_dir;
        match self.absorb(dir, name, found, look) {
            Some(id) if is_new_dir => self.look_below(id, look),
            Some(_) => {}
            None => {
                if let Some(id) = known {
                    look.differs(path);
                    self.tree.remove(id);
                }
            }
        }
    }

    pub(super) fn count(&mut self, look: &Look) {
        if look.differences > 0 {
            self.version += 1;
        }
        if look.drift {
            self.drift += look.differences;
        }
    }

    /// Looks at everything below a directory. What is gone leaves the tree last: until then its digests serve what was
    /// moved.
    fn look_below(&mut self, top: NodeId, look: &mut Look) {
        let mut gone = Vec::new();
        let mut todo = vec![top];
        while !todo.is_empty() {
            let next = todo.split_off(todo.len().saturating_sub(BATCH));
            let (ids, paths): (Vec<NodeId>, Vec<RelPath>) = next
                .into_iter()
                .filter_map(|id| Some((id, self.tree.path(id)?)))
                .unzip();
            let scanned = self.store.scan(&paths);
            for ((dir, path), names) in ids.into_iter().zip(&paths).zip(scanned) {
                match names {
                    Ok(names) => self.enter(dir, names, &mut todo, &mut gone, look),
                    Err(error) => self.note_problem(path, &error),
                }
            }
        }
        self.drop_gone(gone, look);
    }

    /// What is gone from the disk goes from the tree.
    pub(super) fn drop_gone(&mut self, gone: Vec<NodeId>, look: &mut Look) {
        for id in gone {
            if let Some(path) = self.tree.path(id) {
                look.differs(&path);
            }
            self.tree.remove(id);
        }
    }

    /// Enters what a directory holds.
    pub(super) fn enter(
        &mut self,
        dir: NodeId,
        names: Vec<Scanned>,
        todo: &mut Vec<NodeId>,
        gone: &mut Vec<NodeId>,
        look: &mut Look,
    ) {
        let mut seen = HashSet::with_capacity(names.len());
        for (name, found) in names {
            let entered = match found {
                Ok(found) => {
                    let is_dir = found.kind == FoundKind::Directory;
                    let entered = self.absorb(dir, &name, found, look);
                    todo.extend(entered.filter(|_| is_dir));
                    entered
                }
                Err(error) => {
                    if let Some(path) = self.path_of(dir, &name) {
                        self.note_problem(&path, &error);
                    }
                    None
                }
            };
            seen.extend(entered);
        }
        let Some(node) = self.tree.get(dir) else {
            return;
        };
        let unseen = node.children().map(|(_, id)| id);
        gone.extend(unseen.filter(|id| !seen.contains(id)));
    }

    fn path_of(&self, dir: NodeId, name: &Name) -> Option<RelPath> {
        self.tree.path(dir)?.join(name).ok()
    }

    /// Enters what was found under a name into the tree. Its node, unless it is nothing that a tree holds.
    fn absorb(
        &mut self,
        dir: NodeId,
        name: &Name,
        found: Found,
        look: &mut Look,
    ) -> Option<NodeId> {
        let known = self.tree.child(dir, name.as_bytes());
        if let Some(id) = known
            && self
                .tree
                .get(id)
                .is_some_and(|node| is_as_found(node, &found))
        {
            return known;
        }
        let path = self.path_of(dir, name)?;
        let (kind, found) = match found.kind.clone() {
            FoundKind::Directory => (Kind::Directory, found),
            FoundKind::Symlink { target } => (Kind::Symlink { target }, found),
            FoundKind::Special(_) => return None,
            FoundKind::File { size } => match self.known_digest(known, &found) {
                Some(digest) => (Kind::File { size, digest }, found),
                None => match self.content(&path, &found, look) {
                    Ok(Some(content)) => {
                        let (size, digest) = (content.size, content.digest);
                        (Kind::File { size, digest }, content.found)
                    }
                    Ok(None) => return known,
                    Err(error) => {
                        self.note_problem(&path, &error);
                        return None;
                    }
                },
            },
        };
        let entry = Entry {
            kind,
            mode: found.mode,
            mtime: found.mtime,
        };
        let node = known.and_then(|id| self.tree.get(id));
        if node.is_some_and(|node| node.entry == entry) {
            self.tree.set_stat(known?, Some(found.stat));
            return known;
        }
        look.differs(&path);
        self.tree.put(dir, name, entry, Some(found.stat))
    }

    /// The digest of a file that was read when it was the same, at its path or before its directory was moved.
    fn known_digest(&self, known: Option<NodeId>, found: &Found) -> Option<Digest> {
        let elsewhere = self.tree.by_inode(found.stat.inode);
        let mut nodes = known.into_iter().chain(elsewhere);
        nodes.find_map(|id| trusted_digest(self.tree.get(id)?, found))
    }

    /// What a file holds; nothing if that is to be read later.
    fn content(
        &self,
        path: &RelPath,
        found: &Found,
        look: &mut Look,
    ) -> Result<Option<Content>, StoreError> {
        let Some(later) = &mut look.later else {
            look.read += 1;
            return read(&*self.store, path).map(Some);
        };
        let content = later.contents.remove(path);
        let content = content.filter(|content| content.found == *found);
        if content.is_none() {
            later.unread.push(path.clone());
        }
        Ok(content)
    }
}

/// Reads a file.
pub(super) fn read<S: Store>(store: &S, path: &RelPath) -> Result<Content, StoreError> {
    let mut last = StoreError::changed("it was not read");
    for _ in 0..READS {
        let mut hasher = ContentHasher::new();
        match store.read(path, &mut |bytes| hasher.update(bytes)) {
            Ok(found) => {
                let (size, digest) = hasher.finish();
                return Ok(Content {
                    digest,
                    size,
                    found,
                });
            }
            Err(error) if error.fault == Fault::Changed => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether a node is what was found, down to what the disk says of it. A directory's change time says nothing: it
/// changes with what the directory holds.
fn is_as_found(node: &Node, found: &Found) -> bool {
    let Some(stat) = &node.stat else {
        return false;
    };
    if node.entry.mode != found.mode || node.entry.mtime != found.mtime {
        return false;
    }
    match (&node.entry.kind, &found.kind) {
        (Kind::Directory, FoundKind::Directory) => {
            (stat.inode, stat.birth) == (found.stat.inode, found.stat.birth)
        }
        (Kind::File { size, .. }, FoundKind::File { size: now }) => {
            size == now && *stat == found.stat
        }
        (Kind::Symlink { target }, FoundKind::Symlink { target: now }) => {
            target == now && *stat == found.stat
        }
        _ => false,
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
