//! Questions to running daemons over their control sockets.

use super::report::{Kind, Report};
use crate::daemon::status::Status;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `syncd flush` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlushOptions {
    /// The path that must be durable, absolute: selects the client whose source contains it; none for the only one.
    pub path: Option<PathBuf>,
    /// The directory of the client, absolute; wins over `path` for the selection.
    pub directory: Option<PathBuf>,
    /// How long to wait.
    pub timeout: Duration,
}

/// THE SEAM to `daemon`: the status of the daemons of one directory, or of all that this user runs.
///
/// # Errors
/// When none runs, or one does not answer.
pub async fn status(directory: Option<&Path>) -> Result<Vec<Status>, Report> {
    let _ = directory;
    Err(not_connected("control socket"))
}

/// THE SEAM to `daemon`: returns when all changes that were made before are durable on every server of the client.
///
/// # Errors
/// When no client or several match, the time is over, or paths could not be mirrored.
pub async fn flush(options: FlushOptions) -> Result<(), Report> {
    drop(options);
    Err(not_connected("control socket"))
}

pub(super) fn not_connected(what: &str) -> Report {
    Report::new(Kind::Unexpected, format!("the {what} is not connected yet"))
}
