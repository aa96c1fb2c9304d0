//! A session of somebody who uses files and keys without mirroring: requests are answered in any order, by threads that
//! each does one.

mod changing;
mod content;
mod files;
mod keys;
mod reading;
mod uploads;

use super::open::blocking;
use super::recipe::RecipeJob;
use super::upload::UploadJob;
use super::{Guest, SessionError, Terms, parse, permitted, say, stopping, wire_path};
use crate::daemon::cache::{FileCache, Key};
use crate::daemon::keys::Keys;
use crate::daemon::pump::{FrameReader, Outbox, Outgoing};
use crate::daemon::share::{About, Refusal, Shares, User};
use crate::model::RelPath;
use crate::model::limits::KEEPALIVE_SECONDS;
use crate::wire::{
    BodyError, BodyReader, FileAsk, FileRequest, Frame, MINOR_RENEW, MINOR_SUM, MINOR_USE, Request,
    Response,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use uploads::Uploads;

/// Requests of one connection that are carried out at a time; each has a thread. More wait on the line.
const AT_A_TIME: usize = 16;
/// Length of a SHA-256 in bytes.
const SUM: usize = 32;

/// What the threads of a session share.
#[derive(Clone, Debug)]
struct Using {
    user: Arc<User>,
    outbox: Outbox,
    /// Cancelled when nothing more is to be done.
    halt: CancellationToken,
    begun: Arc<files::Begun>,
    runtime: Handle,
    /// The keys, and the name that those of the share go by; empty for the directory itself.
    keys: Option<Arc<Keys>>,
    /// The files that are in memory.
    files: Arc<FileCache>,
    space: Arc<str>,
    /// A value that comes in pieces.
    pieces: Arc<Mutex<Option<keys::Pieces>>>,
}

/// Opens the session, and answers until it ends.
pub(super) async fn serve<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    outbox: &Outbox,
    guest: Guest,
    shares: Arc<Shares>,
    terms: &Terms,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    if guest.minor < MINOR_USE {
        let message = "`use` belongs to a later minor version";
        return Err(SessionError::Protocol(message.to_owned()));
    }
    let user = shares.user(guest.share.as_deref(), &guest.device)?;
    let _first = terms.opened.set(guest.share.clone());
    say(outbox, &welcome(&guest)).await;
    tracing::debug!(
        share = guest.share.as_deref().unwrap_or("the directory itself"),
        "somebody uses a share"
    );
    let using = Using {
        user: Arc::new(user),
        outbox: outbox.clone(),
        halt: CancellationToken::new(),
        begun: Arc::default(),
        runtime: Handle::current(),
        keys: terms.keys.clone(),
        files: Arc::clone(&terms.files),
        space: guest.share.as_deref().unwrap_or_default().into(),
        pieces: Arc::default(),
    };
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut uploads = Uploads::of(guest.minor);
    let bounds = (&places, terms.window);
    let mut result = listen(reader, &guest, (&using, &mut uploads), bounds, shutdown).await;
    using.halt.cancel();
    // What a peer sent before it closed the line is written; in all other cases the piece in hand is the last.
    if !matches!(result, Err(SessionError::Pump(_))) {
        uploads.halt.cancel();
    }
    let ended = uploads.end().await;
    // A thread knows better why the session ended than the reader that it halted.
    if let (Err(SessionError::Thread(_)), Some(error)) = (&result, ended) {
        result = Err(error);
    }
    // Whatever was begun ends before the session does.
    let all = u32::try_from(AT_A_TIME).unwrap_or(1);
    drop(places.acquire_many(all).await);
    result
}

fn welcome(guest: &Guest) -> Response {
    let keeps = guest.setid == crate::engine::server::SetId::Keep;
    Response::Welcome {
        minor: guest.minor,
        share: String::new(),
        generation: String::new(),
        version: 0,
        first_contact: false,
        keeps_setid: (guest.minor >= MINOR_RENEW).then_some(keeps),
        above: Vec::new(),
    }
}

/// Reads requests until the line or the server ends.
async fn listen<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    guest: &Guest,
    (using, uploads): (&Using, &mut Uploads),
    (places, window): (&Arc<Semaphore>, u64),
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(stopping()),
            () = guest.device.revoked.cancelled() => return Err(permitted::revoked().into()),
            () = using.halt.cancelled() => return Err(SessionError::dead_thread()),
            error = uploads.ended() => return Err(error),
            frame = next(reader, using, uploads, window) => frame?,
        };
        let request = parse(&frame)?;
        permitted::check(&guest.device, guest.share.as_deref(), &request)?;
        match request {
            Request::Ping {} => say(&using.outbox, &Response::Pong {}).await,
            Request::Renew { csr } => say(&using.outbox, &guest.renew(csr).await?).await,
            Request::File(FileRequest {
                id,
                ask: FileAsk::Change { ops, given },
            }) => {
                let flow = uploads.flow();
                let job = changing::understood((&ops, &given), &frame.body, guest.setid, flow)?;
                let place = place(places, shutdown).await?;
                begin(using, (About::Files, place), move |using| {
                    changing::change(using, id, job)
                });
            }
            Request::File(request) => {
                let job = files::understood(request)?;
                let place = place(places, shutdown).await?;
                begin(using, (About::Files, place), move |using| {
                    files::answer(using, job)
                });
            }
            Request::Key(request) => {
                let place = place(places, shutdown).await?;
                let body = frame.body;
                begin(using, (About::Keys, place), move |using| {
                    keys::answer(using, request, body)
                });
            }
            request => of_upload(request, frame.body, using, uploads).await?,
        }
    }
}

