//! What is here of a file against what the server has, block by block; and the ranges that are missing.

use super::{Fetch, Whole, size_of};
use crate::daemon::user::files::FileError;
use crate::daemon::user::{Answers, WAITING};
use crate::delta::{
    BLOCK_BYTES, MAX_BLOCKS, MAX_BLOCKS_PER_MESSAGE, Recipe, RecipeBuilder, RecipeCollector,
    RecipeError, block_size,
};
use crate::host::local::Partial;
use crate::host::random;
use crate::model::limits::MAX_PIECE;
use crate::wire::{FileAnswer, FileAsk, WirePath};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Bytes that are asked for in one range at most: as much as may wait here while an earlier one is taken in. A server
/// answers both at a time, and what finds no room would hold up the line for the other.
pub(super) const RANGE: u64 = 8 * MAX_PIECE as u64;
const _: () = assert!(RANGE / (MAX_PIECE as u64) + 1 < WAITING as u64);
/// Ranges that are asked for ahead.
pub(super) const AHEAD: usize = 2;
/// What a server's disk reads at least, in bytes a second.
const SLOWEST: u64 = 100_000_000;

/// What a file of the server is, block by block.
pub(super) struct Summed {
    pub(super) whole: Whole,
    pub(super) version: String,
    pub(super) recipe: Recipe,
}

impl Fetch<'_> {
    /// Asks what the file is, block by block.
    pub(super) fn sum(&self) -> Result<Summed, FileError> {
        self.sum_in(self.kind())
    }

    /// Blocks that suit the file, and a seed that nobody knows before.
    pub(super) fn kind(&self) -> (u32, u64) {
        let seed = random::bytes::<8>().map_or(1, u64::from_le_bytes);
        (block_size(self.size), seed)
    }

    /// Asks what the file is in blocks of a size, with a seed.
    pub(super) fn sum_in(&self, (block, seed): (u32, u64)) -> Result<Summed, FileError> {
        let mut answers = self.ask(FileAsk::Sum {
            path: WirePath::from(self.remote),
            block,
            seed,
        })?;
        let mut packed = Vec::new();
        loop {
            // It may read all of the file first.
            let work = Duration::from_secs(self.size / SLOWEST);
            match self.said_after(&mut answers, work)? {
                (FileAnswer::Blocks {}, body) => {
                    packed.extend_from_slice(&body);
                    if (packed.len() / BLOCK_BYTES) as u64 > MAX_BLOCKS {
                        return Err(self.share().broken());
                    }
                }
                (FileAnswer::Summed { file, version }, body) => {
                    let whole = self.told(&file, &body)?;
                    let recipe = collected(size_of(&whole.entry), (block, seed), &packed);
                    return Ok(Summed {
                        whole,
                        version,
                        recipe: recipe.map_err(|_| self.share().broken())?,
                    });
                }
                _ => return Err(self.share().broken()),
            }
        }
    }

    /// A file of which something is here.
    pub(super) fn rest(&self, partial: &Partial, moved: &mut u64) -> Result<Whole, FileError> {
        let failed = || FileError::local("write", partial.path());
        let summed = self.sum()?;
        let size = size_of(&summed.whole.entry);
        let missing = self.missing(partial, &summed.recipe, RANGE)?;
        partial.set_size(size).map_err(failed())?;
        let lacking: u64 = missing.iter().map(|range| range.end - range.start).sum();
        self.work.count(size.saturating_sub(lacking));
        let mut waiting: VecDeque<(Range<u64>, Answers)> = VecDeque::new();
        let mut ranges = missing.into_iter();
        loop {
            while waiting.len() < AHEAD
                && let Some(range) = ranges.next()
            {
                let answers = self.ask(FileAsk::Read {
                    path: WirePath::from(self.remote),
                    offset: range.start,
                    length: Some(range.end - range.start),
                    version: Some(summed.version.clone()),
                })?;
                waiting.push_back((range, answers));
            }
            let Some((range, mut answers)) = waiting.pop_front() else {
                break;
            };
            *moved += self.range(partial, &summed.recipe, &range, &mut answers)?;
        }
        let sum = stored_sum(partial, size, &|| self.work.check())?;
        self.checked(partial, summed.whole, sum)
    }

    /// Takes one range in, whose blocks must be those that were told.
    pub(super) fn range(
        &self,
        partial: &Partial,
        recipe: &Recipe,
        range: &Range<u64>,
        answers: &mut Answers,
    ) -> Result<u64, FileError> {
        let mut blocks = RecipeBuilder::new(recipe.block(), recipe.seed());
        let mut at = range.start;
        loop {
            match self.said(answers)? {
                (FileAnswer::Piece {}, body) if at + body.len() as u64 <= range.end => {
                    let written = partial.write_at(&body, at);
                    written.map_err(FileError::local("write", partial.path()))?;
                    blocks.update(&body);
                    at += body.len() as u64;
                    self.work.count(body.len() as u64);
                }
                (FileAnswer::Read { .. }, _) => break,
                _ => return Err(self.share().broken()),
            }
        }
        let first = usize::try_from(range.start / u64::from(recipe.block())).unwrap_or(usize::MAX);
        let blocks = blocks.finish();
        let told = recipe.blocks().get(first..).unwrap_or_default();
        if at != range.end || !told.starts_with(blocks.blocks()) {
            return Err(FileError::Other(format!(
                "the server sent other bytes of `{}` than it had told the sums of",
                self.remote
            )));
        }
        Ok(at - range.start)
    }

    /// The ranges that what is here lacks or has otherwise, none longer than is asked for at once.
    pub(super) fn missing(
        &self,
        partial: &Partial,
        recipe: &Recipe,
        longest: u64,
    ) -> Result<Vec<Range<u64>>, FileError> {
        let failed = || FileError::local("read", partial.path());
        let there = partial.size().map_err(failed())?.min(recipe.size());
        let mut builder = RecipeBuilder::new(recipe.block(), recipe.seed());
        let (mut at, mut buffer) = (0, vec![0; MAX_PIECE]);
        while at < there {
            self.work.check()?;
            let want = usize::try_from(there - at)
                .unwrap_or(MAX_PIECE)
                .min(MAX_PIECE);
            let piece = buffer.get_mut(..want).unwrap_or_default();
            let count = partial.read_at(piece, at).map_err(failed())?;
            if count == 0 {
                break;
            }
            builder.update(piece.get(..count).unwrap_or_default());
            at += count as u64;
        }
        let here = builder.finish();
        let mut missing: Vec<Range<u64>> = Vec::new();
        let starts = (0..recipe.size()).step_by(recipe.block() as usize);
        for (index, (block, start)) in recipe.blocks().iter().zip(starts).enumerate() {
            if here.blocks().get(index) == Some(block) {
                continue;
            }
            let end = recipe.size().min(start + u64::from(recipe.block()));
            match missing.last_mut() {
                Some(last) if last.end == start && end - last.start <= longest => last.end = end,
                _ => missing.push(start..end),
            }
        }
        Ok(missing)
    }
}

