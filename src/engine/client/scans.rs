//! Which directories still have to be listed.
//!
//! A mark belongs to a node, so it moves with the directory, and it says that everything below has to be listed too. It
//! goes only when a listing succeeded or the node left the view. What is listed next is on a stack; a marked
//! directory that could not be listed is put there again when its own path is looked at.

use crate::debounce::Key;
use crate::index::NodeId;
use crate::model::Name;
use std::collections::{HashMap, HashSet};

/// Directories that have to be listed, with everything below them.
#[derive(Debug, Default)]
pub(super) struct Scans {
    marked: HashSet<NodeId>,
    stack: Vec<NodeId>,
    /// Those of them that were seen to go: another directory is in the place of each, and what it lacks went too.
    replaced: HashSet<NodeId>,
    /// Names that were seen to go from directories that are not where they were: it cannot be looked yet.
    gone: HashMap<NodeId, HashSet<Name>>,
}

impl Scans {
    /// Remembers that a directory has to be listed, when somebody comes upon it.
    pub(super) fn mark(&mut self, dir: NodeId) {
        self.marked.insert(dir);
    }

    /// Has a directory listed next.
    pub(super) fn push(&mut self, dir: NodeId) {
        self.marked.insert(dir);
        self.stack.push(dir);
    }

    /// Has a directory listed next that took the place of one that was seen to go.
    pub(super) fn push_replaced(&mut self, dir: NodeId) {
        self.replaced.insert(dir);
        self.push(dir);
    }

    /// Remembers that a path was seen to go, until its directory is listed.
    pub(super) fn note_gone(&mut self, key: Key) {
        self.gone.entry(key.dir).or_default().insert(key.name);
    }

    /// The names that were seen to go from a directory before it is listed now.
    pub(super) fn take_gone(&mut self, dir: NodeId) -> HashSet<Name> {
        self.gone.remove(&dir).unwrap_or_default()
    }

    /// What was seen to go says nothing any more.
    pub(super) fn doubt(&mut self) {
        self.replaced.clear();
        self.gone.clear();
    }

    /// The directory that is to be listed now. Its mark stays until [`Scans::done`].
    pub(super) fn next(&mut self) -> Option<NodeId> {
        while let Some(dir) = self.stack.pop() {
            if self.marked.contains(&dir) {
                return Some(dir);
            }
        }
        None
    }

    /// A directory was listed, or is gone. Whether what it lacks was seen to go.
    pub(super) fn done(&mut self, dir: NodeId) -> bool {
        self.marked.remove(&dir);
        self.gone.remove(&dir);
        self.replaced.remove(&dir)
    }

    /// Whether a directory has to be listed.
    pub(super) fn is_marked(&self, dir: NodeId) -> bool {
        self.marked.contains(&dir)
    }

    /// Whether no directory has to be listed.
    pub(super) fn none_marked(&self) -> bool {
        self.marked.is_empty()
    }

    /// Whether none is to be listed now.
    pub(super) fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }
}
