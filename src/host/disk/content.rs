//! A file of the tree that is open to be read at any place.

use super::{DiskStore, look};
use crate::engine::ports::StoreError;
use crate::engine::source::Found;
use crate::host::root::failed;
use crate::model::RelPath;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, pread};

/// A regular file of a share, open for reading.
#[derive(Debug)]
pub struct DiskContent {
    file: OwnedFd,
    found: Found,
}

impl DiskContent {
    /// What it was when it was opened.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Reads some bytes at a place: as many as there are, at most as many as fit. None behind the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, StoreError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match pread(&self.file, rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read it", errno)),
            }
        }
        Ok(filled)
    }

    /// Whether it still is what it was.
    ///
    /// # Errors
    /// When it is not ([`crate::model::Fault::Changed`]).
    pub fn check(&self) -> Result<(), StoreError> {
        look::unchanged(self.file.as_fd(), &self.found)
    }
}

impl DiskStore {
    /// Opens a regular file.
    ///
    /// # Errors
    /// When it is none, or the system refuses.
    pub fn open_content(&self, path: &RelPath) -> Result<DiskContent, StoreError> {
        let (file, found) = look::open_regular(&self.root, path)?;
        Ok(DiskContent { file, found })
    }
}
