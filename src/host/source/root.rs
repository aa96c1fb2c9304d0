//! The root of a source: one open directory, and which one it is.

use super::hidden::Hidden;
use super::{MASK, directory_error, found, list_at, look_at, open_file_at, stat_fd};
use crate::engine::source::{Found, FoundKind, Place, RootId, SourceError};
use crate::host::setid::SetIds;
use crate::model::{Name, RelPath};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The root of a source tree, found by its path. Clones share what is open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SourceRoot {
    path: Arc<Path>,
    open: Arc<RwLock<Option<Opened>>>,
    pub(super) setids: SetIds,
    pub(super) hidden: Hidden,
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
            setids: SetIds::default(),
            hidden: Hidden::default(),
        }
    }

    /// The same tree without some paths, which belong to the program itself and need not lie within it.
    #[must_use]
    pub fn without(self, own: &[PathBuf]) -> Self {
        Self {
            hidden: Hidden::below(&self.path, own),
            ..self
        }
    }

    /// The same tree for one server, which may keep the set-user-id bits or not.
    #[must_use]
    pub fn with_setids(&self, setids: SetIds) -> Self {
        Self {
            setids,
            ..self.clone()
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
    pub(super) fn open_dir(&self, place: &Place) -> Result<OwnedFd, SourceError> {
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
        let (file, mut found) = open_file_at(&self.open_dir(place)?, name)?;
        self.setids.entry(&place.path, name, &mut found);
        Ok((file, found))
    }
}

impl SourceRoot {
    /// All entries of a directory, in the order of their names, without the program's own at the top.
    ///
    /// # Errors
    /// When the directory is not at its place, or the system refuses.
    pub fn list(&self, place: &Place) -> Result<Vec<(Name, Found)>, SourceError> {
        list_at(
            self.open_dir(place)?,
            &place.path,
            (&self.setids, &self.hidden),
        )
    }

    /// What is under a name of a directory; `None` when there is nothing.
    ///
    /// # Errors
    /// When the directory is not at its place, or the system refuses.
    pub fn look(&self, place: &Place, name: &Name) -> Result<Option<Found>, SourceError> {
        let mut found = look_at(self.open_dir(place)?, name.as_bytes())?;
        if let Some(found) = &mut found {
            self.adjust(&place.path, name, found);
        }
        Ok(found)
    }

    /// What is mirrored of an entry of a directory.
    pub(super) fn adjust(&self, dir: &RelPath, name: &Name, found: &mut Found) {
        self.hidden.entry(dir, name, found);
        self.setids.entry(dir, name, found);
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
