//! The tree that a client mirrors, on a real disk: looked at below one open root, never followed through a link, never
//! changed.
//!
//! A directory is found by its path and accepted only as the inode that it is known to be, so that what is said of
//! "`a/b`" is said of the directory that the caller means, wherever it has been moved meanwhile. Descriptors of the
//! directories used last are kept for that.

use crate::engine::source::{Found, FoundKind, Place, RootId, Source, SourceError};
use crate::host::watch::Watcher;
use crate::index::{NodeId, Stat};
use crate::model::{Mtime, Name, PERMISSION_BITS, RelPath};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// How many descriptors of directories are kept.
const KEPT: usize = 32;
/// The directory at the top that belongs to the program.
const PRIVATE: &[u8] = b".syncd";

/// The root of a source tree, found by its path. Clones share what is open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceRoot {
    path: Arc<Path>,
    open: Arc<RwLock<Option<Opened>>>,
}

/// The directory that is worked in.
#[derive(Clone, Debug)]
struct Opened {
    fd: Arc<OwnedFd>,
    id: RootId,
}

impl SourceRoot {
    /// A directory as the root. It need not be there yet: see [`SourceRoot::check`].
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.into(),
            open: Arc::default(),
        }
    }

    /// Opens a directory as the root.
    ///
    /// # Errors
    /// When it is no directory or cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let root = Self::at(path);
        root.check()?;
        Ok(root)
    }

    /// Which directory is at the path now. If that is another one, or another mount, than is worked in, it is opened.
    ///
    /// # Errors
    /// When nothing is there, or it cannot be opened.
    pub fn check(&self) -> std::io::Result<RootId> {
        let (found, statx) = stat_root(rustix::fs::CWD, &self.path)?;
        if !matches!(found.kind, FoundKind::Directory) {
            return Err(Errno::NOTDIR.into());
        }
        let fs = rustix::fs::statvfs(&*self.path)?.f_fsid;
        let now = root_id(&found, fs, statx.stx_mnt_id);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = open.as_ref().filter(|opened| opened.id == now) {
            return Ok(opened.id);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&*self.path, flags, Mode::empty())?;
        let (found, statx) = stat_root(&fd, Path::new(""))?;
        let fs = rustix::fs::fstatvfs(&fd)?.f_fsid;
        let id = root_id(&found, fs, statx.stx_mnt_id);
        *open = Some(Opened {
            fd: Arc::new(fd),
            id,
        });
        Ok(id)
    }

    fn opened(&self) -> Result<Arc<OwnedFd>, SourceError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let opened = open.as_ref().ok_or(SourceError::Displaced)?;
        Ok(Arc::clone(&opened.fd))
    }

    /// Opens a directory below the root, if it is the one that is meant.
    fn open_dir(&self, place: &Place) -> Result<OwnedFd, SourceError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if place.path.is_root() {
            b"."
        } else {
            place.path.as_bytes()
        };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&*self.opened()?, path, flags, Mode::empty(), resolve)
            .map_err(directory_error)?;
        let found = stat_fd(&fd).map_err(|error| SourceError::Failed(error.to_string()))?;
        match place.identity {
            Some(identity) if identity != (found.stat.inode, found.stat.birth) => {
                Err(SourceError::Displaced)
            }
            _ => Ok(fd),
        }
    }

    /// Opens a regular file without following links or waiting, and says what it is.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when it is no regular file (any more).
    pub fn open_file(&self, place: &Place, name: &Name) -> Result<(File, Found), SourceError> {
        open_file_at(&self.open_dir(place)?, name)
    }
}

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

fn stat_root(dir: impl AsFd, path: &Path) -> std::io::Result<(Found, Statx)> {
    let mask = MASK | StatxFlags::MNT_ID;
    let statx = rustix::fs::statx(dir, path, AtFlags::EMPTY_PATH, mask)?;
    Ok((found(&statx, None), statx))
}

fn root_id(found: &Found, fs: u64, mount: u64) -> RootId {
    RootId {
        inode: found.stat.inode,
        birth: found.stat.birth,
        fs,
        mount,
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

/// A source tree on a disk.
#[derive(Debug)]
pub struct DiskSource {
    root: SourceRoot,
    watcher: Watcher,
    kept: VecDeque<((u64, i64), Arc<OwnedFd>)>,
    /// The root for which the watches are.
    seen: Option<RootId>,
}

impl DiskSource {
    /// The tree below a root, watched by a watcher.
    #[must_use]
    pub fn new(root: SourceRoot, watcher: Watcher) -> Self {
        Self {
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

    fn look(&mut self, dir: &Place, name: &Name) -> Result<Option<Found>, SourceError> {
        look_at(&*self.dir(dir)?, name.as_bytes())
    }

    fn look_dir(&mut self, dir: &Place) -> Result<Found, SourceError> {
        stat_fd(&*self.dir(dir)?).map_err(|error| SourceError::Failed(error.to_string()))
    }

    fn list(&mut self, dir: &Place) -> Result<Vec<(Name, Found)>, SourceError> {
        let fd = self.dir(dir)?;
        let failed = |error: Errno| {
            SourceError::Failed(format!("cannot list it: {}", std::io::Error::from(error)))
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable =
            rustix::fs::openat(&*fd, ".", flags, Mode::empty()).map_err(|error| match error {
                Errno::NOENT => SourceError::Displaced,
                other => failed(other),
            })?;
        let mut names = Vec::new();
        for entry in Dir::new(readable).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let bytes = entry.file_name().to_bytes();
            if dir.path.is_root() && bytes == PRIVATE {
                continue;
            }
            names.extend(Name::new(bytes).ok());
        }
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            if let Some(found) = look_at(&*fd, name.as_bytes())? {
                entries.push((name, found));
            }
        }
        Ok(entries)
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
        let after = stat_fd(&file).map_err(|error| SourceError::Failed(error.to_string()))?;
        if after != before || bytes.len() as u64 != size {
            return Err(SourceError::Changed);
        }
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
