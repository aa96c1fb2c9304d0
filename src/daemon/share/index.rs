//! The index of a share on the disk: loaded when the share is opened, kept up by a thread of its own, never in the way of
//! an acknowledgement.
//!
//! A mark in it says whether it was closed in order. While a share is open the mark says `open`, durably, from before
//! its first change on: whoever finds it so knows that the last changes may be missing.

use super::lock;
use crate::engine::server::{Memory, Server};
use crate::host::database::Origin;
use crate::host::disk::DiskStore;
use crate::host::index::{IndexStore, Loaded};
use crate::host::random::{self, RandomError};
use crate::host::{clock, thread};
use crate::index::{NodeId, Row, Tree};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long changes gather before they are saved.
const DELAY: Duration = Duration::from_millis(500);
/// How long after a failure the next attempt is made.
const RETRY: Duration = Duration::from_secs(5);
/// How long the end waits for the last save; without it the next start looks closer.
const LAST_SAVE: Duration = Duration::from_secs(5);
/// Rows that are saved at a time: what they take in memory, and how long the share is held to copy them.
const CHUNK: usize = 4096;

const GENERATION: &str = "generation";
const VERSION: &str = "version";
const STATE: &str = "state";
const OPEN: &[u8] = b"open";
const CLEAN: &[u8] = b"clean";

/// What is known of a share when it is opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Where it is kept; nothing when that cannot be used.
    pub(super) store: Option<IndexStore>,
    pub(super) tree: Tree,
    pub(super) generation: String,
    pub(super) version: u64,
    pub(super) memory: Memory,
}

impl Opened {
    /// Loads what a file remembers of a share, and marks it as open. What cannot be used is begun anew; without a file, or
    /// when the system refuses, the share is known for this run only.
    pub(super) fn load(file: Option<&Path>) -> Result<Self, RandomError> {
        let nothing = Self {
            store: None,
            tree: Tree::new(),
            generation: random::hex::<16>()?,
            version: 0,
            memory: Memory::Partial,
        };
        let Some(file) = file else {
            return Ok(nothing);
        };
        match IndexStore::open(file) {
            Ok((store, loaded)) => Ok(nothing.with(store, loaded)),
            Err(error) => {
                tracing::error!(error = %chain(&error), "the index cannot be kept; the next start reads the share anew");
                Ok(nothing)
            }
        }
    }

    fn with(mut self, store: IndexStore, loaded: Loaded) -> Self {
        let value = |name| loaded.meta.get(name).map(Vec::as_slice);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let clean = loaded.origin == Origin::Kept
            && loaded.damaged == 0
            && value(STATE).is_some_and(|state| state == CLEAN);
        let generation = value(GENERATION).and_then(text);
        let version = value(VERSION).and_then(|bytes| bytes.try_into().ok());
        let run = generation.zip(version.map(u64::from_le_bytes));
        let ids: Vec<NodeId> = loaded.rows.iter().map(|(id, _)| *id).collect();
        self.tree = Tree::from_rows(loaded.rows);
        let strays = ids.into_iter().filter(|id| self.tree.get(*id).is_none());
        let strays: Vec<(NodeId, Option<Row>)> = strays.map(|id| (id, None)).collect();
        let marked = store.save(strays, &[(STATE, Some(OPEN))]);
        match (marked, run) {
            // Only what is marked as open may go on where it ended: otherwise a crash would go unnoticed.
            (Ok(Origin::Kept), Some((generation, version))) if clean => {
                self.generation = generation;
                self.version = version;
                self.memory = Memory::Whole;
            }
            (Ok(Origin::Kept), _) => {}
            (Ok(_), _) => self.tree.touch_all(),
            (Err(error), _) => {
                tracing::error!(error = %chain(&error), "the index cannot be written for now");
            }
        }
        tracing::debug!(entries = self.tree.len(), clean, "an index was loaded");
        self.store = Some(store);
        self
    }
}

/// A generation and a version in it.
type Run = (String, u64);

