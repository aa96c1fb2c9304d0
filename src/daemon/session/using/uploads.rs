//! Large files that come from those who do not mirror: they go into the stage by the same threads as a writer's.

use super::Using;
use crate::daemon::session::open::blocking;
use crate::daemon::session::progress::Flow;
use crate::daemon::session::recipe::{RecipeJob, start_recipes};
use crate::daemon::session::upload::{Sums, UploadJob, start_uploading};
use crate::daemon::session::{REQUESTS, SessionError, say};
use crate::daemon::share::{Held, Refusal};
use crate::model::Fault;
use crate::wire::{Code, Failed, MINOR_SUM, Response};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The threads of one session, once something was uploaded.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: Option<Open>,
    /// The minor version of the session.
    pub(super) minor: u16,
    /// Cancelled when the piece in hand is the last.
    pub(super) halt: CancellationToken,
}

#[derive(Debug)]
struct Open {
    held: Held,
    jobs: mpsc::Sender<UploadJob>,
    recipes: mpsc::Sender<RecipeJob>,
    flow: Arc<Flow>,
    dead: CancellationToken,
    ends: Vec<oneshot::Receiver<Result<(), SessionError>>>,
}

impl Uploads {
    /// Of a session of this minor version.
    pub(super) fn of(minor: u16) -> Self {
        Self {
            minor,
            ..Self::default()
        }
    }

    /// Where finished uploads are, if there were any.
    pub(super) fn flow(&self) -> Option<Arc<Flow>> {
        Some(Arc::clone(&self.open.as_ref()?.flow))
    }

    /// Waits until the threads have ended before their time. Why.
    pub(super) async fn ended(&self) -> SessionError {
        match &self.open {
            None => std::future::pending().await,
            Some(open) => {
                open.dead.cancelled().await;
                open.why()
            }
        }
    }

    /// Waits until fewer than `window` bytes of pieces wait to be written.
    pub(super) async fn below(&self, window: u64) {
        if let Some(open) = &self.open {
            open.flow.outstanding.below(window).await;
        }
    }

    /// Takes a message about an upload. Where somebody else fills the share, its sender is told so.
    pub(super) async fn take(&mut self, using: &Using, job: UploadJob) -> Result<(), SessionError> {
        if self.open.is_none() && matches!(job, UploadJob::Open { .. }) {
            let user = Arc::clone(&using.user);
            match blocking(move || user.made().and_then(|share| share.borrow())).await? {
                Ok(held) => self.open = Some(Open::start((held, self.minor), using, &self.halt)?),
                Err(refusal) => {
                    tell(using, &job, &refusal).await;
                    return Ok(());
                }
            }
        }
        let Some(open) = &self.open else {
            if let UploadJob::Data { body, .. } = &job {
                // They count as written: nobody waits for room.
                let bytes = body.len() as u64;
                say(&using.outbox, &Response::Received { bytes }).await;
            }
            return Ok(());
        };
        if let UploadJob::Data { body, .. } = &job {
            open.flow.outstanding.add(body.len() as u64);
        }
        let sent = open.jobs.send(job).await;
        sent.map_err(|_| open.why())
    }

    /// Asks for a recipe of a file, or of what an upload has left.
    pub(super) async fn recipe(
        &mut self,
        using: &Using,
        job: RecipeJob,
    ) -> Result<(), SessionError> {
        if self.open.is_none() {
            let user = Arc::clone(&using.user);
            // Who may only read must not make a share by asking.
            let there = move || {
                let absent = || Refusal::new(Code::Fault(Fault::Changed), "there is no share yet");
                user.share()?.ok_or_else(absent)?.borrow()
            };
            match blocking(there).await? {
                Ok(held) => self.open = Some(Open::start((held, self.minor), using, &self.halt)?),
                Err(refusal) => {
                    let failed = failure(&refusal);
                    let answer = Response::Recipe {
                        id: job.id,
                        size: 0,
                        last: true,
                        failed: Some(failed),
                        leftover: None,
                    };
                    say(&using.outbox, &answer).await;
                    return Ok(());
                }
            }
        }
        let Some(open) = &self.open else {
            return Ok(());
        };
        if job.leftover {
            let sent = open.jobs.send(UploadJob::Recipe(job)).await;
            return sent.map_err(|_| open.why());
        }
        let sent = open.recipes.send(job).await;
        sent.map_err(|_| open.why())
    }

    /// Ends the threads, and waits for them. Why the first one failed that did.
    pub(super) async fn end(self) -> Option<SessionError> {
        let open = self.open?;
        let Open {
            jobs,
            recipes,
            flow,
            ends,
            ..
        } = open;
        flow.end();
        drop((jobs, recipes));
        let mut why = None;
        for end in ends {
            if let Ok(Err(error)) = end.await {
                why.get_or_insert(error);
            }
        }
        why
    }
}

impl Open {
    /// Why its threads have ended.
    fn why(&self) -> SessionError {
        if self.held.is_current() {
            SessionError::dead_thread()
        } else {
            self.held.lost().into()
        }
    }

    fn start(
        (held, minor): (Held, u16),
        using: &Using,
        halt: &CancellationToken,
    ) -> Result<Self, SessionError> {
        let sums = if minor >= MINOR_SUM {
            Sums::WithDigest
        } else {
            Sums::Made
        };

        let (jobs, jobs_out) = mpsc::channel(REQUESTS);
        let (recipes, recipes_out) = mpsc::channel(REQUESTS);
        let (flow, dead) = (Arc::new(Flow::default()), CancellationToken::new());
        let outbox = &using.outbox;
        let mut ends = start_uploading(
            (&held, sums),
            jobs_out,
            recipes.clone(),
            outbox,
            &flow,
            halt,
            &dead,
        )?;
        ends.push(start_recipes(&held, recipes_out, outbox, &flow, halt)?);
        Ok(Self {
            held,
            jobs,
            recipes,
            flow,
            dead,
            ends,
        })
    }
}

fn failure(refusal: &Refusal) -> Failed {
    Failed {
        index: 0,
        code: refusal.code.clone(),
        message: refusal.message.clone(),
    }
}

async fn tell(using: &Using, job: &UploadJob, refusal: &Refusal) {
    if let UploadJob::Open { upload, .. } = job {
        let answer = Response::Staged {
            upload: *upload,
            failed: Some(failure(refusal)),
        };
        say(&using.outbox, &answer).await;
    }
}
