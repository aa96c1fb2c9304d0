//! The thread that writes.

mod opening;

use super::apply::{Ledger, TOO_MUCH, Tables};
use super::reserve::Reserve;
use super::row;
use super::snapshot::Snapshot;
use super::sweep::Sweep;
use super::{Bounds, Clock, EXPIRIES, Job, KeyError, Message, Outcome};
use super::{SPACES, Shown};
use crate::host::database::{self, Handle, Kind, Reading};
use redb::{Database, ReadableDatabase};
use rustix::io::Errno;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Memory for pages, in bytes; the system's own cache stands behind it.
const KIND: Kind = Kind {
    layout: 1,
    cache_bytes: 64 * 1024 * 1024,
};
/// Changes in one transaction at most.
const MAX_JOBS: usize = 1024;
/// Bytes of values after which a transaction is closed.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How often it looks for values that have ended.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it rests between two sweeps when more is left.
const PAUSE: Duration = Duration::from_millis(20);
/// How long it leaves a file alone that could not be opened.
const RETRY: Duration = Duration::from_millis(250);
const DISK: &str = "the disk is full";

pub(super) struct Writer {
    path: PathBuf,
    bounds: Bounds,
    clock: Clock,
    show: watch::Sender<Shown>,
    database: Option<Handle>,
    /// Serves readers while the file cannot be written.
    reading: Option<Reading>,
    /// Whether the ledger says what the file held when it was last seen.
    is_known: bool,
    ledger: Ledger,
    sweep: Sweep,
    /// Room for what takes none.
    reserve: Reserve,
    /// Whether the disk was full when something was last to be stored.
    is_full: bool,
    /// When the file could not be opened, and why.
    refused: Option<(Instant, Arc<str>)>,
}

