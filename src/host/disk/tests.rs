//! The store on a temporary directory.

use super::{DiskStore, DiskUpload, Durability, Private};
use crate::engine::ports::{Attributes, Origin, Removal, Scanned, Store, StoreError, Upload};
use crate::engine::source::FoundKind;
use crate::host::clock;
use crate::host::root::Root;
use crate::model::{Fault, Mtime, Name, RelPath};
use proptest::prelude::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

struct Share {
    dir: tempfile::TempDir,
    store: DiskStore,
}

impl Share {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self::open(dir.path());
        Self { dir, store }
    }

    fn open(dir: &Path) -> DiskStore {
        let root = Root::open(dir).unwrap();
        let private = Private::open(&root).unwrap();
        DiskStore::open(root, &private, Durability::Full).unwrap()
    }

    fn at(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(name.as_ref()))
    }

    fn put(&self, name: &[u8], content: &[u8]) -> Result<(), Fault> {
        let staged = self.store.stage_file(content, USUAL).unwrap();
        self.store.sync_staged(&[&staged]).unwrap();
        let placed = self.store.place(staged, &path(name), &Removal::Aside);
        placed.map(drop).map_err(|error| error.fault)
    }

    fn private_is_clean(&self) -> bool {
        self.store.sweeper()();
        ["stage", "trash"].iter().all(|dir| {
            let inside = self.at(".syncd").join(dir);
            fs::read_dir(inside).unwrap().count() == 0
        })
    }
}

const USUAL: Attributes = Attributes {
    mode: 0o644,
    mtime: Mtime { secs: 7, nanos: 9 },
};

fn path(bytes: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(bytes.as_ref()).unwrap()
}

/// An upload by differences from a file of the share.
fn upload_on(store: &DiskStore, base: &str) -> Result<DiskUpload, StoreError> {
    let base = Some(&path(base));
    store.open_upload(&Origin {
        base,
        ..Origin::default()
    })
}

fn scan(store: &DiskStore, dir: &RelPath) -> Result<Vec<Scanned>, StoreError> {
    store.scan(std::slice::from_ref(dir)).pop().unwrap()
}

#[test]
fn any_kind_replaces_any_kind_and_leaves_nothing_behind() {
    const KINDS: [&str; 4] = ["file", "link", "empty", "full"];
    for old in KINDS {
        for new in KINDS {
            let share = Share::new();
            match old {
                "file" => fs::write(share.at("x"), "old").unwrap(),
                "link" => symlink("/etc", share.at("x")).unwrap(),
                "empty" => fs::create_dir(share.at("x")).unwrap(),
                _ => fs::create_dir_all(share.at("x/deep/er")).unwrap(),
            }
            let staged = match new {
                "file" => share.store.stage_file(b"new", USUAL),
                "link" => share.store.stage_symlink(b"new", USUAL.mtime),
                _ => share.store.stage_dir(USUAL),
            };
            let placed = share
                .store
                .place(staged.unwrap(), &path("x"), &Removal::Aside);
            let stat = placed.unwrap();
            let found = share.store.lstat(&path("x")).unwrap().unwrap();
            assert_eq!(found.stat.inode, stat.inode, "{old} by {new}");
            assert_eq!(found.mtime, USUAL.mtime, "{old} by {new}");
            match (new, found.kind) {
                ("file", FoundKind::File { size: 3 }) => {}
                ("link", FoundKind::Symlink { target }) => assert_eq!(&*target, b"new"),
                ("empty" | "full", FoundKind::Directory) => {
                    assert_eq!(fs::read_dir(share.at("x")).unwrap().count(), 0);
                }
                (_, other) => panic!("{old} by {new}: {other:?}"),
            }
            assert!(share.private_is_clean(), "{old} by {new}");
        }
    }
}

