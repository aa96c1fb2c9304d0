//! What a flush waits for.
//!
//! A flush gets a number, and so does each change; it is answered when no change with a smaller number waits or is under
//! way. So a number may be too small, which makes a flush wait for more than it has to, and never too large: what
//! follows from a look at a change, or takes the place of one, has no larger number than that change.

use super::{ClientEngine, Output, Phase};
use crate::debounce::{Hint, Key, Wait};
use std::time::Duration;

impl ClientEngine {
    /// Asks to be told ([`Output::Flushed`]) when everything that is dirty by now is durable on the server.
    pub fn flush(&mut self, token: u64, now: Duration) {
        let stamp = self.queue.next_stamp();
        self.queue.hurry(now);
        self.root_event();
        self.flushes.push((token, stamp));
    }

    /// Notes an event. It may be the first word of a change that a scan is still to find, or has missed: whoever waits
    /// for the scan waits for it too.
    pub(super) fn hint(&mut self, key: Key, hint: Hint, now: Duration) {
        let unseen = !self.has_looked() || self.guard.contains(&key);
        let flush = self.first_flush().filter(|_| unseen);
        self.queue
            .hint_since(key, hint, now, flush.unwrap_or(u64::MAX));
    }

    /// The wait of a path that a scan found. Nobody knows when it changed: whoever waits already, waits for it too.
    pub(super) fn fresh_wait(&mut self, now: Duration) -> Wait {
        let stamp = match self.first_flush() {
            Some(flush) => flush,
            None => self.queue.next_stamp(),
        };
        Wait {
            due: now,
            since: now,
            stamp,
            failures: 0,
            misfits: 0,
            made: false,
            held: false,
            left: false,
            event: false,
        }
    }

    /// Has a path looked at that no event named: its change is as old as those that are waited for.
    pub(super) fn owe(&mut self, key: Key, due: Duration, now: Duration) {
        let mut wait = self.fresh_wait(now);
        wait.event = true;
        self.queue.wait(key, due, wait);
    }

    /// A file went on under another name: whoever waits for its change waits for its old name too.
    pub(super) fn leave_behind(&mut self, left: Key, key: &Key, stamp: u64, now: Duration) {
        if left != *key && !self.queue.since(&left, stamp) && self.existing(&left).is_some() {
            let wait = Wait {
                stamp,
                event: true,
                ..self.fresh_wait(now)
            };
            let due = now + self.settings.timing.delete_hold;
            self.queue.wait(left, due, wait);
        }
    }

    /// The smallest number of what waits for a path, as far as a flush waits for it.
    pub(super) fn awaited(&self, key: &Key) -> u64 {
        let Some(flush) = self.first_flush() else {
            return u64::MAX;
        };
        let queues = [&self.queue, &self.large, &self.again].into_iter();
        let waits = queues.filter_map(|queue| queue.get(key));
        let uploads = self.uploads.values().filter(|upload| upload.key == *key);
        let stamps = waits.chain(uploads.map(|upload| &upload.wait));
        let stamps = stamps.map(|wait| wait.stamp);
        let missing = self.guard.contains(key).then_some(flush);
        stamps.chain(missing).min().unwrap_or(u64::MAX)
    }

    /// The number of the first flush that waits.
    pub(super) fn first_flush(&self) -> Option<u64> {
        self.flushes.iter().map(|(_, stamp)| *stamp).min()
    }

    /// Whether everything that is dirty is known by its path: nothing is still to be compared or scanned.
    pub(super) fn has_looked(&self) -> bool {
        self.phase == Phase::Live && !self.resync && self.is_scanned()
    }

    /// Answers the flushes whose changes are durable.
    pub(super) fn answer_flushes(&mut self, out: &mut Vec<Output>) {
        if self.flushes.is_empty() {
            return;
        }
        let oldest = self.oldest().map_or(u64::MAX, |(stamp, _)| stamp);
        let looked = self.has_looked() && self.paused.is_none() && !self.is_away();
        let (done, wait): (Vec<_>, _) = self
            .flushes
            .drain(..)
            .partition(|(_, stamp)| looked && oldest > *stamp);
        self.flushes = wait;
        out.extend(done.into_iter().map(|(token, _)| Output::Flushed(token)));
    }
}
