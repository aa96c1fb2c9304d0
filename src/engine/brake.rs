//! When deletions are held: a scan that finds the source empty, or most of it missing, is believed only by a person.

/// Why deletions are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The source is empty and the mirror is not.
    Empty,
    /// More is missing than the limit allows.
    Most {
        /// Entries that a scan did not find.
        missing: usize,
        /// Entries of the mirror.
        total: usize,
    },
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the source is empty and the mirror is not: nothing is deleted")
            }
            Self::Most { missing, total } => {
                write!(
                    f,
                    "{missing} of {total} entries are missing in the source: nothing is deleted"
                )
            }
        }
    }
}

/// What share of the entries, in percent, may be missing after a scan.
const GUARD_PERCENT: usize = 50;
/// So many entries may always be missing.
const GUARD_LEAST: usize = 100;

/// Judges what a scan found missing. `present` is the number of entries that the scan did find at the top.
#[must_use]
pub fn judge(missing: usize, total: usize, present: usize) -> Option<Hold> {
    if missing == 0 {
        None
    } else if present == 0 && total > 1 {
        Some(Hold::Empty)
    } else if missing > GUARD_LEAST
        && missing.saturating_mul(100) > total.saturating_mul(GUARD_PERCENT)
    {
        Some(Hold::Most { missing, total })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, judge};

    #[test]
    fn only_mass_disappearance_is_held() {
        assert_eq!(judge(0, 0, 0), None);
        assert_eq!(judge(100, 110, 3), None);
        assert_eq!(
            judge(101, 110, 3),
            Some(Hold::Most {
                missing: 101,
                total: 110
            })
        );
        assert_eq!(judge(101, 1000, 3), None);
        assert_eq!(judge(5, 5, 0), Some(Hold::Empty));
    }
}
