//! A file that grows beside its target, under a name that is found again, until it is whole and takes the target's place.

use crate::host::disk::times;
use crate::model::Mtime;
use crate::model::limits::MAX_NAME;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How its name ends.
const ENDING: &str = ".syncd-part";

/// Whether something that is there may be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replace {
    /// It may.
    Allowed,
    /// It stays.
    Refused,
}

/// A file on its way. What is dropped of it stays, to go on from.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

/// The name of what grows beside a target.
///
/// # Errors
/// When the target has no name.
pub(super) fn beside(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name();
    let name = name.ok_or_else(|| io::Error::other("it is no name of a file"))?;
    let mut own = OsString::from(".");
    if name.len() + ENDING.len() < MAX_NAME {
        own.push(name);
    } else {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        own.push(OsStr::new(hash.get(..32).unwrap_or_default()));
    }
    own.push(ENDING);
    Ok(target.with_file_name(own))
}

impl Partial {
    /// Opens what there is of a target, or begins it.
    ///
    /// # Errors
    /// When somebody else is at it ([`io::ErrorKind::WouldBlock`]), or the system refuses.
    pub fn open(target: &Path) -> io::Result<Self> {
        let path = beside(target)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let fd = open(&path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?;
            flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
            let file = File::from(fd);
            let own = file.metadata()?;
            if !own.is_file() {
                return Err(io::Error::other("what grows beside it is no regular file"));
            }
            // Whoever had the lock before may have brought it into place.
            let is_there = fs::symlink_metadata(&path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
            if is_there {
                let target = target.to_owned();
                return Ok(Self { file, path, target });
            }
        }
    }

    /// Where it grows.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Makes it so long, with zeros where nothing is.
    ///
    /// # Errors
    /// When the disk is full, or the system refuses.
    pub fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    /// Begins with what another file holds, which the kernel copies where it can.
    ///
    /// # Errors
    /// When it cannot be read, or the disk is full.
    pub fn begin_with(&mut self, path: &Path) -> io::Result<()> {
        let mut from = File::open(path)?;
        io::copy(&mut from, &mut self.file).map(drop)
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// When the disk is full, or the system refuses.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Reads what is stored at a place: as much as fits, fewer bytes only at the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Makes it durable, gives it mode and time, and brings it into the place of its target.
    ///
    /// # Errors
    /// When something is there that is not to be replaced ([`io::ErrorKind::AlreadyExists`]), or the system refuses. What there
    /// is of it stays.
    pub fn finish(self, (mode, mtime): (u32, Mtime), replace: Replace) -> io::Result<()> {
        let permissions = fs::Permissions::from_mode(mode & 0o777);
        self.file.set_permissions(permissions)?;
        rustix::fs::futimens(&self.file, &times(mtime))?;
        self.file.sync_all()?;
        match replace {
            Replace::Allowed => fs::rename(&self.path, &self.target)?,
            Replace::Refused => {
                let (from, to) = (&self.path, &self.target);
                match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                    // A file system that cannot do that has links perhaps.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        fs::hard_link(from, to)?;
                        fs::remove_file(from)?;
                    }
                    done => done?,
                }
            }
        }
        let directory = self.target.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Removes it.
    pub fn discard(self) {
        // Nobody takes it for the target in any case.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::{Partial, Replace};
    use crate::model::Mtime;
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;

    const TIME: Mtime = Mtime {
        secs: 1_600_000_000,
        nanos: 123_456_789,
    };

    #[test]
    fn what_was_dropped_is_found_again_and_takes_the_place_of_its_target_whole() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["f".to_owned(), "n".repeat(255)] {
            let target = dir.path().join(name);
            let partial = Partial::open(&target).unwrap();
            let busy = Partial::open(&target).unwrap_err();
            assert_eq!(busy.kind(), ErrorKind::WouldBlock);
            partial.write_at(b"abc", 0).unwrap();
            drop(partial);
            assert!(!target.exists());
            let partial = Partial::open(&target).unwrap();
            assert_eq!(partial.size().unwrap(), 3);
            partial.finish((0o4640, TIME), Replace::Refused).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"abc");
            let found = fs::metadata(&target).unwrap();
            assert_eq!(found.mode() & 0o7777, 0o640);
            assert_eq!(
                (found.mtime(), found.mtime_nsec()),
                (TIME.secs, i64::from(TIME.nanos))
            );
            // It is not replaced unless that is allowed.
            let partial = Partial::open(&target).unwrap();
            partial.write_at(b"new", 0).unwrap();
            let there = partial.finish((0o644, TIME), Replace::Refused).unwrap_err();
            assert_eq!(there.kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&target).unwrap(), b"abc");
            let partial = Partial::open(&target).unwrap();
            partial.finish((0o644, TIME), Replace::Allowed).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"new");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
