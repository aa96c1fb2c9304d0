//! One session of a writer: the reader of its requests here, and the threads that carry them out.
//!
//! Requests flow in one direction: reader → stager → committer, and reader → uploader beside them. Every queue is
//! bounded, by messages and by bytes: beyond its window nothing more is read from a peer until something is done with.

mod commit;
mod large;
mod open;
mod packed;
mod permitted;
mod progress;
mod recipe;
mod upload;
mod using;
mod visit;

use crate::daemon::cache::FileCache;
use crate::daemon::join::Enroller;
use crate::daemon::keys::Keys;
use crate::daemon::pump::{FrameReader, Outbox, Outgoing, PumpError, outbox, write_loop};
use crate::daemon::session::commit::{Job, start_committing};
use crate::daemon::session::progress::Flow;
use crate::daemon::session::recipe::{RecipeJob, start_recipes};
use crate::daemon::session::upload::{Sums, UploadJob, start_uploading};
use crate::daemon::share::{Held, Refusal, Shares};
use crate::engine::server::{DecodeError, SetId};
use crate::host::devices::DeviceInfo;
use crate::model::limits::{HANDSHAKE_SECONDS, KEEPALIVE_SECONDS, MAX_HEADER};
use crate::wire::{Code, Frame, MINOR_DRIFTED, MINOR_RENEW, Request, Response, WirePath};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

/// Answers that wait to be written at most.
const ANSWERS: usize = 1024;
/// Requests that wait to be carried out at most; their bytes are bounded by the windows long before.
const REQUESTS: usize = 16 * 1024;

