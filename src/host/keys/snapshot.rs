//! A committed state of the store, as readers see it.

use super::row::{self, Body, Head, PIECE, Space};
use super::{KEYS, PIECES};
use bytes::{Bytes, BytesMut};
use redb::{Database, ReadOnlyTable, ReadableDatabase};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Keys in one listing at most.
const MAX_LISTED: usize = 512;
/// Rows that are looked at for one listing at most: those that have ended are in it, too.
const MAX_LOOKED_AT: usize = 4096;

/// The spaces by their names.
pub(super) type Spaces = BTreeMap<Arc<str>, Space>;

/// One state. It costs nothing but that pages which it uses are not used again while it lives.
pub(super) struct Snapshot {
    keys: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pieces: ReadOnlyTable<(u64, u32), &'static [u8]>,
    spaces: Spaces,
    /// Why nothing can be stored, where the file can only be read.
    pub(super) only_read: Option<Arc<str>>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// A value that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is known of it.
    pub head: Head,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Inline(Bytes),
    Pieces {
        number: u64,
        /// The state that has them; none until what the writer has found is committed.
        of: Option<Arc<Snapshot>>,
    },
}

impl Found {
    pub(super) fn new(head: Head, body: &Body<'_>, of: Option<&Arc<Snapshot>>) -> Self {
        let value = match body {
            Body::Inline(bytes) => Value::Inline(Bytes::copy_from_slice(bytes)),
            Body::Pieces(number) => Value::Pieces {
                number: *number,
                of: of.cloned(),
            },
        };
        Self { head, value }
    }

    /// The whole value, where it is at hand: it is a small one.
    #[must_use]
    pub fn inline(&self) -> Option<&Bytes> {
        match &self.value {
            Value::Inline(bytes) => Some(bytes),
            Value::Pieces { .. } => None,
        }
    }

    /// Bytes of the value.
    #[must_use]
    pub fn length(&self) -> usize {
        self.head.length as usize
    }

    /// Has it read from a state that holds it.
    pub(super) fn see(&mut self, state: &Arc<Snapshot>) {
        if let Value::Pieces { of, .. } = &mut self.value {
            *of = Some(Arc::clone(state));
        }
    }

    /// Reads from the state that it was found in; none when that cannot be read any more.
    pub(super) fn read(&self, start: usize, length: usize) -> Option<Bytes> {
        let Value::Pieces { of: Some(of), .. } = &self.value else {
            return None;
        };
        let read = || of.pieces(self, start, length);
        crate::host::database::guarded(read).ok().flatten()
    }
}

/// A part of a value that is at hand; none behind its end.
pub(super) fn part(bytes: &Bytes, start: usize, length: usize) -> Option<Bytes> {
    let end = start.saturating_add(length).min(bytes.len());
    (start <= end).then(|| bytes.slice(start..end))
}

/// A key in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The key.
    pub key: Bytes,
    /// What is known of its value.
    pub head: Head,
}

/// Some keys in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// The keys.
    pub keys: Vec<Listed>,
    /// Behind which key to go on; none at the end.
    pub next: Option<Bytes>,
}

impl Snapshot {
    /// The state that is committed now.
    pub(super) fn take(database: &Database, spaces: Spaces) -> Result<Self, redb::Error> {
        let reading = database.begin_read()?;
        Ok(Self {
            keys: reading.open_table(KEYS)?,
            pieces: reading.open_table(PIECES)?,
            spaces,
            only_read: None,
        })
    }

    pub(super) fn counts(&self) -> Vec<(Arc<str>, u64, u64)> {
        let counts = self.spaces.iter();
        counts
            .map(|(name, space)| (Arc::clone(name), space.keys, space.bytes))
            .collect()
    }

    pub(super) fn find(
        self: &Arc<Self>,
        space: &str,
        key: &[u8],
        now: u64,
    ) -> Result<Option<Found>, redb::Error> {
        let Some(space) = self.spaces.get(space) else {
            return Ok(None);
        };
        let name = row::row_name(space.id, key);
        let Some(found) = self.keys.get(name.as_slice())? else {
            return Ok(None);
        };
        let (head, body) = row::unpack(found.value()).ok_or_else(damaged)?;
        Ok(space
            .shows(&head, now)
            .then(|| Found::new(head, &body, Some(self))))
    }

    /// A part of a value from its pieces; none when it is not there any more.
    pub(super) fn pieces(
        &self,
        found: &Found,
        start: usize,
        length: usize,
    ) -> Result<Option<Bytes>, redb::Error> {
        let Value::Pieces { number, .. } = &found.value else {
            return Ok(None);
        };
        let end = start.saturating_add(length).min(found.length());
        if start > end {
            return Ok(None);
        }
        let mut out = BytesMut::with_capacity(end - start);
        let mut at = start;
        while at < end {
            let index = u32::try_from(at / PIECE).map_err(|_| damaged())?;
            let Some(piece) = self.pieces.get((*number, index))? else {
                return Ok(None);
            };
            let from = at % PIECE;
            let to = PIECE.min(from + (end - at));
            let part = piece.value().get(from..to).ok_or_else(damaged)?;
            out.extend_from_slice(part);
            at += part.len();
        }
        Ok(Some(out.freeze()))
    }

    pub(super) fn list(
        &self,
        space: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        now: u64,
    ) -> Result<Listing, redb::Error> {
        let Some(space) = self.spaces.get(space) else {
            return Ok(Listing::default());
        };
        let prefix = row::row_name(space.id, prefix);
        let after = after.map(|key| row::row_name(space.id, key));
        let start = match &after {
            Some(after) if *after >= prefix => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(prefix.as_slice()),
        };
        let mut listing = Listing::default();
        let rows = self.keys.range::<&[u8]>((start, Bound::Unbounded))?;
        for (looked_at, row) in rows.enumerate() {
            let (name, value) = row?;
            let Some(key) = name.value().strip_prefix(prefix.as_slice()) else {
                return Ok(listing);
            };
            let whole = name.value().get(4..).unwrap_or(key);
            let key = Bytes::copy_from_slice(whole);
            let (head, _) = row::unpack(value.value()).ok_or_else(damaged)?;
            if space.shows(&head, now) {
                let key = key.clone();
                listing.keys.push(Listed { key, head });
            }
            if listing.keys.len() >= MAX_LISTED || looked_at + 1 >= MAX_LOOKED_AT {
                listing.next = Some(key);
                return Ok(listing);
            }
        }
        Ok(listing)
    }
}

pub(super) fn damaged() -> redb::Error {
    redb::Error::Corrupted("a row is damaged".to_owned())
}