#[test]
fn a_rename_replaces_a_full_directory_and_an_exchange_swaps() {
    let share = Share::new();
    fs::create_dir_all(share.at("a/in")).unwrap();
    fs::create_dir_all(share.at("b/other")).unwrap();
    fs::write(share.at("f"), "f").unwrap();
    let store = &share.store;
    store
        .rename(&path("a"), &path("b"), &Removal::Aside)
        .unwrap();
    assert!(share.at("b/in").is_dir() && !share.at("b/other").exists());
    assert!(!share.at("a").exists());
    store.exchange(&path("b"), &path("f")).unwrap();
    assert!(share.at("f/in").is_dir() && share.at("b").is_file());
    // A directory over the one that holds it.
    store
        .rename(&path("f/in"), &path("f"), &Removal::Aside)
        .unwrap();
    assert!(share.at("f").is_dir() && !share.at("f/in").exists());
    let into_itself = store.rename(&path("f"), &path("f/g"), &Removal::Aside);
    assert_eq!(into_itself.unwrap_err().fault, Fault::Changed);
    assert!(share.private_is_clean());
}

#[test]
fn modes_and_times_are_exact() {
    let share = Share::new();
    for (mode, secs, nanos) in [
        (0o4755, -1, 1),
        (0o6711, 0, 999_999_999),
        (0o1777, 4_102_444_800, 0),
        (0, 1 << 33, 5),
    ] {
        let attributes = Attributes {
            mode,
            mtime: Mtime { secs, nanos },
        };
        let file = share.store.stage_file(b"", attributes).unwrap();
        let dir = share.store.stage_dir(attributes).unwrap();
        share.store.place(file, &path("f"), &Removal::Now).unwrap();
        share.store.place(dir, &path("d"), &Removal::Now).unwrap();
        let link = share.store.stage_symlink(b"t", USUAL.mtime).unwrap();
        share.store.place(link, &path("l"), &Removal::Now).unwrap();
        let set = share.store.set_attributes(&path("l"), attributes);
        set.unwrap();
        for name in ["f", "d", "l"] {
            let found = share.store.lstat(&path(name)).unwrap().unwrap();
            let wanted = if name == "l" { 0 } else { mode };
            assert_eq!(
                (found.mode, found.mtime),
                (wanted, attributes.mtime),
                "{name}"
            );
        }
    }
}

#[test]
fn strange_names_are_names() {
    let share = Share::new();
    let long = [b'n'; 255];
    for name in [&b"\xff\xfe"[..], b"new\nline", b"-rf", b"$(x)", &long] {
        share.put(name, name).unwrap();
        assert_eq!(fs::read(share.at(name)).unwrap(), name);
    }
    let names = scan(&share.store, &RelPath::root()).unwrap();
    assert_eq!(names.len(), 5, "and `.syncd` is not among them");
}

#[test]
fn links_are_never_followed() {
    let share = Share::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    symlink(outside.path(), share.at("dir")).unwrap();
    symlink(outside.path().join("victim"), share.at("file")).unwrap();
    let store = &share.store;
    let inner = path("dir/victim");
    assert_eq!(share.put(b"dir/victim", b"evil"), Err(Fault::Changed));
    assert!(store.lstat(&inner).is_err());
    assert!(scan(store, &path("dir")).is_err());
    assert!(store.read(&path("file"), &mut |_| ()).is_err());
    assert!(store.stage_copy(&path("file"), USUAL, &mut |_| ()).is_err());
    assert!(upload_on(store, "file").is_err());
    assert!(store.set_attributes(&inner, USUAL).is_err());
    assert!(
        store
            .rename(&path("file"), &path("dir/x"), &Removal::Now)
            .is_err()
    );
    store.remove(&inner, &Removal::Now).unwrap();
    store.set_attributes(&path("file"), USUAL).unwrap();
    let settled = store.settle(&[(path("dir"), Some(USUAL.mtime))], &[path("file")]);
    settled.unwrap();
    let meta = fs::metadata(outside.path().join("victim")).unwrap();
    assert!(meta.mtime() > 1000);
    assert!(fs::metadata(outside.path()).unwrap().mtime() > 1000);
    store.remove(&path("file"), &Removal::Now).unwrap();
    store.remove(&path("dir"), &Removal::Aside).unwrap();
    assert!(share.private_is_clean());
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");
}

