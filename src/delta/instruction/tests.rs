use super::{Instruction, InstructionError, pack_literal, patch, unpack};
use crate::model::limits::MAX_PIECE;
use proptest::prelude::*;

fn read(packed: &[u8]) -> Result<Vec<Instruction<'_>>, InstructionError> {
    unpack(packed).collect()
}

#[test]
fn the_layout_is_frozen() {
    let mut packed = Vec::new();
    let copy = Instruction::Copy {
        offset: 0x0102,
        length: 3,
    };
    Instruction::Literal(b"ab").pack(&mut packed);
    copy.pack(&mut packed);
    let frozen = [
        0, 2, 0, 0, 0, b'a', b'b', // literal
        1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, // copy
    ];
    assert_eq!(packed, frozen);
    assert_eq!(read(&frozen), Ok(vec![Instruction::Literal(b"ab"), copy]));
    for cut in 1..frozen.len() {
        let whole = cut == 7;
        assert_eq!(read(&frozen[..cut]).is_ok(), whole, "cut at {cut}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let copy = |offset: u64, length: u64| {
        let mut packed = vec![1];
        packed.extend(offset.to_le_bytes());
        packed.extend(length.to_le_bytes());
        packed
    };
    let check = |packed: &[u8], error| assert_eq!(read(packed), Err(error));
    check(&[0, 0, 0, 0, 0], InstructionError::Empty);
    check(&[0, 255, 255, 255, 255, 1], InstructionError::Short);
    check(&[2], InstructionError::Tag { tag: 2 });
    check(&copy(7, 0), InstructionError::Empty);
    let (offset, length) = (u64::MAX, 1);
    check(
        &copy(offset, length),
        InstructionError::Overflow { offset, length },
    );
    assert!(read(&copy(u64::MAX - 1, 1)).is_ok());
}

#[test]
fn a_long_literal_is_cut_and_an_empty_one_left_out() {
    let bytes = vec![7; 2 * MAX_PIECE + 1];
    let mut packed = Vec::new();
    Instruction::Literal(&bytes).pack(&mut packed);
    Instruction::Literal(&[]).pack(&mut packed);
    let parts = read(&packed).unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!(patch(&[], parts, bytes.len()), Some(bytes));
}

#[test]
fn a_patch_is_bounded() {
    let copy = |offset, length| [Instruction::Copy { offset, length }; 2];
    assert_eq!(patch(b"abc", copy(1, 2), 4).as_deref(), Some(&b"bcbc"[..]));
    assert_eq!(patch(b"abc", copy(1, 2), 3), None);
    assert_eq!(patch(b"abc", copy(1, 3), 99), None);
    assert_eq!(patch(b"abc", copy(u64::MAX - 1, 1), 99), None);
}

#[test]
fn a_literal_that_is_filled_is_packed_like_any_other() {
    let (mut packed, mut same) = (Vec::new(), Vec::new());
    for bytes in [&b"ab"[..], b"", b"c"] {
        let filled: Result<(), ()> = pack_literal(&mut packed, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        });
        assert_eq!(filled, Ok(()));
        Instruction::Literal(bytes).pack(&mut same);
    }
    let failed = pack_literal(&mut packed, |out| {
        out.push(7);
        Err("it cannot be read")
    });
    assert_eq!((failed, &packed), (Err("it cannot be read"), &same));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(packed in prop::collection::vec(0u8..4, 0..64)) {
        let _count = unpack(&packed).count();
    }

    #[test]
    fn what_was_packed_is_read_back(
        parts in prop::collection::vec(
            (any::<bool>(), 0..u64::MAX / 2, 1..u64::MAX / 2, prop::collection::vec(any::<u8>(), 1..9)), 0..8),
    ) {
        let parts: Vec<_> = parts.iter().map(|(copy, offset, length, bytes)| {
            if *copy {
                Instruction::Copy { offset: *offset, length: *length }
            } else {
                Instruction::Literal(bytes)
            }
        }).collect();
        let mut packed = Vec::new();
        for part in &parts {
            part.pack(&mut packed);
        }
        prop_assert_eq!(read(&packed), Ok(parts));
    }
}
