use super::row::{pack, unpack};
use super::{IndexStore, Loaded, Origin, StoreError};
use crate::index::{NodeId, Row, Stat, Tree};
use crate::model::{Digest, Entry, Kind, Mtime, Name};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn any_row() -> impl Strategy<Value = Row> {
    let kind = prop_oneof![
        Just(Kind::Directory),
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, digest)| Kind::File {
            size,
            digest: Digest(digest)
        }),
        prop::collection::vec(any::<u8>(), 0..4096).prop_map(|target| Kind::Symlink {
            target: target.into()
        }),
    ];
    let mtime = (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Mtime { secs, nanos });
    let stat = (any::<[u64; 3]>(), any::<u32>(), any::<bool>()).prop_map(
        |([inode, birth, ctime], links, mount)| Stat {
            inode,
            birth: birth.cast_signed(),
            ctime: ctime.cast_signed(),
            links,
            mount,
        },
    );
    let name = prop::collection::vec(any::<u8>(), 0..256);
    let entry = (kind, 0..0o10000u32, mtime);
    (any::<u64>(), name, entry, prop::option::of(stat)).prop_map(
        |(parent, name, (kind, mode, mtime), stat)| Row {
            parent: NodeId(parent),
            name: name.into(),
            entry: Entry { kind, mode, mtime },
            stat,
        },
    )
}

fn packed(id: u64, row: &Row) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    pack(id, row, &mut out);
    out
}

proptest! {
    #[test]
    fn a_row_reads_back_and_under_no_other_id(id: u64, other: u64, row in any_row()) {
        let bytes = packed(id, &row);
        prop_assert_eq!(unpack(id, &bytes), Ok(row));
        prop_assert!(other == id || unpack(other, &bytes).is_err());
    }

    #[test]
    fn a_damaged_row_is_refused(row in any_row(), place: prop::sample::Index, bit in 0u8..8, cut: bool) {
        let mut bytes = packed(7, &row);
        let at = place.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(unpack(7, &bytes).is_err());
    }

    #[test]
    fn random_bytes_are_refused_even_with_a_right_check(rest in prop::collection::vec(any::<u8>(), 0..300), version: bool) {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&rest);
        if version && bytes.len() > 4 {
            bytes[4] = 1;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&7u64.to_le_bytes());
        hasher.update(&bytes[4..]);
        bytes[..4].copy_from_slice(&hasher.finalize().as_bytes()[..4]);
        let _read = unpack(7, &bytes);
    }
}

#[test]
fn the_layout_is_frozen() {
    let row = Row {
        parent: NodeId(2),
        name: b"n"[..].into(),
        entry: Entry {
            kind: Kind::Symlink {
                target: b"to"[..].into(),
            },
            mode: 0,
            mtime: Mtime { secs: -1, nanos: 5 },
        },
        stat: Some(Stat {
            inode: 3,
            birth: 4,
            ctime: 5,
            links: 6,
            mount: false,
        }),
    };
    let hex = data_encoding::HEXLOWER.encode(&packed(1, &row)[4..]);
    let frozen = concat!(
        "0113",
        "0200000000000000",
        "00000000",
        "ffffffffffffffff",
        "05000000",
        "0300000000000000",
        "0400000000000000",
        "0500000000000000",
        "06000000",
        "01006e",
        "0200746f",
    );
    assert_eq!(hex, frozen);
}

/// A directory for a file, gone at the end.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("index")
    }
}

fn open(path: &Path) -> (IndexStore, Loaded) {
    IndexStore::open(path).unwrap()
}

/// A tree of `dirs` directories with `files` files each.
fn tree(dirs: u64, files: u64) -> Tree {
    let mut tree = Tree::new();
    let name = |number: u64| Name::new(format!("name-{number:06}").as_bytes()).unwrap();
    let entry = |kind| Entry {
        kind,
        mode: 0o644,
        mtime: Mtime { secs: 1, nanos: 2 },
    };
    for dir in 0..dirs {
        let root = tree.root();
        let dir = tree
            .put(root, &name(dir), entry(Kind::Directory), None)
            .unwrap();
        for file in 0..files {
            let digest = Digest(*blake3::hash(&file.to_le_bytes()).as_bytes());
            let kind = Kind::File { size: file, digest };
            let stat = Stat {
                inode: dir.0 * 1_000_000 + file + 1,
                ..Stat::default()
            };
            tree.put(dir, &name(file), entry(kind), Some(stat)).unwrap();
        }
    }
    tree
}

