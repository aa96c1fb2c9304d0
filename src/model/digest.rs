//! Digests of contents and sums of directories.

use std::fmt;

/// The content digest of a file: BLAKE3 over its size and the BLAKE3 hashes of its 64 KiB leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Digest(pub [u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct ParseDigestError;

impl Digest {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, ParseDigestError> {
        let bytes = data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| ParseDigestError)?;
        Ok(Self(bytes.try_into().map_err(|_| ParseDigestError)?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// An incrementally updatable digest of a set: the lane-wise sum of its members' hashes
/// (Bellare and Micciancio's AdHash). Order does not matter, and a member can be taken out again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Sum(pub [u64; 4]);

impl Sum {
    /// The sum of one member, given its 32-byte hash.
    #[must_use]
    pub fn of(hash: [u8; 32]) -> Self {
        let mut lanes = [0u64; 4];
        for (lane, chunk) in lanes.iter_mut().zip(hash.chunks_exact(8)) {
            let mut word = [0u8; 8];
            word.copy_from_slice(chunk);
            *lane = u64::from_le_bytes(word);
        }
        Self(lanes)
    }

    /// Takes a member in.
    pub fn add(&mut self, other: Self) {
        for (lane, more) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(more);
        }
    }

    /// Takes a member out.
    pub fn sub(&mut self, other: Self) {
        for (lane, less) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_sub(less);
        }
    }

    /// The 32 bytes that stand for it on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut out = [0u8; 32];
        for (chunk, lane) in out.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Sum};

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let digest = Digest([0xa5; 32]);
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert!(Digest::parse("a5").is_err());
    }

    #[test]
    fn a_sum_forgets_what_is_taken_out() {
        let (a, b) = (Sum::of([7; 32]), Sum::of([255; 32]));
        let mut sum = a;
        sum.add(b);
        sum.sub(a);
        assert_eq!(sum, b);
        assert_eq!(Sum::of(sum.to_bytes()), sum);
    }
}
