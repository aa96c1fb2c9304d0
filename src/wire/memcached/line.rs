//! One line of the text protocol.

use super::{Get, MAX_KEY, Request, Store};
use bytes::Bytes;
use std::str::FromStr;

/// How a value is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// In any case.
    Set,
    /// If there is none.
    Add,
    /// If there is one.
    Replace,
    /// Behind the one that is there.
    Append,
    /// Before the one that is there.
    Prepend,
    /// If the one that is there has this unique number.
    Cas(u64),
}

/// What is answered to a line that is no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The answer, without its end.
    pub text: &'static str,
    /// Whether the client wants none.
    pub quiet: bool,
}

impl Refusal {
    pub(super) fn loud(text: &'static str) -> Self {
        Self { text, quiet: false }
    }
}

/// A line that says nothing.
pub(super) const UNKNOWN: Refusal = Refusal {
    text: "ERROR",
    quiet: false,
};
const FORMAT: &str = "CLIENT_ERROR bad command line format";
const EXPIRY: &str = "CLIENT_ERROR invalid exptime argument";
const DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
const DELETE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
const CHUNK: &str = "CLIENT_ERROR bad data chunk";

/// The longest value that can be announced, in bytes: more is not a length.
const MAX_ANNOUNCED: u64 = (i32::MAX - 2) as u64;

/// What a line is.
pub(super) enum Line {
    /// A whole request.
    Request(Request),
    /// A request whose value follows.
    Header(Header),
}

/// A request to store, without its value.
#[derive(Debug)]
pub(super) struct Header {
    verb: Verb,
    key: Bytes,
    flags: u32,
    expiry: i64,
    /// Bytes of the value.
    pub(super) length: usize,
    /// Whether there is no answer.
    pub(super) quiet: bool,
}

impl Header {
    pub(super) fn with(&self, value: Bytes) -> Store {
        Store {
            verb: self.verb,
            key: self.key.clone(),
            flags: self.flags,
            expiry: self.expiry,
            value,
            quiet: self.quiet,
        }
    }
}

/// Whether a line that is not complete yet lists keys.
pub(super) fn is_many_keys(input: &[u8]) -> bool {
    let mut words = words(input);
    matches!(words.next(), Some(b"get" | b"gets" | b"gat" | b"gats"))
}

/// Whether a line, complete or not, is one of HTTP: any web page can make a browser send it, with commands behind it.
pub(super) fn is_http(input: &[u8]) -> bool {
    const STARTS: [&[u8]; 5] = [b"POST ", b"PUT ", b"GET /", b"HEAD /", b"OPTIONS "];
    STARTS.iter().any(|start| input.starts_with(start))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
}

/// Reads a whole line.
pub(super) fn parse(line: &Bytes) -> Result<Line, Refusal> {
    let all: Vec<&[u8]> = words(line).collect();
    let (command, rest) = all.split_first().ok_or(UNKNOWN)?;
    let verb = match *command {
        b"get" => return get(line, rest, false),
        b"gets" => return get(line, rest, true),
        b"gat" => return touching(line, rest, false),
        b"gats" => return touching(line, rest, true),
        b"set" => Verb::Set,
        b"add" => Verb::Add,
        b"replace" => Verb::Replace,
        b"append" => Verb::Append,
        b"prepend" => Verb::Prepend,
        b"cas" => Verb::Cas(0),
        other => return plain(line, other, rest).map(Line::Request),
    };
    let quiet = is_quiet(rest);
    store(line, verb, rest, quiet)
        .map(Line::Header)
        .map_err(|text| Refusal {
            text,
            quiet: quiet && text != UNKNOWN.text,
        })
}

fn is_quiet(rest: &[&[u8]]) -> bool {
    rest.last() == Some(&b"noreply".as_slice())
}

