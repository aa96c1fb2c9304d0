//! One connection to one server: requests by id, answered in any order.

use crate::daemon::client::asked::Asked;
use crate::daemon::client::connection::keep_alive;
use crate::daemon::client::input::Link;
use crate::daemon::client::{ClientError, renewal};
use crate::daemon::connect::{self, ClientStream, Connector};
use crate::daemon::pump::{FrameReader, Outgoing, PumpError, outbox, write_loop};
use crate::daemon::responses::next_response;
use crate::host::pki::clean_text;
use crate::model::limits::UPLOAD_WINDOW;
use crate::wire::{Code, MINOR, Request, Response, Use};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{ReadHalf, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Frames that may wait for the line.
const URGENT: usize = 256;
/// Answers to one request that may wait to be taken: beyond them nothing is read from the line.
pub(super) const WAITING: usize = 16;
/// How long the end of the line may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest text of a server that is shown, in characters.
const MAX_TEXT: usize = 400;

/// What a server says to a request, with its body.
pub type Answer = (Response, Bytes);

/// An open connection. It ends when it is dropped.
#[derive(Debug)]
pub struct Connection {
    server: String,
    link: Link,
    state: Arc<Mutex<State>>,
    /// Cancelled when nothing comes any more, and it is known why.
    over: CancellationToken,
    minor: u16,
    ids: AtomicU64,
    writer: JoinHandle<()>,
    tasks: JoinSet<()>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, mpsc::Sender<Answer>>,
    /// Why nothing comes any more.
    ended: Option<Ended>,
}

#[derive(Clone, Debug)]
enum Ended {
    Lost(String),
    Refused(Code, String),
}

impl Ended {
    fn error(self, server: &str) -> ClientError {
        let server = server.to_owned();
        match self {
            Self::Lost(reason) => ClientError::Lost { server, reason },
            Self::Refused(code, message) => ClientError::Refused {
                server,
                code,
                message,
            },
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answers to one request, in their order. Nobody waits for them any more once this is dropped.
#[derive(Debug)]
pub struct Answers {
    id: u64,
    server: String,
    state: Arc<Mutex<State>>,
    queue: mpsc::Receiver<Answer>,
}

impl Answers {
    /// The id of the request.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The next answer.
    ///
    /// # Errors
    /// When the line ended before it came.
    pub async fn next(&mut self) -> Result<Answer, ClientError> {
        match self.queue.recv().await {
            Some(answer) => Ok(answer),
            None => Err(ended(&self.state, &self.server)),
        }
    }

    /// An answer that is here already.
    pub fn ready(&mut self) -> Option<Answer> {
        self.queue.try_recv().ok()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        lock(&self.state).waiting.remove(&self.id);
    }
}

/// Ends a line.
#[derive(Debug)]
pub(super) struct LineEnd {
    state: Arc<Mutex<State>>,
    window: Arc<Semaphore>,
    asked: Arc<Asked>,
    writer: AbortHandle,
    over: CancellationToken,
    reason: String,
}

impl LineEnd {
    /// Whoever waits for the server, or to send it something, is told why there is no line any more.
    pub(super) fn end(self) {
        {
            let mut state = lock(&self.state);
            state.ended.get_or_insert(Ended::Lost(self.reason));
            state.waiting.clear();
        }
        self.window.close();
        self.asked.close();
        self.writer.abort();
        self.over.cancel();
    }
}

fn ended(state: &Mutex<State>, server: &str) -> ClientError {
    let ended = lock(state).ended.clone();
    let ended = ended.unwrap_or_else(|| Ended::Lost("the connection ended".to_owned()));
    ended.error(server)
}

impl Connection {
    /// Connects to a server, and uses a share: the one that is named, or the one that this home was invited to.
    pub(super) async fn open(
        connector: &Connector,
        server: &str,
        share: Option<&String>,
    ) -> Result<Self, ClientError> {
        let connection = connector.connect(server).await;
        let connect::Connection {
            stream, server_id, ..
        } = connection.map_err(ClientError::Unaccepted)?;
        let share = renewal::invited_share(connector, share, &server_id)?;
        let (read, write) = split(stream);
        let (outbox, queue) = outbox(URGENT);
        let line = Arc::default();
        let queue = queue.over(&line);
        let writer = tokio::spawn(async move { drop(write_loop(queue, write).await) });
        let usage = Request::Use(Use {
            minor: MINOR,
            share,
        });
        drop(outbox.urgent.send(Outgoing::new(&usage, Vec::new())).await);
        let window = Semaphore::new(usize::try_from(UPLOAD_WINDOW).unwrap_or(0));
        let link = Link {
            epoch: 0,
            outbox,
            window: Arc::new(window),
            asked: Arc::new(Asked::new()),
            resumes: true,
            line,
        };
        let mut frames = FrameReader::new(read);
        let minor = welcomed(connector, (server, &server_id), &mut frames).await?;
        link.speaks(minor);
        let state = Arc::new(Mutex::new(State::default()));
        let mut tasks = JoinSet::new();
        let pings = link.outbox.clone();
        tasks.spawn(async move { keep_alive(&pings).await });
        let over = CancellationToken::new();
        let listening = listen(frames, Arc::clone(&state), link.clone());
        let listened = over.clone().drop_guard();
        tasks.spawn(async move {
            listening.await;
            drop(listened);
        });
        Ok(Self {
            server: server.to_owned(),
            link,
            state,
            over,
            minor,
            ids: AtomicU64::new(1),
            writer,
            tasks,
        })
    }

    /// The address that was dialled.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The minor version of the session.
    #[must_use]
    pub fn minor(&self) -> u16 {
        self.minor
    }

    /// A number that no other request of this connection has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for what is said to a request or an upload of this number, which is about to be sent.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn expect(&self, id: u64) -> Result<Answers, ClientError> {
        let (answers, queue) = mpsc::channel(WAITING);
        let mut state = lock(&self.state);
        if let Some(ended) = state.ended.clone() {
            return Err(ended.error(&self.server));
        }
        state.waiting.insert(id, answers);
        Ok(Answers {
            id,
            server: self.server.clone(),
            state: Arc::clone(&self.state),
            queue,
        })
    }

    /// Sends a message that nothing is said to, or whose answer is expected already.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&self, request: &Request, body: impl Into<Bytes>) -> Result<(), ClientError> {
        let sent = self.link.outbox.urgent.send(Outgoing::new(request, body));
        match sent.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.error().await),
        }
    }

    /// Sends a request, which gets its number from the connection, and gives its answers.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn ask(
        &self,
        request: impl FnOnce(u64) -> Request,
        body: impl Into<Bytes>,
    ) -> Result<Answers, ClientError> {
        let id = self.id();
        let answers = self.expect(id)?;
        self.send(&request(id), body).await?;
        Ok(answers)
    }

    /// The way to the server, for uploads.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// A way to end the line for a reason, for somebody who does not hold the connection.
    pub(super) fn line_end(&self, reason: &str) -> LineEnd {
        LineEnd {
            state: Arc::clone(&self.state),
            window: Arc::clone(&self.link.window),
            asked: Arc::clone(&self.link.asked),
            writer: self.writer.abort_handle(),
            over: self.over.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Why the line has ended. Where nothing can be written any more, what the server said last may still have to be read.
    pub async fn error(&self) -> ClientError {
        drop(timeout(LAST_WORDS, self.over.cancelled()).await);
        ended(&self.state, &self.server)
    }

    /// Ends the connection in order.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
        drop(self.link);
        drop(timeout(LAST_WORDS, &mut self.writer).await);
        self.writer.abort();
    }
}

