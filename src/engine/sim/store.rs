//! A share's store on a disk in memory: it fails where it is told to, and loses in a crash what was not made durable.

use super::Dice;
pub use super::crash::Crash;
pub use super::ledger::Shown;
use super::ledger::{Body, Edit, Ledger};
use super::leftovers::{Leftovers, Remains};
use super::state::{Plan, State, missing};
pub use super::uploads::{MemStaged, MemUpload};
use crate::engine::ports::{Attributes, Leftover, Origin, Removal, Scanned, Store, StoreError};
use crate::engine::source::Found;
use crate::index::Stat;
use crate::model::{Entry, Fault, LeftoverKey, Mtime, Name, RelPath};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory. It is shared by its clones, and survives a crash like a disk.
#[derive(Clone, Debug)]
pub struct MemStore(Arc<Mutex<State>>);

type Result<T> = std::result::Result<T, StoreError>;

impl Default for MemStore {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            ledger: Ledger::new(),
            calls: Vec::new(),
            count: 0,
            plans: BTreeMap::new(),
            refused: None,
            dead: false,
            leftovers: Leftovers::default(),
        })))
    }
}

impl MemStore {
    /// The time of the machine at the start, in seconds: no source is as late.
    pub const FIRST_TIME: i64 = 1 << 32;

    /// Has the call that is `ahead` calls away fail, which then has done nothing.
    pub fn fail_in(&self, ahead: u64, fault: Fault) {
        let mut state = self.lock();
        let at = state.count + ahead;
        state.plans.insert(at, Plan::Fail(fault));
    }

    /// Has the machine stop before the call that is `ahead` calls away: it and all after it fail until [`Self::crash`].
    pub fn die_in(&self, ahead: u64) {
        let mut state = self.lock();
        let at = state.count + ahead;
        state.plans.insert(at, Plan::Die);
    }

    /// Has every change of one path fail, or none any more.
    pub fn refuse(&self, path: Option<(RelPath, Fault)>) {
        self.lock().refused = path;
    }

    /// Forgets the failures that were asked for.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.plans.clear();
        state.refused = None;
    }

    /// Whether the machine has stopped.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Loses what was not durable, as the dice fall, and starts again.
    pub fn crash(&self, dice: &mut Dice) -> Crash {
        let mut state = self.lock();
        state.dead = false;
        state.plans.clear();
        let crash = state.ledger.crash(dice);
        state.leftovers.crash(dice);
        state.calls.push(format!("crash: {crash:?}"));
        crash
    }

    /// Everything in view.
    #[must_use]
    pub fn view(&self) -> BTreeMap<Vec<u8>, Entry> {
        self.lock().ledger.view()
    }

    /// What paths became since this was asked last, in order.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Shown> {
        self.lock().ledger.take_seen()
    }

    /// The calls since this was asked last, for a person.
    #[must_use]
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and fails it if it is to.
    pub(super) fn call(&self, what: &str, paths: &[&RelPath]) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.count += 1;
        let names: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let number = state.count;
        let mut line = format!("{number} {what} {}", names.join(" "));
        let count = state.count;
        let plan = state.plans.remove(&count);
        state.dead |= matches!(plan, Some(Plan::Die));
        let refused = state
            .refused
            .as_ref()
            .and_then(|(path, fault)| paths.contains(&path).then_some(*fault));
        let fault = match plan {
            _ if state.dead => Some(Fault::Io),
            Some(Plan::Fail(fault)) => Some(fault),
            _ => refused,
        };
        if fault.is_some() {
            line.push_str(": fails");
        }
        state.calls.push(line);
        match fault {
            Some(fault) => Err(StoreError::new(
                fault,
                format!("cannot {what}: it is simulated"),
            )),
            None => Ok(state),
        }
    }
}

fn edit((dir, name): (u64, Vec<u8>), now: Option<u64>) -> Edit {
    Edit { dir, name, now }
}

impl Store for MemStore {
    type Staged = MemStaged;
    type Upload = MemUpload;

