//! What somebody writes while it is sent: read once, by one server's worker or by those of several.

use super::servers::PATIENCE;
use crate::host::clock;
use crate::host::local::fill;
use crate::model::Mtime;
use crate::model::limits::MAX_PIECE;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Pieces that wait for the slowest server at most, of [`MAX_PIECE`] bytes.
const AHEAD: usize = 16;
/// How often somebody who waits for the slowest looks at it.
const LOOK: Duration = Duration::from_millis(500);
/// What became of somebody who was left behind.
pub(super) const LEFT_BEHIND: &str = "it took nothing for 10 s while others went on";

/// A stream of bytes.
pub struct Stream {
    from: Box<dyn Read + Send>,
    /// When it had ended: the same wherever it goes.
    ended: Arc<OnceLock<Mtime>>,
    left: CancellationToken,
}

impl Stream {
    /// A stream of what is read.
    #[must_use]
    pub fn new(from: Box<dyn Read + Send>) -> Self {
        Self {
            from,
            ended: Arc::default(),
            left: CancellationToken::new(),
        }
    }

    /// Cancelled when it took nothing for so long that the others go on without it.
    pub(super) fn left_behind(&self) -> &CancellationToken {
        &self.left
    }

    /// The modification time of a file that was made of it: the time at which somebody asked first.
    pub(super) fn mtime(&self) -> Mtime {
        *self.ended.get_or_init(|| {
            let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.unwrap_or_default();
            Mtime {
                secs: i64::try_from(now.as_secs()).unwrap_or(0),
                nanos: now.subsec_nanos(),
            }
        })
    }

    /// The same stream so many times. It is read once, and as fast as the slowest reads along; one that is dropped holds
    /// nobody up, and one that takes nothing for [`PATIENCE`] while another waits for it is left behind.
    pub(super) fn split(self, count: usize) -> Vec<Self> {
        let left: Vec<_> = (0..count).map(|_| CancellationToken::new()).collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                from: Some(self.from),
                pieces: VecDeque::new(),
                first: 0,
                readers: vec![Some(0); count],
                left: left.clone(),
                full_since: None,
                end: None,
            }),
            changed: Condvar::new(),
        });
        let reader = |number| Reader {
            shared: Arc::clone(&shared),
            number,
            rest: Bytes::new(),
        };
        let stream = |(number, left)| Self {
            from: Box::new(reader(number)),
            ended: Arc::clone(&self.ended),
            left,
        };
        left.into_iter().enumerate().map(stream).collect()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer)
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// None while one of the readers reads from it.
    from: Option<Box<dyn Read + Send>>,
    /// What some readers have not taken yet.
    pieces: VecDeque<Bytes>,
    /// The number of the first of them.
    first: usize,
    /// The number of the piece that each reader takes next; none once it is gone.
    readers: Vec<Option<usize>>,
    /// What tells each that it was left behind.
    left: Vec<CancellationToken>,
    /// Since when no more may be read before the slowest has taken something.
    full_since: Option<Instant>,
    end: Option<Result<(), (io::ErrorKind, String)>>,
}

impl State {
    /// The next piece of a reader, if it is here.
    fn take(&mut self, reader: usize) -> Option<Bytes> {
        let next = self.readers.get_mut(reader)?.as_mut()?;
        let piece = self.pieces.get(next.checked_sub(self.first)?)?.clone();
        *next += 1;
        self.forget();
        Some(piece)
    }

    /// Lets go of what nobody takes any more.
    fn forget(&mut self) {
        let all = self.first + self.pieces.len();
        let slowest = self.readers.iter().flatten().min().copied().unwrap_or(all);
        let over = slowest.saturating_sub(self.first).min(self.pieces.len());
        self.pieces.drain(..over);
        self.first += over;
        if self.pieces.len() < AHEAD {
            self.full_since = None;
        }
    }

    fn add(&mut self, piece: Bytes) {
        self.pieces.push_back(piece);
        if self.pieces.len() >= AHEAD {
            self.full_since = Some(clock::monotonic());
        }
    }

