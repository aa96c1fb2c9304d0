//! The server: its shares, its trust, its listener and its control socket, put together.

use crate::daemon::answers::{Answers, Clients, Connected};
use crate::daemon::cache::FileCache;
use crate::daemon::join::Taken;
use crate::daemon::keys::{Keys, Memcached, MemcachedError};
use crate::daemon::options::{Durability, ServerOptions};
use crate::daemon::server::{self, Limits};
use crate::daemon::session::{self, SessionError, Terms};
use crate::daemon::share::{Shares, SharesError, Upkeep};
use crate::daemon::trust::{Trust, TrustError, TrustOptions};
use crate::daemon::{control, pump::PumpError};
use crate::host::control::{ControlSocket, ControlSocketError};
use crate::host::dirs::{Claim, DirKind, Dirs, DirsError};
use crate::host::{clock, net};
use crate::model::escape;
use crate::wire::Code;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What stops a server before it serves.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// State cannot be kept.
    #[error(transparent)]
    State(#[from] DirsError),
    /// The directory is not there and cannot be made.
    #[error("cannot make the directory `{}`", .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory.
    #[error("cannot serve the directory `{}`", .path.display())]
    Shares {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SharesError,
    },
    /// Keys and certificates.
    #[error("cannot prepare the server's certificate")]
    Trust(#[from] TrustError),
    /// The port of the memcached protocol.
    #[error(transparent)]
    Memcached(#[from] MemcachedError),
    /// The keys.
    #[error("the system has no thread to give for the keys")]
    Keys(#[source] std::io::Error),
    /// The control socket.
    #[error("cannot open the control socket")]
    Control(#[from] ControlSocketError),
}

/// A server that listens, and serves once it is run.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    listener: TcpListener,
    address: SocketAddr,
    shares: Arc<Shares>,
    trust: Trust,
    socket: ControlSocket,
    keys: Arc<Keys>,
    files: Arc<FileCache>,
    memcached: Option<Memcached>,
    limits: Limits,
    window: u64,
    max_frame: u32,
    allow_setid: bool,
    _claim: Claim,
}

impl Server {
    /// Makes the directory if only it is missing, locks it, makes or reads the certificates, and listens.
    ///
    /// # Errors
    /// When any of that fails.
    pub async fn prepare(options: ServerOptions, dirs: &Dirs) -> Result<Self, ServerError> {
        make(&options.directory)?;
        let state = dirs.state_of(DirKind::Server, &options.directory)?;
        let claim = state.claim()?;
        let durability = match options.durability {
            Durability::Full => crate::host::disk::Durability::Full,
            Durability::None => crate::host::disk::Durability::None,
        };
        let placed: BTreeMap<_, _> = options
            .shares
            .into_iter()
            .map(|share| (share.name, share.path))
            .collect();
        let trusting = TrustOptions {
            lifetimes: options.lifetimes,
            taken: Taken {
                directory: options.directory.clone(),
                placed: placed.keys().cloned().collect(),
            },
            own: options.own,
        };
        let refused = |source| ServerError::Shares {
            path: options.directory.clone(),
            source,
        };
        let upkeep = Upkeep {
            durability,
            sweep: options.sweep,
        };
        let shares = Shares::open(&options.directory, placed, upkeep, Some(state.path()))
            .map_err(refused)?;
        let listen = |source| ServerError::Listen {
            address: options.listen.clone(),
            source,
        };
        let (listener, address) = net::listen(&options.listen).await.map_err(listen)?;
        let trust = Trust::open(dirs, &state, vec![address.to_string()], trusting)?;
        let socket = ControlSocket::bind(dirs, &state)?;
        let memcached = Memcached::prepare(&options.keys).await?;
        let keys = Keys::open(state.path(), &options.keys).map_err(ServerError::Keys)?;
        let limits = Limits {
            max_clients: options.max_clients,
            max_unauthenticated: options.max_unauthenticated,
            ..Limits::default()
        };
        let directory = options.directory;
        Ok(Self {
            directory,
            listener,
            address,
            shares,
            trust,
            socket,
            keys,
            files: FileCache::new(options.cache),
            memcached,
            limits,
            window: options.window,
            max_frame: options.max_frame,
            allow_setid: options.allow_setid,
            _claim: claim,
        })
    }

    /// The address that clients reach, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that memcached clients reach, with the real port.
    #[must_use]
    pub fn memcached(&self) -> Option<SocketAddr> {
        self.memcached.as_ref().map(Memcached::address)
    }

    /// Serves until `stop` is cancelled and the sessions have ended.
    pub async fn run(self, stop: CancellationToken) {
        let clients = Clients::default();
        let answers = Arc::new(Answers {
            directory: escape(self.directory.as_os_str().as_encoded_bytes()),
            address: self.address,
            trust: self.trust.clone(),
            shares: Arc::clone(&self.shares),
            clients: clients.clone(),
            keys: Arc::clone(&self.keys),
            files: Arc::clone(&self.files),
            memcached: self.memcached.as_ref().map(Memcached::address),
        });
        let answering = control::serve(self.socket, stop.clone(), move |question| {
            Arc::clone(&answers).answer(question)
        });
        let control = tokio::spawn(answering);
        let keys = self.keys;
        let memcached = self
            .memcached
            .map(|memcached| tokio::spawn(memcached.run(Arc::clone(&keys), stop.clone())));
        let of_sessions = Arc::clone(&keys);
        let files = self.files;
        let (window, max_frame, allow_setid) = (self.window, self.max_frame, self.allow_setid);
        let enroller = Arc::clone(self.trust.enroller());
        let (shares, token) = (Arc::clone(&self.shares), stop.clone());
        let numbers = std::sync::atomic::AtomicU64::new(0);
        server::run(
            self.listener,
            self.trust,
            self.limits,
            stop,
            move |stream, device| {
                let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let terms = Terms {
                    window,
                    max_frame,
                    opened: Arc::default(),
                    allow_setid,
                    enroller: Some(Arc::clone(&enroller)),
                    keys: Some(Arc::clone(&of_sessions)),
                    files: Arc::clone(&files),
                };
                let connected = Connected {
                    device: device.clone(),
                    address: stream.peer(),
                    since: clock::monotonic(),
                    share: Arc::clone(&terms.opened),
                };
                let entry = Entry::new(&clients, number, connected);
                let session =
                    session::serve(stream, device, Arc::clone(&shares), terms, token.clone());
                one(entry, session)
            },
        )
        .await;
        drop(control.await);
        if let Some(memcached) = memcached {
            drop(memcached.await);
        }
        keys.store.close().await;
        let shares = self.shares;
        drop(tokio::task::spawn_blocking(move || shares.close()).await);
    }
}

/// Makes a directory whose parent is there.
fn make(directory: &Path) -> Result<(), ServerError> {
    match std::fs::create_dir(directory) {
        Ok(()) => {
            let path = escape(directory.as_os_str().as_encoded_bytes());
            tracing::info!("made the directory `{path}`");
            Ok(())
        }
        // What it is, and whether it can be used, is seen when it is opened.
        Err(_) if directory.symlink_metadata().is_ok() => Ok(()),
        Err(source) => Err(ServerError::Make {
            path: directory.to_owned(),
            source,
        }),
    }
}

/// A connection in the list of clients, for as long as it lives.
struct Entry {
    clients: Clients,
    number: u64,
    name: String,
}

impl Entry {
    fn new(clients: &Clients, number: u64, connected: Connected) -> Self {
        let name = escape(connected.device.name.as_bytes());
        clients.enter(number, connected);
        Self {
            clients: clients.clone(),
            number,
            name,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clients.leave(self.number);
    }
}

async fn one(entry: Entry, session: impl Future<Output = Result<(), SessionError>>) {
    let name = &entry.name;
    match session.await {
        Ok(()) => tracing::debug!(device = name, "the client left"),
        Err(SessionError::Pump(error @ (PumpError::Closed | PumpError::Io(_)))) => {
            tracing::info!(device = name, %error, "the session ended");
        }
        Err(SessionError::Refused(refusal)) if refusal.code == Code::Stopping => {}
        // It says so itself, too, and comes again.
        Err(SessionError::Refused(refusal)) => {
            tracing::info!(device = name, reason = %refusal, "a client was sent away");
        }
        Err(error) => tracing::warn!(device = name, %error, "the session ended"),
    }
}
