//! Changes of a share that nobody mirrors, by those who only use it.

use super::{Held, Refusal, Share, lock};
use crate::engine::ports::{Store, StoreError};
use crate::engine::server::{Group, Server};
use crate::host::disk::{DiskStore, Staged};
use crate::model::{RelPath, escape};
use crate::wire::{Code, Response};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whether everything is as a change is based on.
pub type Given = Box<dyn Fn(&DiskStore) -> Result<(), StoreError> + Send>;

/// The answers to a group, or why nothing of it was committed.
pub type Outcome = Result<Result<Vec<Response>, StoreError>, Refusal>;

/// Groups that wait for the engine.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Vec<Waiting>>);

struct Waiting {
    epoch: u64,
    group: Group<Staged>,
    /// Paths that the index has to know rightly.
    paths: Vec<RelPath>,
    given: Given,
    done: SyncSender<Outcome>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Share {
    /// Lets somebody change the share who does not mirror it, until a writer comes. Any number may at a time.
    ///
    /// # Errors
    /// When a writer has it, whether he is there or away.
    pub fn borrow(self: &Arc<Self>) -> Result<Held, Refusal> {
        let lease = lock(&self.lease);
        if let Some(writer) = &lease.meta.writer {
            return Err(Refusal::new(
                Code::Held,
                format!(
                    "`{}` of device `{}` fills this share: change the files there",
                    escape(writer.source_name.as_bytes()),
                    escape(writer.device_name.as_bytes())
                ),
            ));
        }
        Ok(Held {
            share: Arc::clone(self),
            epoch: self.epoch.load(Ordering::SeqCst),
            replaced: CancellationToken::new(),
        })
    }
}

impl Held {
    /// Why this hold is not good any more.
    #[must_use]
    pub fn lost(&self) -> Refusal {
        let refused = self.share.borrow().err();
        refused.unwrap_or_else(|| Refusal::new(Code::Stopping, "the server ends"))
    }

    /// Commits a group of somebody who only uses the share: what a change is based on is looked at first, `paths` are put
    /// right in the index where somebody else changed them, and nothing comes between. Groups that wait for the same moment
    /// are made durable together. The answers.
    ///
    /// # Errors
    /// When a writer has come, or `given` says why not: nothing of the group was committed.
    pub fn change(&self, group: Group<Staged>, paths: Vec<RelPath>, given: Given) -> Outcome {
        let (done, outcome) = sync_channel(1);
        let waiting = Waiting {
            epoch: self.epoch,
            group,
            paths,
            given,
            done,
        };
        lock(&self.share.foreign.0).push(waiting);
        let mut core = lock(&self.share.core);
        // Whoever came to the engine before has carried it out, too.
        if let Ok(outcome) = outcome.try_recv() {
            return outcome;
        }
        let all = std::mem::take(&mut *lock(&self.share.foreign.0));
        self.together(&mut core, all);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        let stopped = || Err(Refusal::new(Code::Stopping, "the server ends"));
        outcome.try_recv().unwrap_or_else(|_| stopped())
    }

    /// Carries out what waits, one after the other, and makes it durable at once.
    fn together(&self, core: &mut Server<DiskStore>, all: Vec<Waiting>) {
        let (mut brought, mut told) = (Vec::new(), Vec::new());
        for waiting in all {
            let Waiting {
                epoch,
                group,
                paths,
                given,
                done,
            } = waiting;
            // Whoever does not wait any more is not told.
            if self.share.epoch.load(Ordering::SeqCst) != epoch {
                drop(done.send(Err(self.lost())));
            } else if let Err(error) = given(self.share.store()) {
                drop(done.send(Ok(Err(error))));
            } else {
                core.forget_session();
                core.set_keep(None);
                for path in &paths {
                    core.look_at(path);
                }
                brought.push(core.bring(group));
                told.push(done);
            }
        }
        if brought.is_empty() {
            return;
        }
        for (done, answers) in told.into_iter().zip(core.conclude_all(brought)) {
            drop(done.send(Ok(Ok(answers))));
        }
    }
}

/// Whether a directory holds nothing; what is no directory does.
///
/// # Errors
/// When it cannot be read.
pub fn is_bare(store: &DiskStore, path: &RelPath) -> Result<bool, StoreError> {
    let scanned = store.scan(std::slice::from_ref(path)).pop();
    Ok(scanned.unwrap_or_else(|| Ok(Vec::new()))?.is_empty())
}
