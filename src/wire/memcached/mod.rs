//! The classic text protocol of memcached (its `protocol.txt`): bytes to requests.
//!
//! [`Parser`] is a function of the bytes that it was fed, however they were split. It holds no more of them than a value that
//! was announced, or one line; who drives it bounds the values. It owns no store, no clock and no socket: what a request
//! means is in `daemon/keys`.
//!
//! Beside the protocol's own form there is a short one for people at a terminal: `set KEY SIZE`, then the value.

use bytes::{Buf, Bytes, BytesMut};

mod line;

use line::{Header, Line, is_http, is_many_keys};
pub use line::{Refusal, Verb};

/// Longest key, in bytes: memcached's own bound.
pub const MAX_KEY: usize = 250;
/// Longest line that names no list of keys, in bytes. Lists of keys are as long as they like.
pub const MAX_LINE: usize = 2048;
/// What a client of memcached's binary protocol begins with, which would wait for ever for an answer that it knows.
const BINARY: u8 = 0x80;
/// What ends a line, or a value.
const CRLF: usize = 2;

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// `get`, `gets`, `gat`, `gats`.
    Get(Get),
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    Store(Store),
    /// `delete`.
    Delete {
        /// Which.
        key: Bytes,
        /// Whether there is no answer.
        quiet: bool,
    },
    /// `incr`, `decr`.
    Count {
        /// Which.
        key: Bytes,
        /// Whether it grows.
        up: bool,
        /// By how much.
        by: u64,
        /// Whether there is no answer.
        quiet: bool,
    },
    /// `touch`.
    Touch {
        /// Which.
        key: Bytes,
        /// The new expiry, as the protocol has it.
        expiry: i64,
        /// Whether there is no answer.
        quiet: bool,
    },
    /// `flush_all`.
    Flush {
        /// When, as an expiry; 0 and what is past for at once.
        delay: i64,
        /// Whether there is no answer.
        quiet: bool,
    },
    /// `stats`, with what kind of them.
    Stats(Bytes),
    /// `version`.
    Version,
    /// `verbosity`, which changes nothing.
    Verbosity {
        /// Whether there is no answer.
        quiet: bool,
    },
    /// `quit`, or what is no memcached text at all: HTTP, the binary protocol.
    Quit,
}

/// A request for values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Get {
    /// Whether the unique numbers are wanted (`gets`, `gats`).
    pub unique: bool,
    /// The new expiry (`gat`, `gats`).
    pub touch: Option<i64>,
    /// Which.
    pub keys: Vec<Bytes>,
    /// Whether more keys of the same request follow, so that its end is not answered yet.
    pub more: bool,
}

/// A request to store a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// How.
    pub verb: Verb,
    /// Where.
    pub key: Bytes,
    /// What the client wants to remember of it.
    pub flags: u32,
    /// When it ends, as the protocol has it: 0 never, negative at once, up to 30 days relative, else seconds since 1970.
    pub expiry: i64,
    /// The value.
    pub value: Bytes,
    /// Whether there is no answer.
    pub quiet: bool,
}

/// What the bytes so far amount to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing yet: more bytes are needed.
    More,
    /// A value of so many bytes follows, which will be held until it is complete. [`Parser::decline`] skips it instead.
    Expect(usize),
    /// A request.
    Request(Request),
    /// Not a request; the connection goes on.
    Refused(Refusal),
}

#[derive(Debug)]
enum State {
    /// At the start of a line.
    Line,
    /// Behind the first keys of a request for many.
    Keys { unique: bool, touch: Option<i64> },
    /// At the start of a value.
    Value(Header),
    /// In what is not wanted: so many bytes more.
    Skip(u64),
    /// In a line that is not wanted.
    SkipLine,
    /// In something else than this protocol: nothing of what follows is meant.
    Foreign,
}

/// Cuts a stream of bytes into requests.
#[derive(Debug)]
pub struct Parser {
    max_value: usize,
    state: State,
    /// Bytes at the front of the input that hold no end of a line.
    searched: usize,
    /// Whether nothing came yet.
    is_first: bool,
}

impl Parser {
    /// A parser that refuses values of more than `max_value` bytes.
    #[must_use]
    pub fn new(max_value: usize) -> Self {
        Self {
            max_value,
            state: State::Line,
            searched: 0,
            is_first: true,
        }
    }

