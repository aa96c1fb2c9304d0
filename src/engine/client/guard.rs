//! What scans and comparisons found missing, and whether it may be deleted.
//!
//! What an event told of is deleted at once. The rest waits here until a scan is over, is judged together, and deleted
//! or held. A hold ends when everything turned up again, or when a person accepts it; not because the tree grew, nor
//! because part of it is back: what is being brought back one by one, perhaps from this mirror, is not to go from it
//! halfway. In another run that is no different.

use super::{ClientEngine, Output};
use crate::debounce::{Key, Wait};
use crate::engine::brake::{self, Hold, Loss};
use crate::engine::source::Source;
use crate::index::{Node, NodeId, Tree};
use crate::model::{Kind, Mtime};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// Paths of the mirror that the source lacks, though no event told of it.
#[derive(Debug, Default)]
pub(super) struct Guard {
    missing: BTreeSet<Key>,
    /// Those of them in whose place a moved directory is, with the node that moved: that one is not missing.
    displacing: BTreeMap<Key, NodeId>,
    judged: bool,
    held: Option<Hold>,
    /// A hold of an earlier scan, or an earlier run: it stands as long as anything is missing.
    before: Option<Hold>,
    /// Entries of the mirror when they were held first; none if that was in an earlier run.
    total: Option<usize>,
    /// Paths of what is held were seen to go.
    lessened: bool,
    /// What a person was shown.
    shown: BTreeSet<Key>,
    /// A person accepted so many deletions, of what was shown.
    accepting: Option<usize>,
    /// What became of that.
    answer: Option<Result<usize, String>>,
}

impl Guard {
    pub(super) fn new(before: Option<Hold>) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Why deletions are held.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.held.or(self.before)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.missing.contains(key)
    }

    pub(super) fn insert(&mut self, key: Key) {
        self.judged &= !self.missing.insert(key);
    }

    /// A directory that moved took the place of another, which nobody saw go.
    pub(super) fn insert_displacing(&mut self, key: Key, moved: NodeId) {
        self.displacing.insert(key.clone(), moved);
        self.insert(key);
    }

    /// A path turned up, or its deletion is sent.
    pub(super) fn remove(&mut self, key: &Key) {
        self.missing.remove(key);
        self.displacing.remove(key);
    }

    /// What the mirror does not have any more is not missing.
    pub(super) fn prune(&mut self, view: &Tree) {
        let there = |key: &Key| view.child(key.dir, key.name.as_bytes()).is_some();
        self.missing.retain(there);
        self.displacing.retain(|key, _| there(key));
    }

    /// The next to be deleted: first where a move ends, so that it is not taken for two changes.
    fn pop(&mut self) -> Option<Key> {
        let key = match self.displacing.pop_first() {
            Some((key, _)) => key,
            None => self.missing.first()?.clone(),
        };
        self.missing.remove(&key);
        Some(key)
    }

    /// A path was seen to go: that is no disappearance, so what is left is judged anew.
    pub(super) fn seen_to_go(&mut self, key: &Key) {
        if self.missing.remove(key) {
            self.displacing.remove(key);
            self.judged = false;
            self.before = self.hold();
            self.lessened |= self.before.is_some();
            self.held = None;
        }
    }

    /// Nothing is held any more.
    fn release(&mut self) {
        self.held = None;
        self.before = None;
        self.total = None;
        self.lessened = false;
    }

    /// What is missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = &Key> {
        self.missing.iter()
    }

    /// What an earlier judgement still says of so many missing entries. That some of them were seen to go lessens what
    /// is missing; that the tree grew does not.
    fn standing(&self, loss: Loss) -> Option<Hold> {
        let before = self.before.filter(|hold| !hold.is_of_place())?;
        match (before, self.total) {
            (Hold::Most, Some(total)) if self.lessened => brake::judge(&Loss { total, ..loss }),
            _ => Some(before),
        }
    }

    /// A scan of everything begins.
    pub(super) fn restart(&mut self) {
        self.missing.clear();
        self.displacing.clear();
        self.judged = false;
        self.before = self.hold();
        self.held = None;
    }

    /// A person's acceptance cannot be carried out now.
    pub(super) fn refuse(&mut self, reason: &str) {
        if self.accepting.take().is_some() {
            self.answer = Some(Err(reason.to_owned()));
        }
    }

    /// Whether nothing is left to judge or to delete.
    pub(super) fn is_at_rest(&self) -> bool {
        self.accepting.is_none() && (self.missing.is_empty() || self.held.is_some())
    }
}

