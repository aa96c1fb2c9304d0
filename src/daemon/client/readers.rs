//! The threads that read large files, and the queue before them.

use super::mirror::Input;
use super::uploader::{Job, Reader};
use crate::host::recipes::RecipeStore;
use crate::host::source::SourceRoot;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How many files are read at a time.
const READERS: usize = 2;
/// How long readers may take to end.
const LAST_PIECE: Duration = Duration::from_secs(5);
/// Bytes of recipes that are kept for one mirror: those of some 100 GB of content.
const RECIPE_BYTES: u64 = 256 * 1024 * 1024;

/// The readers and the queue before them.
pub(super) struct Uploader {
    jobs: Option<SyncSender<Job>>,
    readers: JoinSet<()>,
}

impl Uploader {
    pub(super) fn start(
        root: SourceRoot,
        private: &Path,
        block_size: Option<u32>,
        inputs: mpsc::Sender<Input>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) -> Self {
        // As deep as the engine's limit of uploads under way, and more: pushing never waits.
        let (jobs, queue) = sync_channel::<Job>(1024);
        let queue = Arc::new(Mutex::new(queue));
        let recipes = Arc::new(RecipeStore::open(&private.join("recipes"), RECIPE_BYTES));
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            let queue = Arc::clone(&queue);
            let reader = Reader {
                root: root.clone(),
                block_size,
                recipes: Arc::clone(&recipes),
                inputs: inputs.clone(),
                runtime: runtime.clone(),
                stop: stop.clone(),
            };
            let work = move || {
                while let Some(job) = next(&queue) {
                    reader.work(&job);
                }
            };
            readers.spawn_blocking_on(work, runtime);
        }
        Self {
            jobs: Some(jobs),
            readers,
        }
    }

    pub(super) fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            drop(jobs.send(job));
        }
    }

    /// Lets the readers end when they are done with what they have in hand, and waits for that, so that the recipes are closed
    /// in order: a process that ends before would seem to have crashed over them.
    pub(super) fn end(mut self, runtime: &Handle) {
        self.jobs = None;
        let ended = async { while self.readers.join_next().await.is_some() {} };
        if runtime
            .block_on(async { timeout(LAST_PIECE, ended).await })
            .is_err()
        {
            tracing::debug!("files are still being read");
        }
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}
