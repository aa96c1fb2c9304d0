//! The slow sweep: the tree is compared with the disk while changes go on, a directory at a time. What somebody else did to
//! the mirror is found even if the writer never touches it again.

use super::refresh::{Content, Later, read};
use super::{Look, Server};
use crate::engine::ports::Store;
use crate::index::NodeId;
use crate::model::{Fault, RelPath};
use std::collections::BTreeMap;

/// A sweep under way.
#[derive(Debug)]
pub struct Sweep {
    /// Directories to be looked at; the next is the last.
    todo: Vec<NodeId>,
    /// What files of the next one hold that were not known.
    contents: BTreeMap<RelPath, Content>,
    /// Whether the next one was looked at before those were read.
    again: bool,
}

/// What one step of a sweep came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SweepStep {
    /// A directory was looked at.
    Looked(Look),
    /// These files have to be read, with [`Sweep::read`], before the next step. So far this was found.
    Unread(Look, Vec<RelPath>),
    /// A change is under way; to be tried again soon.
    Busy,
    /// Nothing is left.
    Over,
}

impl Sweep {
    /// Reads files that a step asked for. It needs nothing of the share, so that changes go on meanwhile; a file that cannot
    /// be read, or changes, is left to the next sweep.
    pub fn read<S: Store>(&mut self, store: &S, paths: Vec<RelPath>) {
        for path in paths {
            if let Ok(content) = read(store, &path) {
                self.contents.insert(path, content);
            }
        }
    }
}

impl<S: Store> Server<S> {
    /// Begins a sweep of everything. The tree must have been compared with the disk before ([`Server::refresh`]).
    #[must_use]
    pub fn begin_sweep(&self) -> Sweep {
        Sweep {
            todo: vec![self.tree().root()],
            contents: BTreeMap::new(),
            again: false,
        }
    }

    /// Compares the next directory with the disk. What differs enters the tree and counts as drift; the writer has to be told.
    pub fn sweep(&mut self, sweep: &mut Sweep) -> SweepStep {
        if self.is_amid_changes() {
            return SweepStep::Busy;
        }
        let mut look = Look {
            later: Some(Later {
                contents: std::mem::take(&mut sweep.contents),
                unread: Vec::new(),
            }),
            ..Look::default()
        };
        let Some(dir) = sweep.todo.pop() else {
            return SweepStep::Over;
        };
        let again = std::mem::take(&mut sweep.again);
        let Some(path) = self.tree.path(dir) else {
            return SweepStep::Looked(Look::default());
        };
        let mut gone = Vec::new();
        let before = sweep.todo.len();
        match self.store.scan(std::slice::from_ref(&path)).pop() {
            Some(Ok(names)) => self.enter(dir, names, &mut sweep.todo, &mut gone, &mut look),
            // It is gone since its own directory was looked at: the next sweep sees that.
            Some(Err(error)) if error.fault == Fault::Changed => {}
            Some(Err(error)) => self.note_problem(&path, &error),
            None => {}
        }
        self.drop_gone(gone, &mut look);
        look.drift = look.differences > 0;
        self.count(&look);
        let unread = look
            .later
            .take()
            .map_or_else(Vec::new, |later| later.unread);
        if unread.is_empty() || again {
            return SweepStep::Looked(look);
        }
        // Once more, with what is read until then.
        sweep.todo.truncate(before);
        sweep.todo.push(dir);
        sweep.again = true;
        SweepStep::Unread(look, unread)
    }

    /// Whether the tree and the disk may differ because of what the writer does.
    fn is_amid_changes(&self) -> bool {
        self.unsettled || !self.owed.dirs.is_empty() || !self.owed.files.is_empty()
    }
}

#[cfg(test)]
mod tests;
