//! Bringing things into view and taking them out of it. Every step is one call on the descriptor of a parent that was
//! resolved below the root.

use super::{DiskStore, Durability, FEW, READ_DIR, Staged, look, subdirectory, times};
use crate::engine::ports::{Attributes, Removal, StoreError};
use crate::engine::source::FoundKind;
use crate::host::root::{Loosened, allowed, change_mode, failed};
use crate::index::Stat;
use crate::model::{Fault, Mtime, Name, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fchmod, fsync, mkdirat, openat, renameat_with, syncfs,
    unlinkat, utimensat,
};
use rustix::io::{Errno, Result};
use std::sync::atomic::Ordering;

/// Names that a kept path is tried under before it is given up, when earlier ones are taken.
const KEEP_TRIES: u32 = 1000;

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

impl Spot<'_> {
    fn stat(self) -> Result<Stat> {
        allowed(self.dir, || look::found_at(self.dir, self.name)).map(|found| found.stat)
    }

    /// Loosens a directory that is to be moved: its `..` entry changes, which needs the right to write it.
    fn loosen_directory(self) -> Option<Loosened> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(self.dir, self.name, flags, Mode::empty()).ok()?;
        Loosened::new(dir.as_fd()).ok()
    }
}

/// Renames; where this user may not, but owns the directories, with their modes loosened for the moment.
pub(super) fn shift(from: Spot<'_>, to: Spot<'_>, flags: RenameFlags) -> Result<()> {
    let go = || renameat_with(from.dir, from.name, to.dir, to.name, flags);
    match go() {
        Err(Errno::ACCESS) => {
            let _dirs = (Loosened::new(from.dir), Loosened::new(to.dir));
            let _moved = (from.loosen_directory(), to.loosen_directory());
            go()
        }
        other => other,
    }
}

/// An error of a rename: leaving the file system is no reason to compare and try again.
fn refused(attempt: &str, errno: Errno) -> StoreError {
    match errno {
        Errno::XDEV => StoreError::new(
            Fault::Io,
            format!("cannot {attempt}: another file system is mounted there"),
        ),
        // A directory into itself, or over what holds it: the trees differ from what the peer thinks.
        Errno::INVAL => StoreError::changed(format!("cannot {attempt}: {errno}")),
        errno => failed(attempt, errno),
    }
}

impl DiskStore {
    fn stage_spot<'a>(&'a self, name: &'a str) -> Spot<'a> {
        Spot {
            dir: self.area.fd.as_fd(),
            name: name.as_bytes(),
        }
    }

    pub(super) fn place_staged(
        &self,
        staged: &Staged,
        path: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        let go = || {
            if staged.is_doubtful() {
                return Err(Errno::IO);
            }
            let (dir, name) = self.root.parent(path)?;
            let to = Spot {
                dir: dir.as_fd(),
                name: name.as_bytes(),
            };
            self.put(&staged.name, to, path, displaced)?;
            to.stat()
        };
        go().map_err(|errno| refused("bring it into view", errno))
    }

    /// Moves a thing of the stage to its place; what cannot be replaced by a rename changes places with it first.
    fn put(&self, staged: &str, to: Spot<'_>, path: &RelPath, displaced: &Removal) -> Result<()> {
        let from = self.stage_spot(staged);
        match shift(from, to, RenameFlags::empty()) {
            Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
        match shift(from, to, RenameFlags::EXCHANGE) {
            Ok(()) => self.dispose(from, path, displaced),
            // A file system that cannot exchange: the path is absent for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.dispose(to, path, displaced)?;
                shift(from, to, RenameFlags::empty())
            }
            other => other,
        }
    }

    /// Takes a thing that was at `path` to the trash or to where it is kept.
    fn dispose(&self, from: Spot<'_>, path: &RelPath, how: &Removal) -> Result<()> {
        match how {
            Removal::Now => match unlinkat(from.dir, from.name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => self.to_trash(from),
                other => other,
            },
            Removal::Aside => self.to_trash(from),
            Removal::Keep(folder) => self.keep(from, path, folder),
        }
    }

    fn to_trash(&self, from: Spot<'_>) -> Result<()> {
        let name = self.area.name();
        let to = Spot {
            dir: self.trash.as_fd(),
            name: name.as_bytes(),
        };
        self.rubbish.store(true, Ordering::Relaxed);
        shift(from, to, RenameFlags::empty())
    }

    fn keep(&self, from: Spot<'_>, path: &RelPath, folder: &Name) -> Result<()> {
        let kept = subdirectory(self.private.as_fd(), "kept")?;
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        let mut dir = child(kept.as_fd(), folder.as_bytes())?;
        for part in parent.components() {
            dir = child(dir.as_fd(), part)?;
        }
        let mut bytes = name.as_bytes().to_vec();
        for attempt in 1..=KEEP_TRIES {
            let to = Spot {
                dir: dir.as_fd(),
                name: &bytes,
            };
            match shift(from, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                // Not every file system can refuse to replace; names are tried one by one all the same.
                Err(Errno::INVAL) if to.stat() == Err(Errno::NOENT) => {
                    return shift(from, to, RenameFlags::empty());
                }
                Err(Errno::INVAL) => {}
                other => return other,
            }
            bytes = name
                .as_bytes()
                .get(..240)
                .unwrap_or(name.as_bytes())
                .to_vec();
            bytes.extend_from_slice(format!("~{attempt}").as_bytes());
        }
        Err(Errno::EXIST)
    }

