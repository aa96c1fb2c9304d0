//! Hints that paths changed, and the time, to the paths that have come to rest.
//!
//! It owns the waiting: how long a deletion is held, how writes are coalesced, when a failed path is tried again.
//! It never looks at a path; `engine` does, when one is due.

mod queue;

pub use queue::{Hint, Key, Queue, Timing, Wait};
