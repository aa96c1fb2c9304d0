//! Control sockets: where a running daemon is asked things by its own user.
//!
//! Each daemon leaves a record in its state directory that names its socket, so that it is found whatever the runtime
//! directory of the asking session is. The socket lies in a private directory and both ends check each other's user.
//! What is asked is not known here; the exchange of lines is in `daemon::control`.

use crate::host::dirs::{DirKind, Dirs, DirsError, StateDir};
use crate::host::private::{self, PrivateError};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Longest path that fits a socket address, in bytes, with its final NUL.
const MAX_SOCKET_PATH: usize = 108;
/// State directories that are looked at, at most.
const MAX_STATES: usize = 4096;
const RECORD: &str = "control.json";

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// No place for it.
    #[error(transparent)]
    Dirs(#[from] DirsError),
    /// Its record cannot be written.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// It cannot be bound.
    #[error("cannot listen on the control socket `{}`", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    pid: u32,
    /// For people.
    name: String,
    /// The directory's bytes, hexadecimal.
    directory: String,
    /// The socket's bytes, hexadecimal.
    socket: String,
}

/// A daemon's listening control socket. Dropping it removes the socket and its record.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    socket: PathBuf,
    record: PathBuf,
}

impl ControlSocket {
    /// Listens for the daemon of a state directory, which must be claimed: a socket that is there is a dead one's.
    /// Needs the runtime.
    ///
    /// # Errors
    /// When the socket cannot be bound or the record not be written.
    pub fn bind(dirs: &Dirs, state: &StateDir) -> Result<Self, ControlSocketError> {
        let socket = dirs.sockets()?.join(format!("{}.sock", state.key()));
        let record = state.path().join(RECORD);
        private::remove(&socket)?;
        let bound = short(&socket).and_then(|address| {
            let listener = UnixListener::bind(&address.path)?;
            // The directory keeps others out until this holds.
            std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        });
        let listener = bound.map_err(|source| ControlSocketError::Bind {
            path: socket.clone(),
            source,
        })?;
        let content = Record {
            version: 1,
            pid: std::process::id(),
            name: state.directory().display().to_string(),
            directory: hex(state.directory()),
            socket: hex(&socket),
        };
        private::write(
            &record,
            &serde_json::to_vec_pretty(&content).unwrap_or_default(),
        )?;
        Ok(Self {
            listener,
            socket,
            record,
        })
    }

    /// Accepts one connection of this user, or of root; others are dropped.
    ///
    /// # Errors
    /// When the system fails.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if uid == own_uid() || uid == 0 {
                return Ok(stream);
            }
            tracing::warn!(uid, "another user came to the control socket");
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        for path in [&self.record, &self.socket] {
            if let Err(error) = private::remove(path) {
                tracing::warn!(%error, "cannot clean up after the control socket");
            }
        }
    }
}

/// A daemon that left a record. It may have died since; [`connect`](Self::connect) tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    /// A server or a client.
    pub kind: DirKind,
    /// The directory that it serves or mirrors, canonical.
    pub directory: PathBuf,
    /// Its process.
    pub pid: u32,
    socket: PathBuf,
}

impl Running {
    /// Opens a connection, if the daemon lives and is this user's.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when it is dead, `PermissionDenied` when the socket is another user's.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let address = short(&self.socket)?;
        let stream = UnixStream::connect(&address.path).await?;
        let uid = stream.peer_cred()?.uid();
        if uid == own_uid() || uid == 0 || own_uid() == 0 {
            Ok(stream)
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the socket is held by user {uid}"),
            ))
        }
    }
}

/// The daemons of this home that left a record, in the order of their directories.
#[must_use]
pub fn running(dirs: &Dirs) -> Vec<Running> {
    let Ok(entries) = std::fs::read_dir(dirs.state()) else {
        return Vec::new();
    };
    let mut found: Vec<Running> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|key| Some((DirKind::of_key(&key)?, key)))
        .take(MAX_STATES)
        .filter_map(|(kind, key)| read_record(kind, &dirs.state().join(key).join(RECORD)))
        .collect();
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    found
}

fn read_record(kind: DirKind, path: &Path) -> Option<Running> {
    let text = private::read(path, 64 * 1024).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    (record.version == 1).then_some(())?;
    Some(Running {
        kind,
        directory: unhex(&record.directory)?,
        pid: record.pid,
        socket: unhex(&record.socket)?,
    })
}

/// A path to a socket that fits an address; it holds for as long as this value lives.
struct Short {
    path: PathBuf,
    _parent: Option<OwnedFd>,
}

/// A long path goes by the descriptor of its directory.
fn short(socket: &Path) -> io::Result<Short> {
    if socket.as_os_str().len() < MAX_SOCKET_PATH {
        return Ok(Short {
            path: socket.to_owned(),
            _parent: None,
        });
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    let path = Path::new("/proc/self/fd")
        .join(parent.as_raw_fd().to_string())
        .join(name);
    Ok(Short {
        path,
        _parent: Some(parent),
    })
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn hex(path: &Path) -> String {
    data_encoding::HEXLOWER.encode(path.as_os_str().as_bytes())
}

fn unhex(text: &str) -> Option<PathBuf> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
    Some(OsString::from_vec(bytes).into())
}
