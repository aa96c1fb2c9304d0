//! Makes recipes.

use blake3::Hasher;

use super::{Block, MAX_BLOCKS, MAX_FINE, Recipe, cut, is_block_size, strong};
use crate::delta::fine::{Fine, PartSums};
use crate::delta::rolling::{Rolling, weak};

/// Makes a recipe from consecutive pieces of a content.
#[derive(Clone, Debug)]
pub struct RecipeBuilder {
    rolling: Rolling,
    recipe: Recipe,
    /// Whether the sums of the parts of blocks are kept.
    finer: bool,
    /// The block in hand, of which `filled < block` bytes are hashed.
    parts: PartSums,
    strong: Hasher,
    filled: usize,
}

impl RecipeBuilder {
    /// A builder of the empty content's recipe; a block has at least one byte.
    #[must_use]
    pub fn new(block: u32, seed: u64) -> Self {
        let rolling = Rolling::new(seed);
        Self {
            parts: PartSums::new(&rolling, block),
            rolling,
            recipe: Recipe {
                size: 0,
                block: block.max(1),
                seed,
                blocks: Vec::new(),
                fine: Vec::new(),
            },
            finer: false,
            strong: Hasher::new(),
            filled: 0,
        }
    }

    /// The recipe is to have the sums of the parts of blocks, unless it has more blocks than usual or blocks so small
    /// that sums of their parts say nothing.
    #[must_use]
    pub fn finer(mut self) -> Self {
        self.finer = is_block_size(self.recipe.block);
        self
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
            self.parts.update(&self.rolling, bytes);
            self.push(strong(bytes));
        }
        self.fill(whole.remainder());
    }

    /// Takes the memory for a content of `size` bytes at once.
    pub fn reserve(&mut self, size: u64) {
        let count = size.div_ceil(u64::from(self.recipe.block)).min(MAX_BLOCKS);
        let count = usize::try_from(count).unwrap_or(0);
        self.recipe.blocks.reserve_exact(count);
        if self.finer && count <= MAX_FINE {
            self.recipe.fine.reserve_exact(count);
        }
    }

    /// The whole blocks so far.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.recipe.blocks
    }

    /// The sums of their parts; none where they are not kept.
    pub(crate) fn fine(&self) -> &[Fine] {
        &self.recipe.fine
    }

    /// The recipe of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> Recipe {
        if self.filled > 0 {
            self.end_block();
        }
        // It is kept.
        self.recipe.blocks.shrink_to_fit();
        self.recipe.fine.shrink_to_fit();
        self.recipe
    }

    fn fill(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.parts.update(&self.rolling, bytes);
        self.strong.update(bytes);
        self.filled += bytes.len();
    }

    fn end_block(&mut self) {
        let strong = cut(&self.strong.finalize());
        self.push(strong);
        self.strong.reset();
        self.filled = 0;
    }

    /// Ends a block of which the parts were taken.
    fn push(&mut self, strong: [u8; 16]) {
        let (sum, fine) = self.parts.finish(&self.rolling);
        let weak = weak(sum);
        self.recipe.blocks.push(Block { weak, strong });
        if !self.finer {
            return;
        }
        if self.recipe.blocks.len() > MAX_FINE {
            self.finer = false;
            self.recipe.fine = Vec::new();
        } else {
            self.recipe.fine.push(fine);
        }
    }
}
