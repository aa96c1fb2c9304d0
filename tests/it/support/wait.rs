//! The only place of the tests that sleeps.

use std::time::{Duration, Instant};

/// Long enough for any machine that still makes progress.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; whether it did before the deadline.
#[must_use]
pub fn until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
