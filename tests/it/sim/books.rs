//! What was promised, against what the store showed.

use super::flushes::Flushes;
use std::collections::{BTreeMap, HashMap, HashSet};
use syncd::engine::sim::{MemStore, Shown};
use syncd::model::{Digest, Entry, Kind};

/// A version of a file: which file, and a number that grows with each.
pub(super) type Version = (u64, u64);

#[derive(Default)]
pub(super) struct Books {
    /// Every content that the source ever had.
    pub(super) contents: HashMap<Digest, Version>,
    /// Files that had several names: their names change one after the other.
    pub(super) linked: HashSet<u64>,
    /// Counts the edits.
    pub(super) step: u64,
    /// The paths of the source that are files now: since which edit, and the versions that were there since.
    pub(super) present: HashMap<Vec<u8>, (u64, HashSet<u64>)>,
    /// Versions that a path had before it ceased to be a file: the store, which is behind, may show that time.
    pub(super) past: HashMap<Vec<u8>, HashSet<u64>>,
    pub(super) flushes: Flushes,
    shown: HashMap<Vec<u8>, Version>,
    /// What the store shows was shown by the source, too, in its time as a file that began with this edit.
    shown_since: HashMap<Vec<u8>, u64>,
    acked: BTreeMap<Vec<u8>, Entry>,
    since: HashMap<Vec<u8>, Vec<Option<Entry>>>,
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Books {
    /// Checks what came into view.
    pub(super) fn see(&mut self, store: &MemStore) {
        for (path, entry) in store.take_seen() {
            self.see_one((path, entry));
        }
    }

    fn see_one(&mut self, (path, entry): Shown) {
        match entry.as_ref().map(|entry| &entry.kind) {
            Some(Kind::File { digest, size }) => {
                let version = self.contents.get(digest);
                let (file, number) = *version.unwrap_or_else(|| {
                    panic!("{} is torn: {entry:?}", text(&path));
                });
                if *size > 0
                    && !self.linked.contains(&file)
                    && let Some((other, newer)) = self.shown.insert(path.clone(), (file, number))
                {
                    assert!(
                        other != file || newer <= number,
                        "{}: version {number} after {newer}",
                        text(&path)
                    );
                }
                let past = self.past.get(&path);
                let is_past = past.is_some_and(|past| past.contains(&number));
                let present = self.present.get(&path);
                let present = present.filter(|(_, all)| *size > 0 && all.contains(&number));
                match present {
                    Some((since, _)) if !is_past => {
                        self.shown_since.insert(path.clone(), *since);
                    }
                    _ => drop(self.shown_since.remove(&path)),
                }
            }
            Some(_) => {
                self.shown.remove(&path);
                self.shown_since.remove(&path);
            }
            None => {
                let shown = self.shown_since.remove(&path);
                let present = self.present.get(&path).map(|(since, _)| *since);
                assert!(
                    shown.is_none() || shown != present,
                    "{} disappeared, though the source always had it",
                    text(&path)
                );
            }
        }
        self.since.entry(path).or_default().push(entry);
    }

    /// Everything in view was acknowledged.
    pub(super) fn acknowledge(&mut self, store: &MemStore) {
        self.see(store);
        self.acked = store.view();
        self.since.clear();
    }

    /// The store after a crash: each path is as acknowledged, or newer, be it that of another path.
    pub(super) fn crashed(&mut self, store: &MemStore) {
        let left = store.view();
        for path in left.keys().chain(self.acked.keys()) {
            let (now, promised) = (left.get(path), self.acked.get(path));
            let newer = self.since.get(path).into_iter().flatten();
            // Mode and time of what was not acknowledged may be lost, or survive, without the rest.
            let mut newer = newer.map(Option::as_ref).peekable();
            let changed = newer.peek().is_some();
            let is_now = |entry: Option<&Entry>| entry.map(|e| &e.kind) == now.map(|e| &e.kind);
            let newer = newer.any(is_now) || changed && is_now(promised);
            // A move may be lost that what came into the moved directory outlives.
            let stray = self.since.values().flatten();
            let stray = now.is_some() && stray.map(Option::as_ref).any(is_now);
            assert!(
                now == promised || newer || stray,
                "{} was acknowledged as {promised:?}, after the crash it is {now:?}",
                text(path)
            );
        }
        self.acked = left;
        self.since.clear();
        self.shown.clear();
        self.shown_since.clear();
    }
}
