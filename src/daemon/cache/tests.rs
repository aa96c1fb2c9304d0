use super::{CacheOptions, FileCache, Key, Lease, OVERHEAD, Taken};
use crate::engine::ports::StoreError;
use crate::engine::source::{Found, FoundKind};
use crate::index::Stat;
use crate::model::{Mtime, RelPath};
use std::sync::Arc;

fn cache(max_bytes: u64, max_entry: u64) -> Arc<FileCache> {
    FileCache::new(CacheOptions {
        max_bytes,
        max_entry,
    })
}

fn key(path: &str) -> Key {
    Key {
        share: "".into(),
        path: RelPath::new(path.as_bytes()).unwrap(),
    }
}

fn found(size: u64) -> Found {
    Found {
        kind: FoundKind::File { size },
        mode: 0o644,
        mtime: Mtime { secs: 1, nanos: 0 },
        stat: Stat::default(),
    }
}

fn take(cache: &Arc<FileCache>, path: &str, version: &str, size: u64) -> Taken {
    cache.take(&key(path), (&found(size), version, size), true)
}

/// Reads a file of one byte again and again.
fn load(cache: &Arc<FileCache>, path: &str, size: u64) -> Lease {
    let Taken::Load(lease, loader) = take(cache, path, "1", size) else {
        panic!("`{path}` is there already, or is not kept");
    };
    let read = |buffer: &mut [u8], _| {
        buffer.fill(7);
        Ok(buffer.len())
    };
    loader.load(&read, &|| Ok(()), true);
    lease
}

fn names(cache: &FileCache) -> Vec<String> {
    let shown = cache.list("").into_iter();
    shown.map(|file| file.path.to_string()).collect()
}

#[test]
fn what_is_in_use_is_not_evicted_and_never_more_than_there_is_room_for() {
    let cache = cache(10_000 + 3 * OVERHEAD, 10_000);
    let held = load(&cache, "a", 6_000);
    drop(load(&cache, "b", 3_000));
    assert_eq!(names(&cache), ["a", "b"]);
    // Only `b` can go.
    drop(load(&cache, "c", 3_500));
    assert_eq!(names(&cache), ["a", "c"]);
    // There is no room beside what is in use.
    assert!(matches!(take(&cache, "d", "1", 5_000), Taken::Apart));
    assert_eq!(names(&cache), ["a", "c"]);
    let usage = cache.usage();
    assert!(usage.bytes <= 10_000 + 3 * OVERHEAD, "{usage:?}");
    drop(held);
    drop(load(&cache, "d", 9_000));
    assert_eq!(names(&cache), ["d"]);
}

#[test]
fn what_is_too_long_is_never_taken() {
    let cache = cache(10_000, 4_000);
    assert!(matches!(take(&cache, "a", "1", 4_001), Taken::Apart));
    drop(load(&cache, "b", 4_000));
    let none = self::cache(0, 4_000);
    assert!(matches!(take(&none, "a", "1", 0), Taken::Apart));
    let all = self::cache(4_000, 10_000);
    assert!(matches!(take(&all, "a", "1", 4_000), Taken::Apart));
    assert_eq!(all.usage().entries, 0);
}

#[test]
fn an_entry_as_large_as_all_of_the_cache_is_kept() {
    let cache = cache(1_000_000, 1_000_000);
    drop(load(&cache, "a", 1_000_000 - OVERHEAD - 1));
    assert_eq!(names(&cache), ["a"]);
}

#[test]
fn one_reads_for_all_who_come_meanwhile() {
    let cache = cache(10_000_000, 10_000_000);
    let Taken::Load(first, loader) = take(&cache, "a", "1", 600_000) else {
        panic!("it is cold");
    };
    let Taken::There(second) = take(&cache, "a", "1", 600_000) else {
        panic!("it is on its way");
    };
    let reader = std::thread::spawn(move || {
        let mut got = 0;
        while got < 600_000 {
            got += second.body().piece(got, 600_000).unwrap().len() as u64;
        }
        second.body().sum().unwrap()
    });
    let read = |buffer: &mut [u8], _| {
        buffer.fill(7);
        Ok(buffer.len())
    };
    loader.load(&read, &|| Ok(()), true);
    assert_eq!(reader.join().unwrap(), first.body().sum().unwrap());
    let shown = cache.list("");
    assert_eq!((shown[0].hits, shown[0].users), (1, 1));
}

#[test]
fn another_version_is_another_file() {
    let cache = cache(10_000, 10_000);
    drop(load(&cache, "a", 10));
    assert!(matches!(take(&cache, "a", "2", 10), Taken::Load(..)));
    // Nobody loaded that, and it is gone with its loader.
    assert_eq!(cache.usage().entries, 0);
    let lease = load(&cache, "a", 10);
    cache.forget(&"".into(), [key("a").path].iter());
    assert_eq!(cache.usage().entries, 0);
    assert_eq!(&lease.body().piece(0, 3).unwrap()[..], [7, 7, 7]);
}

#[test]
fn a_read_that_fails_is_told_to_all_and_leaves_nothing() {
    let cache = cache(10_000, 10_000);
    for lasting in [true, false] {
        let Taken::Load(lease, loader) = take(&cache, "a", "1", 10) else {
            panic!("it is cold");
        };
        let read = |buffer: &mut [u8], _| Ok(buffer.len());
        let changed = || match lasting {
            true => Err(StoreError::changed("it changed")),
            false => Ok(()),
        };
        loader.load(&read, &changed, lasting);
        assert_eq!(lease.body().sum().is_err(), lasting);
        assert_eq!(cache.usage().entries, 0);
    }
    let Taken::Load(lease, loader) = take(&cache, "a", "1", 10) else {
        panic!("it is cold");
    };
    drop(loader);
    assert!(lease.body().piece(0, 1).is_err());
}
