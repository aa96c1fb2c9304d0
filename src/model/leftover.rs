//! What is left of an upload that did not come to its end, and how it is found again.

use super::RelPath;
use std::fmt;

/// By what a leftover is found: a hash of the path that it is for, which fits into a file's name and says nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeftoverKey(pub [u8; 16]);

impl LeftoverKey {
    /// The key of a path.
    #[must_use]
    pub fn of(path: &RelPath) -> Self {
        let hash = blake3::hash(path.as_bytes());
        Self(hash.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    /// Reads what `Display` writes; nothing when it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for LeftoverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::LeftoverKey;
    use crate::model::RelPath;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = |path: &[u8]| LeftoverKey::of(&RelPath::new(path).unwrap());
        let one = key(b"a/\xff");
        assert_eq!(LeftoverKey::parse(&one.to_string()), Some(one));
        assert_ne!(one, key(b"a/\xfe"));
        for wrong in ["", "0", &"0".repeat(31), &"0".repeat(34), &"X".repeat(32)] {
            assert_eq!(LeftoverKey::parse(wrong), None);
        }
    }
}
