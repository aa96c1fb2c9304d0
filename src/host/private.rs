//! Files and directories that only their owner may read: keys, secrets, lists of devices.
//!
//! A file is made 0600 and appears under its name only when it is whole and durable; one that others can read is not
//! believed when it is read back.

use crate::host::random::{self, RandomError};
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a private file or directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// Others than the owner can read or change it.
    #[error("`{}` has mode {mode:04o}, others can read it; make it 0600 or remove it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("`{}` belongs to user {uid}", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// The owner.
        uid: u32,
    },
    /// It is no regular file.
    #[error("`{}` is no regular file", .0.display())]
    NoFile(PathBuf),
    /// It is longer than such a file can be.
    #[error("`{}` is longer than {limit} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// No name for a temporary file.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The system failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PrivateError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> PrivateError + use<'a> {
    move |source| PrivateError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Makes a directory 0700 with the parents that lack, and takes other people's rights from one that is there.
///
/// # Errors
/// When it cannot be made, is no directory, or is open to others and not ours to close.
pub fn create_dir(path: &Path) -> Result<(), PrivateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make the directory", path))?;
    let meta = std::fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if meta.is_dir() && meta.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .map_err(failed("make private", path))?;
    }
    Ok(())
}

/// Replaces the file at `path` by `content`, atomically and durably. Its directory must exist.
///
/// # Errors
/// When a step fails; the old file is then as it was.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let temporary = sibling(path)?;
    let made = write_new(&temporary, content).and_then(|()| {
        std::fs::rename(&temporary, path).map_err(failed("put in place", path))?;
        sync_parent(path)
    });
    if made.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    made
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), PrivateError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("make", path))?;
    file.write_all(content).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("make durable", path))
}

/// A name beside `path` that nobody uses.
fn sibling(path: &Path) -> Result<PathBuf, PrivateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", random::hex::<8>()?));
    Ok(path.with_file_name(name))
}

fn sync_parent(path: &Path) -> Result<(), PrivateError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("make durable", parent))
}

/// Reads a private file of at most `limit` bytes, if it is one: regular, ours, closed to others.
///
/// # Errors
/// When it is absent ([`PrivateError::is_absent`]), unreadable, or not private.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PrivateError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| failed("read", path)(errno.into()))?
        .into();
    let meta = file.metadata().map_err(failed("look at", path))?;
    if !meta.is_file() {
        return Err(PrivateError::NoFile(path.to_owned()));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(PrivateError::Foreign {
            path: path.to_owned(),
            uid: meta.uid(),
        });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(PrivateError::Exposed {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    let mut content = Vec::new();
    let read = file
        .take(limit + 1)
        .read_to_end(&mut content)
        .map_err(failed("read", path))?;
    if read as u64 > limit {
        return Err(PrivateError::TooLong {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(content)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, PrivateError> {
    String::from_utf8(read(path, limit)?)
        .map_err(|error| failed("understand", path)(io::Error::other(error)))
}

/// Removes a file; one that is not there is success.
///
/// # Errors
/// When the system refuses.
pub fn remove(path: &Path) -> Result<(), PrivateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{PrivateError, create_dir, read, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        create_dir(&dir).unwrap();
        let path = dir.join("key");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir)), (0o600, 0o700));
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        assert!(matches!(read(&path, 2), Err(PrivateError::TooLong { .. })));
        assert!(read(&dir.join("no"), 9).unwrap_err().is_absent());
    }

    #[test]
    fn a_file_that_others_can_read_is_not_believed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("key");
        write(&path, b"one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read(&path, 9),
            Err(PrivateError::Exposed { mode: 0o640, .. })
        ));
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 9), Err(PrivateError::Io { .. })));
    }
}
