//! Recipes: the blocks of a content by a weak and a strong hash.
//!
//! Packed blocks (wire and disk), 20 bytes each: `weak u32 LE | strong [16]`. A recipe on disk:
//!
//! ```text
//! version u8 = 1 | block u32 | seed u64 | size u64 | blocks           all little-endian
//! version u8 = 2 | block u32 | seed u64 | size u64 | blocks | for each block: the sums of its 16 parts, 3 bytes each
//! ```

mod builder;

pub use builder::RecipeBuilder;

use crate::delta::fine::{FINE_BYTES, Fine};
use crate::model::limits::{MAX_BLOCK, MIN_BLOCK};

/// Bytes of a packed block.
pub const BLOCK_BYTES: usize = 20;
/// Blocks that one message carries at most (640 KiB).
pub const MAX_BLOCKS_PER_MESSAGE: usize = 32 * 1024;
/// Blocks of a recipe at most, about 100 MB of memory: a file of 4 TiB. Larger files have no recipe.
pub const MAX_BLOCKS: u64 = 4 * 1024 * 1024;
/// Blocks up to which a larger file has more of them instead of larger ones.
const USUAL_BLOCKS: u64 = 128 * 1024;
/// Blocks whose parts have sums, at most: 7.5 MiB of memory. A file that has grown a little beyond the usual has them, too.
const MAX_FINE: usize = 160 * 1024;

const VERSION: u8 = 1;
const VERSION_FINE: u8 = 2;
const HEAD_BYTES: usize = 1 + 4 + 8 + 8;

/// The hashes of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its weak sum under the recipe's seed.
    pub weak: u32,
    /// The first 16 bytes of its BLAKE3 hash.
    pub strong: [u8; 16],
}

/// The blocks of a content. All but the last have `block` bytes; the last has at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    size: u64,
    block: u32,
    seed: u64,
    blocks: Vec<Block>,
    /// As many as blocks, or none.
    fine: Vec<Fine>,
}

/// Why values are not a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The block size is none of the powers of two that are allowed.
    #[error("a block size of {block} bytes is not allowed")]
    BlockSize {
        /// What was announced, in bytes.
        block: u32,
    },
    /// The content is too large for a recipe.
    #[error("a content of {size} bytes in blocks of {block} bytes has too many blocks")]
    Size {
        /// Size of the content, in bytes.
        size: u64,
        /// Size of a block, in bytes.
        block: u32,
    },
    /// More or fewer blocks than the size asks for.
    #[error("expected {expected} blocks, found {found}")]
    Count {
        /// As many as the size asks for.
        expected: u64,
        /// As many as there are.
        found: u64,
    },
    /// A packed list that is cut inside a block or longer than a message may be.
    #[error("{length} bytes are not a list of packed blocks")]
    Length {
        /// Its length, in bytes.
        length: usize,
    },
    /// A stored recipe of another version, or none at all.
    #[error("this is not a stored recipe of a known version")]
    Version,
}

/// The block size for a content of `size` bytes: 4 KiB up to 16 MiB, then 8 KiB, and more where a recipe would get more
/// than 131,072 blocks, but at most 1 MiB.
#[must_use]
pub fn block_size(size: u64) -> u32 {
    let least = if size <= 16 * 1024 * 1024 {
        MIN_BLOCK
    } else {
        2 * MIN_BLOCK
    };
    let even = size.div_ceil(USUAL_BLOCKS).min(u64::from(MAX_BLOCK));
    let even = u32::try_from(even).unwrap_or(MAX_BLOCK);
    even.next_power_of_two().clamp(least, MAX_BLOCK)
}

/// The block size for a content of `size` bytes where `fixed` was asked for, or what is best: larger than `fixed` where a
/// recipe would otherwise get more blocks than it may have.
#[must_use]
pub fn block_size_or(fixed: Option<u32>, size: u64) -> u32 {
    let Some(fixed) = fixed else {
        return block_size(size);
    };
    let least = size.div_ceil(MAX_BLOCKS).min(u64::from(MAX_BLOCK));
    let least = u32::try_from(least).unwrap_or(MAX_BLOCK);
    fixed.max(least.next_power_of_two())
}

/// Whether a peer may ask for blocks of this size: a power of two from 4 KiB to 1 MiB.
#[must_use]
pub fn is_block_size(block: u32) -> bool {
    block.is_power_of_two() && (MIN_BLOCK..=MAX_BLOCK).contains(&block)
}

/// How many blocks a content has, its size and the block size in bytes.
///
/// # Errors
/// When the block size is not allowed or there are too many blocks.
pub fn block_count(size: u64, block: u32) -> Result<u64, RecipeError> {
    if !is_block_size(block) {
        return Err(RecipeError::BlockSize { block });
    }
    let count = size.div_ceil(u64::from(block));
    if count > MAX_BLOCKS {
        return Err(RecipeError::Size { size, block });
    }
    Ok(count)
}

impl Recipe {
    /// A recipe from its parts, as a peer or a file gives them.
    ///
    /// # Errors
    /// When the parts do not fit each other or a limit.
    pub fn new(size: u64, block: u32, seed: u64, blocks: Vec<Block>) -> Result<Self, RecipeError> {
        let expected = block_count(size, block)?;
        let found = blocks.len() as u64;
        if found != expected {
            return Err(RecipeError::Count { expected, found });
        }
        Ok(Self {
            size,
            block,
            seed,
            blocks,
            fine: Vec::new(),
        })
    }

    /// The sums of the parts of the blocks; none where they are not known.
    pub(crate) fn fine(&self) -> &[Fine] {
        &self.fine
    }

    /// The same recipe with the sums of the parts of its blocks: nothing is changed if there are not as many.
    pub(crate) fn with_fine(mut self, fine: Vec<Fine>) -> Self {
        if fine.len() == self.blocks.len() {
            self.fine = fine;
        }
        self
    }

