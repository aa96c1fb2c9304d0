//! The thread that writes large files into the stage, and the one that pushes them out to the disk meanwhile.

use super::SessionError;
use super::progress::Flow;
use super::recipe::RecipeJob;
use crate::daemon::pump::{Outbox, Outgoing};
use crate::daemon::share::Held;
use crate::engine::ports::{Origin, Store, StoreError};
use crate::engine::server::{Closed, Finished, Growing, UploadError};
use crate::host::disk::{DirectWrites, DiskStore, DiskUpload, Job};
use crate::host::thread;
use crate::model::limits::{MAX_PIECE_BODY, MAX_UPLOADS};
use crate::model::{Digest, Fault, RelPath};
use crate::wire::{Code, Failed, Response, unpack};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes after which what was written of an upload is pushed out, so that the sync at its end is short.
const PUSH_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes that are pushed out at the end of an upload, before it is used.
const SOON_BYTES: u64 = 1024 * 1024;
/// Bytes after which the peer is told of what was written, also when more is waiting.
const TELL_BYTES: u64 = 1024 * 1024;

/// A message about an upload.
#[derive(Debug)]
pub(super) enum UploadJob {
    Open {
        upload: u64,
        base: Option<RelPath>,
        /// The path that it is for.
        path: Option<RelPath>,
        /// The leftover of the path that it builds on, by its mark, and how many of its bytes count.
        leftover: Option<(u64, u64)>,
        /// The base is what its path stands for after so many jobs.
        after: u64,
    },
    Data {
        upload: u64,
        body: Bytes,
        /// Its length when it is unpacked; none if it is not packed.
        zstd: Option<u32>,
    },
    Close {
        upload: u64,
        size: u64,
        /// What the peer has made of it: one of both at least.
        announced: Announced,
    },
    Abort {
        upload: u64,
    },
    /// A recipe of what was left by the uploads before.
    Recipe(RecipeJob),
}

/// The content digest and the SHA-256 of an upload.
pub(super) type Announced = (Option<Digest>, Option<[u8; 32]>);

/// Whether the SHA-256 of what is stored is made, compared and told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sums {
    Made,
    /// And the content digest is told as well.
    WithDigest,
    NotMade,
}

/// Starts both threads. What they end with.
pub(super) fn start_uploading(
    (held, sums): (&Held, Sums),
    jobs: mpsc::Receiver<UploadJob>,
    recipes: mpsc::Sender<RecipeJob>,
    outbox: &Outbox,
    flow: &Arc<Flow>,
    halt: &CancellationToken,
    dead: &CancellationToken,
) -> Result<Vec<oneshot::Receiver<Result<(), SessionError>>>, SessionError> {
    let (push, pushes) = sync_channel::<Job>(1);
    let uploading = Uploading {
        held: held.clone(),
        answers: Answers {
            store: Arc::clone(held.share.store()),
            sums,
            outbox: outbox.clone(),
            flow: Arc::clone(flow),
        },
        jobs,
        recipes,
        flow: Arc::clone(flow),
        halt: halt.clone(),
        direct: (sums != Sums::NotMade).then(|| DirectWrites::by(push.clone())),
        push,
        open: BTreeMap::new(),
        untold: 0,
        _dies: dead.clone().drop_guard(),
    };
    let pusher = thread::spawn("syncd-push", move || {
        pushes.iter().for_each(|push| push());
        Ok(())
    });
    let uploader = thread::spawn("syncd-upload", move || uploading.run());
    Ok(vec![
        uploader.map_err(SessionError::Thread)?,
        pusher.map_err(SessionError::Thread)?,
    ])
}

/// An upload that grows.
struct Open {
    growing: Growing<DiskUpload>,
    /// How much of it was pushed out.
    pushed: u64,
}

/// The thread that writes.
struct Uploading {
    held: Held,
    answers: Answers,
    jobs: mpsc::Receiver<UploadJob>,
    recipes: mpsc::Sender<RecipeJob>,
    flow: Arc<Flow>,
    halt: CancellationToken,
    push: SyncSender<Job>,
    /// How files are written that nobody works on.
    direct: Option<DirectWrites>,
    open: BTreeMap<u64, Open>,
    /// Bytes that were written and not told.
    untold: u64,
    _dies: DropGuard,
}

impl Uploading {
    fn run(mut self) -> Result<(), SessionError> {
        while let Some(job) = self.jobs.blocking_recv() {
            if self.halt.is_cancelled() || !self.held.is_current() {
                break;
            }
            self.take(job)?;
            while self.untold < TELL_BYTES
                && !self.halt.is_cancelled()
                && let Ok(job) = self.jobs.try_recv()
            {
                self.take(job)?;
            }
            self.tell_written();
        }
        Ok(())
    }

    fn take(&mut self, job: UploadJob) -> Result<(), SessionError> {
        match job {
            UploadJob::Open {
                upload,
                base,
                path,
                leftover,
                after,
            } => {
                let origin = Origin {
                    base: base.as_ref(),
                    path: path.as_ref(),
                    leftover,
                };
                self.open(upload, &origin, after)
            }
            UploadJob::Data { upload, body, zstd } => self.data(upload, &body, zstd),
            UploadJob::Close {
                upload,
                size,
                announced,
            } => self.close(upload, size, announced),
            UploadJob::Abort { upload } => {
                self.open.remove(&upload);
                drop(self.flow.take_upload(upload));
                Ok(())
            }
            UploadJob::Recipe(job) => {
                let sent = self.recipes.blocking_send(job);
                sent.map_err(|_| SessionError::dead_thread())
            }
        }
    }

