//! The queue of dirty paths: one place a path, ordered by when it is due.
//!
//! A path is named by its directory's node and its name, so that a renamed directory takes its dirty paths along.

use crate::index::NodeId;
use crate::model::Name;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A path: the node of its directory, and its name there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// The directory.
    pub dir: NodeId,
    /// The name.
    pub name: Name,
}

/// What kind of event was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// Closed after writing, moved here, made or changed in its attributes: due at once.
    Settled,
    /// Written or made, and still open as far as is known: due when it rests.
    Touched,
    /// Made: due at once, but a regular file is then waited for like one that is written.
    Made,
    /// Changed in its attributes: due very shortly, unless it is waited for anyway.
    Attributes,
    /// Removed or moved away: due after the hold, in case it is an editor's save.
    Gone,
    /// A directory in which something came or went: its time is due shortly, once for many.
    Inside,
}

/// The waits. Times are since an arbitrary start.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a deletion, or the source of a file's rename, is held.
    pub delete_hold: Duration,
    /// How long a file that is written must rest.
    pub quiet: Duration,
    /// How long a file that never rests is waited for.
    pub longest: Duration,
    /// How long changes of attributes are gathered.
    pub attributes: Duration,
    /// How long the time of a directory is gathered.
    pub directory: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            delete_hold: Duration::from_millis(50),
            quiet: Duration::from_millis(50),
            longest: Duration::from_secs(1),
            attributes: Duration::from_millis(3),
            directory: Duration::from_millis(15),
        }
    }
}

/// Where a path stands in the queue.
#[derive(Clone, Debug)]
pub struct Wait {
    /// When it is due.
    pub due: Duration,
    /// When it became dirty.
    pub since: Duration,
    /// The number of its first hint: numbers grow, so that "everything before now" is a number.
    pub stamp: u64,
    /// How many times it was tried and failed.
    pub failures: u32,
    /// How many times in a row the server's tree was not what the change was made for: it is tried again at once.
    pub misfits: u32,
    /// Whether all that is known is that it was made.
    pub made: bool,
    /// Whether it has been held: if it is gone, or has become empty, when it is due, that is no half of a save.
    pub held: bool,
    /// Whether an event told that it went: its deletion is believed.
    pub left: bool,
    /// Whether an event said so (its content is hashed) or only a scan (times are believed).
    pub event: bool,
}

impl Wait {
    /// Takes on what another wait of the same thing asks for: the older age, and the closer look.
    pub fn join(&mut self, other: &Self) {
        self.since = self.since.min(other.since);
        self.stamp = self.stamp.min(other.stamp);
        self.event |= other.event;
        self.left |= other.left;
    }
}

