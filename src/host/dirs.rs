//! Where state lives: the platform's directories, and in them one directory for each server and each source.
//!
//! `HOME` and the `XDG_*` variables move everything (crate `directories`); they are read in [`Dirs::platform`] and
//! nowhere else. Two homes never meet: nothing is named by the mirrored directory alone.

use crate::host::private::{self, PrivateError};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why no place for state was found.
#[derive(Debug, thiserror::Error)]
pub enum DirsError {
    /// There is no home.
    #[error("no home directory: set `HOME` to an absolute path")]
    NoHome,
    /// The directory's name cannot be resolved.
    #[error("cannot resolve `{}`", path.display())]
    Resolve {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the state.
    #[error("another `syncd` already runs for `{}`", .0.display())]
    InUse(PathBuf),
    /// A directory or file of the state cannot be used.
    #[error(transparent)]
    Private(#[from] PrivateError),
}

/// What a state directory is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DirKind {
    /// A directory that a server serves.
    Server,
    /// A directory that a client mirrors.
    Source,
}

impl DirKind {
    /// The word used in names and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Source => "source",
        }
    }

    /// The kind of a [`StateDir::key`].
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        [Self::Server, Self::Source].into_iter().find(|kind| {
            key.strip_prefix(kind.word())
                .is_some_and(|rest| rest.starts_with('-'))
        })
    }
}

/// The program's directories.
#[derive(Clone, Debug)]
pub struct Dirs {
    state: PathBuf,
    data: PathBuf,
    runtime: Option<PathBuf>,
}

impl Dirs {
    /// The platform's directories for this user, as `HOME` and the `XDG_*` variables have them.
    ///
    /// # Errors
    /// When there is no home.
    pub fn platform() -> Result<Self, DirsError> {
        let project = directories::ProjectDirs::from("", "", "syncd").ok_or(DirsError::NoHome)?;
        let state = project.state_dir().ok_or(DirsError::NoHome)?.to_owned();
        let data = project.data_dir().to_owned();
        if !state.is_absolute() || !data.is_absolute() {
            return Err(DirsError::NoHome);
        }
        // A runtime directory that is gone (a session that ended, a container) or another user's (`su`) is none.
        let runtime = project.runtime_dir().filter(|dir| {
            dir.parent()
                .and_then(|base| std::fs::metadata(base).ok())
                .is_some_and(|meta| {
                    meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw()
                })
        });
        Ok(Self {
            runtime: runtime.map(Path::to_owned),
            state,
            data,
        })
    }

    /// Directories below one base, for tests and for instances that must not meet.
    #[must_use]
    pub fn below(base: &Path) -> Self {
        Self {
            state: base.join("state"),
            data: base.join("data"),
            runtime: None,
        }
    }

    /// All that belongs to the program, but for the demo's files: none of it is mirrored.
    #[must_use]
    pub fn own(&self) -> Vec<PathBuf> {
        let mut own = vec![self.state.clone(), self.invites(), self.enrolments()];
        own.extend(self.runtime.clone());
        own
    }

    /// Where all state is.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Local invites: one directory for each server id.
    #[must_use]
    pub fn invites(&self) -> PathBuf {
        self.data.join("servers")
    }

    /// This home's keys: one directory for each server id.
    #[must_use]
    pub fn enrolments(&self) -> PathBuf {
        self.data.join("devices")
    }

    /// The state directory of a served or mirrored directory, made if it lacks. The mirrored directory itself may be
    /// missing.
    ///
    /// # Errors
    /// When the path cannot be resolved or the directory not be made.
    pub fn state_of(&self, kind: DirKind, directory: &Path) -> Result<StateDir, DirsError> {
        let directory = Self::canonical(directory).map_err(|source| DirsError::Resolve {
            path: directory.to_owned(),
            source,
        })?;
        let key = format!(
            "{}-{}",
            kind.word(),
            short_hash(&[directory.as_os_str().as_bytes()])
        );
        let path = self.state.join(&key);
        private::create_dir(&self.state)?;
        private::create_dir(&path)?;
        Ok(StateDir {
            path,
            kind,
            key,
            directory,
        })
    }

    /// The path without symbolic links, as far as it exists; what does not exist is kept as it is written.
    ///
    /// # Errors
    /// When it cannot be resolved: no permission, a loop of links, or `..` below what does not exist.
    pub fn canonical(path: &Path) -> io::Result<PathBuf> {
        let absolute = std::path::absolute(path)?;
        let mut missing: Vec<OsString> = Vec::new();
        let mut known = absolute.as_path();
        loop {
            match known.canonicalize() {
                Ok(mut found) => {
                    found.extend(missing.iter().rev());
                    return Ok(found);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match (known.parent(), known.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    known = parent;
                }
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
    }

    /// Where control sockets go, made if it lacks. Sockets of different homes never share a directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn sockets(&self) -> Result<PathBuf, DirsError> {
        let path = match &self.runtime {
            Some(runtime) => runtime.join(short_hash(&[self.state.as_os_str().as_bytes()])),
            None => self.state.join("run"),
        };
        private::create_dir(&path)?;
        Ok(path)
    }
}

/// The state of one served or mirrored directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
    kind: DirKind,
    key: String,
    directory: PathBuf,
}

impl StateDir {
    /// Where the state is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is the state of.
    #[must_use]
    pub fn kind(&self) -> DirKind {
        self.kind
    }

    /// Its short name, such as `server-0123456789abcdef`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The canonical path of the served or mirrored directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Claims the state for this process until the claim is dropped; the system gives it up when the process dies.
    ///
    /// # Errors
    /// [`DirsError::InUse`] when another process has it.
    pub fn claim(&self) -> Result<Claim, DirsError> {
        let path = self.path.join("lock");
        let io = |source| {
            DirsError::Private(PrivateError::Io {
                action: "lock",
                path: path.clone(),
                source,
            })
        };
        let file = open_lock(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Claim { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DirsError::InUse(self.directory.clone())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// The sole use of a state directory.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

/// Opens a file for locking, 0600, made if it lacks.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The first 64 bits of a SHA-256 over `parts`, each ended by a NUL, in hexadecimal.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let digest = hash.finalize();
    data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{DirKind, Dirs, DirsError};

    #[test]
    fn one_directory_has_one_state_whatever_it_is_called() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::below(&temp.path().join("home"));
        let real = temp.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, temp.path().join("link")).unwrap();
        let a = dirs.state_of(DirKind::Server, &real).unwrap();
        let b = dirs
            .state_of(DirKind::Server, &temp.path().join("link/."))
            .unwrap();
        assert_eq!(a.path(), b.path());
        assert_ne!(
            a.path(),
            dirs.state_of(DirKind::Source, &real).unwrap().path()
        );
        std::fs::remove_dir(&real).unwrap();
        assert_eq!(
            dirs.state_of(DirKind::Server, &real).unwrap().key(),
            a.key()
        );
    }

    #[test]
    fn a_state_is_claimed_once() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::below(temp.path());
        let state = dirs.state_of(DirKind::Server, temp.path()).unwrap();
        let claim = state.claim().unwrap();
        assert!(matches!(state.claim(), Err(DirsError::InUse(_))));
        drop(claim);
        assert!(state.claim().is_ok());
    }
}