#[test]
fn a_private_directory_that_is_a_link_is_refused_and_a_lock_keeps_others_away() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(elsewhere.path(), dir.path().join(".syncd")).unwrap();
    assert!(Private::open(&Root::open(dir.path()).unwrap()).is_err());
    let first = Private::open(&Root::open(elsewhere.path()).unwrap());
    assert!(Private::open(&Root::open(elsewhere.path()).unwrap()).is_err());
    drop(first);
    assert!(Private::open(&Root::open(elsewhere.path()).unwrap()).is_ok());
}

#[test]
fn what_is_no_regular_file_is_never_opened_as_one() {
    let share = Share::new();
    let pipe = share.at("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let found = share.store.lstat(&path("pipe")).unwrap().unwrap();
    assert!(matches!(found.kind, FoundKind::Special(_)));
    assert!(share.store.read(&path("pipe"), &mut |_| ()).is_err());
    share.put(b"pipe", b"file").unwrap();
    assert!(pipe.is_file());
}

#[test]
fn the_stage_is_emptied_at_the_start_also_of_deep_trees() {
    let share = Share::new();
    let Share { dir, store } = share;
    drop(store);
    let mut deep = dir.path().join(".syncd/stage");
    for _ in 0..300 {
        deep.push("deeper");
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("f"), "x").unwrap();
    }
    let store = Share::open(dir.path());
    assert!(Share { dir, store }.private_is_clean());
}

#[test]
fn a_share_that_was_removed_says_so_and_takes_nothing() {
    let share = Share::new();
    fs::remove_dir_all(share.dir.path()).unwrap();
    let error = share.store.stage_file(b"x", USUAL).unwrap_err();
    assert_eq!(error.fault, Fault::ReadOnly);
    assert!(error.message.contains("was removed"), "{error}");
    assert_eq!(share.store.stage_dir(USUAL).unwrap_err(), error);
}

#[test]
fn what_is_kept_keeps_its_path() {
    let share = Share::new();
    let keep = Removal::Keep(Name::new(b"now").unwrap());
    fs::create_dir_all(share.at("a/b")).unwrap();
    for content in ["1", "2", "3"] {
        fs::write(share.at("a/b/f"), content).unwrap();
        share.store.remove(&path("a/b/f"), &keep).unwrap();
    }
    share.store.remove(&path("a/b/f"), &keep).unwrap();
    for (name, content) in [("f", "1"), ("f~1", "2"), ("f~2", "3")] {
        let kept = share.at(".syncd/kept/now/a/b").join(name);
        assert_eq!(fs::read_to_string(kept).unwrap(), content);
    }
}

#[test]
fn an_upload_copies_from_its_base_within_bounds() {
    let share = Share::new();
    fs::write(share.at("base"), "0123456789").unwrap();
    let mut upload = upload_on(&share.store, "base").unwrap();
    // The base may move meanwhile; it was opened.
    fs::rename(share.at("base"), share.at("moved")).unwrap();
    let mut seen = Vec::new();
    upload
        .copy(5, 5, &mut |bytes| seen.extend_from_slice(bytes))
        .unwrap();
    upload.write(b"ab").unwrap();
    assert_eq!(seen, b"56789");
    for (offset, length) in [(0, 11), (10, 1), (u64::MAX, 2)] {
        let copied = upload.copy(offset, length, &mut |_| ());
        assert_eq!(copied.unwrap_err().fault, Fault::Changed);
    }
    let staged = share.store.finish_upload(upload).unwrap();
    share.store.dress(&staged, USUAL).unwrap();
    share
        .store
        .place(staged, &path("new"), &Removal::Now)
        .unwrap();
    assert_eq!(fs::read(share.at("new")).unwrap(), b"56789ab");
    let given_up = share.store.open_upload(&Origin::default()).unwrap();
    drop(given_up);
    assert!(share.private_is_clean());
}

