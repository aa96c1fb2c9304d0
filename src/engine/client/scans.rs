//! Which directories still have to be listed.
//!
//! A mark belongs to a node, so it moves with the directory, and it says that everything below has to be listed too. It
//! goes only when a listing succeeded or the node left the view. What is listed next is on a stack; a marked
//! directory that could not be listed is put there again when its own path is looked at.

use crate::index::NodeId;
use std::collections::HashSet;

/// Directories that have to be listed, with everything below them.
#[derive(Debug, Default)]
pub(super) struct Scans {
    marked: HashSet<NodeId>,
    stack: Vec<NodeId>,
    /// Those of them that were seen to go: another directory is in the place of each, and what it lacks went too.
    replaced: HashSet<NodeId>,
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

    /// What was seen to go says nothing any more.
    pub(super) fn doubt(&mut self) {
        self.replaced.clear();
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
