//! How far a session's threads are, for those that wait for them.

use crate::engine::server::Finished;
use crate::host::disk::Staged;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use tokio::sync::Notify;

/// Bytes that were received and are not done with.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    bytes: AtomicU64,
    less: Notify,
}

impl Outstanding {
    /// Takes more in.
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    pub(super) fn done(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        // One reader waits at most; a permit is left for the one that is about to.
        self.less.notify_one();
    }

    /// Waits until fewer than `window` bytes are outstanding.
    pub(super) async fn below(&self, window: u64) {
        while self.bytes.load(Ordering::SeqCst) >= window {
            self.less.notified().await;
        }
    }
}

/// What a session's threads tell each other.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) outstanding: Outstanding,
    reached: Mutex<Reached>,
    moved: Condvar,
    /// Uploads that are complete and not used yet.
    finished: Mutex<BTreeMap<u64, Finished<Staged>>>,
}

/// Complete uploads that a session may leave unused.
const MAX_FINISHED: usize = 4096;

/// The last job and the last group that are in view.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) jobs: u64,
    pub(super) groups: u64,
    pub(super) ended: bool,
}

impl Flow {
    /// Tells that jobs and groups up to these are in view.
    pub(super) fn reach(&self, jobs: u64, group: Option<u64>) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.jobs = reached.jobs.max(jobs);
        reached.groups = reached.groups.max(group.unwrap_or_default());
        self.moved.notify_all();
    }

    /// Tells that nothing more will come into view.
    pub(super) fn end(&self) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.ended = true;
        self.moved.notify_all();
    }

    /// Keeps a complete upload for the `put` that uses it; `false` when there are too many.
    pub(super) fn keep_upload(&self, id: u64, upload: Finished<Staged>) -> bool {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let room = finished.len() < MAX_FINISHED;
        if room {
            finished.insert(id, upload);
        }
        room
    }

    /// Takes a complete upload.
    pub(super) fn take_upload(&self, id: u64) -> Option<Finished<Staged>> {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.remove(&id)
    }

    pub(super) fn reached(&self) -> Reached {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until enough is in view, or nothing more will come.
    pub(super) fn wait(&self, enough: impl Fn(Reached) -> bool) {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .moved
            .wait_while(reached, |reached| !reached.ended && !enough(*reached));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Ends a flow when it is dropped, so that nobody waits for a thread that panicked.
#[derive(Debug)]
pub(super) struct EndFlow(pub(super) std::sync::Arc<Flow>);

impl Drop for EndFlow {
    fn drop(&mut self) {
        self.0.end();
    }
}
