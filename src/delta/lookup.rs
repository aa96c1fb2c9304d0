//! Finds the old blocks that have a weak sum.
//!
//! Sums are spread evenly by their secret base, so their upper bits are the bucket and no further hash is needed; a
//! bucket is sorted, so that even sums made to crowd one bucket cost a logarithm.

use crate::delta::recipe::{Block, Recipe};
use crate::delta::rolling::Filter;

/// Different blocks of one weak sum that are kept; further ones are not found.
const MAX_EQUAL: usize = 16;
/// Bits of a weak sum.
const SUM_BITS: u32 = 32;

/// The whole blocks of a recipe by their weak sums; of equal blocks the first.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    filter: Filter,
    /// Sorted by the sum, then by the block's number.
    entries: Vec<Entry>,
    /// Where the entries of a bucket start; one more than there are buckets.
    starts: Vec<u32>,
    shift: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    weak: u32,
    number: u32,
}

impl Lookup {
    pub(crate) fn new(old: &Recipe) -> Self {
        let whole = whole_blocks(old);
        let mut entries: Vec<Entry> = (0u32..)
            .zip(whole)
            .map(|(number, block)| Entry {
                weak: block.weak,
                number,
            })
            .collect();
        entries.sort_unstable_by_key(|entry| (entry.weak, entry.number));
        keep_different(&mut entries, whole);
        let mut filter = Filter::new(entries.len());
        for entry in &entries {
            filter.insert(entry.weak);
        }
        let bits = (entries.len() + 2).ilog2().clamp(1, 20);
        let shift = SUM_BITS - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for entry in &entries {
            if let Some(count) = starts.get_mut((entry.weak >> shift) as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self {
            filter,
            entries,
            starts,
            shift,
        }
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The numbers of the blocks with a weak sum; at most `MAX_EQUAL`.
    pub(crate) fn numbers(&self, weak: u32) -> impl Iterator<Item = usize> {
        let bucket = (weak >> self.shift) as usize;
        let range = match self.starts.get(bucket..bucket.saturating_add(2)) {
            Some(&[start, end]) => start as usize..end as usize,
            _ => 0..0,
        };
        let entries = self.entries.get(range).unwrap_or_default();
        let from = entries.partition_point(|entry| entry.weak < weak);
        entries
            .iter()
            .skip(from)
            .take_while(move |entry| entry.weak == weak)
            .map(|entry| entry.number as usize)
    }
}

/// The blocks of a recipe that have the full block size.
pub(crate) fn whole_blocks(recipe: &Recipe) -> &[Block] {
    let whole = recipe.size() / u64::from(recipe.block());
    let blocks = recipe.blocks();
    usize::try_from(whole)
        .ok()
        .and_then(|whole| blocks.get(..whole))
        .unwrap_or(blocks)
}

/// Drops entries whose block has an earlier one's strong hash, and those beyond `MAX_EQUAL` of one sum.
fn keep_different(entries: &mut Vec<Entry>, blocks: &[Block]) {
    let strong = |entry: &Entry| blocks.get(entry.number as usize).map(|block| block.strong);
    let mut kept: Vec<Entry> = Vec::with_capacity(MAX_EQUAL);
    entries.retain(|entry| {
        if kept.first().is_none_or(|first| first.weak != entry.weak) {
            kept.clear();
        }
        let fresh =
            kept.len() < MAX_EQUAL && kept.iter().all(|other| strong(other) != strong(entry));
        if fresh {
            kept.push(*entry);
        }
        fresh
    });
}
