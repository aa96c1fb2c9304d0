//! The client's engine against a source in memory and a naive server: a map from paths to entries that checks each
//! operation's preconditions. Random changes, lost events and cut lines; in the end both must be equal.

use super::{ClientEngine, Memory, Output, ReadOutcome, Settings, UploadJob, Welcome};
use crate::debounce::{Hint, Key};
use crate::delta::digest;
use crate::engine::brake::Hold;
use crate::engine::sim::{Inode, MemSource, Meta, name, root_id};
use crate::engine::source::Source;
use crate::index::{NodeId, Tree};
use crate::model::{Digest, Entry, Fault, Kind, Mtime, RelPath};
use crate::wire::{
    BodyReader, BodyWriter, Code, Content, Failed, ListEntry, ListKind, Op, Request, Response,
    WireBytes,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

mod bench;
mod brake;
mod flush;
mod hot;
mod mounts;
mod naive;

use bench::{Bench, brief};

/// One of many changes.
fn change(source: &mut MemSource, n: u8, a: usize, b: usize, c: u8) {
    let (dirs, names) = (source.dirs(), source.names());
    let dir = dirs[a % dirs.len()];
    let fresh = [b'n', b'0' + c % 6];
    let size = if c > 200 { 70_000 } else { usize::from(c) };
    let pick = (!names.is_empty()).then(|| names[b % names.len().max(1)].clone());
    match (n, pick) {
        (0 | 1, _) => source.make(dir, &fresh, Inode::File(vec![c; size])),
        (2, _) => source.make(dir, &fresh, Inode::Dir(BTreeMap::new())),
        (3, _) => source.make(dir, &fresh, Inode::Link(vec![c])),
        (4, Some((d, n, _))) => source.unlink(d, &n),
        (5..=7, Some((d, n, _))) => source.rename(d, &n, dir, &fresh),
        (8 | 9, Some((d, n, id))) => {
            if let Inode::File(content) = &mut source.inodes.get_mut(&id).unwrap().inode {
                content.resize(size, c);
                content.push(c);
                source.touch(id, true);
                source.changed(d, &n);
                source.event(d, &n, Hint::Settled);
            }
        }
        (10, Some((d, n, id))) => {
            source.inodes.get_mut(&id).unwrap().mode = u32::from(c);
            source.touch(id, false);
            source.changed(d, &n);
            source.event(d, &n, Hint::Attributes);
        }
        (11, Some((d, n, _))) => {
            // A swap of two names through a third.
            let Some((e, m, _)) = names.get(a % names.len()).cloned() else {
                return;
            };
            source.rename(d, &n, 1, b"swap");
            source.rename(e, &m, d, &n);
            source.rename(1, b"swap", e, &m);
        }
        (12, Some((_, _, id))) if matches!(source.inodes[&id].inode, Inode::File(_)) => {
            source.link(dir, &fresh, id);
        }
        (13, _) => source.make(dir, &fresh, Inode::Pipe),
        _ => {}
    }
}

#[test]
fn a_renamed_directory_is_one_message_and_no_content() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    for n in 0..50u8 {
        bench
            .source
            .make(2, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    bench.assert_equal();
    let contents = bench.server.contents;
    bench.source.rename(1, b"d", 1, b"e");
    bench.settle();
    bench.assert_equal();
    assert_eq!(
        (bench.server.moves, bench.server.contents),
        (1, contents),
        "{:?}",
        bench.trace
    );
}

#[test]
fn a_swap_of_files_and_of_directories_sends_no_content() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(1, b"e", Inode::Dir(BTreeMap::new()));
    bench.source.make(2, b"f", Inode::File(vec![1; 10]));
    bench.source.make(3, b"g", Inode::File(vec![2; 10]));
    bench.settle();
    let contents = bench.server.contents;
    for (a, b) in [(b"d", b"e"), (b"e", b"d")] {
        bench.source.rename(1, a, 1, b"t");
        bench.source.rename(1, b, 1, a);
        bench.source.rename(1, b"t", 1, b);
    }
    bench.source.rename(2, b"f", 1, b"t");
    bench.source.rename(3, b"g", 2, b"f");
    bench.source.rename(1, b"t", 3, b"g");
    bench.settle();
    bench.assert_equal();
    assert_eq!(bench.server.contents, contents, "{:#?}", bench.trace);
}

#[test]
fn an_editors_save_never_takes_the_path_away() {
    let mut bench = Bench::new();
    bench.source.make(1, b"f", Inode::File(vec![1; 10]));
    bench.source.make(1, b"f~", Inode::File(vec![0; 9]));
    bench.settle();
    bench.source.rename(1, b"f", 1, b"f~");
    bench.step(true);
    bench.deliver();
    assert!(
        bench.server.entries.contains_key(&b"f"[..]),
        "{:?}",
        bench.trace
    );
    bench.source.make(1, b"f", Inode::File(vec![2; 11]));
    bench.settle();
    bench.assert_equal();
    assert!(
        !bench
            .trace
            .iter()
            .any(|op| op.contains("Delete") || op.contains("Rename")),
        "{:?}",
        bench.trace
    );
}

/// What somebody writes in place into the first file that was made.
fn rewrite(source: &mut MemSource, content: Vec<u8>, hint: Hint) {
    source.inodes.get_mut(&2).unwrap().inode = Inode::File(content);
    source.touch(2, true);
    source.event(1, b"f", hint);
}

#[test]
fn a_file_that_is_emptied_between_the_look_and_the_read_is_not_sent_empty() {
    for size in [10, 100_000] {
        let mut bench = Bench::new();
        bench.source.make(1, b"f", Inode::File(vec![1; size]));
        bench.settle();
        rewrite(&mut bench.source, vec![2; size + 1], Hint::Settled);
        bench.source.race = Some((b"f", |source| rewrite(source, Vec::new(), Hint::Touched)));
        for _ in 0..10 {
            bench.step(true);
            bench.upload();
            bench.deliver();
        }
        let empty = |bench: &Bench| bench.trace.iter().any(|op| op.contains("size: 0,"));
        assert!(!empty(&bench), "{:?}", bench.trace);
        rewrite(&mut bench.source, vec![3; size + 2], Hint::Settled);
        bench.settle();
        bench.assert_equal();
        assert!(!empty(&bench), "{:?}", bench.trace);
        // What stays empty is believed.
        rewrite(&mut bench.source, Vec::new(), Hint::Settled);
        bench.settle();
        bench.assert_equal();
        assert!(empty(&bench), "{:?}", bench.trace);
    }
}

#[test]
fn an_emptied_source_found_by_a_scan_deletes_nothing() {
    let mut bench = Bench::new();
    for n in 0..5u8 {
        bench
            .source
            .make(1, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    for n in 0..5u8 {
        bench.source.unlink(1, &[b'f', b'0' + n]);
    }
    bench.source.events.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.server.entries.len(), 5);
    assert!(bench.engine.snapshot(bench.now).held.is_some());
}

#[test]
fn a_directory_that_is_moved_before_it_was_listed_is_listed_where_it_is() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(2, b"e", Inode::Dir(BTreeMap::new()));
    bench.source.make(3, b"f", Inode::File(vec![1; 10]));
    bench.source.race = Some((b"d", |source| source.rename(1, b"d", 1, b"g")));
    bench.settle();
    bench.assert_equal();
    // Once more, with its parent moved on.
    bench.source.make(2, b"h", Inode::Dir(BTreeMap::new()));
    bench.source.make(5, b"f", Inode::File(vec![2; 10]));
    bench.source.race = Some((b"h", |source| source.rename(1, b"g", 1, b"i")));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn a_directory_below_one_that_was_missed_and_turned_up_elsewhere_is_listed() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.race = Some((b"d", |source| {
        source.make(2, b"e", Inode::Dir(BTreeMap::new()));
        source.make(3, b"f", Inode::File(vec![1; 10]));
        // It is looked for at its old name before the event that it went there is heard.
        source.race = Some((b"e", |source| source.rename(1, b"d", 1, b"g")));
    }));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn what_comes_between_the_look_at_a_directory_and_its_watch_is_not_lost() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.race = Some((b"d", |source| {
        source.make(2, b"f", Inode::File(vec![1; 10]));
    }));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn directories_that_changed_places_unseen_are_listed() {
    let mut bench = Bench::new();
    for (n, dir) in [b"d", b"e"].into_iter().enumerate() {
        bench.source.make(1, dir, Inode::Dir(BTreeMap::new()));
        bench
            .source
            .make(2 + 2 * n as u64, b"f", Inode::File(vec![1; 10]));
    }
    bench.settle();
    bench.source.rename(1, b"d", 1, b"t");
    bench.source.rename(1, b"e", 1, b"d");
    bench.source.rename(1, b"t", 1, b"e");
    bench.source.make(2, b"g", Inode::File(vec![2; 10]));
    bench.source.make(4, b"h", Inode::File(vec![3; 10]));
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.settle();
    bench.assert_equal();
}

#[test]
fn directories_without_a_watch_are_looked_at_from_time_to_time() {
    let mut bench = Bench::new();
    bench.source.watches = 1;
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.settle();
    let status = bench.engine.snapshot(bench.now);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    assert_eq!(bench.engine.problem_count(), 0);
    bench.source.make(2, b"f", Inode::File(vec![1; 10]));
    bench.settle();
    assert!(bench.engine.next_due().unwrap() <= bench.now + Duration::from_secs(3));
    bench.now += Duration::from_secs(3);
    bench.settle();
    bench.assert_equal();
    bench.source.watches = 2;
    bench.now += Duration::from_secs(3);
    bench.settle();
    assert!(bench.engine.snapshot(bench.now).problems.is_empty());
}

/// Everything that is asked at each step must cost the same however much is dirty: this would take minutes otherwise.
#[test]
fn many_dirty_paths_do_not_slow_a_step() {
    let mut bench = Bench::new();
    bench.settle();
    bench.engine.flush(1, bench.now);
    for n in 0..60_000u32 {
        let file = format!("n{n}");
        bench
            .source
            .make(1, file.as_bytes(), Inode::File(Vec::new()));
    }
    bench.engine.flush(2, bench.now);
    let mut steps = 0;
    while bench.flushed != [1, 2] || !bench.engine.is_idle() {
        steps += 1;
        assert!(steps < 2_000, "{:?}", bench.engine.snapshot(bench.now));
        bench.step(true);
        for (request, _) in std::mem::take(&mut bench.line) {
            let Request::Mutate { id, .. } = request else {
                continue;
            };
            let (version, failed) = (1, Vec::new());
            let applied = Response::Applied {
                id,
                version,
                failed,
            };
            let answer = bench
                .engine
                .response(applied, &[], bench.now, &mut Vec::new());
            answer.unwrap();
        }
    }
    assert_eq!(bench.engine.view.len(), 60_000);
}

#[test]
fn what_somebody_found_to_differ_is_read_and_sent_whatever_was_known() {
    for size in [10, 100_000] {
        let mut bench = Bench::new();
        bench.source.make(1, b"f", Inode::File(vec![1; size]));
        bench.source.make(1, b"g", Inode::File(vec![2; size]));
        bench.settle();
        // Nothing tells of it: neither an event nor a time.
        bench.source.inodes.get_mut(&2).unwrap().inode = Inode::File(vec![3; size]);
        let known = bench.server.entries[&b"f"[..]].clone();
        let rotten = |kind| Entry {
            kind,
            ..known.clone()
        };
        let other = Kind::File {
            size: size as u64,
            digest: digest(b"rotten"),
        };
        bench.server.entries.insert(b"g".to_vec(), rotten(other));
        bench.server.entries.insert(b"x".to_vec(), known.clone());
        bench.engine.rescan();
        bench.settle();
        assert_eq!(bench.server.entries[&b"f"[..]], known);
        let paths = [&b"f"[..], b"g", b"x", b"no/where"].map(|path| RelPath::new(path).unwrap());
        bench.engine.repair(&paths, bench.now);
        bench.engine.flush(7, bench.now);
        bench.settle();
        assert_eq!(bench.flushed, [7]);
        bench.assert_equal();
    }
}

/// The seed is fixed so that a run of the tests says something about the change under test; `SYNCD_SLOW=1` looks
/// further, from a new seed each time.
fn further() -> ProptestConfig {
    let slow = std::env::var_os("SYNCD_SLOW").is_some();
    ProptestConfig {
        cases: if slow { 20_000 } else { 400 },
        rng_seed: if slow {
            proptest::test_runner::RngSeed::Random
        } else {
            proptest::test_runner::RngSeed::Fixed(7)
        },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(further())]
    #[test]
    fn the_mirror_follows_any_changes(
        changes in proptest::collection::vec((0u8..14, 0usize..60, 0usize..60, any::<u8>(), 0u8..12), 1..120),
    ) {
        let mut bench = Bench::new();
        for (n, a, b, c, pause) in changes {
            bench.trace.push(format!("-- {n} {a} {b} {c} {pause}"));
            change(&mut bench.source, n, a, b, c);
            let now: Vec<String> = bench.source.expected().iter()
                .map(|(path, entry)| format!("{} {}", String::from_utf8_lossy(path), brief(entry))).collect();
            bench.trace.push(format!("   source: {}", now.join(", ")));
            match pause {
                0..=3 => { bench.step(true); }
                4 | 5 => { bench.step(false); bench.deliver(); }
                6 => { bench.now += Duration::from_millis(60); bench.step(true); bench.upload(); }
                7 => bench.cut(),
                8 => { bench.source.events.clear(); bench.source.inside.clear(); bench.engine.rescan(); }
                _ => {}
            }
        }
        bench.settle();
        if bench.source.blind {
            bench.engine.rescan();
            bench.settle();
        }
        if bench.engine.snapshot(bench.now).held.is_some() {
            return Ok(());
        }
        bench.assert_equal();
    }
}

/// A comparison finds something else on the server under one name of a file. Before that name is looked at, the file is
/// changed through it, and the name goes.
#[test]
fn a_name_that_differs_on_the_server_still_stands_for_the_others_of_its_file() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(1, b"f", Inode::File(vec![1; 10]));
    bench.source.link(2, b"g", 3);
    bench.settle();
    let view = &bench.engine.view;
    let key = Key {
        dir: view.child(view.root(), b"d").unwrap(),
        name: name(b"g"),
    };
    bench.server.entries.get_mut(&b"d/g"[..]).unwrap().mode ^= 0o020;
    bench.cut();
    let wait = bench.engine.fresh_wait(bench.now);
    let later = bench.now + Duration::from_secs(1);
    bench.engine.queue.wait(key, later, wait);
    while bench.deliver() {}
    bench.step(false);
    bench.source.dress(2, b"g", 0o600, None);
    bench.source.unlink(2, b"g");
    bench.settle();
    bench.assert_equal();
}
