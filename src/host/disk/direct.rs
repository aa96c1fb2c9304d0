//! Direct writes: what is uploaded goes from memory to the disk, past the page cache (`O_DIRECT` of open(2)). A page of the cache
//! costs the kernel more than the whole rest of an upload where memory is given back to a host, and what has just been
//! uploaded pushes nothing else out of it.
//!
//! Bytes are gathered in chunks that start where a disk wants it, and a thread of the session writes them while more come.
//! What a file system does not take in this way is written as usual.

use super::Area;
use super::older::write_all_at;
use crate::engine::ports::StoreError;
use crate::host::root::failed;
use crate::model::Fault;
use crate::model::limits::{LEAF, MAX_PIECE_BODY};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What memory and offsets are multiples of: the largest block of the disks that are in use, in bytes. File systems that
/// want more refuse, and are written to as usual.
const ALIGN: usize = 4096;
/// Bytes that are written at a time: each write has its cost in the kernel, of which there is less with more.
const CHUNK: usize = 16 * LEAF;
/// A chunk takes one more piece of an upload, so that what has just come is in one place.
const CAPACITY: usize = CHUNK + MAX_PIECE_BODY.next_multiple_of(ALIGN);
/// Files of a share that are written so at a time, whoever sends them; the others are written as usual.
const MOST: usize = 32;
/// Chunks that a session keeps for its next file.
const SPARE: usize = 4;

/// What is attempted, for a person.
const ATTEMPT: &str = "write a piece";

/// Work for the thread that writes.
pub type Job = Box<dyn FnOnce() + Send>;

/// What the uploads of one session share: the way to the thread that writes, and memory.
#[derive(Clone, Debug)]
pub struct DirectWrites {
    jobs: SyncSender<Job>,
    memory: Arc<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    free: Mutex<Vec<Vec<u8>>>,
}

impl DirectWrites {
    /// By a thread that carries out what comes out of this queue, which is short.
    #[must_use]
    pub fn by(jobs: SyncSender<Job>) -> Self {
        Self {
            jobs,
            memory: Arc::default(),
        }
    }
}

/// Bytes of a file that are not written yet. Dropped, its memory serves another.
#[derive(Debug)]
struct Chunk {
    memory: Arc<Memory>,
    bytes: Vec<u8>,
    /// Where the disk wants the memory to start.
    start: usize,
    filled: usize,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let free = self.memory.free.lock();
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        if free.len() < SPARE {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Chunk {
    fn new(memory: &Arc<Memory>) -> Self {
        let free = memory
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let bytes = free.unwrap_or_else(|| vec![0u8; CAPACITY + ALIGN]);
        Self {
            memory: Arc::clone(memory),
            start: bytes.as_ptr().align_offset(ALIGN),
            bytes,
            filled: 0,
        }
    }

    /// What it holds from one place on.
    fn from(&self, place: usize) -> &[u8] {
        let range = self.start.saturating_add(place)..self.start.saturating_add(self.filled);
        self.bytes.get(range).unwrap_or_default()
    }

    /// Takes as much as there is room for. How much that is.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CAPACITY - self.filled);
        let at = self.start.saturating_add(self.filled);
        let room = self.bytes.get_mut(at..at.saturating_add(count));
        if let (Some(room), Some(bytes)) = (room, bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.filled += count;
        count
    }
}

/// How far the writes of one file are.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// The first place in the file that could not be written, and why.
    failure: Option<(u64, StoreError)>,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, at: u64, done: Result<(), StoreError>) {
        let mut state = self.lock();
        if let Err(error) = done
            && state.failure.as_ref().is_none_or(|(first, _)| at < *first)
        {
            state.failure = Some((at, error));
        }
    }

    /// Waits until nothing is under way.
    fn all(&self) -> MutexGuard<'_, State> {
        let waiting = |state: &mut State| state.waiting > 0;
        let waited = self.ended.wait_while(self.lock(), waiting);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// One write under way. Dropped it has ended, also when nobody has carried it out.
struct Writing {
    progress: Arc<Progress>,
    at: u64,
    done: Option<Result<(), StoreError>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let ended = || {
            Err(StoreError::new(
                Fault::Io,
                "the thread that writes has ended",
            ))
        };
        self.progress
            .note(self.at, self.done.take().unwrap_or_else(ended));
        self.progress.lock().waiting -= 1;
        self.progress.ended.notify_all();
    }
}

