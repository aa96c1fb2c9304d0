//! Sums of the parts of a block: where a block changed, which of its parts did not.
//!
//! A side that keeps them of what it sent needs no further round trip for a comparison finer than blocks. They are short:
//! that enough parts of a block are alike says that the block is the old one, changed in places, and a part that is alike
//! by chance makes a content of a wrong digest, which is then sent whole.

use crate::delta::rolling::Rolling;

/// Parts of a block.
pub(crate) const PARTS: usize = 16;
/// Parts that must be alike for a block to be taken for the old one, changed.
const ALIKE: u32 = 8;
/// Bytes of a part's sum.
const SUM: usize = 3;
/// Bytes of a packed row.
pub(crate) const FINE_BYTES: usize = PARTS * SUM;

/// 24 bits of the weak sum of each part of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fine([[u8; SUM]; PARTS]);

impl Fine {
    /// Which parts are alike, by their bits; nothing where too few are.
    pub(crate) fn alike(&self, other: &Self) -> Option<u16> {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        let alike = pairs.fold(0u16, |bits, (number, (one, two))| {
            bits | u16::from(one == two) << number
        });
        (alike.count_ones() >= ALIKE).then_some(alike)
    }

    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_flattened());
    }

    pub(crate) fn unpack(packed: &[u8; FINE_BYTES]) -> Self {
        let mut fine = Self::default();
        for (sum, bytes) in fine.0.iter_mut().zip(packed.as_chunks::<SUM>().0) {
            *sum = *bytes;
        }
        fine
    }

    fn set(&mut self, number: usize, sum: u64) {
        if let Some(place) = self.0.get_mut(number) {
            let [.., a, b, c] = mixed(sum).to_le_bytes();
            *place = [a, b, c];
        }
    }
}

/// A weak sum with the lower bits spread over the upper ones: the last byte of a part counts in the lower ones only.
/// (Multiplication by 2^64 over the golden ratio, after Knuth, "The Art of Computer Programming", volume 3, 6.4.)
fn mixed(sum: u64) -> u64 {
    (sum ^ sum >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The sum of a block, from the sums of its parts. The parts of a block that ends early have none.
#[derive(Clone, Debug)]
pub(crate) struct PartSums {
    /// Bytes of a part.
    part: usize,
    /// What the sum of a part is multiplied by when another part follows it.
    ahead: u64,
    fine: Fine,
    /// The sum of the parts that are done, and of the one in hand.
    done: u64,
    hand: u64,
    filled: usize,
}

impl PartSums {
    pub(crate) fn new(rolling: &Rolling, block: u32) -> Self {
        let part = (block as usize / PARTS).max(1);
        Self {
            part,
            ahead: rolling.ahead(part),
            fine: Fine::default(),
            done: 0,
            hand: 0,
            filled: 0,
        }
    }

    /// Takes the next bytes of the block in hand, at most as many as it lacks.
    pub(crate) fn update(&mut self, rolling: &Rolling, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let lacks = self.part - self.filled % self.part;
            let (head, rest) = bytes.split_at(bytes.len().min(lacks));
            self.hand = rolling.extend(self.hand, head);
            self.filled += head.len();
            if head.len() == lacks {
                self.fine.set(self.filled / self.part - 1, self.hand);
                self.done = self.done.wrapping_mul(self.ahead).wrapping_add(self.hand);
                self.hand = 0;
            }
            bytes = rest;
        }
    }

    /// Ends the block: its sum, and the sums of its parts.
    pub(crate) fn finish(&mut self, rolling: &Rolling) -> (u64, Fine) {
        let ahead = rolling.ahead(self.filled % self.part);
        let sum = self.done.wrapping_mul(ahead).wrapping_add(self.hand);
        let fine = std::mem::take(&mut self.fine);
        (self.done, self.hand, self.filled) = (0, 0, 0);
        (sum, fine)
    }
}

#[cfg(test)]
mod tests {
    use super::{FINE_BYTES, Fine, PartSums};
    use crate::delta::rolling::Rolling;
    use proptest::prelude::*;

    #[test]
    fn a_packed_row_reads_back() {
        let row: [u8; FINE_BYTES] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let mut packed = Vec::new();
        Fine::unpack(&row).pack(&mut packed);
        assert_eq!(packed, row);
    }

    #[test]
    fn each_byte_of_a_part_counts() {
        let rolling = Rolling::new(9);
        let fine = |bytes: &[u8]| {
            let mut sums = PartSums::new(&rolling, 4096);
            sums.update(&rolling, bytes);
            sums.finish(&rolling).1
        };
        let mut bytes = vec![7; 4096];
        let old = fine(&bytes);
        for at in 0..4096 {
            for change in [1, 128, 255] {
                bytes[at] ^= change;
                let alike = old.alike(&fine(&bytes)).unwrap();
                assert_eq!(!alike, 1 << (at / 256), "{at}");
                bytes[at] ^= change;
            }
        }
    }

    proptest! {
        #[test]
        fn the_sum_of_the_parts_is_the_sum_of_the_block(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            cut in 0usize..4096,
        ) {
            let rolling = Rolling::new(3);
            let mut sums = PartSums::new(&rolling, 4096);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            for again in 0..2 {
                sums.update(&rolling, head);
                sums.update(&rolling, tail);
                prop_assert_eq!(sums.finish(&rolling).0, rolling.sum(&bytes), "{}", again);
            }
        }
    }
}
