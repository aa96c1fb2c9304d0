//! Each change in the log, on either side, and what it is about.

use crate::engine::server::Change;
use crate::model::RelPath;
use crate::wire::{Op, WirePath};
use tracing::Level;

/// Names the changes of a message that is about to be sent, or was received, for those who want to know each.
pub(super) fn log(ops: &[Op]) {
    if tracing::enabled!(Level::DEBUG) {
        ops.iter().for_each(change);
    }
}

fn change(op: &Op) {
    let shown = |path: &WirePath| path.path().map(|path| path.to_string()).unwrap_or_default();
    match op {
        Op::Put { path, size, .. } => tracing::debug!(path = %shown(path), size, "put"),
        Op::Mkdir { path, .. } => tracing::debug!(path = %shown(path), "directory"),
        Op::Symlink { path, .. } => tracing::debug!(path = %shown(path), "link"),
        Op::Attributes { path, .. } => tracing::debug!(path = %shown(path), "attributes"),
        Op::Delete { path } => tracing::debug!(path = %shown(path), "delete"),
        Op::Rename { from, to } => {
            tracing::debug!(from = %shown(from), to = %shown(to), "rename");
        }
        Op::Exchange { a, b } => tracing::debug!(a = %shown(a), b = %shown(b), "exchange"),
    }
}

/// The paths that are something else, or nothing, after a change.
pub(super) fn touched(change: &Change) -> impl Iterator<Item = &RelPath> {
    let (one, other) = match change {
        Change::Put { path, .. }
        | Change::Mkdir { path, .. }
        | Change::Symlink { path, .. }
        | Change::Attributes { path, .. }
        | Change::Delete { path } => (path, None),
        Change::Rename { from, to } => (from, Some(to)),
        Change::Exchange { a, b } => (a, Some(b)),
    };
    std::iter::once(one).chain(other)
}
