//! Bodies that travel packed: one zstd frame whose size when unpacked is in the header of its message.

/// How much is done to make a body short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// As fast as possible.
    Quick,
    /// A tenth shorter at twice the cost; what more would gain costs several times as much.
    Thorough,
}

impl Effort {
    fn level(self) -> i32 {
        match self {
            Self::Quick => 1,
            Self::Thorough => 3,
        }
    }
}

/// Why a packed body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// More is announced than such a body may hold.
    #[error("a packed body of {announced} bytes was announced, 1 to {limit} are allowed")]
    Size {
        /// What the peer announced, in bytes.
        announced: u32,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// It is damaged, or not as long as announced.
    #[error("a packed body does not unpack to the {announced} bytes that were announced")]
    Damaged {
        /// What the peer announced, in bytes.
        announced: u32,
    },
}

/// Packs a body; none when less than a sixteenth is gained, or when it is longer than `limit` bytes. Gives with it the size
/// that [`unpack`] is to be told.
#[must_use]
pub fn pack(body: &[u8], limit: usize, effort: Effort) -> Option<(Vec<u8>, u32)> {
    let size = u32::try_from(body.len()).ok()?;
    if body.len() > limit {
        return None;
    }
    let packed = zstd::bulk::compress(body, effort.level()).ok()?;
    (packed.len() < body.len() - body.len() / 16).then_some((packed, size))
}

/// Unpacks a body of a peer. Takes no more memory than `size` bytes and a decoder, whatever the body holds.
///
/// # Errors
/// When `size` is zero or over `limit`, before anything is reserved; when the body does not unpack to exactly `size` bytes.
pub fn unpack(body: &[u8], size: u32, limit: usize) -> Result<Vec<u8>, UnpackError> {
    let announced = size;
    let size = size as usize;
    if size == 0 || size > limit {
        return Err(UnpackError::Size { announced, limit });
    }
    match zstd::bulk::decompress(body, size) {
        Ok(unpacked) if unpacked.len() == size => Ok(unpacked),
        _ => Err(UnpackError::Damaged { announced }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Effort, UnpackError, pack, unpack};
    use crate::model::limits::MAX_PIECE_BODY;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const LONGEST: u32 = 256 * 1024 + 64;

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0u8; 64 * MAX_PIECE_BODY];
        let bomb = zstd::bulk::compress(&zeros, 19).unwrap();
        assert!(bomb.len() < 64 * 1024);
        let length = u32::try_from(zeros.len()).unwrap();
        for announced in [0, LONGEST + 1, length, u32::MAX] {
            assert_eq!(
                unpack(&bomb, announced, MAX_PIECE_BODY),
                Err(UnpackError::Size {
                    announced,
                    limit: MAX_PIECE_BODY
                })
            );
        }
        for announced in [1, LONGEST] {
            assert_eq!(
                unpack(&bomb, announced, MAX_PIECE_BODY),
                Err(UnpackError::Damaged { announced })
            );
        }
        assert_eq!(LONGEST as usize, MAX_PIECE_BODY);
        assert_eq!(
            pack(&zeros, MAX_PIECE_BODY, Effort::Quick),
            None,
            "longer than a piece"
        );
    }

    #[test]
    fn a_size_that_is_not_kept_to_is_refused() {
        let (packed, size) = pack(&[7; 10_000], MAX_PIECE_BODY, Effort::Quick).unwrap();
        assert_eq!(unpack(&packed, size, MAX_PIECE_BODY).unwrap(), [7; 10_000]);
        for announced in [size - 1, size + 1, LONGEST] {
            assert_eq!(
                unpack(&packed, announced, MAX_PIECE_BODY),
                Err(UnpackError::Damaged { announced })
            );
        }
        assert_eq!(
            unpack(&[], size, MAX_PIECE_BODY),
            Err(UnpackError::Damaged { announced: size })
        );
        // A second frame behind the first is more than was announced.
        let twice = [&packed[..], &packed].concat();
        assert!(unpack(&twice, size, MAX_PIECE_BODY).is_err());
    }

    /// Text of few words, which packs, and bytes, which do not.
    fn any_body() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..500),
            vec(prop::sample::select(vec!["let ", "mut ", "self."]), 0..500)
                .prop_map(|words| words.concat().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn what_is_packed_is_smaller_and_returns(
            body in any_body(),
            effort in prop::sample::select(vec![Effort::Quick, Effort::Thorough]),
        ) {
            if let Some((packed, size)) = pack(&body, MAX_PIECE_BODY, effort) {
                prop_assert!(packed.len() < body.len());
                prop_assert_eq!(unpack(&packed, size, MAX_PIECE_BODY).unwrap(), body);
            }
        }

        #[test]
        fn random_bytes_and_damage_never_give_another_length(
            body in any_body(),
            size in prop_oneof![0..2000u32, any::<u32>()],
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            for input in [Some(body.clone()), pack(&body, MAX_PIECE_BODY, Effort::Quick).map(|(packed, _)| packed)] {
                let Some(mut input) = input.filter(|input| !input.is_empty()) else {
                    continue;
                };
                for (place, byte) in &damage {
                    let at = place.index(input.len());
                    input[at] = *byte;
                }
                for size in [size, u32::try_from(body.len()).unwrap()] {
                    if let Ok(unpacked) = unpack(&input, size, MAX_PIECE_BODY) {
                        prop_assert_eq!(unpacked.len(), size as usize);
                    }
                }
            }
        }
    }
}
