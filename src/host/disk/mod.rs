//! A share on a real directory: stage, make durable, rename into view, make the directory durable.
//!
//! It holds descriptors of the root and of its private directories from the start; a name that is swapped for a link
//! later leads nowhere.

mod commit;
mod look;
mod stage;
mod trash;
mod upload;

use crate::engine::ports::{Attributes, Removal, Scanned, Store, StoreError};
use crate::engine::source::Found;
use crate::host::clock;
use crate::host::random::{self, RandomError};
use crate::host::root::Root;
use crate::index::Stat;
use crate::model::{Mtime, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, flock, mkdirat,
    openat, unlinkat,
};
use rustix::io::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use stage::Staged;
pub use upload::DiskUpload;

/// A directory that is opened for reading its names, or for `fsync`.
const READ_DIR: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How many things are made durable one by one; more are made durable by one `syncfs`.
const FEW: usize = 16;

/// One share on a directory.
#[derive(Debug)]
pub struct DiskStore {
    root: Root,
    private: OwnedFd,
    area: Arc<Area>,
    trash: Arc<OwnedFd>,
    /// For the sweeper only: somebody may remove the directory, and it is made again.
    kept: Arc<OwnedFd>,
    /// Whether something was moved to the trash since it was emptied.
    rubbish: AtomicBool,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// What is acknowledged survives a loss of power.
    Full,
    /// What is acknowledged survives the death of the server, but not of the machine.
    None,
}

/// The stage: a directory that nobody else looks into, and the names in it.
#[derive(Debug)]
struct Area {
    fd: OwnedFd,
    /// Of this run, so that a name never meets one of another run.
    prefix: String,
    next: AtomicU64,
    durability: Durability,
    /// How many staged files keep their descriptor.
    open: AtomicU64,
    /// How often something could not be made durable. The system tells a failed write once only, and perhaps to
    /// another who waits: what was staged before a failure is not brought into view after it.
    failures: AtomicU64,
}

impl Area {
    fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    /// Notes when something could not be made durable.
    fn noted<T>(&self, done: Result<T>) -> Result<T> {
        if done.is_err() {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
        done
    }

    fn name(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}{number:x}", self.prefix)
    }
}

/// Why a directory cannot be used as a share.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has it.
    #[error("another server uses this directory")]
    Locked,
    /// `.syncd` is not a directory.
    #[error("`.syncd` in it is not a directory")]
    Private,
    /// No random name for the stage.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Anything else that the system said.
    #[error("cannot {0}: {1}")]
    System(&'static str, Errno),
}

