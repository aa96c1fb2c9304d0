//! Paths that rules leave out: neither sent nor deleted, watched nor listed.
//!
//! The rules of a directory belong to its node, so they move with it. They are read before the directory is looked at.
//! What was mirrored before a rule came stays in the view as the server has it, without what the local disk said of it,
//! and is neither compared nor missed; or, if so configured, it is deleted like what is missing, past the brake.

use super::ClientEngine;
use crate::debounce::{Key, Wait};
use crate::engine::ignore::{FILE, Rules};
use crate::engine::source::{Found, FoundKind, Place, Source, SourceError};
use crate::index::{NodeId, Stat};
use crate::model::limits::MAX_INLINE;
use crate::model::{Fault, Name, Problem};
use std::collections::HashMap;
use std::time::Duration;

/// What becomes of a path of the mirror that is ignored from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ignored {
    /// The server keeps it as it is.
    #[default]
    Keep,
    /// The server deletes it.
    Delete,
}

/// Why a path is not mirrored.
const REASON: &str = "ignored by a rule";

/// The rules of a source.
#[derive(Debug)]
pub(super) struct Ignore {
    settings: Rules,
    files: HashMap<NodeId, (Stat, Rules)>,
    ignored: Ignored,
}

impl Ignore {
    pub(super) fn new(patterns: &[String], ignored: Ignored) -> Self {
        Self {
            settings: Rules::of_patterns(patterns),
            files: HashMap::new(),
            ignored,
        }
    }

    /// A directory left the view.
    pub(super) fn forget(&mut self, dir: NodeId) {
        self.files.remove(&dir);
    }

    fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.files.is_empty()
    }
}

fn is_rules(name: &Name) -> bool {
    name.as_bytes() == FILE
}

impl ClientEngine {
    /// Whether anything may be ignored.
    pub(super) fn has_rules(&self) -> bool {
        !self.ignore.is_empty()
    }

    /// Whether a rule leaves out a path, or a directory that it is in.
    pub(super) fn ignores(&self, key: &Key, directory: bool) -> bool {
        !self.ignore.is_empty() && (self.leaves_out(key, directory) || self.is_left_out(key.dir))
    }

    /// Whether a rule leaves out a directory, or one that it is in.
    pub(super) fn is_left_out(&self, dir: NodeId) -> bool {
        if self.ignore.is_empty() {
            return false;
        }
        let mut at = self.key_of(dir);
        while let Some(key) = at {
            if self.leaves_out(&key, true) {
                return true;
            }
            at = self.key_of(key.dir);
        }
        false
    }

    /// Whether a rule leaves out a path whose directory is not left out: the deepest rule that fits decides.
    pub(super) fn leaves_out(&self, key: &Key, directory: bool) -> bool {
        if self.ignore.is_empty() || is_rules(&key.name) {
            return false;
        }
        let mut path = key.name.as_bytes().to_vec();
        let mut at = key.dir;
        loop {
            let rules = self.ignore.files.get(&at);
            if let Some(verdict) = rules.and_then(|(_, rules)| rules.verdict(&path, directory)) {
                return verdict;
            }
            let Some(node) = self.view.get(at) else {
                return false;
            };
            if at == self.view.root() {
                return self.ignore.settings.verdict(&path, directory) == Some(true);
            }
            path.splice(0..0, [node.name(), b"/"].concat());
            at = node.parent();
        }
    }

    /// Takes in the rules of a directory, from its entries as they were listed.
    pub(super) fn take_rules(
        &mut self,
        dir: NodeId,
        place: &Place,
        entries: &[(Name, Found)],
        source: &mut impl Source,
    ) -> Result<(), SourceError> {
        let file = entries.iter().find(|(name, _)| is_rules(name));
        match file {
            Some((name, found)) if matches!(found.kind, FoundKind::File { .. }) => {
                self.read_rules(dir, place, name, found, source)
            }
            _ => {
                self.ignore.files.remove(&dir);
                Ok(())
            }
        }
    }

