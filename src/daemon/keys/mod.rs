//! The keys of a server's shares: the open store, what is counted of its use, and the memcached port.
//!
//! What a request of a protocol means is here; how bytes become requests is in `wire`, how changes become durable in
//! `host/keys`.

mod answers;
mod connection;
mod listener;
mod stats;

pub use answers::Kind;
pub use listener::{Memcached, MemcachedError};

use crate::host::clock;
use crate::host::keys::{Bounds, KeyStatus, KeyStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The file in the server's state directory.
const FILE: &str = "keys.redb";
/// Bytes of large values that are on their way in, all connections together, at least.
const LEAST_ROOM: u32 = 64 * 1024 * 1024;
/// How many of the largest values may be on their way in at a time at least.
const LARGEST: u32 = 4;
/// How long a large value waits for room.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// What is told of the keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyOptions {
    /// Where memcached's text protocol is spoken: `HOST:PORT`; none for nowhere.
    pub memcached: Option<String>,
    /// The share whose keys it serves; none for the directory itself.
    pub share: Option<String>,
    /// Whether it may listen to other machines.
    pub allow_insecure: bool,
    /// Connections to it at a time.
    pub max_connections: usize,
    /// Longest value, in bytes.
    pub max_value: u32,
    /// Bytes of all keys and values.
    pub max_total: u64,
}

/// The keys, for all who serve them.
#[derive(Debug)]
pub struct Keys {
    /// The store.
    pub store: KeyStore,
    /// What was done with it.
    pub counters: Counters,
    /// Longest value, in bytes.
    pub max_value: u32,
    max_total: u64,
    room: Arc<Semaphore>,
}

impl Keys {
    /// Opens the store in the server's state directory.
    ///
    /// # Errors
    /// When the system has no thread to give. A file that cannot be used makes the keys unavailable, and nothing else.
    pub fn open(state: &Path, options: &KeyOptions) -> io::Result<Arc<Self>> {
        let bounds = Bounds {
            max_value: options.max_value,
            max_total: options.max_total,
        };
        let room = LEAST_ROOM.max(options.max_value.saturating_mul(LARGEST));
        Ok(Arc::new(Self {
            store: KeyStore::open(&state.join(FILE), bounds, Arc::new(now))?,
            counters: Counters::default(),
            max_value: options.max_value,
            max_total: options.max_total,
            room: Arc::new(Semaphore::new(room as usize)),
        }))
    }

    /// Room in memory for a value, for as long as it is held; none when there was none for a while.
    pub async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes);
        timeout(ROOM_WAIT, room).await.ok()?.ok()
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        self.store.status()
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// How often what was done since the start, over the port and the other connections.
#[derive(Debug, Default)]
#[expect(
    missing_docs,
    reason = "each is named by what it counts, in memcached's words"
)]
pub struct Counters {
    pub get_hits: Counter,
    pub get_misses: Counter,
    pub cmd_set: Counter,
    pub cmd_flush: Counter,
    pub touch_hits: Counter,
    pub touch_misses: Counter,
    pub delete_hits: Counter,
    pub delete_misses: Counter,
    pub incr_hits: Counter,
    pub incr_misses: Counter,
    pub decr_hits: Counter,
    pub decr_misses: Counter,
    pub cas_hits: Counter,
    pub cas_misses: Counter,
    pub cas_badval: Counter,
    pub store_too_large: Counter,
    pub store_no_memory: Counter,
    pub bytes_read: Counter,
    pub bytes_written: Counter,
    pub total_connections: Counter,
    pub rejected_connections: Counter,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
