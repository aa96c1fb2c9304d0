use super::*;
use crate::delta::{Block, RecipeBuilder};
use proptest::prelude::*;
use std::fs;

/// A recipe of `blocks` blocks, told apart by its seed.
fn recipe(seed: u64, blocks: usize) -> Arc<Recipe> {
    let block = Block {
        weak: 1,
        strong: [2; 16],
    };
    let size = blocks as u64 * 4096;
    Arc::new(Recipe::new(size, 4096, seed, vec![block; blocks]).unwrap())
}

fn digest(number: u64) -> Digest {
    Digest(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recipes");
    (directory, path)
}

const LIMIT: u64 = 1024 * 1024;

#[test]
fn what_was_put_is_here_at_once_and_after_a_restart() {
    let (_directory, path) = place();
    let mut builder = RecipeBuilder::new(4096, 3);
    builder.update(&[7; 100_000]);
    let recipe = Arc::new(builder.finish());
    {
        let store = RecipeStore::open(&path, LIMIT);
        assert_eq!(store.get(&digest(1)), None);
        store.put(digest(1), Arc::clone(&recipe));
        assert_eq!(store.get(&digest(1)).as_deref(), Some(&*recipe));
    }
    let store = RecipeStore::open(&path, LIMIT);
    assert_eq!(store.get(&digest(1)).as_deref(), Some(&*recipe));
    assert_eq!(store.get(&digest(2)), None);
}

#[test]
fn without_a_file_there_is_memory() {
    let (directory, path) = place();
    for (path, limit) in [(path, 0), (directory.path().join("none/here"), LIMIT)] {
        let store = RecipeStore::open(&path, limit);
        store.put(digest(1), recipe(1, 3));
        assert_eq!(store.get(&digest(1)), Some(recipe(1, 3)));
        assert!(!path.exists());
    }
}

#[test]
fn the_file_keeps_what_was_used_last_within_its_limit() {
    let (_directory, path) = place();
    let one = bytes(&recipe(0, 100));
    let limit = 5 * one;
    {
        let store = RecipeStore::open(&path, limit);
        for number in 0..5 {
            store.put(digest(number), recipe(number, 100));
        }
        assert!(store.get(&digest(0)).is_some());
        store.put(digest(5), recipe(5, 100));
        store.put(digest(6), recipe(6, 1000));
    }
    let store = RecipeStore::open(&path, limit);
    let here: Vec<u64> = (0..7)
        .filter(|number| store.get(&digest(*number)).is_some())
        .collect();
    assert_eq!(here, [0, 2, 3, 4, 5]);
}

#[test]
fn a_recipe_of_many_parts_comes_back_whole_and_is_replaced_whole() {
    let (_directory, path) = place();
    for blocks in [20_000, 4_000, 1] {
        let store = RecipeStore::open(&path, LIMIT);
        store.put(digest(1), recipe(1, blocks));
        drop(store);
        let store = RecipeStore::open(&path, LIMIT);
        assert_eq!(store.get(&digest(1)), Some(recipe(1, blocks)));
    }
}

#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    let blocks = 20_000;
    for number in 0..100 {
        memory.put(digest(number), recipe(number, blocks));
        assert!(memory.uses.bytes <= MEMORY_BYTES);
        assert_eq!(memory.recipes.len(), memory.uses.by_key.len());
        assert_eq!(memory.recipes.len(), memory.uses.by_time.len());
    }
    assert!(memory.get(&digest(99)).is_some());
    assert!(memory.get(&digest(0)).is_none());
}

#[test]
fn a_damaged_file_is_an_empty_store() {
    let (_directory, path) = place();
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let store = RecipeStore::open(&path, LIMIT);
    assert_eq!(store.get(&digest(1)), None);
    store.put(digest(1), recipe(1, 10));
    drop(store);
    let store = RecipeStore::open(&path, LIMIT);
    assert!(store.get(&digest(1)).is_some());
}

#[test]
fn a_flipped_bit_is_noticed() {
    let stored = pack(&digest(1), &recipe(1, 3));
    assert!(unpack(&digest(1), &stored).is_some());
    assert!(unpack(&digest(2), &stored).is_none());
    for at in 0..stored.len() {
        let mut stored = stored.clone();
        stored[at] ^= 4;
        assert!(unpack(&digest(1), &stored).is_none(), "{at}");
    }
}

proptest! {
    #[test]
    fn uses_add_up(steps in prop::collection::vec((0u64..8, 1u64..100, any::<bool>()), 0..60)) {
        let mut uses = Uses::default();
        let limit = 300;
        for (key, bytes, set) in steps {
            if set {
                uses.set(digest(key), bytes % 7, bytes);
            } else {
                uses.note(digest(key), bytes);
            }
            while uses.evict(limit).is_some() {}
            let sum: u64 = uses.by_key.values().map(|(_, bytes)| *bytes).sum();
            prop_assert_eq!(uses.bytes, sum);
            prop_assert!(sum <= limit);
            prop_assert_eq!(uses.by_key.len(), uses.by_time.len());
        }
    }
}
