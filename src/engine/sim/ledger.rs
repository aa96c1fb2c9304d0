//! What a disk in memory holds: what is seen now, what is durable, and what lies between.
//!
//! The model is that of a journalled file system at its weakest. A directory's `fsync` makes all that was done in it
//! durable, with what that depends on: earlier changes of the same directories. Changes of different directories may
//! survive without each other, but each change is whole. A file's bytes are durable when the file was synced; without
//! that, a crash leaves any part of them.

use super::store::MemStore;
use crate::model::{Digest, Entry, Kind, Mtime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The inode of the root.
pub(super) const ROOT: u64 = 1;

/// What an inode holds.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Dir(BTreeMap<Vec<u8>, u64>),
    File { bytes: Arc<[u8]>, digest: Digest },
    Link(Box<[u8]>),
}

/// An inode.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
    pub(super) ctime: i64,
}

impl Inode {
    pub(super) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    fn entry(&self) -> Entry {
        let kind = match &self.body {
            Body::Dir(_) => Kind::Directory,
            Body::File { bytes, digest } => Kind::File {
                size: bytes.len() as u64,
                digest: *digest,
            },
            Body::Link(target) => Kind::Symlink {
                target: target.clone(),
            },
        };
        Entry {
            kind,
            mode: self.mode,
            mtime: self.mtime,
        }
    }
}

/// A name of a directory stands for an inode from now on, or for nothing.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) dir: u64,
    pub(super) name: Vec<u8>,
    pub(super) now: Option<u64>,
}

/// What a path became.
pub type Shown = (Vec<u8>, Option<Entry>);

