//! Threads for work that blocks. Each ends by itself when its queue is closed, and its end can be awaited.

use std::io;
use tokio::sync::oneshot;

/// Runs work on a thread of its own. The receiver yields its result; an error when it panicked.
///
/// # Errors
/// When the system has no thread to give.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody has to wait for the end.
            let _unsent = done.send(work());
        })?;
    Ok(ended)
}
