//! What the system says of a process.

use std::io;
use std::time::Duration;

/// Ticks of the times below in a second: what Linux tells to programs, whatever its own clock does.
const TICKS: u32 = 100;

/// CPU time that a process has used so far, with all its threads, in the program and in the system: to 10 ms.
///
/// # Errors
/// When there is no such process, or it cannot be looked at.
pub fn cpu_time(id: u32) -> io::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    ticks(&text)
        .map(|ticks| Duration::from_secs(ticks) / TICKS)
        .ok_or_else(|| io::Error::other("the times of a process are not understood"))
}

/// Fields 14 and 15. The name before them, in parentheses, may hold anything.
fn ticks(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::{cpu_time, ticks};
    use std::time::Duration;

    #[test]
    fn times_are_found_behind_any_name() {
        let text = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 5 9 10 20 0 1";
        assert_eq!(ticks(text), Some(11 + 5));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert!(cpu_time(std::process::id()).unwrap() < Duration::from_hours(10));
        assert!(cpu_time(u32::MAX).is_err());
    }
}
