use super::{Kept, Shelf};
use crate::delta::{Instruction, patch};
use crate::engine::ports::{Attributes, Leftover, Origin, Removal, Store, StoreError, Upload};
use crate::host::disk::{DiskStore, Durability, Private};
use crate::host::root::Root;
use crate::model::limits::{LEFTOVER_BYTES, LEFTOVER_SECONDS, MAX_LEFTOVERS};
use crate::model::{Fault, LeftoverKey, Mtime, RelPath};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

const MIB: usize = 1024 * 1024;
const USUAL: Attributes = Attributes {
    mode: 0o644,
    mtime: Mtime { secs: 7, nanos: 9 },
};

fn path(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn open(dir: &Path) -> DiskStore {
    let root = Root::open(dir).unwrap();
    let private = Private::open(&root).unwrap();
    DiskStore::open(root, &private, Durability::Full).unwrap()
}

/// What nobody can compress, repeat or guess.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Begins an upload, writes something and drops it.
fn leave(store: &DiskStore, name: &str, content: &[u8]) -> Option<Leftover> {
    let at = path(name);
    let origin = Origin {
        path: Some(&at),
        ..Origin::default()
    };
    let mut upload = store.open_upload(&origin).unwrap();
    upload.write(content).unwrap();
    drop(upload);
    store.leftover(&at)
}

fn read(store: &DiskStore, name: &str) -> Vec<u8> {
    let leftover = store.leftover(&path(name)).unwrap();
    let mut bytes = Vec::new();
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        true
    };
    store
        .read_leftover(&path(name), leftover, &mut sink)
        .unwrap();
    bytes
}

fn staged(dir: &Path) -> usize {
    fs::read_dir(dir.join(".syncd/stage")).unwrap().count()
}

/// An upload that goes on where a leftover ends.
fn go_on(store: &DiskStore, name: &str, left: Leftover, more: &[u8]) -> Result<(), StoreError> {
    let at = path(name);
    let mut upload = store.open_upload(&Origin {
        base: None,
        path: Some(&at),
        leftover: Some((left.mark, left.size)),
    })?;
    upload.copy(0, left.size, &mut |_| ())?;
    upload.write(more)?;
    let staged = store.finish_upload(upload)?;
    store.dress(&staged, USUAL)?;
    store.sync_staged(&[&staged])?;
    store.place(staged, &at, &Removal::Now).map(drop)
}

#[test]
fn an_upload_goes_on_where_another_ended_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for restart in [false, true] {
        let mut store = open(dir.path());
        let content = noise(1, 2 * MIB);
        leave(&store, "a/b", &noise(2, MIB)).unwrap();
        // The later one replaces the earlier one.
        leave(&store, "a/b", &content[..MIB + 5]).unwrap();
        assert_eq!(staged(dir.path()), 1);
        assert_eq!(store.leftovers(), [LeftoverKey::of(&path("a/b"))]);
        if restart {
            drop(store);
            fs::write(dir.path().join(".syncd/stage/rubbish"), "").unwrap();
            store = open(dir.path());
        }
        let left = store.leftover(&path("a/b")).unwrap();
        assert_eq!(left.size, (MIB + 5) as u64);
        assert_eq!(read(&store, "a/b"), &content[..MIB + 5]);
        fs::create_dir_all(dir.path().join("a")).unwrap();
        go_on(&store, "a/b", left, &content[MIB + 5..]).unwrap();
        assert_eq!(fs::read(dir.path().join("a/b")).unwrap(), content);
        assert_eq!(staged(dir.path()), 0);
        let again = go_on(&store, "a/b", left, b"x").unwrap_err();
        assert_eq!(again.fault, Fault::Changed, "it is used up");
    }
}

#[test]
fn what_is_complete_and_not_used_is_left_too_and_what_is_discarded_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let at = path("f");
    let whole = |content: &[u8]| {
        let mut upload = store
            .open_upload(&Origin {
                path: Some(&at),
                ..Origin::default()
            })
            .unwrap();
        upload.write(content).unwrap();
        store.finish_upload(upload).unwrap()
    };
    let content = noise(3, MIB);
    let unused = whole(&content);
    store
        .dress(&unused, Attributes { mode: 0, ..USUAL })
        .unwrap();
    drop(unused);
    assert_eq!(read(&store, "f"), content);
    store.discard(whole(&content));
    assert_eq!(staged(dir.path()), 1, "the one before");
    let left = store.leftover(&at).unwrap();
    let origin = Origin {
        base: None,
        path: Some(&at),
        leftover: Some((left.mark, left.size)),
    };
    let mut wrong = store.open_upload(&origin).unwrap();
    wrong.write(b"something else").unwrap();
    wrong.discard();
    assert_eq!((store.leftover(&at), staged(dir.path())), (None, 0));
    assert_eq!(leave(&store, "f", &content[1..]), None, "it is too small");
    assert_eq!(staged(dir.path()), 0);
    // Without a path there is nothing to find it by.
    let mut nameless = store.open_upload(&Origin::default()).unwrap();
    nameless.write(&content).unwrap();
    drop(nameless);
    assert_eq!(staged(dir.path()), 0);
}

