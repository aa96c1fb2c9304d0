//! The thread that reads files for their recipes. It stands apart: reading a large file delays no change.

use super::progress::Flow;
use super::{SessionError, wire_path};
use crate::daemon::pump::{Outbox, Outgoing};
use crate::daemon::share::Held;
use crate::delta::{
    Block, MAX_BLOCKS_PER_MESSAGE, RecipeBuilder, block_count, is_block_size, pack_blocks,
};
use crate::engine::ports::{Store, StoreError};
use crate::engine::source::FoundKind;
use crate::host::thread;
use crate::model::{Fault, RelPath};
use crate::wire::{Code, Failed, Request, Response};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A recipe that is asked for.
#[derive(Debug)]
pub(super) struct RecipeJob {
    pub(super) id: u64,
    pub(super) path: RelPath,
    /// Size of a block in bytes.
    pub(super) block: u32,
    /// Seed of the weak sums.
    pub(super) seed: u64,
    /// The file is what its path stands for after so many jobs.
    pub(super) after: u64,
    /// It is of what an upload has left of the path.
    pub(super) leftover: bool,
}

impl RecipeJob {
    /// A request that was asked after so many jobs.
    ///
    /// # Errors
    /// When it is another request, or its path is none.
    pub(super) fn understood(request: Request, after: u64) -> Result<Self, SessionError> {
        let Request::Recipe {
            id,
            path,
            block,
            seed,
            leftover,
        } = request
        else {
            let message = "it does not ask for a recipe";
            return Err(SessionError::Protocol(message.to_owned()));
        };
        Ok(Self {
            id,
            path: wire_path(&path)?,
            block,
            seed,
            after,
            leftover,
        })
    }
}

/// Starts the thread. What it ends with.
pub(super) fn start_recipes(
    held: &Held,
    mut jobs: mpsc::Receiver<RecipeJob>,
    outbox: &Outbox,
    flow: &Arc<Flow>,
    halt: &CancellationToken,
) -> Result<oneshot::Receiver<Result<(), SessionError>>, SessionError> {
    let (held, outbox, flow, halt) = (held.clone(), outbox.clone(), Arc::clone(flow), halt.clone());
    let run = move || {
        while let Some(job) = jobs.blocking_recv() {
            if halt.is_cancelled() || !held.is_current() {
                break;
            }
            flow.wait(|reached| reached.jobs >= job.after);
            let mut answer = Answer {
                outbox: &outbox,
                halt: &halt,
                id: job.id,
                size: 0,
                sent: 0,
                mark: None,
            };
            let made = if job.leftover {
                answer.make_of_leftover(&held, &job)
            } else {
                answer.make(&held, &job)
            };
            match made {
                Ok(blocks) => answer.end(&blocks, None),
                Err(error) => answer.end(&[], Some(error)),
            }
        }
        Ok(())
    };
    thread::spawn("syncd-recipe", run).map_err(SessionError::Thread)
}

/// The messages of one recipe.
struct Answer<'a> {
    outbox: &'a Outbox,
    halt: &'a CancellationToken,
    id: u64,
    size: u64,
    /// How many blocks were sent.
    sent: usize,
    /// The leftover that it is of.
    mark: Option<u64>,
}

impl Answer<'_> {
    /// Reads the file and sends its blocks while they come. All blocks.
    fn make(&mut self, held: &Held, job: &RecipeJob) -> Result<Vec<Block>, StoreError> {
        let store = held.share.store();
        let Some(found) = store.lstat(&job.path)? else {
            return Err(StoreError::changed("there is nothing at the path"));
        };
        let FoundKind::File { size } = found.kind else {
            return Err(StoreError::changed("it is not a regular file"));
        };
        let mut builder = self.begin(job, size)?;
        let read = store.read(&job.path, &mut |bytes| self.take(&mut builder, bytes))?;
        if read.kind != (FoundKind::File { size }) {
            return Err(StoreError::changed("it changed while it was read"));
        }
        Ok(builder.finish().blocks().to_vec())
    }

    /// Reads what an upload has left, in the same way.
    fn make_of_leftover(&mut self, held: &Held, job: &RecipeJob) -> Result<Vec<Block>, StoreError> {
        let store = held.share.store();
        let Some(leftover) = store.leftover(&job.path) else {
            return Err(StoreError::changed("no upload has left anything of it"));
        };
        self.mark = Some(leftover.mark);
        let mut builder = self.begin(job, leftover.size)?;
        let mut sink = |bytes: &[u8]| {
            self.take(&mut builder, bytes);
            !self.halt.is_cancelled()
        };
        store.read_leftover(&job.path, leftover, &mut sink)?;
        Ok(builder.finish().blocks().to_vec())
    }

    fn begin(&mut self, job: &RecipeJob, size: u64) -> Result<RecipeBuilder, StoreError> {
        if !is_block_size(job.block) || block_count(size, job.block).is_err() {
            let message = format!("no recipe of it has blocks of {} bytes", job.block);
            return Err(StoreError::new(Fault::Unrepresentable, message));
        }
        self.size = size;
        let mut builder = RecipeBuilder::new(job.block, job.seed);
        builder.reserve(size);
        Ok(builder)
    }

    fn take(&mut self, builder: &mut RecipeBuilder, bytes: &[u8]) {
        // A session that ends does not wait for a large file to be hashed; the reading itself is quick.
        if !self.halt.is_cancelled() {
            builder.update(bytes);
            self.send_full(builder.blocks());
        }
    }

    /// Sends as many messages as can be filled.
    fn send_full(&mut self, blocks: &[Block]) {
        while let Some(rest) = blocks.get(self.sent..)
            && let Some((full, _)) = rest.split_at_checked(MAX_BLOCKS_PER_MESSAGE)
        {
            self.sent += full.len();
            self.say(full, false, None);
        }
    }

    /// Sends what is left of the blocks, or why there are none.
    fn end(&mut self, blocks: &[Block], error: Option<StoreError>) {
        self.send_full(blocks);
        let rest = blocks.get(self.sent..).unwrap_or_default();
        let failed = error.map(|error| Failed {
            index: 0,
            code: Code::Fault(error.fault),
            message: error.message,
        });
        self.say(rest, true, failed);
    }

    fn say(&self, blocks: &[Block], last: bool, failed: Option<Failed>) {
        let mut body = Vec::new();
        pack_blocks(blocks, &mut body);
        let message = Response::Recipe {
            id: self.id,
            size: self.size,
            last,
            failed,
            leftover: self.mark,
        };
        // The peer is gone; the reader sees it too.
        drop(
            self.outbox
                .bulk
                .blocking_send(Outgoing::new(&message, body)),
        );
    }
}
