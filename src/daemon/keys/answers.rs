//! What the text protocol answers, and what it counts.

use super::{Counters, now};
use crate::host::keys::{Action, KeyError, Mode, Outcome};
use crate::wire::memcached::{Request, Store, Verb};
use bytes::Bytes;

/// Expiries above this many seconds are moments: 30 days.
const LONGEST_RELATIVE: i64 = 60 * 60 * 24 * 30;
/// A moment that is past.
const PAST: u64 = 1;

/// What a change is called in the statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the command of that name")]
pub enum Kind {
    Set,
    Cas,
    Delete,
    Incr,
    Decr,
    Touch,
    Flush,
}

/// A request that changes something.
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) key: Bytes,
    pub(super) action: Action,
    pub(super) quiet: bool,
}

impl Wanted {
    /// What a request changes; none when it changes nothing.
    pub(super) fn of(request: Request) -> Result<Self, Request> {
        Ok(match request {
            Request::Store(store) => Self::store(store),
            Request::Delete { key, quiet } => Self {
                kind: Kind::Delete,
                key,
                action: Action::Delete,
                quiet,
            },
            Request::Count { key, up, by, quiet } => Self {
                kind: if up { Kind::Incr } else { Kind::Decr },
                key,
                action: Action::Count { up, by },
                quiet,
            },
            Request::Touch { key, expiry, quiet } => Self {
                kind: Kind::Touch,
                key,
                action: Action::Touch {
                    expires: moment(expiry),
                },
                quiet,
            },
            Request::Flush { delay, quiet } => Self {
                kind: Kind::Flush,
                key: Bytes::new(),
                action: Action::Flush { at: moment(delay) },
                quiet,
            },
            other => return Err(other),
        })
    }

    fn store(store: Store) -> Self {
        let mode = match store.verb {
            Verb::Set => Mode::Set,
            Verb::Add => Mode::Add,
            Verb::Replace => Mode::Replace,
            Verb::Append => Mode::Append,
            Verb::Prepend => Mode::Prepend,
            Verb::Cas(unique) => Mode::Cas(unique),
        };
        Self {
            kind: if matches!(mode, Mode::Cas(_)) {
                Kind::Cas
            } else {
                Kind::Set
            },
            key: store.key,
            action: Action::Store {
                mode,
                flags: store.flags,
                expires: moment(store.expiry),
                value: store.value,
            },
            quiet: store.quiet,
        }
    }
}

/// When an expiry of the protocol is, in milliseconds since 1970; 0 for never.
pub(super) fn moment(expiry: i64) -> u64 {
    let Ok(seconds) = u64::try_from(expiry) else {
        return PAST;
    };
    match expiry {
        0 => 0,
        1..=LONGEST_RELATIVE => now().saturating_add(seconds * 1000),
        _ => seconds.saturating_mul(1000),
    }
}

/// The line that says what came of a change, without its end.
pub(super) fn line(outcome: &Result<Outcome, KeyError>) -> String {
    let text = match outcome {
        Ok(Outcome::Counted(number)) => return number.to_string(),
        Ok(Outcome::Stored(_)) => "STORED",
        Ok(Outcome::NotStored) => "NOT_STORED",
        Ok(Outcome::Exists) => "EXISTS",
        Ok(Outcome::NotFound) => "NOT_FOUND",
        Ok(Outcome::Deleted) => "DELETED",
        Ok(Outcome::Touched(_)) => "TOUCHED",
        Ok(Outcome::Flushed) => "OK",
        Ok(Outcome::NotNumeric) => "CLIENT_ERROR cannot increment or decrement non-numeric value",
        Ok(Outcome::TooLarge) => "SERVER_ERROR object too large for cache",
        Err(error) => trouble(error),
    };
    text.to_owned()
}

/// The line that says that the server cannot.
pub(super) fn trouble(error: &KeyError) -> &'static str {
    match error {
        KeyError::Full(_) => "SERVER_ERROR out of storage",
        KeyError::Unavailable(_) => {
            "SERVER_ERROR the keys are unavailable, the server's log says why"
        }
        KeyError::Ended => "SERVER_ERROR the server ends",
    }
}

impl Counters {
    /// Counts what came of a change.
    pub fn note(&self, kind: Kind, outcome: &Result<Outcome, KeyError>) {
        match (kind, outcome) {
            (_, Err(KeyError::Full(_))) => self.store_no_memory.one(),
            (_, Err(_)) => {}
            (_, Ok(Outcome::TooLarge)) => self.store_too_large.one(),
            (Kind::Set, Ok(_)) => self.cmd_set.one(),
            (Kind::Cas, Ok(outcome)) => {
                self.cmd_set.one();
                match outcome {
                    Outcome::Exists => self.cas_badval.one(),
                    Outcome::NotFound => self.cas_misses.one(),
                    _ => self.cas_hits.one(),
                }
            }
            (Kind::Delete, Ok(Outcome::NotFound)) => self.delete_misses.one(),
            (Kind::Delete, Ok(_)) => self.delete_hits.one(),
            (Kind::Incr, Ok(Outcome::NotFound)) => self.incr_misses.one(),
            (Kind::Incr, Ok(_)) => self.incr_hits.one(),
            (Kind::Decr, Ok(Outcome::NotFound)) => self.decr_misses.one(),
            (Kind::Decr, Ok(_)) => self.decr_hits.one(),
            (Kind::Touch, Ok(Outcome::NotFound)) => self.touch_misses.one(),
            (Kind::Touch, Ok(_)) => self.touch_hits.one(),
            (Kind::Flush, Ok(_)) => self.cmd_flush.one(),
        }
    }
}
