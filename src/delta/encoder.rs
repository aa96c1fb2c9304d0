//! From the pieces of a new content to instructions, recipe and digest, in one pass.

use std::sync::Arc;

use crate::delta::content::ContentHasher;
use crate::delta::fine::PARTS;
use crate::delta::instruction::Instruction;
use crate::delta::matcher::{Matcher, Step, View, Work};
use crate::delta::recipe::{Recipe, RecipeBuilder};
use crate::model::Digest;
use crate::model::limits::MAX_PIECE;

/// Bytes that are hashed and searched at a time, so that they stay in the processor's cache.
const SLAB: usize = 256 * 1024;
/// Bytes that are held back before a search of a piece that does not follow a finished one.
const MIN_HELD: usize = 64 * 1024;

/// Encodes a new content against an old one. Memory: the recipes, their lookup table, and at most about five blocks
/// and a slab of the content.
#[derive(Clone, Debug)]
pub struct DeltaEncoder {
    content: ContentHasher,
    recipe: RecipeBuilder,
    search: Option<Search>,
}

/// What is known after the last piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The recipe of the new content, with the old one's block size and seed.
    pub recipe: Recipe,
    /// Length of the new content, in bytes.
    pub size: u64,
    /// Its content digest.
    pub digest: Digest,
    /// What the search did.
    pub work: Work,
}

impl DeltaEncoder {
    /// Encodes against the content of a recipe. The new recipe has its block size and seed.
    #[must_use]
    pub fn against(old: Arc<Recipe>) -> Self {
        let mut encoder = Self::fresh(old.block(), old.seed());
        if !old.blocks().is_empty() {
            encoder.search = Some(Search::new(old));
        }
        encoder
    }

    /// Encodes against nothing: every byte is a literal. The new recipe has blocks of `block` bytes and weak sums of
    /// `seed`, which should be random.
    #[must_use]
    pub fn fresh(block: u32, seed: u64) -> Self {
        Self {
            content: ContentHasher::new(),
            recipe: RecipeBuilder::new(block, seed).finer(),
            search: None,
        }
    }

    /// The new content is expected to have `size` bytes: memory for its recipe is taken at once.
    pub fn expect(&mut self, size: u64) {
        self.recipe.reserve(size);
    }

    /// Takes the next bytes of the new content, and gives instructions to `emit` in order. Literals are borrowed, of at
    /// most 256 KiB; adjacent copies are one. Pieces of 256 KiB, or multiples, are fastest.
    pub fn push(&mut self, piece: &[u8], emit: &mut impl FnMut(Instruction<'_>)) {
        let slab = self.search.as_ref().map_or(SLAB, Search::slab);
        for piece in piece.chunks(slab) {
            self.content.update(piece);
            self.recipe.update(piece);
            match &mut self.search {
                Some(search) => search.push(piece, &self.recipe, emit),
                None => literal(piece, emit),
            }
        }
    }

    /// Ends the new content, with the last instructions.
    pub fn finish(self, emit: &mut impl FnMut(Instruction<'_>)) -> Encoded {
        let work = match self.search {
            Some(search) => search.finish(&self.recipe, emit),
            None => Work::default(),
        };
        let (size, digest) = self.content.finish();
        Encoded {
            recipe: self.recipe.finish(),
            size,
            digest,
            work,
        }
    }
}

/// A matcher with the bytes that it waits with, and the copy that may yet grow.
#[derive(Clone, Debug)]
struct Search {
    matcher: Matcher,
    block: usize,
    /// The undecided bytes of the new content, and where they start in it.
    held: Vec<u8>,
    at: u64,
    copy: Option<(u64, u64)>,
}

impl Search {
    fn new(old: Arc<Recipe>) -> Self {
        Self {
            block: old.block() as usize,
            matcher: Matcher::new(old),
            held: Vec::new(),
            at: 0,
            copy: None,
        }
    }

    /// As few bytes are held until there are so many; more than twice what a search can leave, so that moving the rest
    /// costs less than searching.
    fn least(&self) -> usize {
        (4 * self.block).max(MIN_HELD)
    }

    fn slab(&self) -> usize {
        self.least().max(SLAB)
    }

    fn push(
        &mut self,
        piece: &[u8],
        fresh: &RecipeBuilder,
        emit: &mut impl FnMut(Instruction<'_>),
    ) {
        if self.held.is_empty() && piece.len() >= self.least() {
            let done = self.advance(piece, fresh, false, emit);
            self.held
                .extend_from_slice(piece.get(done..).unwrap_or_default());
            return;
        }
        self.held.extend_from_slice(piece);
        if self.held.len() >= self.least() {
            let mut held = std::mem::take(&mut self.held);
            let done = self.advance(&held, fresh, false, emit);
            held.drain(..done);
            self.held = held;
        }
    }

    fn finish(mut self, fresh: &RecipeBuilder, emit: &mut impl FnMut(Instruction<'_>)) -> Work {
        let held = std::mem::take(&mut self.held);
        self.advance(&held, fresh, true, emit);
        self.end_copy(emit);
        self.matcher.work()
    }

    /// Searches bytes that start at `self.at`; how many were decided.
    fn advance(
        &mut self,
        bytes: &[u8],
        fresh: &RecipeBuilder,
        end: bool,
        emit: &mut impl FnMut(Instruction<'_>),
    ) -> usize {
        let (mut literal_from, mut done) = (0, 0);
        while done < bytes.len() {
            let step = self.matcher.step(View {
                at: self.at + done as u64,
                bytes: bytes.get(done..).unwrap_or_default(),
                fresh: fresh.blocks(),
                fine: fresh.fine(),
                end,
            });
            match step {
                Step::Wait => break,
                Step::Literal(length) => done += length,
                Step::Copy {
                    skipped,
                    offset,
                    length,
                } => {
                    self.end_literal(bytes.get(literal_from..done + skipped), emit);
                    self.extend_copy(offset, length as u64, emit);
                    done += skipped + length;
                    literal_from = done;
                }
                Step::Parts { offset, alike } => {
                    let part = self.block / PARTS;
                    for number in (0..PARTS).filter(|number| alike & 1 << number != 0) {
                        let at = number * part;
                        self.end_literal(bytes.get(literal_from..done + at), emit);
                        self.extend_copy(offset + at as u64, part as u64, emit);
                        literal_from = done + at + part;
                    }
                    done += self.block;
                }
            }
        }
        self.end_literal(bytes.get(literal_from..done), emit);
        self.at += done as u64;
        done
    }

    fn end_literal(&mut self, bytes: Option<&[u8]>, emit: &mut impl FnMut(Instruction<'_>)) {
        let bytes = bytes.unwrap_or_default();
        if !bytes.is_empty() {
            self.end_copy(emit);
            literal(bytes, emit);
        }
    }

    fn extend_copy(&mut self, offset: u64, more: u64, emit: &mut impl FnMut(Instruction<'_>)) {
        match &mut self.copy {
            Some((start, length)) if *start + *length == offset => *length += more,
            _ => {
                self.end_copy(emit);
                self.copy = Some((offset, more));
            }
        }
    }

    fn end_copy(&mut self, emit: &mut impl FnMut(Instruction<'_>)) {
        if let Some((offset, length)) = self.copy.take() {
            emit(Instruction::Copy { offset, length });
        }
    }
}

fn literal(bytes: &[u8], emit: &mut impl FnMut(Instruction<'_>)) {
    for piece in bytes.chunks(MAX_PIECE) {
        emit(Instruction::Literal(piece));
    }
}

#[cfg(test)]
mod tests;
