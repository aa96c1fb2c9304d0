//! The tree against a naive model: a map from paths to entries.

use super::{NodeId, Stat, Tree};
use crate::model::{Digest, Entry, Kind, Mtime, Name, RelPath};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn file(n: u8) -> Entry {
    Entry {
        kind: Kind::File {
            size: u64::from(n),
            digest: Digest([n; 32]),
        },
        mode: 0o644,
        mtime: Mtime {
            secs: i64::from(n),
            nanos: 5,
        },
    }
}

fn dir() -> Entry {
    Entry {
        kind: Kind::Directory,
        mode: 0o755,
        mtime: Mtime::default(),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// The same tree made afresh from its entries: what its sums must be.
fn rebuilt(tree: &Tree) -> Tree {
    let mut fresh = Tree::new();
    for (path, entry) in listed(tree) {
        let (parent, name) = path.split().unwrap();
        let dir = fresh.lookup(&parent).unwrap();
        fresh.put(dir, &name, entry, None).unwrap();
    }
    fresh
}

fn listed(tree: &Tree) -> BTreeMap<RelPath, Entry> {
    let mut out = BTreeMap::new();
    let mut todo = vec![tree.root()];
    while let Some(id) = todo.pop() {
        for (_, child) in tree.get(id).unwrap().children() {
            out.insert(
                tree.path(child).unwrap(),
                tree.get(child).unwrap().entry.clone(),
            );
            todo.push(child);
        }
    }
    out
}

#[test]
fn a_renamed_directory_keeps_its_children_and_ids() {
    let mut tree = Tree::new();
    let a = tree.put(tree.root(), &name("a"), dir(), None).unwrap();
    let f = tree
        .put(
            a,
            &name("f"),
            file(1),
            Some(Stat {
                inode: 9,
                ..Stat::default()
            }),
        )
        .unwrap();
    let before = tree.root_sum();
    assert!(tree.rename(a, tree.root(), &name("b")));
    assert_ne!(tree.root_sum(), before);
    assert_eq!(tree.lookup(&path("b/f")), Some(f));
    assert_eq!(tree.by_inode(9), Some(f));
    assert!(tree.rename(a, tree.root(), &name("a")));
    assert_eq!(tree.root_sum(), before);
    assert!(
        !tree.rename(a, a, &name("x")),
        "a directory cannot move into itself"
    );
}

#[test]
fn rows_that_do_not_hang_together_are_left_out() {
    let mut tree = Tree::new();
    let a = tree.put(tree.root(), &name("a"), dir(), None).unwrap();
    tree.put(a, &name("f"), file(1), None).unwrap();
    let mut rows: Vec<_> = tree
        .take_touched()
        .into_iter()
        .map(|(id, row)| (id, row.unwrap()))
        .collect();
    let mut orphan = rows.last().unwrap().1.clone();
    orphan.parent = NodeId(77);
    rows.push((NodeId(50), orphan.clone()));
    orphan.parent = NodeId(51);
    rows.push((NodeId(51), orphan));
    let loaded = Tree::from_rows(rows);
    assert_eq!(loaded.root_sum(), tree.root_sum());
    assert_eq!(loaded.len(), 2);
}

proptest! {
    #[test]
    fn sums_and_rows_follow_any_sequence_of_changes(ops in proptest::collection::vec((0u8..6, 0usize..40, 0usize..40, 0u8..4), 1..80)) {
        let mut tree = Tree::new();
        let mut stored: BTreeMap<NodeId, super::Row> = BTreeMap::new();
        for (what, from, to, n) in ops {
            let ids: Vec<NodeId> = std::iter::once(tree.root()).chain(listed(&tree).keys().filter_map(|p| tree.lookup(p))).collect();
            let (a, b) = (ids[from % ids.len()], ids[to % ids.len()]);
            let label = name(&format!("n{n}"));
            match what {
                0 => { tree.put(a, &label, file(n), Some(Stat { inode: u64::from(n), ..Stat::default() })); }
                1 => { tree.put(a, &label, dir(), None); }
                2 => { tree.rename(a, b, &label); }
                3 => { tree.exchange(a, b); }
                4 => tree.set_attributes(a, 0o600, Mtime { secs: i64::from(n), nanos: 1 }),
                _ if a != tree.root() => tree.remove(a),
                _ => {}
            }
            for (id, row) in tree.take_touched() {
                match row { Some(row) => stored.insert(id, row), None => stored.remove(&id) };
            }
        }
        prop_assert_eq!(rebuilt(&tree).root_sum(), tree.root_sum());
        let loaded = Tree::from_rows(stored);
        prop_assert_eq!(loaded.root_sum(), tree.root_sum());
        prop_assert_eq!(listed(&loaded), listed(&tree));
    }
}
