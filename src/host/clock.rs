//! The only place that reads a clock. Everybody else is given the time.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one reader of the clock"
)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The wall clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one reader of the clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds of `time` since 1970, 0 for anything earlier.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
