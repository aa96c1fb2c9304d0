//! The client: for each server one connection, one engine on a thread of its own, and the readers of large files.
//!
//! A server that is away delays no other: each mirror has its own watches, queue, view and connection.

pub(in crate::daemon) mod asked;
mod bench;
pub(in crate::daemon) mod connection;
mod handle;
mod hello;
pub(in crate::daemon) mod input;
mod mirror;
mod notes;
mod plan;
mod readers;
pub(in crate::daemon) mod renewal;
pub(in crate::daemon) mod sender;
mod stable;
pub(in crate::daemon) mod target;
mod uploader;
mod verify;

use crate::daemon::connect::{ConnectError, ConnectKind, Connector};
use crate::daemon::options::{ClientOptions, Holder, Until};
use crate::daemon::status::ClientStatus;
use crate::engine::client::{Ignored, Settings, Snapshot};
use crate::host::dirs::{Claim, DirKind, Dirs, DirsError, StateDir};
use crate::host::own::{Own, OwnError};
use crate::host::setid::SetIds;
use crate::host::source::{SourceRoot, is_own};
use crate::model::limits::MAX_PIECE;
use crate::wire::Code;
pub use handle::ClientHandle;
use handle::{Line, Mirror, SharedLine, line};
use mirror::Input;
pub use plan::{Plan, Planned};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
pub use verify::{Difference, Status, Verification, Verifier};

/// How long `--once` waits for a server that cannot be reached.
pub const ONCE_PATIENCE: Duration = Duration::from_secs(30);

