//! What is left of uploads: files of the stage that outlive their session, and a server that is killed.
//!
//! The file of an upload has the hash of its path in its name from the start, so that it is found again without an orderly
//! end. Nothing else is remembered of it: whoever builds on it reads what is really there.

mod room;

use super::{Area, look, remove_quietly, stage};
use crate::engine::ports::{Leftover, StoreError};
use crate::engine::source::FoundKind;
use crate::host::clock;
use crate::host::root::failed;
use crate::model::limits::{LEAF, LEFTOVER_BYTES, LEFTOVER_LEAST, LEFTOVER_SECONDS, MAX_LEFTOVERS};
use crate::model::{LeftoverKey, RelPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fchmod, openat, renameat};
use rustix::io::{Errno, Result, pread};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a leftover's file is told apart from everything else in the stage: this, its key, `-`, a name of the run.
const PREFIX: &str = "left-";
/// How long a new session waits for uploads of an older one, which ends at that moment.
const PATIENCE: Duration = Duration::from_secs(3);
/// What was copied of the file in view is not sent again anyway. A leftover has at least one byte of its own in so many:
/// otherwise reading it costs more than it saves.
const DILUTED: u64 = 64;

/// A leftover's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) size: u64,
    /// When it was left, in seconds since 1970.
    since: u64,
    /// How many failures the area had when it was begun; nothing when an earlier run has left it.
    pub(super) failures: Option<u64>,
    mark: u64,
}

/// The leftovers of a share.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    shelf: Mutex<Shelf>,
    ended: Condvar,
    /// How often what was left was given up for something else; held while that is done.
    giving_up: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Shelf {
    all: BTreeMap<LeftoverKey, Kept>,
    /// Uploads under way that may be left.
    running: u64,
    marks: u64,
}

impl Shelf {
    /// Puts a leftover in the place of an older one. The names of the files that nobody needs any more.
    fn put(&mut self, key: LeftoverKey, mut kept: Kept, now: u64) -> Vec<String> {
        self.marks += 1;
        kept.mark = self.marks;
        let mut gone: Vec<String> = self
            .all
            .insert(key, kept)
            .map(|old| old.name)
            .into_iter()
            .collect();
        gone.extend(self.expire(now));
        let mut bytes: u64 = self.all.values().map(|kept| kept.size).sum();
        while (self.all.len() > MAX_LEFTOVERS || bytes > LEFTOVER_BYTES)
            && let Some(oldest) = self.oldest()
            && let Some(kept) = self.all.remove(&oldest)
        {
            bytes -= kept.size;
            gone.push(kept.name);
        }
        gone
    }

    fn oldest(&self) -> Option<LeftoverKey> {
        let oldest = self
            .all
            .iter()
            .min_by_key(|(_, kept)| (kept.since, kept.mark));
        oldest.map(|(key, _)| *key)
    }

    fn expire(&mut self, now: u64) -> Vec<String> {
        let late = |kept: &Kept| now.saturating_sub(kept.since) > LEFTOVER_SECONDS;
        let gone = self.all.extract_if(.., |_, kept| late(kept));
        gone.map(|(_, kept)| kept.name).collect()
    }
}

/// An upload under way that may be left. Whoever asks for leftovers waits for it.
#[derive(Debug)]
pub(super) struct Ticket {
    area: Arc<Area>,
    pub(super) key: LeftoverKey,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let leftovers = &self.area.leftovers;
        leftovers.lock().running -= 1;
        leftovers.ended.notify_all();
    }
}

/// What may be left of an upload.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) ticket: Ticket,
    pub(super) size: u64,
    /// How much of it would have to be sent again.
    pub(super) fresh: u64,
}

impl Remains {
    /// Leaves the file of this name, or removes it when it is not worth keeping.
    pub(super) fn leave(&self, name: &str, failures: u64) {
        let area = &self.ticket.area;
        let worth = self.fresh >= LEFTOVER_LEAST && self.fresh.saturating_mul(DILUTED) >= self.size;
        if !worth || failures != area.failures() || std::thread::panicking() {
            return remove_quietly(area.fd.as_fd(), name, AtFlags::empty());
        }
        let kept = Kept {
            name: name.to_owned(),
            size: self.size,
            since: clock::unix_seconds(clock::wall()),
            failures: Some(failures),
            mark: 0,
        };
        area.keep(self.ticket.key, kept);
    }
}

