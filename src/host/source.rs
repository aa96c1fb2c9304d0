//! The tree that a client mirrors, on a real disk: looked at below one open root, never followed through a link, never
//! changed.
//!
//! A directory is found by its path and accepted only as the inode that it is known to be, so that what is said of
//! "`a/b`" is said of the directory that the caller means, wherever it has been moved meanwhile. Descriptors of the
//! directories used last are kept for that.

mod hidden;
mod root;

pub use hidden::is_own;
pub use root::SourceRoot;

use self::hidden::Hidden;
use crate::engine::source::{Found, FoundKind, Place, RootId, Source, SourceError};
use crate::host::mounts::Mounts;
use crate::host::setid::SetIds;
use crate::host::watch::Watcher;
use crate::index::{NodeId, Stat};
use crate::model::{Mtime, Name, PERMISSION_BITS, RelPath};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// How many descriptors of directories are kept.
const KEPT: usize = 32;
/// The directory at the top that belongs to the program.
const PRIVATE: &[u8] = b".syncd";

fn open_file_at(dir: impl AsFd, name: &Name) -> Result<(File, Found), SourceError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty()).map_err(
            |error| match error {
                Errno::LOOP | Errno::NXIO | Errno::ISDIR => SourceError::Changed,
                Errno::NOENT | Errno::NOTDIR => SourceError::Gone,
                other => {
                    SourceError::Failed(format!("cannot open it: {}", std::io::Error::from(other)))
                }
            },
        )?;
    let found = stat_fd(&fd).map_err(|error| SourceError::Failed(error.to_string()))?;
    match found.kind {
        FoundKind::File { .. } => Ok((File::from(fd), found)),
        _ => Err(SourceError::Changed),
    }
}

/// What an open file or directory is.
///
/// # Errors
/// When the system refuses.
pub fn stat_fd(fd: impl AsFd) -> std::io::Result<Found> {
    let statx = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, MASK)?;
    Ok(found(&statx, None))
}

/// What a file is that was found as `before`, but for its mode: not all bits may be mirrored, and one that changed shows in the
/// change time.
///
/// # Errors
/// When the system refuses.
pub fn stat_again(fd: impl AsFd, before: &Found) -> std::io::Result<Found> {
    let mut now = stat_fd(fd)?;
    now.mode = before.mode;
    Ok(now)
}

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn nanoseconds(seconds: i64, nanos: u32) -> i64 {
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(i64::from(nanos))
}

fn found(statx: &Statx, target: Option<Box<[u8]>>) -> Found {
    use rustix::fs::FileType;
    let mode = u32::from(statx.stx_mode);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => FoundKind::Directory,
        FileType::RegularFile => FoundKind::File {
            size: statx.stx_size,
        },
        FileType::Symlink => FoundKind::Symlink {
            target: target.unwrap_or_default(),
        },
        FileType::Fifo => FoundKind::Special("a pipe"),
        FileType::Socket => FoundKind::Special("a socket"),
        _ => FoundKind::Special("a device"),
    };
    let birth = if statx.stx_mask & StatxFlags::BTIME.bits() == 0 {
        0
    } else {
        nanoseconds(statx.stx_btime.tv_sec, statx.stx_btime.tv_nsec)
    };
    let link = matches!(kind, FoundKind::Symlink { .. });
    let mount = matches!(kind, FoundKind::Directory)
        && statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Found {
        kind,
        mode: if link { 0 } else { mode & PERMISSION_BITS },
        mtime: Mtime {
            secs: statx.stx_mtime.tv_sec,
            nanos: statx.stx_mtime.tv_nsec,
        },
        stat: Stat {
            inode: statx.stx_ino,
            birth,
            ctime: nanoseconds(statx.stx_ctime.tv_sec, statx.stx_ctime.tv_nsec),
            links: statx.stx_nlink,
            mount,
        },
    }
}

fn directory_error(error: Errno) -> SourceError {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => SourceError::Displaced,
        other => SourceError::Failed(format!(
            "cannot open the directory: {}",
            std::io::Error::from(other)
        )),
    }
}

fn look_at(dir: impl AsFd, name: &[u8]) -> Result<Option<Found>, SourceError> {
    let dir = dir.as_fd();
    let statx = match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, MASK) {
        Ok(statx) => statx,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => {
            return Err(SourceError::Failed(format!(
                "cannot look at it: {}",
                std::io::Error::from(error)
            )));
        }
    };
    let mut found = found(&statx, None);
    if let FoundKind::Symlink { target } = &mut found.kind {
        match rustix::fs::readlinkat(dir, name, Vec::new()) {
            Ok(read) => *target = read.into_bytes().into(),
            // It is no link any more: an event will tell what it is.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(error) => {
                return Err(SourceError::Failed(format!(
                    "cannot read it: {}",
                    std::io::Error::from(error)
                )));
            }
        }
    }
    Ok(Some(found))
}

