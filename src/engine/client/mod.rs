//! The client's side of one mirror: a view of what the server holds, dirty paths, and what is under way.
//!
//! The contract: feed it with events, responses and results, then call [`ClientEngine::step`] until it says that
//! nothing is due, and carry out every [`Output`] in order. The view is changed when an operation is *sent*; when one
//! fails or the line is cut, the view is compared with the server again (`compare`), so a wrong view costs messages,
//! never data.

mod compare;
mod moves;
mod resolve;
mod scan;
mod send;
mod status;
mod uploads;

pub use status::{Activity, Snapshot};
pub use uploads::{ReadOutcome, UploadJob};

use crate::debounce::{Hint, Key, Queue, Timing, Wait};
use crate::engine::brake::Hold;
use crate::engine::source::{Place, Source};
use crate::index::{NodeId, Tree};
use crate::model::limits::{MAX_OPS, MUTATE_WINDOW};
use crate::model::{Name, Sum};
use crate::wire::{BodyReader, Op, Request, Response};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a message now, in this order.
    Send(Request, Vec<u8>),
    /// Read a large file and send it (see [`UploadJob`]).
    Upload(UploadJob),
    /// Everything that a flush waited for is durable on the server.
    Flushed(u64),
}

/// What the server said of the session.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Sum of the share's tree.
    pub sum: Sum,
    /// The share's version.
    pub version: u64,
    /// Whether the share was filled by somebody else so far.
    pub first_contact: bool,
}

/// How the engine behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The waits of the queue.
    pub timing: Timing,
    /// Bytes of changes that may be under way.
    pub window: u64,
    /// How many large files are read or staged at a time.
    pub uploads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            window: MUTATE_WINDOW,
            uploads: 8,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    Offline,
    Comparing,
    Live,
}

/// A path that could not be mirrored.
#[derive(Debug, Clone)]
struct Trouble {
    message: String,
    since: Duration,
}

/// A group of operations on its way into a message.
#[derive(Debug, Default)]
struct Batch {
    ops: Vec<Op>,
    body: Vec<u8>,
    sent: Sent,
}

/// A message that is not acknowledged yet.
#[derive(Debug, Default)]
struct Sent {
    keys: Vec<(Key, Wait)>,
    bytes: u64,
}

/// A directory that is to be listed.
#[derive(Debug, Clone, Copy)]
struct Scan {
    dir: NodeId,
    /// Whether directories that look unchanged are listed too.
    deep: bool,
}

/// The engine of one source and one server.
#[derive(Debug)]
pub struct ClientEngine {
    settings: Settings,
    root: (u64, i64),
    view: Tree,
    queue: Queue,
    found: Vec<Key>,
    missing: Vec<Key>,
    held: Option<Hold>,
    scans: Vec<Scan>,
    scanned: bool,
    top_entries: usize,
    phase: Phase,
    lists: HashMap<u64, compare::Listing>,
    resync: bool,
    paused: Option<(String, Duration)>,
    version: u64,
    first_contact: bool,
    settled: bool,
    next_id: u64,
    batch: Batch,
    inflight: BTreeMap<u64, Sent>,
    inflight_bytes: u64,
    busy: HashMap<Key, Option<Wait>>,
    uploads: BTreeMap<u64, uploads::Upload>,
    ready: Vec<u64>,
    large: VecDeque<(Key, Wait)>,
    no_delta: BTreeSet<Key>,
    linked: HashMap<u64, BTreeSet<Key>>,
    flushes: Vec<(u64, u64)>,
    troubles: BTreeMap<Key, Trouble>,
    skipped: BTreeMap<Key, &'static str>,
    counters: status::Counters,
}

/// How many paths or directories one step looks at, so that events and answers get their turn.
const STEP: usize = 256;
/// How many messages may be without an acknowledgement.
const MAX_INFLIGHT: usize = 1024;
/// More dirty paths than this while the server is away are forgotten: a scan finds them again.
const MAX_QUEUE: usize = 500_000;

impl ClientEngine {
    /// An engine with the view that an earlier run left (or an empty one), for a source whose root directory has this
    /// inode number and birth time.
    #[must_use]
    pub fn new(settings: Settings, root: (u64, i64), view: Tree) -> Self {
        Self {
            settings,
            root,
            view,
            queue: Queue::new(settings.timing),
            found: Vec::new(),
            missing: Vec::new(),
            held: None,
            scans: Vec::new(),
            scanned: false,
            top_entries: 0,
            phase: Phase::Offline,
            lists: HashMap::new(),
            resync: false,
            paused: None,
            version: 0,
            first_contact: false,
            settled: false,
            next_id: 1,
            batch: Batch::default(),
            inflight: BTreeMap::new(),
            inflight_bytes: 0,
            busy: HashMap::new(),
            uploads: BTreeMap::new(),
            ready: Vec::new(),
            large: VecDeque::new(),
            no_delta: BTreeSet::new(),
            linked: HashMap::new(),
            flushes: Vec::new(),
            troubles: BTreeMap::new(),
            skipped: BTreeMap::new(),
            counters: status::Counters::default(),
        }
    }