/// Dirty paths and when they are due.
#[derive(Debug, Default)]
pub struct Queue {
    timing: Timing,
    waits: HashMap<Key, Wait>,
    order: BTreeSet<(Duration, u64, Key)>,
    /// Number and time of each path that has not failed, with how many have these: the oldest is asked for often.
    live: BTreeMap<(u64, Duration), usize>,
    stamp: u64,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            ..Self::default()
        }
    }

    /// The number that the next hint gets: all earlier ones have smaller numbers.
    pub fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// Notes an event. A path that failed is tried again: perhaps the event tells of its cure.
    pub fn hint(&mut self, key: Key, hint: Hint, now: Duration) {
        self.hint_since(key, hint, now, u64::MAX);
    }

    /// Notes what no event told, but the look at a change with this number: whoever waits for that change waits for
    /// this one too, so it gets no later number.
    pub fn hint_since(&mut self, key: Key, hint: Hint, now: Duration, stamp: u64) {
        let timing = self.timing;
        let old = self.waits.get(&key);
        let live = old.filter(|wait| wait.failures == 0);
        let since = live.map_or(now, |wait| wait.since);
        let due = match hint {
            Hint::Settled | Hint::Made => now,
            Hint::Touched => (now + timing.quiet).min(since + timing.longest),
            Hint::Gone => now + timing.delete_hold,
            Hint::Attributes => match live {
                Some(wait) if wait.event => wait.due,
                _ => now + timing.attributes,
            },
            Hint::Inside => match live {
                Some(wait) => wait.due.min(now + timing.directory),
                None => now + timing.directory,
            },
        };
        let side = matches!(hint, Hint::Inside | Hint::Attributes);
        let wait = Wait {
            due,
            since,
            stamp: old.map_or(self.stamp + 1, |wait| wait.stamp).min(stamp),
            failures: 0,
            misfits: live.map_or(0, |wait| wait.misfits),
            made: hint == Hint::Made || side && old.is_some_and(|wait| wait.made),
            held: hint == Hint::Gone || side && old.is_some_and(|wait| wait.held),
            left: hint == Hint::Gone || old.is_some_and(|wait| wait.left),
            event: hint != Hint::Inside || old.is_some_and(|wait| wait.event),
        };
        self.stamp = self.stamp.max(wait.stamp);
        self.put(key, wait);
    }

    /// Puts a path back, or in, at a time of the caller's choice. A path that is waiting already keeps its age.
    pub fn wait(&mut self, key: Key, due: Duration, mut wait: Wait) {
        if let Some(old) = self.waits.get(&key) {
            wait.join(old);
        }
        wait.due = due;
        self.put(key, wait);
    }

    /// A path that waits was seen to go before.
    pub fn went(&mut self, key: &Key) {
        if let Some(wait) = self.waits.get_mut(key) {
            wait.left = true;
        }
    }

    /// Lets a path that waits have no later number than this. Whether it waits.
    pub fn since(&mut self, key: &Key, stamp: u64) -> bool {
        let Some(wait) = self.waits.get(key).cloned() else {
            return false;
        };
        if stamp < wait.stamp {
            self.put(key.clone(), Wait { stamp, ..wait });
        }
        true
    }

    /// Puts a path in, in the place of what was known of it.
    fn put(&mut self, key: Key, wait: Wait) {
        self.remove(&key);
        if wait.failures == 0 {
            *self.live.entry((wait.stamp, wait.since)).or_default() += 1;
        }
        self.order.insert((wait.due, wait.stamp, key.clone()));
        self.waits.insert(key, wait);
    }

    /// Takes the path that is due first, if one is due.
    pub fn pop(&mut self, now: Duration) -> Option<(Key, Wait)> {
        let (_, _, key) = self.order.first().filter(|(due, ..)| *due <= now)?;
        let key = key.clone();
        let wait = self.remove(&key)?;
        Some((key, wait))
    }

    /// Where a path stands.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Wait> {
        self.waits.get(key)
    }

    /// Takes a path out.
    pub fn remove(&mut self, key: &Key) -> Option<Wait> {
        let wait = self.waits.remove(key)?;
        self.order.remove(&(wait.due, wait.stamp, key.clone()));
        let age = (wait.stamp, wait.since);
        if wait.failures == 0
            && let Some(count) = self.live.get_mut(&age)
        {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&age);
            }
        }
        Some(wait)
    }

    /// Makes every path due shortly that waits for rest or hold; those that failed keep their time. Shortly and not
    /// at once: the two names of a move still have to find each other, the new one before the old.
    pub fn hurry(&mut self, now: Duration) {
        let keys: Vec<Key> = self
            .waits
            .iter()
            .filter(|(_, wait)| wait.failures == 0)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(wait) = self.waits.get(&key).cloned() {
                let rest = Duration::from_millis(if wait.held { 5 } else { 2 });
                let due = wait.due.min(now + rest);
                self.put(key, Wait { due, ..wait });
            }
        }
    }

    /// Forgets that paths were seen to go.
    pub fn doubt(&mut self) {
        for wait in self.waits.values_mut() {
            wait.left = false;
        }
    }

    /// When the next path is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.order.first().map(|(due, ..)| *due)
    }

    /// Whether nothing waits but paths that failed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live.is_empty()
    }

    /// How many paths wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Forgets everything: a scan will find it again.
    pub fn clear(&mut self) {
        self.waits.clear();
        self.order.clear();
        self.live.clear();
    }

    /// The smallest number of the paths that wait and have not failed, and since when that path waits.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, Duration)> {
        self.live.first_key_value().map(|(age, _)| *age)
    }

    /// All paths that wait, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Key, Wait)> {
        self.order.clear();
        self.live.clear();
        std::mem::take(&mut self.waits).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::{Hint, Key, Queue, Timing};
    use crate::index::NodeId;
    use crate::model::Name;
    use std::time::Duration;

    fn key(name: &str) -> Key {
        Key {
            dir: NodeId(0),
            name: Name::new(name.as_bytes()).unwrap(),
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Feeds (time, hint) rows for one path and gives the times at which it comes out, looking every millisecond.
    fn outs(hints: &[(u64, Hint)]) -> Vec<u64> {
        let mut queue = Queue::new(Timing::default());
        let mut out = Vec::new();
        for ms in 0..3000 {
            for (_, hint) in hints.iter().filter(|(when, _)| *when == ms) {
                queue.hint(key("f"), *hint, at(ms));
            }
            while queue.pop(at(ms)).is_some() {
                out.push(ms);
            }
        }
        out
    }

    #[test]
    fn a_lone_save_is_due_at_once() {
        assert_eq!(
            outs(&[(5, Hint::Touched), (6, Hint::Touched), (7, Hint::Settled)]),
            [7]
        );
    }

    #[test]
    fn an_editors_save_comes_out_once() {
        assert_eq!(
            outs(&[(5, Hint::Gone), (6, Hint::Touched), (8, Hint::Settled)]),
            [8]
        );
        assert_eq!(outs(&[(5, Hint::Gone)]), [55]);
    }

    #[test]
    fn a_file_that_never_rests_comes_out_each_second() {
        let hints: Vec<_> = (0..2500)
            .step_by(10)
            .map(|ms| (ms, Hint::Touched))
            .collect();
        assert_eq!(outs(&hints)[..2], [1000, 2010]);
    }

    #[test]
    fn many_changes_in_a_directory_make_one_look_at_it() {
        let hints: Vec<_> = (0..10).map(|ms| (ms, Hint::Inside)).collect();
        assert_eq!(outs(&hints), [15]);
    }

    #[test]
    fn hurry_keeps_the_old_name_of_a_move_behind_the_new_one() {
        let mut queue = Queue::new(Timing::default());
        queue.hint(key("old"), Hint::Gone, at(0));
        queue.hint(key("new"), Hint::Settled, at(0));
        let (new, wait) = queue.pop(at(0)).unwrap();
        assert_eq!(new, key("new"));
        queue.wait(new, at(48), wait);
        queue.hurry(at(10));
        assert_eq!(queue.pop(at(20)).unwrap().0, key("new"));
        assert_eq!(queue.pop(at(20)).unwrap().0, key("old"));
    }

    #[test]
    fn hurry_makes_held_paths_due_but_not_failed_ones() {
        let mut queue = Queue::new(Timing::default());
        queue.hint(key("held"), Hint::Gone, at(0));
        queue.hint(key("failed"), Hint::Settled, at(0));
        let (failed, mut wait) = queue.pop(at(0)).unwrap();
        wait.failures = 1;
        queue.wait(failed, at(9000), wait);
        queue.hurry(at(1));
        assert_eq!(queue.pop(at(6)).unwrap().0, key("held"));
        assert!(queue.pop(at(6)).is_none() && queue.is_idle() && !queue.is_empty());
    }
}
