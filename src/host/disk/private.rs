//! The private directory of a share, `.syncd`, and its small files.

use super::{OpenError, stage, subdirectory};
use crate::host::root::Root;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, openat};
use rustix::io::{Errno, Result};
use std::path::Path;

/// The private directory of a share or of a directory of shares, made if it is missing, and held: its lock is what
/// keeps a second server away.
#[derive(Debug)]
pub struct Private {
    pub(super) fd: OwnedFd,
}

impl Private {
    /// Opens and locks the private directory below a root.
    ///
    /// # Errors
    /// When another server holds it, or it is a link or file.
    pub fn open(root: &Root) -> std::result::Result<Self, OpenError> {
        let fd = subdirectory(root.as_fd(), ".syncd").map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => OpenError::Private,
            other => OpenError::System("open `.syncd`", other),
        })?;
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { fd }),
            Err(Errno::WOULDBLOCK) => Err(OpenError::Locked),
            Err(errno) => Err(OpenError::System("lock `.syncd`", errno)),
        }
    }

    /// The directory that a directory lies in and that a server holds, if there is one. The path has no links in it.
    #[must_use]
    pub fn held_above(directory: &Path) -> Option<&Path> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory.ancestors().skip(1).find(|above| {
            open(above.join(".syncd"), flags, Mode::empty()).is_ok_and(|fd| {
                flock(&fd, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
            })
        })
    }

    /// Reads one of its small files whole; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let mut bytes = vec![0; 64 * 1024];
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&file, rest)? {
                0 => break,
                count => length += count,
            }
        }
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// Replaces one of its small files, durably.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = format!("{name}.new");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.fd, &*new, flags, Mode::RUSR | Mode::WUSR)?;
        stage::write_all(file.as_fd(), bytes)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(&self.fd, &*new, &self.fd, name)?;
        rustix::fs::fsync(&self.fd)
    }
}
