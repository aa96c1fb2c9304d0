//! Bytes and numbers that a seed decides, the same on every machine.

use std::ops::RangeInclusive;

/// What came before the seed: another version of the format would have another word.
const DOMAIN: &[u8] = b"syncd bench data 1";
/// Characters of names.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A stream of bytes that a seed and a number decide.
pub(super) struct Stream(blake3::OutputReader);

impl Stream {
    /// The stream of a number. Those of different numbers have nothing to do with each other.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        hasher.update(&seed.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// The next bytes.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }

    /// A number of a range, each as likely as the others but for what 64 bits do not divide evenly.
    pub(super) fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let width = (range.end() - range.start()).saturating_add(1);
        range.start() + u64::from_le_bytes(bytes) % width
    }

    /// A name of letters and digits, of 8 to 24 of them.
    pub(super) fn name(&mut self) -> String {
        let length = self.within(&(8..=24));
        let letter = |stream: &mut Self| {
            let at = usize::try_from(stream.within(&(0..=31))).unwrap_or(0);
            char::from(LETTERS.get(at).copied().unwrap_or(b'a'))
        };
        (0..length).map(|_| letter(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn a_seed_gives_the_same_everywhere() {
        let mut stream = Stream::new(1, 0);
        assert_eq!(stream.name(), "t7ijs5pqnoljdl5rhard");
        assert_ne!(Stream::new(1, 1).name(), Stream::new(2, 1).name());
        let (mut a, mut b) = ([0; 64], [0; 64]);
        Stream::new(7, 3).fill(&mut a);
        Stream::new(7, 3).fill(&mut b);
        assert_eq!(a, b);
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let mut stream = Stream::new(3, 0);
        let numbers: Vec<u64> = (0..200).map(|_| stream.within(&(5..=7))).collect();
        assert!(numbers.iter().all(|number| (5..=7).contains(number)));
        assert!((5..=7).all(|number| numbers.contains(&number)));
        assert_eq!(stream.within(&(9..=9)), 9);
    }
}
