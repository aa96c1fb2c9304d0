//! A share on a real directory: stage, make durable, rename into view, make the directory durable.
//!
//! It holds descriptors of the root and of its private directories from the start; a name that is swapped for a link
//! later leads nowhere.

mod commit;
mod content;
mod direct;
mod leftovers;
mod look;
mod older;
mod private;
mod stage;
mod trash;
mod upload;

use crate::engine::ports::{Attributes, Leftover, Origin, Removal, Scanned, Store, StoreError};
use crate::engine::source::Found;
use crate::host::clock;
use crate::host::random::{self, RandomError};
use crate::host::root::Root;
use crate::index::Stat;
use crate::model::{LeftoverKey, Mtime, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, mkdirat, openat, unlinkat,
};
use rustix::io::{Errno, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub use content::DiskContent;
pub use direct::{DirectWrites, Job};
pub use private::Private;
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
    /// How often something could not be made durable. The system tells a failed write once only, and perhaps to
    /// another who waits: what was staged before a failure is not brought into view after it.
    failures: AtomicU64,
    /// Whether the file system takes direct writes, as far as is known.
    direct: AtomicBool,
    /// How many files are written directly.
    written_directly: AtomicUsize,
    leftovers: leftovers::Leftovers,
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
    /// Whether a path still leads to the directory.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        self.root.is_at(path)
    }

    /// Gives all that unfinished uploads have left up for what needs its room. Whether there was anything.
    pub fn make_room(&self) -> bool {
        self.area.make_room()
    }

    /// Opens a share: its stage is emptied of all but what uploads have left, what was left to be removed by an earlier run stays for the sweeper.
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
        let leftovers = leftovers::Leftovers::default();
        leftovers.load(&stage).map_err(system("read the stage"))?;
        trash::empty_but(stage.as_fd(), |name| leftovers.has(name))
            .map_err(system("empty the stage"))?;
        let area = Area {
            fd: stage,
            prefix: random::hex::<4>()?,
            next: AtomicU64::new(0),
            durability,
            failures: AtomicU64::new(0),
            direct: AtomicBool::new(durability == Durability::Full),
            written_directly: AtomicUsize::new(0),
            leftovers,
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
pub(in crate::host) fn times(mtime: Mtime) -> Timestamps {
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
        self.area
            .with_room(|| stage::file(&self.area, content, attributes))
    }

    fn stage_copy(
        &self,
        from: &RelPath,
        attributes: Attributes,
        sink: &mut dyn FnMut(&[u8]),
    ) -> std::result::Result<Staged, StoreError> {
        stage::copy(&self.area, &self.root, from, attributes, sink)
            .inspect_err(|error| self.area.relieve(error))
    }

    fn stage_dir(&self, attributes: Attributes) -> std::result::Result<Staged, StoreError> {
        self.area.with_room(|| stage::dir(&self.area, attributes))
    }

    fn stage_symlink(
        &self,
        target: &[u8],
        mtime: Mtime,
    ) -> std::result::Result<Staged, StoreError> {
        self.area
            .with_room(|| stage::symlink(&self.area, target, mtime))
    }

    fn dress(
        &self,
        staged: &Staged,
        attributes: Attributes,
    ) -> std::result::Result<(), StoreError> {
        staged.dress(attributes)
    }

    fn sync_staged(&self, staged: &[&Staged]) -> std::result::Result<(), StoreError> {
        stage::sync(&self.area, staged).inspect_err(|error| self.area.relieve(error))
    }

    fn place(
        &self,
        mut staged: Staged,
        path: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        let place = || self.place_staged(&staged, path, displaced);
        let stat = self.area.with_room(place)?;
        staged.here = false;
        self.area.forget(path);
        Ok(stat)
    }

    fn discard(&self, staged: Staged) {
        staged.discard();
    }

    fn rename(
        &self,
        from: &RelPath,
        to: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        let rename = || self.rename_over(from, to, displaced);
        let stat = self.area.with_room(rename)?;
        self.area.move_leftover(from, to);
        Ok(stat)
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> std::result::Result<(Stat, Stat), StoreError> {
        self.exchange_both(a, b)
    }

    fn remove(&self, path: &RelPath, how: &Removal) -> std::result::Result<(), StoreError> {
        self.area.forget(path);
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

    fn open_upload(&self, origin: &Origin<'_>) -> std::result::Result<DiskUpload, StoreError> {
        DiskUpload::open(&self.area, &self.root, origin)
    }

    fn leftovers(&self) -> Vec<LeftoverKey> {
        self.area.leftover_keys()
    }

    fn leftover(&self, path: &RelPath) -> Option<Leftover> {
        self.area.leftover(path)
    }

    fn read_leftover(
        &self,
        path: &RelPath,
        leftover: Leftover,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> std::result::Result<(), StoreError> {
        self.area.read_leftover(path, leftover, sink)
    }

    fn finish_upload(&self, upload: DiskUpload) -> std::result::Result<Staged, StoreError> {
        upload.finish()
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