    fn lstat(&self, path: &RelPath) -> Result<Option<Found>> {
        let state = self.lock();
        let (dir, name) = state.parent(path)?;
        let inode = state.ledger.child(dir, &name);
        Ok(inode.and_then(|inode| state.found(inode)))
    }

    fn scan(&self, dirs: &[RelPath]) -> Vec<Result<Vec<Scanned>>> {
        let state = self.lock();
        let one = |path: &RelPath| {
            let dir = state.at(path)?;
            let Some(Body::Dir(children)) = state.ledger.get(dir).map(|dir| &dir.body) else {
                return Err(missing());
            };
            let scanned = children.iter().filter_map(|(name, inode)| {
                let name = Name::new(name).ok()?;
                Some((name, Ok(state.found(*inode)?)))
            });
            Ok(scanned.collect())
        };
        dirs.iter().map(one).collect()
    }

    fn read(&self, path: &RelPath, sink: &mut dyn FnMut(&[u8])) -> Result<Found> {
        let state = self.lock();
        let inode = state.at(path)?;
        sink(&state.bytes(inode)?);
        state.found(inode).ok_or_else(missing)
    }

    fn stage_file(&self, content: &[u8], attributes: Attributes) -> Result<MemStaged> {
        let mut state = self.call("stage a file", &[])?;
        Ok(state.stage(content.into(), attributes))
    }

