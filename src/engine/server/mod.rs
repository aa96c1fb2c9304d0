//! The server's side of one share: what its directory holds, and the changes that a writer sends.
//!
//! A change goes through two hands, so that one group is made durable while the next is prepared: [`Stager`] makes
//! contents complete and durable out of sight, [`Server`] brings them into view in order, keeps the tree, and says what
//! became of each. Nothing is answered before it is durable.

mod apply;
mod change;
mod doubt;
mod inspect;
mod listing;
mod refresh;
mod stager;
mod sweep;
mod together;
mod upload;

pub use change::{Change, DecodeError, SetId, Source, decode};
pub use inspect::{Inspection, Inspector, Range};
pub use listing::Listing;
pub use refresh::Look;
pub use stager::{Finished, Group, Item, Prepared, Stager};
pub use sweep::{Sweep, SweepStep};
pub use upload::{Closed, Growing, UploadError};

use self::doubt::Doubts;
use crate::engine::ports::{Removal, Store, StoreError};
use crate::index::{NodeId, Tree};
use crate::model::{Fault, Mtime, Name, Problem, RelPath, Sum};
use crate::wire::{Code, Failed, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many problems are kept for the status; of more, only the log tells.
const MAX_PROBLEMS: usize = 1000;

/// How good a tree is before the directory was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// It was kept to the last change: what differs on the disk was done by somebody else.
    Whole,
    /// It may lack the last changes, or everything: what differs says nothing.
    Partial,
}

/// One share: its tree as the disk holds it, and what changes it.
#[derive(Debug)]
pub struct Server<S: Store> {
    store: Arc<S>,
    tree: Tree,
    generation: String,
    version: u64,
    /// Where things go that leave the view, while the share is in first contact.
    keep: Option<Name>,
    /// Failures of a message whose first changes were in an earlier group.
    carried: Vec<Failed>,
    problems: BTreeMap<RelPath, Problem>,
    paused: Option<String>,
    drift: u64,
    memory: Memory,
    /// Whether something in view may not be durable: of a group whose end failed or never came, or of an earlier run.
    unsettled: bool,
    /// What such groups touched.
    owed: Touched,
    doubts: Doubts,
}

/// What a group touched and has to be made durable.
#[derive(Debug, Default)]
struct Touched {
    dirs: BTreeSet<NodeId>,
    files: BTreeSet<NodeId>,
}

/// A message, or the part of one, that a group holds.
#[derive(Debug, Default)]
struct Part {
    id: Option<u64>,
    done: Vec<u32>,
    failed: Vec<Failed>,
}

/// A group that is in view and not known to be durable.
#[derive(Debug)]
pub struct Applied {
    parts: Vec<Part>,
    touched: Touched,
    /// Whether its directories have their times back.
    restored: Result<(), StoreError>,
}

impl<S: Store> Server<S> {
    /// A share with what is known of it; an empty tree when nothing is.
    #[must_use]
    pub fn new(
        store: Arc<S>,
        tree: Tree,
        (generation, version): (String, u64),
        memory: Memory,
    ) -> Self {
        Self {
            store,
            tree,
            generation,
            version,
            keep: None,
            carried: Vec::new(),
            problems: BTreeMap::new(),
            paused: None,
            drift: 0,
            memory,
            unsettled: true,
            owed: Touched::default(),
            doubts: Doubts::default(),
        }
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree, for whoever stores its rows.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// The sum of the whole tree.
    #[must_use]
    pub fn root_sum(&self) -> Sum {
        self.tree.root_sum()
    }

    /// The run of the index.
    #[must_use]
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// How many messages and findings changed the share in this generation.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Begins a new run of the index, in which versions count anew.
    pub fn renew(&mut self, generation: String) {
        self.generation = generation;
        self.version = 0;
    }

    /// How many differences were found between the tree and the disk that the writer had not made.
    #[must_use]
    pub fn drift(&self) -> u64 {
        self.drift
    }

    /// Why changes fail as long as nobody helps: a full or read-only disk.
    #[must_use]
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }

    /// The paths that could not be handled.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// Keeps what leaves the view under this name (first contact), or does not.
    pub fn set_keep(&mut self, keep: Option<Name>) {
        self.keep = keep;
    }

    /// Forgets what was carried over from a message that will not be completed: its session ended.
    pub fn forget_session(&mut self) {
        self.carried.clear();
        self.doubts = Doubts::default();
    }

    /// What becomes of a thing that another one replaces.
    fn displaced(&self) -> Removal {
        self.keep.clone().map_or(Removal::Aside, Removal::Keep)
    }

    /// Brings a group into view and makes it durable. One answer for each message that ends in it.
    pub fn commit(&mut self, mut group: Group<S::Staged>) -> Vec<Response> {
        if !group.synced {
            let synced = self.store.sync_all();
            self.note_synced(&mut group, &synced);
        }
        let mut applied = self.apply_all(group);
        let settled = self.settle(&mut applied.touched);
        self.conclude(applied, &settled)
    }

    /// Brings a large group into view, but does not make that durable. `synced` is how making its contents durable went.
    pub fn begin(
        &mut self,
        mut group: Group<S::Staged>,
        synced: &Result<(), StoreError>,
    ) -> Applied {
        self.note_synced(&mut group, synced);
        self.unsettled = true;
        let mut applied = self.apply_all(group);
        applied.restored = self.store.restore(&self.directories(&applied.touched));
        applied
    }

