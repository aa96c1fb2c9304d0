//! The state of a store in memory, and its paths.

use super::ledger::{Body, Inode, Ledger};
use super::leftovers::Leftovers;
use super::uploads::MemStaged;
use crate::engine::ports::{Attributes, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::index::Stat;
use crate::model::{Fault, Mtime, RelPath};
use std::collections::BTreeMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, StoreError>;

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Fail(Fault),
    Die,
}

/// The disk and what is to happen to it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) calls: Vec<String>,
    pub(super) count: u64,
    pub(super) plans: BTreeMap<u64, Plan>,
    pub(super) refused: Option<(RelPath, Fault)>,
    pub(super) dead: bool,
    pub(super) leftovers: Leftovers,
}

pub(super) fn missing() -> StoreError {
    StoreError::changed("there is no such directory")
}

impl State {
    pub(super) fn parent(&self, path: &RelPath) -> Result<(u64, Vec<u8>)> {
        let (dir, name) = path.split().ok_or_else(missing)?;
        let dir = self.ledger.lookup(dir.components()).ok_or_else(missing)?;
        let is_dir = self.ledger.get(dir).is_some_and(Inode::is_dir);
        let at = (dir, name.as_bytes().to_vec());
        is_dir.then_some(at).ok_or_else(missing)
    }

    pub(super) fn at(&self, path: &RelPath) -> Result<u64> {
        self.ledger.lookup(path.components()).ok_or_else(missing)
    }

    pub(super) fn found(&self, inode: u64) -> Option<Found> {
        let there = self.ledger.get(inode)?;
        let (kind, mode) = match &there.body {
            Body::Dir(_) => (FoundKind::Directory, there.mode),
            Body::File { bytes, .. } => {
                let size = bytes.len() as u64;
                (FoundKind::File { size }, there.mode)
            }
            Body::Link(target) => {
                let target = target.clone();
                (FoundKind::Symlink { target }, 0)
            }
        };
        let stat = Stat {
            inode,
            birth: 0,
            ctime: there.ctime,
            links: 1,
            mount: false,
        };
        let mtime = there.mtime;
        Some(Found {
            kind,
            mode,
            mtime,
            stat,
        })
    }

    pub(super) fn stat(&self, inode: u64) -> Result<Stat> {
        Ok(self.found(inode).ok_or_else(missing)?.stat)
    }

    pub(super) fn bytes(&self, inode: u64) -> Result<Arc<[u8]>> {
        match self.ledger.get(inode).map(|there| &there.body) {
            Some(Body::File { bytes, .. }) => Ok(Arc::clone(bytes)),
            _ => Err(StoreError::changed("it is not a regular file")),
        }
    }

    pub(super) fn stage(&mut self, bytes: Arc<[u8]>, attributes: Attributes) -> MemStaged {
        let digest = crate::delta::digest(&bytes);
        let body = Body::File { bytes, digest };
        let inode = self.ledger.make(body, attributes.mode, attributes.mtime);
        MemStaged {
            inode,
            remains: None,
        }
    }

    /// Whether a plain rename cannot replace what is there.
    pub(super) fn needs_stage(&self, inode: u64, there: Option<u64>) -> bool {
        let body = |inode| self.ledger.get(inode).map(|there| &there.body);
        match (body(inode), there.and_then(body)) {
            (_, None) => false,
            (Some(Body::Dir(_)), Some(Body::Dir(children))) => !children.is_empty(),
            (Some(Body::Dir(_)), _) | (_, Some(Body::Dir(_))) => true,
            _ => false,
        }
    }

    pub(super) fn restore(&mut self, dirs: &[(RelPath, Option<Mtime>)]) -> Vec<u64> {
        let mut all = Vec::new();
        for (path, mtime) in dirs {
            let Ok(inode) = self.at(path) else { continue };
            if !self.ledger.get(inode).is_some_and(Inode::is_dir) {
                continue;
            }
            if let Some(mtime) = mtime {
                self.ledger.dress(inode, None, *mtime);
            }
            all.push(inode);
        }
        all
    }
}
