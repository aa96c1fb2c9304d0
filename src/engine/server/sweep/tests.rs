use super::*;
use crate::engine::ports::{Attributes, Removal};
use crate::engine::server::Memory;
use crate::engine::sim::MemStore;
use crate::index::Tree;
use crate::model::Mtime;
use std::sync::Arc;

const USUAL: Attributes = Attributes {
    mode: 0o644,
    mtime: Mtime { secs: 7, nanos: 0 },
};

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn write(store: &MemStore, at: &str, content: &[u8]) {
    let staged = store.stage_file(content, USUAL).unwrap();
    store.place(staged, &path(at), &Removal::Now).unwrap();
}

fn mkdir(store: &MemStore, at: &str) {
    let mode = 0o755;
    let staged = store.stage_dir(Attributes { mode, ..USUAL }).unwrap();
    store.place(staged, &path(at), &Removal::Now).unwrap();
}

/// A share that holds `a/b/f`, `a/g` and `c`.
fn share() -> (MemStore, Server<MemStore>) {
    let store = MemStore::default();
    mkdir(&store, "a");
    mkdir(&store, "a/b");
    mkdir(&store, "c");
    write(&store, "a/b/f", b"one");
    write(&store, "a/g", b"two");
    let run = ("one".to_owned(), 0);
    let mut server = Server::new(Arc::new(store.clone()), Tree::new(), run, Memory::Partial);
    server.refresh();
    server.make_up().unwrap();
    (store, server)
}

/// Sweeps to the end; what was found, and how many files were read.
fn sweep(store: &MemStore, server: &mut Server<MemStore>) -> (Vec<String>, usize) {
    let (mut found, mut read) = (Vec::new(), 0);
    let mut sweep = server.begin_sweep();
    for _ in 0..100 {
        let (look, paths) = match server.sweep(&mut sweep) {
            SweepStep::Looked(look) => (look, Vec::new()),
            SweepStep::Unread(look, paths) => (look, paths),
            SweepStep::Busy => panic!("nothing is under way"),
            SweepStep::Over => return (found, read),
        };
        found.extend(look.paths.iter().map(ToString::to_string));
        read += paths.len();
        sweep.read(store, paths);
    }
    panic!("a sweep without end");
}

/// The sum of a share that is looked at anew.
fn fresh(store: &MemStore) -> crate::model::Sum {
    let run = ("two".to_owned(), 0);
    let mut server = Server::new(Arc::new(store.clone()), Tree::new(), run, Memory::Partial);
    server.refresh();
    server.root_sum()
}

#[test]
fn a_mirror_that_nobody_touched_has_nothing_to_find() {
    let (store, mut server) = share();
    let before = (server.root_sum(), server.version());
    assert_eq!(sweep(&store, &mut server), (vec![], 0));
    assert_eq!((server.root_sum(), server.version()), before);
    assert_eq!(server.drift(), 0);
}

#[test]
fn what_somebody_else_did_is_found_at_any_depth() {
    let (store, mut server) = share();
    write(&store, "a/b/f", b"eno");
    write(&store, "a/extra", b"more");
    store.remove(&path("a/g"), &Removal::Now).unwrap();
    mkdir(&store, "c/new");
    write(&store, "c/new/file", b"deep");
    let (mut found, read) = sweep(&store, &mut server);
    found.sort();
    found.dedup();
    // Directories differ by their times.
    for name in ["a/b/f", "a/extra", "a/g", "c/new", "c/new/file"] {
        assert!(found.iter().any(|path| path == name), "{name}: {found:?}");
    }
    assert_eq!(read, 3);
    assert_eq!(server.root_sum(), fresh(&store));
    assert!(server.drift() >= 5);
    assert_eq!(sweep(&store, &mut server).0, Vec::<String>::new());
}

#[test]
fn a_file_that_changes_between_is_left_to_the_next_sweep() {
    let (store, mut server) = share();
    write(&store, "a/g", b"x");
    let mut sweep_of = server.begin_sweep();
    loop {
        match server.sweep(&mut sweep_of) {
            SweepStep::Unread(_, paths) => {
                sweep_of.read(&store, paths);
                write(&store, "a/g", b"yy");
            }
            SweepStep::Looked(_) => {}
            SweepStep::Busy => panic!("nothing is under way"),
            SweepStep::Over => break,
        }
    }
    assert_ne!(server.root_sum(), fresh(&store));
    assert_eq!(sweep(&store, &mut server).1, 1);
    assert_eq!(server.root_sum(), fresh(&store));
}

#[test]
fn nothing_is_judged_amid_changes() {
    let store = MemStore::default();
    let run = ("one".to_owned(), 0);
    let mut server = Server::new(Arc::new(store), Tree::new(), run, Memory::Partial);
    server.refresh();
    let mut sweep = server.begin_sweep();
    assert_eq!(server.sweep(&mut sweep), SweepStep::Busy);
    server.make_up().unwrap();
    assert!(matches!(server.sweep(&mut sweep), SweepStep::Looked(_)));
    assert_eq!(server.sweep(&mut sweep), SweepStep::Over);
}
