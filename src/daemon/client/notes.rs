//! What the log says of a mirror: each path that could not be mirrored, once, and why the mirror waits.

use crate::engine::client::{ClientEngine, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often problems are looked for: those of a whole scan come together.
const PERIOD: Duration = Duration::from_secs(1);

/// What was said already.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Reasons by path; as many as a snapshot names.
    told: BTreeMap<String, String>,
    /// Why the mirror waits, or holds deletions.
    waits: Option<String>,
    count: usize,
    next: Duration,
}

impl Notes {
    /// Looks for problems, now and then.
    pub(super) fn look(&mut self, engine: &ClientEngine, now: Duration) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        self.tell(&engine.snapshot(now));
        self.count = engine.problem_count();
    }

    /// When to look again, if there is something to be said by then.
    pub(super) fn next(&self, engine: &ClientEngine) -> Option<Duration> {
        (engine.problem_count() != self.count).then_some(self.next)
    }

    /// Says what is new.
    pub(super) fn tell(&mut self, snapshot: &Snapshot) {
        let mut told = BTreeMap::new();
        for (problem, _) in &snapshot.problems {
            let (path, reason) = (problem.path.to_string(), problem.message.clone());
            if self.told.get(&path) != Some(&reason) {
                tracing::warn!(%path, %reason, "it cannot be mirrored");
            }
            told.insert(path, reason);
        }
        for path in self.told.keys().filter(|path| !told.contains_key(*path)) {
            tracing::info!(%path, "it is no problem any more");
        }
        self.told = told;
        self.tell_waiting(snapshot);
    }

    /// Says why the mirror, or its deletions, began to wait, and that they go on.
    fn tell_waiting(&mut self, snapshot: &Snapshot) {
        let held = snapshot.held.as_ref();
        let stopped = snapshot.away.as_deref().or(snapshot.paused.as_deref());
        let reason = stopped.or(held.map(|held| held.hold.reason()));
        if reason == self.waits.as_deref() {
            return;
        }
        match (stopped, held) {
            (Some(reason), _) => tracing::warn!(%reason, "the mirror waits"),
            (None, Some(held)) => {
                let (reason, advice) = (held.hold.reason(), held.hold.advice());
                let (entries, total) = (held.entries, held.total);
                tracing::warn!(%reason, entries, total, "deletions are held: {advice}");
            }
            (None, None) => tracing::info!("what the mirror waited for is over"),
        }
        self.waits = reason.map(str::to_owned);
    }
}