#[test]
fn a_tree_comes_back_with_its_values() {
    let place = Place::new();
    let mut tree = tree(3, 4);
    {
        let (store, loaded) = open(&place.file());
        assert_eq!(loaded.origin, Origin::Created);
        assert!(loaded.rows.is_empty() && loaded.meta.is_empty());
        let meta = [("version", Some(&b"7"[..])), ("gone", Some(b"x"))];
        store.save(tree.take_touched(), &meta).unwrap();
    }
    {
        let (store, loaded) = open(&place.file());
        assert_eq!((loaded.origin, loaded.damaged), (Origin::Kept, 0));
        assert_eq!(loaded.meta.len(), 2);
        let back = Tree::from_rows(loaded.rows);
        assert_eq!((back.len(), back.root_sum()), (tree.len(), tree.root_sum()));
        let first = tree.child(tree.root(), b"name-000000").unwrap();
        tree.remove(first);
        store.save(tree.take_touched(), &[("gone", None)]).unwrap();
    }
    let (_store, loaded) = open(&place.file());
    assert_eq!(
        loaded.meta.get("version").map(Vec::as_slice),
        Some(&b"7"[..])
    );
    assert_eq!(loaded.meta.len(), 1);
    assert_eq!(Tree::from_rows(loaded.rows).root_sum(), tree.root_sum());
}

#[test]
fn a_file_that_is_open_is_not_touched() {
    let place = Place::new();
    let (_store, _) = open(&place.file());
    let second = IndexStore::open(&place.file());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    assert!(!place.0.path().join("index.bad").exists());
}

#[test]
fn a_foreign_file_is_moved_aside() {
    let place = Place::new();
    fs::write(place.file(), vec![b'x'; 10_000]).unwrap();
    let (store, loaded) = open(&place.file());
    assert_eq!(loaded.origin, Origin::Replaced);
    assert_eq!(
        fs::read(place.0.path().join("index.bad")).unwrap().len(),
        10_000
    );
    store.save(tree(1, 1).take_touched(), &[]).unwrap();
    drop(store);
    assert_eq!(open(&place.file()).1.rows.len(), 3);
}

#[test]
fn a_database_of_something_else_is_moved_aside() {
    let place = Place::new();
    {
        let database = redb::Database::create(place.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = redb::TableDefinition::<u64, &[u8]>::new("rows");
        transaction.open_table(table).unwrap();
        transaction.commit().unwrap();
    }
    assert_eq!(open(&place.file()).1.origin, Origin::Replaced);
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    let missing = place.0.path().join("missing").join("index");
    let failed = IndexStore::open(&missing);
    assert!(matches!(failed, Err(StoreError::Io { .. })));
}

#[test]
fn what_a_failed_save_left_goes_with_the_next() {
    let place = Place::new();
    let mut tree = tree(1, 2);
    let (store, _) = open(&place.file());
    // Another opener stands for a file that cannot be opened again.
    store.lock().database = None;
    let other = IndexStore::open(&place.file()).unwrap();
    let failed = store.save(tree.take_touched(), &[("a", Some(b"1"))]);
    assert!(failed.is_err());
    drop(other);
    assert_eq!(store.save(Vec::new(), &[]).unwrap(), Origin::Kept);
    drop(store);
    let (_store, loaded) = open(&place.file());
    assert_eq!(loaded.meta.len(), 1);
    assert_eq!(Tree::from_rows(loaded.rows).root_sum(), tree.root_sum());
}

#[test]
fn a_file_that_crashed_its_openers_is_moved_aside() {
    let place = Place::new();
    let mark = place.0.path().join("index.opening");
    let (store, _) = open(&place.file());
    // One that is killed from here on was no harm to it.
    assert!(!mark.exists());
    drop(store);
    assert!(!mark.exists());
    fs::write(&mark, "..").unwrap();
    let (store, loaded) = open(&place.file());
    assert_eq!(loaded.origin, Origin::Kept);
    assert_eq!(fs::read(&mark).unwrap().len(), 2);
    let second = IndexStore::open(&place.file());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    store.save(Vec::new(), &[]).unwrap();
    assert!(!mark.exists());
    drop(store);
    fs::write(&mark, "...").unwrap();
    assert_eq!(open(&place.file()).1.origin, Origin::Replaced);
}

/// Pages and ends that are gone, one after the other: not random bytes, with which the database can end the process.
#[test]
fn a_damaged_file_is_opened_or_replaced() {
    let place = Place::new();
    let mut tree = tree(2, 40);
    {
        let (store, _) = open(&place.file());
        let meta = [("a", Some(&b"1"[..]))];
        store.save(tree.take_touched(), &meta).unwrap();
    }
    let whole = fs::read(place.file()).unwrap();
    let check = |bytes: &[u8]| {
        fs::write(place.file(), bytes).unwrap();
        let (store, loaded) = open(&place.file());
        assert!(loaded.rows.len() <= 83);
        store.save(vec![(NodeId(1), None)], &[]).unwrap();
        drop(store);
        let (_store, loaded) = open(&place.file());
        assert!(loaded.rows.iter().all(|(id, _)| *id != NodeId(1)));
    };
    for page in (0..whole.len()).step_by(4096) {
        let end = (page + 4096).min(whole.len());
        if whole[page..end].iter().all(|byte| *byte == 0) {
            continue;
        }
        for filler in [0, 255] {
            let mut bytes = whole.clone();
            bytes[page..end].fill(filler);
            check(&bytes);
        }
        check(&whole[..page]);
        check(&whole[..page + 1]);
    }
}