    /// Length of the content, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size of a block, in bytes.
    #[must_use]
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Seed of the weak sums.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether contents of a size, in bytes, which have blocks of `block` bytes, are well compared with this one. They get its
    /// block size: where a file has grown manyfold, that would be too many blocks.
    #[must_use]
    pub fn suits(&self, size: u64, block: u32) -> bool {
        size <= self.size || self.block >= block / 2
    }

    /// The blocks in lists that fit into a message each; one empty list for an empty content.
    pub fn lists(&self) -> impl Iterator<Item = &[Block]> {
        let none = self.blocks.is_empty().then_some(&[][..]);
        none.into_iter()
            .chain(self.blocks.chunks(MAX_BLOCKS_PER_MESSAGE))
    }

    /// How many bytes it takes on disk.
    #[must_use]
    pub fn packed_length(&self) -> usize {
        HEAD_BYTES + self.blocks.len() * BLOCK_BYTES + self.fine.len() * FINE_BYTES
    }

    /// Appends the recipe as it is stored.
    pub fn pack(&self, out: &mut Vec<u8>) {
        out.push(if self.fine.is_empty() {
            VERSION
        } else {
            VERSION_FINE
        });
        out.extend_from_slice(&self.block.to_le_bytes());
        out.extend_from_slice(&self.seed.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        pack_blocks(&self.blocks, out);
        for fine in &self.fine {
            fine.pack(out);
        }
    }

    /// A stored recipe.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn unpack(packed: &[u8]) -> Result<Self, RecipeError> {
        let (version, packed) = packed.split_first().ok_or(RecipeError::Version)?;
        let (block, packed) = packed.split_first_chunk().ok_or(RecipeError::Version)?;
        let (seed, packed) = packed.split_first_chunk().ok_or(RecipeError::Version)?;
        let (size, packed) = packed.split_first_chunk().ok_or(RecipeError::Version)?;
        let length = packed.len();
        let (packed, fine) = match *version {
            VERSION => (packed, &[][..]),
            VERSION_FINE => packed
                .split_at_checked(length / (BLOCK_BYTES + FINE_BYTES) * BLOCK_BYTES)
                .ok_or(RecipeError::Length { length })?,
            _ => return Err(RecipeError::Version),
        };
        let mut blocks = Vec::with_capacity(packed.len() / BLOCK_BYTES);
        unpack_into(packed, &mut blocks)?;
        let (fine, []) = fine.as_chunks::<FINE_BYTES>() else {
            return Err(RecipeError::Length { length });
        };
        let fine = fine.iter().map(Fine::unpack).collect();
        let (size, seed) = (u64::from_le_bytes(*size), u64::from_le_bytes(*seed));
        let recipe = Self::new(size, u32::from_le_bytes(*block), seed, blocks)?;
        Ok(recipe.with_fine(fine))
    }
}

/// Appends blocks in packed form.
pub fn pack_blocks(blocks: &[Block], out: &mut Vec<u8>) {
    out.reserve(blocks.len() * BLOCK_BYTES);
    for block in blocks {
        out.extend_from_slice(&block.weak.to_le_bytes());
        out.extend_from_slice(&block.strong);
    }
}

fn unpack_into(packed: &[u8], blocks: &mut Vec<Block>) -> Result<(), RecipeError> {
    let (rows, []) = packed.as_chunks::<BLOCK_BYTES>() else {
        return Err(RecipeError::Length {
            length: packed.len(),
        });
    };
    for row in rows {
        let (weak, strong) = row.split_at(4);
        let mut block = Block {
            weak: 0,
            strong: [0; 16],
        };
        block.strong.copy_from_slice(strong);
        block.weak = weak.first_chunk().copied().map_or(0, u32::from_le_bytes);
        blocks.push(block);
    }
    Ok(())
}

/// Collects a recipe from the lists that a peer sends. Memory follows what arrived, not what was announced.
#[derive(Clone, Debug)]
pub struct RecipeCollector {
    size: u64,
    block: u32,
    seed: u64,
    expected: u64,
    blocks: Vec<Block>,
}

impl RecipeCollector {
    /// Expects the recipe of a content of `size` bytes with the block size and seed that were asked for.
    ///
    /// # Errors
    /// When there can be no such recipe.
    pub fn new(size: u64, block: u32, seed: u64) -> Result<Self, RecipeError> {
        Ok(Self {
            size,
            block,
            seed,
            expected: block_count(size, block)?,
            blocks: Vec::new(),
        })
    }

    /// Takes the next packed blocks.
    ///
    /// # Errors
    /// When they are malformed or too many.
    pub fn push(&mut self, packed: &[u8]) -> Result<(), RecipeError> {
        let length = packed.len();
        if length > MAX_BLOCKS_PER_MESSAGE * BLOCK_BYTES {
            return Err(RecipeError::Length { length });
        }
        let found = self.blocks.len() as u64 + (length / BLOCK_BYTES) as u64;
        if found > self.expected {
            return Err(RecipeError::Count {
                expected: self.expected,
                found,
            });
        }
        unpack_into(packed, &mut self.blocks)
    }

    /// The recipe, after the last list.
    ///
    /// # Errors
    /// When blocks are missing.
    pub fn finish(mut self) -> Result<Recipe, RecipeError> {
        self.blocks.shrink_to_fit();
        Recipe::new(self.size, self.block, self.seed, self.blocks)
    }
}

/// The strong hash of a block.
pub(crate) fn strong(bytes: &[u8]) -> [u8; 16] {
    cut(&blake3::hash(bytes))
}

fn cut(hash: &blake3::Hash) -> [u8; 16] {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
