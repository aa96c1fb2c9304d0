//! An engine with its source, and the file in which its view outlives the process.

use crate::engine::client::ClientEngine;
use crate::host::database::Origin;
use crate::host::index::IndexStore;
use crate::host::source::DiskSource;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// An engine with its source and the file of its view.
pub(super) struct Bench {
    pub(super) mirror: String,
    pub(super) engine: ClientEngine,
    pub(super) source: DiskSource,
    pub(super) store: Option<Arc<IndexStore>>,
    /// The save that is under way, and whether the file turned out to be lost.
    pub(super) saving: Option<JoinHandle<bool>>,
}

impl Bench {
    /// Has changed rows of the view written, unless a save is under way. The file is a cache: what is lost costs a
    /// comparison.
    pub(super) fn save(&mut self, runtime: &Handle) {
        if self
            .saving
            .as_ref()
            .is_some_and(|saving| !saving.is_finished())
        {
            return;
        }
        self.join(runtime);
        if let Some(store) = &self.store
            && self.engine.view_mut().is_touched()
        {
            let (store, rows) = (Arc::clone(store), self.engine.view_mut().take_touched());
            self.saving = Some(runtime.spawn_blocking(move || match store.save(rows, &[]) {
                Ok(origin) => origin != Origin::Kept,
                Err(error) => {
                    tracing::warn!(%error, "the view is not stored: the next start compares");
                    false
                }
            }));
        }
    }

    /// Waits for a save, and learns whether everything has to be written again.
    fn join(&mut self, runtime: &Handle) {
        if let Some(done) = self.saving.take()
            && runtime.block_on(done).unwrap_or(true)
        {
            self.engine.view_mut().touch_all();
        }
    }

    /// Writes what is left and waits for it.
    pub(super) fn finish(&mut self, runtime: &Handle) {
        self.join(runtime);
        self.save(runtime);
        self.join(runtime);
    }
}