/// What stops a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The source cannot be opened.
    #[error("cannot open the directory `{}`", .path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// State cannot be kept.
    #[error(transparent)]
    State(#[from] DirsError),
    /// Events cannot be had.
    #[error("cannot watch the directory")]
    Watch(#[from] crate::host::watch::WatchError),
    /// The source belongs to the program.
    #[error("`{}` is where syncd keeps its own state and keys, which are not mirrored", .0.display())]
    OwnState(PathBuf),
    /// Source and mirror lie in one another.
    #[error("{0}")]
    Overlap(String),
    /// Several servers could be meant.
    #[error("several servers of this user are known, and none was named: {}", .servers.join(", "))]
    Ambiguous {
        /// Where they listen.
        servers: Vec<String>,
    },
    /// The owner's own certificates.
    #[error("cannot use the certificates of `[tls]`")]
    Own(#[from] OwnError),
    /// Several shares could be meant.
    #[error("this device has joined the server for several shares, and none was named: {}", .shares.join(", "))]
    ManyShares {
        /// Their names.
        shares: Vec<String>,
    },
    /// `--once`: no connection could be made.
    #[error("gave up after {} s", ONCE_PATIENCE.as_secs())]
    Connect(#[source] ConnectError),
    /// `--once`: the server does not know this device, or one side does not accept the other.
    #[error(transparent)]
    Unaccepted(ConnectError),
    /// `--once`: the server was there and went.
    #[error("the server at `{server}` was lost: {reason}")]
    Lost {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
    /// What was planned cannot be followed.
    #[error(transparent)]
    Protocol(#[from] crate::engine::client::ProtocolError),
    /// The server does not want this client.
    #[error("the server at `{server}` refused: {message}")]
    Refused {
        /// Which.
        server: String,
        /// Why, for a program.
        code: Code,
        /// Why, and what to do.
        message: String,
    },
    /// A thread panicked.
    #[error("a part of the client failed unexpectedly")]
    Broken(#[source] tokio::task::JoinError),
}

impl ClientError {
    /// The class of a failed connection, if it is one.
    #[must_use]
    pub fn connect_kind(&self) -> Option<ConnectKind> {
        match self {
            Self::Connect(error) | Self::Unaccepted(error) => Some(error.kind()),
            _ => None,
        }
    }
}

/// A client that was prepared: its source is open and its state is locked, but nothing runs.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    connector: Arc<Connector>,
    root: SourceRoot,
    state: StateDir,
    _claim: Claim,
}

impl Client {
    /// Opens the source and locks its state.
    ///
    /// # Errors
    /// When the source cannot be opened, another client mirrors it, or no server is meant in particular.
    pub fn prepare(mut options: ClientOptions, dirs: Dirs) -> Result<Self, ClientError> {
        let cannot_open = |source| ClientError::Source {
            path: options.directory.clone(),
            source,
        };
        let own = options.private(&dirs);
        if is_own(&options.directory, &own) {
            return Err(ClientError::OwnState(options.directory));
        }
        let root = SourceRoot::at(&options.directory).without(&own);
        let there = root.check();
        let state = dirs.state_of(DirKind::Source, &options.directory)?;
        match there {
            Ok(_) => {}
            Err(error) if was_mirrored(&state) => {
                tracing::warn!(%error, "the source directory is missing: waiting for it, and nothing is deleted");
            }
            Err(error) => return Err(cannot_open(error)),
        }
        let claim = state.claim()?;
        options.own.as_ref().map(Own::load).transpose()?;
        let connector = Arc::new(Connector::new(dirs).with_own(options.own.clone()));
        target::choose(&mut options, &connector)?;
        Ok(Self {
            options,
            connector,
            root,
            state,
            _claim: claim,
        })
    }

    /// Where the state of the source is.
    #[must_use]
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Mirrors until `stop` is cancelled, or with [`Until::Mirrored`] until every server durably holds the tree.
    /// `started` gets the handle of the running client.
    ///
    /// # Errors
    /// What stops the client. With several servers, the first of those errors, after all have ended.
    pub async fn run(
        self,
        stop: CancellationToken,
        started: impl FnOnce(ClientHandle),
    ) -> Result<ClientStatus, ClientError> {
        let mut mirrors = Vec::new();
        let mut tasks = JoinSet::new();
        for address in &self.options.servers {
            let (inputs, queue) = mpsc::channel(1024);
            let private = self
                .state
                .path()
                .join(mirror_name(address, self.options.share.as_deref()));
            let (shared, sent) = (SharedLine::default(), Arc::default());
            let setids = SetIds::default();
            let plan = (self.options.until == Until::Planned).then(Arc::default);
            mirrors.push(Mirror {
                plan: plan.clone(),
                address: address.clone(),
                share: self.options.share.clone(),
                line: Arc::clone(&shared),
                sent: Arc::clone(&sent),
                inputs: inputs.clone(),
                markers: private.join("markers"),
                setids: setids.clone(),
                begun: crate::host::clock::monotonic(),
            });
            let setup = mirror::Setup {
                root: self.root.with_setids(setids.clone()),
                private,
                settings: self.settings(),
                rescan: self.options.rescan,
                block_size: self.options.block_size,
                once: self.options.until != Until::Stopped,
                plan: plan.clone(),
            };
            let dial = self.dial(address, (shared, sent), setids);
            let number = tasks.len();
            let mirror = one(setup, dial, inputs, queue, stop.child_token());
            tasks.spawn(async move { (number, mirror.await) });
        }
        let handle = ClientHandle {
            source: self.options.directory.clone(),
            mirrors: mirrors.clone(),
        };
        started(handle.clone());
        let mut first_error = None;
        let mut last = std::collections::BTreeMap::new();
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((number, Ok(snapshot))) => drop(last.insert(number, snapshot)),
                Ok((_, Err(error))) => first_error = first_error.or(Some(error)),
                Err(error) => first_error = first_error.or(Some(ClientError::Broken(error))),
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => {
                let nobody = ClientHandle {
                    source: self.options.directory,
                    mirrors: Vec::new(),
                };
                let mut status = nobody.status().await;
                for (mirror, snapshot) in mirrors.iter().zip(last.into_values()) {
                    mirror.report(snapshot, &mut status);
                }
                Ok(status)
            }
        }
    }

    /// Whom to dial for one mirror.
    fn dial(
        &self,
        address: &str,
        (line, sent): (SharedLine, Arc<AtomicU64>),
        setids: SetIds,
    ) -> connection::Dial {
        connection::Dial {
            connector: Arc::clone(&self.connector),
            address: address.to_owned(),
            share: self.options.share.clone(),
            take_over: self.options.holder == Holder::Replace,
            directory: self.options.directory.clone(),
            once: self.options.until != Until::Stopped,
            visits: self.options.until == Until::Planned,
            alone: self.options.servers.len() == 1,
            line,
            rate: self.options.upload_rate,
            sent,
            setids,
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings {
            // What waits for a slow line would delay what comes later.
            window: self
                .options
                .upload_rate
                .map_or(self.options.window, |rate| {
                    self.options.window.min(rate.max(MAX_PIECE as u64))
                }),
            delete_guard: self.options.delete_guard,
            ignore: self.options.ignore.clone(),
            ignored: if self.options.delete_ignored {
                Ignored::Delete
            } else {
                Ignored::Keep
            },
            ..Settings::default()
        };
        settings.timing.delete_hold = self.options.delete_hold;
        settings
    }
}

/// How the names of the mirrors' directories in the state of a source begin.
const MIRROR: &str = "mirror-";

/// Whether a source had a mirror before: then it is missed, and no slip of the fingers.
fn was_mirrored(state: &StateDir) -> bool {
    let names = std::fs::read_dir(state.path()).into_iter().flatten();
    let mut names = names.flatten().map(|entry| entry.file_name());
    names.any(|name| name.as_encoded_bytes().starts_with(MIRROR.as_bytes()))
}

/// The name of a mirror's directory in the state of its source.
fn mirror_name(address: &str, share: Option<&str>) -> String {
    let text = format!("{address}\n{}", share.unwrap_or_default());
    format!("{MIRROR}{}", &blake3::hash(text.as_bytes()).to_hex()[..16])
}

/// One server: the engine's thread and the connection, until either ends the other.
async fn one(
    setup: mirror::Setup,
    dial: connection::Dial,
    inputs: mpsc::Sender<Input>,
    queue: mpsc::Receiver<Input>,
    stop: CancellationToken,
) -> Result<Option<(Snapshot, usize)>, ClientError> {
    let engine_stop = stop.clone();
    let back = inputs.clone();
    let runtime = tokio::runtime::Handle::current();
    let mut engine = tokio::task::spawn_blocking(move || {
        let _ends = engine_stop.clone().drop_guard();
        mirror::run(setup, back, queue, &runtime, &engine_stop)
    });
    let mut link = std::pin::pin!(connection::keep(dial, inputs, stop.clone()));
    let ended = tokio::select! {
        done = &mut engine => {
            link.await?;
            return flatten(done);
        }
        ended = &mut link => ended,
    };
    stop.cancel();
    let done = flatten(engine.await);
    ended?;
    done
}

type EngineEnd = Result<Result<Option<(Snapshot, usize)>, ClientError>, tokio::task::JoinError>;

fn flatten(done: EngineEnd) -> Result<Option<(Snapshot, usize)>, ClientError> {
    done.unwrap_or_else(|error| Err(ClientError::Broken(error)))
}
