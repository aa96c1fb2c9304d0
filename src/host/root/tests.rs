//! Resolution with and without `openat2`.

use super::Root;
use crate::model::RelPath;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

#[test]
fn both_ways_of_resolving_agree_and_pass_no_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/f"), "x").unwrap();
    symlink("a", dir.path().join("in")).unwrap();
    symlink("/", dir.path().join("out")).unwrap();
    symlink("f", dir.path().join("a/b/l")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
    for way in [true, false] {
        root.openat2.store(way, Ordering::Relaxed);
        assert!(root.dir(&path("a/b")).is_ok());
        assert!(root.open_at(&path("a/b/f"), OFlags::empty()).is_ok());
        for through in ["in/b", "out/etc", "a/b/f/x", "a/b/l"] {
            assert!(root.dir(&path(through)).is_err(), "{through}");
        }
        for link in ["a/b/l", "in/b/f"] {
            let opened = root.open_at(&path(link), OFlags::empty());
            let error = opened.map(drop).unwrap_err();
            assert!(
                matches!(error, Errno::LOOP | Errno::NOTDIR),
                "{link}: {error}"
            );
        }
        assert_eq!(root.dir(&path("a/x")).map(drop), Err(Errno::NOENT));
    }
}
