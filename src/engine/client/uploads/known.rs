//! What is known of the server beyond its tree.

use crate::debounce::Key;
use crate::engine::client::ClientEngine;
use crate::model::LeftoverKey;
use crate::model::limits::MAX_LEFTOVERS;
use std::collections::BTreeSet;

/// What is known of the server beyond its tree.
#[derive(Debug, Default)]
pub(in crate::engine::client) struct Known {
    /// Files that are sent whole: it could not make them of what it has.
    pub(in crate::engine::client) whole: BTreeSet<Key>,
    /// Paths of which it may have what an upload has left.
    pub(in crate::engine::client) leftovers: BTreeSet<LeftoverKey>,
}

impl ClientEngine {
    /// An upload was given up: the server keeps what it has of it. The number of paths is bounded by what a server keeps.
    pub(in crate::engine::client) fn left(&mut self, leftover: LeftoverKey) {
        if self.known.leftovers.len() >= MAX_LEFTOVERS {
            self.known.leftovers.pop_first();
        }
        self.known.leftovers.insert(leftover);
    }
}