    /// A path was looked at. If it holds the rules of its directory, and they changed or are gone, they hold from now on, and it is listed with all below it.
    pub(super) fn rules_changed(
        &mut self,
        key: &Key,
        place: &Place,
        found: Option<&Found>,
        source: &mut impl Source,
    ) {
        if !is_rules(&key.name) {
            return;
        }
        let old = self.ignore.files.get(&key.dir).map(|(stat, _)| *stat);
        let file = found.filter(|found| matches!(found.kind, FoundKind::File { .. }));
        if old == file.map(|found| found.stat) || self.is_left_out(key.dir) {
            return;
        }
        match file {
            // What cannot be read now fails once more, and is told, when the directory is listed.
            Some(found) => drop(self.read_rules(key.dir, place, &key.name, found, source)),
            None => drop(self.ignore.files.remove(&key.dir)),
        }
        self.scans.push(key.dir);
    }

    fn read_rules(
        &mut self,
        dir: NodeId,
        place: &Place,
        name: &Name,
        found: &Found,
        source: &mut impl Source,
    ) -> Result<(), SourceError> {
        let old = self.ignore.files.get(&dir);
        if old.is_some_and(|(stat, _)| *stat == found.stat) {
            return Ok(());
        }
        let failed = |message: &str| SourceError::Failed(format!("its `.syncdignore` {message}"));
        if matches!(found.kind, FoundKind::File { size } if size > MAX_INLINE) {
            return Err(failed(
                "is longer than 64 KiB: nothing in the directory is mirrored",
            ));
        }
        match source.read(place, name, MAX_INLINE) {
            Ok((found, text)) => {
                self.ignore
                    .files
                    .insert(dir, (found.stat, Rules::parse(&text)));
                Ok(())
            }
            Err(SourceError::Failed(message)) => Err(failed(&message)),
            // It is being written: its next event, or the next look, finds what it has become.
            Err(_) => Err(failed("changed while it was read")),
        }
    }

    /// Lines of the rules that are no patterns, as problems of their files.
    pub(super) fn refused_rules(&self) -> Vec<(Problem, Duration)> {
        let files = self.ignore.files.iter();
        let problem = |(dir, (_, rules)): (&NodeId, &(Stat, Rules))| {
            let line = rules.refused().first()?;
            let path = self.view.path(*dir)?.join(&Name::new(FILE).ok()?).ok()?;
            let problem = Problem {
                path,
                fault: Fault::Unrepresentable,
                message: format!("line {line} is no pattern and is passed over"),
            };
            Some((problem, Duration::ZERO))
        };
        files.filter_map(problem).collect()
    }

    /// How many paths are left out, an ignored directory counting once.
    pub(super) fn ignored_count(&self) -> usize {
        let reasons = self.skipped.values();
        reasons.filter(|reason| **reason == REASON).count()
    }

    /// A path is there and a rule leaves it out.
    pub(super) fn leave_out(
        &mut self,
        key: Key,
        wait: Wait,
        now: Duration,
        source: &mut impl Source,
    ) {
        self.troubles.remove(&key);
        match self.existing(&key) {
            Some(_) if self.ignore.ignored == Ignored::Delete => {
                self.gone(&key, wait, now, source);
            }
            Some((id, _)) => {
                self.guard.remove(&key);
                self.set_aside(id, source);
            }
            None => {}
        }
        self.skipped.insert(key, REASON);
    }

    /// Whether a path of the mirror stays there whatever became of it in the source.
    pub(super) fn is_kept(&self, key: &Key) -> bool {
        let directory = |(_, node): (NodeId, &crate::index::Node)| node.entry.is_dir();
        self.ignore.ignored == Ignored::Keep
            && self.ignores(key, self.existing(key).is_some_and(directory))
    }

    /// Forgets what the local disk said of a path and of all below it, and ends their watches.
    fn set_aside(&mut self, id: NodeId, source: &mut impl Source) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id) else {
                continue;
            };
            if node.entry.is_dir() {
                todo.extend(node.children().map(|(_, child)| child));
                source.unwatch(id);
                self.scans.done(id);
                self.unwatched.remove(id);
                self.forget_reports(id);
            }
            if let Some(key) = self.key_of(id) {
                self.guard.remove(&key);
                self.found.extend(self.links.leave(&key, None));
            }
            self.view.set_stat(id, None);
        }
    }
}