/// Deletions that are held.
#[derive(Clone, Debug)]
pub struct Held {
    /// Why.
    pub hold: Hold,
    /// How many entries would be deleted.
    pub entries: usize,
    /// Entries of the mirror.
    pub total: usize,
    /// The first of the paths, each with all below it.
    pub examples: Vec<String>,
}

/// So many paths are shown.
const SHOWN: usize = 20;

impl ClientEngine {
    /// What is held; it counts as shown to a person, who may accept it.
    pub fn show_held(&mut self) -> Option<Held> {
        let held = self.held()?;
        self.guard.shown.clone_from(&self.guard.missing);
        Some(held)
    }

    /// Takes a path for missing: it is judged whether it may be deleted. Should it turn up elsewhere, what is in it may have
    /// changed unseen.
    pub(super) fn miss(&mut self, key: Key) {
        if let Some((id, _)) = self.existing(&key).filter(|(_, node)| node.entry.is_dir()) {
            self.scans.mark(id);
        }
        self.guard.insert(key);
    }

    pub(super) fn held(&self) -> Option<Held> {
        let hold = self.guard.hold()?;
        let paths = self.guard.missing.iter().filter_map(|key| {
            let path = self.view.path(key.dir)?.join(&key.name).ok()?;
            Some(path.to_string())
        });
        Some(Held {
            hold,
            entries: self.count_missing(),
            total: self.view.len(),
            examples: paths.take(SHOWN).collect(),
        })
    }

    /// A person accepts what was shown, so many entries at most. The source is looked at again; then
    /// [`Output::Accepted`] tells how many entries are being deleted, or that something else would be.
    ///
    /// # Errors
    /// Why that is not possible now.
    pub fn accept(&mut self, entries: usize) -> Result<(), String> {
        if let Some(reason) = &self.root.away {
            return Err(reason.clone());
        }
        if self.phase != super::Phase::Live {
            return Err("the server is not connected: what is held is deleted there, so try again when it is".to_owned());
        }
        if self.guard.accepting.is_some() {
            return Err("somebody else is accepting already".to_owned());
        }
        self.guard.accepting = Some(entries);
        self.rescan();
        Ok(())
    }

    /// What became of accepting, once that is known.
    pub(super) fn accepted(&mut self) -> Option<Output> {
        self.guard.answer.take().map(Output::Accepted)
    }

    /// Once a scan is over: judges what is missing, or deletes the next of it. Whether there was anything to do.
    pub(super) fn next_missing(
        &mut self,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.guard.missing.is_empty() {
            let accepting = self.guard.accepting.take().is_some();
            if accepting {
                self.guard.answer = Some(Ok(0));
            }
            // A directory that is still to be found may lack what is held.
            if accepting || self.scans.none_marked() || self.guard.hold().is_none() {
                self.guard.release();
                self.adopt_root();
            }
            return false;
        }
        if self.guard.held.is_some() {
            return false;
        }
        if !self.guard.judged {
            return self.judge_missing();
        }
        if let Some(key) = self.guard.pop()
            // What is waited for anyway is looked at soon.
            && self.queue.get(&key).is_none_or(|wait| wait.failures > 0)
        {
            self.queue.remove(&key);
            let wait = Wait {
                left: true,
                ..self.fresh_wait(now)
            };
            self.resolve(key, wait, now, source, out);
        }
        true
    }

