//! The keys of a share, over a connection to its server.

use super::Connection;
use crate::daemon::client::ClientError;
use crate::host::pki::clean_text;
use crate::wire::{
    Code, KeyAnswer, KeyAsk, KeyEntry, KeyMode, KeyRequest, ListedKey, Request, Response, WireBytes,
};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of one piece of a value: every server takes as much.
const PIECE: usize = 1024 * 1024;
/// How long an answer may take: a disk that is slow, not a server that is gone.
const ANSWER: Duration = Duration::from_secs(60);
/// How often a value that is replaced while it is read is read anew.
const MAX_REPLACED: usize = 16;
/// Longest text of a server that is shown, in characters.
const MAX_TEXT: usize = 400;

/// Why something was not done with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFailure {
    /// The connection ended.
    #[error(transparent)]
    Line(#[from] ClientError),
    /// There is no such key.
    #[error("NOT_FOUND")]
    NotFound,
    /// The condition does not hold.
    #[error("NOT_STORED")]
    NotStored,
    /// The value has another unique number.
    #[error("EXISTS")]
    Exists,
    /// The server could not.
    #[error("{message}")]
    Remote {
        /// The class of failure.
        code: Code,
        /// What the server says, made fit to be shown.
        message: String,
    },
    /// The answer did not come, or does not fit the question.
    #[error("{0}")]
    Unfit(&'static str),
}

/// How a value is stored.
#[derive(Clone, Copy, Debug)]
pub struct Storing {
    /// On which condition.
    pub mode: KeyMode,
    /// The unique number that is meant by [`KeyMode::IfUnique`].
    pub unique: u64,
    /// What is remembered with it.
    pub flags: u32,
    /// For how long; none for ever.
    pub lasts: Option<Duration>,
}

/// A value with what is known of it.
#[derive(Clone, Debug)]
pub struct Value {
    /// What is known of it.
    pub entry: KeyEntry,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Some keys in order.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The keys.
    pub entries: Vec<ListedKey>,
    /// Behind which key to go on; none at the end.
    pub next: Option<WireBytes>,
}

/// Asks for the keys of the share that a connection is about.
#[derive(Clone, Copy, Debug)]
pub struct RemoteKeys<'a>(pub &'a Connection);

impl RemoteKeys<'_> {
    /// The value of a key. A value that is replaced while it is read is read anew: it is never made of two.
    ///
    /// # Errors
    /// When there is none, or the server cannot.
    pub async fn get(&self, key: &[u8]) -> Result<Value, KeyFailure> {
        for _ in 0..MAX_REPLACED {
            if let Some(value) = self.get_once(key).await? {
                return Ok(value);
            }
        }
        Err(KeyFailure::Unfit("the value is replaced all the time"))
    }

    /// None when it was replaced while it was read.
    async fn get_once(&self, key: &[u8]) -> Result<Option<Value>, KeyFailure> {
        let mut value: Option<Value> = None;
        loop {
            let ask = KeyAsk::Get {
                key: WireBytes::new(key),
                start: value.as_ref().map_or(0, |value| value.bytes.len() as u64),
                unique: value.as_ref().map(|value| value.entry.unique),
            };
            let (entry, part) = match self.ask(ask, Bytes::new()).await? {
                (KeyAnswer::Value { entry }, part) => (entry, part),
                (KeyAnswer::Exists {}, _) => return Ok(None),
                (KeyAnswer::Missing {}, _) if value.is_some() => return Ok(None),
                (KeyAnswer::Missing {}, _) => return Err(KeyFailure::NotFound),
                other => return Err(unfit(other.0)),
            };
            let value = value.get_or_insert(Value {
                entry,
                bytes: Vec::new(),
            });
            value.bytes.extend_from_slice(&part);
            let length = value.bytes.len() as u64;
            if length == value.entry.size {
                return Ok(Some(value.clone()));
            }
            if part.is_empty() || length > value.entry.size {
                return Err(KeyFailure::Unfit(
                    "the server sent another value than it announced",
                ));
            }
        }
    }

    /// Stores a value durably; its unique number.
    ///
    /// # Errors
    /// When the condition does not hold, or the server cannot.
    pub async fn set(&self, key: &[u8], value: Bytes, how: Storing) -> Result<u64, KeyFailure> {
        let mut rest = value;
        let mut pieces = None;
        while rest.len() > PIECE {
            let number = *pieces.get_or_insert_with(|| self.0.id());
            let piece = rest.split_to(PIECE);
            match self.ask(KeyAsk::Piece { value: number }, piece).await? {
                (KeyAnswer::Taken {}, _) => {}
                (other, _) => return Err(unfit(other)),
            }
        }
        let lasts = how.lasts.map(|lasts| lasts.as_millis());
        let ask = KeyAsk::Set {
            key: WireBytes::new(key),
            mode: how.mode,
            unique: how.unique,
            flags: how.flags,
            lasts_ms: lasts.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            pieces,
        };
        match self.ask(ask, rest).await?.0 {
            KeyAnswer::Stored { unique } => Ok(unique),
            KeyAnswer::NotStored {} => Err(KeyFailure::NotStored),
            KeyAnswer::Exists {} => Err(KeyFailure::Exists),
            KeyAnswer::Missing {} => Err(KeyFailure::NotFound),
            other => Err(unfit(other)),
        }
    }

    /// Removes a key durably.
    ///
    /// # Errors
    /// When there is none, or the server cannot.
    pub async fn delete(&self, key: &[u8]) -> Result<(), KeyFailure> {
        let key = WireBytes::new(key);
        match self.ask(KeyAsk::Delete { key }, Bytes::new()).await?.0 {
            KeyAnswer::Deleted {} => Ok(()),
            KeyAnswer::Missing {} => Err(KeyFailure::NotFound),
            other => Err(unfit(other)),
        }
    }

    /// Some keys that begin with `prefix`, those behind `after`.
    ///
    /// # Errors
    /// When the server cannot.
    pub async fn list(&self, prefix: &[u8], after: Option<WireBytes>) -> Result<Keys, KeyFailure> {
        let prefix = WireBytes::new(prefix);
        let ask = KeyAsk::List { prefix, after };
        match self.ask(ask, Bytes::new()).await?.0 {
            KeyAnswer::Listed { entries, next } => Ok(Keys { entries, next }),
            other => Err(unfit(other)),
        }
    }

    async fn ask(&self, ask: KeyAsk, body: Bytes) -> Result<(KeyAnswer, Bytes), KeyFailure> {
        let request = |id| Request::Key(KeyRequest { id, ask });
        let mut answers = self.0.ask(request, body).await?;
        let answer = timeout(ANSWER, answers.next()).await;
        let (answer, body) =
            answer.map_err(|_| KeyFailure::Unfit("the server does not answer"))??;
        match answer {
            Response::Key(response) => Ok((response.answer, body)),
            _ => Err(KeyFailure::Unfit("the server answered something else")),
        }
    }
}

/// A failure, or an answer that does not fit.
fn unfit(answer: KeyAnswer) -> KeyFailure {
    match answer {
        KeyAnswer::Failed { code, message } => KeyFailure::Remote {
            code,
            message: clean_text(&message, MAX_TEXT),
        },
        _ => KeyFailure::Unfit("the server answered something else"),
    }
}