/// Waits until one more request may be carried out.
async fn place(
    places: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Result<OwnedSemaphorePermit, SessionError> {
    tokio::select! {
        () = shutdown.cancelled() => Err(stopping()),
        place = Arc::clone(places).acquire_owned() => {
            place.map_err(|_| SessionError::dead_thread())
        }
    }
}

/// The next frame, once there is room for it. Meanwhile the peer is told that somebody is here.
async fn next<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    using: &Using,
    uploads: &Uploads,
    window: u64,
) -> Result<Frame, SessionError> {
    let period = Duration::from_secs(KEEPALIVE_SECONDS);
    let mut beat = interval_at(Instant::now() + period, period);
    loop {
        tokio::select! {
            biased;
            () = uploads.below(window) => return Ok(reader.next().await?),
            _ = beat.tick() => say(&using.outbox, &Response::Pong {}).await,
        }
    }
}

/// Messages about uploads, as those who mirror send them.
async fn of_upload(
    request: Request,
    body: bytes::Bytes,
    using: &Using,
    uploads: &mut Uploads,
) -> Result<(), SessionError> {
    let bad = |error: BodyError| SessionError::Protocol(error.to_string());
    let job = match request {
        Request::UploadOpen {
            upload,
            base,
            path,
            leftover,
        } => UploadJob::Open {
            upload,
            base: base.as_ref().map(wire_path).transpose()?,
            path: path.as_ref().map(wire_path).transpose()?,
            leftover: leftover.map(|on| (on.mark, on.length)),
            after: 0,
        },
        Request::UploadData { upload, zstd } => UploadJob::Data { upload, body, zstd },
        Request::UploadClose { upload, size } => {
            let alone = body.len() == SUM && uploads.minor >= MINOR_SUM;
            let mut body = BodyReader::new(&body);
            let digest = (!alone).then(|| body.digest()).transpose().map_err(bad)?;
            let sum = body.digest().map_err(bad)?;
            body.finish().map_err(bad)?;
            UploadJob::Close {
                upload,
                size,
                announced: (digest, Some(sum.0)),
            }
        }
        Request::UploadAbort { upload } => UploadJob::Abort { upload },
        request @ Request::Recipe { .. } => {
            let job = RecipeJob::understood(request, 0)?;
            return uploads.recipe(using, job).await;
        }
        _ => {
            let message = "who uses a share does not mirror it";
            return Err(SessionError::Protocol(message.to_owned()));
        }
    };
    uploads.take(using, job).await
}

/// Has a thread carry something out. Its place is free when it is done.
fn begin(
    using: &Using,
    (about, place): (About, OwnedSemaphorePermit),
    work: impl FnOnce(&Using) -> Result<(), Refusal> + Send + 'static,
) {
    let using = using.clone();
    tokio::spawn(async move {
        let _place = place;
        let turn = tokio::select! {
            turn = using.user.turns(about).acquire_owned() => turn,
            () = using.halt.cancelled() => return,
        };
        let (working, outbox) = (using.clone(), using.outbox.clone());
        let refusal = match blocking(move || work(&working)).await {
            Ok(Ok(())) => return,
            Ok(Err(refusal)) => refusal,
            Err(_) => {
                // It panicked: what it was to answer is never answered.
                using.halt.cancel();
                return;
            }
        };
        drop(turn);
        let Refusal { code, message } = refusal;
        say(&outbox, &Response::Refused { code, message }).await;
        using.halt.cancel();
    });
}

impl Using {
    /// How a file of the share is called in the cache.
    fn key(&self, path: &RelPath) -> Key {
        Key {
            share: Arc::clone(&self.space),
            path: path.clone(),
        }
    }

    /// Leaves an answer with its body for the writer, which may be held up by the line; whether somebody takes it.
    fn answer(&self, answer: &Response, body: impl Into<bytes::Bytes>) -> bool {
        let send = self.outbox.bulk.send(Outgoing::new(answer, body));
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.halt.cancelled() => false,
                sent = send => sent.is_ok(),
            }
        })
    }
}

/// What another session is told that asks for what only this one has.
pub(super) fn only_there() -> SessionError {
    SessionError::Protocol("`file` and `key` belong to a session of `use`".to_owned())
}