    /// Ends what was begun, once everything that was done before was made durable (or was not). The answers.
    pub fn end(&mut self, applied: Applied, synced: &Result<(), StoreError>) -> Vec<Response> {
        let settled = applied.restored.clone().and_then(|()| synced.clone());
        match &settled {
            Ok(()) => self.unsettled = false,
            Err(error) => self.note_pause(error),
        }
        self.conclude(applied, &settled)
    }

    /// Makes durable what is in view and may not be: what the directory holds may be told to a writer only after this,
    /// because a writer does not send again what the share holds.
    ///
    /// # Errors
    /// When it still may not be durable.
    pub fn make_up(&mut self) -> Result<(), StoreError> {
        if !self.unsettled {
            return Ok(());
        }
        let mut repaid = self.repay();
        let synced = self.store.sync_all();
        if let Err(error) = synced {
            self.owed.dirs.append(&mut repaid);
            self.note_pause(&error);
            return Err(error);
        }
        self.unsettled = false;
        Ok(())
    }

    /// Gives directories the times that they are owed, each for itself: one that does not take its time keeps nothing
    /// else from being durable, and is tried again with the next group. Those that took theirs.
    fn repay(&mut self) -> BTreeSet<NodeId> {
        let mut repaid = std::mem::take(&mut self.owed.dirs);
        repaid.retain(|id| {
            let one = Touched {
                dirs: BTreeSet::from([*id]),
                files: BTreeSet::new(),
            };
            let taken = self.store.restore(&self.directories(&one)).is_ok();
            if !taken {
                self.owed.dirs.insert(*id);
            }
            taken
        });
        repaid
    }

    fn note_synced(&mut self, group: &mut Group<S::Staged>, synced: &Result<(), StoreError>) {
        if let Err(error) = synced
            && !group.synced
        {
            self.note_pause(error);
            let store = Arc::clone(&self.store);
            group.spoil(error, |staged| store.discard(staged));
        }
    }

    fn apply_all(&mut self, group: Group<S::Staged>) -> Applied {
        let mut touched = Touched::default();
        let mut parts = vec![Part {
            failed: std::mem::take(&mut self.carried),
            ..Part::default()
        }];
        for item in group.items {
            let Some(part) = parts.last_mut() else {
                break;
            };
            match item {
                Item::Begin { based_on } => self.doubts.begin(based_on),
                Item::Refused(failed) => part.failed.push(failed),
                Item::Change(prepared) => {
                    let index = prepared.index;
                    match self.apply(prepared, &mut touched) {
                        Ok(()) => part.done.push(index),
                        Err(error) => part.failed.push(failure(index, &error)),
                    }
                }
                Item::End { id } => {
                    part.id = Some(id);
                    self.doubts.end();
                    parts.push(Part::default());
                }
            }
        }
        Applied {
            parts,
            touched,
            restored: Ok(()),
        }
    }

    fn conclude(
        &mut self,
        mut applied: Applied,
        settled: &Result<(), StoreError>,
    ) -> Vec<Response> {
        if let Err(error) = settled {
            self.unsettled = true;
            self.owed.dirs.append(&mut applied.touched.dirs);
            for part in &mut applied.parts {
                let lost = part.done.drain(..);
                part.failed.extend(lost.map(|index| failure(index, error)));
            }
        }
        self.answers(applied.parts)
    }

    fn answers(&mut self, parts: Vec<Part>) -> Vec<Response> {
        let mut answers = Vec::with_capacity(parts.len());
        for mut part in parts {
            part.failed.sort_by_key(|failed| failed.index);
            match part.id {
                Some(id) => {
                    self.version += 1;
                    self.doubts.answered();
                    answers.push(Response::Applied {
                        id,
                        version: self.version,
                        failed: part.failed,
                    });
                }
                None => self.carried = part.failed,
            }
        }
        answers
    }

    /// Gives touched directories their times back, and makes everything durable.
    fn settle(&mut self, touched: &mut Touched) -> Result<(), StoreError> {
        self.make_up()?;
        touched.dirs.append(&mut self.repay());
        if touched.dirs.is_empty() && touched.files.is_empty() {
            return Ok(());
        }
        let dirs = self.directories(touched);
        let files: Vec<_> = touched
            .files
            .iter()
            .filter_map(|id| self.tree.path(*id))
            .collect();
        let settled = self.store.settle(&dirs, &files);
        if let Err(error) = &settled {
            self.note_pause(error);
        }
        settled
    }

    /// Touched directories with the times that belong to them.
    fn directories(&self, touched: &Touched) -> Vec<(RelPath, Option<Mtime>)> {
        let time = |id: &NodeId| {
            let node = self.tree.get(*id)?;
            let mtime = (*id != self.tree.root()).then_some(node.entry.mtime);
            Some((self.tree.path(*id)?, mtime))
        };
        touched.dirs.iter().filter_map(time).collect()
    }

    fn note_pause(&mut self, error: &StoreError) {
        if matches!(error.fault, Fault::Full | Fault::ReadOnly) {
            self.paused = Some(error.message.clone());
        }
    }

    fn note_problem(&mut self, path: &RelPath, error: &StoreError) {
        self.note_pause(error);
        if error.fault == Fault::Changed || self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let problem = Problem {
            path: path.clone(),
            fault: error.fault,
            message: error.message.clone(),
        };
        self.problems.insert(path.clone(), problem);
    }
}

/// A change that failed, as the wire says it.
fn failure(index: u32, error: &StoreError) -> Failed {
    Failed {
        index,
        code: Code::Fault(error.fault),
        message: error.message.clone(),
    }
}
