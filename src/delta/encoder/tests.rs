//! Encodings against the definition of a recipe, and what they may cost.

use super::*;
use crate::delta::rolling::{Rolling, weak};
use crate::delta::{Block, digest, patch};
use proptest::prelude::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SEED: u64 = 77;

/// An instruction that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Op {
    Copy(u64, u64),
    Literal(Vec<u8>),
}

/// What an encoding came to.
struct Outcome {
    ops: Vec<Op>,
    encoded: Encoded,
}

impl Outcome {
    fn instructions(&self) -> impl Iterator<Item = Instruction<'_>> {
        self.ops.iter().map(|op| match op {
            Op::Copy(offset, length) => Instruction::Copy {
                offset: *offset,
                length: *length,
            },
            Op::Literal(bytes) => Instruction::Literal(bytes),
        })
    }

    fn literal(&self) -> usize {
        let length = |op: &Op| match op {
            Op::Copy(..) => 0,
            Op::Literal(bytes) => bytes.len(),
        };
        self.ops.iter().map(length).sum()
    }

    fn packed(&self) -> usize {
        let mut packed = Vec::new();
        for instruction in self.instructions() {
            instruction.pack(&mut packed);
        }
        packed.len()
    }
}

fn recipe(content: &[u8], block: u32) -> Arc<Recipe> {
    let mut builder = RecipeBuilder::new(block, SEED).finer();
    builder.update(content);
    Arc::new(builder.finish())
}

/// Encodes, and checks all that must hold of every encoding.
fn encode(old: &[u8], new: &[u8], block: u32, pieces: &[usize]) -> Outcome {
    let mut ops = Vec::new();
    let mut emit = |instruction: Instruction<'_>| {
        ops.push(match instruction {
            Instruction::Copy { offset, length } => Op::Copy(offset, length),
            Instruction::Literal(bytes) => Op::Literal(bytes.to_vec()),
        });
    };
    let mut encoder = DeltaEncoder::against(recipe(old, block));
    let mut rest = new;
    for length in pieces.iter().cycle() {
        let (piece, left) = rest.split_at((*length).clamp(1, rest.len().max(1)).min(rest.len()));
        encoder.push(piece, &mut emit);
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    let encoded = encoder.finish(&mut emit);
    let outcome = Outcome { ops, encoded };
    let patched = patch(old, outcome.instructions(), new.len());
    assert!(patched.as_deref() == Some(new), "another content");
    assert_eq!(outcome.encoded.size, new.len() as u64);
    assert_eq!(outcome.encoded.digest, digest(new));
    assert_eq!(outcome.encoded.recipe, *recipe(new, block));
    for op in &outcome.ops {
        let right = match op {
            Op::Copy(_, length) => *length > 0,
            Op::Literal(bytes) => (1..=MAX_PIECE).contains(&bytes.len()),
        };
        assert!(right, "{op:?}");
    }
    for pair in outcome.ops.windows(2) {
        if let [Op::Copy(offset, length), Op::Copy(next, _)] = pair {
            assert_ne!(offset + length, *next, "two copies that are one");
        }
    }
    outcome
}

fn whole(old: &[u8], new: &[u8], block: u32) -> Outcome {
    encode(old, new, block, &[256 * KIB])
}

/// Bytes without any pattern.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

#[test]
fn an_equal_content_is_one_copy_and_no_search() {
    for length in [1, 4095, 4096, 4097, MIB + 5] {
        let old = noise(length, 1);
        let outcome = whole(&old, &old, 4096);
        assert_eq!(outcome.ops, [Op::Copy(0, length as u64)]);
        assert_eq!(outcome.encoded.work.rolled_bytes, 0);
        assert!(outcome.encoded.work.strong_hashes <= 1);
    }
}

#[test]
fn nothing_old_makes_literals_and_nothing_new_makes_nothing() {
    let new = noise(600 * KIB, 1);
    let outcome = whole(b"", &new, 4096);
    assert_eq!(outcome.literal(), new.len());
    assert_eq!(outcome.encoded.work, Work::default());
    assert!(whole(&new, b"", 4096).ops.is_empty());
    assert!(whole(b"", b"", 4096).ops.is_empty());
}

