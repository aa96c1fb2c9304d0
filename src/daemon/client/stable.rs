//! A file that is read while others write: whether it still is what it was.

use super::sender::Stop;
use crate::engine::client::ReadOutcome;
use crate::engine::source::{Found, FoundKind, SourceError};
use crate::host::source::stat_again;
use std::fs::File;
use std::io::Read;

/// What became of a file while it was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Same,
    /// It is longer now.
    Grown,
}

pub(super) fn still(file: &File, found: &Found) -> Result<End, Stop> {
    let now = stat_again(file, found).map_err(|error| failed(&error))?;
    match (&now.kind, &found.kind) {
        _ if now == *found => Ok(End::Same),
        (FoundKind::File { size: now }, FoundKind::File { size: before }) if now > before => {
            Ok(End::Grown)
        }
        _ => Err(changed()),
    }
}

pub(super) fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(super) fn changed() -> Stop {
    Stop::Outcome(ReadOutcome::Changed)
}

pub(super) fn failed(error: &std::io::Error) -> Stop {
    Stop::Outcome(ReadOutcome::Failed(format!("cannot read it: {error}")))
}

pub(super) fn refused(error: SourceError) -> Stop {
    match error {
        SourceError::Failed(message) | SourceError::WatchLimit(message) => {
            Stop::Outcome(ReadOutcome::Failed(message))
        }
        SourceError::Displaced | SourceError::Gone | SourceError::Changed => changed(),
    }
}
