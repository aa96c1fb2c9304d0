//! The client's side of one mirror: a view of what the server holds, dirty paths, and what is under way.
//!
//! The contract: feed it with events, responses and results, then call [`ClientEngine::step`] until it says that
//! nothing is due, and carry out every [`Output`] in order. The view is changed when an operation is *sent*; when one
//! fails or the line is cut, the view is compared with the server again (`compare`), so a wrong view costs messages,
//! never data.

mod compare;
mod content;
mod flush;
mod guard;
mod ignored;
mod links;
mod mounts;
mod moves;
mod poll;
mod repair;
mod resolve;
mod root;
mod scan;
mod scans;
mod send;
mod session;
mod status;
mod uploads;

pub use guard::Held;
pub use ignored::Ignored;
pub use root::Memory;
pub use session::{ProtocolError, Welcome};
pub use status::{Activity, Snapshot};
pub use uploads::{ReadOutcome, UploadJob};

use crate::debounce::{Hint, Key, Queue, Timing, Wait};
use crate::engine::source::{Place, RootId, Source};
use crate::index::{NodeId, Tree};
use crate::model::Name;
use crate::model::limits::{MAX_OPS, MUTATE_WINDOW};
use crate::wire::{Op, Request};
use guard::Guard;
use ignored::Ignore;
use links::Links;
use poll::Unwatched;
use root::Root;
use scans::Scans;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
    /// Accepted deletions are on their way: how many entries; or why not.
    Accepted(Result<usize, String>),
}

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The waits of the queue.
    pub timing: Timing,
    /// Bytes of changes that may be under way.
    pub window: u64,
    /// How many large files are read or staged at a time.
    pub uploads: usize,
    /// What share of the mirror, in percent, may go missing unseen without a person's word.
    pub delete_guard: u8,
    /// Patterns of what is not mirrored, in gitignore syntax; files of the source win over them.
    pub ignore: Vec<String>,
    /// What becomes of what was mirrored and is ignored from now on.
    pub ignored: Ignored,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            window: MUTATE_WINDOW,
            uploads: 8,
            delete_guard: 50,
            ignore: Vec::new(),
            ignored: Ignored::Keep,
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
    /// Where moves began: what is there again when they are lost was seen to go.
    vacated: Vec<(Key, Wait)>,
    /// The number and time of its oldest change.
    oldest: Option<(u64, Duration)>,
    bytes: u64,
}

/// The engine of one source and one server.
#[derive(Debug)]
pub struct ClientEngine {
    settings: Settings,
    root: Root,
    view: Tree,
    queue: Queue,
    /// What scans found to be other than in the view.
    found: VecDeque<Key>,
    guard: Guard,
    /// Directories on which a file system was mounted when they were mirrored, and is not now.
    unmounted: HashSet<NodeId>,
    ignore: Ignore,
    scans: Scans,
    unwatched: Unwatched,
    scanned: bool,
    top_entries: usize,
    phase: Phase,
    lists: HashMap<u64, compare::Listing>,
    /// Paths that were seen to go, of which the server has perhaps not heard: what a comparison finds there went too.
    unheard: HashSet<Key>,
    resync: bool,
    paused: Option<(String, Duration)>,
    version: u64,
    settled: bool,
    /// The server knows that it is.
    told: bool,
    next_id: u64,
    batch: Batch,
    inflight: BTreeMap<u64, Sent>,
    inflight_bytes: u64,
    /// Files whose content is under way: they are not looked at again before it has arrived.
    busy: HashSet<Key>,
    /// Those of them that changed meanwhile.
    again: Queue,
    uploads: BTreeMap<u64, uploads::Upload>,
    ready: Vec<u64>,
    /// Large files that wait for their turn, the oldest first.
    large: Queue,
    known: uploads::Known,
    rests: uploads::Rests,
    links: Links,
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
    /// An engine with what an earlier run left (or nothing), for a source with this root; none when it is missing.
    #[must_use]
    pub fn new(settings: Settings, root: Option<RootId>, view: Tree, memory: &Memory) -> Self {
        Self {
            root: Root::new(root, memory),
            view,
            queue: Queue::new(settings.timing),
            found: VecDeque::new(),
            guard: Guard::new(memory.held),
            unmounted: HashSet::new(),
            ignore: Ignore::new(&settings.ignore, settings.ignored),
            scans: Scans::default(),
            unwatched: Unwatched::default(),
            scanned: false,
            top_entries: 0,
            phase: Phase::Offline,
            lists: HashMap::new(),
            unheard: HashSet::new(),
            resync: false,
            paused: None,
            version: 0,
            settled: false,
            told: false,
            next_id: 1,
            batch: Batch::default(),
            inflight: BTreeMap::new(),
            inflight_bytes: 0,
            busy: HashSet::new(),
            again: Queue::new(settings.timing),
            uploads: BTreeMap::new(),
            ready: Vec::new(),
            large: Queue::new(settings.timing),
            known: uploads::Known::default(),
            rests: uploads::Rests::default(),
            links: Links::default(),
            flushes: Vec::new(),
            troubles: BTreeMap::new(),
            skipped: BTreeMap::new(),
            counters: status::Counters::default(),
            settings,
        }
    }

