//! One connection of the text protocol: requests are answered in their order.
//!
//! Changes that arrive together are handed to the writer together, so that one commit serves them; their answers are
//! waited for before anything else is answered.

use super::answers::{self, Kind, Wanted};
use super::stats;
use super::{Keys, listener::Port};
use crate::host::keys::{Change, Found, KeyError, Outcome, Pending};
use crate::wire::memcached::{Get, Parser, Request, Step};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Bytes that are read at a time.
const READ: usize = 16 * 1024;
/// Values of at most so many bytes need no room of the common one.
const SMALL: usize = 4 * 1024;
/// Changes of one connection that are under way at a time.
const MAX_PENDING: usize = 64;
/// Bytes of answers that are collected before they are sent.
const MAX_ANSWERS: usize = 64 * 1024;
/// Bytes of a large value that are read from the store at a time.
const PART: usize = 256 * 1024;
/// How long a client may take to take some of an answer.
const STALLED: Duration = Duration::from_secs(60);
/// How long a client may take for its next bytes inside a value: less than others wait for the room that it holds.
const PAUSED: Duration = Duration::from_secs(8);
/// How long a value may take to arrive: while it does it holds room that others wait for.
const ARRIVAL: Duration = Duration::from_secs(300);

/// The connection of one client.
pub(super) struct Connection<S> {
    stream: S,
    keys: Arc<Keys>,
    port: Arc<Port>,
    pending: VecDeque<Waiting>,
    answers: BytesMut,
}

