//! What turns an old content into a new one, and how contents are recognised.
//!
//! It owns content digests, recipes (lists of block hashes), instructions and the search that finds them. It never
//! touches a file: it is fed with consecutive pieces. `wire` carries what it makes, `host` feeds and applies it.

mod content;
mod continued;
mod encoder;
mod fine;
mod instruction;
mod lookup;
mod matcher;
mod recipe;
mod rolling;

pub use content::{ContentHasher, digest};
pub use encoder::{DeltaEncoder, Encoded};
pub use instruction::{Instruction, InstructionError, Instructions, pack_literal, patch, unpack};
pub use matcher::Work;
pub use recipe::{
    BLOCK_BYTES, Block, MAX_BLOCKS, MAX_BLOCKS_PER_MESSAGE, Recipe, RecipeBuilder, RecipeCollector,
    RecipeError, block_count, block_size, block_size_or, is_block_size, pack_blocks,
};
