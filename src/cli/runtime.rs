//! A runtime for one command, and the signals that end it.

use super::report::{Kind, Report};
use crate::host::memory;
use std::io;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs `work` to its end. The first SIGINT or SIGTERM cancels the token and waits for the work to finish; a second one
/// ends the wait at once.
///
/// # Errors
/// Those of the work; when the runtime cannot be made; when a second signal came.
pub fn run<F, T>(work: impl FnOnce(CancellationToken) -> F) -> Result<T, Report>
where
    F: Future<Output = Result<T, Report>>,
{
    let failed = |error: io::Error| {
        Report::new(Kind::Unexpected, "cannot start the runtime").caused_by(&error)
    };
    memory::keep_pieces();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new().map_err(failed)?;
        let stop = CancellationToken::new();
        let mut work = std::pin::pin!(work(stop.clone()));
        tokio::select! {
            done = &mut work => return done,
            () = signals.next() => stop.cancel(),
        }
        tokio::select! {
            done = &mut work => done,
            () = signals.next() => Err(Report::new(Kind::Unexpected, "a second signal ended it at once")),
        }
    });
    // What is left after the work has ended, or after a second signal, ends with the process. Nobody waits for it, and it is not
    // told that the runtime ends either: a thread that waits for a time would panic then.
    let _: &mut Runtime = Box::leak(Box::new(runtime));
    outcome
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
