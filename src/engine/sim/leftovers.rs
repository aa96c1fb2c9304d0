//! What uploads have left in a store in memory.

use super::Dice;
use super::store::MemStore;
use crate::engine::ports::{Leftover, Origin, StoreError};
use crate::model::{LeftoverKey, RelPath};
use std::collections::BTreeMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, StoreError>;

/// The leftovers by the keys of their paths, each with its mark.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    all: BTreeMap<LeftoverKey, (u64, Arc<[u8]>)>,
    marks: u64,
}

impl Leftovers {
    pub(super) fn put(&mut self, key: LeftoverKey, bytes: Arc<[u8]>) {
        if !bytes.is_empty() {
            self.marks += 1;
            self.all.insert(key, (self.marks, bytes));
        }
    }

    pub(super) fn keys(&self) -> Vec<LeftoverKey> {
        self.all.keys().copied().collect()
    }

    pub(super) fn find(&self, path: &RelPath) -> Option<Leftover> {
        let (mark, bytes) = self.all.get(&LeftoverKey::of(path))?;
        Some(Leftover {
            mark: *mark,
            size: bytes.len() as u64,
        })
    }

    pub(super) fn bytes(&self, path: &RelPath, mark: u64) -> Result<Arc<[u8]>> {
        let there = self.all.get(&LeftoverKey::of(path));
        let there = there.filter(|(own, _)| *own == mark);
        let (_, bytes) = there.ok_or_else(|| StoreError::changed("there is no such leftover"))?;
        Ok(Arc::clone(bytes))
    }

    pub(super) fn forget(&mut self, path: &RelPath) {
        self.all.remove(&LeftoverKey::of(path));
    }

    /// What an upload builds on, besides its base: taken out, and how many bytes of it count.
    pub(super) fn take(&mut self, origin: &Origin<'_>) -> Result<Option<Older>> {
        let (Some((mark, length)), Some(path)) = (origin.leftover, origin.path) else {
            return Ok(None);
        };
        let bytes = self.bytes(path, mark)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.forget(path);
        if bytes.len() < length {
            return Err(StoreError::changed("the leftover is shorter"));
        }
        Ok(Some(Older { bytes, length }))
    }

    /// A loss of power: files lose their ends, or get bytes that were never written to them.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        for (_, bytes) in self.all.values_mut() {
            let mut damaged = bytes.to_vec();
            if dice.one_in(2) {
                damaged.truncate(dice.below(bytes.len().max(1)));
            }
            if dice.one_in(2) {
                let from = dice.below(bytes.len().max(1));
                damaged.iter_mut().skip(from).for_each(|byte| *byte = 0);
            }
            *bytes = damaged.into();
        }
        self.all.retain(|_, (_, bytes)| !bytes.is_empty());
    }
}

/// The leftover that an upload builds on.
#[derive(Debug)]
pub(super) struct Older {
    bytes: Arc<[u8]>,
    length: usize,
}

impl Older {
    /// What copies come from.
    pub(super) fn before(&self, base: Option<&[u8]>) -> Arc<[u8]> {
        let front = self.bytes.get(..self.length).unwrap_or_default();
        let back = base.and_then(|base| base.get(self.length..));
        [front, back.unwrap_or_default()].concat().into()
    }
}

/// What is to be left, and where.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) store: MemStore,
    pub(super) key: LeftoverKey,
}

impl Remains {
    /// Leaves an upload, or what it builds on while that is longer.
    pub(super) fn leave(self, bytes: Arc<[u8]>, older: Option<Older>) {
        let bytes = match older {
            Some(older) if bytes.len() < older.length => older.bytes,
            _ => bytes,
        };
        self.store.lock().leftovers.put(self.key, bytes);
    }
}
