//! What a server's log says of connections that were not let in: what was wrong and what to do, for as many as a person reads.

use crate::host::tls::{Rejection, explain, is_of_peer};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Lines that are written at once.
const BURST: u32 = 32;
/// Time after which one more is.
const INTERVAL: Duration = Duration::from_secs(10);

/// A budget that refills with time.
#[derive(Debug)]
pub struct Budget {
    burst: u32,
    interval: Duration,
    state: Mutex<(u32, Option<Instant>)>,
}

impl Budget {
    /// A full one of `burst`, which gets one back after each `interval`.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self {
            burst,
            interval,
            state: Mutex::new((burst, None)),
        }
    }

    /// Takes one, if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = &mut *state;
        let start = *since.get_or_insert(now);
        let earned = now.saturating_duration_since(start).as_millis() / self.interval.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            *left = left.saturating_add(earned).min(self.burst);
            *since = Some(now);
        }
        let granted = *left > 0;
        *left = left.saturating_sub(1);
        granted
    }
}

/// Writes about them.
#[derive(Debug)]
pub struct TurnedAway(Budget);

impl Default for TurnedAway {
    fn default() -> Self {
        Self(Budget::new(BURST, INTERVAL))
    }
}

impl TurnedAway {
    /// Notes one. Certificates and protocols that are not accepted are for the owner; all else only helps those who look for it.
    pub fn note(&self, peer: SocketAddr, error: &io::Error) {
        // A client that does not know this server yet ends the handshake itself, and enrols.
        let rejection = (!is_of_peer(error)).then(|| explain(error)).flatten();
        match rejection.and_then(|rejection| advice(&rejection)) {
            Some((what, advice)) if self.0.take(Instant::now()) => {
                tracing::warn!(%peer, "turned a client away: {what}; {advice}");
            }
            _ => tracing::debug!(%peer, %error, "connection refused"),
        }
    }
}

/// What was wrong with a client, and what the owner can do; nothing for what is no client's fault.
fn advice(rejection: &Rejection) -> Option<(String, &'static str)> {
    let (what, advice) = match rejection {
        Rejection::NoCertificate => (
            "it showed no certificate of an authority that this server knows",
            "`syncd invite` prints a line for `syncd join` there; with certificates of your own, `ca` in `[tls]` has to hold the client's authority",
        ),
        Rejection::Authority => (
            "its certificate is of another authority",
            "`syncd invite` prints a line for `syncd join` there; with certificates of your own, `ca` in `[tls]` has to hold the client's authority",
        ),
        Rejection::UnknownDevice => (
            "its key is not enrolled",
            "`syncd invite` prints a line for `syncd join` there, `syncd invite --certificate` enrols the key of a certificate of your own",
        ),
        Rejection::Revoked => (
            "it was revoked",
            "`syncd clients` lists devices; a new `syncd invite` brings its machine back",
        ),
        Rejection::PeerCertificate(reason) => {
            let what = format!("its certificate is not acceptable ({reason})");
            let advice = "compare the clocks of both machines; a device that was away for too long takes a new `syncd invite` and `syncd join`, a certificate of your own has to be valid and for clients";
            return Some((what, advice));
        }
        Rejection::Version => (
            "it speaks no common version of the protocol",
            "install the same release of `syncd` on both sides",
        ),
        // Of clients' own doubts, and of lines that change bytes.
        Rejection::Expired
        | Rejection::Unfit
        | Rejection::Name
        | Rejection::NoTls
        | Rejection::Other(_) => {
            return None;
        }
    };
    Some((what.to_owned(), advice))
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_budget_runs_out_and_comes_back_with_time() {
        let interval = Duration::from_millis(100);
        let budget = Budget::new(64, interval);
        let start = Instant::now();
        assert!((0..64).all(|_| budget.take(start)));
        assert!(!budget.take(start));
        assert!(!budget.take(start + interval / 2));
        assert!(budget.take(start + interval));
        assert!(!budget.take(start + interval));
        let later = start + 1000 * interval;
        assert!((0..64).all(|_| budget.take(later)));
        assert!(!budget.take(later));
    }
}