/// The disk.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// The same as far as it is durable.
    pub(super) durable: BTreeMap<u64, Inode>,
    /// Changes of names that are not, in order; the edits of one are atomic.
    pub(super) pending: Vec<Vec<Edit>>,
    pub(super) parents: BTreeMap<u64, (u64, Vec<u8>)>,
    pub(super) seen: Vec<Shown>,
    next: u64,
    clock: i64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let root = Inode {
            body: Body::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: Mtime::default(),
            ctime: 0,
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root.clone())]),
            durable: BTreeMap::from([(ROOT, root)]),
            pending: Vec::new(),
            parents: BTreeMap::new(),
            seen: Vec::new(),
            next: 2,
            clock: MemStore::FIRST_TIME,
        }
    }

    pub(super) fn get(&self, inode: u64) -> Option<&Inode> {
        self.inodes.get(&inode)
    }

    pub(super) fn child(&self, dir: u64, name: &[u8]) -> Option<u64> {
        match &self.inodes.get(&dir)?.body {
            Body::Dir(children) => children.get(name).copied(),
            _ => None,
        }
    }

    pub(super) fn lookup<'a>(&self, mut parts: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
        parts.try_fold(ROOT, |dir, name| self.child(dir, name))
    }

    /// A new inode that has no name yet. Its bytes are not durable.
    pub(super) fn make(&mut self, body: Body, mode: u32, mtime: Mtime) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.clock += 1;
        let made = Inode {
            body,
            mode,
            mtime,
            ctime: self.clock,
        };
        match &made.body {
            Body::File { .. } => {}
            Body::Dir(_) => {
                let bare = Inode {
                    mode: 0o700,
                    mtime: self.now(),
                    ..made.clone()
                };
                self.durable.insert(inode, bare);
            }
            Body::Link(_) => drop(self.durable.insert(inode, made.clone())),
        }
        self.inodes.insert(inode, made);
        inode
    }

    /// Sets mode and time.
    pub(super) fn dress(&mut self, inode: u64, mode: Option<u32>, mtime: Mtime) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(there) = self.inodes.get_mut(&inode) {
            there.mode = mode.unwrap_or(there.mode);
            there.mtime = mtime;
            there.ctime = clock;
        }
        self.show(inode);
    }

    /// Changes names, all at once.
    pub(super) fn commit(&mut self, edits: Vec<Edit>) {
        let mut paths = BTreeSet::new();
        self.paths_of(&edits, &mut paths);
        for edit in &edits {
            if let Some(old) = self.child(edit.dir, &edit.name)
                && self.parents.get(&old) == Some(&(edit.dir, edit.name.clone()))
            {
                self.parents.remove(&old);
            }
        }
        for edit in &edits {
            let moved = edit
                .now
                .filter(|inode| self.inodes.get(inode).is_some_and(Inode::is_dir));
            if let Some(inode) = moved {
                self.parents.insert(inode, (edit.dir, edit.name.clone()));
            }
            self.clock += 1;
            let (now, clock) = (self.now(), self.clock);
            for inode in edit.now.iter().chain([&edit.dir]) {
                if let Some(there) = self.inodes.get_mut(inode) {
                    there.ctime = clock;
                }
            }
            if let Some(dir) = self.inodes.get_mut(&edit.dir) {
                dir.mtime = now;
                set(dir, edit);
            }
        }
        self.paths_of(&edits, &mut paths);
        for path in paths {
            let parts = path.split(|byte| *byte == b'/');
            let entry = self
                .lookup(parts)
                .and_then(|inode| self.get(inode))
                .map(Inode::entry);
            self.seen.push((path, entry));
        }
        for edit in &edits {
            self.show(edit.dir);
        }
        self.pending.push(edits);
    }

    fn now(&self) -> Mtime {
        Mtime {
            secs: self.clock,
            nanos: 5,
        }
    }

    fn paths_of(&self, edits: &[Edit], paths: &mut BTreeSet<Vec<u8>>) {
        for edit in edits {
            if let Some(dir) = self.path(edit.dir) {
                let path = join(&dir, &edit.name);
                if let Some(inode) = self.child(edit.dir, &edit.name) {
                    self.below(inode, path.clone(), &mut |path, _| {
                        paths.insert(path);
                    });
                }
                paths.insert(path);
            }
        }
    }

    fn below(&self, inode: u64, path: Vec<u8>, each: &mut impl FnMut(Vec<u8>, &Inode)) {
        let Some(there) = self.get(inode) else { return };
        if let Body::Dir(children) = &there.body {
            for (name, child) in children {
                self.below(*child, join(&path, name), each);
            }
        }
        if !path.is_empty() {
            each(path, there);
        }
    }

    /// The path of a directory that is in view.
    fn path(&self, mut dir: u64) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        while dir != ROOT {
            let (parent, name) = self.parents.get(&dir)?;
            path = if path.is_empty() {
                name.clone()
            } else {
                join(name, &path)
            };
            dir = *parent;
        }
        Some(path)
    }

    /// Notes that the attributes of an inode changed, if it is in view.
    fn show(&mut self, inode: u64) {
        let mut found = Vec::new();
        if let Some(path) = self.path(inode).filter(|path| !path.is_empty()) {
            found.extend(self.get(inode).map(|there| (path, Some(there.entry()))));
        } else if self.get(inode).is_some_and(|there| !there.is_dir()) {
            for (dir, there) in &self.inodes {
                if let Body::Dir(children) = &there.body
                    && let Some((name, _)) = children.iter().find(|(_, child)| **child == inode)
                    && let Some(path) = self.path(*dir)
                {
                    let entry = self.get(inode).map(Inode::entry);
                    found.push((join(&path, name), entry));
                }
            }
        }
        self.seen.append(&mut found);
    }

    pub(super) fn take_seen(&mut self) -> Vec<Shown> {
        std::mem::take(&mut self.seen)
    }

    /// Everything in view.
    pub(super) fn view(&self) -> BTreeMap<Vec<u8>, Entry> {
        let mut all = BTreeMap::new();
        self.below(ROOT, Vec::new(), &mut |path, inode| {
            all.insert(path, inode.entry());
        });
        all
    }

    /// Makes the bytes and attributes of a file durable.
    pub(super) fn sync_file(&mut self, inode: u64) {
        if let Some(there) = self.inodes.get(&inode) {
            self.durable.insert(inode, there.clone());
        }
    }

    /// Makes what was done in a directory durable, and its attributes and those of the links in it.
    pub(super) fn sync_dir(&mut self, dir: u64) {
        let mut needed = BTreeSet::from([dir]);
        let mut keep = Vec::new();
        let mut done = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.iter().any(|edit| needed.contains(&edit.dir)) {
                needed.extend(change.iter().map(|edit| edit.dir));
                done.push(change);
            } else {
                keep.push(change);
            }
        }
        keep.reverse();
        self.pending = keep;
        for change in done.into_iter().rev() {
            self.make_durable(&change);
        }
        let links = match self.get(dir).map(|there| &there.body) {
            Some(Body::Dir(children)) => children.values().copied().collect(),
            _ => Vec::new(),
        };
        for inode in links.into_iter().chain([dir]) {
            if let Some(now) = self.inodes.get(&inode)
                && !matches!(now.body, Body::File { .. })
                && (inode == dir || !now.is_dir())
                && let Some(kept) = self.durable.get_mut(&inode)
            {
                (kept.mode, kept.mtime, kept.ctime) = (now.mode, now.mtime, now.ctime);
            }
        }
    }

    /// Makes everything durable.
    pub(super) fn sync_all(&mut self) {
        self.pending.clear();
        self.durable = self.inodes.clone();
    }

    pub(super) fn make_durable(&mut self, change: &[Edit]) {
        for edit in change {
            if let Some(dir) = self.durable.get_mut(&edit.dir) {
                set(dir, edit);
            }
        }
    }
}

fn set(dir: &mut Inode, edit: &Edit) {
    if let Body::Dir(children) = &mut dir.body {
        match edit.now {
            Some(inode) => drop(children.insert(edit.name.clone(), inode)),
            None => drop(children.remove(&edit.name)),
        }
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, b"/", name].concat()
    }
}
