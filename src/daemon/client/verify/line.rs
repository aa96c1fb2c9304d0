//! The line of somebody who only looks: questions and their answers, in order.

use super::super::connection::keep_alive;
use super::super::{ClientError, hello, renewal};
use super::judge::Remote;
use crate::daemon::connect::{ClientStream, Connection, Connector};
use crate::daemon::options::ClientOptions;
use crate::daemon::pump::{FrameReader, Outbox, Outgoing, PumpError, outbox, write_loop};
use crate::daemon::responses::next_response;
use crate::model::{Entry, Kind, Name, PERMISSION_BITS, RelPath};
use crate::wire::{
    BodyReader, Code, Frame, Inspect, Inspected, ListKind, Request, Response, WireBytes, WirePath,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{ReadHalf, split};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// How many questions are under way at a time.
pub(super) const DEPTH: usize = 4;
/// Frames that may wait for the line.
const URGENT: usize = 64;
/// How long the end of the line may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A part of what a directory of the server holds.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) entries: BTreeMap<Name, Remote>,
    /// All names before it were told.
    pub(super) next: Option<Name>,
    /// Why the directory cannot be looked into.
    pub(super) failed: Option<String>,
}

type Answer = Result<Page, ClientError>;

/// An open line. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    outbox: Outbox,
    answers: mpsc::Receiver<Answer>,
    next_id: u64,
    lost: ClientErrorOf,
    writer: JoinHandle<()>,
    tasks: JoinSet<()>,
}

/// Whom an error is about.
#[derive(Debug, Clone)]
struct ClientErrorOf(String);

impl ClientErrorOf {
    fn lost(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Lost {
            server: self.0.clone(),
            reason: reason.into(),
        }
    }

    fn refused(&self, code: Code, message: String) -> ClientError {
        ClientError::Refused {
            server: self.0.clone(),
            code,
            message,
        }
    }
}

impl Line {
    /// Visits the share of a source. The line, and whether the server keeps set-user-id bits.
    pub(super) async fn open(
        connector: &Connector,
        address: &str,
        options: &ClientOptions,
    ) -> Result<(Self, bool), ClientError> {
        let connection = connector.connect(address).await;
        let connection = connection.map_err(ClientError::Unaccepted)?;
        let Connection {
            stream,
            server_id,
            device_id,
        } = connection;
        let lost = ClientErrorOf(address.to_owned());
        let share = renewal::invited_share(connector, options.share.as_ref(), &server_id)?;
        let (read, write) = split(stream);
        let (outbox, queue) = outbox(URGENT);
        let mut tasks = JoinSet::new();
        let writer = tokio::spawn(async move { drop(write_loop(queue, write).await) });
        let visit = hello::visit(&device_id, &options.directory, share);
        drop(outbox.urgent.send(Outgoing::new(&visit, Vec::new())).await);
        let pings = outbox.clone();
        tasks.spawn(async move { keep_alive(&pings).await });
        let mut frames = FrameReader::new(read);
        let keeps = loop {
            match next_response(&mut frames).await {
                Ok((Response::Welcome { keeps_setid, .. }, _)) => {
                    break keeps_setid.unwrap_or(true);
                }
                Ok((Response::Refused { code, message }, _)) => {
                    let (code, message) = hello::understood(true, code, message);
                    return Err(lost.refused(code, message));
                }
                Ok(_) => {}
                Err(PumpError::Io(error)) => {
                    let why = connector.rejected(&server_id, &error);
                    let why = why.map(|why| connector.unaccepted(address, why));
                    let ended = || lost.lost(error.to_string());
                    return Err(why.map_or_else(ended, ClientError::Unaccepted));
                }
                Err(error) => return Err(lost.lost(error.to_string())),
            }
        };
        // As many as are under way find room, so that the line is read whatever they are waited for.
        let (told, answers) = mpsc::channel(2 * DEPTH);
        tasks.spawn(listen(frames, told, lost.clone()));
        let line = Self {
            outbox,
            answers,
            next_id: 1,
            lost,
            writer,
            tasks,
        };
        Ok((line, keeps))
    }

    /// Ends the line in order.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
        drop((self.outbox, self.answers));
        drop(timeout(LAST_WORDS, &mut self.writer).await);
        self.writer.abort();
    }

    /// Asks what a directory holds, within a range of names.
    pub(super) async fn ask(
        &mut self,
        path: &RelPath,
        first: Option<&Name>,
        last: Option<&Name>,
    ) -> Result<(), ClientError> {
        let name = |name: &Name| WireBytes::new(name.as_bytes());
        let request = Request::Inspect(Inspect {
            id: self.next_id,
            path: WirePath::from(path),
            first: first.map(name),
            last: last.map(name),
        });
        self.next_id += 1;
        let sent = self.outbox.urgent.send(Outgoing::new(&request, Vec::new()));
        sent.await.map_err(|_| self.lost.lost("the line failed"))
    }

    /// The answer to the oldest question that has none yet.
    pub(super) async fn answer(&mut self) -> Answer {
        let answer = self.answers.recv().await;
        answer.unwrap_or_else(|| Err(self.lost.lost("the line failed")))
    }
}

async fn listen(
    mut frames: FrameReader<ReadHalf<ClientStream>>,
    told: mpsc::Sender<Answer>,
    lost: ClientErrorOf,
) {
    loop {
        let answer = match next_response(&mut frames).await {
            Ok((Response::Inspected(part), frame)) => {
                page(&part, &frame).ok_or_else(|| lost.lost("it broke the protocol"))
            }
            Ok((Response::Refused { code, message }, _)) => Err(lost.refused(code, message)),
            Ok(_) => continue,
            Err(error) => Err(lost.lost(error.to_string())),
        };
        let last = answer.is_err();
        if told.send(answer).await.is_err() || last {
            return;
        }
    }
}

/// Takes a message apart; nothing when it is not what the protocol says.
fn page(part: &Inspected, frame: &Frame) -> Option<Page> {
    let name = |name: &WireBytes| Name::new(&name.bytes()?).ok();
    let mut body = BodyReader::new(&frame.body);
    let mut page = Page::default();
    for entry in &part.entries {
        let digest = body.digest().ok()?;
        let kind = match &entry.kind {
            ListKind::Directory {} => Kind::Directory,
            ListKind::File { size } => Kind::File {
                size: *size,
                digest,
            },
            ListKind::Symlink { target } => Kind::Symlink {
                target: target.bytes()?.into(),
            },
        };
        let found = Entry {
            kind,
            mode: entry.mode & PERMISSION_BITS,
            mtime: entry.mtime.mtime(),
        };
        page.entries
            .insert(name(&entry.name)?, Remote::Entry(found));
    }
    for unread in &part.failed {
        let message = crate::host::pki::clean_text(&unread.message, 400);
        if unread.name.bytes()?.is_empty() {
            page.failed = Some(message);
            continue;
        }
        let code = unread.code.clone();
        page.entries
            .insert(name(&unread.name)?, Remote::Unread { code, message });
    }
    if let Some(next) = &part.next {
        page.next = Some(name(next)?);
    }
    Some(page)
}
