//! Large files that grow in the stage from pieces, from ranges of an older content, and from what an earlier upload left.

use super::direct::{Direct, DirectWrites};
use super::leftovers::{self, Remains};
use super::older::{Older, Role, read, read_range, write_all_at};
use super::{Area, Durability, Staged, look, remove_quietly};
use crate::engine::ports::{Origin, StoreError, Upload};
use crate::engine::source::{Found, FoundKind};
use crate::host::root::{Root, failed};
use crate::model::limits::LEAF;
use crate::model::{Fault, LeftoverKey};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, copy_file_range, fdatasync, ftruncate};
use rustix::io::Errno;
use std::sync::Arc;

/// How much of a base is copied and read at a time, in bytes.
const PIECE: usize = 8 * LEAF;

/// A file that grows in the stage.
#[derive(Debug)]
pub struct DiskUpload {
    area: Arc<Area>,
    name: String,
    file: Arc<OwnedFd>,
    /// Bytes of the new content so far.
    size: u64,
    base: Option<(OwnedFd, Found)>,
    older: Option<Older>,
    /// What is not written yet, where it is written past the page cache.
    pub(super) direct: Option<Direct>,
    /// Whether the kernel copies between these files.
    in_kernel: bool,
    /// How many failures the area had when it was begun.
    failures: u64,
    /// What may be left of it.
    remains: Option<Remains>,
    /// Whether nothing is to be left of it, nor of what it builds on.
    spoilt: bool,
    /// Cleared when it became a finished file.
    here: bool,
}

impl Drop for DiskUpload {
    fn drop(&mut self) {
        if self.here {
            self.leave();
        }
    }
}

fn base_size(base: Option<&(OwnedFd, Found)>) -> u64 {
    match base.map(|(_, found)| &found.kind) {
        Some(FoundKind::File { size }) => *size,
        _ => 0,
    }
}

impl DiskUpload {
    pub(super) fn open(
        area: &Arc<Area>,
        root: &Root,
        origin: &Origin<'_>,
    ) -> Result<Self, StoreError> {
        let base = origin.base.map(|path| look::open_regular(root, path));
        let base = base.transpose()?;
        let key = origin.path.map(LeftoverKey::of);
        let older = match (origin.leftover, key) {
            (Some((mark, length)), Some(key)) => Some(Older::take(area, key, mark, length)?),
            (Some(_), None) => return Err(StoreError::changed("a leftover has a path")),
            (None, _) => None,
        };
        let (name, file) = match &older {
            Some(older) => (older.kept.name.clone(), Arc::clone(&older.file)),
            None => leftovers::create(area, key)?,
        };
        Ok(Self {
            area: Arc::clone(area),
            name,
            file,
            size: 0,
            base,
            older,
            direct: None,
            in_kernel: true,
            failures: area.failures(),
            remains: origin.path.map(|path| leftovers::begin(area, path)),
            spoilt: false,
            here: true,
        })
    }

    /// Has it written past the page cache where all of it comes from the peer, is to be durable, and the file system allows it.
    pub fn directly(&mut self, writes: &DirectWrites) {
        if self.base.is_none() && self.older.is_none() && self.size == 0 {
            self.direct = Direct::begin(&self.area, (&self.name, &self.file), writes);
        }
    }

    pub(super) fn finish(mut self) -> Result<Staged, StoreError> {
        self.settle()?;
        self.part(true)?;
        if let Some(older) = self.older.take_if(|older| older.role == Role::Apart) {
            self.remove(&older.kept.name);
        }
        self.here = false;
        // Without a descriptor it is made durable by the whole.
        let file = self.file.try_clone().ok();
        let mut remains = self.remains.take();
        if let Some(remains) = &mut remains {
            remains.size = self.size;
        }
        let name = std::mem::take(&mut self.name);
        Ok(Staged::from_upload(
            &self.area,
            name,
            file,
            self.failures,
            remains,
        ))
    }

