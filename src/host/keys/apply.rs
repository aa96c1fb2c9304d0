//! One change in a transaction.

use super::row::{self, Body, Head, MAX_INLINE, PIECE, Space};
use super::snapshot::{Found, Spaces, damaged};
use super::{Action, Bounds, Change, EXPIRIES, KEYS, KeyError, MAX_SPACES, Mode, NUMBERS, Outcome};
use super::{PIECES, SPACES};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use std::collections::HashSet;
use std::sync::Arc;

/// Longest text of a number that is counted, in bytes.
const MAX_NUMBER: usize = 64;
pub(super) const TOO_MUCH: &str = "the keys take as much as `[kv] max_total` allows";
const TOO_MANY: &str = "too many shares have keys";

/// What a change did or why not; a database error concerns all changes of the transaction.
pub(super) type Applied = Result<Result<Outcome, KeyError>, redb::Error>;

/// What the writer knows besides the rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) spaces: Spaces,
    /// The last unique number that was given.
    pub(super) unique: u64,
    /// The number of the last transaction: it tells whether one that failed is there all the same.
    pub(super) commits: u64,
}

impl Ledger {
    /// Reads it.
    pub(super) fn read(database: &Database) -> Result<Self, redb::Error> {
        let reading = database.begin_read()?;
        let mut ledger = Self::default();
        for entry in reading.open_table(SPACES)?.iter()? {
            let (name, packed) = entry?;
            let space = Space::unpack(packed.value()).ok_or_else(damaged)?;
            ledger.spaces.insert(name.value().into(), space);
        }
        let numbers = reading.open_table(NUMBERS)?;
        let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map_or(0, |it| it.value()));
        (ledger.unique, ledger.commits) = (number("unique")?, number("commits")?);
        reading.open_table(KEYS)?;
        reading.open_table(PIECES)?;
        Ok(ledger)
    }

    /// Bytes of all keys and values.
    fn total(&self) -> u64 {
        self.spaces.values().map(|space| space.bytes).sum()
    }

    fn space(&mut self, name: &Arc<str>) -> Option<&mut Space> {
        if !self.spaces.contains_key(name) {
            if self.spaces.len() >= MAX_SPACES {
                return None;
            }
            let last = self.spaces.values().map(|space| space.id).max();
            let space = Space {
                id: last.unwrap_or(0) + 1,
                ..Space::default()
            };
            self.spaces.insert(Arc::clone(name), space);
        }
        self.spaces.get_mut(name)
    }
}

/// The tables of a transaction, and what is changed beside them.
pub(super) struct Tables<'t> {
    pub(super) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) pieces: Table<'t, (u64, u32), &'static [u8]>,
    pub(super) expiries: Table<'t, &'static [u8], ()>,
    spaces: Table<'t, &'static str, &'static [u8]>,
    numbers: Table<'t, &'static str, u64>,
    row: Vec<u8>,
    /// The pieces of values that are answers of this transaction: when it is committed they must be there.
    shown: HashSet<u64>,
}

