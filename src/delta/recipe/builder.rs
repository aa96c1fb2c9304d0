//! Makes recipes.

use blake3::Hasher;

use super::{Block, MAX_BLOCKS, Recipe, cut, strong};
use crate::delta::rolling::{Rolling, weak};

/// Makes a recipe from consecutive pieces of a content.
#[derive(Clone, Debug)]
pub struct RecipeBuilder {
    rolling: Rolling,
    recipe: Recipe,
    /// The block in hand, of which `filled < block` bytes are hashed.
    sum: u64,
    strong: Hasher,
    filled: usize,
}

impl RecipeBuilder {
    /// A builder of the empty content's recipe; a block has at least one byte.
    #[must_use]
    pub fn new(block: u32, seed: u64) -> Self {
        Self {
            rolling: Rolling::new(seed),
            recipe: Recipe {
                size: 0,
                block: block.max(1),
                seed,
                blocks: Vec::new(),
            },
            sum: 0,
            strong: Hasher::new(),
            filled: 0,
        }
    }

    /// Takes the next bytes. Whole blocks are hashed where they lie.
    pub fn update(&mut self, mut piece: &[u8]) {
        self.recipe.size += piece.len() as u64;
        let block = self.recipe.block as usize;
        if self.filled > 0 {
            let (head, rest) = piece.split_at(piece.len().min(block - self.filled));
            self.fill(head);
            piece = rest;
            if self.filled < block {
                return;
            }
            self.end_block();
        }
        let mut whole = piece.chunks_exact(block);
        for bytes in whole.by_ref() {
            self.recipe.blocks.push(Block {
                weak: weak(self.rolling.sum(bytes)),
                strong: strong(bytes),
            });
        }
        self.fill(whole.remainder());
    }

    /// Takes the memory for a content of `size` bytes at once.
    pub fn reserve(&mut self, size: u64) {
        let count = size.div_ceil(u64::from(self.recipe.block)).min(MAX_BLOCKS);
        let count = usize::try_from(count).unwrap_or(0);
        self.recipe.blocks.reserve_exact(count);
    }

    /// The whole blocks so far.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.recipe.blocks
    }

    /// The recipe of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> Recipe {
        if self.filled > 0 {
            self.end_block();
        }
        // It is kept.
        self.recipe.blocks.shrink_to_fit();
        self.recipe
    }

    fn fill(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.sum = self.rolling.extend(self.sum, bytes);
        self.strong.update(bytes);
        self.filled += bytes.len();
    }

    fn end_block(&mut self) {
        self.recipe.blocks.push(Block {
            weak: weak(self.sum),
            strong: cut(&self.strong.finalize()),
        });
        self.sum = 0;
        self.strong.reset();
        self.filled = 0;
    }
}