/// The share's hold on the thread that saves.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    wake: Mutex<Option<SyncSender<()>>>,
    /// The generation and version of the last save that left nothing behind.
    saved: Arc<Mutex<Option<Run>>>,
    ended: Option<Mutex<Receiver<()>>>,
}

impl Keeper {
    /// Starts the thread that keeps the file up with a share.
    pub(super) fn start(
        store: Option<IndexStore>,
        core: &Arc<Mutex<Server<DiskStore>>>,
    ) -> io::Result<Self> {
        let Some(store) = store else {
            return Ok(Self::default());
        };
        let saved = Arc::default();
        let (wake, woken) = sync_channel(1);
        let (done, ended) = sync_channel(1);
        let saver = Saver {
            store,
            core: Arc::clone(core),
            saved: None,
            whole: Arc::clone(&saved),
            failing: false,
        };
        // Its end is seen by the channel that it lets go of.
        let _result = thread::spawn("syncd-index", move || {
            saver.run(&woken);
            drop(done);
        })?;
        Ok(Self {
            wake: Mutex::new(Some(wake)),
            saved,
            ended: Some(Mutex::new(ended)),
        })
    }

    /// Says that something changed. Never waits.
    pub(super) fn wake(&self) {
        if let Some(wake) = &*lock(&self.wake) {
            // A full queue means that it will look anyway.
            let _already_awake = wake.try_send(());
        }
    }

    /// Whether a run is saved up to a version.
    pub(super) fn has(&self, run: &Run) -> bool {
        lock(&self.saved).as_ref() == Some(run)
    }

    /// Saves what is left and closes the file in order. Nothing may change any more.
    pub(super) fn close(&self) {
        if lock(&self.wake).take().is_none() {
            return;
        }
        if let Some(ended) = &self.ended
            && lock(ended).recv_timeout(LAST_SAVE) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the index could not be saved in time");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread that saves.
struct Saver {
    store: IndexStore,
    core: Arc<Mutex<Server<DiskStore>>>,
    /// The generation and version that the file has.
    saved: Option<Run>,
    /// The same for others, when nothing was left behind.
    whole: Arc<Mutex<Option<Run>>>,
    /// Whether the last save failed.
    failing: bool,
}

impl Saver {
    fn run(mut self, woken: &Receiver<()>) {
        while self.gather(woken) {
            self.save();
        }
        // Two more attempts, after a failure, are as many as the end has time for.
        if (self.save() || self.save()) && !self.core.is_poisoned() {
            let closed = self.store.save(Vec::new(), &[(STATE, Some(CLEAN))]);
            if let Err(error) = closed {
                tracing::warn!(error = %chain(&error), "the index could not be closed");
            }
        }
    }

    /// Waits for changes, and lets more of them gather. Whether the share goes on.
    fn gather(&self, woken: &Receiver<()>) -> bool {
        if !self.failing && woken.recv().is_err() {
            return false;
        }
        let pause = if self.failing { RETRY } else { DELAY };
        let end = clock::monotonic() + pause;
        loop {
            let left = end.saturating_duration_since(clock::monotonic());
            match woken.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Saves what changed, in pieces. Whether all was saved.
    fn save(&mut self) -> bool {
        loop {
            let (rows, run) = {
                let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
                let rows = core.tree_mut().take_some_touched(CHUNK);
                (rows, (core.generation().to_owned(), core.version()))
            };
            let more = rows.len() == CHUNK;
            if rows.is_empty() && !self.failing && self.saved.as_ref() == Some(&run) {
                return true;
            }
            let version = run.1.to_le_bytes();
            let meta = [
                (GENERATION, Some(run.0.as_bytes())),
                (VERSION, Some(&version[..])),
                (STATE, Some(OPEN)),
            ];
            match self.store.save(rows, &meta) {
                Ok(origin) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the index is saved again");
                    }
                    self.saved = Some(run);
                    if origin != Origin::Kept {
                        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
                        core.tree_mut().touch_all();
                        continue;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(error = %chain(&error), "the index cannot be saved for now");
                    }
                    return false;
                }
            }
            if !more {
                lock(&self.whole).clone_from(&self.saved);
                return true;
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    text.join(": ")
}