/// What is stored of a key: what its row says.
struct Old {
    head: Head,
    pieces: Option<u64>,
    value: Bytes,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            pieces: transaction.open_table(PIECES)?,
            expiries: transaction.open_table(EXPIRIES)?,
            spaces: transaction.open_table(SPACES)?,
            numbers: transaction.open_table(NUMBERS)?,
            row: Vec::new(),
            shown: HashSet::new(),
        })
    }

    /// Writes what differs between two ledgers.
    pub(super) fn save(&mut self, before: &Ledger, after: &Ledger) -> Result<(), redb::Error> {
        for (name, space) in &after.spaces {
            if before.spaces.get(name) != Some(space) {
                self.spaces.insert(&**name, space.pack().as_slice())?;
            }
        }
        if before.unique != after.unique {
            self.numbers.insert("unique", after.unique)?;
        }
        if before.commits != after.commits {
            self.numbers.insert("commits", after.commits)?;
        }
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        ledger: &mut Ledger,
        change: &Change,
        bounds: Bounds,
        now: u64,
    ) -> Applied {
        let (total, last) = (ledger.total(), ledger.unique);
        let Some(space) = ledger.space(&change.space) else {
            return Ok(Err(KeyError::Full(TOO_MANY)));
        };
        space.flush_if_due(now, last);
        if let Action::Flush { at } = change.action {
            if at <= now {
                (space.flush_at, space.flushed) = (0, last);
            } else {
                space.flush_at = at;
            }
            return Ok(Ok(Outcome::Flushed));
        }
        let name = row::row_name(space.id, &change.key);
        let old = self.old(&name)?;
        let live = old.as_ref().filter(|old| space.shows(&old.head, now));
        match &change.action {
            Action::Store { mode, .. } => {
                if let Some(refused) = condition(*mode, live.map(|old| old.head.unique)) {
                    return Ok(Ok(refused));
                }
                let Some((flags, expires, value)) = self.joined(&change.action, live, bounds)?
                else {
                    return Ok(Ok(Outcome::TooLarge));
                };
                let gone = old.as_ref().map_or(0, |old| size(&name, old.head.length));
                let length = u32::try_from(value.len()).map_err(|_| damaged())?;
                if total - gone.min(total) + size(&name, length) > bounds.max_total {
                    return Ok(Err(KeyError::Full(TOO_MUCH)));
                }
                let head = Head {
                    flags,
                    expires,
                    unique: last + 1,
                    length,
                };
                self.replace(space, &name, old.as_ref(), head, &value)?;
                ledger.unique = head.unique;
                Ok(Ok(Outcome::Stored(head.unique)))
            }
            Action::Delete if live.is_some() => {
                self.remove(space, &name)?;
                Ok(Ok(Outcome::Deleted))
            }
            Action::Touch { expires } => {
                let Some(live) = live else {
                    return Ok(Ok(Outcome::NotFound));
                };
                let found = self.touch(&name, live, *expires)?;
                Ok(Ok(Outcome::Touched(found)))
            }
            Action::Count { up, by } => {
                let Some(live) = live else {
                    return Ok(Ok(Outcome::NotFound));
                };
                let Some((number, text)) = counted(&live.value, *up, *by) else {
                    return Ok(Ok(Outcome::NotNumeric));
                };
                let head = Head {
                    unique: last + 1,
                    length: u32::try_from(text.len()).map_err(|_| damaged())?,
                    ..live.head
                };
                self.replace(space, &name, old.as_ref(), head, text.as_bytes())?;
                ledger.unique = head.unique;
                Ok(Ok(Outcome::Counted(number)))
            }
            Action::Delete | Action::Flush { .. } => Ok(Ok(Outcome::NotFound)),
        }
    }

    /// Whether any value is an answer of this transaction that is still to be read.
    pub(super) fn shows(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Whether a change would remove such a value: then it has to be part of the next transaction.
    pub(super) fn would_hide(&self, ledger: &Ledger, change: &Change) -> Result<bool, redb::Error> {
        let Some(space) = ledger.spaces.get(&change.space).filter(|_| self.shows()) else {
            return Ok(false);
        };
        let old = match change.action {
            Action::Store { .. } | Action::Delete => {
                self.old(&row::row_name(space.id, &change.key))?
            }
            Action::Count { .. } | Action::Touch { .. } | Action::Flush { .. } => None,
        };
        let pieces = old.and_then(|old| old.pieces);
        Ok(pieces.is_some_and(|number| self.shown.contains(&number)))
    }

    fn old(&self, name: &[u8]) -> Result<Option<Old>, redb::Error> {
        let Some(row) = self.keys.get(name)? else {
            return Ok(None);
        };
        let (head, body) = row::unpack(row.value()).ok_or_else(damaged)?;
        let (pieces, value) = match body {
            Body::Inline(bytes) => (None, Bytes::copy_from_slice(bytes)),
            Body::Pieces(number) => (Some(number), Bytes::new()),
        };
        Ok(Some(Old {
            head,
            pieces,
            value,
        }))
    }

    /// Flags, end and bytes of the value to be stored; none when it would be too long.
    fn joined(
        &self,
        action: &Action,
        live: Option<&Old>,
        bounds: Bounds,
    ) -> Result<Option<(u32, u64, Bytes)>, redb::Error> {
        let Action::Store {
            mode,
            flags,
            expires,
            value,
        } = action
        else {
            return Ok(None);
        };
        let max = bounds.max_value as usize;
        let (Mode::Append | Mode::Prepend, Some(live)) = (mode, live) else {
            return Ok((value.len() <= max).then(|| (*flags, *expires, value.clone())));
        };
        let length = live.head.length as usize + value.len();
        if length > max {
            return Ok(None);
        }
        let mut joined = Vec::with_capacity(length);
        if *mode == Mode::Prepend {
            joined.extend_from_slice(value);
        }
        match live.pieces {
            None => joined.extend_from_slice(&live.value),
            Some(number) => {
                for piece in self.pieces.range((number, 0)..=(number, u32::MAX))? {
                    joined.extend_from_slice(piece?.1.value());
                }
            }
        }
        if *mode == Mode::Append {
            joined.extend_from_slice(value);
        }
        Ok(Some((live.head.flags, live.head.expires, joined.into())))
    }

    fn replace(
        &mut self,
        space: &mut Space,
        name: &[u8],
        old: Option<&Old>,
        head: Head,
        value: &[u8],
    ) -> Result<(), redb::Error> {
        if let Some(old) = old {
            self.forget(space, name, &old.head, old.pieces)?;
        }
        space.keys += 1;
        space.bytes += size(name, head.length);
        let body = if value.len() <= MAX_INLINE {
            Body::Inline(value)
        } else {
            for (index, piece) in value.chunks(PIECE).enumerate() {
                let index = u32::try_from(index).map_err(|_| damaged())?;
                self.pieces.insert((head.unique, index), piece)?;
            }
            Body::Pieces(head.unique)
        };
        self.put(name, &head, &body)
    }

    fn put(&mut self, name: &[u8], head: &Head, body: &Body<'_>) -> Result<(), redb::Error> {
        if head.expires != 0 {
            let expiry = row::expiry_name(head.expires, name);
            self.expiries.insert(expiry.as_slice(), ())?;
        }
        row::pack(head, body, &mut self.row);
        self.keys.insert(name, self.row.as_slice())?;
        Ok(())
    }

    fn touch(&mut self, name: &[u8], live: &Old, expires: u64) -> Result<Found, redb::Error> {
        if live.head.expires != 0 {
            let expiry = row::expiry_name(live.head.expires, name);
            self.expiries.remove(expiry.as_slice())?;
        }
        let head = Head {
            expires,
            ..live.head
        };
        let body = match live.pieces {
            None => Body::Inline(&live.value),
            Some(number) => {
                self.shown.insert(number);
                Body::Pieces(number)
            }
        };
        self.put(name, &head, &body)?;
        Ok(Found::new(head, &body, None))
    }

    /// Removes a row and all that belongs to it. A row that is not there is no error.
    pub(super) fn remove(&mut self, space: &mut Space, name: &[u8]) -> Result<(), redb::Error> {
        if let Some(old) = self.old(name)? {
            self.forget(space, name, &old.head, old.pieces)?;
            self.keys.remove(name)?;
        }
        Ok(())
    }

    /// Removes all but the row itself.
    fn forget(
        &mut self,
        space: &mut Space,
        name: &[u8],
        head: &Head,
        pieces: Option<u64>,
    ) -> Result<(), redb::Error> {
        space.keys = space.keys.saturating_sub(1);
        space.bytes = space.bytes.saturating_sub(size(name, head.length));
        if head.expires != 0 {
            let expiry = row::expiry_name(head.expires, name);
            self.expiries.remove(expiry.as_slice())?;
        }
        if let Some(number) = pieces {
            let count = (head.length as usize).div_ceil(PIECE);
            for index in 0..count {
                let index = u32::try_from(index).map_err(|_| damaged())?;
                self.pieces.remove((number, index))?;
            }
        }
        Ok(())
    }
}

