//! The watcher on a real directory.

use super::{Mailbox, Seen, Watcher};
use crate::debounce::Hint;
use crate::index::NodeId;
use crate::model::Name;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Bench {
    dir: tempfile::TempDir,
    mailbox: Arc<Mailbox>,
    watcher: Watcher,
    seen: HashMap<(NodeId, Name), Hint>,
    overflow: bool,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let mailbox = Arc::new(Mailbox::default());
        let watcher = Watcher::new(&dir.path().join("private"), Arc::clone(&mailbox)).unwrap();
        Self {
            dir,
            mailbox,
            watcher,
            seen: HashMap::new(),
            overflow: false,
        }
    }

    fn tree(&self) -> std::path::PathBuf {
        self.dir.path().join("tree")
    }

    fn watch(&mut self, path: &Path, node: u64) {
        let fd = File::open(path).unwrap();
        let found = crate::host::source::stat_fd(&fd).unwrap();
        self.watcher
            .watch(&fd, (found.stat.inode, found.stat.birth), NodeId(node))
            .unwrap();
    }

    /// Waits until an entry of a node had a hint.
    async fn expect(&mut self, node: u64, name: &str, hint: Hint) {
        let key = (NodeId(node), Name::new(name.as_bytes()).unwrap());
        while self.seen.get(&key) != Some(&hint) {
            tokio::time::timeout(Duration::from_secs(10), self.mailbox.arrived())
                .await
                .expect("no event came");
            let seen = self.mailbox.take();
            self.overflow |= seen.overflow;
            let entries = seen.entries.into_iter();
            self.seen
                .extend(entries.map(|(at, merged)| (at, merged.last)));
        }
    }
}

#[tokio::test]
async fn a_renamed_directory_is_still_the_same_node() {
    let mut bench = Bench::new();
    let tree = bench.tree();
    fs::create_dir_all(tree.join("a/x")).unwrap();
    bench.watch(&tree, 0);
    bench.watch(&tree.join("a"), 0xa3);
    bench.watch(&tree.join("a/x"), 0xff01);
    fs::rename(tree.join("a"), tree.join("b")).unwrap();
    bench.expect(0, "a", Hint::Gone).await;
    bench.expect(0, "b", Hint::Settled).await;
    fs::write(tree.join("b/f"), "1").unwrap();
    bench.expect(0xa3, "f", Hint::Settled).await;
    // A new directory under the old names, and gone again: the moved ones stay watched.
    fs::create_dir_all(tree.join("a/x")).unwrap();
    bench.watch(&tree.join("a"), 7);
    bench.expect(0, "a", Hint::Settled).await;
    fs::remove_dir(tree.join("a/x")).unwrap();
    bench.expect(7, "x", Hint::Gone).await;
    fs::write(tree.join("b/x/g"), "1").unwrap();
    bench.expect(0xff01, "g", Hint::Settled).await;
    assert!(!bench.overflow);
}

#[tokio::test]
async fn a_directory_that_is_watched_as_another_node_stays_watched() {
    let mut bench = Bench::new();
    let tree = bench.tree();
    bench.watch(&tree, 1);
    bench.watch(&tree, 2);
    assert_eq!(bench.watcher.len(), 1, "one directory");
    bench.watcher.unwatch(NodeId(1));
    fs::write(tree.join("f"), "1").unwrap();
    bench.expect(2, "f", Hint::Settled).await;
    assert_eq!(bench.watcher.len(), 1);
    // The other way round: the node that was there first is the one that stays.
    bench.watch(&tree, 3);
    bench.watcher.unwatch(NodeId(3));
    fs::write(tree.join("g"), "1").unwrap();
    bench.expect(2, "g", Hint::Settled).await;
}

#[tokio::test]
async fn markers_arrive_by_name() {
    let bench = Bench::new();
    fs::write(bench.dir.path().join("private/markers/m1"), "").unwrap();
    loop {
        tokio::time::timeout(Duration::from_secs(10), bench.mailbox.arrived())
            .await
            .expect("no marker came");
        if bench.mailbox.take().markers == ["m1"] {
            break;
        }
    }
}

#[test]
fn a_limit_of_watchers_is_told_from_other_failures() {
    let io = |code| notify::Error::io(std::io::Error::from_raw_os_error(code));
    assert!(matches!(super::refused(io(24)), super::WatchError::Limit));
    assert!(matches!(
        super::refused(io(5)),
        super::WatchError::Notify(_)
    ));
}

/// Whoever hears only of what came last takes a directory that became a file for one that disappeared unseen.
#[test]
fn what_went_and_came_back_was_seen_to_go() {
    let mut seen = Seen::default();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    for (entry, hint) in [
        ("back", Hint::Gone),
        ("back", Hint::Made),
        ("back", Hint::Attributes),
        ("new", Hint::Made),
        ("new", Hint::Settled),
    ] {
        seen.entry(NodeId(3), name(entry), hint);
    }
    let merged = |text| seen.entries[&(NodeId(3), name(text))];
    assert_eq!(
        (merged("back").last, merged("back").went),
        (Hint::Made, true)
    );
    assert_eq!(
        (merged("new").last, merged("new").went),
        (Hint::Settled, false)
    );
}

/// An alias that was left behind when its directory got another node must not stand for the node's next directory.
#[tokio::test]
async fn a_node_whose_directory_went_to_another_node_watches_its_next_one() {
    let mut bench = Bench::new();
    let tree = bench.tree();
    for name in ["old", "new"] {
        fs::create_dir(tree.join(name)).unwrap();
    }
    bench.watch(&tree.join("old"), 1);
    bench.watch(&tree.join("old"), 2);
    bench.watch(&tree.join("new"), 1);
    fs::write(tree.join("new/f"), "").unwrap();
    bench.expect(1, "f", Hint::Settled).await;
    fs::write(tree.join("old/g"), "").unwrap();
    bench.expect(2, "g", Hint::Settled).await;
    // Back to the first node, and away from the second.
    bench.watch(&tree.join("old"), 1);
    bench.watcher.unwatch(NodeId(2));
    fs::write(tree.join("old/h"), "").unwrap();
    bench.expect(1, "h", Hint::Settled).await;
}
