//! What a flush promises: when it is answered, each path on the server is as it was when it was asked, or newer.

use std::collections::{BTreeMap, HashSet};
use syncd::engine::client::Snapshot;
use syncd::engine::sim::{MemSource, MemStore};
use syncd::model::Entry;

/// A flush that is not answered, and everything that the source had since it was asked.
struct Asked {
    token: u64,
    /// At first, and last.
    states: Vec<BTreeMap<Vec<u8>, Entry>>,
    /// A change was made that no event tells of.
    blind: bool,
    /// A file had several names. No event tells of the others when it is changed through one, and one that is replaced before
    /// anybody has looked is not found: only what stayed is as it was.
    linked: bool,
}

impl Asked {
    fn note(&mut self, source: &MemSource) {
        let state = source.expected();
        self.blind |= source.blind;
        self.linked |= source.inodes.values().any(|meta| meta.links > 1);
        if self.states.last() == Some(&state) {
            return;
        }
        self.states.push(state);
    }

    /// What is wrong with a path of the server, if anything is.
    fn fault(&self, path: &[u8], held: Option<&Entry>) -> Option<String> {
        let mut past: Vec<_> = self.states.iter().map(|state| state.get(path)).collect();
        past.dedup();
        let right = match past.as_slice() {
            [only] if self.is_still(path) => *only == held || self.is_disturbed(path, *only, held),
            _ if self.linked => true,
            _ => past.contains(&held) || self.is_of_the_time(&past, held),
        };
        let path = String::from_utf8_lossy(path);
        (!right).then(|| format!("{path}: {held:?} on the server, {past:?} in the source since"))
    }

    /// Whether no directory that a path is in was changed.
    fn is_still(&self, path: &[u8]) -> bool {
        let ends = (0..path.len()).filter(|at| path[*at] == b'/');
        let mut above = ends.map(|at| &path[..at]);
        above.all(|dir| {
            self.states
                .iter()
                .all(|state| state.get(dir) == self.states[0].get(dir))
        })
    }

    /// Whether a directory is as it was but for its time, which a later change of what is in it disturbs until its group
    /// is settled.
    fn is_disturbed(&self, path: &[u8], was: Option<&Entry>, held: Option<&Entry>) -> bool {
        let (Some(was), Some(held)) = (was, held) else {
            return false;
        };
        let inside = |other: &[u8]| {
            let rest = other.strip_prefix(path);
            rest.and_then(|rest| rest.strip_prefix(b"/"))
                .is_some_and(|name| !name.contains(&b'/'))
        };
        let mut all = self.states.iter().flatten();
        let stays = |other, entry| {
            self.states
                .iter()
                .all(|state| state.get(other) == Some(entry))
        };
        held.is_dir()
            && (&held.kind, held.mode) == (&was.kind, was.mode)
            && held.mtime.secs >= MemStore::FIRST_TIME
            && all.any(|(other, entry)| inside(other) && !stays(other, entry))
    }

    /// Whether a path that has changed is of a kind that it had. What is moved brings along what it had elsewhere.
    fn is_of_the_time(&self, past: &[Option<&Entry>], held: Option<&Entry>) -> bool {
        let Some(held) = held else {
            return past.contains(&None);
        };
        let mut all = self.states.iter().flat_map(BTreeMap::values);
        all.any(|entry| entry.kind == held.kind)
    }
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    rest.is_some_and(|rest| rest.is_empty() || dir.is_empty() || rest.starts_with(b"/"))
}

#[derive(Default)]
pub(super) struct Flushes {
    asked: Vec<Asked>,
    next: u64,
    /// How many were answered.
    pub(super) answered: usize,
}

impl Flushes {
    /// A flush is asked now. Its number.
    pub(super) fn ask(&mut self, source: &MemSource) -> u64 {
        self.next += 1;
        let mut asked = Asked {
            token: self.next,
            states: Vec::new(),
            blind: false,
            linked: false,
        };
        asked.note(source);
        self.asked.push(asked);
        self.next
    }

    /// How many are not answered.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// The source has changed.
    pub(super) fn note(&mut self, source: &MemSource) {
        for asked in &mut self.asked {
            asked.note(source);
        }
    }

    /// Those that asked are gone with the client.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }

    /// A flush is answered.
    pub(super) fn check(&mut self, token: u64, held: &BTreeMap<Vec<u8>, Entry>, status: &Snapshot) {
        let at = self.asked.iter().position(|asked| asked.token == token);
        let asked = self.asked.remove(at.expect("a flush that was asked"));
        self.answered += 1;
        if asked.blind || status.held.is_some() {
            return;
        }
        let named = |path: &&Vec<u8>| {
            let mut problems = status.problems.iter();
            problems.any(|(problem, _)| below(path, problem.path.as_bytes()))
        };
        let paths: HashSet<_> = asked
            .states
            .iter()
            .chain([held])
            .flat_map(BTreeMap::keys)
            .collect();
        let paths = paths.into_iter().filter(|path| !named(path));
        let mut faults: Vec<_> = paths
            .filter_map(|path| asked.fault(path, held.get(path)))
            .collect();
        faults.sort();
        assert!(
            faults.is_empty(),
            "flush {token} was answered too early: {faults:#?}"
        );
    }
}
