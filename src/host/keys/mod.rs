//! The keys of all shares of a server: one redb file, durable.
//!
//! One thread writes: it takes what waits, applies it in order in one transaction, commits, shows the new state to readers,
//! and only then answers. So one sync serves many, and an answered change is seen by every later look. Readers use the state
//! that was shown last and wait for nobody. What was not committed was never shown.
//!
//! Unlike the indexes this is no cache: a file that cannot be used is left as it is, and the keys are unavailable until
//! somebody has decided about it. It decides nothing about rights or protocols; the next layer is `daemon/keys`.
//!
//! ```text
//! table "format"   "layout" -> 1
//! table "numbers"  "unique" -> the last unique number that was given, "commits" -> the number of the last transaction
//! table "spaces"   name of the share ("" for the directory itself) -> id, counts, flushes (`keys/row.rs`)
//! table "keys"     id of the space: u32 big-endian | key -> head, then the value or the number of its pieces
//! table "pieces"   (number: u64, index: u32) -> bytes
//! table "expiries" milliseconds: u64 big-endian | name of the row in "keys" -> ()
//! ```

use crate::host::{database, thread};
use bytes::Bytes;
use redb::TableDefinition;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

mod apply;
mod change;
mod job;
mod reserve;
mod row;
mod snapshot;
mod sweep;
mod writer;

pub use change::{Action, Bounds, Change, KeyError, KeyStatus, Mode, Outcome};
use job::Job;
pub use row::{Head, MAX_KEY};
use snapshot::Snapshot;
pub use snapshot::{Found, Listed, Listing};

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const SPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spaces");
const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
const PIECES: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("pieces");
const EXPIRIES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("expiries");

/// Changes that wait at most; whoever has one more waits before it is taken.
const MAX_WAITING: usize = 4096;
/// Shares with keys at most.
const MAX_SPACES: usize = 1024;
/// How long a look waits for a file that is opened again.
const REOPENING: Duration = Duration::from_secs(3);

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What readers are shown: the last committed state, or why there is none; no reason while the file is being opened first.
type Shown = Result<Arc<Snapshot>, Option<Arc<str>>>;

const OPENING: &str = "the file is being opened";

enum Message {
    Job(Job),
    /// A reader met an error of the file, or no file; this is what it was shown.
    Reopen(Shown),
}

/// The open store. Ends when [`KeyStore::close`] is called, or the last of its users has gone.
pub struct KeyStore {
    shown: watch::Receiver<Shown>,
    sender: Mutex<Option<SyncSender<Message>>>,
    places: Arc<Semaphore>,
    clock: Clock,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl std::fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

impl KeyStore {
    /// Opens the file at `path`, or makes it, on a thread of its own. A file that cannot be used makes the keys unavailable,
    /// which the log and every answer say, and is tried again.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn open(path: &Path, bounds: Bounds, clock: Clock) -> io::Result<Self> {
        Self::start(path.to_owned(), bounds, clock)
    }

    fn start(path: PathBuf, bounds: Bounds, clock: Clock) -> io::Result<Self> {
        // A place for each job, and one for a reader's word.
        let (sender, receiver) = sync_channel(MAX_WAITING + 1);
        let (show, shown) = watch::channel::<Shown>(Err(None));
        let writer = writer::Writer::new(path, bounds, Arc::clone(&clock), show);
        let ended = thread::spawn("keys", move || writer.run(&receiver))?;
        Ok(Self {
            shown,
            sender: Mutex::new(Some(sender)),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            clock,
            ended: Mutex::new(Some(ended)),
        })
    }

