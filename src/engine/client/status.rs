//! What the engine says of itself.

use super::{ClientEngine, Phase};
use crate::debounce::{Key, Queue};
use crate::index::NodeId;
use crate::model::{Name, Problem, Skipped};
use std::collections::BTreeMap;
use std::time::Duration;

/// Sums since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// What the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// No session.
    Offline,
    /// The view is being compared with the server.
    Comparing,
    /// Changes are under way.
    Mirroring,
    /// Nothing is to be done.
    Idle,
}

/// The state of a mirror at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What it is doing.
    pub activity: Activity,
    /// Age of the oldest change that is not durable on the server; zero when there is none.
    pub lag: Duration,
    /// Paths that are dirty or under way.
    pub pending: usize,
    /// Bytes of changes that are not acknowledged.
    pub inflight_bytes: u64,
    /// Bytes of content sent since the start.
    pub sent_bytes: u64,
    /// Files sent since the start.
    pub sent_files: u64,
    /// Entries of the view.
    pub entries: usize,
    /// Paths that could not be mirrored, the first of them, with how long.
    pub problems: Vec<(Problem, Duration)>,
    /// How many there are.
    pub problems_total: usize,
    /// Paths that are not mirrored by rule, the first of them.
    pub skipped: Vec<Skipped>,
    /// How many there are.
    pub skipped_total: usize,
    /// How many of them are ignored by rules of the user; an ignored directory counts once.
    pub ignored_total: usize,
    /// Directories that have no watch and are looked at from time to time.
    pub polled: usize,
    /// Why nothing is sent at present.
    pub paused: Option<String>,
    /// Why there is no source at present.
    pub away: Option<String>,
    /// Deletions that wait for a person.
    pub held: Option<super::Held>,
}

/// So many problems and skipped paths are listed.
const LISTED: usize = 1000;

impl ClientEngine {
    /// Whether everything is mirrored as far as it can be: nothing waits but paths that failed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Live
            && self.paused.is_none()
            && !self.is_away()
            && !self.resync
            && self.is_scanned()
            && self.batch.ops.is_empty()
            && self.inflight.is_empty()
            && self.uploads.is_empty()
            && self.large.is_empty()
            && self.again.is_empty()
            && self.queue.is_idle()
    }

    /// Whether no scan is under way, and nothing that one found is left to do.
    pub(super) fn is_scanned(&self) -> bool {
        self.scans.is_empty() && self.found.is_empty() && self.guard.is_at_rest()
    }

    /// Forgets which entries of a directory were skipped.
    pub(super) fn forget_skipped(&mut self, dir: NodeId) {
        forget_below(&mut self.skipped, dir);
    }

    /// Forgets what was reported of the entries of a directory that left the view.
    pub(super) fn forget_reports(&mut self, dir: NodeId) {
        forget_below(&mut self.troubles, dir);
        forget_below(&mut self.skipped, dir);
    }

    /// Whether it is known what the server holds, and changes are sent.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the whole source was looked at in this run, and what was found is done.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.scanned && self.settled && self.is_idle()
    }

    /// How many paths could not be mirrored, or whose deletion is held.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.troubles.len() + usize::from(self.guard.hold().is_some()) + usize::from(self.is_away())
    }

    /// The number and time of the oldest change that is not durable.
    pub(super) fn oldest(&self) -> Option<(u64, Duration)> {
        let sent = self.inflight.values().chain([&self.batch.sent]);
        let uploads = self.uploads.values().map(|upload| &upload.wait);
        let under_way = sent
            .filter_map(|sent| sent.oldest)
            .chain(uploads.map(|wait| (wait.stamp, wait.since)));
        let waiting = [&self.queue, &self.large, &self.again];
        under_way
            .chain(waiting.into_iter().filter_map(Queue::oldest))
            .min()
    }

    /// The state at one moment.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        let activity = match self.phase {
            Phase::Offline => Activity::Offline,
            Phase::Comparing => Activity::Comparing,
            Phase::Live if self.is_idle() => Activity::Idle,
            Phase::Live => Activity::Mirroring,
        };
        let path = |key: &Key| {
            self.view
                .path(key.dir)
                .and_then(|dir| dir.join(&Name::clone(&key.name)).ok())
        };
        let problems = self.troubles.iter().filter_map(|(key, trouble)| {
            // What is too long to be a path is named by where it is.
            let (path, message) = match path(key) {
                Some(path) => (path, trouble.message.clone()),
                None => (
                    self.view.path(key.dir)?,
                    format!("`{}` in it: {}", key.name, trouble.message),
                ),
            };
            let problem = Problem {
                path,
                fault: crate::model::Fault::Io,
                message,
            };
            Some((problem, now.saturating_sub(trouble.since)))
        });
        let unwatched = self.unwatched.report().and_then(|(dir, message, since)| {
            let problem = Problem {
                path: self.view.path(dir)?,
                fault: crate::model::Fault::Io,
                message,
            };
            Some((problem, now.saturating_sub(since)))
        });
        let rules = self.refused_rules();
        let skipped = self.skipped.iter().filter_map(|(key, reason)| {
            Some(Skipped {
                path: path(key)?,
                reason,
            })
        });
        Snapshot {
            activity,
            lag: self
                .oldest()
                .map_or(Duration::ZERO, |(_, since)| now.saturating_sub(since)),
            pending: self.queue.len()
                + self.found.len()
                + self.inflight.values().map(|s| s.keys.len()).sum::<usize>(),
            inflight_bytes: self.inflight_bytes,
            sent_bytes: self.counters.bytes,
            sent_files: self.counters.files,
            entries: self.view.len(),
            problems_total: self.troubles.len() + usize::from(unwatched.is_some()) + rules.len(),
            problems: unwatched
                .into_iter()
                .chain(rules)
                .chain(problems)
                .take(LISTED)
                .collect(),
            skipped: skipped.take(LISTED).collect(),
            skipped_total: self.skipped.len(),
            ignored_total: self.ignored_count(),
            polled: self.unwatched.len(),
            paused: self.paused.as_ref().map(|(reason, _)| reason.clone()),
            away: self.root.away.clone(),
            held: self.held(),
        }
    }
}

/// Takes out all paths of one directory.
fn forget_below<T>(reports: &mut BTreeMap<Key, T>, dir: NodeId) {
    let next = NodeId(dir.0.saturating_add(1));
    let Ok(least) = Name::new(&[1]) else { return };
    let from = Key {
        dir,
        name: least.clone(),
    };
    let to = Key {
        dir: next,
        name: least,
    };
    let gone: Vec<Key> = reports
        .range(from..to)
        .map(|(key, _)| key.clone())
        .collect();
    for key in gone {
        reports.remove(&key);
    }
}