fn plain(line: &Bytes, command: &[u8], rest: &[&[u8]]) -> Result<Request, Refusal> {
    let quiet = is_quiet(rest);
    let refuse = |text| Refusal { text, quiet };
    Ok(match (command, rest) {
        (b"delete", [name, more @ ..]) => {
            let good = matches!(more, [] | [b"0" | b"noreply"] | [b"0", b"noreply"]);
            if !good {
                return Err(refuse(DELETE));
            }
            Request::Delete {
                key: key(line, name).map_err(refuse)?,
                quiet,
            }
        }
        (b"incr" | b"decr", [name, by] | [name, by, _]) => Request::Count {
            key: key(line, name).map_err(refuse)?,
            up: command == b"incr",
            by: number(by, DELTA).map_err(refuse)?,
            quiet,
        },
        (b"touch", [name, expiry] | [name, expiry, _]) => Request::Touch {
            key: key(line, name).map_err(refuse)?,
            expiry: number(expiry, EXPIRY).map_err(refuse)?,
            quiet,
        },
        (b"flush_all", [] | [b"noreply"]) => Request::Flush { delay: 0, quiet },
        (b"flush_all", [delay] | [delay, _]) => Request::Flush {
            delay: number(delay, EXPIRY).map_err(refuse)?,
            quiet,
        },
        (b"verbosity", [b"noreply"]) => Request::Verbosity { quiet },
        (b"verbosity", [level] | [level, _]) => {
            let _unused: u32 = number(level, FORMAT).map_err(refuse)?;
            Request::Verbosity { quiet }
        }
        (b"stats", []) => Request::Stats(Bytes::new()),
        (b"stats", [kind, ..]) => Request::Stats(line.slice_ref(kind)),
        (b"version", _) => Request::Version,
        (b"quit", _) => Request::Quit,
        _ => return Err(UNKNOWN),
    })
}

fn get(line: &Bytes, rest: &[&[u8]], unique: bool) -> Result<Line, Refusal> {
    if rest.is_empty() {
        return Err(UNKNOWN);
    }
    getting(line, rest, unique, None)
}

fn touching(line: &Bytes, rest: &[&[u8]], unique: bool) -> Result<Line, Refusal> {
    let (expiry, rest) = rest.split_first().ok_or(UNKNOWN)?;
    let expiry = number(expiry, EXPIRY).map_err(Refusal::loud)?;
    getting(line, rest, unique, Some(expiry))
}

fn getting(
    line: &Bytes,
    words: &[&[u8]],
    unique: bool,
    touch: Option<i64>,
) -> Result<Line, Refusal> {
    let keys: Result<Vec<Bytes>, &str> = words.iter().map(|word| key(line, word)).collect();
    Ok(Line::Request(Request::Get(Get {
        unique,
        touch,
        keys: keys.map_err(Refusal::loud)?,
        more: false,
    })))
}

/// The keys of a part of a line.
pub(super) fn keys(line: &Bytes) -> Result<Vec<Bytes>, Refusal> {
    let keys: Result<_, &str> = words(line).map(|word| key(line, word)).collect();
    keys.map_err(Refusal::loud)
}

fn store(line: &Bytes, verb: Verb, rest: &[&[u8]], quiet: bool) -> Result<Header, &'static str> {
    let (name, flags, expiry, length, verb) = match (verb, rest) {
        // The short form.
        (Verb::Set, [name, length]) => (name, 0, 0, length, verb),
        (
            Verb::Cas(_),
            [name, flags, expiry, length, unique] | [name, flags, expiry, length, unique, _],
        ) => (
            name,
            number(flags, FORMAT)?,
            number(expiry, FORMAT)?,
            length,
            Verb::Cas(number(unique, FORMAT)?),
        ),
        (Verb::Cas(_), _) => return Err(UNKNOWN.text),
        (_, [name, flags, expiry, length] | [name, flags, expiry, length, _]) => (
            name,
            number(flags, FORMAT)?,
            number(expiry, FORMAT)?,
            length,
            verb,
        ),
        _ => return Err(UNKNOWN.text),
    };
    let length: u64 = number(length, FORMAT)?;
    if length > MAX_ANNOUNCED {
        return Err(CHUNK);
    }
    Ok(Header {
        verb,
        key: key(line, name)?,
        flags,
        expiry,
        length: usize::try_from(length).map_err(|_| CHUNK)?,
        quiet,
    })
}

/// A key: visible bytes, at most [`MAX_KEY`].
fn key(line: &Bytes, word: &[u8]) -> Result<Bytes, &'static str> {
    if word.len() > MAX_KEY || word.iter().any(u8::is_ascii_control) {
        return Err(FORMAT);
    }
    // Of its own: a key that waits must not hold the whole buffer that it came in.
    Ok(if line.len() > 2 * MAX_KEY {
        Bytes::copy_from_slice(word)
    } else {
        line.slice_ref(word)
    })
}

fn number<T: FromStr>(word: &[u8], refusal: &'static str) -> Result<T, &'static str> {
    let text = str::from_utf8(word).map_err(|_| refusal)?;
    text.parse().map_err(|_| refusal)
}