#[test]
fn one_byte_at_the_front_costs_one_block() {
    let old = noise(4 * MIB + 17, 1);
    let mut new = vec![9];
    new.extend_from_slice(&old);
    let outcome = whole(&old, &new, 4096);
    assert_eq!(outcome.ops[0], Op::Literal(vec![9]));
    assert_eq!(outcome.ops[1], Op::Copy(0, old.len() as u64));
    assert!(outcome.encoded.work.rolled_bytes < 4096);
}

#[test]
fn bytes_cut_off_the_front_cost_one_block() {
    let old = noise(4 * MIB, 1);
    for cut in [1, 4095, 4096, MIB, MIB + 1] {
        let outcome = whole(&old, &old[cut..], 4096);
        assert!(outcome.literal() < 4096, "{cut}: {}", outcome.literal());
        assert!(outcome.packed() < 4096 + 100, "{cut}");
    }
}

#[test]
fn appended_and_truncated_contents_cost_what_is_new() {
    let old = noise(MIB + 100, 1);
    let mut new = old.clone();
    new.extend_from_slice(b"a line of a log\n");
    assert_eq!(whole(&old, &new, 4096).literal(), 16);
    new.extend_from_slice(&noise(MIB, 2));
    assert_eq!(whole(&old, &new, 4096).literal(), 16 + MIB);
    assert!(whole(&old, &old[..MIB / 2 + 9], 4096).literal() < 4096);
}

#[test]
fn a_changed_block_is_not_searched() {
    let old = noise(4 * MIB, 1);
    let mut new = old.clone();
    for at in (1000..new.len()).step_by(64 * KIB) {
        new[at..at + 16].fill(0);
    }
    let outcome = whole(&old, &new, 4096);
    // The sixteenth of each block that changed.
    assert_eq!(outcome.literal(), 64 * 256);
    assert_eq!(outcome.encoded.work, Work::default());
    // A recipe from the server has no sums of parts.
    let mut plain = RecipeBuilder::new(4096, SEED);
    plain.update(&old);
    let mut literal = 0;
    let mut encoder = DeltaEncoder::against(Arc::new(plain.finish()));
    let mut emit = |instruction: Instruction<'_>| {
        if let Instruction::Literal(bytes) = instruction {
            literal += bytes.len();
        }
    };
    encoder.push(&new, &mut emit);
    let encoded = encoder.finish(&mut emit);
    assert_eq!((literal, encoded.work), (64 * 4096, Work::default()));
}

#[test]
fn a_block_of_which_most_changed_is_new() {
    let old = noise(64 * KIB, 1);
    let mut new = old.clone();
    for at in (4096..8192).step_by(256).take(9) {
        new[at] ^= 1;
    }
    assert_eq!(whole(&old, &new, 4096).literal(), 4096);
    new[4096] ^= 1;
    assert_eq!(whole(&old, &new, 4096).literal(), 8 * 256);
}

#[test]
fn swapped_regions_are_found() {
    let old = noise(4 * MIB, 1);
    for length in [4 * KIB, 10_000, 64 * KIB] {
        for align in [0, 1234] {
            let (a, b) = (MIB + align, 3 * MIB + align);
            let mut new = old.clone();
            new[a..a + length].copy_from_slice(&old[b..b + length]);
            new[b..b + length].copy_from_slice(&old[a..a + length]);
            let literal = whole(&old, &new, 4096).literal();
            let limit = if align == 0 && length % 4096 == 0 {
                0
            } else {
                8 * 4096
            };
            assert!(literal <= limit, "{length} at {align}: {literal}");
        }
    }
}

#[test]
fn a_tail_is_found_where_it_moved() {
    let old = noise(100_000, 1);
    let mut new = noise(50_000, 2);
    new.extend_from_slice(&old[98_304..]);
    assert_eq!(whole(&old, &new, 4096).literal(), 50_000);
}

#[test]
fn zeros_cost_linear_work_and_one_copy() {
    let old = vec![0; MIB];
    let mut new = vec![1];
    new.extend_from_slice(&vec![0; 2 * MIB]);
    let outcome = whole(&old, &new, 4096);
    assert!(outcome.literal() < 2 * 4096);
    assert!(outcome.ops.len() < 10, "{}", outcome.ops.len());
    assert!(outcome.encoded.work.strong_hashes < 4 * 512);
    assert!(outcome.encoded.work.rolled_bytes < 3 * 4096);
}

