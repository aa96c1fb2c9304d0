//! The server: its shares, its trust, its listener and its control socket, put together.

use crate::daemon::options::{Durability, ServerOptions};
use crate::daemon::server::{self, Limits};
use crate::daemon::session::{self, SessionError, Terms};
use crate::daemon::share::{Shares, SharesError};
use crate::daemon::status::{ConnectedClient, ServerStatus, Status};
use crate::daemon::trust::{Trust, TrustError};
use crate::daemon::{control, pump::PumpError};
use crate::host::control::{ControlSocket, ControlSocketError};
use crate::host::devices::DeviceInfo;
use crate::host::dirs::{Claim, DirKind, Dirs, DirsError};
use crate::host::{clock, net};
use crate::model::escape;
use crate::wire::Code;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
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
    /// The control socket.
    #[error("cannot open the control socket")]
    Control(#[from] ControlSocketError),
}

/// The clients that are connected, by the number of their connection.
type Clients = Arc<Mutex<BTreeMap<u64, Connected>>>;

#[derive(Debug)]
struct Connected {
    device: DeviceInfo,
    since: Instant,
    share: Arc<OnceLock<Option<String>>>,
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
    limits: Limits,
    window: u64,
    max_frame: u32,
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
        let placed = options
            .shares
            .into_iter()
            .map(|share| (share.name, share.path))
            .collect();
        let refused = |source| ServerError::Shares {
            path: options.directory.clone(),
            source,
        };
        let shares = Shares::open(&options.directory, placed, durability, Some(state.path()))
            .map_err(refused)?;
        let listen = |source| ServerError::Listen {
            address: options.listen.clone(),
            source,
        };
        let (listener, address) = net::listen(&options.listen).await.map_err(listen)?;
        let trust = Trust::open(dirs, &state, vec![address.to_string()])?;
        let socket = ControlSocket::bind(dirs, &state)?;
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
            limits,
            window: options.window,
            max_frame: options.max_frame,
            _claim: claim,
        })
    }

    /// The address that clients reach, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled and the sessions have ended.
    pub async fn run(self, stop: CancellationToken) {
        let clients = Clients::default();
        let answers = Arc::new(Answers {
            directory: escape(self.directory.as_os_str().as_encoded_bytes()),
            address: self.address.to_string(),
            server_id: self.trust.server_id().to_owned(),
            shares: Arc::clone(&self.shares),
            clients: Arc::clone(&clients),
        });
        let answering = control::serve(self.socket, stop.clone(), move |question| {
            let answers = Arc::clone(&answers);
            async move { answers.answer(&question) }
        });
        let control = tokio::spawn(answering);
        let (window, max_frame) = (self.window, self.max_frame);
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
                };
                let connected = Connected {
                    device: device.clone(),
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
        lock(clients).insert(number, connected);
        Self {
            clients: Arc::clone(clients),
            number,
            name,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.clients).remove(&self.number);
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

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the control socket answers from.
struct Answers {
    directory: String,
    address: String,
    server_id: String,
    shares: Arc<Shares>,
    clients: Clients,
}

impl Answers {
    fn answer(&self, question: &Value) -> Value {
        match question.get("op").and_then(Value::as_str) {
            Some("status") => serde_json::to_value(Status::Server(self.status()))
                .unwrap_or_else(|error| json!({ "error": error.to_string() })),
            _ => json!({ "error": "a server answers `status`" }),
        }
    }

    fn status(&self) -> ServerStatus {
        let clients = lock(&self.clients);
        let clients = clients.values().map(|client| ConnectedClient {
            device: client.device.id.clone(),
            name: escape(client.device.name.as_bytes()),
            share: client.share.get().cloned().flatten(),
            since_ms: u64::try_from(client.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        ServerStatus {
            directory: self.directory.clone(),
            listen: vec![self.address.clone()],
            server_id: self.server_id.clone(),
            shares: self.shares.status(),
            clients: clients.collect(),
        }
    }
}