/// All entries of an open directory, which is at `path` below the root.
fn list_at(
    dir: impl AsFd,
    path: &RelPath,
    (setids, hidden): (&SetIds, &Hidden),
) -> Result<Vec<(Name, Found)>, SourceError> {
    let dir = dir.as_fd();
    let failed = |error: Errno| {
        SourceError::Failed(format!("cannot list it: {}", std::io::Error::from(error)))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable =
        rustix::fs::openat(dir, ".", flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => SourceError::Displaced,
            other => failed(other),
        })?;
    let mut names = Vec::new();
    for entry in Dir::new(readable).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = entry.file_name().to_bytes();
        if path.is_root() && bytes == PRIVATE {
            continue;
        }
        names.extend(Name::new(bytes).ok());
    }
    names.sort_unstable();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        if let Some(mut found) = look_at(dir, name.as_bytes())? {
            hidden.entry(path, &name, &mut found);
            setids.entry(path, &name, &mut found);
            entries.push((name, found));
        }
    }
    setids.holds(path, &entries);
    Ok(entries)
}

/// A source tree on a disk.
#[derive(Debug)]
pub struct DiskSource {
    root: SourceRoot,
    watcher: Watcher,
    kept: VecDeque<((u64, i64), Arc<OwnedFd>)>,
    /// The root for which the watches are.
    seen: Option<RootId>,
    mounts: Mounts,
}

impl DiskSource {
    /// The tree below a root, watched by a watcher.
    #[must_use]
    pub fn new(root: SourceRoot, watcher: Watcher) -> Self {
        Self {
            mounts: Mounts::below(root.path()),
            root,
            watcher,
            kept: VecDeque::new(),
            seen: None,
        }
    }

    /// Lets go of the descriptors that were kept, so that an idle program holds no directory open but the root.
    pub fn relax(&mut self) {
        self.kept.clear();
    }

    /// How many directories are watched.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.watcher.len()
    }

    fn dir(&mut self, place: &Place) -> Result<Arc<OwnedFd>, SourceError> {
        if let Some(identity) = place.identity
            && let Some((_, fd)) = self.kept.iter().find(|(kept, _)| *kept == identity)
        {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.root.open_dir(place)?);
        if let Some(identity) = place.identity {
            if self.kept.len() >= KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back((identity, Arc::clone(&fd)));
        }
        Ok(fd)
    }
}

impl Source for DiskSource {
    fn root(&mut self) -> Result<RootId, SourceError> {
        let id = self.root.check().map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => SourceError::Gone,
            _ => SourceError::Failed(error.to_string()),
        })?;
        if self.seen != Some(id) {
            self.seen = Some(id);
            self.kept.clear();
            self.watcher.clear();
        }
        Ok(id)
    }

    fn mounts_changed(&mut self) -> bool {
        self.mounts.changed(self.root.path())
    }

    fn look(&mut self, dir: &Place, name: &Name) -> Result<Option<Found>, SourceError> {
        let mut found = look_at(&*self.dir(dir)?, name.as_bytes())?;
        match &mut found {
            Some(found) => self.root.adjust(&dir.path, name, found),
            None => {
                if let Ok(path) = dir.path.join(name) {
                    self.root.setids.gone(&path);
                }
            }
        }
        Ok(found)
    }

    fn look_dir(&mut self, dir: &Place) -> Result<Found, SourceError> {
        let found = stat_fd(&*self.dir(dir)?);
        let mut found = found.map_err(|error| SourceError::Failed(error.to_string()))?;
        self.root.setids.path(dir.path.clone(), &mut found);
        Ok(found)
    }

    fn list(&mut self, dir: &Place) -> Result<Vec<(Name, Found)>, SourceError> {
        let fd = self.dir(dir)?;
        list_at(&*fd, &dir.path, (&self.root.setids, &self.root.hidden))
    }

    fn read(
        &mut self,
        dir: &Place,
        name: &Name,
        limit: u64,
    ) -> Result<(Found, Vec<u8>), SourceError> {
        let (file, before) = open_file_at(&*self.dir(dir)?, name)?;
        let FoundKind::File { size } = before.kind else {
            return Err(SourceError::Changed);
        };
        if size > limit {
            return Err(SourceError::Changed);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        (&file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| SourceError::Failed(format!("cannot read it: {error}")))?;
        let mut after = stat_fd(&file).map_err(|error| SourceError::Failed(error.to_string()))?;
        if after != before || bytes.len() as u64 != size {
            return Err(SourceError::Changed);
        }
        self.root.setids.entry(&dir.path, name, &mut after);
        Ok((after, bytes))
    }

    fn watch(&mut self, dir: &Place, node: NodeId) -> Result<(), SourceError> {
        let fd = self.dir(dir)?;
        let found = stat_fd(&*fd).map_err(|error| SourceError::Failed(error.to_string()))?;
        self.watcher
            .watch(&*fd, (found.stat.inode, found.stat.birth), node)
    }

    fn unwatch(&mut self, node: NodeId) {
        self.watcher.unwatch(node);
    }
}

/// The path of a place for a person.
#[must_use]
pub fn shown(root: &Path, path: &RelPath) -> String {
    format!("{}/{path}", root.display())
}