    /// Goes on without those that have held all others up for too long; whether there are any.
    fn leave_slowest(&mut self) -> bool {
        let is_due = self
            .full_since
            .is_some_and(|since| clock::monotonic().saturating_duration_since(since) >= PATIENCE);
        if !is_due {
            return false;
        }
        for (reader, left) in self.readers.iter_mut().zip(&self.left) {
            if *reader == Some(self.first) {
                *reader = None;
                left.cancel();
            }
        }
        self.forget();
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece of a reader; an empty one at the end.
    fn next(&self, reader: usize) -> io::Result<Bytes> {
        let mut state = self.lock();
        loop {
            if !matches!(state.readers.get(reader), Some(Some(_))) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, LEFT_BEHIND));
            }
            if let Some(piece) = state.take(reader) {
                self.changed.notify_all();
                return Ok(piece);
            }
            match &state.end {
                Some(Ok(())) => return Ok(Bytes::new()),
                Some(Err((kind, message))) => return Err(io::Error::new(*kind, message.clone())),
                None => {}
            }
            let room = state.pieces.len() < AHEAD;
            let Some(mut from) = room.then(|| state.from.take()).flatten() else {
                let waited = self.changed.wait_timeout(state, LOOK);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                if state.leave_slowest() {
                    self.changed.notify_all();
                }
                continue;
            };
            drop(state);
            let mut piece = vec![0; MAX_PIECE];
            let read = fill(&mut from, &mut piece);
            state = self.lock();
            state.from = Some(from);
            match read {
                Ok(count) => {
                    if count < piece.len() {
                        state.end = Some(Ok(()));
                    }
                    piece.truncate(count);
                    if count > 0 {
                        state.add(piece.into());
                    }
                }
                Err(error) => state.end = Some(Err((error.kind(), error.to_string()))),
            }
            self.changed.notify_all();
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    number: usize,
    /// What was not read of the piece that was taken last.
    rest: Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.shared.next(self.number)?;
        }
        let count = self.rest.len().min(buffer.len());
        let part = self.rest.split_to(count);
        buffer
            .get_mut(..count)
            .unwrap_or_default()
            .copy_from_slice(&part);
        Ok(count)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(reader) = state.readers.get_mut(self.number) {
            *reader = None;
        }
        state.forget();
        drop(state);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, Stream};
    use crate::model::limits::MAX_PIECE;
    use std::io::{self, Read};

    /// Bytes that come in odd parts, and then perhaps an error.
    struct Parts {
        left: usize,
        fails: bool,
    }

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("the plug was pulled"));
            }
            let count = buffer.len().min(self.left).min(70_001);
            for (index, byte) in buffer[..count].iter_mut().enumerate() {
                *byte = u8::try_from((self.left - index) % 251).unwrap();
            }
            self.left -= count;
            Ok(count)
        }
    }

    fn stream(left: usize, fails: bool) -> Stream {
        Stream::new(Box::new(Parts { left, fails }))
    }

    #[test]
    fn each_reads_all_and_one_that_goes_holds_nobody_up() {
        let length = 3 * AHEAD * MAX_PIECE + 12_345;
        let mut expected = Vec::new();
        stream(length, false).read_to_end(&mut expected).unwrap();
        assert_eq!(expected.len(), length);
        let mut streams = stream(length, false).split(4);
        drop(streams.pop());
        let mut begun = streams.pop().unwrap();
        let going = std::thread::spawn(move || {
            let mut some = vec![0; MAX_PIECE + 1];
            begun.read_exact(&mut some).unwrap();
            some
        });
        let times: Vec<_> = streams.iter().map(Stream::mtime).collect();
        assert_eq!(times[0], times[1]);
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).map(|_| all)
                })
            })
            .collect();
        assert!(expected.starts_with(&going.join().unwrap()));
        for reader in readers {
            assert!(reader.join().unwrap().unwrap() == expected);
        }
    }

    #[test]
    fn all_are_told_of_an_error() {
        for mut stream in stream(5, true).split(2) {
            let mut all = Vec::new();
            let error = stream.read_to_end(&mut all).unwrap_err();
            assert_eq!(error.to_string(), "the plug was pulled");
        }
    }
}
