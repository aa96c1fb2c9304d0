//! Instructions: how a new content is made from an old one, front to back.
//!
//! Packed, all numbers little-endian:
//!
//! ```text
//! 0 u8 | length u32 | bytes              literal
//! 1 u8 | offset u64 | length u64         copy from the old content
//! ```
//!
//! Lengths are at least 1, and `offset + length` fits into a `u64`. Whether a copy lies inside the old content, and how
//! much comes out in all, only its reader knows: it must check both before it writes.

use crate::model::limits::MAX_PIECE;

const LITERAL: u8 = 0;
const COPY: u8 = 1;

/// The next bytes of a new content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction<'a> {
    /// Bytes of the old content.
    Copy {
        /// Where they start there.
        offset: u64,
        /// How many, at least 1.
        length: u64,
    },
    /// Bytes that the old content does not have, at least 1.
    Literal(&'a [u8]),
}

/// Why bytes are not packed instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// The bytes end inside an instruction.
    #[error("an instruction ends early")]
    Short,
    /// A tag that is not defined.
    #[error("unknown instruction `{tag}`")]
    Tag {
        /// The tag.
        tag: u8,
    },
    /// An instruction that does nothing.
    #[error("an instruction has no length")]
    Empty,
    /// A copy whose end is beyond every file.
    #[error("a copy of {length} bytes from {offset} overflows")]
    Overflow {
        /// Where it starts.
        offset: u64,
        /// How long it is, in bytes.
        length: u64,
    },
}

impl Instruction<'_> {
    /// How many bytes of the new content it makes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Copy { length, .. } => *length,
            Self::Literal(bytes) => bytes.len() as u64,
        }
    }

    /// Appends it in packed form. A literal over 256 KiB becomes several; what does nothing is left out.
    pub fn pack(&self, out: &mut Vec<u8>) {
        match self {
            Self::Copy { length: 0, .. } => {}
            Self::Copy { offset, length } => {
                out.push(COPY);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&length.to_le_bytes());
            }
            Self::Literal(bytes) => {
                for piece in bytes.chunks(MAX_PIECE) {
                    out.push(LITERAL);
                    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(piece);
                }
            }
        }
    }
}

/// Appends a packed literal, whose bytes `fill` appends: at most 256 KiB. Nothing is left of one that has none, or fails.
///
/// # Errors
/// What `fill` says.
pub fn pack_literal<E>(
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[LITERAL, 0, 0, 0, 0]);
    let bytes = out.len();
    let filled = fill(out);
    let length = u32::try_from(out.len() - bytes).unwrap_or(u32::MAX);
    if filled.is_err() || length == 0 {
        out.truncate(start);
    } else if let Some(place) = out.get_mut(start + 1..bytes) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    filled
}

/// Reads packed instructions; after the first error it ends. At most one instruction for 6 bytes of input.
#[must_use]
pub fn unpack(packed: &[u8]) -> Instructions<'_> {
    Instructions { rest: packed }
}

/// An iterator over packed instructions.
#[derive(Clone, Debug)]
pub struct Instructions<'a> {
    rest: &'a [u8],
}

impl<'a> Instructions<'a> {
    fn read(&mut self) -> Result<Instruction<'a>, InstructionError> {
        match self.array()? {
            [LITERAL] => {
                let length = u32::from_le_bytes(self.array()?);
                if length == 0 {
                    return Err(InstructionError::Empty);
                }
                Ok(Instruction::Literal(self.take(length as usize)?))
            }
            [COPY] => {
                let offset = u64::from_le_bytes(self.array()?);
                let length = u64::from_le_bytes(self.array()?);
                if length == 0 {
                    return Err(InstructionError::Empty);
                }
                if offset.checked_add(length).is_none() {
                    return Err(InstructionError::Overflow { offset, length });
                }
                Ok(Instruction::Copy { offset, length })
            }
            [tag] => Err(InstructionError::Tag { tag }),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], InstructionError> {
        let (front, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(InstructionError::Short)?;
        self.rest = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InstructionError> {
        let (front, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(InstructionError::Short)?;
        self.rest = rest;
        Ok(*front)
    }
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Result<Instruction<'a>, InstructionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Applies instructions to bytes in memory: what a server does with files. `None` when a copy leaves the base or the
/// result is longer than `limit` bytes.
pub fn patch<'a>(
    base: &[u8],
    instructions: impl IntoIterator<Item = Instruction<'a>>,
    limit: usize,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for instruction in instructions {
        let bytes = match instruction {
            Instruction::Literal(bytes) => bytes,
            Instruction::Copy { offset, length } => {
                let start = usize::try_from(offset).ok()?;
                let end = start.checked_add(usize::try_from(length).ok()?)?;
                base.get(start..end)?
            }
        };
        if bytes.len() > limit - out.len() {
            return None;
        }
        out.extend_from_slice(bytes);
    }
    Some(out)
}

#[cfg(test)]
mod tests;