    fn remove(&self, name: &str) {
        remove_quietly(self.area.fd.as_fd(), name, AtFlags::empty());
    }

    /// Leaves what is of use to a later upload of the path, and removes the rest.
    fn leave(&mut self) {
        if !self.spoilt && self.remains.is_some() {
            // What failed is not there, and is not counted.
            let _counted = self.settle();
        }
        let older = self.older.take();
        let remains = self.remains.take().filter(|_| !self.spoilt);
        let Some(mut remains) = remains else {
            self.remove(&self.name);
            if let Some(older) = older {
                self.remove(&older.kept.name);
            }
            return;
        };
        remains.size = self.size;
        let key = remains.ticket.key;
        match older {
            Some(older) if older.role == Role::Same => self.area.keep(key, older.kept),
            // It is behind what it builds on, which has more to offer.
            Some(older) if older.role == Role::Apart && self.size < older.length => {
                self.remove(&self.name);
                self.area.keep(key, older.kept);
            }
            older => {
                remains.leave(&self.name, self.failures);
                if let Some(older) = older.filter(|older| older.role == Role::Apart) {
                    self.remove(&older.kept.name);
                }
            }
        }
    }

    /// Makes sure that the upload has a file that it may write to, behind what it has of the leftover that it builds on.
    /// The leftover itself is that where nothing else is needed of it.
    fn part(&mut self, ends: bool) -> Result<(), StoreError> {
        let Some(older) = self.older.as_mut().filter(|older| older.role == Role::Same) else {
            return Ok(());
        };
        let write = |errno| failed("go on with what an upload left", errno);
        if ends || self.size >= older.length {
            older.role = Role::Taken;
            return ftruncate(&*self.file, self.size).map_err(write);
        }
        let key = self.remains.as_ref().map(|remains| remains.ticket.key);
        let (name, file) = leftovers::create(&self.area, key)?;
        older.role = Role::Apart;
        let from = Arc::clone(&older.file);
        let size = std::mem::take(&mut self.size);
        (self.name, self.file) = (name, file);
        let mut piece = vec![0u8; PIECE];
        while self.size < size {
            let want = usize::try_from(size - self.size)
                .unwrap_or(PIECE)
                .min(PIECE);
            let buffer = piece.get_mut(..want).unwrap_or_default();
            let count = read(from.as_fd(), buffer, self.size)?;
            let bytes = piece.get(..count).unwrap_or_default();
            self.append_from(from.as_fd(), self.size, bytes)?;
        }
        Ok(())
    }

    /// Appends what `bytes` holds, which is what another file has at `offset`.
    fn append_from(
        &mut self,
        from: BorrowedFd<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let (mut done, size) = (0, self.size);
        while self.in_kernel && done < bytes.len() {
            let mut at = offset.saturating_add(done as u64);
            let mut to = size + done as u64;
            let rest = bytes.len() - done;
            match copy_file_range(from, Some(&mut at), &*self.file, Some(&mut to), rest) {
                // Nothing came although something was read: the base was cut, which the last check reports.
                Ok(0) => self.in_kernel = false,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // Tried once more, or reported, below.
                Err(Errno::NOSPC | Errno::DQUOT) => break,
                Err(_) => self.in_kernel = false,
            }
        }
        self.size += done as u64;
        self.append(
            bytes.get(done..).unwrap_or_default(),
            "write a copied range",
        )
    }