/// Waits for the welcome. The minor version.
async fn welcomed(
    connector: &Connector,
    (server, server_id): (&str, &str),
    frames: &mut FrameReader<ReadHalf<ClientStream>>,
) -> Result<u16, ClientError> {
    let ended = |ended: Ended| Err(ended.error(server));
    loop {
        match next_response(frames).await {
            Ok((Response::Welcome { minor, .. }, _)) => return Ok(minor),
            Ok((Response::Refused { code, message }, _)) => {
                return ended(refused(true, code, &message));
            }
            Ok(_) => {}
            Err(PumpError::Io(error)) => {
                let why = connector.rejected(server_id, &error);
                return match why.map(|why| connector.unaccepted(server, why)) {
                    Some(why) => Err(ClientError::Unaccepted(why)),
                    None => ended(Ended::Lost(error.to_string())),
                };
            }
            Err(error) => return ended(Ended::Lost(error.to_string())),
        }
    }
}

/// What a refusal means: a server that does not know the first message does not know the version.
fn refused(first: bool, code: Code, message: &str) -> Ended {
    if first && code == Code::Protocol {
        let older = "it is older than this program and knows no commands for files and keys: update the server";
        return Ended::Refused(Code::Version, older.to_owned());
    }
    Ended::Refused(code, clean_text(message, MAX_TEXT))
}

/// Takes what comes to whoever waits for it, until the line ends.
async fn listen(
    mut frames: FrameReader<ReadHalf<ClientStream>>,
    state: Arc<Mutex<State>>,
    link: Link,
) {
    let end = loop {
        let (response, frame) = match next_response(&mut frames).await {
            Ok(next) => next,
            Err(PumpError::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                break Ended::Lost("the server ended".to_owned());
            }
            Err(error) => break Ended::Lost(error.to_string()),
        };
        let id = match &response {
            Response::File(answer) => answer.id,
            Response::Key(answer) => answer.id,
            Response::Staged { upload, .. } => *upload,
            Response::Refused { code, message } => break refused(false, code.clone(), message),
            Response::Received { bytes } => {
                link.window
                    .add_permits(usize::try_from(*bytes).unwrap_or(0));
                continue;
            }
            Response::Recipe {
                id,
                size,
                last,
                failed,
                leftover,
            } => {
                let of = (*id, *leftover);
                link.asked
                    .part(of, *size, *last, failed.is_some(), &frame.body);
                continue;
            }
            _ => continue,
        };
        let waiting = lock(&state).waiting.get(&id).cloned();
        if let Some(waiting) = waiting {
            // Whoever does not wait any more is not told.
            drop(waiting.send((response, frame.body)).await);
        }
    };
    {
        let mut state = lock(&state);
        state.ended.get_or_insert(end);
        state.waiting.clear();
    }
    link.window.close();
    link.asked.close();
}

#[cfg(test)]
mod tests {
    use super::refused;
    use crate::daemon::client::ClientError;
    use crate::wire::Code;

    #[test]
    fn a_server_that_knows_no_use_is_older() {
        let code = |first, code| match refused(first, code, "text").error("a:1") {
            ClientError::Refused { code, .. } => code,
            other => panic!("{other}"),
        };
        assert_eq!(code(true, Code::Protocol), Code::Version);
        assert_eq!(code(false, Code::Protocol), Code::Protocol);
        assert_eq!(code(true, Code::Forbidden), Code::Forbidden);
    }
}
