//! Paths where a change failed that the client, which is ahead of the answers, may still take for done.

use super::change::Change;
use crate::model::RelPath;
use std::collections::BTreeMap;

/// What the client cannot know yet. A change that says itself what a path becomes is right whatever was there; one that
/// moves or dresses what is there would show a version that the source never had under that name.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Since which version.
    paths: BTreeMap<RelPath, u64>,
    /// What the client knew when it sent the message under way.
    based_on: u64,
    /// Messages that were carried out and have no version yet.
    ahead: u64,
}

impl Doubts {
    /// A message begins.
    pub(super) fn begin(&mut self, based_on: u64) {
        if based_on != self.based_on {
            self.based_on = based_on;
            self.paths.retain(|_, version| *version > based_on);
        }
    }

    /// A message was carried out.
    pub(super) fn end(&mut self) {
        self.ahead = self.ahead.saturating_add(1);
    }

    /// A message got its version.
    pub(super) fn answered(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
    }

    /// A change of this path failed; `version` is that of the last message that was answered.
    pub(super) fn failed(&mut self, path: &RelPath, version: u64) {
        let version = version.saturating_add(self.ahead).saturating_add(1);
        self.paths.insert(path.clone(), version);
    }

    /// Whether a change builds on one that failed, without the client's knowledge.
    pub(super) fn concern(&self, change: &Change) -> bool {
        let builds = matches!(
            change,
            Change::Attributes { .. } | Change::Rename { .. } | Change::Exchange { .. }
        );
        builds && !self.paths.is_empty() && change.touches().any(|path| self.reach(path))
    }

    fn reach(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.paths.contains_key(&path) {
                return true;
            }
            at = path.split().map(|(parent, _)| parent);
        }
        false
    }
}
