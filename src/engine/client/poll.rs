//! Directories that the system has no watch for: they are listed again and again.

use super::ClientEngine;
use crate::index::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

/// The pause between two rounds: so long, and so much longer for each directory.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_EACH: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Directories without a watch.
#[derive(Debug, Default)]
pub(super) struct Unwatched {
    dirs: BTreeSet<NodeId>,
    /// What the system said last.
    message: String,
    since: Duration,
    next: Duration,
}

impl Unwatched {
    /// Notes that a directory has no watch.
    pub(super) fn insert(&mut self, dir: NodeId, message: String, now: Duration) {
        if self.dirs.is_empty() {
            self.since = now;
            self.next = now + PAUSE;
        }
        self.dirs.insert(dir);
        self.message = message;
    }

    /// Notes that a directory has a watch, or left the view.
    pub(super) fn remove(&mut self, dir: NodeId) {
        self.dirs.remove(&dir);
    }

    /// When the next round is due.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.dirs.is_empty()).then_some(self.next)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.dirs.len()
    }

    /// One of the directories, what to tell of all of them, and since when.
    pub(super) fn report(&self) -> Option<(NodeId, String, Duration)> {
        let first = *self.dirs.first()?;
        let (count, message) = (self.dirs.len(), &self.message);
        let text = format!("{count} directories are looked at from time to time only: {message}");
        Some((first, text, self.since))
    }
}

impl ClientEngine {
    /// Has the directories without a watch listed, if it is time. Whether it was.
    pub(super) fn poll(&mut self, now: Duration) -> bool {
        if self.unwatched.next().is_none_or(|next| now < next) {
            return false;
        }
        let dirs = &self.unwatched.dirs;
        let each = PAUSE_EACH.saturating_mul(u32::try_from(dirs.len()).unwrap_or(u32::MAX));
        self.unwatched.next = now + PAUSE.saturating_add(each).min(LONGEST_PAUSE);
        for dir in dirs {
            self.scans.push(*dir);
        }
        true
    }
}
