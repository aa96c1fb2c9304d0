//! Contents of files: their bytes, and what they are block by block.
//!
//! Whoever reads is held up by the line, not the other way round: a piece waits in a short queue until it is sent.

use super::Using;
use super::content::{Want, open};
use super::files::{entry, failed, response};
use crate::daemon::share::{Refusal, Share};
use crate::delta::{
    Block, MAX_BLOCKS_PER_MESSAGE, RecipeBuilder, block_count, is_block_size, pack_blocks,
};
use crate::engine::ports::StoreError;
use crate::engine::source::{Found, FoundKind};
use crate::model::{Fault, RelPath};
use crate::wire::FileAnswer;
use sha2::{Digest as _, Sha256};

/// Bytes of a file that are wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) path: RelPath,
    pub(super) offset: u64,
    pub(super) length: Option<u64>,
    pub(super) version: Option<String>,
}

/// Blocks of a file that are wanted.
#[derive(Debug)]
pub(super) struct Summing {
    pub(super) path: RelPath,
    pub(super) block: u32,
    pub(super) seed: u64,
}

/// Names the version of a file: whatever changes its bytes changes this.
pub(super) fn version(found: &Found) -> String {
    let FoundKind::File { size } = found.kind else {
        return String::new();
    };
    let (inode, ctime) = (found.stat.inode, found.stat.ctime);
    let (secs, nanos) = (found.mtime.secs, found.mtime.nanos);
    format!("{inode:x}-{size:x}-{ctime:x}-{secs:x}.{nanos:x}")
}

pub(super) fn size_of(found: &Found) -> u64 {
    match found.kind {
        FoundKind::File { size } => size,
        _ => 0,
    }
}

/// Answers with bytes.
pub(super) fn read(using: &Using, id: u64, wanted: &Wanted) -> Result<(), Refusal> {
    let share = using.user.share()?;
    let (answer, body) = match pieces(using, id, share.as_deref(), wanted) {
        Ok(Some(end)) => end,
        Ok(None) => return Ok(()),
        Err(error) => (failed(&error), Vec::new()),
    };
    using.answer(&response(id, answer), body);
    Ok(())
}

/// Sends the pieces. What is said after them; nothing when nobody listens any more.
fn pieces(
    using: &Using,
    id: u64,
    share: Option<&Share>,
    wanted: &Wanted,
) -> Result<Option<(FileAnswer, Vec<u8>)>, StoreError> {
    let length = wanted.length.unwrap_or(u64::MAX);
    let want = Want::Bytes(wanted.offset, length);
    let content = open(using, share, &wanted.path, want)?;
    let (found, version) = (content.found(), version(content.found()));
    if wanted.version.as_ref().is_some_and(|it| *it != version) {
        return Err(StoreError::changed(
            "it is not the version that was asked for",
        ));
    }
    let size = size_of(found);
    let end = wanted.offset.saturating_add(length).min(size);
    let whole = wanted.offset == 0 && end == size;
    let mut sum = (whole && content.sum_is_to_be_made()).then(Sha256::new);
    let mut at = wanted.offset;
    while at < end {
        let piece = content.piece(at, end - at)?;
        if let Some(sum) = &mut sum {
            sum.update(&piece);
        }
        at += piece.len() as u64;
        if !using.answer(&response(id, FileAnswer::Piece {}), piece) {
            return Ok(None);
        }
    }
    content.check()?;
    let answer = FileAnswer::Read {
        file: entry(b"", found)?,
        version,
    };
    let sum = match sum {
        Some(sum) => sum.finalize().to_vec(),
        None if whole => content.sum()?.to_vec(),
        None => Vec::new(),
    };
    Ok(Some((answer, sum)))
}

/// Answers with blocks.
pub(super) fn sum(using: &Using, id: u64, wanted: &Summing) -> Result<(), Refusal> {
    let share = using.user.share()?;
    let (answer, body) = match blocks(using, id, share.as_deref(), wanted) {
        Ok(Some(end)) => end,
        Ok(None) => return Ok(()),
        Err(error) => (failed(&error), Vec::new()),
    };
    using.answer(&response(id, answer), body);
    Ok(())
}

fn blocks(
    using: &Using,
    id: u64,
    share: Option<&Share>,
    wanted: &Summing,
) -> Result<Option<(FileAnswer, Vec<u8>)>, StoreError> {
    let content = open(using, share, &wanted.path, Want::Sums)?;
    let found = content.found();
    let size = size_of(found);
    if !is_block_size(wanted.block) || block_count(size, wanted.block).is_err() {
        let message = format!("it cannot be told in blocks of {} bytes", wanted.block);
        return Err(StoreError::new(Fault::Unrepresentable, message));
    }
    let mut builder = RecipeBuilder::new(wanted.block, wanted.seed);
    let mut sum = content.sum_is_to_be_made().then(Sha256::new);
    let (mut at, mut sent) = (0, 0);
    let tell = |blocks: &[Block], sent: &mut usize, least: usize| {
        while let Some(rest) = blocks.get(*sent..).filter(|rest| rest.len() >= least) {
            let part = rest.get(..MAX_BLOCKS_PER_MESSAGE).unwrap_or(rest);
            if part.is_empty() {
                break;
            }
            *sent += part.len();
            let mut body = Vec::new();
            pack_blocks(part, &mut body);
            if !using.answer(&response(id, FileAnswer::Blocks {}), body) {
                return false;
            }
        }
        true
    };
    while at < size {
        let piece = content.piece(at, size - at)?;
        if let Some(sum) = &mut sum {
            sum.update(&piece);
        }
        builder.update(&piece);
        at += piece.len() as u64;
        if using.halt.is_cancelled() || !tell(builder.blocks(), &mut sent, MAX_BLOCKS_PER_MESSAGE) {
            return Ok(None);
        }
    }
    content.check()?;
    let recipe = builder.finish();
    if !tell(recipe.blocks(), &mut sent, 1) {
        return Ok(None);
    }
    let answer = FileAnswer::Summed {
        file: entry(b"", found)?,
        version: version(found),
    };
    let sum = match sum {
        Some(sum) => sum.finalize().to_vec(),
        None => content.sum()?.to_vec(),
    };
    Ok(Some((answer, sum)))
}
