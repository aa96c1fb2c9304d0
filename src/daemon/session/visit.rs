//! A session of somebody who only looks: it holds no share, and one thread reads for it.

use super::open::{blocking, greet, is_source};
use super::{Guest, REQUESTS, SessionError, Terms, parse, permitted, say, stopping, wire_path};
use crate::daemon::pump::{FrameReader, Outbox, Outgoing};
use crate::daemon::share::{Shares, Visitor};
use crate::engine::server::Range;
use crate::host::thread;
use crate::model::{Name, RelPath};
use crate::wire::{Inspect, MINOR_VISIT, Request, Response, Visit, WireBytes};
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A question about the share.
enum Question {
    List {
        id: u64,
        path: RelPath,
        after: Option<Vec<u8>>,
    },
    Inspect {
        id: u64,
        path: RelPath,
        range: Range,
    },
}

/// Opens the visit, and answers until it ends.
pub(super) async fn serve<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    outbox: &Outbox,
    (visit, guest): (Visit, Guest),
    shares: Arc<Shares>,
    terms: &Terms,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    if guest.minor < MINOR_VISIT || !is_source(&visit.source) {
        let message = "the visit names no valid source, or no version that has visits";
        return Err(SessionError::Protocol(message.to_owned()));
    }
    let (share, device) = (visit.share.clone(), guest.device.clone());
    let come = move || shares.visit(visit.share.as_deref(), &device, &visit.source);
    let visitor = Arc::new(blocking(come).await??);
    let _first = terms.opened.set(share);
    let (looking, minor) = (Arc::clone(&visitor), guest.minor);
    let never = CancellationToken::new();
    let welcome = move || Ok(looking.welcome(minor));
    greet(reader, outbox, welcome, (&guest, &never), shutdown).await?;
    tracing::info!(
        share = guest.share.as_deref().unwrap_or("the directory itself"),
        "somebody looks at a share"
    );
    let (questions, queue) = mpsc::channel(REQUESTS);
    let halt = CancellationToken::new();
    let ended = start_answering(visitor, queue, outbox.clone(), halt.clone())?;
    let result = listen(reader, outbox, &guest, &questions, shutdown).await;
    halt.cancel();
    drop(questions);
    // A visitor that panicked is told nothing more.
    drop(ended.await);
    result
}

/// Reads questions until the line or the server ends.
async fn listen<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    outbox: &Outbox,
    guest: &Guest,
    questions: &mpsc::Sender<Question>,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    loop {
        let frame = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(stopping()),
            () = guest.device.revoked.cancelled() => return Err(permitted::revoked().into()),
            () = questions.closed() => return Err(SessionError::dead_thread()),
            frame = reader.next() => frame?,
        };
        let request = parse(&frame)?;
        permitted::check(&guest.device, guest.share.as_deref(), &request)?;
        let question = match request {
            Request::Ping {} => {
                say(outbox, &Response::Pong {}).await;
                continue;
            }
            Request::Renew { csr } => {
                say(outbox, &guest.renew(csr).await?).await;
                continue;
            }
            Request::List { id, path, after } => Question::List {
                id,
                path: wire_path(&path)?,
                after: after.map(|name| name.bytes().unwrap_or_default()),
            },
            Request::Inspect(inspect) => understood(&inspect)?,
            _ => {
                let message = "who only looks changes nothing";
                return Err(SessionError::Protocol(message.to_owned()));
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Err(stopping()),
            sent = questions.send(question) => sent.map_err(|_| SessionError::dead_thread())?,
        }
    }
}

fn understood(inspect: &Inspect) -> Result<Question, SessionError> {
    let name = |name: &Option<WireBytes>| {
        let bytes = name.as_ref().map(|name| name.bytes().unwrap_or_default());
        let name = bytes.map(|bytes| Name::new(&bytes)).transpose();
        name.map_err(|error| SessionError::Protocol(error.to_string()))
    };
    Ok(Question::Inspect {
        id: inspect.id,
        path: wire_path(&inspect.path)?,
        range: Range {
            first: name(&inspect.first)?,
            last: name(&inspect.last)?,
        },
    })
}

/// What a writer's session is told that asks for what only a visit has.
pub(super) fn only_there() -> SessionError {
    SessionError::Protocol("`inspect` belongs to a visit".to_owned())
}

/// Starts the thread that reads and answers, in order.
fn start_answering(
    visitor: Arc<Visitor>,
    mut questions: mpsc::Receiver<Question>,
    outbox: Outbox,
    halt: CancellationToken,
) -> Result<oneshot::Receiver<()>, SessionError> {
    let run = move || {
        let mut inspector = visitor.inspector();
        while let Some(question) = questions.blocking_recv() {
            if halt.is_cancelled() {
                break;
            }
            let (answer, body) = match question {
                Question::List { id, path, after } => {
                    let listing = visitor.list(id, &path, after.as_deref());
                    (listing.response, listing.body)
                }
                Question::Inspect { id, path, range } => {
                    let halted = || halt.is_cancelled();
                    let part = inspector
                        .as_mut()
                        .map(|one| one.look(&path, &range, &halted));
                    let part = part.unwrap_or_default();
                    if halt.is_cancelled() {
                        break;
                    }
                    visitor.correct(&path, &range, &part);
                    part.answer(id)
                }
            };
            // The peer is gone; the reader sees it too.
            drop(outbox.bulk.blocking_send(Outgoing::new(&answer, body)));
        }
    };
    thread::spawn("syncd-visit", run).map_err(SessionError::Thread)
}