    /// Whether it could be judged yet.
    fn judge_missing(&mut self) -> bool {
        let missing = self.count_missing();
        if !(self.uploads.is_empty() && self.large.is_empty()) && missing > 0 {
            // What is being sent may be what is missing, under another name.
            return false;
        }
        self.guard.judged = true;
        if let Some(entries) = self.guard.accepting.take() {
            let accepted = missing <= entries && self.guard.missing.is_subset(&self.guard.shown);
            self.guard.shown.clear();
            if accepted {
                self.forget_mounts();
                self.guard.release();
                self.adopt_root();
                self.guard.answer = Some(Ok(missing));
                return true;
            }
            let changed = "what would be deleted is not what was shown any more: look at it again";
            self.guard.answer = Some(Err(changed.to_owned()));
        }
        let mut loss = Loss {
            missing,
            total: self.view.len(),
            present: self.top_entries > 0,
            percent: self.settings.delete_guard,
            certain: !self.root.may_be_other(),
        };
        if brake::judge(&loss) == Some(Hold::Most) && loss.certain {
            loss.missing = missing.saturating_sub(self.count_elsewhere());
        }
        // What another root had caused ends with it: only what is missing in the right one counts.
        let before = self.guard.standing(loss);
        let unmounted = self.lacks_mounted().then_some(Hold::Inside);
        let held = self.root.suspicion().or(unmounted);
        let held = held.or(brake::judge(&loss)).or(before);
        if held.is_none() {
            self.guard.release();
        } else if self.guard.before.is_none() {
            self.guard.total = Some(self.view.len());
        }
        self.guard.held = held;
        self.guard.before = None;
        true
    }

    /// How many of the missing entries are in the source elsewhere: moves that could not be followed, because the view
    /// is older than they are, or they were lost on the way. What has another name, time or content is none of them.
    fn count_elsewhere(&self) -> usize {
        let mut missing: HashMap<_, usize> = HashMap::new();
        let keys = self.guard.missing.iter();
        let tops: HashSet<NodeId> = keys
            .filter_map(|key| self.view.child(key.dir, key.name.as_bytes()))
            .collect();
        let moved: HashSet<NodeId> = self.guard.displacing.values().copied().collect();
        let mut todo: Vec<NodeId> = tops.iter().copied().collect();
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id).filter(|_| !moved.contains(&id)) else {
                continue;
            };
            *missing.entry(signature(node)).or_default() += 1;
            todo.extend(node.children().map(|(_, child)| child));
        }
        let (mut found, mut todo) = (0, vec![self.view.root()]);
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id).filter(|_| !tops.contains(&id)) else {
                continue;
            };
            if node.stat.is_some()
                && let Some(left) = missing.get_mut(&signature(node)).filter(|left| **left > 0)
            {
                *left -= 1;
                found += 1;
            }
            todo.extend(node.children().map(|(_, child)| child));
        }
        found
    }

    /// Whether a directory, or one that it is in, is missing.
    pub(super) fn is_below_missing(&self, dir: NodeId) -> bool {
        let mut at = self.key_of(dir);
        while let Some(key) = at {
            if self.guard.contains(&key) {
                return true;
            }
            at = self.key_of(key.dir);
        }
        false
    }

    fn count_missing(&self) -> usize {
        let missing = self.guard.missing();
        let nodes = missing.filter_map(|key| self.view.child(key.dir, key.name.as_bytes()));
        let moved: HashSet<NodeId> = self.guard.displacing.values().copied().collect();
        nodes.map(|id| self.count(id, &moved)).sum()
    }

    fn count(&self, id: NodeId, moved: &HashSet<NodeId>) -> usize {
        let (mut count, mut todo) = (0, vec![id]);
        while let Some(id) = todo.pop() {
            if moved.contains(&id) {
                continue;
            }
            count += 1;
            let node = self.view.get(id).into_iter();
            todo.extend(node.flat_map(Node::children).map(|(_, child)| child));
        }
        count
    }
}

/// What says that two entries are the same one under two paths.
fn signature(node: &Node) -> (&[u8], &Kind, Mtime) {
    (node.name(), &node.entry.kind, node.entry.mtime)
}
