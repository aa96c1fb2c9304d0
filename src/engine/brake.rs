//! When deletions are held: what a scan or a comparison finds missing is believed only within limits; beyond them a
//! person decides.

/// Why deletions are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The source is empty and the mirror is not.
    Empty,
    /// More is missing than the limit allows.
    Most,
    /// Another directory is in the place of the source.
    Replaced,
    /// A directory of another file system is in the place of the source, or of the one that it was mounted on.
    Unmounted,
}

impl Hold {
    /// What was found, for a person.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the source is empty and the mirror is not",
            Self::Most => "a large part of the mirror is missing in the source",
            Self::Replaced => "another directory is in the place of the source",
            Self::Unmounted => {
                "a directory of another file system is in the place of the source, as when it is not mounted"
            }
        }
    }

    /// What to do, for a person. Whoever follows it without a thought loses nothing.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unmounted => {
                "mount the source, or put it back: the mirror then goes on by itself"
            }
            Self::Replaced => {
                "put the source back and the mirror goes on by itself; if the new directory is the source from now on, \
                 `syncd accept` shows what would be deleted and asks"
            }
            Self::Empty | Self::Most => {
                "bring back what is missing and the mirror goes on by itself; if you removed it, `syncd accept` shows \
                 what would be deleted and asks"
            }
        }
    }

    /// Whether it is for another directory in the place of the source.
    #[must_use]
    pub fn is_of_root(self) -> bool {
        matches!(self, Self::Replaced | Self::Unmounted)
    }

    /// The word under which it is stored.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Most => "most",
            Self::Replaced => "replaced",
            Self::Unmounted => "unmounted",
        }
    }

    /// The hold that was stored under a word.
    #[must_use]
    pub fn of_word(word: &[u8]) -> Option<Self> {
        [Self::Empty, Self::Most, Self::Replaced, Self::Unmounted]
            .into_iter()
            .find(|hold| hold.word().as_bytes() == word)
    }
}

/// So many entries may always be missing.
const LEAST: usize = 100;

/// Judges what was found missing: `missing` of `total` entries of the mirror, where the source has `present` entries at
/// its top and `percent` of all may be missing.
#[must_use]
pub fn judge(missing: usize, total: usize, present: usize, percent: u8) -> Option<Hold> {
    if missing == 0 {
        None
    } else if present == 0 && total > 1 {
        Some(Hold::Empty)
    } else if missing > LEAST
        && missing.saturating_mul(100) > total.saturating_mul(usize::from(percent))
    {
        Some(Hold::Most)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, judge};

    #[test]
    fn only_mass_disappearance_is_held() {
        assert_eq!(judge(0, 0, 0, 50), None);
        assert_eq!(judge(100, 110, 3, 50), None);
        assert_eq!(judge(101, 110, 3, 50), Some(Hold::Most));
        assert_eq!(judge(101, 1000, 3, 50), None);
        assert_eq!(judge(101, 1000, 3, 10), Some(Hold::Most));
        assert_eq!(judge(999, 1000, 3, 100), None);
        assert_eq!(judge(5, 5, 0, 100), Some(Hold::Empty));
    }

    #[test]
    fn a_hold_is_stored_as_a_word() {
        for hold in [Hold::Empty, Hold::Most, Hold::Replaced, Hold::Unmounted] {
            assert_eq!(Hold::of_word(hold.word().as_bytes()), Some(hold));
        }
        assert_eq!(Hold::of_word(b""), None);
    }

    #[test]
    fn nobody_is_told_to_accept_what_is_not_mounted() {
        assert!(!Hold::Unmounted.advice().contains("accept"));
    }
}