    /// The view, so that its changed rows can be stored.
    pub fn view_mut(&mut self) -> &mut Tree {
        &mut self.view
    }

    /// Looks at the whole source again: at the start, after an overflow of the event queue, and now and then.
    pub fn rescan(&mut self) {
        self.scans.push(self.view.root());
        self.guard.restart();
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
        let key = Key {
            dir,
            name: name.clone(),
        };
        self.hint(key.clone(), hint, now);
        if hint == Hint::Gone {
            self.guard.seen_to_go(&key);
        }
    }

    /// Something happened to a directory itself, or inside it.
    pub fn directory_event(&mut self, dir: NodeId, hint: Hint, now: Duration) {
        match self.key_of(dir) {
            Some(key) => self.hint(key, hint, now),
            None if hint == Hint::Inside => {}
            None => self.root_event(),
        }
    }

    /// Does a bounded amount of what is due. Returns whether more is due at once.
    pub fn step(&mut self, now: Duration, source: &mut impl Source, out: &mut Vec<Output>) -> bool {
        self.check_root_when_due(now, source);
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
        let root = self.root.due();
        if let Some((_, until)) = &self.paused {
            return Some(root.min(*until));
        }
        // When nothing may be sent, it is an answer of the server that changes this.
        let due = self.queue.next_due().into_iter();
        let due = due.chain(self.unwatched.next()).min();
        Some(
            due.filter(|_| self.may_send())
                .map_or(root, |due| due.min(root)),
        )
    }

    fn may_send(&self) -> bool {
        self.phase == Phase::Live
            && !self.resync
            && self.paused.is_none()
            && !self.is_away()
            && self.inflight_bytes < self.settings.window
            && self.inflight.len() < MAX_INFLIGHT
    }

    /// The most urgent thing: an event that is due, then what a scan found, then scanning, then what scans missed.
    fn one(&mut self, now: Duration, source: &mut impl Source, out: &mut Vec<Output>) -> bool {
        if let Some((key, wait)) = self.queue.pop(now) {
            self.resolve(key, wait, now, source, out);
        } else if let Some(key) = self.found.pop_front() {
            self.resolve_found(key, now, source, out);
        } else if let Some(upload) = self.ready.pop() {
            self.commit_upload(upload, now, source, out);
        } else if self.uploads.len() < self.settings.uploads
            && let Some((key, wait)) = self.large.pop(Duration::MAX)
        {
            self.resolve(key, wait, now, source, out);
        } else if let Some(dir) = self.scans.next() {
            self.scan(dir, now, source);
        } else if self.poll(now) {
            return true;
        } else {
            return self.next_missing(now, source, out);
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
        if self.is_unlisted(key.dir) {
            // The rules of its directory are not known yet. It is found again when that is listed.
            return;
        }
        if self.queue.get(&key).is_some_and(|wait| wait.failures == 0) {
            return;
        }
        let mut wait = self.fresh_wait(now);
        // What was seen to go was, also if telling the server failed.
        wait.left = self.queue.remove(&key).is_some_and(|old| old.left);
        self.resolve(key, wait, now, source, out);
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
            Some((self.root.now.inode, self.root.now.birth))
        } else {
            node.stat.map(|stat| (stat.inode, stat.birth))
        };
        Some(Place {
            path: self.view.path(dir)?,
            identity,
        })
    }
}

#[cfg(test)]
mod tests;