    /// Takes what is complete from the front of `input`. To be called again until it says [`Step::More`].
    pub fn step(&mut self, input: &mut BytesMut) -> Step {
        loop {
            match &mut self.state {
                State::Line => return self.line(input),
                State::Keys { unique, touch } => {
                    let (unique, touch) = (*unique, *touch);
                    return self.keys(input, unique, touch);
                }
                State::Value(header) => {
                    if input.len() < header.length + CRLF {
                        return Step::More;
                    }
                    let store = header.with(input.split_to(header.length).freeze());
                    let end = input.split_to(CRLF);
                    self.state = State::Line;
                    if end.as_ref() == b"\r\n" {
                        return Step::Request(Request::Store(store));
                    }
                    return Step::Refused(Refusal::loud("CLIENT_ERROR bad data chunk"));
                }
                State::Foreign => {
                    input.clear();
                    return Step::More;
                }
                State::Skip(left) => {
                    let here = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    input.advance(here);
                    *left -= here as u64;
                    if *left > 0 {
                        return Step::More;
                    }
                    self.state = State::Line;
                }
                State::SkipLine => match input.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        input.advance(end + 1);
                        self.state = State::Line;
                    }
                    None => {
                        input.clear();
                        return Step::More;
                    }
                },
            }
        }
    }

    /// Skips the value that was announced last.
    pub fn decline(&mut self) {
        if let State::Value(header) = &self.state {
            self.state = State::Skip((header.length + CRLF) as u64);
        }
    }

    /// Whether the announced value wants no answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(&self.state, State::Value(header) if header.quiet)
    }

    /// The next whole line without its end.
    fn whole_line(&mut self, input: &mut BytesMut) -> Option<Bytes> {
        let unseen = input.get(self.searched..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = input.len();
            return None;
        };
        let mut line = input.split_to(self.searched + end + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(line.freeze())
    }

    fn line(&mut self, input: &mut BytesMut) -> Step {
        let is_first = self.is_first;
        self.is_first &= input.is_empty();
        if is_http(input) || is_first && input.first() == Some(&BINARY) {
            self.state = State::Foreign;
            return Step::Request(Request::Quit);
        }
        if let Some(line) = self.whole_line(input) {
            if line.len() > MAX_LINE && !is_many_keys(&line) {
                return Step::Refused(line::UNKNOWN);
            }
            return match line::parse(&line) {
                Ok(Line::Request(request)) => Step::Request(request),
                Ok(Line::Header(header)) if header.length > self.max_value => {
                    self.state = State::Skip((header.length + CRLF) as u64);
                    Step::Refused(Refusal {
                        text: "SERVER_ERROR object too large for cache",
                        quiet: header.quiet,
                    })
                }
                Ok(Line::Header(header)) => {
                    let length = header.length;
                    self.state = State::Value(header);
                    Step::Expect(length)
                }
                Err(refusal) => Step::Refused(refusal),
            };
        }
        // Two bytes for an end that may be on its way.
        if input.len() <= MAX_LINE + CRLF {
            return Step::More;
        }
        self.begin_of_long(input)
    }

    /// A line that is longer than it may be, or lists keys.
    fn begin_of_long(&mut self, input: &mut BytesMut) -> Step {
        self.searched = 0;
        if is_many_keys(input) {
            match line::parse(&front(input)) {
                Ok(Line::Request(Request::Get(mut get))) => {
                    get.more = true;
                    self.state = State::Keys {
                        unique: get.unique,
                        touch: get.touch,
                    };
                    return Step::Request(Request::Get(get));
                }
                Ok(Line::Request(_) | Line::Header(_)) => {}
                Err(refusal) => {
                    self.state = State::SkipLine;
                    return Step::Refused(refusal);
                }
            }
        }
        self.state = State::SkipLine;
        Step::Refused(line::UNKNOWN)
    }

    fn keys(&mut self, input: &mut BytesMut, unique: bool, touch: Option<i64>) -> Step {
        let (words, more) = match self.whole_line(input) {
            Some(line) => (line, false),
            None if input.len() <= MAX_LINE => return Step::More,
            None => {
                self.searched = 0;
                (front(input), true)
            }
        };
        match line::keys(&words) {
            Ok(keys) => {
                if !more {
                    self.state = State::Line;
                }
                Step::Request(Request::Get(Get {
                    unique,
                    touch,
                    keys,
                    more,
                }))
            }
            Err(refusal) => {
                self.state = if more { State::SkipLine } else { State::Line };
                Step::Refused(refusal)
            }
        }
    }
}

/// The whole words at the front, or all when there is but one, which is then longer than a key.
fn front(input: &mut BytesMut) -> Bytes {
    let space = input.iter().rposition(|byte| *byte == b' ');
    let end = space.filter(|space| *space > 0).unwrap_or(input.len());
    input.split_to(end).freeze()
}

#[cfg(test)]
mod tests;
