//! What the tables hold, as bytes. All numbers little-endian but for those that order keys.

use bytes::Bytes;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 250;
/// Values of at most so many bytes lie in their row; larger ones in pieces, so that a list of keys reads no values.
pub(super) const MAX_INLINE: usize = 16 * 1024;
/// Bytes of a piece: with what the database adds it fills 64 pages.
pub(super) const PIECE: usize = 256 * 1024 - 256;

/// Bytes of a row before an inline value.
const HEAD: usize = 1 + 4 + 8 + 8 + 4;
const INLINE: u8 = 0;
const PIECES: u8 = 1;

/// What is known of a value besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// What the client wants to remember of it.
    pub flags: u32,
    /// When it ends, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// A number that no other value of the store has had: it changes with the value.
    pub unique: u64,
    /// Bytes of the value.
    pub length: u32,
}

/// Where the bytes of a value are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Body<'a> {
    Inline(&'a [u8]),
    /// In the pieces with this number.
    Pieces(u64),
}

/// A row of the table of keys.
pub(super) fn pack(head: &Head, body: &Body<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.push(match body {
        Body::Inline(_) => INLINE,
        Body::Pieces(_) => PIECES,
    });
    out.extend_from_slice(&head.flags.to_le_bytes());
    out.extend_from_slice(&head.expires.to_le_bytes());
    out.extend_from_slice(&head.unique.to_le_bytes());
    out.extend_from_slice(&head.length.to_le_bytes());
    match body {
        Body::Inline(bytes) => out.extend_from_slice(bytes),
        Body::Pieces(number) => out.extend_from_slice(&number.to_le_bytes()),
    }
}

/// Takes a row apart; none when it is damaged.
pub(super) fn unpack(row: &[u8]) -> Option<(Head, Body<'_>)> {
    let (head, rest) = row.split_at_checked(HEAD)?;
    let (kind, head) = head.split_first()?;
    let mut numbers = Numbers(head);
    let head = Head {
        flags: numbers.u32()?,
        expires: numbers.u64()?,
        unique: numbers.u64()?,
        length: numbers.u32()?,
    };
    let body = match *kind {
        INLINE if rest.len() == head.length as usize => Body::Inline(rest),
        PIECES => Body::Pieces(Numbers(rest).u64()?),
        _ => return None,
    };
    Some((head, body))
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The keys of one share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Space {
    /// What the rows of its keys begin with.
    pub(super) id: u32,
    /// Rows, those included that have ended and were not swept yet.
    pub(super) keys: u64,
    /// Bytes of their keys and values.
    pub(super) bytes: u64,
    /// Values with unique numbers up to this one are gone (`flush_all`).
    pub(super) flushed: u64,
    /// When all values of that moment go, in milliseconds since 1970; 0 for never.
    pub(super) flush_at: u64,
    /// Up to which unique number such rows were swept.
    pub(super) swept: u64,
}

impl Space {
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut out = self.id.to_le_bytes().to_vec();
        for number in [
            self.keys,
            self.bytes,
            self.flushed,
            self.flush_at,
            self.swept,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    pub(super) fn unpack(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let space = Self {
            id: numbers.u32()?,
            keys: numbers.u64()?,
            bytes: numbers.u64()?,
            flushed: numbers.u64()?,
            flush_at: numbers.u64()?,
            swept: numbers.u64()?,
        };
        numbers.0.is_empty().then_some(space)
    }

    /// Whether a value can be seen at a time.
    pub(super) fn shows(&self, head: &Head, now: u64) -> bool {
        let ended = head.expires != 0 && head.expires <= now;
        let flushed = head.unique <= self.flushed || (self.flush_at != 0 && self.flush_at <= now);
        !ended && !flushed
    }

    /// Does a delayed flush whose time has come: all that is there has a number up to `last`.
    pub(super) fn flush_if_due(&mut self, now: u64, last: u64) {
        if self.flush_at != 0 && self.flush_at <= now {
            (self.flush_at, self.flushed) = (0, last);
        }
    }
}

/// The name of a row: the space in big-endian, so that its keys lie together and in order, then the key.
pub(super) fn row_name(space: u32, key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(4 + key.len());
    name.extend_from_slice(&space.to_be_bytes());
    name.extend_from_slice(key);
    name
}

/// The name of a row of the table of expiries, in the order of time.
pub(super) fn expiry_name(expires: u64, row: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(8 + row.len());
    name.extend_from_slice(&expires.to_be_bytes());
    name.extend_from_slice(row);
    name
}

/// When, and which row.
pub(super) fn expiry_of(name: &[u8]) -> Option<(u64, Bytes)> {
    let (expires, row) = name.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*expires), Bytes::copy_from_slice(row)))
}

/// The space and the key of a row's name.
pub(super) fn split_name(name: &[u8]) -> Option<(u32, &[u8])> {
    let (space, key) = name.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*space), key))
}

#[cfg(test)]
mod tests {
    use super::{Body, Head, Space, pack, unpack};

    #[test]
    fn rows_are_read_as_they_were_written_and_damaged_ones_are_none() {
        let head = Head {
            flags: 7,
            expires: 1 << 40,
            unique: u64::MAX,
            length: 3,
        };
        let mut out = Vec::new();
        pack(&head, &Body::Inline(b"abc"), &mut out);
        assert_eq!(unpack(&out), Some((head, Body::Inline(b"abc"))));
        assert_eq!(unpack(&out[..out.len() - 1]), None);
        pack(&head, &Body::Pieces(9), &mut out);
        assert_eq!(unpack(&out), Some((head, Body::Pieces(9))));
        out[0] = 9;
        assert_eq!(unpack(&out), None);
        let space = Space {
            id: 1,
            keys: 2,
            bytes: 3,
            flushed: 4,
            flush_at: 5,
            swept: 6,
        };
        assert_eq!(Space::unpack(&space.pack()), Some(space));
        assert_eq!(Space::unpack(&[0; 43]), None);
    }
}
