//! The content of one file in memory, which somebody reads while others use what is there of it already.

use super::{Key, Lease};
use crate::engine::ports::StoreError;
use crate::engine::source::Found;
use crate::host::clock;
use crate::model::limits::MAX_PIECE;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many use an entry. It changes only under the lock of the cache, and is read under it.
#[derive(Debug, Default)]
pub(super) struct Pins(AtomicU64);

impl Pins {
    pub(super) fn any(&self) -> bool {
        self.count() > 0
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it is the first.
    pub(super) fn add(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Whether it was the last.
    pub(super) fn remove(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// One version of a file.
#[derive(Debug)]
pub struct Body {
    pub(super) found: Found,
    pub(super) version: String,
    pub(super) size: u64,
    /// What it counts in the cache: it never changes.
    pub(super) weight: u64,
    pub(super) pins: Pins,
    pub(super) hits: AtomicU64,
    pub(super) since: Instant,
    progress: Mutex<Progress>,
    further: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// All but the last have [`MAX_PIECE`] bytes.
    pieces: Vec<Bytes>,
    end: Option<Result<[u8; 32], StoreError>>,
}

impl Body {
    pub(super) fn new(found: Found, version: &str, (size, weight): (u64, u64)) -> Self {
        Self {
            found,
            version: version.to_owned(),
            size,
            weight,
            pins: Pins::default(),
            hits: AtomicU64::new(0),
            since: clock::monotonic(),
            progress: Mutex::default(),
            further: Condvar::new(),
        }
    }

    /// What the file was when it was looked at.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T>(&self, mut of: impl FnMut(&Progress) -> Option<T>) -> T {
        let mut progress = self.progress();
        loop {
            if let Some(value) = of(&progress) {
                return value;
            }
            progress = self
                .further
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Bytes from a place within the file on: some, at most so many. Waits until they are there.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn piece(&self, at: u64, most: usize) -> Result<Bytes, StoreError> {
        let index = usize::try_from(at / MAX_PIECE as u64).unwrap_or(usize::MAX);
        let within = usize::try_from(at % MAX_PIECE as u64).unwrap_or(0);
        self.wait(
            |progress| match (progress.pieces.get(index), &progress.end) {
                (Some(piece), _) => {
                    let end = within.saturating_add(most).min(piece.len());
                    Some(Ok(piece.slice(within.min(end)..end)))
                }
                (None, Some(Err(error))) => Some(Err(error.clone())),
                (None, Some(Ok(_))) => Some(Ok(Bytes::new())),
                (None, None) => None,
            },
        )
    }

    /// The SHA-256 of the file. Waits until all of it is there.
    ///
    /// # Errors
    /// When it could not be read, or changed meanwhile.
    pub fn sum(&self) -> Result<[u8; 32], StoreError> {
        self.wait(|progress| progress.end.clone())
    }

    fn grow(&self, piece: Vec<u8>) {
        self.progress().pieces.push(piece.into());
        self.further.notify_all();
    }

    fn end(&self, end: Result<[u8; 32], StoreError>) {
        let mut progress = self.progress();
        if progress.end.is_none() {
            progress.end = Some(end);
        }
        drop(progress);
        self.further.notify_all();
    }
}

/// Fills a buffer from a place of a file on: how many bytes there were.
pub type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> Result<usize, StoreError> + 'a;

/// Reads a file for all who wait for it. When it is dropped before, they are told so.
#[derive(Debug)]
pub struct Loader {
    lease: Lease,
    key: Key,
    keep: bool,
}

impl Loader {
    pub(super) fn new(lease: Lease, key: Key) -> Self {
        Self {
            lease,
            key,
            keep: false,
        }
    }

    /// Reads everything. `check` tells whether the file is still the same. Where
    /// `lasting` is false, a later change could leave no trace: it serves those who wait, and is not kept.
    pub fn load(
        mut self,
        read: &ReadAt<'_>,
        check: &dyn Fn() -> Result<(), StoreError>,
        lasting: bool,
    ) {
        let end = self.read(read).and_then(|sum| check().map(|()| sum));
        self.keep = end.is_ok() && lasting;
        self.lease.body.end(end);
    }

    fn read(&self, read: &ReadAt<'_>) -> Result<[u8; 32], StoreError> {
        let body = self.lease.body();
        let (mut sum, mut at) = (Sha256::new(), 0);
        while at < body.size {
            let want = usize::try_from(body.size - at).unwrap_or(MAX_PIECE);
            let mut piece = vec![0; want.min(MAX_PIECE)];
            if read(&mut piece, at)? < piece.len() {
                return Err(StoreError::changed("it became shorter while it was read"));
            }
            sum.update(&piece);
            at += piece.len() as u64;
            body.grow(piece);
        }
        Ok(sum.finalize().into())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if !self.keep {
            let body = &self.lease.body;
            self.lease.cache.forget_version(&self.key, &body.version);
            body.end(Err(StoreError::changed("it was not read to its end")));
        }
    }
}