#[test]
fn many_false_alarms_cost_linear_work() {
    // A recipe that claims the sum of the bytes that come, but no strong hash that any bytes have.
    let block = 4096;
    let alarm = Block {
        weak: weak(Rolling::new(SEED).sum(&[3; 4096])),
        strong: [0; 16],
    };
    let blocks: Vec<Block> = (0..512u32)
        .map(|number| {
            let mut block = alarm;
            block.strong[..4].copy_from_slice(&number.to_le_bytes());
            block
        })
        .collect();
    let old = Recipe::new(512 * 4096, block, SEED, blocks).unwrap();
    let new = vec![3; 8 * MIB];
    let mut encoder = DeltaEncoder::against(Arc::new(old));
    let mut literal = 0;
    encoder.push(&new, &mut |instruction| literal += instruction.length());
    let encoded = encoder.finish(&mut |instruction| literal += instruction.length());
    assert_eq!(literal, new.len() as u64);
    let most = (64 + 3 * new.len() / 4096) as u64;
    assert!(encoded.work.strong_hashes <= most, "{:?}", encoded.work);
}

#[test]
fn new_content_is_searched_sparsely_and_old_content_behind_it_is_found() {
    let old = noise(2 * MIB, 1);
    let fresh = 12 * MIB + 3;
    let mut new = noise(fresh, 2);
    new.extend_from_slice(&old);
    let outcome = whole(&old, &new, 4096);
    let literal = outcome.literal();
    assert!(literal <= fresh + 10 * 4096, "{literal}");
    let rolled = outcome.encoded.work.rolled_bytes;
    assert!(rolled < 6 * MIB as u64, "{rolled}");
}

/// A change of a content: what to do, where and how much, both as parts of 65,536.
type Edit = (u8, u16, u16, u8);

fn edited(old: &[u8], edits: &[Edit], most: usize) -> Vec<u8> {
    let mut new = old.to_vec();
    for (kind, place, amount, seed) in edits {
        let at = (new.len() * usize::from(*place)) >> 16;
        let length = (usize::from(*amount) * most) >> 16;
        let end = (at + length).min(new.len());
        match kind % 6 {
            0 => drop(new.splice(at..at, noise(length, *seed))),
            1 => drop(new.drain(at..end)),
            2 => {
                let bytes = noise(end - at, *seed);
                new[at..end].copy_from_slice(&bytes);
            }
            3 => {
                let half = (end - at) / 2;
                let (a, b) = new[at..].split_at_mut(half);
                a.swap_with_slice(&mut b[..half]);
            }
            4 => new.truncate(new.len() - length.min(new.len())),
            _ => new.extend(noise(length, *seed)),
        }
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_edit_is_encoded(
        length in 0usize..20_000, patterned: bool, block in 1u32..200,
        edits in prop::collection::vec(any::<Edit>(), 0..6),
        pieces in prop::collection::vec(1usize..100_000, 1..5),
    ) {
        let mut old = noise(length, 1);
        if patterned {
            old.iter_mut().for_each(|byte| *byte = u8::from(*byte > 250));
        }
        let new = edited(&old, &edits, 1000);
        let outcome = encode(&old, &new, block, &pieces);
        // Linear whatever the contents: rolled over once, and hashed a few times.
        let work = outcome.encoded.work;
        let blocks = (new.len() / block as usize) as u64;
        prop_assert!(work.rolled_bytes <= new.len() as u64);
        prop_assert!(work.strong_hashes <= 6 * blocks + 64 + 8, "{work:?} for {blocks} blocks");
    }

    #[test]
    fn simple_edits_cost_little(
        length in 1000usize..100_000, edit: Edit, block in 16u32..200,
    ) {
        let old = noise(length, 1);
        let new = edited(&old, &[edit], 300);
        let outcome = encode(&old, &new, block, &[64 * KIB]);
        // What is new, and a few blocks at each end of it.
        let fresh = if edit.0 % 6 == 3 { 0 } else { 300 };
        prop_assert!(outcome.literal() <= fresh + 8 * block as usize, "{}", outcome.literal());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn large_contents_are_encoded(
        length in 0usize..2 * MIB, shift in 9u32..14,
        edits in prop::collection::vec(any::<Edit>(), 0..8),
        pieces in prop::collection::vec(1usize..600_000, 1..5),
    ) {
        let old = noise(length, 1);
        let new = edited(&old, &edits, 100_000);
        encode(&old, &new, 1 << shift, &pieces);
    }
}
