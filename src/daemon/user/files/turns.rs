//! Whose turn it is to be sent: files that share a line go one after the other, so that each ends early and the last ones do not
//! all end at once. Nobody waits for a file that takes long: of a slow source or a long one the turn is soon over.

use crate::host::clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a turn may be: many times what a file of 10 MB takes where nothing but processors is waited for.
pub(super) const LONGEST: Duration = Duration::from_millis(500);

/// The turns of one line.
#[derive(Debug)]
pub(super) struct Turns {
    longest: Duration,
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Turns so far: the number of the last.
    count: u64,
    /// When the last is over, unless it was given back.
    end: Option<Instant>,
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turns {
    /// Of this length at most.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            state: Mutex::default(),
            given_back: Condvar::new(),
        }
    }

    /// Waits for a turn.
    pub(super) fn wait(&self) -> Turn<'_> {
        let mut state = self.lock();
        let mut now = clock::monotonic();
        while let Some(end) = state.end.filter(|end| *end > now) {
            let waited = self.given_back.wait_timeout(state, end - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            now = clock::monotonic();
        }
        state.count += 1;
        state.end = now.checked_add(self.longest);
        Turn {
            turns: self,
            number: state.count,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        // It may have been over, and another's turn now.
        if state.count == self.number {
            state.end = None;
            self.turns.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn the_next_waits_until_a_turn_is_given_back() {
        let (turns, holders) = (Turns::new(FOR_EVER), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = turns.wait();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(turns.lock().count, 4 * 200);
    }

    #[test]
    fn a_turn_that_is_over_is_not_waited_for_and_takes_nothing_from_the_next() {
        let turns = Turns::new(Duration::ZERO);
        let first = turns.wait();
        let second = turns.wait();
        assert!(first.number < second.number);
        let (mut state, end) = (turns.lock(), clock::monotonic() + FOR_EVER);
        state.end = Some(end);
        drop(state);
        drop(first);
        assert_eq!(turns.lock().end, Some(end), "the turn of the second");
        drop(second);
        assert_eq!(turns.lock().end, None);
    }
}
