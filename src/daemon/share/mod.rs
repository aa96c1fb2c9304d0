//! One share while the server runs: its engine, its writer, and what the status says of it.

mod drift;
mod foreign;
mod held;
mod index;
mod meta;
mod shares;
mod user;
mod visit;

pub use foreign::is_bare;
pub use held::Held;
pub use meta::MetaError;
pub use shares::{Shares, SharesError};
pub use user::{About, User};
pub use visit::Visitor;

use crate::daemon::share::index::{Keeper, Opened};
use crate::daemon::share::meta::{Meta, Use, WriterMeta};
use crate::daemon::status::{PathProblem, ShareStatus, Writer};
use crate::engine::server::{Look, Server};
use crate::host::devices::DeviceInfo;
use crate::host::disk::{DiskStore, Durability, Private};
use crate::host::root::Root;
use crate::host::{random, thread};
use crate::model::{Fault, escape};
use crate::wire::Code;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many problems the status names.
const NAMED_PROBLEMS: usize = 100;
/// How many paths that somebody else changed a look names in the log.
const NAMED_DRIFT: usize = 20;

/// What is done for shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upkeep {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How often a share is swept for what somebody else did to it.
    pub sweep: Duration,
}

/// How the shares of a server are kept.
#[derive(Clone, Copy, Debug)]
struct How<'a> {
    upkeep: Upkeep,
    /// Where the indexes are; none are kept without.
    state: Option<&'a Path>,
}

/// Why a session is not opened, or ends: what the peer is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The class.
    pub code: Code,
    /// For a person.
    pub message: String,
}

impl Refusal {
    /// A refusal of one class.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn replaced() -> Self {
        Self::new(Code::Replaced, "a newer connection took over")
    }
}

/// One share.
#[derive(Debug)]
pub struct Share {
    /// First, so that the index is closed while the directory is still locked.
    keeper: Keeper,
    name: Option<String>,
    path: PathBuf,
    private: Arc<Private>,
    store: Arc<DiskStore>,
    core: Arc<Mutex<Server<DiskStore>>>,
    /// Changes of those who do not mirror it.
    foreign: foreign::Queue,
    /// Files whose content was read to be compared, since the share was opened.
    read: AtomicU64,
    /// Whether the directory was looked at since the share was opened.
    looked: AtomicBool,
    lease: Mutex<Lease>,
    /// Grows with every session; whoever holds an older number commits nothing any more.
    epoch: AtomicU64,
    seen: Mutex<Seen>,
    sweeper: SyncSender<()>,
    /// How many sweeps found that somebody else changed the share.
    drifted: watch::Sender<u64>,
    /// Dropped when the share ends: then its sweeps do.
    _life: SyncSender<()>,
}

/// Who holds the share.
#[derive(Debug)]
struct Lease {
    meta: Meta,
    session: Option<CancellationToken>,
}

/// What the status says, kept apart so that it never waits for a commit.
#[derive(Clone, Debug, Default)]
struct Seen {
    entries: u64,
    version: u64,
    generation: String,
    drift: u64,
    problems: Vec<PathProblem>,
    paused: Option<String>,
    last_commit: Option<Instant>,
}