    /// The view, so that its changed rows can be stored.
    pub fn view_mut(&mut self) -> &mut Tree {
        &mut self.view
    }

    /// A session is open. The first one starts a scan of the whole source.
    pub fn connected(&mut self, welcome: &Welcome, out: &mut Vec<Output>) {
        self.version = welcome.version;
        self.first_contact = welcome.first_contact;
        self.settled = false;
        self.paused = None;
        self.resync = false;
        if welcome.sum == self.view.root_sum() {
            self.go_live();
        } else {
            self.start_compare(out);
        }
    }

    fn go_live(&mut self) {
        self.phase = Phase::Live;
        if !self.scanned {
            self.scanned = true;
            self.rescan();
        }
    }

    /// Looks at the whole source again: at the start, after an overflow of the event queue, and now and then.
    pub fn rescan(&mut self) {
        self.scans.push(Scan {
            dir: self.view.root(),
            deep: true,
        });
        self.missing.clear();
        self.held = None;
    }

    /// The session is over. What was under way is looked at again, after a comparison.
    pub fn disconnected(&mut self, now: Duration) {
        self.phase = Phase::Offline;
        self.lists.clear();
        let batch = std::mem::take(&mut self.batch);
        let inflight = std::mem::take(&mut self.inflight);
        self.inflight_bytes = 0;
        for sent in inflight.into_values().chain([batch.sent]) {
            for (key, wait) in sent.keys {
                self.queue.wait(key, now, wait);
            }
        }
        for (key, again) in std::mem::take(&mut self.busy) {
            if let Some(wait) = again {
                self.queue.wait(key, now, wait);
            }
        }
        self.ready.clear();
        for upload in std::mem::take(&mut self.uploads).into_values() {
            self.queue.wait(upload.key, now, upload.wait);
        }
        for (key, wait) in std::mem::take(&mut self.large) {
            self.queue.wait(key, now, wait);
        }
    }

    /// Something happened to an entry of a directory.
    pub fn event(&mut self, dir: NodeId, name: &Name, hint: Hint, now: Duration) {
        if self.view.get(dir).is_none() {
            return;
        }
        if dir == self.view.root() && name.as_bytes() == b".syncd" {
            return;
        }
        if self.queue.len() > MAX_QUEUE {
            self.queue.clear();
            self.rescan();
        }
        self.queue.hint(
            Key {
                dir,
                name: name.clone(),
            },
            hint,
            now,
        );
    }

    /// Something happened to a directory itself, or inside it.
    pub fn directory_event(&mut self, dir: NodeId, hint: Hint, now: Duration) {
        if let Some(key) = self.key_of(dir) {
            self.queue.hint(key, hint, now);
        }
    }

    /// Something happened to the root itself.
    pub fn root_event(&mut self) {
        self.rescan();
    }

    /// Asks to be told ([`Output::Flushed`]) when everything that is dirty by now is durable on the server.
    pub fn flush(&mut self, token: u64, now: Duration) {
        let stamp = self.queue.next_stamp();
        self.queue.hurry(now);
        self.flushes.push((token, stamp));
    }

    /// A message of the server.
    ///
    /// # Errors
    /// When it does not follow the protocol; the session has to end.
    pub fn response(
        &mut self,
        response: Response,
        body: &[u8],
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), ProtocolError> {
        match response {
            Response::Applied {
                id,
                version,
                failed,
            } => self.applied(id, version, &failed, now),
            Response::Staged { upload, failed } => {
                self.staged(upload, failed, now);
                Ok(())
            }
            Response::Listing {
                id,
                entries,
                more,
                found,
            } => self.listed(
                id,
                &entries,
                more.as_ref(),
                found,
                &mut BodyReader::new(body),
                now,
                out,
            ),
            Response::Pong {} | Response::Received { .. } | Response::Recipe { .. } => Ok(()),
            Response::Welcome { .. } | Response::Refused { .. } => {
                Err(ProtocolError("out of place"))
            }
        }
    }