    fn open(&mut self, upload: u64, origin: &Origin<'_>, after: u64) -> Result<(), SessionError> {
        if self.open.contains_key(&upload) {
            return Err(SessionError::Protocol(format!(
                "upload {upload} is open already"
            )));
        }
        if self.open.len() >= MAX_UPLOADS {
            return Err(SessionError::Protocol(format!(
                "more than {MAX_UPLOADS} uploads are open"
            )));
        }
        if origin.base.is_some() {
            self.tell_written();
            self.flow.wait(|reached| reached.jobs >= after);
        }
        match self.held.share.store().open_upload(origin) {
            Ok(mut opened) => {
                if let Some(direct) = &self.direct {
                    opened.directly(direct);
                }
                let mut growing = Growing::new(opened);
                if self.answers.sums != Sums::NotMade {
                    growing = growing.summed();
                }
                self.open.insert(upload, Open { growing, pushed: 0 });
            }
            Err(error) => self.answers.failed(upload, &error),
        }
        Ok(())
    }

    /// One piece. It is unpacked here, one at a time: what waits in the queue and what the windows count is as it came.
    fn data(&mut self, upload: u64, body: &[u8], zstd: Option<u32>) -> Result<(), SessionError> {
        let mut ended = None;
        // One that failed or was given up is not there any more; its pieces count as written.
        if let Some(open) = self.open.get_mut(&upload) {
            let unpacked = zstd
                .map(|size| unpack(body, size, MAX_PIECE_BODY))
                .transpose();
            let unpacked = unpacked.map_err(|error| SessionError::Protocol(error.to_string()))?;
            match open.growing.piece(unpacked.as_deref().unwrap_or(body)) {
                Ok(()) if open.growing.size() - open.pushed >= PUSH_BYTES => {
                    if self.push.try_send(open.growing.flusher()).is_ok() {
                        open.pushed = open.growing.size();
                    }
                }
                Ok(()) => {}
                Err(UploadError::Store(error)) => ended = Some(error),
                Err(UploadError::Malformed(error)) => {
                    return Err(SessionError::Protocol(error.to_string()));
                }
            }
        }
        if let Some(error) = ended {
            // What came before the disk was full is left for the next attempt.
            if let Some(open) = self.open.remove(&upload)
                && error.fault != Fault::Full
            {
                open.growing.discard();
            }
            self.answers.failed(upload, &error);
        }
        let bytes = body.len() as u64;
        self.flow.outstanding.done(bytes);
        self.untold += bytes;
        Ok(())
    }

    fn close(&mut self, upload: u64, size: u64, announced: Announced) -> Result<(), SessionError> {
        let Some(mut open) = self.open.remove(&upload) else {
            return Ok(());
        };
        self.tell_written();
        // Small edits wait for the group in which this one is made durable: not much may be left to do then.
        let left = open.growing.size() - open.pushed;
        if left >= PUSH_BYTES {
            open.growing.flusher()();
        } else if left >= SOON_BYTES {
            // A full queue means that the disk has enough to do.
            let _busy = self.push.try_send(open.growing.flusher());
        }
        let behind = open.growing.write_behind();
        let closed = open.growing.close(size, announced);
        if !behind || closed.is_err() {
            self.answers.closed(upload, size, closed);
            return Ok(());
        }
        // It has written all of it by then.
        let answers = self.answers.clone();
        let finish: Job = Box::new(move || answers.closed(upload, size, closed));
        let sent = self.push.send(finish);
        sent.map_err(|_| SessionError::dead_thread())
    }

    fn tell_written(&mut self) {
        if self.untold > 0 {
            let bytes = std::mem::take(&mut self.untold);
            self.answers.say(&Response::Received { bytes }, Vec::new());
        }
    }
}

/// What uploads come to, for their peer.
#[derive(Clone)]
struct Answers {
    store: Arc<DiskStore>,
    sums: Sums,
    outbox: Outbox,
    flow: Arc<Flow>,
}

impl Answers {
    /// All of an upload has come.
    fn closed(&self, upload: u64, size: u64, closed: Result<Closed<DiskUpload>, StoreError>) {
        let finish = |closed: Closed<DiskUpload>| {
            let staged = self.store.finish_upload(closed.upload)?;
            let mut told = closed.sum.map_or_else(Vec::new, Vec::from);
            let digest = closed.digest;
            if self.sums == Sums::WithDigest {
                told.extend_from_slice(&digest.0);
            }
            let finished = Finished {
                staged,
                size,
                digest,
            };
            if self.flow.keep_upload(upload, finished) {
                return Ok(told);
            }
            Err(StoreError::changed(
                "too many finished uploads wait to be used",
            ))
        };
        match closed.and_then(finish) {
            Ok(told) => self.say(
                &Response::Staged {
                    upload,
                    failed: None,
                },
                told,
            ),
            Err(error) => self.failed(upload, &error),
        }
    }

    fn failed(&self, upload: u64, error: &StoreError) {
        let failed = Some(Failed {
            index: 0,
            code: Code::Fault(error.fault),
            message: error.message.clone(),
        });
        self.say(&Response::Staged { upload, failed }, Vec::new());
    }

    fn say(&self, message: &Response, body: Vec<u8>) {
        // The peer is gone; the reader sees it too.
        drop(
            self.outbox
                .urgent
                .blocking_send(Outgoing::new(message, body)),
        );
    }
}