/// The end of a file that is written directly.
#[derive(Debug)]
pub(super) struct Direct {
    writes: DirectWrites,
    to: Arc<Target>,
    chunk: Chunk,
    /// Where in the file the chunk is: a multiple of [`ALIGN`].
    at: u64,
    progress: Arc<Progress>,
}

/// The file.
#[derive(Debug)]
struct Target {
    area: Arc<Area>,
    straight: OwnedFd,
    usual: Arc<OwnedFd>,
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.to
            .area
            .written_directly
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Direct {
    /// For an empty file of the stage, where its file system allows it and not too many are written so.
    pub(super) fn begin(
        area: &Arc<Area>,
        (name, file): (&str, &Arc<OwnedFd>),
        writes: &DirectWrites,
    ) -> Option<Self> {
        if !area.direct.load(Ordering::Relaxed) {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let straight = openat(&area.fd, name, flags, Mode::empty());
        if straight.as_ref().err() == Some(&Errno::INVAL) {
            area.direct.store(false, Ordering::Relaxed);
        }
        let straight = straight.ok()?;
        if area.written_directly.fetch_add(1, Ordering::Relaxed) >= MOST {
            area.written_directly.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self {
            writes: writes.clone(),
            to: Arc::new(Target {
                area: Arc::clone(area),
                straight,
                usual: Arc::clone(file),
            }),
            chunk: Chunk::new(&writes.memory),
            at: 0,
            progress: Arc::default(),
        })
    }

    /// Appends bytes. Fails with what an earlier write has failed with, too.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        loop {
            let taken = self.chunk.take(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            self.hand_over();
        }
        match &self.progress.lock().failure {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Shows a range of what was stored, from the memory that the disk is written from. Whether all of it was still there.
    pub(super) fn show(&mut self, offset: u64, length: u64, sink: &mut dyn FnMut(&[u8])) -> bool {
        let place = offset.checked_sub(self.at).map(usize::try_from);
        let (Some(Ok(place)), Ok(length)) = (place, usize::try_from(length)) else {
            return false;
        };
        let Some(bytes) = self.chunk.from(place).get(..length) else {
            return false;
        };
        sink(bytes);
        if self.chunk.filled >= CHUNK {
            self.hand_over();
        }
        true
    }

    /// Has all whole blocks of the chunk written, and goes on with what is left of it.
    fn hand_over(&mut self) {
        let whole = self.chunk.filled - self.chunk.filled % ALIGN;
        let mut next = Chunk::new(&self.writes.memory);
        next.take(self.chunk.from(whole));
        let mut full = std::mem::replace(&mut self.chunk, next);
        full.filled = whole;
        self.progress.lock().waiting += 1;
        let mut writing = Writing {
            progress: Arc::clone(&self.progress),
            at: self.at,
            done: None,
        };
        let to = Arc::clone(&self.to);
        let write = move || writing.done = Some(to.write(full.from(0), writing.at));
        self.at += whole as u64;
        // A queue that has ended drops it, which is noted.
        drop(self.writes.jobs.send(Box::new(write)));
    }

    /// Has all whole blocks written, and does not wait. Not so of a small file: of that the disk would only be waited for.
    /// Whether anything is written so.
    pub(super) fn write_behind(&mut self) -> bool {
        let any = self.at > 0;
        if any && self.chunk.filled >= ALIGN {
            self.hand_over();
        }
        any
    }

    /// Writes all that is left, and waits for it. What failed, and how much of the file is there then. Only after
    /// [`Direct::write_behind`] may the thread that writes do this itself.
    pub(super) fn settle(mut self) -> Result<(), (StoreError, u64)> {
        self.write_behind();
        drop(self.progress.all());
        let rest = || write(&self.to.usual, self.chunk.from(0), self.at);
        self.progress.note(self.at, self.to.area.with_room(rest));
        match self.progress.lock().failure.take() {
            Some((at, error)) => Err((error, at)),
            None => Ok(()),
        }
    }
}

impl Target {
    fn write(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        let go = || match write_all_at(self.straight.as_fd(), bytes, at) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.area.direct.store(false, Ordering::Relaxed);
                write(&self.usual, bytes, at)
            }
            done => done.map_err(|errno| failed(ATTEMPT, errno)),
        };
        self.area.with_room(go)
    }
}

fn write(file: &OwnedFd, bytes: &[u8], at: u64) -> Result<(), StoreError> {
    write_all_at(file.as_fd(), bytes, at).map_err(|errno| failed(ATTEMPT, errno))
}

#[cfg(test)]
mod tests;
