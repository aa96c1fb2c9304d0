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
    /// A file system that was mounted inside the source is not there.
    Inside,
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
            Self::Inside => "a file system that was mounted in the source is not mounted there",
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
            Self::Inside => {
                "mount it again and the mirror goes on by itself; if what was on it is to go, `syncd accept` shows what \
                 would be deleted and asks"
            }
            Self::Empty | Self::Most => {
                "bring back what is missing and the mirror goes on by itself; if you removed it, `syncd accept` shows \
                 what would be deleted and asks"
            }
        }
    }

    /// Whether it is for another directory in the place of one, and ends with that.
    #[must_use]
    pub fn is_of_place(self) -> bool {
        matches!(self, Self::Replaced | Self::Unmounted | Self::Inside)
    }

    /// The word under which it is stored.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Most => "most",
            Self::Replaced => "replaced",
            Self::Unmounted => "unmounted",
            Self::Inside => "inside",
        }
    }

    /// The hold that was stored under a word.
    #[must_use]
    pub fn of_word(word: &[u8]) -> Option<Self> {
        [
            Self::Empty,
            Self::Most,
            Self::Replaced,
            Self::Unmounted,
            Self::Inside,
        ]
        .into_iter()
        .find(|hold| hold.word().as_bytes() == word)
    }
}

/// So many entries may be missing, unless none may.
const LEAST: usize = 100;

/// What was found missing, and how much may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Entries of the mirror that the source lacks.
    pub missing: usize,
    /// Entries of the mirror.
    pub total: usize,
    /// Whether the source has anything at its top.
    pub present: bool,
    /// What share of the mirror may be missing, in percent.
    pub percent: u8,
    /// Whether it is the source that the mirror was made of, as far as can be told. In another, few count as many.
    pub certain: bool,
}

/// Judges what was found missing.
#[must_use]
pub fn judge(loss: &Loss) -> Option<Hold> {
    let few = loss.certain && loss.percent > 0;
    let least = if few { LEAST } else { 0 };
    let allowed = loss.total.saturating_mul(usize::from(loss.percent));
    if loss.missing == 0 {
        None
    } else if !loss.present && loss.total > 1 {
        Some(Hold::Empty)
    } else if loss.missing > least && loss.missing.saturating_mul(100) > allowed {
        Some(Hold::Most)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, Loss};

    fn judge(missing: usize, total: usize, present: bool, percent: u8) -> Option<Hold> {
        super::judge(&Loss {
            missing,
            total,
            present,
            percent,
            certain: true,
        })
    }

    #[test]
    fn only_mass_disappearance_is_held() {
        assert_eq!(judge(0, 0, false, 50), None);
        assert_eq!(judge(100, 110, true, 50), None);
        assert_eq!(judge(101, 110, true, 50), Some(Hold::Most));
        assert_eq!(judge(101, 1000, true, 50), None);
        assert_eq!(judge(101, 1000, true, 10), Some(Hold::Most));
        assert_eq!(judge(999, 1000, true, 100), None);
        assert_eq!(judge(5, 5, false, 100), Some(Hold::Empty));
        assert_eq!(judge(1, 1000, true, 0), Some(Hold::Most));
        assert_eq!(judge(0, 1000, true, 0), None);
        let card = Loss {
            missing: 6,
            total: 10,
            present: true,
            percent: 50,
            certain: false,
        };
        assert_eq!(super::judge(&card), Some(Hold::Most));
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