/// What a client says when it comes.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who it is.
    pub device: DeviceInfo,
    /// Id of the source tree.
    pub source: String,
    /// The source for a person.
    pub source_name: String,
    /// What to do when somebody else holds the share.
    pub take_over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked leaves at worst a tree that differs from the disk; the next session compares them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Share {
    fn open(
        name: Option<String>,
        path: &Path,
        root: Root,
        private: Arc<Private>,
        meta: Meta,
        how: How<'_>,
    ) -> Result<Arc<Self>, SharesError> {
        let store = Arc::new(DiskStore::open(root, &private, how.upkeep.durability)?);
        let file = how.state.map(|state| state.join(meta.index_file()));
        let known = Opened::load(file.as_deref())?;
        let run = (known.generation, known.version);
        let core = Server::new(Arc::clone(&store), known.tree, run, known.memory);
        let core = Arc::new(Mutex::new(core));
        let keeper = Keeper::start(known.store, &core).map_err(SharesError::Thread)?;
        let (sweeper, wake) = sync_channel(1);
        let sweep = store.sweeper();
        // It ends when the share is dropped; nobody has to wait for rubbish.
        let _ended = thread::spawn("syncd-sweep", move || {
            while wake.recv().is_ok() {
                sweep();
            }
        })
        .map_err(SharesError::Thread)?;
        let (life, living) = sync_channel(0);
        let share = Arc::new(Self {
            keeper,
            name,
            path: path.to_owned(),
            private,
            store,
            core,
            read: AtomicU64::new(0),
            looked: AtomicBool::new(false),
            foreign: foreign::Queue::default(),
            lease: Mutex::new(Lease {
                meta,
                session: None,
            }),
            epoch: AtomicU64::new(0),
            seen: Mutex::default(),
            sweeper,
            drifted: watch::Sender::new(0),
            _life: life,
        });
        drift::start(&share, how.upkeep.sweep, living).map_err(SharesError::Thread)?;
        share.wake_sweeper();
        Ok(share)
    }

    /// Ends the share: nothing is committed any more, and its index is saved and closed in order.
    pub fn close(&self) {
        {
            let _core = lock(&self.core);
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.keeper.close();
    }

    /// How many files were read to be compared with the index, since the share was opened.
    #[must_use]
    pub fn files_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether the index on the disk has all of it.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        let core = lock(&self.core);
        let run = (core.generation().to_owned(), core.version());
        !core.tree().is_touched() && self.keeper.has(&run)
    }

    /// Changes with each sweep that found that somebody else changed the share.
    #[must_use]
    pub fn drifted(&self) -> watch::Receiver<u64> {
        self.drifted.subscribe()
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &Arc<DiskStore> {
        &self.store
    }

    /// Makes somebody its writer, or says who is. An older session of the same writer ends.
    ///
    /// # Errors
    /// When another writer holds it, or this cannot be recorded.
    pub fn attach(self: &Arc<Self>, claim: &Claim) -> Result<Held, Refusal> {
        let mut lease = lock(&self.lease);
        let wanted = WriterMeta {
            device: claim.device.id.clone(),
            device_name: claim.device.name.clone(),
            source: claim.source.clone(),
            source_name: claim.source_name.clone(),
        };
        let mut meta = lease.meta.clone();
        let same = |writer: &WriterMeta| {
            (&writer.device, &writer.source) == (&wanted.device, &wanted.source)
        };
        match &meta.writer {
            Some(writer) if same(writer) => {}
            Some(writer) if !claim.take_over => {
                return Err(Refusal::new(
                    Code::Held,
                    format!(
                        "`{}` of device `{}` fills this share; `--take-over` replaces it",
                        escape(writer.source_name.as_bytes()),
                        escape(writer.device_name.as_bytes())
                    ),
                ));
            }
            _ => meta.settled = false,
        }
        meta.writer = Some(wanted);
        self.record(&mut lease, meta)?;
        if let Some(older) = lease.session.take() {
            older.cancel();
        }
        let replaced = CancellationToken::new();
        lease.session = Some(replaced.clone());
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Held {
            share: Arc::clone(self),
            epoch,
            replaced,
        })
    }

    fn record(&self, lease: &mut Lease, meta: Meta) -> Result<(), Refusal> {
        if lease.meta != meta {
            let again = |error: MetaError| match error.fault() {
                Fault::Full if self.store.make_room() => meta.save(&self.private),
                _ => Err(error),
            };
            if let Err(error) = meta.save(&self.private).or_else(again) {
                tracing::error!(%error, share = %self.title(), "a share's state cannot be written");
                return Err(Refusal::new(
                    Code::Fault(error.fault()),
                    "the server cannot record who fills the share",
                ));
            }
            lease.meta = meta;
        }
        Ok(())
    }

    /// Its name for the log.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("the directory itself")
    }

    /// Its name; empty for the directory itself.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// What the status says.
    #[must_use]
    pub fn status(&self) -> ShareStatus {
        let seen = lock(&self.seen).clone();
        let lease = lock(&self.lease);
        let writer = lease.meta.writer.as_ref().map(|writer| Writer {
            device: escape(writer.device_name.as_bytes()),
            source: escape(writer.source_name.as_bytes()),
        });
        let age = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        ShareStatus {
            name: self.name.clone(),
            path: escape(std::os::unix::ffi::OsStrExt::as_bytes(
                self.path.as_os_str(),
            )),
            writer,
            connected: lease.session.is_some(),
            entries: seen.entries,
            version: seen.version,
            generation: seen.generation,
            last_commit_age_ms: seen.last_commit.map(age),
            drift: seen.drift,
            kept: self.kept(),
            problems: seen.problems,
            paused: seen.paused,
        }
    }

    fn kept(&self) -> Vec<String> {
        let kept = self.path.join(".syncd/kept");
        let folders = self.store.kept().into_iter();
        let shown = folders.map(|folder| kept.join(folder).display().to_string());
        shown.map(|path| escape(path.as_bytes())).collect()
    }

    fn note(&self, core: &Server<DiskStore>, commit: Option<Instant>) {
        let problems = core
            .problems()
            .take(NAMED_PROBLEMS)
            .map(|problem| PathProblem {
                path: problem.path.to_string(),
                message: problem.message.clone(),
                since_ms: None,
            });
        let problems = problems.collect();
        let mut seen = lock(&self.seen);
        *seen = Seen {
            entries: core.tree().len() as u64,
            version: core.version(),
            generation: core.generation().to_owned(),
            drift: core.drift(),
            problems,
            paused: core.paused().map(str::to_owned),
            last_commit: commit.or(seen.last_commit),
        };
        drop(seen);
        self.keeper.wake();
    }

    /// Says what a look at the directory found. A run of the index ends where it turns out to be behind.
    fn tell(&self, core: &mut Server<DiskStore>, look: &Look) {
        let first = !self.looked.swap(true, Ordering::Relaxed);
        self.read.fetch_add(look.read, Ordering::Relaxed);
        let (share, differences) = (self.title(), look.differences);
        if look.read > 0 || look.differences > 0 {
            tracing::info!(%share, differences, read = look.read, "the directory was compared with the index");
        }
        if !look.drift {
            return;
        }
        for path in look.paths.iter().take(NAMED_DRIFT) {
            tracing::warn!(%share, %path, "somebody else changed the share");
        }
        if first {
            match random::hex::<16>() {
                Ok(generation) => core.renew(generation),
                Err(error) => tracing::error!(%error, "the index goes on under its old name"),
            }
        }
    }

    fn wake_sweeper(&self) {
        if self.store.take_rubbish() {
            // A full queue means that it will look again anyway.
            let _already_awake = self.sweeper.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
