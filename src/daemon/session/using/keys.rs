//! What is answered about keys.

use super::Using;
use crate::daemon::keys::{Keys, Kind};
use crate::daemon::share::Refusal;
use crate::host::keys::{Action, Change, Head, KeyError, Listed, MAX_KEY, Mode, Outcome};
use crate::model::Fault;
use crate::model::limits::MAX_HEADER;
use crate::wire::{
    Code, KeyAnswer, KeyAsk, KeyEntry, KeyMode, KeyRequest, KeyResponse, ListedKey, Response,
    WireBytes,
};
use bytes::Bytes;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a value in one answer at most.
const PART: usize = 1024 * 1024;
/// What an entry takes in a header beside its key, and what each byte of the key takes at most.
const ENTRY_ROOM: usize = 192;
const BYTE_ROOM: usize = 6;

/// A value that comes in pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    value: u64,
    bytes: Vec<u8>,
    room: Vec<OwnedSemaphorePermit>,
}

/// An answer and its body.
type Said = (KeyAnswer, Bytes);

/// Answers a request.
pub(super) fn answer(using: &Using, request: KeyRequest, body: Bytes) -> Result<(), Refusal> {
    let (answer, body) = match &using.keys {
        Some(keys) => {
            // The thread is one that may wait.
            let asked = Asked { using, keys };
            let said = Handle::current().block_on(asked.answer(request.ask, body));
            said.unwrap_or_else(|failure| (failure, Bytes::new()))
        }
        None => (
            failed(Code::NoShare, "this server keeps no keys"),
            Bytes::new(),
        ),
    };
    let id = request.id;
    using.answer(&Response::Key(KeyResponse { id, answer }), body);
    Ok(())
}

fn failed(code: Code, message: impl Into<String>) -> KeyAnswer {
    KeyAnswer::Failed {
        code,
        message: message.into(),
    }
}

fn trouble(error: &KeyError) -> KeyAnswer {
    let code = match error {
        KeyError::Full(_) => Code::Fault(Fault::Full),
        KeyError::Unavailable(_) => Code::Fault(Fault::Io),
        KeyError::Ended => Code::Stopping,
    };
    failed(code, error.to_string())
}

struct Asked<'a> {
    using: &'a Using,
    keys: &'a Arc<Keys>,
}

