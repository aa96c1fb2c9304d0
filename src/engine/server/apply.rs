//! The second hand: changes come into view, in order, and the tree follows the disk.

use super::change::{Change, Source};
use super::stager::Prepared;
use super::{Server, Touched};
use crate::engine::ports::{Attributes, Removal, Store, StoreError};
use crate::index::NodeId;
use crate::model::{Digest, Entry, Kind, Mtime, Name, RelPath};

/// A file up to so many bytes is removed at once: freeing the blocks of a larger one takes time.
const REMOVED_AT_ONCE: u64 = 16 * 1024 * 1024;

/// The content and attributes of a file that is put.
struct FileEntry {
    mode: u32,
    mtime: Mtime,
    size: u64,
    digest: Digest,
}

impl<S: Store> Server<S> {
    /// Applies one change. After a failure the tree is brought back to what the disk holds there.
    pub(super) fn apply(
        &mut self,
        prepared: Prepared<S::Staged>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let mut paths: Vec<RelPath> = prepared.change.touches().cloned().collect();
        if let Change::Put {
            source: Source::Copy(from),
            ..
        } = &prepared.change
        {
            paths.push(from.clone());
        }
        let result = if self.doubts.concern(&prepared.change) {
            Err(StoreError::changed(
                "a change that this one builds on failed",
            ))
        } else {
            self.dispatch(prepared, touched)
        };
        for path in &paths {
            match &result {
                Ok(()) => {
                    self.problems.remove(path);
                }
                Err(error) => {
                    self.note_problem(path, error);
                    self.doubts.failed(path, self.version);
                    self.relook(path);
                }
            }
        }
        result
    }

    fn dispatch(
        &mut self,
        prepared: Prepared<S::Staged>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let staged = prepared.staged?;
        match prepared.change {
            Change::Put {
                path,
                mode,
                mtime,
                size,
                digest,
                ..
            } => {
                let staged =
                    staged.ok_or_else(|| StoreError::changed("there is no content for it"))?;
                let entry = FileEntry {
                    mode,
                    mtime,
                    size,
                    digest,
                };
                self.put(&path, staged, entry, touched)
            }
            Change::Mkdir { path, mode, mtime } => self.mkdir(&path, mode, mtime, touched),
            Change::Symlink {
                path,
                target,
                mtime,
            } => self.symlink(&path, target, mtime, touched),
            Change::Attributes { path, mode, mtime } => {
                self.attributes(&path, mode, mtime, touched)
            }
            Change::Delete { path } => self.delete(&path, touched),
            Change::Rename { from, to } => self.rename(&from, &to, touched),
            Change::Exchange { a, b } => self.exchange(&a, &b, touched),
        }
    }

    fn put(
        &mut self,
        path: &RelPath,
        staged: S::Staged,
        file: FileEntry,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let kind = Kind::File {
            size: file.size,
            digest: file.digest,
        };
        let entry = Entry {
            kind,
            mode: file.mode,
            mtime: file.mtime,
        };
        match self.parent(path) {
            Ok(_) => self.place(path, staged, entry, touched).map(|_| ()),
            Err(error) => {
                self.store.discard(staged);
                Err(error)
            }
        }
    }

    /// Brings a staged thing into view and enters it into the tree.
    fn place(
        &mut self,
        path: &RelPath,
        staged: S::Staged,
        entry: Entry,
        touched: &mut Touched,
    ) -> Result<Option<NodeId>, StoreError> {
        let (dir, name) = self.parent(path)?;
        let stat = self.store.place(staged, path, &self.displaced())?;
        self.paused = None;
        touched.dirs.insert(dir);
        Ok(self.tree.put(dir, &name, entry, Some(stat)))
    }

    fn mkdir(
        &mut self,
        path: &RelPath,
        mode: u32,
        mtime: Mtime,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let (dir, name) = self.parent(path)?;
        let there = self.tree.child(dir, name.as_bytes());
        if let Some(id) = there
            && self.tree.get(id).is_some_and(|node| node.entry.is_dir())
        {
            return self.attributes(path, mode, mtime, touched);
        }
        let staged = self.store.stage_dir(Attributes { mode, mtime })?;
        let entry = Entry {
            kind: Kind::Directory,
            mode,
            mtime,
        };
        let id = self.place(path, staged, entry, touched)?;
        touched.dirs.extend(id);
        Ok(())
    }

