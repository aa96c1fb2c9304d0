//! Large files that grow in the stage from pieces and from ranges of an older content.

use super::{Area, Durability, Staged, look, remove_quietly, stage};
use crate::engine::ports::{StoreError, Upload};
use crate::engine::source::{Found, FoundKind};
use crate::host::root::{Root, failed};
use crate::model::RelPath;
use crate::model::limits::LEAF;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, copy_file_range, fdatasync};
use rustix::io::{Errno, pread};
use std::sync::Arc;

/// How much of a base is copied and read at a time, in bytes.
const PIECE: usize = 8 * LEAF;

/// A file that grows in the stage.
#[derive(Debug)]
pub struct DiskUpload {
    area: Arc<Area>,
    name: String,
    file: Arc<OwnedFd>,
    base: Option<(OwnedFd, Found)>,
    /// Whether the kernel copies between these two files.
    in_kernel: bool,
    /// How many failures the area had when it was begun.
    failures: u64,
    /// Cleared when it became a finished file.
    here: bool,
}

impl Drop for DiskUpload {
    fn drop(&mut self) {
        if self.here {
            remove_quietly(self.area.fd.as_fd(), &self.name, AtFlags::empty());
        }
    }
}

impl DiskUpload {
    pub(super) fn open(
        area: &Arc<Area>,
        root: &Root,
        base: Option<&RelPath>,
    ) -> Result<Self, StoreError> {
        let base = base
            .map(|path| look::open_regular(root, path))
            .transpose()?;
        let name = area.name();
        let file = stage::create(area, &name).map_err(|errno| failed("stage it", errno))?;
        Ok(Self {
            area: Arc::clone(area),
            name,
            file: Arc::new(file),
            base,
            in_kernel: true,
            failures: area.failures(),
            here: true,
        })
    }

    pub(super) fn finish(mut self) -> Staged {
        self.here = false;
        // Without a descriptor it is made durable by the whole.
        let file = self.file.try_clone().ok();
        Staged::from_upload(&self.area, self.name.clone(), file, self.failures)
    }

    /// Appends what `bytes` holds, which is what the base has at `offset`.
    fn append_from_base(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let write = |errno| failed("write a copied range", errno);
        let mut rest = bytes;
        while self.in_kernel && !rest.is_empty() {
            let Some((base, _)) = &self.base else {
                break;
            };
            let done = (bytes.len() - rest.len()) as u64;
            let mut at = offset.saturating_add(done);
            match copy_file_range(base, Some(&mut at), &*self.file, None, rest.len()) {
                // Nothing came although something was read: the base was cut, which the last check reports.
                Ok(0) => self.in_kernel = false,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC) => return Err(write(Errno::NOSPC)),
                Err(Errno::DQUOT) => return Err(write(Errno::DQUOT)),
                Err(_) => self.in_kernel = false,
            }
        }
        stage::write_all(self.file.as_fd(), rest).map_err(write)
    }
}

impl DiskUpload {
    /// What was hashed is what was copied only if nobody wrote to the base meanwhile. Moving it does no harm.
    fn check_base(&self) -> Result<(), StoreError> {
        let Some((base, before)) = &self.base else {
            return Ok(());
        };
        let after =
            look::found_open(base.as_fd()).map_err(|errno| failed("look at the base", errno))?;
        if (after.kind, after.mtime) == (before.kind.clone(), before.mtime) {
            Ok(())
        } else {
            Err(StoreError::changed("the base changed while it was copied"))
        }
    }
}

impl Upload for DiskUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        stage::write_all(self.file.as_fd(), bytes).map_err(|errno| failed("write a piece", errno))
    }

    fn copy(
        &mut self,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        let Some((_, found)) = &self.base else {
            return Err(StoreError::changed("there is no base to copy from"));
        };
        let FoundKind::File { size } = found.kind else {
            return Err(StoreError::changed("the base is not a regular file"));
        };
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let Some(end) = end else {
            return Err(StoreError::changed("the base is shorter than the range"));
        };
        let mut piece = vec![0u8; PIECE];
        let mut at = offset;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let Some((base, _)) = &self.base else {
                break;
            };
            let buffer = piece.get_mut(..want).unwrap_or_default();
            let count = match pread(base, buffer, at) {
                Ok(0) => return Err(StoreError::changed("the base became shorter")),
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed("read the base", errno)),
            };
            let bytes = piece.get(..count).unwrap_or_default();
            sink(bytes);
            self.append_from_base(at, bytes)?;
            at += count as u64;
        }
        self.check_base()
    }

    fn flusher(&self) -> Box<dyn FnOnce() + Send> {
        let (area, file) = (Arc::clone(&self.area), Arc::clone(&self.file));
        if self.area.durability == Durability::None {
            return Box::new(|| ());
        }
        Box::new(move || {
            // A failure counts when the upload is brought into view.
            let _noted = area.noted(fdatasync(&*file));
        })
    }
}
