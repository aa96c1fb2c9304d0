//! One share while the server runs: its engine, its writer, and what the status says of it.

mod meta;
mod shares;

pub use meta::MetaError;
pub use shares::{Shares, SharesError};

use crate::daemon::share::meta::{Meta, Use, WriterMeta};
use crate::daemon::status::{PathProblem, ShareStatus, Writer};
use crate::engine::ports::StoreError;
use crate::engine::server::{Applied, Group, Listing, Server};
use crate::host::devices::DeviceInfo;
use crate::host::disk::{DiskStore, Durability, Private, Staged};
use crate::host::root::Root;
use crate::host::{clock, random, thread};
use crate::index::Tree;
use crate::model::{Name, RelPath, escape};
use crate::wire::{Code, Response};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many problems the status names.
const NAMED_PROBLEMS: usize = 100;

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
    name: Option<String>,
    path: PathBuf,
    private: Arc<Private>,
    store: Arc<DiskStore>,
    core: Mutex<Server<DiskStore>>,
    lease: Mutex<Lease>,
    /// Grows with every session; whoever holds an older number commits nothing any more.
    epoch: AtomicU64,
    seen: Mutex<Seen>,
    sweeper: SyncSender<()>,
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

/// A session's hold on a share.
#[derive(Clone, Debug)]
pub struct Held {
    /// The share.
    pub share: Arc<Share>,
    /// The number of the session.
    pub epoch: u64,
    /// Cancelled when a newer session of the writer comes.
    pub replaced: CancellationToken,
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
        durability: Durability,
    ) -> Result<Arc<Self>, SharesError> {
        let store = Arc::new(DiskStore::open(root, &private, durability)?);
        let generation = random::hex::<16>()?;
        let core = Server::new(Arc::clone(&store), Tree::new(), generation, 0);
        let (sweeper, wake) = sync_channel(1);
        let sweep = store.sweeper();
        // It ends when the share is dropped; nobody has to wait for rubbish.
        let _ended = thread::spawn("syncd-sweep", move || {
            while wake.recv().is_ok() {
                sweep();
            }
        })
        .map_err(SharesError::Thread)?;
        let share = Arc::new(Self {
            name,
            path: path.to_owned(),
            private,
            store,
            core: Mutex::new(core),
            lease: Mutex::new(Lease {
                meta,
                session: None,
            }),
            epoch: AtomicU64::new(0),
            seen: Mutex::default(),
            sweeper,
        });
        share.wake_sweeper();
        Ok(share)
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
            if let Err(error) = meta.save(&self.private) {
                tracing::error!(%error, share = %self.title(), "a share's state cannot be written");
                let fault = match error {
                    MetaError::System(errno) => crate::host::root::fault(errno),
                    _ => crate::model::Fault::Io,
                };
                return Err(Refusal::new(
                    Code::Fault(fault),
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
            problems: seen.problems,
            paused: seen.paused,
        }
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
    }

    fn wake_sweeper(&self) {
        if self.store.take_rubbish() {
            // A full queue means that it will look again anyway.
            let _already_awake = self.sweeper.try_send(());
        }
    }
}

impl Held {
    /// Whether no newer session has come.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.share.epoch.load(Ordering::SeqCst) == self.epoch
    }

    /// The engine, for as long as this session is the share's.
    fn core(&self) -> Result<MutexGuard<'_, Server<DiskStore>>, Refusal> {
        let core = lock(&self.share.core);
        if self.is_current() {
            Ok(core)
        } else {
            Err(Refusal::replaced())
        }
    }

    /// Compares the share with its directory, and greets. The message and its body.
    ///
    /// # Errors
    /// When a newer session has come.
    pub fn welcome(&self, minor: u16) -> Result<(Response, Vec<u8>), Refusal> {
        let (id, settled) = {
            let lease = lock(&self.share.lease);
            (lease.meta.id.clone(), lease.meta.settled)
        };
        let mut core = self.core()?;
        let keep = || {
            let time = humantime::format_rfc3339_seconds(clock::wall()).to_string();
            Name::new(time.as_bytes()).ok()
        };
        core.forget_session();
        core.set_keep(if settled { None } else { keep() });
        let differences = core.refresh();
        if differences > 0 {
            tracing::info!(share = %self.share.title(), differences, "the directory differed from the index");
        }
        self.share.note(&core, None);
        let welcome = Response::Welcome {
            minor,
            share: id,
            generation: core.generation().to_owned(),
            version: core.version(),
            first_contact: !settled,
        };
        Ok((welcome, core.root_sum().to_bytes().to_vec()))
    }

    /// Brings a large group into view; see [`Server::begin`].
    ///
    /// # Errors
    /// When a newer session has come: nothing of the group came into view.
    pub fn begin(
        &self,
        group: Group<Staged>,
        synced: &Result<(), StoreError>,
    ) -> Result<Applied, Refusal> {
        Ok(self.core()?.begin(group, synced))
    }

    /// Ends what was begun; see [`Server::end`]. The answers.
    ///
    /// # Errors
    /// When a newer session has come; what was begun stays in view.
    pub fn end(
        &self,
        applied: Applied,
        synced: &Result<(), StoreError>,
    ) -> Result<Vec<Response>, Refusal> {
        let mut core = self.core()?;
        let answers = core.end(applied, synced);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        Ok(answers)
    }

    /// Commits a group. The answers.
    ///
    /// # Errors
    /// When a newer session has come: nothing of the group was committed.
    pub fn commit(&self, group: Group<Staged>) -> Result<Vec<Response>, Refusal> {
        let mut core = self.core()?;
        let answers = core.commit(group);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        Ok(answers)
    }

    /// What a directory of the share holds.
    ///
    /// # Errors
    /// When a newer session has come.
    pub fn list(&self, id: u64, path: &RelPath, after: Option<&[u8]>) -> Result<Listing, Refusal> {
        Ok(self.core()?.list(id, path, after))
    }

    /// Ends the first contact.
    ///
    /// # Errors
    /// When a newer session has come, or this cannot be recorded.
    pub fn settle(&self) -> Result<(), Refusal> {
        let mut core = self.core()?;
        let mut lease = lock(&self.share.lease);
        let mut meta = lease.meta.clone();
        meta.settled = true;
        self.share.record(&mut lease, meta)?;
        core.set_keep(None);
        Ok(())
    }

    /// Lets go of the share; its writer stays its writer.
    pub fn detach(&self) {
        let mut lease = lock(&self.share.lease);
        if self.is_current() {
            lease.session = None;
        }
    }
}