#[test]
fn what_an_upload_builds_on_stays_until_there_is_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let content = noise(4, 3 * MIB);
    let at = path("f");
    let mut left = leave(&store, "f", &content[..2 * MIB]).unwrap();
    for (copied, written) in [(MIB, 0), (MIB, 10), (0, 10)] {
        let origin = Origin {
            base: None,
            path: Some(&at),
            leftover: Some((left.mark, left.size)),
        };
        let mut upload = store.open_upload(&origin).unwrap();
        assert_eq!(store.leftover(&at), None, "nobody else has it");
        upload.copy(0, copied as u64, &mut |_| ()).unwrap();
        upload.write(&content[..written]).unwrap();
        drop(upload);
        left = store.leftover(&at).unwrap();
        assert_eq!(read(&store, "f"), &content[..2 * MIB]);
    }
    let origin = Origin {
        base: None,
        path: Some(&at),
        leftover: Some((left.mark, left.size)),
    };
    let mut upload = store.open_upload(&origin).unwrap();
    upload.copy(0, left.size, &mut |_| ()).unwrap();
    upload.write(&content[2 * MIB..]).unwrap();
    drop(upload);
    assert_eq!(read(&store, "f"), content);
    assert_eq!(staged(dir.path()), 1);
}

#[test]
fn what_was_mostly_copied_is_not_worth_keeping() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let at = path("f");
    fs::write(dir.path().join("f"), vec![7; 66 * MIB]).unwrap();
    for (copied, kept) in [(66, false), (60, true)] {
        let origin = Origin {
            base: Some(&at),
            path: Some(&at),
            leftover: None,
        };
        let mut upload = store.open_upload(&origin).unwrap();
        upload.copy(0, copied * MIB as u64, &mut |_| ()).unwrap();
        upload.write(&noise(5, MIB)).unwrap();
        drop(upload);
        assert_eq!(store.leftover(&at).is_some(), kept);
    }
}

#[test]
fn a_path_that_changes_loses_its_leftover_and_one_that_moves_takes_it_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let content = noise(6, MIB);
    for name in ["put", "gone", "from", "to"] {
        fs::write(dir.path().join(name), name).unwrap();
        leave(&store, name, &content).unwrap();
    }
    let small = store.stage_file(b"small", USUAL).unwrap();
    store.place(small, &path("put"), &Removal::Now).unwrap();
    store.remove(&path("gone"), &Removal::Now).unwrap();
    store
        .rename(&path("from"), &path("to"), &Removal::Now)
        .unwrap();
    assert_eq!(store.leftovers(), [LeftoverKey::of(&path("to"))]);
    assert_eq!(staged(dir.path()), 1);
    drop(store);
    let store = open(dir.path());
    assert_eq!(read(&store, "to"), content, "its name tells so");
}

#[test]
fn a_full_disk_gets_the_room_of_leftovers_before_anybody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    leave(&store, "f", &noise(7, MIB)).unwrap();
    let tries = std::cell::Cell::new(0);
    let full = || -> Result<(), StoreError> {
        tries.set(tries.get() + 1);
        match staged(dir.path()) {
            0 => Ok(()),
            _ => Err(StoreError::new(Fault::Full, "full")),
        }
    };
    store.area.with_room(full).unwrap();
    assert_eq!((tries.get(), store.leftovers().len()), (2, 0));
    let always = || -> Result<(), StoreError> {
        tries.set(tries.get() + 1);
        Err(StoreError::new(Fault::Full, "full"))
    };
    store.area.with_room(always).unwrap_err();
    assert_eq!(tries.get(), 3, "without leftovers there is no other try");
    // Somebody else needs room in the same moment, and gives all of it up first.
    leave(&store, "f", &noise(7, MIB)).unwrap();
    let beaten = || -> Result<(), StoreError> {
        match store.area.make_room() {
            true => Err(StoreError::new(Fault::Full, "full")),
            false => Ok(()),
        }
    };
    store.area.with_room(beaten).unwrap();
}

#[test]
fn what_could_not_be_made_durable_is_not_built_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let left = leave(&store, "f", &noise(8, MIB)).unwrap();
    let failed = store.area.noted::<()>(Err(rustix::io::Errno::IO));
    failed.unwrap_err();
    go_on(&store, "f", left, b"x").unwrap_err();
    assert_eq!((store.leftover(&path("f")), staged(dir.path())), (None, 0));
}