impl Asked<'_> {
    /// The error is an answer, too.
    async fn answer(&self, ask: KeyAsk, body: Bytes) -> Result<Said, KeyAnswer> {
        let plain = |answer: KeyAnswer| (answer, Bytes::new());
        match ask {
            KeyAsk::Get { key, start, unique } => self.get(&name(&key)?, start, unique).await,
            KeyAsk::Piece { value } => self.piece(value, &body).await.map(plain),
            KeyAsk::Delete { key } => {
                let key = name(&key)?;
                let outcome = self.change(Kind::Delete, key, Action::Delete).await?;
                Ok(plain(match outcome {
                    Outcome::Deleted => KeyAnswer::Deleted {},
                    _ => KeyAnswer::Missing {},
                }))
            }
            KeyAsk::List { prefix, after } => self.list(&prefix, after).await.map(plain),
            KeyAsk::Set {
                key,
                mode,
                unique,
                flags,
                lasts_ms,
                pieces,
            } => {
                let key = name(&key)?;
                let mode = match mode {
                    KeyMode::Always => Mode::Set,
                    KeyMode::IfAbsent => Mode::Add,
                    KeyMode::IfPresent => Mode::Replace,
                    KeyMode::IfUnique => Mode::Cas(unique),
                };
                let now = self.keys.store.now();
                let expires = lasts_ms.map_or(0, |ms| now.saturating_add(ms).max(1));
                self.set(key, (mode, flags, expires), pieces, body)
                    .await
                    .map(plain)
            }
        }
    }

    fn space(&self) -> &Arc<str> {
        &self.using.space
    }

    async fn change(&self, kind: Kind, key: Bytes, action: Action) -> Result<Outcome, KeyAnswer> {
        let change = Change {
            space: Arc::clone(self.space()),
            key,
            action,
        };
        let outcome = self.keys.store.change(change).await;
        self.keys.counters.note(kind, &outcome);
        outcome.map_err(|error| trouble(&error))
    }

    async fn get(&self, key: &[u8], start: u64, unique: Option<u64>) -> Result<Said, KeyAnswer> {
        let store = &self.keys.store;
        let found = store.find(self.space(), key).await;
        let found = found.map_err(|error| trouble(&error))?;
        let counters = &self.keys.counters;
        let Some(found) = found else {
            counters.get_misses.one();
            return Ok((KeyAnswer::Missing {}, Bytes::new()));
        };
        if start == 0 {
            counters.get_hits.one();
        }
        if unique.is_some_and(|unique| unique != found.head.unique) {
            return Ok((KeyAnswer::Exists {}, Bytes::new()));
        }
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let part = store.read(&found, start, PART).await;
        let Some(part) = part.map_err(|error| trouble(&error))? else {
            // Replaced in this moment, or asked for behind its end.
            return Ok((KeyAnswer::Exists {}, Bytes::new()));
        };
        let entry = entry(&found.head, store.now());
        Ok((KeyAnswer::Value { entry }, part))
    }

    /// Keeps a piece until its value is stored.
    async fn piece(&self, value: u64, body: &Bytes) -> Result<KeyAnswer, KeyAnswer> {
        let max = self.keys.max_value as usize;
        let before = self.take_pieces(value);
        let mut pieces = before.unwrap_or(Pieces {
            value,
            bytes: Vec::new(),
            room: Vec::new(),
        });
        if pieces.bytes.len() + body.len() > max {
            return Err(self.too_large());
        }
        let Some(room) = self.keys.room(body.len()).await else {
            let busy = "too many large values are on their way; try again";
            return Err(failed(Code::Busy, busy));
        };
        pieces.room.push(room);
        pieces.bytes.extend_from_slice(body);
        *self.held() = Some(pieces);
        Ok(KeyAnswer::Taken {})
    }

    /// What was kept of a value; anything else that was is dropped.
    fn take_pieces(&self, value: u64) -> Option<Pieces> {
        self.held().take().filter(|pieces| pieces.value == value)
    }

    fn held(&self) -> MutexGuard<'_, Option<Pieces>> {
        let held = self.using.pieces.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    fn too_large(&self) -> KeyAnswer {
        self.keys.counters.store_too_large.one();
        let max = self.keys.max_value;
        let message =
            format!("the value is too large: `[kv] max_value` of the server allows {max} bytes");
        failed(Code::Fault(Fault::Unrepresentable), message)
    }

    async fn set(
        &self,
        key: Bytes,
        (mode, flags, expires): (Mode, u32, u64),
        pieces: Option<u64>,
        body: Bytes,
    ) -> Result<KeyAnswer, KeyAnswer> {
        let (value, _room) = match pieces {
            None => (body, Vec::new()),
            Some(number) => {
                let Some(mut pieces) = self.take_pieces(number) else {
                    let lost = "the pieces of the value are not there";
                    return Err(failed(Code::Fault(Fault::Changed), lost));
                };
                pieces.bytes.extend_from_slice(&body);
                (pieces.bytes.into(), pieces.room)
            }
        };
        let action = Action::Store {
            mode,
            flags,
            expires,
            value,
        };
        let kind = if matches!(mode, Mode::Cas(_)) {
            Kind::Cas
        } else {
            Kind::Set
        };
        Ok(match self.change(kind, key, action).await? {
            Outcome::Stored(unique) => KeyAnswer::Stored { unique },
            Outcome::Exists => KeyAnswer::Exists {},
            Outcome::NotFound => KeyAnswer::Missing {},
            Outcome::TooLarge => return Err(self.too_large()),
            _ => KeyAnswer::NotStored {},
        })
    }

    async fn list(
        &self,
        prefix: &WireBytes,
        after: Option<WireBytes>,
    ) -> Result<KeyAnswer, KeyAnswer> {
        let bytes = |text: &WireBytes| text.bytes().ok_or_else(malformed);
        let (prefix, after) = (bytes(prefix)?, after.as_ref().map(bytes).transpose()?);
        let store = &self.keys.store;
        let listing = store.list(self.space(), &prefix, after.as_deref()).await;
        let listing = listing.map_err(|error| trouble(&error))?;
        let (now, mut room) = (store.now(), MAX_HEADER as usize / 2);
        let (mut entries, mut next) = (Vec::new(), listing.next);
        for Listed { key, head } in listing.keys {
            let takes = ENTRY_ROOM + BYTE_ROOM * key.len();
            if takes > room {
                next = entries.last().map(|(key, _): &(Bytes, _)| key.clone());
                break;
            }
            room -= takes;
            entries.push((key, entry(&head, now)));
        }
        let entries = entries.iter().map(|(key, entry)| ListedKey {
            key: WireBytes::new(key),
            entry: *entry,
        });
        Ok(KeyAnswer::Listed {
            entries: entries.collect(),
            next: next.map(|key| WireBytes::new(&key)),
        })
    }
}

fn malformed() -> KeyAnswer {
    failed(
        Code::Fault(Fault::Unrepresentable),
        format!("a key is 1 to {MAX_KEY} bytes"),
    )
}

/// The bytes of a key.
fn name(key: &WireBytes) -> Result<Bytes, KeyAnswer> {
    let key = key.bytes().ok_or_else(malformed)?;
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(malformed());
    }
    Ok(key.into())
}

fn entry(head: &Head, now: u64) -> KeyEntry {
    KeyEntry {
        size: u64::from(head.length),
        flags: head.flags,
        unique: head.unique,
        lasts_ms: (head.expires != 0).then(|| head.expires.saturating_sub(now)),
    }
}
