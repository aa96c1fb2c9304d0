//! The weak sum: a Karp-Rabin fingerprint, the bytes of a window as the digits of a number to a secret base, modulo 2^64;
//! its upper 32 bits are what a recipe keeps.
//!
//! Source: Karp and Rabin, "Efficient randomized pattern-matching algorithms" (1987). The base follows from a seed that is
//! drawn for each file, so that common collisions cannot be prepared. It is 5 modulo 8, which gives its powers the
//! longest period. A modulus that is a power of two costs no division, and has a known price: blocks made of
//! Thue-Morse words of 2,048 bytes and more collide under every base. Nothing may therefore depend on how seldom sums
//! collide: matches are confirmed by a strong hash, and the search gives false alarms a budget (`matcher`).

/// Accumulators of a block's sum; as many products are under way at a time.
const LANES: usize = 8;
/// Positions of a scan between two looks at where the bytes end.
const ROW: usize = 8;

/// Weak sums under one seed.
#[derive(Clone, Debug)]
pub(crate) struct Rolling {
    base: u64,
    /// base^LANES.
    stride: u64,
}

/// What a recipe keeps of a sum.
pub(crate) fn weak(sum: u64) -> u32 {
    u32::try_from(sum >> 32).unwrap_or(u32::MAX)
}

impl Rolling {
    pub(crate) fn new(seed: u64) -> Self {
        let hash = blake3::derive_key("syncd 2026 base of the weak sum", &seed.to_le_bytes());
        let word = hash.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let base = word & !7 | 5;
        Self {
            base,
            stride: power(base, LANES as u64),
        }
    }

    /// The sum of bytes.
    pub(crate) fn sum(&self, bytes: &[u8]) -> u64 {
        self.extend(0, bytes)
    }

    /// The sum of what `sum` stands for, followed by `bytes`.
    pub(crate) fn extend(&self, sum: u64, bytes: &[u8]) -> u64 {
        let (rows, tail) = bytes.as_chunks::<LANES>();
        let mut lanes = [0u64; LANES];
        for row in rows {
            for (lane, byte) in lanes.iter_mut().zip(row) {
                *lane = lane
                    .wrapping_mul(self.stride)
                    .wrapping_add(u64::from(*byte));
            }
        }
        let next = |sum: u64, digit: u64| sum.wrapping_mul(self.base).wrapping_add(digit);
        // The power is not worked out for the many short sums that begin with nothing.
        let ahead = match sum {
            0 => 0,
            sum => sum.wrapping_mul(self.ahead(rows.len() * LANES)),
        };
        let sum = ahead.wrapping_add(lanes.into_iter().fold(0, next));
        tail.iter().map(|byte| u64::from(*byte)).fold(sum, next)
    }

    /// What a sum is multiplied by when `length` bytes follow.
    pub(crate) fn ahead(&self, length: usize) -> u64 {
        power(self.base, length as u64)
    }

    /// What rolls windows of `length` bytes.
    pub(crate) fn window(&self, length: u32) -> Window {
        let gone = power(self.base, u64::from(length));
        let mut leave = [0; 256];
        for (byte, place) in (0u64..).zip(&mut leave) {
            *place = byte.wrapping_mul(gone).wrapping_neg();
        }
        Window {
            base: self.base,
            leave,
        }
    }
}

/// Rolls the sum of a window of one length.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    base: u64,
    /// What is added when a byte leaves: minus the byte times base^length.
    leave: [u64; 256],
}

/// Where a scan stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stop {
    /// How many positions the window moved.
    pub(crate) moved: usize,
    /// The sum of the window there.
    pub(crate) sum: u64,
    /// Whether the filter lets it pass; otherwise the bytes ended.
    pub(crate) hit: bool,
}

impl Window {
    /// Moves a window whose sum is `sum` until `filter` lets the sum pass, at least by one byte. `leaving` and `entering`, of
    /// equal length, are the bytes that leave and enter on the way.
    // Not inlined: the loop needs all registers for itself.
    #[inline(never)]
    pub(crate) fn scan(
        &self,
        mut sum: u64,
        (leaving, entering): (&[u8], &[u8]),
        filter: &Filter,
    ) -> Stop {
        let (out_rows, out_rest) = leaving.as_chunks::<ROW>();
        let (in_rows, in_rest) = entering.as_chunks::<ROW>();
        let mut moved = 0usize;
        for (out_row, in_row) in out_rows.iter().zip(in_rows) {
            for (leaves, enters) in out_row.iter().zip(in_row) {
                sum = self.roll(sum, *leaves, *enters);
                moved = moved.wrapping_add(1);
                if filter.passes(sum) {
                    let hit = true;
                    return Stop { moved, sum, hit };
                }
            }
        }
        for (leaves, enters) in out_rest.iter().zip(in_rest) {
            sum = self.roll(sum, *leaves, *enters);
            moved = moved.wrapping_add(1);
            if filter.passes(sum) {
                let hit = true;
                return Stop { moved, sum, hit };
            }
        }
        let hit = false;
        Stop { moved, sum, hit }
    }

    fn roll(&self, sum: u64, leaves: u8, enters: u8) -> u64 {
        let gone = self.leave.get(usize::from(leaves)).copied().unwrap_or(0);
        let digit = gone.wrapping_add(u64::from(enters));
        sum.wrapping_mul(self.base).wrapping_add(digit)
    }
}

/// A set of sums in front of a table: of the sums that are not in the table, about one in 500 passes. (A Bloom filter
/// whose two bits lie in one word, so that a question costs one access, and mostly one branch.)
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// As many as a power of two.
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for about `count` sums: 64 bits for each within 2^13 to 2^22 bits (1 to 512 KiB).
    pub(crate) fn new(count: usize) -> Self {
        let words = count.clamp(1 << 7, 1 << 16).next_power_of_two();
        Self {
            words: vec![0; words],
        }
    }

    pub(crate) fn insert(&mut self, weak: u32) {
        let place = (weak >> 6) as usize & (self.words.len() - 1);
        if let Some(word) = self.words.get_mut(place) {
            *word |= 1 << (weak % 64) | 1 << (weak >> 26);
        }
    }

    pub(crate) fn passes(&self, sum: u64) -> bool {
        let weak = weak(sum);
        let place = (weak >> 6) as usize & (self.words.len() - 1);
        let word = self.words.get(place).copied().unwrap_or(0);
        word & 1 << (weak % 64) != 0 && word & 1 << (weak >> 26) != 0
    }
}

fn power(base: u64, mut exponent: u64) -> u64 {
    let (mut square, mut out) = (base, 1u64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        exponent >>= 1;
    }
    out
}

#[cfg(test)]
mod tests;