    /// The time by which values end, in milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Hands a change to the writer; changes are made in the order in which this returned. The answer comes when it is
    /// durable, or was not made. Waits while too many are under way.
    ///
    /// # Errors
    /// When the store was closed.
    pub async fn submit(&self, change: Change) -> Result<Pending, KeyError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (answer, pending) = oneshot::channel();
        let job = Job::new(change, answer, place.map_err(|_| KeyError::Ended)?);
        self.send(Message::Job(job))?;
        Ok(Pending(pending))
    }

    /// Makes a change and waits until it is durable.
    ///
    /// # Errors
    /// When it was not made.
    pub async fn change(&self, change: Change) -> Result<Outcome, KeyError> {
        self.submit(change).await?.done().await
    }

    /// The value of a key, if there is one. May read from the disk, which blocks.
    ///
    /// # Errors
    /// When the file cannot be used, also after a wait for it.
    pub async fn find(&self, space: &str, key: &[u8]) -> Result<Option<Found>, KeyError> {
        let now = self.now();
        self.look(|shown| Snapshot::find(shown, space, key, now))
            .await
    }

    /// Keys that begin with `prefix` in order, those behind `after`, a bounded number. May read from the disk, which blocks.
    ///
    /// # Errors
    /// When the file cannot be used, also after a wait for it.
    pub async fn list(
        &self,
        space: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Listing, KeyError> {
        let now = self.now();
        self.look(|shown| shown.list(space, prefix, after, now))
            .await
    }

    /// A part of a value that was found. May read from the disk, which blocks. None when it was replaced meanwhile.
    ///
    /// # Errors
    /// When the file cannot be used, also after a wait for it.
    pub async fn read(
        &self,
        found: &Found,
        start: usize,
        length: usize,
    ) -> Result<Option<Bytes>, KeyError> {
        if let Some(bytes) = found.inline() {
            return Ok(snapshot::part(bytes, start, length));
        }
        // The state that it was found in first: it holds the pieces, unless the file was opened again since.
        if let Some(part) = found.read(start, length) {
            return Ok(Some(part));
        }
        self.look(|shown| shown.pieces(found, start, length)).await
    }

    async fn look<T>(
        &self,
        look: impl Fn(&Arc<Snapshot>) -> Result<T, redb::Error>,
    ) -> Result<T, KeyError> {
        let now = self.shown.borrow().clone();
        if let Ok(snapshot) = &now
            && let Ok(seen) = database::guarded(|| look(snapshot))
        {
            return Ok(seen);
        }
        drop(now);
        self.look_again(look).await
    }

    /// The same where the file was not open, or has failed.
    async fn look_again<T>(
        &self,
        look: impl Fn(&Arc<Snapshot>) -> Result<T, redb::Error>,
    ) -> Result<T, KeyError> {
        let mut shown = self.shown.clone();
        let end = tokio::time::Instant::now() + REOPENING;
        loop {
            let now = shown.borrow_and_update().clone();
            let reason = match &now {
                Ok(snapshot) => match database::guarded(|| look(snapshot)) {
                    Ok(seen) => return Ok(seen),
                    Err(error @ redb::Error::Corrupted(_)) => {
                        tracing::error!(%error, "a value cannot be read");
                        return Err(KeyError::Unavailable(error.to_string().into()));
                    }
                    Err(error) => Arc::from(error.to_string()),
                },
                Err(Some(reason)) => return Err(KeyError::Unavailable(Arc::clone(reason))),
                Err(None) => Arc::from(OPENING),
            };
            // The writer opens the file again; a full queue means that it is awake.
            self.send(Message::Reopen(now))?;
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            match timeout(left, shown.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(KeyError::Ended),
                Err(_) => return Err(KeyError::Unavailable(reason)),
            }
        }
    }

    fn send(&self, message: Message) -> Result<(), KeyError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(KeyError::Ended)?;
        match sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Message::Reopen(_))) => Ok(()),
            Err(_) => Err(KeyError::Ended),
        }
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        match &*self.shown.borrow() {
            Ok(snapshot) => KeyStatus {
                spaces: snapshot.counts(),
                unavailable: snapshot.only_read.as_deref().map(|reason| {
                    format!("nothing can be stored, what is stored can be read: {reason}")
                }),
            },
            Err(reason) => KeyStatus {
                spaces: Vec::new(),
                unavailable: Some(reason.as_deref().unwrap_or(OPENING).to_owned()),
            },
        }
    }

    /// Takes no more changes, makes those that wait, and closes the file.
    pub async fn close(&self) {
        let sender = self
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(sender);
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(ended) = ended {
            drop(ended.await);
        }
    }
}

/// A change that is under way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Outcome, KeyError>>);

impl Pending {
    /// Waits until it is durable.
    ///
    /// # Errors
    /// When it was not made, or it is not known because the writer ended.
    pub async fn done(self) -> Result<Outcome, KeyError> {
        self.0.await.unwrap_or(Err(KeyError::Ended))
    }
}

#[cfg(test)]
mod tests;