/// A change that is under way.
struct Waiting {
    kind: Kind,
    quiet: bool,
    pending: Pending,
    _room: Option<OwnedSemaphorePermit>,
}

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Goes,
    Ends,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, keys: Arc<Keys>, port: Arc<Port>) -> Self {
        Self {
            stream,
            keys,
            port,
            pending: VecDeque::new(),
            answers: BytesMut::new(),
        }
    }

    /// Answers until the client or the server ends. `used` is called whenever something arrived.
    pub(super) async fn serve(
        mut self,
        stop: &CancellationToken,
        used: impl Fn(),
    ) -> io::Result<()> {
        let mut parser = Parser::new(self.keys.max_value as usize);
        let mut input = BytesMut::with_capacity(READ);
        let mut room = None;
        // Until when the value has to be there that is arriving.
        let mut arrival = None;
        loop {
            match parser.step(&mut input) {
                Step::More => {
                    self.settle().await?;
                    self.send().await?;
                    if !self.read(&mut input, arrival, stop).await? {
                        return Ok(());
                    }
                    used();
                }
                Step::Expect(length) => {
                    arrival = Some(Instant::now() + ARRIVAL);
                    if length <= SMALL {
                        input.reserve((length + 2).saturating_sub(input.len()));
                    } else {
                        // What it holds itself would be waited for in vain.
                        self.settle().await?;
                        self.send().await?;
                        room = self.keys.room(length).await;
                        if room.is_none() {
                            let quiet = parser.is_quiet();
                            parser.decline();
                            arrival = None;
                            self.say("SERVER_ERROR out of memory storing object", quiet);
                        } else {
                            input.reserve((length + 2).saturating_sub(input.len()));
                        }
                    }
                }
                Step::Request(request) => {
                    arrival = None;
                    if room.is_some() {
                        // What is left must not hold the memory of the value.
                        input = BytesMut::from(input.as_ref());
                    }
                    if self.answer(request, room.take()).await? == Next::Ends {
                        self.settle().await?;
                        return self.send().await;
                    }
                }
                Step::Refused(refusal) => {
                    if room.take().is_some() {
                        input = BytesMut::from(input.as_ref());
                    }
                    arrival = None;
                    self.settle().await?;
                    if refusal.text.starts_with("SERVER_ERROR object too large") {
                        self.keys.counters.store_too_large.one();
                    }
                    self.say(refusal.text, refusal.quiet);
                }
            }
            if self.answers.len() > MAX_ANSWERS {
                self.send().await?;
            }
        }
    }

    /// Reads what comes next; whether the connection goes on.
    async fn read(
        &mut self,
        input: &mut BytesMut,
        arrival: Option<Instant>,
        stop: &CancellationToken,
    ) -> io::Result<bool> {
        // Room for a value was made when it was announced.
        if input.capacity() - input.len() < READ / 8 && arrival.is_none() {
            input.reserve(READ);
        }
        let reading = async {
            let reading = self.stream.read_buf(input);
            match arrival {
                Some(arrival) => timeout_at(arrival.min(Instant::now() + PAUSED), reading)
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                None => reading.await,
            }
        };
        let length = tokio::select! {
            () = stop.cancelled() => return Ok(false),
            length = reading => length?,
        };
        self.keys.counters.bytes_read.add(length as u64);
        Ok(length > 0)
    }

    async fn answer(
        &mut self,
        request: Request,
        room: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Next> {
        let request = match Wanted::of(request) {
            Ok(wanted) => {
                self.change(wanted, room).await?;
                return Ok(Next::Goes);
            }
            Err(request) => request,
        };
        self.settle().await?;
        match request {
            Request::Get(get) => self.get(get).await?,
            Request::Stats(kind) => {
                let text = stats::text(&self.keys, &self.port, &kind);
                self.answers.extend_from_slice(text.as_bytes());
            }
            Request::Version => self.say(&format!("VERSION {}", stats::VERSION), false),
            Request::Verbosity { quiet } => self.say("OK", quiet),
            _ => return Ok(Next::Ends),
        }
        Ok(Next::Goes)
    }

    /// Hands a change to the writer.
    async fn change(
        &mut self,
        wanted: Wanted,
        room: Option<OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        if self.pending.len() >= MAX_PENDING {
            self.settle().await?;
        }
        let change = Change {
            space: Arc::clone(&self.port.space),
            key: wanted.key,
            action: wanted.action,
        };
        match self.keys.store.submit(change).await {
            Ok(pending) => self.pending.push_back(Waiting {
                kind: wanted.kind,
                quiet: wanted.quiet,
                pending,
                _room: room,
            }),
            Err(error) => {
                self.settle().await?;
                self.say(answers::trouble(&error), wanted.quiet);
            }
        }
        Ok(())
    }

    /// Waits for all changes that are under way, and answers them.
    async fn settle(&mut self) -> io::Result<()> {
        while let Some(waiting) = self.pending.pop_front() {
            let outcome = waiting.pending.done().await;
            self.keys.counters.note(waiting.kind, &outcome);
            self.say(&answers::line(&outcome), waiting.quiet);
        }
        Ok(())
    }

    async fn get(&mut self, get: Get) -> io::Result<()> {
        if let Some(expiry) = get.touch {
            return self.get_and_touch(&get, answers::moment(expiry)).await;
        }
        let counters = Arc::clone(&self.keys);
        for key in &get.keys {
            match self.keys.store.find(&self.port.space, key).await {
                Ok(Some(found)) => {
                    counters.counters.get_hits.one();
                    if let Err(error) = self.value(key, &found, get.unique).await? {
                        self.say(answers::trouble(&error), false);
                        return Ok(());
                    }
                }
                Ok(None) => counters.counters.get_misses.one(),
                Err(error) => {
                    self.say(answers::trouble(&error), false);
                    return Ok(());
                }
            }
        }
        if !get.more {
            self.say("END", false);
        }
        Ok(())
    }

    async fn get_and_touch(&mut self, get: &Get, expires: u64) -> io::Result<()> {
        for some in get.keys.chunks(MAX_PENDING) {
            let mut touching = Vec::with_capacity(some.len());
            for key in some {
                let change = Change {
                    space: Arc::clone(&self.port.space),
                    key: key.clone(),
                    action: crate::host::keys::Action::Touch { expires },
                };
                touching.push((key, self.keys.store.submit(change).await));
            }
            for (key, pending) in touching {
                let outcome = match pending {
                    Ok(pending) => pending.done().await,
                    Err(error) => Err(error),
                };
                self.keys.counters.note(Kind::Touch, &outcome);
                let sent = match outcome {
                    Ok(Outcome::Touched(found)) => {
                        self.keys.counters.get_hits.one();
                        self.value(key, &found, get.unique).await?
                    }
                    Ok(_) => {
                        self.keys.counters.get_misses.one();
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = sent {
                    self.say(answers::trouble(&error), false);
                    return Ok(());
                }
            }
        }
        if !get.more {
            self.say("END", false);
        }
        Ok(())
    }

    /// Sends a value. The inner failure is the store's, before anything of it was sent.
    async fn value(
        &mut self,
        key: &Bytes,
        found: &Found,
        unique: bool,
    ) -> io::Result<Result<(), KeyError>> {
        let mut part = match self.keys.store.read(found, 0, PART).await {
            Ok(Some(part)) => part,
            // The file was opened again, and it was replaced meanwhile.
            Ok(None) => return Ok(Err(KeyError::Unavailable("it was replaced".into()))),
            Err(error) => return Ok(Err(error)),
        };
        self.answers.extend_from_slice(b"VALUE ");
        self.answers.extend_from_slice(key);
        let head = format!(" {} {}", found.head.flags, found.length());
        self.answers.extend_from_slice(head.as_bytes());
        if unique {
            let unique = format!(" {}", found.head.unique);
            self.answers.extend_from_slice(unique.as_bytes());
        }
        self.answers.extend_from_slice(b"\r\n");
        let mut sent = 0;
        loop {
            self.answers.extend_from_slice(&part);
            sent += part.len();
            if sent >= found.length() {
                break;
            }
            self.send().await?;
            let next = self.keys.store.read(found, sent, PART).await;
            part = match next {
                Ok(Some(next)) if !next.is_empty() => next,
                // Half of a value cannot be taken back.
                _ => return Err(io::Error::other("a value was replaced while it was sent")),
            };
        }
        self.answers.extend_from_slice(b"\r\n");
        if self.answers.len() > MAX_ANSWERS {
            self.send().await?;
        }
        Ok(Ok(()))
    }

    fn say(&mut self, text: &str, quiet: bool) {
        if !quiet {
            self.answers.extend_from_slice(text.as_bytes());
            self.answers.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was collected; a client that takes nothing for a while is given up.
    async fn send(&mut self) -> io::Result<()> {
        self.keys
            .counters
            .bytes_written
            .add(self.answers.len() as u64);
        while !self.answers.is_empty() {
            let sending = timeout(STALLED, self.stream.write_buf(&mut self.answers));
            let length = tokio::select! {
                () = self.port.cut.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
                sent = sending => sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?,
            };
            if length == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        // What a large answer took is given back.
        if self.answers.capacity() > 2 * MAX_ANSWERS {
            self.answers = BytesMut::new();
        }
        Ok(())
    }
}
