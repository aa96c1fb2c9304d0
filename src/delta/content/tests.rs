use super::{ContentHasher, Outer, digest};
use crate::model::Digest;
use crate::model::limits::LEAF;
use proptest::prelude::*;

/// The definition, word for word.
fn defined(content: &[u8]) -> Digest {
    let mut all = (content.len() as u64).to_le_bytes().to_vec();
    for leaf in content.chunks(LEAF) {
        all.extend_from_slice(blake3::hash(leaf).as_bytes());
    }
    Digest(*blake3::hash(&all).as_bytes())
}

fn content(length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

#[test]
fn the_digest_is_frozen() {
    let check = |content: &[u8], hex: &str| {
        assert_eq!(digest(content).to_string(), hex, "{}", content.len());
    };
    check(b"", EMPTY);
    check(b"syncd", SHORT);
    check(&vec![0; LEAF + 1], TWO_LEAVES);
}

#[test]
fn sizes_around_a_leaf_are_digested_as_defined() {
    let content = content(3 * LEAF + 7);
    for leaves in 0..=3 {
        for around in -1isize..=1 {
            let length = (leaves * LEAF).saturating_add_signed(around);
            assert_eq!(digest(&content[..length]), defined(&content[..length]));
        }
    }
}

#[test]
fn the_outer_hash_of_any_length_is_blake3() {
    let bytes = content(70_000);
    let lengths = (0..80)
        .map(|leaves| leaves * 32)
        .chain([33_000, 65_528, 70_000]);
    for length in lengths {
        let mut outer = Outer::default();
        for hash in bytes[..length].chunks(32) {
            outer.write(hash);
        }
        let mut whole = 7u64.to_le_bytes().to_vec();
        whole.extend_from_slice(&bytes[..length]);
        assert_eq!(
            outer.finish(7),
            *blake3::hash(&whole).as_bytes(),
            "{length}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pieces_of_any_size_give_the_same_digest(
        length in 0usize..300_000,
        cuts in prop::collection::vec(0usize..300_000, 0..6),
    ) {
        let content = content(length);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(length)).collect();
        cuts.extend([0, length]);
        cuts.sort_unstable();
        let mut hasher = ContentHasher::new();
        for pair in cuts.windows(2) {
            hasher.update(&content[pair[0]..pair[1]]);
        }
        prop_assert_eq!(hasher.finish(), (length as u64, defined(&content)));
    }
}

const EMPTY: &str = "71e0a99173564931c0b8acc52d2685a8e39c64dc52e3d02390fdac2a12b155cb";
const SHORT: &str = "bb73f6477b978a4311e44efb378e853de43ce6ead23aea1fcdd01c8eaf458013";
const TWO_LEAVES: &str = "67c104a8b988bedcccbca6194ed7007cc067d6ed64c676a24514b74deda479ef";
