//! The weak sum: a Karp-Rabin fingerprint, the bytes of a window as the digits of a number to a secret base, modulo the
//! Mersenne prime 2^31 - 1.
//!
//! Sources: Karp and Rabin, "Efficient randomized pattern-matching algorithms" (1987); Carter and Wegman, "Universal
//! classes of hash functions" (1979) for the modulus. The base follows from a seed that is drawn for each file: two
//! different windows of `n` bytes have the same sum for fewer than `n` of about 2^30 bases, so nobody who does not
//! know the seed can prepare blocks that collide. (Sums of halves as in rsync, and every sum modulo a power of two, have
//! collisions that hold for every seed.) Sums are below 2^31.

const PRIME: u64 = (1 << 31) - 1;
const LANES: usize = 64;

/// Weak sums under one seed.
#[derive(Clone, Debug)]
pub(crate) struct Rolling {
    /// The base; below 2^30, so that a product with a sum that is folded once stays below 2^63.
    base: u64,
    /// base^63, …, base, 1.
    powers: [u32; LANES],
    /// base^64.
    stride: u64,
}

impl Rolling {
    pub(crate) fn new(seed: u64) -> Self {
        let hash = blake3::derive_key("syncd 2026 weak sum base", &seed.to_le_bytes());
        let word = hash.first_chunk().copied().map_or(0, u32::from_le_bytes);
        let base = 256 + u64::from(word) % ((1 << 30) - 256);
        let mut powers = [0; LANES];
        let mut power = 1;
        for place in powers.iter_mut().rev() {
            *place = narrow(power);
            power = reduce(power * base);
        }
        Self {
            base,
            powers,
            stride: power,
        }
    }

    /// The sum of bytes.
    pub(crate) fn sum(&self, bytes: &[u8]) -> u32 {
        self.extend(0, bytes)
    }

    /// The sum of what `sum` stands for, followed by `bytes`.
    pub(crate) fn extend(&self, sum: u32, bytes: &[u8]) -> u32 {
        let (rows, tail) = bytes.as_chunks::<LANES>();
        let sum = rows.iter().fold(u64::from(sum), |sum, row| {
            reduce(sum * self.stride + dot(row, &self.powers))
        });
        narrow(
            tail.iter()
                .fold(sum, |sum, byte| reduce(sum * self.base + u64::from(*byte))),
        )
    }

    /// What rolls windows of `length` bytes.
    pub(crate) fn window(&self, length: u32) -> Window {
        let shift = power(self.base, length);
        let mut leave = [0; 256];
        for (byte, place) in (0u64..).zip(&mut leave) {
            *place = narrow((PRIME - reduce(byte * shift)) % PRIME);
        }
        Window {
            base: self.base,
            square: reduce(self.base * self.base),
            leave,
        }
    }
}

/// Rolls the sum of a window of one length.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    base: u64,
    square: u64,
    /// What is added when a byte leaves: minus the byte times base^length.
    leave: [u32; 256],
}

/// Where a scan stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stop {
    /// How many positions the window moved.
    pub(crate) moved: usize,
    /// The sum of the window there.
    pub(crate) sum: u32,
    /// Whether the filter lets it pass; otherwise the bytes ended.
    pub(crate) hit: bool,
}

impl Window {
    /// Moves a window whose sum is `sum` until `filter` lets the sum pass, at least by one byte. `leaving` and `entering`, of
    /// equal length, are the bytes that leave and enter on the way.
    pub(crate) fn scan(
        &self,
        sum: u32,
        (leaving, entering): (&[u8], &[u8]),
        filter: &Filter,
    ) -> Stop {
        let mut sum = u64::from(sum);
        let stop = |moved, sum, hit| Stop {
            moved,
            sum: narrow(sum),
            hit,
        };
        let (out_pairs, out_last) = leaving.as_chunks::<2>();
        let (in_pairs, in_last) = entering.as_chunks::<2>();
        // Two positions a round, both computed from the round's start: the chain of multiplications, on which the
        // rounds wait, is half as long.
        for (round, ([out_a, out_b], [in_a, in_b])) in out_pairs.iter().zip(in_pairs).enumerate() {
            let (a, b) = (self.digit(*out_a, *in_a), self.digit(*out_b, *in_b));
            let first = reduce(sum.wrapping_mul(self.base).wrapping_add(a));
            let ahead = fold(a.wrapping_mul(self.base)).wrapping_add(b);
            sum = reduce(sum.wrapping_mul(self.square).wrapping_add(ahead));
            if filter.passes(first) {
                return stop(2 * round + 1, first, true);
            }
            if filter.passes(sum) {
                return stop(2 * round + 2, sum, true);
            }
        }
        let moved = 2 * out_pairs.len();
        let (Some(leaves), Some(enters)) = (out_last.first(), in_last.first()) else {
            return stop(moved, sum, false);
        };
        sum = reduce(sum * self.base + self.digit(*leaves, *enters));
        stop(moved + 1, sum, filter.passes(sum))
    }

    fn digit(&self, leaves: u8, enters: u8) -> u64 {
        let leave = self.leave.get(usize::from(leaves)).copied().unwrap_or(0);
        u64::from(leave) + u64::from(enters)
    }
}

/// A bitmap of sums in front of a table: most sums that are not in the table are refused here.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    bits: Vec<u64>,
    shift: u32,
}

impl Filter {
    /// An empty filter for about `count` sums: at least 32 bits for each within 2^13 to 2^22 bits (1 to 512 KiB).
    pub(crate) fn new(count: usize) -> Self {
        let bits = count.saturating_mul(32).clamp(1 << 13, 1 << 22);
        let bits = bits.next_power_of_two();
        Self {
            bits: vec![0; bits / 64],
            shift: 31 - bits.trailing_zeros(),
        }
    }

    pub(crate) fn insert(&mut self, sum: u32) {
        let (word, bit) = self.place(u64::from(sum));
        if let Some(word) = self.bits.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn passes(&self, sum: u64) -> bool {
        let (word, bit) = self.place(sum);
        self.bits.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    fn place(&self, sum: u64) -> (usize, u64) {
        let bit = sum >> self.shift;
        (usize::try_from(bit / 64).unwrap_or(usize::MAX), bit % 64)
    }
}

fn dot(row: &[u8; LANES], powers: &[u32; LANES]) -> u64 {
    row.iter().zip(powers).fold(0, |sum: u64, (byte, power)| {
        sum.wrapping_add(u64::from(*byte).wrapping_mul(u64::from(*power)))
    })
}

fn power(base: u64, mut exponent: u32) -> u64 {
    let (mut square, mut out) = (base, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = reduce(out * square);
        }
        square = reduce(square * square);
        exponent >>= 1;
    }
    out
}

/// A smaller number with the same remainder: 2^31 leaves 1.
fn fold(number: u64) -> u64 {
    (number & PRIME).wrapping_add(number >> 31)
}

/// The remainder.
fn reduce(number: u64) -> u64 {
    let folded = fold(fold(number));
    if folded >= PRIME {
        folded - PRIME
    } else {
        folded
    }
}

fn narrow(sum: u64) -> u32 {
    u32::try_from(sum).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
