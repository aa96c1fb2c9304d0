//! Frames over a stream: one loop that reads, one that writes with urgent frames before bulk ones.
//!
//! Every wait has a deadline: a read that brings nothing and a write that moves nothing for
//! [`SILENCE_SECONDS`] end the connection.

use super::packing::{Line, Transfer};
use crate::host::clock;
use crate::model::limits::{MAX_BODY, MAX_HEADER, SILENCE_SECONDS};
use crate::wire::{Deframer, Frame, FrameError, PREFIX, Request, prefix};
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// A frame on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    head: Head,
    body: Bytes,
}

#[derive(Debug, Clone)]
enum Head {
    Ready(Vec<u8>),
    /// It is decided when its turn comes whether its body goes packed.
    Open(Box<Request>),
}

// Header types hold strings, numbers and lists only: they always serialise.
fn header<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

impl Outgoing {
    /// A message with its body.
    #[must_use]
    pub fn new<T: Serialize>(message: &T, body: impl Into<Bytes>) -> Self {
        Self {
            head: Head::Ready(header(message)),
            body: body.into(),
        }
    }

    /// A request of the client with its body, which goes packed if that pays when its turn comes.
    #[must_use]
    pub fn packable(request: Request, body: impl Into<Bytes>) -> Self {
        let head = match request {
            Request::Mutate { .. } => Head::Open(Box::new(request)),
            other => Head::Ready(header(&other)),
        };
        let body = body.into();
        Self { head, body }
    }

    /// Appends it to what is written next. What is left of a long body is given back, to be written as it lies there.
    fn put(self, packing: Option<&mut Packing>, buffer: &mut Vec<u8>) -> Bytes {
        let (head, mut body) = match self.head {
            Head::Ready(head) => (head, self.body),
            Head::Open(request) => packed(*request, self.body, packing),
        };
        trace("sent", &head, &body);
        let front = if body.len() < LONG {
            body.len()
        } else {
            RECORD - (buffer.len() + PREFIX + head.len()) % RECORD
        };
        prefix(&head, &body, buffer);
        buffer.extend_from_slice(&body.split_to(front));
        body
    }
}

/// The header of a request, and its body, packed if that pays.
fn packed(mut request: Request, body: Bytes, packing: Option<&mut Packing>) -> (Vec<u8>, Bytes) {
    let packed = packing.and_then(|to| to.transfer.pack(&to.line, &body, MAX_BODY as usize));
    match (packed, &mut request) {
        (Some((packed, size)), Request::Mutate { zstd, .. }) => {
            *zstd = Some(size);
            (header(&request), packed.into())
        }
        _ => (header(&request), body),
    }
}

/// What is known of the line, and of what goes over it as it comes.
#[derive(Debug)]
struct Packing {
    line: Arc<Mutex<Line>>,
    transfer: Transfer,
}

/// Where frames are left for the writing loop. Both queues are bounded; urgent frames overtake bulk ones.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Small changes, answers, signs of life.
    pub urgent: mpsc::Sender<Outgoing>,
    /// Pieces of large transfers.
    pub bulk: mpsc::Sender<Outgoing>,
}

/// The other end of an [`Outbox`].
#[derive(Debug)]
pub struct OutboxReader {
    urgent: mpsc::Receiver<Outgoing>,
    bulk: mpsc::Receiver<Outgoing>,
    sent: Arc<AtomicU64>,
    pace: Pace,
    packing: Option<Packing>,
}

impl OutboxReader {
    /// The same, which writes at most so many bytes a second.
    #[must_use]
    pub fn limited_to(self, rate: Option<u64>) -> Self {
        Self {
            pace: Pace { rate, paid: None },
            ..self
        }
    }

    /// The same, which notes what the line carries, and packs what may be packed while that pays.
    #[must_use]
    pub(crate) fn over(self, line: &Arc<Mutex<Line>>) -> Self {
        let packing = Some(Packing {
            line: Arc::clone(line),
            transfer: Transfer::default(),
        });
        Self { packing, ..self }
    }

    /// Notes that bytes were written.
    fn wrote(&mut self, bytes: usize, writing: Duration, resting: Duration) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.pace.wrote(bytes);
        if let Some(packing) = &self.packing {
            let line = packing.line.lock();
            let mut line = line.unwrap_or_else(PoisonError::into_inner);
            line.wrote(bytes, writing, resting);
        }
    }

    /// The same, which adds the bytes that were written, before encryption, to a sum.
    #[must_use]
    pub fn counted_in(self, sent: &Arc<AtomicU64>) -> Self {
        Self {
            sent: Arc::clone(sent),
            ..self
        }
    }
}