/// Also run by hand as a user without privileges: `root` may do everything anyway.
#[test]
fn directories_without_rights_are_opened_for_the_moment() {
    let share = Share::new();
    let mode = |name: &str, mode| {
        fs::set_permissions(share.at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let is = |name: &str| fs::metadata(share.at(name)).unwrap().mode() & 0o7777;
    fs::create_dir_all(share.at("shut/inner/deep")).unwrap();
    mode("shut/inner/deep", 0o555);
    mode("shut/inner", 0o000);
    mode("shut", 0o500);
    share.put(b"shut/inner/deep/f", b"1").unwrap();
    let store = &share.store;
    let found = store.lstat(&path("shut/inner/deep/f")).unwrap().unwrap();
    assert_eq!(found.kind, FoundKind::File { size: 1 });
    let staged = store
        .stage_dir(Attributes {
            mode: 0o555,
            ..USUAL
        })
        .unwrap();
    store
        .place(staged, &path("shut/dir"), &Removal::Now)
        .unwrap();
    store
        .rename(&path("shut/dir"), &path("dir"), &Removal::Now)
        .unwrap();
    assert_eq!((is("shut"), is("dir")), (0o500, 0o555));
    let attributes = Attributes {
        mode: 0o000,
        ..USUAL
    };
    store
        .set_attributes(&path("shut/inner/deep/f"), attributes)
        .unwrap();
    store
        .set_attributes(&path("shut/inner/deep/f"), USUAL)
        .unwrap();
    store
        .settle(&[(path("shut/inner/deep"), Some(USUAL.mtime))], &[])
        .unwrap();
    store
        .remove(&path("shut/inner/deep/f"), &Removal::Now)
        .unwrap();
    assert_eq!(is("shut"), 0o500);
    mode("shut", 0o700);
    assert_eq!(is("shut/inner"), 0o000);
    mode("shut/inner", 0o700);
    assert_eq!(is("shut/inner/deep"), 0o555);
    store.remove(&path("shut"), &Removal::Aside).unwrap();
    assert!(share.private_is_clean());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_that_are_a_path_are_put_exactly_there(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 1..5),
        content in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let joined = parts.join(&b'/');
        let Ok(whole) = RelPath::new(&joined) else {
            return Ok(());
        };
        let share = Share::new();
        let mut at = RelPath::root();
        let names: Vec<Vec<u8>> = whole.components().map(<[u8]>::to_vec).collect();
        for name in &names[..names.len() - 1] {
            at = at.join(&Name::new(name).unwrap()).unwrap();
            let attributes = Attributes { mode: 0o755, ..USUAL };
            let dir = share.store.stage_dir(attributes).unwrap();
            share.store.place(dir, &at, &Removal::Aside).unwrap();
        }
        share.put(whole.as_bytes(), &content).unwrap();
        prop_assert_eq!(fs::read(share.at(whole.as_bytes())).unwrap(), content);
        let mut read = 0;
        share.store.read(&whole, &mut |bytes| read += bytes.len()).unwrap();
        let kind = share.store.lstat(&whole).unwrap().unwrap().kind;
        prop_assert_eq!(kind, FoundKind::File { size: read as u64 });
    }
}

#[test]
fn a_start_removes_rubbish_and_what_was_kept_long_ago() {
    let dir = tempfile::tempdir().unwrap();
    drop(Share::open(dir.path()));
    let private = dir.path().join(".syncd");
    let recent = humantime::format_rfc3339_seconds(clock::wall()).to_string();
    for name in [
        "stage/left/x",
        "trash/left/deep/er",
        "kept/2020-01-01T00:00:00Z/a/b",
        &format!("kept/{recent}/a/b"),
        "kept/of a person/a",
    ] {
        fs::create_dir_all(private.join(name)).unwrap();
    }
    let store = Share::open(dir.path());
    store.sweeper()();
    let names = |folder: &str| {
        let entries = fs::read_dir(private.join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("stage").len(), 0);
    assert_eq!(names("trash").len(), 0);
    assert_eq!(names("kept"), [&*recent, "of a person"]);
    assert!(private.join("kept").join(&recent).join("a/b").exists());
}
