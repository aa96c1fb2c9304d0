//! What turns an old content into a new one, and how contents are recognised.
//!
//! It owns content digests, recipes (lists of block hashes), instructions and the search that finds them. It never
//! touches a file: it is fed with consecutive pieces. `wire` carries what it makes, `host` feeds and applies it.

mod content;
mod instruction;

pub use content::{ContentHasher, digest};
pub use instruction::{Instruction, InstructionError, Instructions, patch, unpack};