    /// Has all written that was taken.
    fn settle(&mut self) -> Result<(), StoreError> {
        let Some(direct) = self.direct.take() else {
            return Ok(());
        };
        let (error, reached) = match direct.settle() {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        self.size = self.size.min(reached);
        self.spoilt |= error.fault != Fault::Full;
        Err(error)
    }

    fn append(&mut self, bytes: &[u8], what: &str) -> Result<(), StoreError> {
        if let Some(direct) = &mut self.direct {
            self.size += bytes.len() as u64;
            if direct.append(bytes).is_ok() {
                return Ok(());
            }
            return self.settle();
        }
        let write = || {
            let written = write_all_at(self.file.as_fd(), bytes, self.size);
            written.map_err(|errno| failed(what, errno))
        };
        if let Err(error) = self.area.with_room(write) {
            // What is there of it is good when there is room again, and goes first when somebody else needs its room.
            self.spoilt |= error.fault != Fault::Full;
            return Err(error);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

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

    /// Appends a range of the leftover.
    fn copy_older(
        &mut self,
        from: &OwnedFd,
        at: u64,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, StoreError> {
        let count = read(from.as_fd(), buffer, at)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        sink(bytes);
        let role = self.older.as_ref().map(|older| older.role);
        if role == Some(Role::Same) && at == self.size {
            if self.older.as_ref().is_some_and(Older::is_doubtful) {
                let written = write_all_at(from.as_fd(), bytes, at);
                written.map_err(|errno| failed("go on with what an upload left", errno))?;
            }
            self.size += count as u64;
        } else {
            self.part(false)?;
            self.append_from(from.as_fd(), at, bytes)?;
        }
        self.count(count);
        Ok(count as u64)
    }

    /// Appends a range of the base.
    fn copy_base(
        &mut self,
        at: u64,
        buffer: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, StoreError> {
        self.part(false)?;
        let Some((base, found)) = self.base.take() else {
            return Err(StoreError::changed("there is no base to copy from"));
        };
        let mut copy = || {
            let count = read(base.as_fd(), buffer, at)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            sink(bytes);
            self.append_from(base.as_fd(), at, bytes)?;
            Ok(count as u64)
        };
        let copied = copy();
        self.base = Some((base, found));
        copied
    }

    /// Counts bytes that would have to be sent again.
    fn count(&mut self, bytes: usize) {
        if let Some(remains) = &mut self.remains {
            remains.fresh += bytes as u64;
        }
    }
}

impl Upload for DiskUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.part(false)?;
        self.append(bytes, "write a piece")?;
        self.count(bytes.len());
        Ok(())
    }

    fn copy(
        &mut self,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        let older = self.older.as_ref();
        let older = older.map(|older| (Arc::clone(&older.file), older.length));
        if older.is_none() && self.base.is_none() {
            return Err(StoreError::changed("there is no base to copy from"));
        }
        let limit = older.as_ref().map_or(0, |(_, length)| *length);
        let size = limit.max(base_size(self.base.as_ref()));
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let Some(end) = end else {
            return Err(StoreError::changed("the base is shorter than the range"));
        };
        let mut piece = vec![0u8; PIECE];
        let mut at = offset;
        while at < end {
            let stop = if at < limit { end.min(limit) } else { end };
            let want = usize::try_from(stop - at).unwrap_or(PIECE).min(PIECE);
            let buffer = piece.get_mut(..want).unwrap_or_default();
            at += match &older {
                Some((file, limit)) if at < *limit => self.copy_older(file, at, buffer, sink)?,
                _ => self.copy_base(at, buffer, sink)?,
            };
        }
        self.check_base()
    }

    fn read_back(
        &mut self,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        if let Some(direct) = &mut self.direct {
            if direct.show(offset, length, sink) {
                return Ok(());
            }
            self.settle()?;
        }
        read_range(self.file.as_fd(), (offset, length), sink)
    }

    fn write_behind(&mut self) -> bool {
        self.direct.as_mut().is_some_and(Direct::write_behind)
    }

    fn flusher(&self) -> Box<dyn FnOnce() + Send> {
        let (area, file) = (Arc::clone(&self.area), Arc::clone(&self.file));
        // What is written directly has no page that waits.
        if self.area.durability == Durability::None || self.direct.is_some() {
            return Box::new(|| ());
        }
        Box::new(move || {
            // A failure counts when the upload is brought into view.
            let _noted = area.noted(fdatasync(&*file));
        })
    }

    fn discard(mut self) {
        self.spoilt = true;
    }
}
