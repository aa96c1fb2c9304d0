//! The rest of hot files: what changes again and again and is expensive to send is not sent all the time.

use crate::debounce::Key;
use std::collections::BTreeMap;
use std::time::Duration;

/// A commit that took less is not expensive.
const EXPENSIVE: Duration = Duration::from_millis(100);
/// How many times its cost a hot file rests (DESIGN section 7).
const TIMES: u32 = 10;
/// The longest rest: on a slow line, or of a very large file. Whoever closes a file that was written for long does not
/// wait for longer.
const LONGEST: Duration = Duration::from_secs(10);
/// How many files are remembered at most; further ones do not rest.
const MOST: usize = 1024;

/// The last expensive commit of a file.
#[derive(Debug)]
struct Commit {
    at: Duration,
    cost: Duration,
    /// What it brought had changed while the commit before was under way.
    in_a_row: bool,
}

impl Commit {
    fn rests_until(&self) -> Duration {
        self.at + (self.cost * TIMES).min(LONGEST)
    }
}

/// The last expensive commits. A file is hot when it changes while one commit is under way, and again while the next one
/// is: then it rests. One that is saved now and then is sent at once, whatever it costs.
#[derive(Debug, Default)]
pub(in crate::engine::client) struct Rests(BTreeMap<Key, Commit>);

impl Rests {
    /// Notes a commit that is done, when it was begun, and since when the file was dirty.
    pub(super) fn committed(&mut self, key: &Key, since: Duration, begun: Duration, now: Duration) {
        let before = self.0.remove(key);
        let cost = now.saturating_sub(begun);
        if cost < EXPENSIVE {
            return;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, commit| commit.rests_until() > now);
        }
        if self.0.len() < MOST {
            let in_a_row = before.is_some_and(|before| since <= before.at);
            let commit = Commit {
                at: now,
                cost,
                in_a_row,
            };
            self.0.insert(key.clone(), commit);
        }
    }

    /// Until when a file rests that is dirty since then; none when it may be sent.
    pub(super) fn until(&self, key: &Key, since: Duration, now: Duration) -> Option<Duration> {
        let commit = self.0.get(key)?;
        let hot = commit.in_a_row && since <= commit.at;
        let until = commit.rests_until();
        (hot && now < until).then_some(until)
    }

    /// Forgets a commit: it came to nothing.
    pub(in crate::engine::client) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}