    pub(super) fn rename_over(
        &self,
        from: &RelPath,
        to: &RelPath,
        displaced: &Removal,
    ) -> std::result::Result<Stat, StoreError> {
        let go = || {
            let (from_dir, from_name) = self.root.parent(from)?;
            let (to_dir, to_name) = self.root.parent(to)?;
            let source = Spot {
                dir: from_dir.as_fd(),
                name: from_name.as_bytes(),
            };
            let target = Spot {
                dir: to_dir.as_fd(),
                name: to_name.as_bytes(),
            };
            match shift(source, target, RenameFlags::empty()) {
                Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                    // Through the stage: `from` ends, and `to` goes from its old thing to the new one.
                    let name = self.area.name();
                    let between = self.stage_spot(&name);
                    shift(source, between, RenameFlags::empty())?;
                    self.put(&name, target, to, displaced).inspect_err(|_| {
                        if let Err(errno) = shift(between, source, RenameFlags::NOREPLACE) {
                            tracing::warn!(%errno, path = %from, "what could not be moved is lost");
                        }
                    })?;
                }
                other => other?,
            }
            target.stat()
        };
        go().map_err(|errno| refused("move it", errno))
    }

    pub(super) fn exchange_both(
        &self,
        a: &RelPath,
        b: &RelPath,
    ) -> std::result::Result<(Stat, Stat), StoreError> {
        let go = || {
            let (a_dir, a_name) = self.root.parent(a)?;
            let (b_dir, b_name) = self.root.parent(b)?;
            let one = Spot {
                dir: a_dir.as_fd(),
                name: a_name.as_bytes(),
            };
            let other = Spot {
                dir: b_dir.as_fd(),
                name: b_name.as_bytes(),
            };
            shift(one, other, RenameFlags::EXCHANGE)?;
            Ok((one.stat()?, other.stat()?))
        };
        go().map_err(|errno| refused("exchange them", errno))
    }

    pub(super) fn take_away(
        &self,
        path: &RelPath,
        how: &Removal,
    ) -> std::result::Result<(), StoreError> {
        let go = || {
            let (dir, name) = self.root.parent(path)?;
            let spot = Spot {
                dir: dir.as_fd(),
                name: name.as_bytes(),
            };
            allowed(dir.as_fd(), || self.dispose(spot, path, how))
        };
        match go() {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(refused("remove it", errno)),
        }
    }

    pub(super) fn change_attributes(
        &self,
        path: &RelPath,
        attributes: Attributes,
    ) -> std::result::Result<Stat, StoreError> {
        let go = || {
            let (dir, name) = self.root.parent(path)?;
            let spot = Spot {
                dir: dir.as_fd(),
                name: name.as_bytes(),
            };
            allowed(spot.dir, || {
                set_mode(spot, attributes.mode)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                utimensat(spot.dir, spot.name, &times(attributes.mtime), flags)
            })?;
            spot.stat()
        };
        go().map_err(|errno| failed("set mode and time", errno))
    }

    /// Gives directories their times back.
    pub(super) fn restore_times(
        &self,
        dirs: &[(RelPath, Option<Mtime>)],
    ) -> std::result::Result<(), StoreError> {
        let go = || {
            for (path, mtime) in dirs {
                if let Some(mtime) = mtime
                    && let Some(dir) = present(self.open_dir(path))?
                {
                    rustix::fs::futimens(&dir, &times(*mtime))?;
                }
            }
            Ok(())
        };
        go().map_err(|errno| failed("set the time of a directory", errno))
    }

    pub(super) fn sync_everything(&self) -> std::result::Result<(), StoreError> {
        match self.area.durability {
            Durability::None => Ok(()),
            Durability::Full => {
                let done = self.area.noted(syncfs(&self.area.fd));
                done.map_err(|errno| failed("make the change durable", errno))
            }
        }
    }

    pub(super) fn settle_group(
        &self,
        dirs: &[(RelPath, Option<Mtime>)],
        files: &[RelPath],
    ) -> std::result::Result<(), StoreError> {
        if dirs.len().saturating_add(files.len()) > FEW {
            self.restore_times(dirs)?;
            return self.sync_everything();
        }
        let durable = self.area.durability == Durability::Full;
        let go = || {
            for (path, mtime) in dirs {
                if let Some(dir) = present(self.open_dir(path))? {
                    if let Some(mtime) = mtime {
                        rustix::fs::futimens(&dir, &times(*mtime))?;
                    }
                    if durable {
                        fsync(&dir)?;
                    }
                }
            }
            for path in files.iter().filter(|_| durable) {
                let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
                // A link has no descriptor of its own to sync; its directory's journal entry holds its time.
                if let Some(file) = present(self.root.open_at(path, flags))? {
                    fsync(&file)?;
                }
            }
            Ok(())
        };
        self.area
            .noted(go())
            .map_err(|errno| failed("make the change durable", errno))
    }

    fn open_dir(&self, path: &RelPath) -> Result<OwnedFd> {
        self.root.open_at(path, READ_DIR)
    }
}

/// Leaves out what somebody else removed or replaced meanwhile.
fn present(opened: Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the mode of a file or directory through a descriptor of it; a link has none.
fn set_mode(spot: Spot<'_>, mode: u32) -> Result<()> {
    let mode = Mode::from_raw_mode(mode);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = openat(spot.dir, spot.name, flags, Mode::empty())?;
    match look::found_open(there.as_fd())?.kind {
        FoundKind::Symlink { .. } => return Ok(()),
        FoundKind::Special(_) => return Err(Errno::NOTDIR),
        _ => {}
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(spot.dir, spot.name, flags, Mode::empty()) {
        Ok(file) => fchmod(&file, mode),
        Err(Errno::ACCESS) => change_mode(there.as_fd(), mode),
        Err(errno) => Err(errno),
    }
}

/// The directory of a name, made if it is missing.
fn child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    match mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    openat(dir, name, READ_DIR, Mode::empty())
}