/// How long a peer that was told why the session ended may take to close the line.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The bounds of one session, and where it says which share it is about.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Bytes of messages that may be under way; beyond it nothing is read.
    pub window: u64,
    /// Longest body of one message, in bytes.
    pub max_frame: u32,
    /// The share, once it is open; none in it for the server's directory itself.
    pub opened: Arc<OnceLock<Option<String>>>,
    /// Whether invited devices may set the set-user-id and set-group-id bits.
    pub allow_setid: bool,
    /// Who renews certificates; nobody does without.
    pub enroller: Option<Arc<Enroller>>,
    /// The keys; none are kept without.
    pub keys: Option<Arc<Keys>>,
    /// The files that are in memory.
    pub files: Arc<FileCache>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The line.
    #[error(transparent)]
    Pump(#[from] PumpError),
    /// It was not opened, or the server ended it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The first message did not come in time.
    #[error("no hello within {HANDSHAKE_SECONDS} s")]
    Late,
    /// A message cannot be meant.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// A thread of the session could not start, or panicked.
    #[error("a thread of the session failed")]
    Thread(#[source] io::Error),
}

impl From<DecodeError> for SessionError {
    fn from(error: DecodeError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl SessionError {
    fn dead_thread() -> Self {
        Self::Thread(io::Error::other("it ended early"))
    }

    /// What the peer is told, if it is told anything.
    fn farewell(&self) -> Option<Response> {
        let (code, message) = match self {
            Self::Pump(PumpError::Frame(error)) => (Code::Protocol, error.to_string()),
            Self::Pump(_) => return None,
            Self::Refused(refusal) => (refusal.code.clone(), refusal.message.clone()),
            Self::Late | Self::Protocol(_) => (Code::Protocol, self.to_string()),
            Self::Thread(_) => (
                Code::Fault(crate::model::Fault::Io),
                "the server failed; its log says why".to_owned(),
            ),
        };
        Some(Response::Refused { code, message })
    }
}

/// Serves a connection of a device until it ends, is replaced, or `shutdown` is cancelled. Returns when all that it had
/// begun is durable or given up.
///
/// # Errors
/// Why it ended, unless the peer just closed it.
pub async fn serve<S>(
    stream: S,
    device: DeviceInfo,
    shares: Arc<Shares>,
    terms: Terms,
    shutdown: CancellationToken,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (outbox, queue) = outbox(ANSWERS);
    let writer = tokio::spawn(write_loop(queue, write));
    let mut reader = FrameReader::with_limits(read, MAX_HEADER, terms.max_frame);
    let result = open::converse(&mut reader, &outbox, device, shares, &terms, &shutdown).await;
    if let Err(error) = &result
        && let Some(message) = error.farewell()
    {
        say(&outbox, &message).await;
    }
    drop(outbox);
    // Its failure is the reader's failure too, or comes after all that mattered.
    let _written = writer.await;
    match result {
        Err(SessionError::Pump(PumpError::Closed)) => Ok(()),
        Err(SessionError::Pump(error)) => Err(error.into()),
        other if !shutdown.is_cancelled() => {
            drop(timeout(LAST_WORDS, reader.drain()).await);
            other
        }
        other => other,
    }
}

/// Leaves a message for the writer; when that is gone, so is the peer, and the reader will see it.
async fn say(outbox: &Outbox, message: &Response) {
    drop(outbox.urgent.send(Outgoing::new(message, Vec::new())).await);
}

fn stopping() -> SessionError {
    Refusal::new(Code::Stopping, "the server ends").into()
}

fn parse(frame: &Frame) -> Result<Request, SessionError> {
    serde_json::from_slice(&frame.header)
        .map_err(|error| SessionError::Protocol(format!("a header cannot be read: {error}")))
}

/// Who the peer of a session is, and what it may ask for.
struct Guest {
    device: DeviceInfo,
    share: Option<String>,
    minor: u16,
    setid: SetId,
    enroller: Option<Arc<Enroller>>,
}

impl Guest {
    async fn renew(&self, csr: String) -> Result<Response, SessionError> {
        let Some(enroller) = self.enroller.clone().filter(|_| self.minor >= MINOR_RENEW) else {
            let message = "certificates are not renewed in this session";
            return Err(SessionError::Protocol(message.to_owned()));
        };
        let device = self.device.clone();
        // Signing and the durable list take milliseconds, too long for a thread of the runtime.
        let renewed = tokio::task::spawn_blocking(move || enroller.renew(&device, &csr))
            .await
            .map_err(|_| SessionError::dead_thread())?;
        let (certificate, message) = match renewed {
            Ok(certificate) => (Some(certificate), None),
            Err(message) => (None, Some(message)),
        };
        Ok(Response::Renewed {
            certificate,
            message,
        })
    }
}

/// An open session: where its requests go.
struct Session {
    held: Held,
    guest: Guest,
    jobs: mpsc::Sender<Job>,
    uploads: mpsc::Sender<UploadJob>,
    recipes: mpsc::Sender<RecipeJob>,
    flow: Arc<Flow>,
    window: u64,
    /// Cancelled when nothing more is to be begun.
    halt: CancellationToken,
    /// Cancelled when a thread of the session ended.
    dead: CancellationToken,
    ends: Vec<oneshot::Receiver<Result<(), SessionError>>>,
    /// How many jobs were sent.
    sent: u64,
}

impl Session {
    fn start(
        held: Held,
        outbox: &Outbox,
        guest: Guest,
        (window, files): (u64, &Arc<FileCache>),
    ) -> Result<Self, SessionError> {
        let (jobs, jobs_out) = mpsc::channel(REQUESTS);
        let (uploads, uploads_out) = mpsc::channel(REQUESTS);
        let (recipes, recipes_out) = mpsc::channel::<RecipeJob>(REQUESTS);
        let flow = Arc::new(Flow::default());
        let halt = CancellationToken::new();
        let dead = CancellationToken::new();
        let mut ends = start_committing((&held, files), jobs_out, outbox, &flow, &halt, &dead)?;
        let more = start_uploading(
            (&held, Sums::NotMade),
            uploads_out,
            recipes.clone(),
            outbox,
            &flow,
            &halt,
            &dead,
        )?;
        ends.extend(more);
        ends.push(start_recipes(&held, recipes_out, outbox, &flow, &halt)?);
        Ok(Self {
            held,
            guest,
            jobs,
            uploads,
            recipes,
            flow,
            window,
            halt,
            dead,
            ends,
            sent: 0,
        })
    }

    /// Reads requests until the line, the session or the server ends, then waits for what was begun.
    async fn run<R: AsyncRead + Unpin>(
        mut self,
        reader: &mut FrameReader<R>,
        outbox: &Outbox,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut drifted = self.held.share.drifted();
        let result = loop {
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(stopping()),
                () = self.guest.device.revoked.cancelled() => Err(permitted::revoked().into()),
                () = self.held.replaced.cancelled() => Err(Refusal::replaced().into()),
                () = self.dead.cancelled() => Err(SessionError::dead_thread()),
                Ok(()) = drifted.changed() => {
                    if self.guest.minor >= MINOR_DRIFTED {
                        say(outbox, &Response::Drifted {}).await;
                    }
                    Ok(())
                }
                frame = self.next(reader, outbox) => match frame {
                    Ok(frame) => self.take(frame, outbox).await,
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(error) = step {
                break error;
            }
        };
        // What a peer sent before it closed the line is carried out; in all other cases the piece in hand is the last.
        if !matches!(result, SessionError::Pump(_)) {
            self.halt.cancel();
        }
        let Self {
            jobs,
            uploads,
            recipes,
            flow,
            ends,
            ..
        } = self;
        drop((jobs, uploads, recipes));
        let mut first = result;
        for end in ends {
            match end.await {
                Ok(Ok(())) => {}
                // A thread knows better why the session ended than the reader that it halted.
                Ok(Err(error)) if matches!(first, SessionError::Thread(_)) => first = error,
                Ok(Err(_)) => {}
                Err(_) => first = SessionError::dead_thread(),
            }
        }
        flow.end();
        Err(first)
    }

    /// The next frame, once the window has room for it. Meanwhile the peer is told that
    /// somebody is here: its own signs of life are not read.
    async fn next<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        outbox: &Outbox,
    ) -> Result<Frame, PumpError> {
        let period = Duration::from_secs(KEEPALIVE_SECONDS);
        let mut beat = interval_at(Instant::now() + period, period);
        loop {
            tokio::select! {
                biased;
                () = self.flow.outstanding.below(self.window) => return reader.next().await,
                _ = beat.tick() => say(outbox, &Response::Pong {}).await,
            }
        }
    }

    async fn take(&mut self, frame: Frame, outbox: &Outbox) -> Result<(), SessionError> {
        let request = parse(&frame)?;
        permitted::check(&self.guest.device, self.guest.share.as_deref(), &request)?;
        match request {
            Request::Ping {} => say(outbox, &Response::Pong {}).await,
            Request::Hello { .. } | Request::Visit(_) | Request::Use(_) => {
                return Err(SessionError::Protocol("a second hello came".to_owned()));
            }
            Request::Inspect(_) => return Err(visit::only_there()),
            Request::File(_) | Request::Key(_) => return Err(using::only_there()),
            Request::Renew { csr } => say(outbox, &self.guest.renew(csr).await?).await,
            Request::Mutate {
                id,
                based_on,
                ops,
                zstd,
            } => {
                let body = self.unpacked(frame.body, zstd)?;
                let weight = (frame.header.len() + body.len()) as u64;
                self.mutate((id, based_on), &ops, &body, weight).await?;
            }
            Request::List { id, path, after } => {
                let path = wire_path(&path)?;
                let after = after.map(|name| name.bytes().unwrap_or_default());
                self.job(Job::List { id, path, after }).await?;
            }
            request @ Request::Recipe { .. } => {
                let job = RecipeJob::understood(request, self.sent)?;
                self.recipe(job).await?;
            }
            Request::Settled {} => self.job(Job::Settled).await?,
            Request::UploadOpen {
                upload,
                base,
                path,
                leftover,
            } => {
                let origin = (base.as_ref(), path.as_ref(), leftover);
                self.open_upload(upload, origin).await?;
            }
            Request::UploadData { upload, zstd } => {
                let body = frame.body;
                self.may_be_packed(zstd)?;
                self.flow.outstanding.add(body.len() as u64);
                let job = UploadJob::Data { upload, body, zstd };
                self.upload(job).await?;
            }
            Request::UploadClose { upload, size } => self.close(upload, size, &frame.body).await?,
            Request::UploadAbort { upload } => self.upload(UploadJob::Abort { upload }).await?,
        }
        Ok(())
    }

    async fn job(&mut self, job: Job) -> Result<(), SessionError> {
        self.sent += 1;
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| SessionError::dead_thread())
    }
}

/// A path that is asked for, not changed: the root is one too.
fn wire_path(path: &WirePath) -> Result<crate::model::RelPath, SessionError> {
    path.path()
        .map_err(|error| SessionError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests;