/// Answers that wait for the commit.
type Outcomes = Vec<Result<Outcome, KeyError>>;

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        bounds: Bounds,
        clock: Clock,
        show: watch::Sender<Shown>,
    ) -> Self {
        Self {
            reserve: Reserve::of(&path),
            is_full: false,
            path,
            bounds,
            clock,
            show,
            database: None,
            reading: None,
            is_known: false,
            ledger: Ledger::default(),
            sweep: Sweep::default(),
            refused: None,
        }
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let _later = self.ready();
        let mut swept = crate::host::clock::monotonic();
        let mut more = false;
        loop {
            let period = if more { PAUSE } else { PERIOD };
            let waited = crate::host::clock::monotonic().saturating_duration_since(swept);
            match messages.recv_timeout(period.saturating_sub(waited)) {
                Ok(Message::Job(job)) => self.batch(job, messages),
                Ok(Message::Reopen(seen)) => self.look_after(&seen),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = crate::host::clock::monotonic();
            if now.saturating_duration_since(swept) >= period {
                self.recover();
                more = self.sweep();
                if self.ledger.commits > 0 {
                    self.keep_reserve();
                }
                swept = crate::host::clock::monotonic();
            }
        }
        // Looks that are under way end with an error of the closed file.
        drop(self.database.take());
    }

    fn show(&self, shown: Shown) {
        // The state before lives as long as its readers.
        drop(self.show.send_replace(shown));
    }

    fn close_failed(&mut self) {
        drop(self.database.take());
        self.forget_cached();
    }

    /// What a failed sync left in memory is not what is on the disk.
    fn forget_cached(&self) {
        let forgotten = std::fs::File::open(&self.path)
            .map(|file| rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed));
        drop(forgotten);
    }

    /// Makes the changes that wait, in one transaction.
    fn batch(&mut self, first: Job, messages: &Receiver<Message>) {
        let mut jobs = vec![first];
        let mut bytes = 0;
        while jobs.len() < MAX_JOBS && bytes < MAX_BYTES {
            match messages.try_recv() {
                Ok(Message::Job(job)) => {
                    bytes += job.weight();
                    jobs.push(job);
                }
                Ok(Message::Reopen(_)) => {}
                Err(_) => break,
            }
        }
        if !self.reserve.is_kept() {
            self.keep_reserve();
        }
        loop {
            let outcome = self.ready().and_then(|()| self.commit(&jobs));
            let failure = match outcome {
                Ok(outcomes) => {
                    let rest = jobs.split_off(outcomes.len().min(jobs.len()));
                    for (job, outcome) in jobs.into_iter().zip(outcomes) {
                        job.answer(outcome);
                    }
                    if self.is_full {
                        self.keep_reserve();
                    }
                    if rest.is_empty() {
                        return;
                    }
                    jobs = rest;
                    continue;
                }
                Err(failure) => failure,
            };
            // On a full disk what is small may find room, and what takes none may make some. They keep their order.
            let is_full = matches!(failure, KeyError::Full(_));
            let has_large = jobs.iter().any(|job| !job.is_small());
            let goes_on = |job: &Job| {
                is_full && (has_large && job.is_small() || !has_large && !job.takes_room())
            };
            let (rest, refused): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(goes_on);
            let is_over = rest.is_empty() || refused.is_empty();
            self.is_full |= is_full;
            for job in refused {
                job.answer(Err(failure.clone()));
            }
            if is_over && !rest.is_empty() && is_full && self.reserve.give_up() {
                jobs = rest;
                continue;
            }
            if is_over {
                rest.into_iter()
                    .for_each(|job| job.answer(Err(failure.clone())));
                return;
            }
            jobs = rest;
        }
    }

    /// On a full disk pages that nobody reads any more are made free to be used again: what is to be stored may find no
    /// other.
    fn recover(&mut self) {
        if std::mem::take(&mut self.is_full) && self.ready().is_ok() {
            let _given_up = self.reserve.give_up();
            // What the first one frees the second one may use. Where neither is of use the next refusal asks for them again.
            let freed = self.transact(|_, _, _| Ok(()));
            let _used = freed.and_then(|()| self.transact(|_, _, _| Ok(())));
        }
    }

    /// Keeps room for what takes none.
    fn keep_reserve(&mut self) {
        let length = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        self.reserve.keep(length);
    }

    /// All of them durable and shown, or none. As many as can be part of one transaction: the first in any case.
    fn commit(&mut self, jobs: &[Job]) -> Result<Outcomes, KeyError> {
        let (bounds, now) = (self.bounds, (self.clock)());
        let mut outcomes = self.transact(|tables, ledger, sweep| {
            let mut outcomes = Vec::with_capacity(jobs.len());
            for Job { change, .. } in jobs {
                if tables.would_hide(ledger, change)? {
                    break;
                }
                let mut outcome = tables.apply(ledger, change, bounds, now)?;
                while matches!(outcome, Err(KeyError::Full(TOO_MUCH))) {
                    // What can be seen no more counts until it is swept. That is not to take along what is still to be read.
                    if tables.shows() {
                        return Ok(outcomes);
                    }
                    let more = sweep.run(tables, ledger, now)?;
                    outcome = tables.apply(ledger, change, bounds, now)?;
                    if !more {
                        break;
                    }
                }
                outcomes.push(outcome);
            }
            Ok(outcomes)
        })?;
        if let Ok(state) = &*self.show.borrow() {
            for outcome in &mut outcomes {
                if let Ok(Outcome::Touched(found)) = outcome {
                    found.see(state);
                }
            }
        }
        Ok(outcomes)
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Tables<'_>, &mut Ledger, &mut Sweep) -> Result<T, redb::Error>,
    ) -> Result<T, KeyError> {
        let Some(handle) = &self.database else {
            return Err(KeyError::Ended);
        };
        let (mut ledger, mut sweep) = (self.ledger.clone(), self.sweep.clone());
        let before = &self.ledger;
        let mut done = None;
        let written = handle.write(|database| {
            let transaction = database::begin(database)?;
            {
                let mut tables = Tables::open(&transaction)?;
                done = Some(work(&mut tables, &mut ledger, &mut sweep)?);
                ledger.commits += 1;
                tables.save(before, &ledger)?;
            }
            transaction.commit()?;
            Snapshot::take(database, ledger.spaces.clone())
        });
        let error = match written {
            Ok(snapshot) => {
                (self.ledger, self.sweep) = (ledger, sweep);
                self.show(Ok(Arc::new(snapshot)));
                return done.ok_or(KeyError::Ended);
            }
            Err(error) => error,
        };
        // Readers go on with the last state until the file is open again.
        self.close_failed();
        let is_there = self.ready().is_ok() && self.ledger.commits == ledger.commits;
        if let (true, Some(done)) = (is_there, done) {
            tracing::warn!(%error, path = %self.path.display(), "a change of the keys was made in spite of an error");
            return Ok(done);
        }
        tracing::warn!(%error, path = %self.path.display(), "a change of the keys could not be made");
        Err(explain(&error))
    }

    /// Removes some of what has ended; whether more is left.
    fn sweep(&mut self) -> bool {
        if self.ready().is_err() {
            return false;
        }
        let now = (self.clock)();
        let Some(handle) = &self.database else {
            return false;
        };
        let ended = database::guarded(|| {
            let reading = handle.begin_read()?;
            let table = reading.open_table(EXPIRIES)?;
            let first = table.range::<&[u8]>(..)?.next().transpose()?;
            let first = first.and_then(|(name, _)| row::expiry_of(name.value()));
            Ok(first.is_some_and(|(expires, _)| expires <= now))
        });
        if !ended.unwrap_or(false) && !Sweep::is_due(&self.ledger, now) {
            return false;
        }
        let swept = self.transact(|tables, ledger, sweep| sweep.run(tables, ledger, now));
        self.is_full |= matches!(swept, Err(KeyError::Full(_)));
        swept.unwrap_or(false)
    }
}

/// Makes the tables, or reads what the writer knows besides rows.
fn load(database: &Database) -> Result<Ledger, redb::Error> {
    let reading = database.begin_read()?;
    match reading.open_table(SPACES) {
        Ok(_) => Ledger::read(database),
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let transaction = database::begin(database)?;
            drop(Tables::open(&transaction)?);
            transaction.commit()?;
            Ok(Ledger::default())
        }
        Err(error) => Err(error.into()),
    }
}

fn explain(error: &redb::Error) -> KeyError {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(Errno::raw_os_error);
    match error {
        redb::Error::Io(error)
            if error
                .raw_os_error()
                .is_some_and(|code| full.contains(&code)) =>
        {
            KeyError::Full(DISK)
        }
        other => KeyError::Unavailable(other.to_string().into()),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    text.join(": ")
}
