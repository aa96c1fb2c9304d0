//! The content digest: BLAKE3( size: u64 LE || the BLAKE3 hashes of the fixed 64 KiB leaves ).
//!
//! The size stands in front but is known last. The outer hash is therefore kept as BLAKE3 subtrees: the first chunk
//! (which holds the size) waits for the end, and the right siblings on its way to the root, of 1, 2, 4, … chunks, are
//! hashed as they come. Memory is constant: at most 64 chaining values.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::model::Digest;
use crate::model::limits::LEAF;

/// Computes the content digest of a file from consecutive pieces of it.
#[derive(Clone, Debug)]
pub struct ContentHasher {
    size: u64,
    /// The leaf in hand; `filled < LEAF` of its bytes are hashed.
    leaf: Hasher,
    filled: usize,
    outer: Outer,
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentHasher {
    /// A hasher of the empty content.
    #[must_use]
    pub fn new() -> Self {
        Self {
            size: 0,
            leaf: Hasher::new(),
            filled: 0,
            outer: Outer::default(),
        }
    }

    /// Takes the next bytes. Whole leaves are hashed where they lie; pieces that are multiples of 64 KiB are fastest.
    pub fn update(&mut self, mut piece: &[u8]) {
        self.size += piece.len() as u64;
        if self.filled > 0 {
            let (head, rest) = piece.split_at(piece.len().min(LEAF - self.filled));
            self.leaf.update(head);
            self.filled += head.len();
            piece = rest;
            if self.filled < LEAF {
                return;
            }
            self.end_leaf();
        }
        let mut leaves = piece.chunks_exact(LEAF);
        for leaf in leaves.by_ref() {
            self.outer.write(blake3::hash(leaf).as_bytes());
        }
        let tail = leaves.remainder();
        if !tail.is_empty() {
            self.leaf.update(tail);
            self.filled = tail.len();
        }
    }

    /// The size in bytes and the digest of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> (u64, Digest) {
        if self.filled > 0 {
            self.end_leaf();
        }
        (self.size, Digest(self.outer.finish(self.size)))
    }

    fn end_leaf(&mut self) {
        self.outer.write(self.leaf.finalize().as_bytes());
        self.leaf.reset();
        self.filled = 0;
    }
}

/// The content digest of bytes in memory.
#[must_use]
pub fn digest(content: &[u8]) -> Digest {
    let mut hasher = ContentHasher::new();
    hasher.update(content);
    hasher.finish().1
}

/// Bytes of a BLAKE3 chunk.
const CHUNK: usize = 1024;
/// Bytes of the first chunk that follow the size.
const FIRST: usize = CHUNK - size_of::<u64>();

/// BLAKE3 of eight bytes that are told last, and of the bytes written before.
#[derive(Clone, Default, Debug)]
struct Outer {
    /// What follows the size in the first chunk; at most `FIRST` bytes.
    first: Vec<u8>,
    /// The finished right siblings on the way from the first chunk to the root; the i-th covers 2^i chunks.
    siblings: Vec<[u8; 32]>,
    /// The sibling in hand and how many bytes it still takes.
    open: Option<(Hasher, u64)>,
}

impl Outer {
    fn write(&mut self, bytes: &[u8]) {
        let (head, mut rest) = bytes.split_at(bytes.len().min(FIRST - self.first.len()));
        self.first.extend_from_slice(head);
        while !rest.is_empty() {
            let (mut sibling, room) = self.open.take().unwrap_or_else(|| {
                let length = (CHUNK as u64) << self.siblings.len();
                let mut sibling = Hasher::new();
                sibling.set_input_offset(length);
                (sibling, length)
            });
            let fits = usize::try_from(room).unwrap_or(usize::MAX);
            let (head, tail) = rest.split_at(rest.len().min(fits));
            sibling.update(head);
            rest = tail;
            match room - head.len() as u64 {
                0 => self.siblings.push(sibling.finalize_non_root()),
                room => self.open = Some((sibling, room)),
            }
        }
    }

    fn finish(mut self, size: u64) -> [u8; 32] {
        if let Some((sibling, _)) = self.open {
            self.siblings.push(sibling.finalize_non_root());
        }
        let mut first = Hasher::new();
        first.update(&size.to_le_bytes());
        first.update(&self.first);
        let Some(last) = self.siblings.pop() else {
            return *first.finalize().as_bytes();
        };
        let left = self
            .siblings
            .iter()
            .fold(first.finalize_non_root(), |left, right| {
                merge_subtrees_non_root(&left, right, Mode::Hash)
            });
        *merge_subtrees_root(&left, &last, Mode::Hash).as_bytes()
    }
}

#[cfg(test)]
mod tests;
