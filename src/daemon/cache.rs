//! Whole files in memory that are fetched again and again.
//!
//! An entry stands for one version of a file, so it is never wrong, only out of date: whoever uses it has looked at the file
//! just before. One lock, held for no longer than a look-up, orders look-ups, pins and evictions; bytes are read and sent
//! outside of it.

mod body;

pub use body::{Body, Loader};

use crate::engine::source::Found;
use crate::host::clock;
use crate::model::RelPath;
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use std::collections::hash_map::RandomState;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an entry takes beside its content and its path, in bytes: rather too much.
const OVERHEAD: u64 = 512;
/// Entries for which room is made at the start; more are no harm.
const ENTRIES: usize = 4096;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheOptions {
    /// Bytes of all files together; 0 for nothing at all.
    pub max_bytes: u64,
    /// The longest file, in bytes.
    pub max_entry: u64,
}

/// A file of a share.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The share; empty for the directory itself.
    pub share: Arc<str>,
    /// The file.
    pub path: RelPath,
}

impl Key {
    fn len(&self) -> usize {
        self.share.len() + self.path.as_bytes().len()
    }
}

/// What is found of a file in the cache.
#[derive(Debug)]
pub enum Taken {
    /// It is there, or on its way.
    There(Lease),
    /// It is to be read by the loader, once for all who ask from now on.
    Load(Lease, Loader),
    /// It is not kept: it is too long, or all room is in use.
    Apart,
}

/// One entry, for whoever shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its path.
    pub path: RelPath,
    /// The version that it is.
    pub version: String,
    /// Its length in bytes.
    pub size: u64,
    /// How often it was served from memory.
    pub hits: u64,
    /// Milliseconds since it was read.
    pub age_ms: u64,
    /// How many read it just now.
    pub users: u64,
}

/// What the cache says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// How many files it has.
    pub entries: u64,
    /// Their bytes, and what they take beside.
    pub bytes: u64,
    /// Reads that were served from it.
    pub hits: u64,
    /// Reads that went to the disk.
    pub misses: u64,
}

#[derive(Debug)]
struct Weigh;

impl Weighter<Key, Arc<Body>> for Weigh {
    fn weight(&self, _: &Key, body: &Arc<Body>) -> u64 {
        body.weight
    }
}

#[derive(Debug)]
struct Pinned;

impl Lifecycle<Key, Arc<Body>> for Pinned {
    type RequestState = ();

    fn is_pinned(&self, _: &Key, body: &Arc<Body>) -> bool {
        body.pins.any()
    }
}

#[derive(Debug)]
struct Inner {
    // It is one shard, so that an entry may be as large as all of it.
    entries: Cache<Key, Arc<Body>, Weigh, RandomState, Pinned>,
    /// Bytes of what is in use, also of what is no entry any more.
    pinned: u64,
    hits: u64,
    misses: u64,
}

/// The files that are in memory.
#[derive(Debug)]
pub struct FileCache {
    inner: Mutex<Inner>,
    options: CacheOptions,
}

impl FileCache {
    /// An empty one.
    #[must_use]
    pub fn new(options: CacheOptions) -> Arc<Self> {
        let built = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(ENTRIES)
            .weight_capacity(options.max_bytes)
            .build();
        let entries = match built {
            Ok(built) => Cache::with_options(built, Weigh, RandomState::new(), Pinned),
            Err(_) => Cache::with(
                ENTRIES,
                options.max_bytes,
                Weigh,
                RandomState::new(),
                Pinned,
            ),
        };
        Arc::new(Self {
            inner: Mutex::new(Inner {
                entries,
                pinned: 0,
                hits: 0,
                misses: 0,
            }),
            options,
        })
    }

