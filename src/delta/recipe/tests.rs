use super::*;
use crate::delta::rolling::{Rolling, weak};
use proptest::prelude::*;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn built(content: &[u8], block: u32) -> Recipe {
    let mut builder = RecipeBuilder::new(block, 5);
    builder.update(content);
    builder.finish()
}

fn stored(recipe: &Recipe) -> Vec<u8> {
    let mut out = Vec::new();
    recipe.pack(&mut out);
    out
}

#[test]
fn blocks_grow_with_the_file() {
    let check = |size, block: u64| assert_eq!(u64::from(block_size(size)), block, "{size}");
    check(0, 4 * KIB);
    check(16 * MIB, 4 * KIB);
    check(16 * MIB + 1, 8 * KIB);
    check(256 * MIB, 8 * KIB);
    check(1024 * MIB, 8 * KIB);
    check(1024 * MIB + 1, 16 * KIB);
    check(128 * 1024 * MIB, MIB);
    check(u64::MAX, MIB);
    for shift in 0..=37 {
        let size = 1u64 << shift;
        assert!(block_count(size, block_size(size)).unwrap() <= USUAL_BLOCKS);
    }
}

#[test]
fn a_fixed_block_size_holds_up_to_where_a_recipe_has_too_many() {
    for (fixed, size, block) in [
        (None, 256 * MIB, 8 * KIB),
        (Some(4096), 256 * MIB, 4 * KIB),
        (Some(4096), MAX_BLOCKS * 4 * KIB, 4 * KIB),
        (Some(4096), MAX_BLOCKS * 4 * KIB + 1, 8 * KIB),
        (Some(4096), u64::MAX, MIB),
    ] {
        assert_eq!(u64::from(block_size_or(fixed, size)), block, "{size}");
    }
}

#[test]
fn the_sums_of_parts_are_stored_or_are_not() {
    let content: Vec<u8> = (0..10_000u32).map(|n| n.to_le_bytes()[0]).collect();
    for length in [0, 100, 8192, 10_000] {
        let mut builder = RecipeBuilder::new(4096, 5).finer();
        builder.update(&content[..length]);
        let recipe = builder.finish();
        assert_eq!(recipe.fine().len(), recipe.blocks().len());
        let packed = stored(&recipe);
        assert_eq!(packed.len(), recipe.packed_length());
        assert_eq!(Recipe::unpack(&packed).as_ref(), Ok(&recipe));
        for cut in 1..packed.len().min(100) {
            assert!(Recipe::unpack(&packed[..packed.len() - cut]).is_err());
        }
    }
}

#[test]
fn a_file_that_grew_manyfold_gets_larger_blocks() {
    let old = built(&[1; 100_000], 4096);
    assert!(old.suits(16 * MIB, block_size(16 * MIB)));
    assert!(old.suits(1024 * MIB, block_size(1024 * MIB)));
    assert!(!old.suits(1024 * MIB + 1, block_size(1024 * MIB + 1)));
    assert!(old.suits(100_000, 1024 * 1024));
}

#[test]
fn what_a_peer_may_not_ask_for_is_refused() {
    for block in [0, 1, 2048, 4097, 2 * 1024 * 1024, u32::MAX] {
        assert_eq!(block_count(1, block), Err(RecipeError::BlockSize { block }));
    }
    let (size, block) = (u64::MAX, 1024 * 1024);
    let refused = RecipeCollector::new(size, block, 0);
    assert_eq!(refused.err(), Some(RecipeError::Size { size, block }));
}

#[test]
fn the_stored_layout_is_frozen() {
    let packed = stored(&built(b"", 4096));
    let mut frozen = vec![1, 0, 0x10, 0, 0, 5];
    frozen.resize(21, 0);
    assert_eq!(packed, frozen);
    let packed = stored(&built(b"syncd", 4096));
    assert_eq!(packed[13], 5, "size");
    assert_eq!(
        packed[21..25],
        weak(Rolling::new(5).sum(b"syncd")).to_le_bytes()
    );
    assert_eq!(packed[25..], blake3::hash(b"syncd").as_bytes()[..16]);
}

#[test]
fn a_collector_takes_exactly_what_was_announced() {
    let recipe = built(&[7; 10_000], 4096);
    let mut packed = Vec::new();
    pack_blocks(recipe.blocks(), &mut packed);
    let collector = || RecipeCollector::new(10_000, 4096, 5).unwrap();

    let mut exact = collector();
    exact.push(&packed[..20]).unwrap();
    exact.push(&packed[20..]).unwrap();
    assert_eq!(exact.finish(), Ok(recipe));

    let (expected, found) = (3, 2);
    let mut few = collector();
    few.push(&packed[..40]).unwrap();
    assert_eq!(few.finish(), Err(RecipeError::Count { expected, found }));

    let found = 4;
    let mut many = collector();
    many.push(&packed).unwrap();
    assert_eq!(
        many.push(&packed[..20]),
        Err(RecipeError::Count { expected, found })
    );
    let length = 21;
    assert_eq!(
        collector().push(&packed[..21]),
        Err(RecipeError::Length { length })
    );
}

#[test]
fn lists_fit_into_messages() {
    let block = Block {
        weak: 1,
        strong: [2; 16],
    };
    let count = MAX_BLOCKS_PER_MESSAGE + 1;
    let recipe = Recipe::new(count as u64 * 4096, 4096, 0, vec![block; count]).unwrap();
    let lengths: Vec<usize> = recipe.lists().map(<[Block]>::len).collect();
    assert_eq!(lengths, [MAX_BLOCKS_PER_MESSAGE, 1]);
    assert_eq!(built(b"", 4096).lists().count(), 1);
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_recipe(
        content in prop::collection::vec(any::<u8>(), 0..3000), block in 1u32..300, piece in 1usize..700,
    ) {
        let mut builder = RecipeBuilder::new(block, 5);
        for piece in content.chunks(piece) {
            builder.update(piece);
        }
        let recipe = builder.finish();
        let rolling = Rolling::new(5);
        let blocks: Vec<Block> = content.chunks(block as usize).map(|bytes| Block {
            weak: weak(rolling.sum(bytes)),
            strong: strong(bytes),
        }).collect();
        prop_assert_eq!(recipe.blocks(), blocks);
        prop_assert_eq!(recipe.size(), content.len() as u64);
    }

    #[test]
    fn a_stored_recipe_reads_back(content in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let recipe = built(&content, 4096);
        prop_assert_eq!(stored(&recipe).len(), recipe.packed_length());
        prop_assert_eq!(Recipe::unpack(&stored(&recipe)), Ok(recipe));
    }

    #[test]
    fn random_bytes_are_no_recipe_and_no_panic(mut packed in prop::collection::vec(any::<u8>(), 0..100), right: bool) {
        if right && !packed.is_empty() {
            packed[0] = VERSION;
        }
        let _read = Recipe::unpack(&packed);
    }
}
