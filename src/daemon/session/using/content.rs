//! Where the bytes of a file come from: from memory if they are there, or worth to be kept there, else from the disk.

use super::Using;
use super::reading::{size_of, version};
use crate::daemon::cache::{Lease, Taken};
use crate::daemon::share::Share;
use crate::engine::ports::{Store as _, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::host::clock;
use crate::host::disk::DiskContent;
use crate::model::RelPath;
use crate::model::limits::MAX_PIECE;
use bytes::Bytes;
use std::time::{Duration, SystemTime};

/// Somebody who wants no more of a file than this and not all of it does not have it kept, in bytes: he has the rest.
const WORTH: u64 = 1024 * 1024;
/// How long ago a file must have changed for its next change to be seen in its times: the system counts them in steps.
const SETTLED: Duration = Duration::from_millis(100);

/// How much of a file is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// To be sent: so many bytes from a place on.
    Bytes(u64, u64),
    /// To be summed.
    Sums,
}

impl Want {
    /// Whether the whole file is worth keeping for it.
    fn keeps(self, size: u64) -> bool {
        match self {
            Self::Bytes(offset, length) => {
                length.min(size.saturating_sub(offset)) >= size.min(WORTH)
            }
            Self::Sums => false,
        }
    }
}

/// A file that is read, in one version.
#[derive(Debug)]
pub(super) enum Content {
    Disk(DiskContent),
    Memory(Lease),
}

impl Content {
    pub(super) fn found(&self) -> &Found {
        match self {
            Self::Disk(content) => content.found(),
            Self::Memory(lease) => lease.body().found(),
        }
    }

    /// Bytes from a place on, at least one and at most so many: they are there.
    pub(super) fn piece(&self, at: u64, left: u64) -> Result<Bytes, StoreError> {
        let most = usize::try_from(left).unwrap_or(MAX_PIECE).min(MAX_PIECE);
        let shorter = || StoreError::changed("it became shorter while it was read");
        let piece = match self {
            Self::Memory(lease) => lease.body().piece(at, most)?,
            Self::Disk(content) => {
                let mut piece = vec![0; most];
                if content.read_at(&mut piece, at)? < most {
                    return Err(shorter());
                }
                piece.into()
            }
        };
        match piece.is_empty() {
            true => Err(shorter()),
            false => Ok(piece),
        }
    }

    /// Whether who reads it has to make its SHA-256: nobody else does.
    pub(super) fn sum_is_to_be_made(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// The SHA-256 of a file that is in memory, as it was made when it was read.
    pub(super) fn sum(&self) -> Result<[u8; 32], StoreError> {
        match self {
            Self::Disk(_) => Err(StoreError::changed("it was not read to its end")),
            Self::Memory(lease) => lease.body().sum(),
        }
    }

    /// Whether the file stayed what it was while it was read. What is in memory does.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(content) => content.check(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// Opens a file as it is now.
pub(super) fn open(
    using: &Using,
    share: Option<&Share>,
    path: &RelPath,
    want: Want,
) -> Result<Content, StoreError> {
    let share = share.ok_or_else(|| StoreError::changed("there is nothing at the path"))?;
    let disk = || share.store().open_content(path).map(Content::Disk);
    let found = share.store().lstat(path)?;
    let Some(found) = found.filter(|found| matches!(found.kind, FoundKind::File { .. })) else {
        return disk();
    };
    let (size, of) = (size_of(&found), version(&found));
    let key = using.key(path);
    let (lease, loader) = match using
        .files
        .take(&key, (&found, &of, size), want.keeps(size))
    {
        Taken::There(lease) => return Ok(Content::Memory(lease)),
        Taken::Apart => return disk(),
        Taken::Load(lease, loader) => (lease, loader),
    };
    let content = share.store().open_content(path)?;
    if version(content.found()) != of {
        return Ok(Content::Disk(content));
    }
    let lasting = is_settled(&found, clock::wall());
    // A thread of its own: whoever reads along may be held up by his line, the others not by him.
    drop(using.runtime.spawn_blocking(move || {
        let read = |buffer: &mut [u8], at| content.read_at(buffer, at);
        loader.load(&read, &|| content.check(), lasting);
    }));
    Ok(Content::Memory(lease))
}

/// Whether the next change of a file will have another time.
fn is_settled(found: &Found, now: SystemTime) -> bool {
    let changed = u64::try_from(found.stat.ctime).map(Duration::from_nanos);
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    match (changed, now) {
        (Ok(changed), Ok(now)) => changed + SETTLED <= now,
        _ => false,
    }
}