    fn symlink(
        &mut self,
        path: &RelPath,
        target: Box<[u8]>,
        mtime: Mtime,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        self.parent(path)?;
        let staged = self.store.stage_symlink(&target, mtime)?;
        let entry = Entry {
            kind: Kind::Symlink { target },
            mode: 0,
            mtime,
        };
        self.place(path, staged, entry, touched).map(|_| ())
    }

    fn attributes(
        &mut self,
        path: &RelPath,
        mode: u32,
        mtime: Mtime,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let id = self.node(path)?;
        let stat = self
            .store
            .set_attributes(path, Attributes { mode, mtime })?;
        let Some(node) = self.tree.get(id) else {
            return Ok(());
        };
        match &node.entry.kind {
            Kind::Directory => touched.dirs.insert(id),
            Kind::File { .. } => touched.files.insert(id),
            // A link cannot be opened: its directory is synced instead.
            Kind::Symlink { .. } => touched.dirs.insert(node.parent()),
        };
        let is_link = matches!(node.entry.kind, Kind::Symlink { .. });
        let mode = if is_link { 0 } else { mode };
        self.tree.set_attributes(id, mode, mtime);
        self.tree.set_stat(id, Some(stat));
        Ok(())
    }

    fn delete(&mut self, path: &RelPath, touched: &mut Touched) -> Result<(), StoreError> {
        let Ok((dir, name)) = self.parent(path) else {
            return Ok(());
        };
        let there = self.tree.child(dir, name.as_bytes());
        let kind = there
            .and_then(|id| self.tree.get(id))
            .map(|node| &node.entry.kind);
        let how = match (&self.keep, kind) {
            (Some(folder), _) => Removal::Keep(folder.clone()),
            (None, Some(Kind::File { size, .. })) if *size <= REMOVED_AT_ONCE => Removal::Now,
            (None, Some(Kind::Symlink { .. })) => Removal::Now,
            (None, _) => Removal::Aside,
        };
        self.store.remove(path, &how)?;
        if let Some(id) = there {
            self.tree.remove(id);
        }
        touched.dirs.insert(dir);
        Ok(())
    }

    fn rename(
        &mut self,
        from: &RelPath,
        to: &RelPath,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let id = self.node(from)?;
        let (old_dir, _) = self.parent(from)?;
        let (dir, name) = self.parent(to)?;
        if from == to {
            return Ok(());
        }
        if self.tree.is_within(dir, id) {
            return Err(StoreError::changed("a directory cannot move into itself"));
        }
        let stat = self.store.rename(from, to, &self.displaced())?;
        self.move_node(id, dir, &name);
        self.tree.set_stat(id, Some(stat));
        touched.dirs.extend([old_dir, dir]);
        Ok(())
    }

    /// Moves a node, also over a directory that holds it: what is replaced goes when the node is out of it.
    fn move_node(&mut self, id: NodeId, dir: NodeId, name: &Name) {
        if let Some(there) = self.tree.child(dir, name.as_bytes())
            && there != id
            && self.tree.is_within(id, there)
        {
            // No path of a share has this name, so nothing can be there.
            if let Ok(between) = Name::new(b".syncd") {
                self.tree.rename(id, self.tree.root(), &between);
            }
        }
        self.tree.rename(id, dir, name);
    }

    fn exchange(
        &mut self,
        a: &RelPath,
        b: &RelPath,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let (one, other) = (self.node(a)?, self.node(b)?);
        let (one_dir, _) = self.parent(a)?;
        let (other_dir, _) = self.parent(b)?;
        if self.tree.is_within(one, other) || self.tree.is_within(other, one) {
            return Err(StoreError::changed("one of the two holds the other"));
        }
        let (at_a, at_b) = self.store.exchange(a, b)?;
        self.tree.exchange(one, other);
        self.tree.set_stat(other, Some(at_a));
        self.tree.set_stat(one, Some(at_b));
        touched.dirs.extend([one_dir, other_dir]);
        Ok(())
    }

    fn node(&self, path: &RelPath) -> Result<NodeId, StoreError> {
        self.tree
            .lookup(path)
            .ok_or_else(|| StoreError::changed("there is nothing at the path"))
    }

    /// The directory that holds a path, and the path's name in it.
    fn parent(&self, path: &RelPath) -> Result<(NodeId, Name), StoreError> {
        let (parent, name) = path
            .split()
            .ok_or_else(|| StoreError::changed("the root is in no directory"))?;
        let dir = self
            .tree
            .lookup(&parent)
            .filter(|id| self.tree.get(*id).is_some_and(|node| node.entry.is_dir()))
            .ok_or_else(|| StoreError::changed("there is no directory to hold it"))?;
        Ok((dir, name))
    }
}