    fn stage_copy(
        &self,
        from: &RelPath,
        attributes: Attributes,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<MemStaged> {
        let mut state = self.call("stage a copy", &[from])?;
        let bytes = state.bytes(state.at(from)?)?;
        sink(&bytes);
        Ok(state.stage(bytes, attributes))
    }

    fn stage_dir(&self, attributes: Attributes) -> Result<MemStaged> {
        let mut state = self.call("stage a directory", &[])?;
        let body = Body::Dir(BTreeMap::new());
        let inode = state.ledger.make(body, attributes.mode, attributes.mtime);
        Ok(MemStaged {
            inode,
            remains: None,
        })
    }

    fn stage_symlink(&self, target: &[u8], mtime: Mtime) -> Result<MemStaged> {
        let mut state = self.call("stage a link", &[])?;
        let inode = state.ledger.make(Body::Link(target.into()), 0, mtime);
        Ok(MemStaged {
            inode,
            remains: None,
        })
    }

    fn dress(&self, staged: &MemStaged, attributes: Attributes) -> Result<()> {
        let mut state = self.call("dress a staged file", &[])?;
        let mode = Some(attributes.mode);
        state.ledger.dress(staged.inode, mode, attributes.mtime);
        Ok(())
    }

    fn sync_staged(&self, staged: &[&MemStaged]) -> Result<()> {
        if staged.is_empty() {
            return Ok(());
        }
        let mut state = self.call("sync staged files", &[])?;
        for one in staged {
            state.ledger.sync_file(one.inode);
        }
        Ok(())
    }

    fn place(&self, mut staged: MemStaged, path: &RelPath, _displaced: &Removal) -> Result<Stat> {
        let mut state = self.call("place", &[path])?;
        let spot = state.parent(path)?;
        state.ledger.commit(vec![edit(spot, Some(staged.inode))]);
        state.leftovers.forget(path);
        staged.remains = None;
        state.stat(staged.inode)
    }

    fn discard(&self, mut staged: MemStaged) {
        staged.remains = None;
    }

    fn rename(&self, from: &RelPath, to: &RelPath, _displaced: &Removal) -> Result<Stat> {
        let mut state = self.call("rename", &[from, to])?;
        let (old, new) = (state.parent(from)?, state.parent(to)?);
        let inode = state.ledger.child(old.0, &old.1).ok_or_else(missing)?;
        if to.is_within(from) {
            return Err(StoreError::changed("a directory cannot move into itself"));
        }
        let there = state.ledger.child(new.0, &new.1);
        if state.needs_stage(inode, there) {
            state.ledger.commit(vec![edit(old.clone(), None)]);
        }
        // Also from the stage, where it has one name at a time: what is lost of the first step is lost of the second.
        state
            .ledger
            .commit(vec![edit(old, None), edit(new, Some(inode))]);
        state.stat(inode)
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> Result<(Stat, Stat)> {
        let mut state = self.call("exchange", &[a, b])?;
        let (one, other) = (state.parent(a)?, state.parent(b)?);
        let (at_a, at_b) = (state.at(a)?, state.at(b)?);
        if a.is_within(b) || b.is_within(a) {
            return Err(StoreError::changed("one holds the other"));
        }
        let edits = vec![edit(one, Some(at_b)), edit(other, Some(at_a))];
        state.ledger.commit(edits);
        Ok((state.stat(at_b)?, state.stat(at_a)?))
    }

    fn remove(&self, path: &RelPath, _how: &Removal) -> Result<()> {
        let mut state = self.call("remove", &[path])?;
        let Ok(spot) = state.parent(path) else {
            return Ok(());
        };
        if state.ledger.child(spot.0, &spot.1).is_some() {
            state.ledger.commit(vec![edit(spot, None)]);
        }
        Ok(())
    }

    fn set_attributes(&self, path: &RelPath, attributes: Attributes) -> Result<Stat> {
        let mut state = self.call("set attributes", &[path])?;
        let inode = state.at(path)?;
        let is_link = state
            .ledger
            .get(inode)
            .is_some_and(|there| matches!(there.body, Body::Link(_)));
        let mode = (!is_link).then_some(attributes.mode);
        state.ledger.dress(inode, mode, attributes.mtime);
        state.stat(inode)
    }

    fn restore(&self, dirs: &[(RelPath, Option<Mtime>)]) -> Result<()> {
        let mut state = self.call("restore times", &[])?;
        state.restore(dirs);
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        let mut state = self.call("sync everything", &[])?;
        state.ledger.sync_all();
        Ok(())
    }

    fn settle(&self, dirs: &[(RelPath, Option<Mtime>)], files: &[RelPath]) -> Result<()> {
        let mut state = self.call("settle", &[])?;
        for dir in state.restore(dirs) {
            state.ledger.sync_dir(dir);
        }
        for path in files {
            if let Ok(inode) = state.at(path) {
                state.ledger.sync_file(inode);
            }
        }
        Ok(())
    }

    fn open_upload(&self, origin: &Origin<'_>) -> Result<MemUpload> {
        let paths: Vec<&RelPath> = origin.base.into_iter().collect();
        let mut state = self.call("open an upload", &paths)?;
        let base = origin.base.map(|path| state.bytes(state.at(path)?));
        let mut base = base.transpose()?;
        let older = state.leftovers.take(origin)?;
        if let Some(older) = &older {
            base = Some(older.before(base.as_deref()));
        }
        drop(state);
        Ok(MemUpload {
            store: self.clone(),
            bytes: Vec::new(),
            base,
            older,
            remains: origin.path.map(|path| Remains {
                store: self.clone(),
                key: LeftoverKey::of(path),
            }),
        })
    }

    fn leftovers(&self) -> Vec<LeftoverKey> {
        self.lock().leftovers.keys()
    }

    fn leftover(&self, path: &RelPath) -> Option<Leftover> {
        self.lock().leftovers.find(path)
    }

    fn read_leftover(
        &self,
        path: &RelPath,
        leftover: Leftover,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let bytes = self.lock().leftovers.bytes(path, leftover.mark)?;
        sink(&bytes);
        Ok(())
    }

    fn finish_upload(&self, mut upload: MemUpload) -> Result<MemStaged> {
        let mut state = self.call("finish an upload", &[])?;
        let attributes = Attributes {
            mode: 0o600,
            mtime: Mtime::default(),
        };
        let bytes = std::mem::take(&mut upload.bytes);
        let mut staged = state.stage(bytes.into(), attributes);
        staged.remains = upload.remains.take();
        state.ledger.sync_file(staged.inode);
        Ok(staged)
    }
}