/// What a value counts, in bytes. The name of the row has four more than the key.
fn size(name: &[u8], length: u32) -> u64 {
    (name.len() as u64).saturating_sub(4) + u64::from(length)
}

/// What is answered when the condition does not hold.
fn condition(mode: Mode, unique: Option<u64>) -> Option<Outcome> {
    match (mode, unique) {
        (Mode::Set, _)
        | (Mode::Add, None)
        | (Mode::Replace | Mode::Append | Mode::Prepend, Some(_)) => None,
        (Mode::Cas(wanted), Some(unique)) => (wanted != unique).then_some(Outcome::Exists),
        (Mode::Cas(_), None) => Some(Outcome::NotFound),
        _ => Some(Outcome::NotStored),
    }
}

/// The next number and its text, which is not shorter than the one before, as in memcached; none when it is no number.
fn counted(value: &[u8], up: bool, by: u64) -> Option<(u64, String)> {
    // Up to white space, as there.
    let mut words = value.split(u8::is_ascii_whitespace);
    let text = words.find(|word| !word.is_empty())?;
    if text.len() > MAX_NUMBER {
        return None;
    }
    let number: u64 = str::from_utf8(text).ok()?.parse().ok()?;
    let number = if up {
        number.wrapping_add(by)
    } else {
        number.saturating_sub(by)
    };
    let width = value.len();
    Some((number, format!("{number:<width$}")))
}