/// The private directory of a share or of a directory of shares, made if it is missing, and held: its lock is what
/// keeps a second server away.
#[derive(Debug)]
pub struct Private {
    fd: OwnedFd,
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

/// Opens a directory directly below another, making it if it is missing; a link is refused.
fn subdirectory(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    match openat(dir, name, READ_DIR, Mode::empty()) {
        Err(Errno::NOENT) => {
            match mkdirat(dir, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            openat(dir, name, READ_DIR, Mode::empty())
        }
        other => other,
    }
}

impl DiskStore {
    /// Opens a share: its stage is emptied, what was left to be removed by an earlier run stays for the sweeper.
    ///
    /// # Errors
    /// When the stage cannot be made or emptied.
    pub fn open(
        root: Root,
        private: &Private,
        durability: Durability,
    ) -> std::result::Result<Self, OpenError> {
        let system = |attempt| move |errno| OpenError::System(attempt, errno);
        let held = private.fd.try_clone();
        let held = held.map_err(|_| OpenError::System("hold `.syncd`", Errno::MFILE))?;
        let stage = subdirectory(held.as_fd(), "stage").map_err(system("open the stage"))?;
        let trash = subdirectory(held.as_fd(), "trash").map_err(system("open the trash"))?;
        let kept = subdirectory(held.as_fd(), "kept").map_err(system("open `kept`"))?;
        trash::empty(stage.as_fd()).map_err(system("empty the stage"))?;
        let area = Area {
            fd: stage,
            prefix: random::hex::<4>()?,
            next: AtomicU64::new(0),
            durability,
            open: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        Ok(Self {
            root,
            private: held,
            area: Arc::new(area),
            trash: Arc::new(trash),
            kept: Arc::new(kept),
            rubbish: AtomicBool::new(true),
        })
    }

    /// Work that removes what was moved to the trash or kept for 30 days, for a thread of its own; it may take long. It does
    /// not hold the directory's lock.
    pub fn sweeper(&self) -> impl Fn() + Send + 'static {
        let (trash, kept) = (Arc::clone(&self.trash), Arc::clone(&self.kept));
        move || {
            if let Err(error) = trash::expire(kept.as_fd(), trash.as_fd(), clock::wall()) {
                tracing::warn!(%error, "what was kept too long could not be removed");
            }
            if let Err(error) = trash::empty(trash.as_fd()) {
                tracing::warn!(%error, "the trash could not be emptied");
            }
        }
    }

    /// Whether there is something for the sweeper that was not there when this was asked last.
    pub fn take_rubbish(&self) -> bool {
        self.rubbish.swap(false, Ordering::Relaxed)
    }
}

/// The time stamps that leave the access time alone.
fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

impl Store for DiskStore {
    type Staged = Staged;
    type Upload = DiskUpload;

    fn lstat(&self, path: &RelPath) -> std::result::Result<Option<Found>, StoreError> {
        look::lstat(&self.root, path)
    }

    fn scan(&self, dirs: &[RelPath]) -> Vec<std::result::Result<Vec<Scanned>, StoreError>> {
        look::scan(&self.root, dirs)
    }

    fn read(
        &self,
        path: &RelPath,
        sink: &mut dyn FnMut(&[u8]),
    ) -> std::result::Result<Found, StoreError> {
        look::read(&self.root, path, sink)
    }

    fn stage_file(
        &self,
        content: &[u8],
        attributes: Attributes,
    ) -> std::result::Result<Staged, StoreError> {
        stage::file(&self.area, content, attributes)
    }

    fn stage_copy(
        &self,
        from: &RelPath,
        attributes: Attributes,
        sink: &mut dyn FnMut(&[u8]),
    ) -> std::result::Result<Staged, StoreError> {
        stage::copy(&self.area, &self.root, from, attributes, sink)
    }

    fn stage_dir(&self, attributes: Attributes) -> std::result::Result<Staged, StoreError> {
        stage::dir(&self.area, attributes)
    }

    fn stage_symlink(
        &self,
        target: &[u8],
        mtime: Mtime,
    ) -> std::result::Result<Staged, StoreError> {
        stage::symlink(&self.area, target, mtime)
    }

    fn dress(
        &self,
        staged: &Staged,
        attributes: Attributes,
    ) -> std::result::Result<(), StoreError> {
        staged.dress(attributes)
    }

    fn sync_staged(&self, staged: &[&Staged]) -> std::result::Result<(), StoreError> {
        stage::sync(&self.area, staged)
    }

    fn place(
        &self,
        mut staged: Staged,
        path: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        let stat = self.place_staged(&staged, path, displaced)?;
        staged.here = false;
        Ok(stat)
    }

    fn discard(&self, staged: Staged) {
        drop(staged);
    }

    fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        self.rename_over(from, to, displaced)
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> std::result::Result<(Stat, Stat), StoreError> {
        self.exchange_both(a, b)
    }

    fn remove(&self, path: &RelPath, how: &Removal) -> std::result::Result<(), StoreError> {
        self.take_away(path, how)
    }

    fn set_attributes(
        &self,
        path: &RelPath,
        attributes: Attributes,
    ) -> std::result::Result<Stat, StoreError> {
        self.change_attributes(path, attributes)
    }

    fn restore(&self, dirs: &[(RelPath, Option<Mtime>)]) -> std::result::Result<(), StoreError> {
        self.restore_times(dirs)
    }

    fn sync_all(&self) -> std::result::Result<(), StoreError> {
        self.sync_everything()
    }

    fn settle(
        &self,
        dirs: &[(RelPath, Option<Mtime>)],
        files: &[RelPath],
    ) -> std::result::Result<(), StoreError> {
        self.settle_group(dirs, files)
    }

    fn open_upload(&self, base: Option<&RelPath>) -> std::result::Result<DiskUpload, StoreError> {
        DiskUpload::open(&self.area, &self.root, base)
    }

    fn finish_upload(&self, upload: DiskUpload) -> std::result::Result<Staged, StoreError> {
        Ok(upload.finish())
    }
}

/// Removes a name that is not a directory; a failure is only worth a line in the log.
fn remove_quietly(dir: BorrowedFd<'_>, name: &str, flags: AtFlags) {
    match unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => tracing::warn!(%error, name, "a staged file could not be removed"),
    }
}

#[cfg(test)]
mod tests;