impl Leftovers {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds what an earlier run has left in the stage. Everything else there is rubbish.
    pub(super) fn load(&self, stage: &OwnedFd) -> Result<()> {
        let mut found = Vec::new();
        for entry in Dir::read_from(stage)? {
            let entry = entry?;
            let name = entry.file_name().to_str().ok();
            if let Some((name, key)) = name.and_then(|name| Some((name, key_of(name)?)))
                && let Ok(kept) = examine(stage, name)
            {
                found.push((key, kept));
            }
        }
        // Of two for one path the larger one has more to offer: it is put last.
        found.sort_by_key(|(_, kept)| kept.size);
        let now = clock::unix_seconds(clock::wall());
        let mut shelf = self.lock();
        for (key, kept) in found {
            drop(shelf.put(key, kept, now));
        }
        Ok(())
    }

    /// Whether a name of the stage is one of a leftover.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        let shelf = self.lock();
        shelf.all.values().any(|kept| kept.name.as_bytes() == name)
    }
}

/// The key in the name of a leftover's file.
fn key_of(name: &str) -> Option<LeftoverKey> {
    let (key, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    LeftoverKey::parse(key)
}

/// A file that an earlier run has left, if it can be used.
fn examine(stage: &OwnedFd, name: &str) -> Result<Kept> {
    let file = open(stage, name, OFlags::RDONLY)?;
    let found = look::found_open(file.as_fd())?;
    let own = Mode::RUSR | Mode::WUSR;
    // It may have been about to come into view, with the mode that it was to have there.
    if found.mode != own.as_raw_mode() {
        fchmod(&file, own)?;
    }
    match found.kind {
        FoundKind::File { size } if size >= LEFTOVER_LEAST => Ok(Kept {
            name: name.to_owned(),
            size,
            // Its modification time is what a client says.
            since: u64::try_from(found.stat.ctime / 1_000_000_000).unwrap_or(0),
            failures: None,
            mark: 0,
        }),
        _ => Err(Errno::INVAL),
    }
}

/// Opens a file of the stage that has no other name anywhere.
pub(super) fn open(stage: &OwnedFd, name: &str, mode: OFlags) -> Result<OwnedFd> {
    let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(stage, name, flags, Mode::empty())?;
    let found = look::found_open(file.as_fd())?;
    match found.kind {
        FoundKind::File { .. } if found.stat.links == 1 => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

impl Area {
    /// A name in the stage for the upload of a path, by which it is found again.
    pub(super) fn name_for(&self, key: LeftoverKey) -> String {
        format!("{PREFIX}{key}-{}", self.name())
    }

    fn remove_all(&self, names: &[String]) {
        for name in names {
            remove_quietly(self.fd.as_fd(), name, AtFlags::empty());
        }
    }

    /// Keeps a leftover, in the place of an older one of the path.
    pub(super) fn keep(&self, key: LeftoverKey, kept: Kept) {
        tracing::debug!(bytes = kept.size, "what an upload has left is kept");
        let gone = self
            .leftovers
            .lock()
            .put(key, kept, clock::unix_seconds(clock::wall()));
        self.remove_all(&gone);
    }

    /// Takes a leftover of some length at least out, for whoever builds on it.
    pub(super) fn take_leftover(&self, key: LeftoverKey, mark: u64, length: u64) -> Option<Kept> {
        let mut shelf = self.leftovers.lock();
        let meant = |kept: &&Kept| kept.mark == mark && kept.size >= length;
        shelf.all.get(&key).filter(meant)?;
        let kept = shelf.all.remove(&key)?;
        drop(shelf);
        let lost = |failures| failures != self.failures();
        if kept.failures.is_some_and(lost) {
            self.remove_all(&[kept.name]);
            return None;
        }
        Some(kept)
    }

    /// A path has another content now, or none: what was left for it is of no use.
    pub(super) fn forget(&self, path: &RelPath) {
        let mut shelf = self.leftovers.lock();
        if shelf.all.is_empty() {
            return;
        }
        let gone = shelf.all.remove(&LeftoverKey::of(path));
        drop(shelf);
        if let Some(kept) = gone {
            self.remove_all(&[kept.name]);
        }
    }

    /// A path was moved: what was left for it goes along.
    pub(super) fn move_leftover(&self, from: &RelPath, to: &RelPath) {
        self.forget(to);
        let mut shelf = self.leftovers.lock();
        if shelf.all.is_empty() {
            return;
        }
        let key = LeftoverKey::of(to);
        let Some(mut kept) = shelf.all.remove(&LeftoverKey::of(from)) else {
            return;
        };
        let name = self.name_for(key);
        if renameat(&self.fd, &*kept.name, &self.fd, &*name).is_ok() {
            kept.name = name;
            shelf.all.insert(key, kept);
        }
    }

    /// The keys of all leftovers, when the uploads of an older session have ended, or after a while.
    pub(super) fn leftover_keys(&self) -> Vec<LeftoverKey> {
        let shelf = self.leftovers.lock();
        let running = |shelf: &mut Shelf| shelf.running > 0;
        let ended = &self.leftovers.ended;
        let waited = ended.wait_timeout_while(shelf, PATIENCE, running);
        let (mut shelf, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let gone = shelf.expire(clock::unix_seconds(clock::wall()));
        let keys = shelf.all.keys().copied().collect();
        drop(shelf);
        self.remove_all(&gone);
        keys
    }

    pub(super) fn leftover(&self, path: &RelPath) -> Option<Leftover> {
        let shelf = self.leftovers.lock();
        let kept = shelf.all.get(&LeftoverKey::of(path))?;
        Some(Leftover {
            mark: kept.mark,
            size: kept.size,
        })
    }

    pub(super) fn read_leftover(
        &self,
        path: &RelPath,
        leftover: Leftover,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> std::result::Result<(), StoreError> {
        let changed = || StoreError::changed("what an upload left is there no more");
        let file = {
            let shelf = self.leftovers.lock();
            let kept = shelf.all.get(&LeftoverKey::of(path));
            let kept = kept.filter(|kept| kept.mark == leftover.mark);
            open(&self.fd, &kept.ok_or_else(changed)?.name, OFlags::RDONLY)
        };
        let read = |errno| failed("read what an upload left", errno);
        let file = file.map_err(read)?;
        let mut piece = vec![0u8; 4 * LEAF];
        let mut at = 0;
        while at < leftover.size {
            let want = usize::try_from(leftover.size - at).unwrap_or(usize::MAX);
            let want = want.min(piece.len());
            match pread(&file, piece.get_mut(..want).unwrap_or_default(), at) {
                Ok(0) => return Err(changed()),
                Ok(count) => {
                    if !sink(piece.get(..count).unwrap_or_default()) {
                        break;
                    }
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(read(errno)),
            }
        }
        Ok(())
    }
}

/// An empty file in the stage, under a name by which it is found again if it has a path.
pub(super) fn create(
    area: &Area,
    key: Option<LeftoverKey>,
) -> std::result::Result<(String, Arc<OwnedFd>), StoreError> {
    let name = key.map_or_else(|| area.name(), |key| area.name_for(key));
    let make = || stage::create(area, &name).map_err(|errno| stage::unstaged("stage it", errno));
    let file = area.with_room(make)?;
    Ok((name, Arc::new(file)))
}

/// An upload begins that may be left.
pub(super) fn begin(area: &Arc<Area>, path: &RelPath) -> Remains {
    area.leftovers.lock().running += 1;
    Remains {
        ticket: Ticket {
            area: Arc::clone(area),
            key: LeftoverKey::of(path),
        },
        size: 0,
        fresh: 0,
    }
}

#[cfg(test)]
mod tests;