/// Makes a pair of queues: `urgent` frames deep, and two bulk frames.
#[must_use]
pub fn outbox(urgent: usize) -> (Outbox, OutboxReader) {
    let (urgent_in, urgent_out) = mpsc::channel(urgent);
    let (bulk_in, bulk_out) = mpsc::channel(2);
    (
        Outbox {
            urgent: urgent_in,
            bulk: bulk_in,
        },
        OutboxReader {
            urgent: urgent_out,
            bulk: bulk_out,
            sent: Arc::default(),
            pace: Pace::default(),
            packing: None,
        },
    )
}

/// Spreads writes over the time.
#[derive(Debug, Default)]
struct Pace {
    /// Bytes a second.
    rate: Option<u64>,
    /// When the line would have carried what was written so far.
    paid: Option<Instant>,
}

/// After a rest, so much is written at once.
const BURST: Duration = Duration::from_millis(50);

impl Pace {
    /// How much is written without a pause, and without a look at the time.
    fn slice(&self) -> usize {
        let slice = self.rate.map_or(u64::MAX, |rate| (rate / 20).max(4096));
        usize::try_from(slice).unwrap_or(usize::MAX).min(GATHER)
    }

    /// Waits until what was written is paid for.
    async fn ready(&self) {
        if let Some(paid) = self.paid {
            sleep(paid.saturating_duration_since(clock::monotonic())).await;
        }
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some(rate) = self.rate {
            let now = clock::monotonic();
            let rested = now.checked_sub(BURST).unwrap_or(now);
            let from = self.paid.map_or(rested, |paid| paid.max(rested));
            let nanos = u128::from(rate).max(1);
            let cost = (bytes as u128 * 1_000_000_000 / nanos).try_into();
            self.paid = Some(from + Duration::from_nanos(cost.unwrap_or(u64::MAX / 1000)));
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came, or nothing could be sent, for too long.
    #[error("the peer was silent for {SILENCE_SECONDS} s")]
    Silent,
    /// What came is no frame.
    #[error("the peer does not speak the protocol")]
    Frame(#[from] FrameError),
    /// The line failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// How many bytes are gathered into one write at most, unless a single frame is larger.
const GATHER: usize = 128 * 1024;
/// Bodies that are longer are not copied on their way out, in bytes.
const LONG: usize = 64 * 1024;
/// What a record of TLS carries, in bytes: what is copied of a long body fills one up.
const RECORD: usize = 16 * 1024;

/// Writes frames until both queues are closed and empty, then shuts the stream down.
///
/// # Errors
/// When the line fails or nothing can be written within the deadline.
pub async fn write_loop<W: AsyncWrite + Unpin>(
    mut queue: OutboxReader,
    mut stream: W,
) -> Result<(), PumpError> {
    let mut buffer = Vec::with_capacity(GATHER);
    let (mut urgent_open, mut bulk_open) = (true, true);
    while urgent_open || bulk_open {
        buffer.clear();
        let mut begun = clock::monotonic();
        // Before it is chosen what goes next, so that what is urgent overtakes what is not written yet.
        queue.pace.ready().await;
        let waited = clock::monotonic();
        let mut rest = Bytes::new();
        tokio::select! {
            biased;
            frame = queue.urgent.recv(), if urgent_open => match frame {
                Some(frame) => rest = frame.put(queue.packing.as_mut(), &mut buffer),
                None => urgent_open = false,
            },
            frame = queue.bulk.recv(), if bulk_open => match frame {
                Some(frame) => rest = frame.put(queue.packing.as_mut(), &mut buffer),
                None => bulk_open = false,
            },
        }
        while buffer.len() < GATHER
            && rest.is_empty()
            && let Ok(frame) = queue.urgent.try_recv()
        {
            rest = frame.put(queue.packing.as_mut(), &mut buffer);
        }
        let mut resting = waited.elapsed();
        let slice = queue.pace.slice();
        for slice in buffer.chunks(slice).chain(rest.chunks(slice)) {
            queue.pace.ready().await;
            within(stream.write_all(slice)).await?;
            within(stream.flush()).await?;
            let writing = begun.elapsed().saturating_sub(resting);
            queue.wrote(slice.len(), writing, resting);
            begun = clock::monotonic();
            resting = Duration::ZERO;
        }
        if buffer.capacity() > 8 * GATHER {
            buffer = Vec::with_capacity(GATHER);
        }
    }
    within(stream.shutdown()).await
}

/// Names a message of a session, without its body, in the log of those who want each of them.
fn trace(way: &str, header: &[u8], body: &[u8]) {
    tracing::trace!(header = %String::from_utf8_lossy(header), body = body.len(), "{way}");
}

async fn within(work: impl Future<Output = io::Result<()>>) -> Result<(), PumpError> {
    match timeout(Duration::from_secs(SILENCE_SECONDS), work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(PumpError::Silent),
    }
}

/// Room that a read finds at least, in bytes.
const READ: usize = 64 * 1024;

/// Reads frames one after the other.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    deframer: Deframer,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader with the limits of an authenticated session.
    pub fn new(stream: R) -> Self {
        Self::with_limits(stream, MAX_HEADER, MAX_BODY)
    }

    /// A reader with limits of its own, in bytes.
    pub fn with_limits(stream: R, max_header: u32, max_body: u32) -> Self {
        Self {
            stream,
            deframer: Deframer::new(max_header, max_body),
            buffer: BytesMut::new(),
        }
    }

    /// The next frame. The state between two reads is in `self`, so dropping the future loses no byte.
    ///
    /// # Errors
    /// When the line ends, fails, is silent for too long, or carries something else.
    pub async fn next(&mut self) -> Result<Frame, PumpError> {
        loop {
            if let Some(frame) = self.deframer.next(&mut self.buffer)? {
                trace("received", &frame.header, &frame.body);
                return Ok(frame);
            }
            let lacks = self.deframer.lacks(&self.buffer);
            self.buffer.reserve(lacks.max(READ));
            let read = self.stream.read_buf(&mut self.buffer);
            match timeout(Duration::from_secs(SILENCE_SECONDS), read).await {
                Ok(Ok(0)) => return Err(PumpError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(PumpError::Silent),
            }
        }
    }

    /// Reads and forgets what still comes, until the peer closes the line: to close it while bytes are unread resets it, and
    /// what was said last may be lost with it.
    pub async fn drain(mut self) {
        self.buffer.clear();
        while let Ok(1..) = self.stream.read_buf(&mut self.buffer).await {
            self.buffer.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameReader, GATHER, LONG, Outgoing, outbox, write_loop};
    use crate::wire::Request;

    #[tokio::test]
    async fn a_limited_line_takes_its_time() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (outbox, queue) = outbox(4);
        let frame = Outgoing::new(
            &Request::UploadData {
                upload: 1,
                zstd: None,
            },
            vec![7; 200_000],
        );
        outbox.bulk.send(frame).await.unwrap();
        drop(outbox);
        let start = crate::host::clock::monotonic();
        write_loop(queue.limited_to(Some(1_000_000)), near)
            .await
            .unwrap();
        // Neither the first slice nor the last is waited for.
        let took = start.elapsed();
        assert!(took.as_millis() >= 80, "{took:?}");
        assert_eq!(
            FrameReader::new(far).next().await.unwrap().body.len(),
            200_000
        );
    }

    #[tokio::test]
    async fn bodies_of_all_lengths_come_as_they_were() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (outbox, queue) = outbox(64);
        let request = Request::UploadData {
            upload: 1,
            zstd: None,
        };
        let body = |length: usize| (0..=250u8).cycle().take(length).collect::<Vec<_>>();
        let lengths = [0, 1, LONG - 1, LONG, LONG + 1, 3 * GATHER + 7];
        // Of the urgent ones several go at once.
        let lengths = lengths
            .iter()
            .flat_map(|first| lengths.map(|then| [*first, then]));
        let sent: Vec<usize> = lengths.flatten().collect();
        let sending = async {
            for length in &sent {
                let frame = Outgoing::new(&request, body(*length));
                outbox.urgent.send(frame).await.unwrap();
            }
            drop(outbox);
        };
        let receiving = async {
            let mut reader = FrameReader::new(far);
            for length in &sent {
                assert_eq!(reader.next().await.unwrap().body, body(*length));
            }
        };
        let (written, (), ()) = tokio::join!(write_loop(queue, near), sending, receiving);
        written.unwrap();
    }

    #[tokio::test]
    async fn urgent_frames_overtake_bulk_ones() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (outbox, queue) = outbox(4);
        outbox
            .bulk
            .send(Outgoing::new(
                &Request::UploadData {
                    upload: 1,
                    zstd: None,
                },
                vec![7; 1000],
            ))
            .await
            .unwrap();
        outbox
            .urgent
            .send(Outgoing::new(&Request::Ping {}, Vec::new()))
            .await
            .unwrap();
        drop(outbox);
        write_loop(queue, near).await.unwrap();
        let mut reader = FrameReader::new(far);
        assert_eq!(
            &reader.next().await.unwrap().header[..],
            br#"{"op":"ping"}"#
        );
        assert_eq!(reader.next().await.unwrap().body.len(), 1000);
        assert!(reader.next().await.is_err());
    }
}
