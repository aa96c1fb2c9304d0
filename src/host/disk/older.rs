//! What an upload builds on: a leftover that is its own by now, and how it is read and gone on with.

use super::leftovers::{self, Kept};
use super::{Area, remove_quietly};
use crate::engine::ports::StoreError;
use crate::host::root::failed;
use crate::model::LeftoverKey;
use crate::model::limits::LEAF;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::{Errno, pread, pwrite};
use std::sync::Arc;

/// The leftover that an upload builds on.
#[derive(Debug)]
pub(super) struct Older {
    pub(super) kept: Kept,
    pub(super) file: Arc<OwnedFd>,
    /// How many of its bytes count.
    pub(super) length: u64,
    pub(super) role: Role,
}

/// What a leftover is to the upload that builds on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The new content is its beginning so far: nothing was written.
    Same,
    /// It was cut where the new content went on, and is the upload's own file.
    Taken,
    /// The new content has a file of its own.
    Apart,
}

impl Older {
    /// Whether nobody knows if the disk has refused a part of it, because an earlier run has left it: what is used of it is
    /// written again, so that the next sync tells.
    pub(super) fn is_doubtful(&self) -> bool {
        self.kept.failures.is_none()
    }

    pub(super) fn take(
        area: &Arc<Area>,
        key: LeftoverKey,
        mark: u64,
        length: u64,
    ) -> Result<Self, StoreError> {
        let kept = area.take_leftover(key, mark, length);
        let kept = kept.ok_or_else(|| StoreError::changed("there is no such leftover"))?;
        match leftovers::open(&area.fd, &kept.name, OFlags::RDWR) {
            Ok(file) => Ok(Self {
                kept,
                file: Arc::new(file),
                length,
                role: Role::Same,
            }),
            Err(errno) => {
                remove_quietly(area.fd.as_fd(), &kept.name, AtFlags::empty());
                Err(failed("open what an upload left", errno))
            }
        }
    }
}

/// Reads some bytes of a base.
pub(super) fn read(file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, StoreError> {
    loop {
        match pread(file, &mut *buffer, at) {
            Ok(0) => return Err(StoreError::changed("the base became shorter")),
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("read the base", errno)),
        }
    }
}

/// Reads a range of a file that is there, by its offset and length. Little at a time: it stays near the processor, and there is
/// less to clear.
pub(super) fn read_range(
    file: BorrowedFd<'_>,
    (mut at, length): (u64, u64),
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), StoreError> {
    let mut piece = vec![0u8; LEAF.min(usize::try_from(length).unwrap_or(LEAF))];
    let end = at.saturating_add(length);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(LEAF).min(LEAF);
        let buffer = piece.get_mut(..want).unwrap_or_default();
        let count = read(file, buffer, at)?;
        sink(piece.get(..count).unwrap_or_default());
        at += count as u64;
    }
    Ok(())
}

/// Writes all bytes at a place.
pub(super) fn write_all_at(
    file: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut at: u64,
) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                at += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
