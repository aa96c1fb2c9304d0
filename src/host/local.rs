//! Files that the person of a command names: what is read from them, and what grows beside them until it is whole.
//!
//! Unlike a source or a share these are anywhere, and links are followed where `cp` follows them.

mod partial;

pub use partial::{Partial, Replace};

use crate::engine::source::{Found, FoundKind};
use crate::host::disk::times;
use crate::host::source::{stat_again, stat_fd};
use crate::model::{Mtime, Name};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Vec<u8>,
    },
    /// Something else.
    Special,
}

/// What a path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub mtime: Mtime,
}

/// Looks at a path, without following a link; nothing when nothing is there.
///
/// # Errors
/// When it cannot be looked at.
pub fn look(path: &Path) -> io::Result<Option<Local>> {
    match fs::symlink_metadata(path) {
        Ok(found) => local(path, &found).map(Some),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at what a path stands for; nothing when nothing is there.
///
/// # Errors
/// When it cannot be looked at.
pub fn look_through(path: &Path) -> io::Result<Option<Local>> {
    match fs::metadata(path) {
        Ok(found) => local(path, &found).map(Some),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn local(path: &Path, found: &fs::Metadata) -> io::Result<Local> {
    let kind = if found.is_dir() {
        Kind::Directory
    } else if found.is_file() {
        Kind::File { size: found.len() }
    } else if found.is_symlink() {
        Kind::Symlink {
            target: fs::read_link(path)?.into_os_string().into_vec(),
        }
    } else {
        Kind::Special
    };
    Ok(Local {
        kind,
        mode: found.mode() & 0o7777,
        mtime: Mtime {
            secs: found.mtime(),
            nanos: u32::try_from(found.mtime_nsec()).unwrap_or(0),
        },
    })
}

/// The names in a directory, in order.
///
/// # Errors
/// When it cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// A path below a directory by a name of a share.
#[must_use]
pub fn below(directory: &Path, name: &Name) -> PathBuf {
    directory.join(OsStr::from_bytes(name.as_bytes()))
}

/// Makes a directory that its maker may write to; whether it was not there. A link to a directory is none: what a server
/// calls a directory must not lead elsewhere.
///
/// # Errors
/// When it cannot be made, or something else is there.
pub fn make_directory(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(path)?;
            if there.is_dir() {
                Ok(false)
            } else {
                Err(error)
            }
        }
        Err(error) => Err(error),
    }
}

/// Gives a directory its mode and time, in the end.
///
/// # Errors
/// When the system refuses.
pub fn dress_directory(path: &Path, mode: u32, mtime: Mtime) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o1777))?;
    let times = times(mtime);
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?;
    Ok(())
}

/// Makes a symbolic link with a time.
///
/// # Errors
/// When something is there that is not to be replaced, or the system refuses.
pub fn make_link(path: &Path, (target, mtime): (&[u8], Mtime), replace: Replace) -> io::Result<()> {
    let target = OsStr::from_bytes(target);
    let dressed = |path: &Path| {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(CWD, path, &times(mtime), flags)?)
    };
    match std::os::unix::fs::symlink(target, path) {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists && replace == Replace::Allowed =>
        {
            let aside = partial::beside(path)?;
            if let Err(error) = fs::remove_file(&aside)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            std::os::unix::fs::symlink(target, &aside)?;
            dressed(&aside)?;
            fs::rename(aside, path)
        }
        Err(error) => Err(error),
        Ok(()) => dressed(path),
    }
}

/// A regular file that is open to be read, and what it was then.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
    found: Found,
}

impl LocalFile {
    /// Opens what a path stands for, without blocking.
    ///
    /// # Errors
    /// When it is no regular file, or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NXIO | Errno::NODEV => io::Error::other("it is no regular file"),
            errno => errno.into(),
        })?;
        let found = stat_fd(&fd)?;
        match found.kind {
            FoundKind::File { .. } => Ok(Self {
                file: File::from(fd),
                found,
            }),
            FoundKind::Directory => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::other("it is no regular file")),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self.found.kind {
            FoundKind::File { size } => size,
            _ => 0,
        }
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.found.mode
    }

    /// Modification time.
    #[must_use]
    pub fn mtime(&self) -> Mtime {
        self.found.mtime
    }

    /// The next bytes: as many as fit, fewer only at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        fill(&mut self.file, buffer)
    }

    /// Appends the next bytes: as many as there may be, fewer only at the end. How many.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn append(&mut self, to: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        append(&mut self.file, to, most)
    }

    /// Whether it still is what it was when it was opened.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn is_same(&self) -> io::Result<bool> {
        Ok(stat_again(&self.file, &self.found)? == self.found)
    }

    /// Goes back to its front.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.file.rewind()
    }
}

/// Reads until a buffer is full, or nothing more comes.
///
/// # Errors
/// When it cannot be read.
pub fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Appends what is read, until there are so many bytes, or nothing more comes. How many.
///
/// # Errors
/// When it cannot be read.
pub fn append(from: &mut impl Read, to: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    to.reserve(most);
    from.take(most as u64).read_to_end(to)
}

#[cfg(test)]
mod tests {
    use super::make_directory;
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_to_a_directory_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let (there, link) = (dir.path().join("there"), dir.path().join("link"));
        assert!(make_directory(&there).unwrap());
        assert!(!make_directory(&there).unwrap());
        symlink(&there, &link).unwrap();
        let refused = make_directory(&link).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        fs::remove_dir(there).unwrap();
        assert!(make_directory(&link).is_err());
    }
}
