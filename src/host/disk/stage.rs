//! The stage: things are made complete here, out of sight, with short names of this run.

use super::leftovers::Remains;
use super::{Area, Durability, FEW, look, remove_quietly, times};
use crate::engine::ports::{Attributes, StoreError};
use crate::host::root::{Root, failed};
use crate::model::{Fault, Mtime, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fsync, futimens, mkdirat, openat, symlinkat, syncfs, utimensat,
};
use rustix::io::{Errno, Result};
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many staged files of the process keep their descriptor, so that a small group is made durable without opening
/// them again; and at most so large a part of all descriptors, since everything else needs some, too.
const KEPT_OPEN: u64 = 256;
const PART_OF_ALL: u64 = 8;

/// How many do.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// Why nothing can be made in the stage. It has no names but its own: one that cannot be made there because something is
/// missing means that the stage is gone, and the share with it.
pub(super) fn unstaged(attempt: &str, errno: Errno) -> StoreError {
    if errno != Errno::NOENT {
        return failed(attempt, errno);
    }
    let message = "the share's directory was removed: put it back if it was not meant to go, and start the server again";
    StoreError::new(Fault::ReadOnly, message)
}

/// Something in the stage; dropping it removes it from there, or leaves what was uploaded for a later upload.
#[derive(Debug)]
pub struct Staged {
    area: Arc<Area>,
    pub(super) name: String,
    open: Option<OwnedFd>,
    is_dir: bool,
    /// How many failures the area had when it was begun.
    failures: u64,
    /// What is left of it when it was uploaded and is not used.
    remains: Option<Remains>,
    /// Cleared when it was moved into view.
    pub(super) here: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(remains) = &self.remains
            && self.here
        {
            remains.leave(&self.name, self.failures);
            self.here = false;
        }
        if self.open.take().is_some() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
        if self.here {
            let flags = if self.is_dir {
                AtFlags::REMOVEDIR
            } else {
                AtFlags::empty()
            };
            remove_quietly(self.area.fd.as_fd(), &self.name, flags);
        }
    }
}

impl Staged {
    fn new(area: &Arc<Area>, name: String, is_dir: bool) -> Self {
        Self {
            area: Arc::clone(area),
            name,
            open: None,
            is_dir,
            failures: area.failures(),
            remains: None,
            here: true,
        }
    }

    fn keep_open(&mut self, file: OwnedFd) {
        let all = getrlimit(Resource::Nofile).current;
        let most = all.map_or(KEPT_OPEN, |all| (all / PART_OF_ALL).min(KEPT_OPEN));
        if OPEN.fetch_add(1, Ordering::Relaxed) < most {
            self.open = Some(file);
        } else {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A finished upload, begun when the area had so many failures.
    pub(super) fn from_upload(
        area: &Arc<Area>,
        name: String,
        file: Option<OwnedFd>,
        failures: u64,
        remains: Option<Remains>,
    ) -> Self {
        let mut staged = Self::new(area, name, false);
        staged.failures = failures;
        staged.remains = remains;
        if let Some(file) = file {
            staged.keep_open(file);
        }
        staged
    }

    /// Removes it: nobody has a use for it.
    pub(super) fn discard(mut self) {
        self.remains = None;
    }

    /// Whether something could not be made durable since it was begun: its content may be lost.
    pub(super) fn is_doubtful(&self) -> bool {
        self.failures != self.area.failures()
    }

    pub(super) fn dress(&self, attributes: Attributes) -> std::result::Result<(), StoreError> {
        let set = || match &self.open {
            Some(file) => dress(file.as_fd(), attributes),
            None => {
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&self.area.fd, &*self.name, flags, Mode::empty())?;
                dress(file.as_fd(), attributes)
            }
        };
        set().map_err(|errno| failed("set mode and time", errno))
    }
}

/// Sets mode and time on an open file. The time is last: nothing that follows may change it.
fn dress(file: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
    fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    futimens(file, &times(attributes.mtime))
}

/// Makes an empty file in the stage.
pub(super) fn create(area: &Area, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&area.fd, name, flags, Mode::RUSR | Mode::WUSR)
}

pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

pub(super) fn file(
    area: &Arc<Area>,
    content: &[u8],
    attributes: Attributes,
) -> std::result::Result<Staged, StoreError> {
    let make = || {
        let name = area.name();
        let file = create(area, &name)?;
        let mut staged = Staged::new(area, name, false);
        write_all(file.as_fd(), content)?;
        dress(file.as_fd(), attributes)?;
        staged.keep_open(file);
        Ok(staged)
    };
    make().map_err(|errno| unstaged("stage it", errno))
}

pub(super) fn copy(
    area: &Arc<Area>,
    root: &Root,
    from: &RelPath,
    attributes: Attributes,
    sink: &mut dyn FnMut(&[u8]),
) -> std::result::Result<Staged, StoreError> {
    let stage = |errno| unstaged("stage a copy", errno);
    let (source, before) = look::open_regular(root, from)?;
    let name = area.name();
    let file = create(area, &name).map_err(stage)?;
    let mut staged = Staged::new(area, name, false);
    let mut piece = vec![0u8; look::piece_size(&before)];
    loop {
        match rustix::io::read(&source, &mut *piece) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = piece.get(..count).unwrap_or_default();
                sink(bytes);
                write_all(file.as_fd(), bytes).map_err(stage)?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("read the source of a copy", errno)),
        }
    }
    dress(file.as_fd(), attributes).map_err(stage)?;
    staged.keep_open(file);
    Ok(staged)
}

pub(super) fn dir(
    area: &Arc<Area>,
    attributes: Attributes,
) -> std::result::Result<Staged, StoreError> {
    let make = || {
        let name = area.name();
        mkdirat(&area.fd, &*name, Mode::RWXU)?;
        let staged = Staged::new(area, name, true);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(&area.fd, &*staged.name, flags, Mode::empty())?;
        dress(dir.as_fd(), attributes)?;
        Ok(staged)
    };
    make().map_err(|errno| unstaged("stage a directory", errno))
}

pub(super) fn symlink(
    area: &Arc<Area>,
    target: &[u8],
    mtime: Mtime,
) -> std::result::Result<Staged, StoreError> {
    let make = || {
        let name = area.name();
        symlinkat(target, &area.fd, &*name)?;
        let staged = Staged::new(area, name, false);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        utimensat(&area.fd, &*staged.name, &times(mtime), flags)?;
        Ok(staged)
    };
    make().map_err(|errno| unstaged("stage a symbolic link", errno))
}

pub(super) fn sync(area: &Area, staged: &[&Staged]) -> std::result::Result<(), StoreError> {
    let files = || staged.iter().filter_map(|one| one.open.as_ref());
    let each = staged.len() <= FEW && files().count() == staged.len();
    let done = match staged {
        _ if area.durability == Durability::None => Ok(()),
        [] => Ok(()),
        _ if each => files().try_for_each(fsync),
        _ => syncfs(&area.fd),
    };
    area.noted(done)
        .map_err(|errno| failed("make the stage durable", errno))
}