#[test]
fn only_files_of_its_own_are_taken_for_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let stage = dir.path().join(".syncd/stage");
    let name = |path_of: &str, rest: &str| {
        let key = LeftoverKey::of(&path(path_of));
        stage.join(format!("left-{key}-{rest}"))
    };
    let victim = dir.path().join("victim");
    fs::write(&victim, noise(9, 2 * MIB)).unwrap();
    fs::hard_link(&victim, name("linked", "1")).unwrap();
    std::os::unix::fs::symlink(&victim, name("symlink", "1")).unwrap();
    fs::create_dir(name("directory", "1")).unwrap();
    fs::write(name("small", "1"), "small").unwrap();
    fs::write(stage.join("left-xyz-1"), noise(10, MIB)).unwrap();
    fs::write(name("two", "1"), noise(11, MIB)).unwrap();
    fs::write(name("two", "2"), noise(12, MIB + 1)).unwrap();
    let store = open(dir.path());
    assert_eq!(store.leftovers(), [LeftoverKey::of(&path("two"))]);
    assert_eq!(staged(dir.path()), 1);
    assert_eq!(read(&store, "two").len(), MIB + 1);
    assert_eq!(fs::read(&victim).unwrap(), noise(9, 2 * MIB));
}

#[test]
fn number_bytes_and_age_are_bounded() {
    let kept = |n: u64, size| Kept {
        name: n.to_string(),
        size,
        since: n,
        failures: None,
        mark: 0,
    };
    let key = |n: u64| LeftoverKey(u128::from(n).to_be_bytes());
    let mut shelf = Shelf::default();
    let bound = MAX_LEFTOVERS as u64;
    for n in 0..bound {
        assert!(shelf.put(key(n), kept(n, 1), n).is_empty());
    }
    assert_eq!(shelf.put(key(bound), kept(bound, 1), bound), ["0"]);
    let late = LEFTOVER_SECONDS + 11;
    let gone = shelf.put(key(late), kept(late, LEFTOVER_BYTES), late);
    assert_eq!(gone.len(), MAX_LEFTOVERS, "too old, or too many bytes");
    assert_eq!(
        shelf.put(key(late), kept(late + 1, 1), late),
        [late.to_string()]
    );
    let huge = shelf.put(key(0), kept(late + 2, LEFTOVER_BYTES + 1), late);
    assert_eq!(huge.len(), 2, "itself too");
    assert!(shelf.all.is_empty());
}

/// Instructions that refer to a base of so many bytes.
fn instructions(base: usize) -> impl Strategy<Value = Vec<(usize, usize, Option<u8>)>> {
    let one = (
        0..base,
        1..base,
        proptest::option::weighted(0.3, any::<u8>()),
    );
    // What goes on where a leftover ends is more frequent than any other.
    let first = prop_oneof![Just((0, base, None)), Just((0, MIB, None)), one.clone()];
    (first, proptest::collection::vec(one, 0..4)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_leftover_and_what_follows_it_are_one_base(
        wanted in instructions(3 * MIB),
        length in prop_oneof![Just(MIB + MIB / 2), 1..MIB + MIB / 2],
        restart in any::<bool>(),
        old in prop_oneof![Just(3 * MIB), Just(0)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let (front, back) = (noise(20, MIB + MIB / 2), noise(21, old));
        fs::write(dir.path().join("f"), &back).unwrap();
        leave(&store, "f", &front).unwrap();
        if restart {
            drop(store);
            store = open(dir.path());
        }
        let at = path("f");
        let left = store.leftover(&at).unwrap();
        let mut base = front[..length].to_vec();
        base.extend_from_slice(back.get(length..).unwrap_or_default());
        let origin = Origin {
            base: Some(&at),
            path: Some(&at),
            leftover: Some((left.mark, length as u64)),
        };
        let mut upload = store.open_upload(&origin).unwrap();
        let mut seen = Vec::new();
        let mut done = Vec::new();
        for (offset, length, byte) in wanted {
            let length = length.min(base.len().saturating_sub(offset));
            let literal = byte.map(|byte| vec![byte; length.min(MIB)]);
            match &literal {
                _ if length == 0 => {}
                Some(bytes) => {
                    upload.write(bytes).unwrap();
                    seen.extend_from_slice(bytes);
                    done.extend_from_slice(bytes);
                }
                None => {
                    let (offset, length) = (offset as u64, length as u64);
                    let mut sink = |bytes: &[u8]| seen.extend_from_slice(bytes);
                    upload.copy(offset, length, &mut sink).unwrap();
                    let copy = Instruction::Copy { offset, length };
                    done.extend(patch(&base, [copy], usize::MAX).unwrap());
                }
            }
        }
        let beyond = upload.copy(base.len() as u64, 1, &mut |_| ());
        prop_assert_eq!(beyond.unwrap_err().fault, Fault::Changed);
        let staged_file = store.finish_upload(upload).unwrap();
        store.place(staged_file, &path("new"), &Removal::Now).unwrap();
        prop_assert!(fs::read(dir.path().join("new")).unwrap() == done);
        prop_assert!(seen == done);
        prop_assert_eq!(staged(dir.path()), 0);
    }
}
