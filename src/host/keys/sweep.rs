//! Removes rows that can be seen no more, a few at a time.

use super::apply::{Ledger, Tables};
use super::row;
use redb::ReadableTable;
use std::ops::Bound;

/// Rows that one sweep looks at.
const MAX_SWEPT: usize = 2048;
/// Bytes of keys and values after which a sweep ends.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Where sweeping after a flush has come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    /// The space, the flush that is swept for, and behind which row to go on.
    cursor: Option<(u32, u64, Vec<u8>)>,
}

impl Sweep {
    /// Whether anything may be there to be removed, without asking the disk for what flushes left.
    pub(super) fn is_due(ledger: &Ledger, now: u64) -> bool {
        let mut spaces = ledger.spaces.values();
        spaces.any(|space| {
            space.swept < space.flushed || (space.flush_at != 0 && space.flush_at <= now)
        })
    }

    /// Removes what has ended; whether more is left.
    pub(super) fn run(
        &mut self,
        tables: &mut Tables<'_>,
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<bool, redb::Error> {
        let (mut ended, mut bytes) = (Vec::new(), 0);
        let until = row::expiry_name(now + 1, &[]);
        for entry in tables.expiries.range::<&[u8]>(..until.as_slice())? {
            if ended.len() >= MAX_SWEPT {
                break;
            }
            ended.extend(row::expiry_of(entry?.0.value()));
        }
        for (expires, name) in &ended {
            let space = row::split_name(name)
                .and_then(|(id, _)| ledger.spaces.values_mut().find(|space| space.id == id));
            if let Some(space) = space {
                let before = space.bytes;
                tables.remove(space, name)?;
                bytes += before.saturating_sub(space.bytes);
            }
            // The row's own, unless nothing knows of the row.
            let expiry = row::expiry_name(*expires, name);
            tables.expiries.remove(expiry.as_slice())?;
            if bytes > MAX_BYTES {
                return Ok(true);
            }
        }
        let flushed = self.flushed(tables, ledger, now)?;
        Ok(flushed || ended.len() >= MAX_SWEPT)
    }

    /// Removes what a flush has hidden; whether more is left.
    fn flushed(
        &mut self,
        tables: &mut Tables<'_>,
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<bool, redb::Error> {
        let last = ledger.unique;
        for space in ledger.spaces.values_mut() {
            space.flush_if_due(now, last);
        }
        let mut dirty = ledger.spaces.values_mut().filter(|s| s.swept < s.flushed);
        let Some(space) = dirty.next() else {
            return Ok(false);
        };
        let begin = row::row_name(space.id, &[]);
        let start = match self.cursor.take() {
            Some((id, flushed, after)) if (id, flushed) == (space.id, space.flushed) => after,
            _ => begin.clone(),
        };
        let (mut names, mut at, mut more) = (Vec::new(), start.clone(), false);
        let from = Bound::Excluded(start.as_slice());
        for (looked_at, entry) in tables
            .keys
            .range::<&[u8]>((from, Bound::Unbounded))?
            .enumerate()
        {
            let (name, value) = entry?;
            if !name.value().starts_with(&begin) {
                break;
            }
            if looked_at >= MAX_SWEPT {
                more = true;
                break;
            }
            name.value().clone_into(&mut at);
            if row::unpack(value.value()).is_some_and(|(head, _)| head.unique <= space.flushed) {
                names.push(at.clone());
            }
        }
        let before = space.bytes;
        for name in &names {
            tables.remove(space, name)?;
            if before.saturating_sub(space.bytes) > MAX_BYTES {
                (more, at) = (true, name.clone());
                break;
            }
        }
        if more {
            self.cursor = Some((space.id, space.flushed, at));
        } else {
            space.swept = space.flushed;
        }
        Ok(more || dirty.next().is_some())
    }
}