    /// How much it may keep.
    #[must_use]
    pub fn options(&self) -> CacheOptions {
        self.options
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file of a length may be kept.
    #[must_use]
    pub fn fits(&self, size: u64) -> bool {
        size <= self.options.max_entry && size.saturating_add(OVERHEAD) <= self.options.max_bytes
    }

    /// The file as it is now, for somebody who reads it. Where `load` is not wanted, only what is there.
    #[must_use]
    pub fn take(self: &Arc<Self>, key: &Key, now: (&Found, &str, u64), load: bool) -> Taken {
        let (found, version, size) = now;
        let mut inner = self.lock();
        let there = inner.entries.get(key).cloned();
        if let Some(body) = there {
            if body.version == version {
                inner.hits += u64::from(load);
                body.hits.fetch_add(u64::from(load), Ordering::Relaxed);
                return Taken::There(self.pin(&mut inner, body));
            }
            // It is of an older version: nobody asks for that any more.
            inner.entries.remove(key);
        }
        // Neither what is only summed nor a small rest counts.
        inner.misses += u64::from(load);
        let weight = size.saturating_add(OVERHEAD + key.len() as u64);
        let room = inner.pinned.saturating_add(weight) <= self.options.max_bytes;
        if !load || !room || !self.fits(size) {
            return Taken::Apart;
        }
        let body = Arc::new(Body::new(found.clone(), version, (size, weight)));
        // Pinned first: what is not would be refused if it is larger than the part for what is used often.
        let lease = self.pin(&mut inner, Arc::clone(&body));
        inner.entries.insert(key.clone(), body);
        let loading = self.pin(&mut inner, Arc::clone(&lease.body));
        drop(inner);
        Taken::Load(lease, Loader::new(loading, key.clone()))
    }

    fn pin(self: &Arc<Self>, inner: &mut Inner, body: Arc<Body>) -> Lease {
        if body.pins.add() {
            inner.pinned += body.weight;
        }
        Lease {
            cache: Arc::clone(self),
            body,
        }
    }

    fn unpin(&self, body: &Body) {
        let mut inner = self.lock();
        if body.pins.remove() {
            inner.pinned = inner.pinned.saturating_sub(body.weight);
        }
    }

    /// Forgets files that changed.
    pub fn forget<'a>(&self, share: &Arc<str>, paths: impl Iterator<Item = &'a RelPath>) {
        let mut inner = self.lock();
        if inner.entries.is_empty() {
            return;
        }
        for path in paths {
            let key = Key {
                share: Arc::clone(share),
                path: path.clone(),
            };
            inner.entries.remove(&key);
        }
    }

    /// Forgets an entry if it still is the one that is meant.
    pub(in crate::daemon) fn forget_version(&self, key: &Key, version: &str) {
        let mut inner = self.lock();
        inner
            .entries
            .remove_if(key, |body: &Arc<Body>| body.version == version);
    }

    /// The entries of a share, in the order of their paths.
    #[must_use]
    pub fn list(&self, share: &str) -> Vec<Shown> {
        let now = clock::monotonic();
        let inner = self.lock();
        let entries = inner.entries.iter().filter(|(key, _)| *key.share == *share);
        let mut shown: Vec<Shown> = entries
            .map(|(key, body)| Shown {
                path: key.path.clone(),
                version: body.version.clone(),
                size: body.size,
                hits: body.hits.load(Ordering::Relaxed),
                age_ms: u64::try_from(now.saturating_duration_since(body.since).as_millis())
                    .unwrap_or(u64::MAX),
                users: body.pins.count(),
            })
            .collect();
        drop(inner);
        shown.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        shown
    }

    /// Whether it has nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// What it says of itself.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let inner = self.lock();
        Usage {
            entries: inner.entries.len() as u64,
            bytes: inner.entries.weight(),
            hits: inner.hits,
            misses: inner.misses,
        }
    }
}

/// An entry in use: it is not evicted before this is dropped.
#[derive(Debug)]
pub struct Lease {
    cache: Arc<FileCache>,
    body: Arc<Body>,
}

impl Lease {
    /// What it holds.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cache.unpin(&self.body);
    }
}

#[cfg(test)]
mod tests;
