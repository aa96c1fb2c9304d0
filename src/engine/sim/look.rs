//! The client's port to a source in memory.

use super::source::{Inode, MemSource, name};
use crate::delta::digest;
use crate::engine::source::{Found, Place, RootId, Source, SourceError};
use crate::index::NodeId;
use crate::model::{Entry, Kind, Name};
use std::collections::BTreeMap;

impl MemSource {
    /// What the mirror must be.
    pub fn expected(&self) -> BTreeMap<Vec<u8>, Entry> {
        let mut out = BTreeMap::new();
        let mut todo = vec![(Vec::new(), self.opened)];
        while let Some((path, dir)) = todo.pop() {
            let Inode::Dir(children) = &self.inodes[&dir].inode else {
                continue;
            };
            for (entry, id) in children {
                let mut below: Vec<u8> = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(entry);
                let found = self.found(*id);
                let kind = match &self.inodes[id].inode {
                    Inode::Dir(_) => Kind::Directory,
                    Inode::File(content) => Kind::File {
                        size: content.len() as u64,
                        digest: digest(content),
                    },
                    Inode::Link(target) => Kind::Symlink {
                        target: target.clone().into(),
                    },
                    Inode::Pipe => continue,
                };
                out.insert(
                    below.clone(),
                    Entry {
                        kind,
                        mode: found.mode,
                        mtime: found.mtime,
                    },
                );
                todo.push((below, *id));
            }
        }
        out
    }

    fn at(&self, place: &Place) -> Result<u64, SourceError> {
        let mut at = self.opened;
        for part in place.path.components() {
            let Inode::Dir(children) = &self.inodes[&at].inode else {
                return Err(SourceError::Displaced);
            };
            at = *children.get(part).ok_or(SourceError::Displaced)?;
        }
        let right = place.identity.is_none_or(|(inode, _)| inode == at);
        if right && matches!(self.inodes[&at].inode, Inode::Dir(_)) {
            Ok(at)
        } else {
            Err(SourceError::Displaced)
        }
    }

    fn child(&self, place: &Place, entry: &Name) -> Result<Option<u64>, SourceError> {
        let Inode::Dir(children) = &self.inodes[&self.at(place)?].inode else {
            return Err(SourceError::Displaced);
        };
        Ok(children.get(entry.as_bytes()).copied())
    }
}

/// The root that an inode is.
#[must_use]
pub fn root_id(inode: u64) -> RootId {
    RootId {
        inode,
        ..RootId::default()
    }
}

impl Source for MemSource {
    fn mounts_changed(&mut self) -> bool {
        std::mem::take(&mut self.mounted)
    }

    fn root(&mut self) -> Result<RootId, SourceError> {
        let root = self.root.ok_or(SourceError::Gone)?;
        if std::mem::replace(&mut self.opened, root) != root {
            self.watched.clear();
        }
        Ok(RootId {
            fs: self.fs,
            ..root_id(root)
        })
    }

    fn look(&mut self, dir: &Place, entry: &Name) -> Result<Option<Found>, SourceError> {
        let found = self.child(dir, entry)?.map(|id| self.found(id));
        let dir = self.at(dir)?;
        self.looked_at(dir, entry.as_bytes());
        if let Some((_, act)) = self.race.take_if(|(name, _)| *name == entry.as_bytes()) {
            act(self);
        }
        Ok(found)
    }

    fn look_dir(&mut self, dir: &Place) -> Result<Found, SourceError> {
        Ok(self.found(self.at(dir)?))
    }

    fn list(&mut self, dir: &Place) -> Result<Vec<(Name, Found)>, SourceError> {
        let at = self.at(dir)?;
        self.fresh.retain(|(dir, _)| *dir != at);
        self.hidden.retain(|(dir, _)| *dir != at);
        let Inode::Dir(children) = &self.inodes[&self.at(dir)?].inode else {
            return Err(SourceError::Displaced);
        };
        Ok(children
            .iter()
            .map(|(n, id)| (name(n), self.found(*id)))
            .collect())
    }

    fn read(
        &mut self,
        dir: &Place,
        entry: &Name,
        limit: u64,
    ) -> Result<(Found, Vec<u8>), SourceError> {
        let id = self.child(dir, entry)?.ok_or(SourceError::Gone)?;
        if self.refused.contains(&id) {
            return Err(SourceError::Failed("no permission".to_owned()));
        }
        match &self.inodes[&id].inode {
            Inode::File(content) if content.len() as u64 <= limit => {
                Ok((self.found(id), content.clone()))
            }
            _ => Err(SourceError::Changed),
        }
    }

    fn watch(&mut self, dir: &Place, node: NodeId) -> Result<(), SourceError> {
        let id = self.at(dir)?;
        if self.watched.len() >= self.watches && !self.watched.contains_key(&id) {
            return Err(SourceError::WatchLimit("no more watches".to_owned()));
        }
        self.watched.insert(id, node);
        Ok(())
    }

    fn unwatch(&mut self, node: NodeId) {
        self.watched.retain(|_, watching| *watching != node);
    }
}
