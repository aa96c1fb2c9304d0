//! Changes of a share that nobody mirrors, by those who only use it.

use super::{Held, Refusal, Share, lock};
use crate::engine::ports::{Store, StoreError};
use crate::engine::server::Group;
use crate::host::disk::{DiskStore, Staged};
use crate::model::{RelPath, escape};
use crate::wire::{Code, Response};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// right in the index where somebody else changed them, and nothing comes between. The answers.
    ///
    /// # Errors
    /// When a writer has come, or `given` says why not: nothing of the group was committed.
    pub fn change(
        &self,
        group: Group<Staged>,
        paths: &[RelPath],
        given: &dyn Fn(&DiskStore) -> Result<(), StoreError>,
    ) -> Result<Result<Vec<Response>, StoreError>, Refusal> {
        let mut core = lock(&self.share.core);
        if !self.is_current() {
            drop(core);
            return Err(self.lost());
        }
        if let Err(error) = given(self.share.store()) {
            return Ok(Err(error));
        }
        core.forget_session();
        core.set_keep(None);
        for path in paths {
            core.look_at(path);
        }
        let answers = core.commit(group);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        Ok(Ok(answers))
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