/// The recipe of all blocks that came, in any number of messages.
fn collected(size: u64, (block, seed): (u32, u64), packed: &[u8]) -> Result<Recipe, RecipeError> {
    let mut collector = RecipeCollector::new(size, block, seed)?;
    for part in packed.chunks(MAX_BLOCKS_PER_MESSAGE * BLOCK_BYTES) {
        collector.push(part)?;
    }
    collector.finish()
}

/// The SHA-256 of what is stored.
pub(super) fn stored_sum(
    partial: &Partial,
    size: u64,
    check: &dyn Fn() -> Result<(), FileError>,
) -> Result<[u8; 32], FileError> {
    let (mut sum, mut buffer, mut at) = (Sha256::new(), vec![0; MAX_PIECE], 0);
    while at < size {
        check()?;
        let count = partial.read_at(&mut buffer, at);
        let count = count.map_err(FileError::local("read", partial.path()))?;
        if count == 0 {
            break;
        }
        sum.update(buffer.get(..count).unwrap_or_default());
        at += count as u64;
    }
    Ok(sum.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::collected;
    use crate::delta::{BLOCK_BYTES, MAX_BLOCKS_PER_MESSAGE};
    use crate::model::limits::MIN_BLOCK;

    #[test]
    fn a_file_may_have_more_blocks_than_a_message() {
        let count = MAX_BLOCKS_PER_MESSAGE * 2 + 1;
        let size = count as u64 * u64::from(MIN_BLOCK);
        let packed = vec![7; count * BLOCK_BYTES];
        let recipe = collected(size, (MIN_BLOCK, 1), &packed).unwrap();
        assert_eq!((recipe.size(), recipe.blocks().len()), (size, count));
        collected(size, (MIN_BLOCK, 1), &packed[BLOCK_BYTES..]).unwrap_err();
    }
}
