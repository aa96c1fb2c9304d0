//! Files in the stage of a store in memory, and how they grow.

use super::leftovers::{Older, Remains};
use super::store::MemStore;
use crate::engine::ports::{StoreError, Upload};
use std::sync::Arc;

type Result<T> = std::result::Result<T, StoreError>;

/// Something in the stage.
#[derive(Debug)]
pub struct MemStaged {
    pub(super) inode: u64,
    pub(super) remains: Option<Remains>,
}

impl Drop for MemStaged {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            let bytes = remains.store.lock().bytes(self.inode);
            remains.leave(bytes.unwrap_or_default(), None);
        }
    }
}

/// A file that grows in the stage.
#[derive(Debug)]
pub struct MemUpload {
    pub(super) store: MemStore,
    pub(super) bytes: Vec<u8>,
    pub(super) base: Option<Arc<[u8]>>,
    pub(super) older: Option<Older>,
    pub(super) remains: Option<Remains>,
}

impl Drop for MemUpload {
    fn drop(&mut self) {
        if let Some(remains) = self.remains.take() {
            let bytes = std::mem::take(&mut self.bytes);
            remains.leave(bytes.into(), self.older.take());
        }
    }
}

impl Upload for MemUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        drop(self.store.call("write to an upload", &[])?);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn copy(&mut self, offset: u64, length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        drop(self.store.call("copy to an upload", &[])?);
        let range = || {
            let from = usize::try_from(offset).ok()?;
            let to = from.checked_add(usize::try_from(length).ok()?)?;
            self.base.as_ref()?.get(from..to)
        };
        let bytes = range().ok_or_else(|| StoreError::changed("the base is shorter"))?;
        sink(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn read_back(&mut self, offset: u64, length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        let range = || {
            let from = usize::try_from(offset).ok()?;
            let to = from.checked_add(usize::try_from(length).ok()?)?;
            self.bytes.get(from..to)
        };
        sink(range().ok_or_else(|| StoreError::changed("it is shorter"))?);
        Ok(())
    }

    fn flusher(&self) -> Box<dyn FnOnce() + Send> {
        Box::new(|| ())
    }

    fn discard(mut self) {
        self.remains = None;
    }
}
