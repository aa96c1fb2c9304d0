//! The port of the text protocol: it has no authentication, so it listens on loopback unless it is told otherwise.

use super::connection::Connection;
use super::{KeyOptions, Keys};
use crate::host::{clock, net, thread};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a connection that is told to end may take for what it has begun.
const GRACE: Duration = Duration::from_secs(3);
/// How long an `accept` that the system failed waits before the next one.
const STARVED: Duration = Duration::from_millis(100);
/// How long a connection is left alone at least when another wants its place, in milliseconds.
const RESTED_MS: u64 = 60_000;
/// Threads that serve at most: one that waits for the disk must not keep all others.
const MAX_THREADS: usize = 8;

/// Why the port is not opened.
#[derive(Debug, thiserror::Error)]
pub enum MemcachedError {
    /// It cannot be listened on.
    #[error("cannot listen for memcached clients on `{address}`")]
    Listen {
        /// Which address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Other machines could reach it.
    #[error(
        "`{0}` can be reached by other machines, and the memcached protocol has neither passwords nor encryption"
    )]
    Insecure(SocketAddr),
}

/// What the connections share.
pub(super) struct Port {
    /// The share whose keys are served; empty for the directory itself.
    pub(super) space: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) max_connections: usize,
    pub(super) since: Instant,
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    /// Cancelled when nothing more is waited for.
    pub(super) cut: CancellationToken,
    places: Mutex<BTreeMap<u64, Place>>,
}

/// One connection.
struct Place {
    /// When something arrived last, in milliseconds since the port was opened.
    used_ms: Arc<AtomicU64>,
    gone: CancellationToken,
}

/// The open port, which serves once it is run.
#[derive(Debug)]
pub struct Memcached {
    listener: std::net::TcpListener,
    address: SocketAddr,
    space: Arc<str>,
    max_connections: usize,
}

impl Memcached {
    /// Opens the port, if one is wanted.
    ///
    /// # Errors
    /// When it cannot be, or other machines could reach it without being allowed to.
    pub async fn prepare(options: &KeyOptions) -> Result<Option<Self>, MemcachedError> {
        let Some(wanted) = &options.memcached else {
            return Ok(None);
        };
        let failed = |source| MemcachedError::Listen {
            address: wanted.clone(),
            source,
        };
        let (listener, address) = net::listen(wanted).await.map_err(failed)?;
        if !address.ip().is_loopback() {
            if !options.allow_insecure {
                return Err(MemcachedError::Insecure(address));
            }
            tracing::warn!(%address, "whoever reaches this address can read and change the keys: the memcached protocol has neither passwords nor encryption");
        }
        Ok(Some(Self {
            listener: listener.into_std().map_err(failed)?,
            address,
            space: options.share.as_deref().unwrap_or_default().into(),
            max_connections: options.max_connections,
        }))
    }

    /// The address that clients reach, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled and the connections have ended, on threads of its own: they read from the disk.
    pub async fn run(self, keys: Arc<Keys>, stop: CancellationToken) {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.clamp(2, MAX_THREADS))
            .thread_name("memcached")
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "memcached clients are not served");
                return;
            }
        };
        let ended = thread::spawn("memcached", move || {
            let served = runtime.block_on(self.accept(keys, stop));
            runtime.shutdown_background();
            served
        });
        match ended {
            Ok(ended) => match ended.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "memcached clients are not served"),
                Err(_) => tracing::error!("the memcached port failed"),
            },
            Err(error) => tracing::error!(%error, "memcached clients are not served"),
        }
    }

    async fn accept(self, keys: Arc<Keys>, stop: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let port = Arc::new(Port {
            space: self.space,
            address: self.address,
            max_connections: self.max_connections,
            since: clock::monotonic(),
            open: AtomicUsize::new(0),
            cut: CancellationToken::new(),
            places: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let mut number = 0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    let (keys, port) = (Arc::clone(&keys), Arc::clone(&port));
                    match port.enter(number, &stop) {
                        Some(entered) => tasks.spawn(entered.serve(stream, keys, port)),
                        None => tasks.spawn(refuse(stream, keys)),
                    };
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept memcached connections for now");
                    drop(timeout(STARVED, stop.cancelled()).await);
                }
            }
        }
        drop(listener);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            port.cut.cancel();
        }
        tasks.shutdown().await;
        Ok(())
    }
}

impl Port {
    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        let since = clock::monotonic().saturating_duration_since(self.since);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Gives a connection a place. When all are taken, the one that has rested longest gives way, if it has rested long.
    fn enter(&self, number: u64, stop: &CancellationToken) -> Option<Entered> {
        let now = self.now_ms();
        let mut places = self.places();
        if places.len() >= self.max_connections {
            let idlest = places
                .iter()
                .map(|(number, place)| (place.used_ms.load(Ordering::Relaxed), *number))
                .min()?;
            let (used, idlest) = idlest;
            if now.saturating_sub(used) < RESTED_MS {
                return None;
            }
            places.remove(&idlest)?.gone.cancel();
        }
        let entered = Entered {
            number,
            used_ms: Arc::new(AtomicU64::new(now)),
            gone: stop.child_token(),
        };
        let place = Place {
            used_ms: Arc::clone(&entered.used_ms),
            gone: entered.gone.clone(),
        };
        places.insert(number, place);
        Some(entered)
    }
}

/// A connection that has a place.
struct Entered {
    number: u64,
    used_ms: Arc<AtomicU64>,
    gone: CancellationToken,
}

impl Entered {
    async fn serve(self, stream: TcpStream, keys: Arc<Keys>, port: Arc<Port>) {
        port.open.fetch_add(1, Ordering::Relaxed);
        keys.counters.total_connections.one();
        // An answer is sent at once, and a peer that is gone is noticed in the end.
        if let Err(error) = net::tune_plain(&stream) {
            tracing::debug!(%error, "a memcached connection cannot be tuned");
        }
        let connection = Connection::new(stream, keys, Arc::clone(&port));
        let used = || self.used_ms.store(port.now_ms(), Ordering::Relaxed);
        if let Err(error) = connection.serve(&self.gone, used).await {
            tracing::debug!(%error, "a memcached connection ended");
        }
        port.places().remove(&self.number);
        port.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a client that there are too many, as memcached does.
async fn refuse(mut stream: TcpStream, keys: Arc<Keys>) {
    keys.counters.rejected_connections.one();
    let say = stream.write_all(b"ERROR Too many open connections\r\n");
    drop(timeout(Duration::from_secs(1), say).await);
}