    /// Does a bounded amount of what is due. Returns whether more is due at once.
    pub fn step(&mut self, now: Duration, source: &mut impl Source, out: &mut Vec<Output>) -> bool {
        self.begin_resync(now, out);
        let mut budget = STEP;
        while budget > 0 && self.may_send() {
            budget -= 1;
            if !self.one(now, source, out) {
                break;
            }
            if self.batch.ops.len() >= MAX_OPS
                || self.batch.body.len() >= crate::model::limits::MUTATE_BODY_TARGET
            {
                self.send_batch(out);
            }
        }
        self.send_batch(out);
        self.report(out);
        budget == 0
    }

    /// When the next path is due, if nothing else happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let paused = self.paused.as_ref().map(|(_, until)| *until);
        if self.phase == Phase::Live && paused.is_none() {
            self.queue.next_due()
        } else {
            paused
        }
    }

    fn may_send(&self) -> bool {
        self.phase == Phase::Live
            && !self.resync
            && self.paused.is_none()
            && self.inflight_bytes < self.settings.window
            && self.inflight.len() < MAX_INFLIGHT
    }

    /// The most urgent thing: an event that is due, then what a scan found, then scanning, then what scans missed.
    fn one(&mut self, now: Duration, source: &mut impl Source, out: &mut Vec<Output>) -> bool {
        if let Some((key, wait)) = self.queue.pop(now) {
            self.resolve(key, wait, now, source, out);
        } else if let Some(key) = self.found.pop() {
            self.resolve_found(key, now, source, out);
        } else if let Some(upload) = self.ready.pop() {
            self.commit_upload(upload, now, source);
        } else if self.uploads.len() < self.settings.uploads
            && let Some((key, wait)) = self.large.pop_front()
        {
            self.resolve(key, wait, now, source, out);
        } else if let Some(scan) = self.scans.pop() {
            self.scan(scan, now, source);
        } else if self.held.is_none() && !self.missing.is_empty() {
            self.judge_missing();
            if let Some(key) = self.missing.pop().filter(|_| self.held.is_none()) {
                self.resolve_found(key, now, source, out);
            }
        } else {
            return false;
        }
        true
    }

    fn resolve_found(
        &mut self,
        key: Key,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) {
        if self.queue.deepen(&key) {
            return;
        }
        let wait = self.fresh_wait(now);
        self.resolve(key, wait, now, source, out);
    }

    /// The wait of a path that a scan found.
    fn fresh_wait(&mut self, now: Duration) -> Wait {
        Wait {
            due: now,
            since: now,
            stamp: self.queue.next_stamp(),
            failures: 0,
            made: false,
            deep: true,
            event: false,
        }
    }

    fn report(&mut self, out: &mut Vec<Output>) {
        if !self.flushes.is_empty() {
            let oldest = self.oldest().map_or(u64::MAX, |(stamp, _)| stamp);
            let scanning = !self.scans.is_empty()
                || !self.found.is_empty()
                || !self.missing.is_empty() && self.held.is_none()
                || self.resync
                || self.phase != Phase::Live;
            if scanning {
                // What a scan finds gets its number when it is looked at, and belongs to what is waited for.
                let stamp = self.queue.next_stamp();
                for (_, since) in &mut self.flushes {
                    *since = stamp;
                }
            }
            let (done, wait) = self
                .flushes
                .drain(..)
                .partition(|(_, stamp)| !scanning && oldest > *stamp);
            self.flushes = wait;
            out.extend(
                done.into_iter()
                    .map(|(token, _): (u64, u64)| Output::Flushed(token)),
            );
        }
        if !self.settled && self.is_idle() {
            self.settled = true;
            self.first_contact = false;
            out.push(Output::Send(Request::Settled {}, Vec::new()));
        }
    }

    /// The key of a node; none for the root.
    fn key_of(&self, id: NodeId) -> Option<Key> {
        let node = self.view.get(id).filter(|_| id != self.view.root())?;
        Some(Key {
            dir: node.parent(),
            name: Name::new(node.name()).ok()?,
        })
    }

    /// Where a directory of the view is on the local disk.
    fn place(&self, dir: NodeId) -> Option<Place> {
        let node = self.view.get(dir).filter(|node| node.entry.is_dir())?;
        let identity = if dir == self.view.root() {
            Some(self.root)
        } else {
            node.stat.map(|stat| (stat.inode, stat.birth))
        };
        Some(Place {
            path: self.view.path(dir)?,
            identity,
        })
    }
}

/// The server said something that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the protocol: {0}")]
pub struct ProtocolError(pub(crate) &'static str);

#[cfg(test)]
mod tests;
