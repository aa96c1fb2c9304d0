//! Paths confined below an open directory. Every resolution starts at one held descriptor and never passes a symbolic
//! link or `..`; what a name stands for is then changed by `*at` calls on its parent's descriptor only.

use crate::engine::ports::StoreError;
use crate::model::{Fault, Name, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, chmod, fsync, mkdirat, openat,
    openat2, statx,
};
use rustix::io::{Errno, Result};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const PLACE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory, and what can be reached below it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// Cleared when the kernel (or a sandbox) has no `openat2`.
    openat2: AtomicBool,
}

/// A directory below a root, for `*at` calls.
#[derive(Debug)]
pub enum Dir<'a> {
    /// The root itself.
    Root(BorrowedFd<'a>),
    /// One below it, with what was loosened on the way, to be restored when it is dropped.
    Below(OwnedFd, Vec<Loosened>),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd, _) => fd.as_fd(),
        }
    }
}

impl Root {
    /// Opens a directory by a path of the local user's: links in it are followed.
    ///
    /// # Errors
    /// When it is no directory that may be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map(Self::from_fd)
    }

    /// Whether a path still leads to this directory, and to no other one, nor to nothing. A path that cannot be followed for
    /// another reason is taken to do so.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let id = |found: Statx| (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        let mask = StatxFlags::INO;
        match statx(CWD, path, AtFlags::empty(), mask) {
            Ok(there) => statx(&self.fd, c"", AtFlags::EMPTY_PATH, mask)
                .map_or(true, |own| id(own) == id(there)),
            Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR),
        }
    }

    /// The same directory again, whatever its path stands for by now.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|_| Errno::MFILE)?;
        Ok(Self::from_fd(fd))
    }

    /// The directory of this name directly below, which must not be a link.
    ///
    /// # Errors
    /// When it is no directory.
    pub fn below(&self, name: &[u8]) -> Result<Self> {
        openat(&self.fd, name, PLACE, Mode::empty()).map(Self::from_fd)
    }

    /// The same, made durably if it is missing.
    ///
    /// # Errors
    /// When it is no directory, or cannot be made.
    pub fn make_below(&self, name: &[u8]) -> Result<Self> {
        match self.below(name) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        fsync(openat(&self.fd, c".", flags, Mode::empty())?)?;
        self.below(name)
    }

    fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            openat2: AtomicBool::new(true),
        }
    }

    /// The directory at a path.
    ///
    /// # Errors
    /// When it or an ancestor is missing or no directory.
    pub fn dir(&self, path: &RelPath) -> Result<Dir<'_>> {
        if path.is_root() {
            return Ok(Dir::Root(self.fd.as_fd()));
        }
        let (fd, loosened) = self.resolve(path, PLACE)?;
        Ok(Dir::Below(fd, loosened))
    }

    /// The directory that holds a path, and the path's last name. The root is in no directory.
    ///
    /// # Errors
    /// When the directory is missing or an ancestor is none.
    pub fn parent(&self, path: &RelPath) -> Result<(Dir<'_>, Name)> {
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        Ok((self.dir(&parent)?, name))
    }

    /// Opens what is at a path (not a link) with the given flags.
    ///
    /// # Errors
    /// What the system says: `ELOOP` for a link.
    pub fn open_at(&self, path: &RelPath, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_root() {
            return openat(&self.fd, c".", flags, Mode::empty());
        }
        self.resolve(path, flags).map(|(fd, _)| fd)
    }

    fn resolve(&self, path: &RelPath, flags: OFlags) -> Result<(OwnedFd, Vec<Loosened>)> {
        if self.openat2.load(Ordering::Relaxed) {
            let confined =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.fd, path.as_bytes(), flags, Mode::empty(), confined) {
                Ok(fd) => return Ok((fd, Vec::new())),
                Err(Errno::NOSYS | Errno::PERM) => self.openat2.store(false, Ordering::Relaxed),
                Err(Errno::ACCESS | Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        self.walk(path, flags)
    }

    /// Resolves name by name, loosening directories that this user owns but may not enter.
    fn walk(&self, path: &RelPath, last: OFlags) -> Result<(OwnedFd, Vec<Loosened>)> {
        let mut loosened = Vec::new();
        let mut at: Option<OwnedFd> = None;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            let flags = if names.peek().is_some() { PLACE } else { last };
            let dir = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let next = match openat(dir, name, flags, Mode::empty()) {
                Err(Errno::ACCESS) => {
                    loosened.push(Loosened::new(dir)?);
                    match openat(dir, name, flags, Mode::empty()) {
                        Err(Errno::ACCESS) => {
                            // The thing itself may not be opened: loosen it too, by a descriptor that needs no right.
                            let bare = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                            let itself = openat(dir, name, bare, Mode::empty())?;
                            loosened.push(Loosened::new(itself.as_fd())?);
                            openat(dir, name, flags, Mode::empty())?
                        }
                        other => other?,
                    }
                }
                other => other?,
            };
            at = Some(next);
        }
        at.map(|fd| (fd, loosened)).ok_or(Errno::INVAL)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory or file whose owner was given all rights for the time that this value lives.
#[derive(Debug)]
pub struct Loosened {
    fd: OwnedFd,
    key: (u64, u64),
}

/// What is loosened at the moment: how often, and the mode to go back to.
static LOOSE: Mutex<BTreeMap<(u64, u64), (usize, Mode)>> = Mutex::new(BTreeMap::new());

impl Loosened {
    /// Gives the owner all rights to what a descriptor stands for (never a link: those have no mode).
    ///
    /// # Errors
    /// When it belongs to somebody else, or is a link.
    pub fn new(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        if u32::from(stat.stx_mode) & 0o170_000 == 0o120_000 {
            return Err(Errno::ACCESS);
        }
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        let key = (device, stat.stx_ino);
        let mode = Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777);
        let fd = fd.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        let mut loose = LOOSE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = loose.get_mut(&key) {
            *count += 1;
            return Ok(Self { fd, key });
        }
        change_mode(fd.as_fd(), mode | Mode::RWXU).map_err(|_| Errno::ACCESS)?;
        loose.insert(key, (1, mode));
        Ok(Self { fd, key })
    }
}

impl Drop for Loosened {
    fn drop(&mut self) {
        let mut loose = LOOSE.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((count, mode)) = loose.get_mut(&self.key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            let mode = *mode;
            loose.remove(&self.key);
            if let Err(error) = change_mode(self.fd.as_fd(), mode) {
                tracing::warn!(%error, "a directory's mode could not be restored");
            }
        }
    }
}

/// Does something in a directory; where this user may not, but owns it, with its mode loosened for the moment.
///
/// # Errors
/// What the system says.
pub fn allowed<T>(dir: BorrowedFd<'_>, act: impl Fn() -> Result<T>) -> Result<T> {
    match act() {
        Err(Errno::ACCESS) => {
            let _loose = Loosened::new(dir)?;
            act()
        }
        other => other,
    }
}

/// Changes the mode of what a descriptor stands for, also one opened with `O_PATH`, which `fchmod` refuses. The link
/// below `/proc/self/fd` leads to exactly that inode, whatever its name stands for by now.
///
/// # Errors
/// What the system says.
pub fn change_mode(fd: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)
}

/// The class of failure that an error number is.
#[must_use]
pub fn fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Fault::Full,
        Errno::ROFS => Fault::ReadOnly,
        Errno::ACCESS | Errno::PERM => Fault::Denied,
        Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL => Fault::Unrepresentable,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Fault::Changed,
        _ => Fault::Io,
    }
}

/// An error of the store: what was attempted, and what the system said.
#[must_use]
pub fn failed(attempt: &str, errno: Errno) -> StoreError {
    StoreError::new(fault(errno), format!("cannot {attempt}: {errno}"))
}

#[cfg(test)]
mod tests;
