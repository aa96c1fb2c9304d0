//! What goes unseen is judged: what is held, why, and what ends a hold.

use super::*;

#[test]
fn what_is_seen_to_go_is_not_held_though_a_scan_misses_it_first() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    for n in 0..150u8 {
        bench.source.make(
            2,
            &[b'f', b'0' + n / 50, b'0' + n % 50],
            Inode::File(vec![n; 3]),
        );
    }
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.engine.rescan();
    while bench.step(false) {}
    bench.settle();
    assert!(bench.held().is_none());
    bench.assert_equal();
}

/// The file is still open when it is looked at first.
#[test]
fn a_directory_that_went_is_not_held_because_a_file_grows_in_its_place() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.source.make(1, b"d", Inode::File(vec![2]));
    bench.source.events.retain(|(_, at, _)| at == &name(b"d"));
    bench.source.events.back_mut().unwrap().2 = Hint::Made;
    bench.settle();
    let file = bench.source.dir(1)[b"d".as_slice()];
    bench.source.touch(file, true);
    bench.source.event(1, b"d", Hint::Settled);
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

/// A look at the directory comes before the events of its move, and what went from it is due meanwhile.
#[test]
fn what_was_seen_to_go_is_not_held_because_its_directory_is_missing_for_a_while() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(2, b"s", Inode::Dir(BTreeMap::new()));
    bench.make_files(3, 150);
    bench.source.make(2, b"t", Inode::Dir(BTreeMap::new()));
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    bench.source.unlink(2, b"s");
    bench.source.unlink(2, b"t");
    bench.source.make(2, b"t", Inode::File(vec![2]));
    bench.step(true);
    bench.source.rename(1, b"d", 1, b"e");
    for _ in 0..200 {
        bench.step(false);
    }
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
    assert_eq!(bench.server.moves, 1);
}

/// The server has the old directory still, and takes the next one of that name for it.
#[test]
fn what_was_in_a_directory_that_went_is_not_held_because_the_server_refused_that() {
    for moved in [false, true] {
        let mut bench = Bench::new();
        bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
        bench.make_files(2, 150);
        bench.source.make(2, b"sub", Inode::Dir(BTreeMap::new()));
        let sub = bench.source.next - 1;
        bench.make_files(sub, 150);
        bench.source.make(2, b"kind", Inode::Dir(BTreeMap::new()));
        let kind = bench.source.next - 1;
        bench.make_files(kind, 150);
        bench.source.make(1, b"stays", Inode::File(vec![1]));
        bench.settle();
        if moved {
            bench.source.rename(1, b"d", 1, b"e");
            for dir in [sub, kind, 2] {
                let names: Vec<_> = bench.source.dir(dir).keys().cloned().collect();
                for entry in names {
                    bench.source.unlink(dir, &entry);
                }
            }
        } else {
            bench.source.unlink(1, b"d");
        }
        for _ in 0..100 {
            bench.step(true);
        }
        let new = bench.source.next;
        bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
        bench.source.make(new, b"sub", Inode::Dir(BTreeMap::new()));
        bench.source.make(new, b"kind", Inode::File(vec![3]));
        for _ in 0..100 {
            bench.step(true);
        }
        bench.server.refusals = 1;
        bench.settle();
        assert!(bench.failures > 0, "{:#?}", bench.trace);
        assert_eq!(bench.held(), None, "{moved}");
        bench.assert_equal();
    }
}

impl Bench {
    pub(super) fn held(&self) -> Option<Hold> {
        self.engine.snapshot(self.now).held.map(|held| held.hold)
    }

    /// A person looks at what is held and accepts it.
    fn accept(&mut self) -> Result<usize, String> {
        let shown = self.engine.show_held().map_or(0, |held| held.entries);
        self.engine.accept(shown)?;
        self.settle();
        self.accepted.pop().unwrap()
    }

    pub(super) fn make_files(&mut self, dir: u64, count: u8) {
        for n in 0..count {
            let name = [b'f', b'0' + n / 50, b'0' + n % 50];
            self.source.make(dir, &name, Inode::File(vec![n; 3]));
        }
    }

    /// Time passes until the root is looked at again.
    fn look_at_root(&mut self) {
        self.now += Duration::from_secs(2);
        self.step(true);
    }
}

#[test]
fn a_hold_stands_until_it_is_accepted_though_the_tree_grows() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.source.events.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    // The rest is mirrored, and though by now it is the larger part, nothing is deleted.
    bench.make_files(1, 200);
    bench.settle();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!(bench.server.entries.len(), 352);
    assert_eq!(bench.accept(), Ok(151));
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

#[test]
fn what_was_not_shown_is_not_deleted_by_accepting() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    let all = bench.source.root.take();
    bench.source.inodes.insert(
        900,
        Meta {
            inode: Inode::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            links: 1,
        },
    );
    bench.source.root = Some(900);
    bench.source.make(900, b"f00", Inode::File(vec![0; 3]));
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Replaced));
    assert_eq!(bench.engine.show_held().unwrap().entries, 4);
    bench.source.unlink(900, b"f00");
    bench.source.events.clear();
    bench.engine.accept(4).unwrap();
    bench.settle();
    assert!(bench.accepted.pop().unwrap().is_err());
    assert_eq!(bench.server.entries.len(), 5);
    // The old root comes back.
    bench.source.root = all;
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

#[test]
fn what_goes_while_the_root_comes_back_is_judged_by_itself() {
    let mut bench = Bench::new();
    bench.make_files(1, 50);
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.settle();
    bench.source.root = Some(52);
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Replaced));
    bench.source.root = Some(1);
    bench.source.unlink(1, b"f00");
    bench.source.events.clear();
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

#[test]
fn a_root_that_is_gone_stops_everything_until_it_is_back() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    let root = bench.source.root.take();
    // What was seen to go just before, in a tree that is elsewhere by now, is not believed.
    bench.source.unlink(1, b"f00");
    let sent = bench.trace.len();
    bench.look_at_root();
    for _ in 0..200 {
        bench.step(true);
        bench.deliver();
    }
    assert!(bench.engine.is_away() && bench.engine.accept(9).is_err());
    let soon = bench.now + Duration::from_millis(200);
    assert!(bench.engine.next_due().unwrap() <= soon);
    assert_eq!(bench.trace.len(), sent);
    bench.source.root = root;
    bench.look_at_root();
    bench.settle();
    assert!(!bench.engine.is_away());
    bench.assert_equal();
}

#[test]
fn a_deletion_is_not_believed_when_the_root_went_meanwhile() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    for n in 0..5 {
        bench.source.unlink(1, &[b'f', b'0', b'0' + n]);
    }
    bench.step(true);
    bench.source.root = None;
    bench.engine.root_event();
    for _ in 0..200 {
        bench.step(true);
        bench.deliver();
    }
    assert_eq!(bench.server.entries.len(), 5);
}

#[test]
fn what_a_comparison_finds_extra_is_held_like_what_a_scan_misses() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    for n in 0..150u8 {
        let entry = Entry {
            kind: Kind::Symlink { target: [n].into() },
            mode: 0,
            mtime: Mtime::default(),
        };
        bench
            .server
            .entries
            .insert(vec![b'x', b'0' + n / 50, b'0' + n % 50], entry);
    }
    bench.cut();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!(bench.server.entries.len(), 155);
    assert_eq!(bench.accept(), Ok(150));
    bench.assert_equal();
}

#[test]
fn a_move_that_is_lost_on_the_way_is_no_disappearance() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 250);
    bench.settle();
    bench.source.rename(1, b"d", 1, b"e");
    for n in 0..250u8 {
        // Nothing of it is elsewhere.
        let name = [b'f', b'0' + n / 50, b'0' + n % 50];
        match n {
            0..50 => bench.source.write(2, &name, vec![n; 4]),
            _ => bench.source.unlink(2, &name),
        }
    }
    while bench.step(true) {}
    let sent = |(request, _): &(Request, Vec<u8>)| format!("{request:?}").contains("Rename");
    assert!(bench.line.iter().any(sent));
    bench.cut();
    bench.settle();
    assert!(bench.held().is_none());
    bench.assert_equal();
}

#[test]
fn a_move_that_is_older_than_the_view_is_no_disappearance() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 250);
    bench.settle();
    bench.source.rename(1, b"d", 1, b"e");
    for n in 0..110u8 {
        bench
            .source
            .unlink(2, &[b'f', b'0' + n / 50, b'0' + n % 50]);
    }
    bench.source.events.clear();
    bench.source.forget_watches();
    let settings = Settings::default();
    bench.engine = ClientEngine::new(settings, Some(root_id(1)), Tree::new(), &Memory::default());
    bench.cut();
    bench.settle();
    assert!(bench.held().is_none());
    bench.assert_equal();
}

#[test]
fn a_directory_that_a_scan_finds_to_be_a_file_is_held_too() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.source.make(1, b"d", Inode::File(vec![7]));
    bench.source.events.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!(bench.server.entries.len(), 151);
    assert_eq!(bench.accept(), Ok(151));
    bench.assert_equal();
}

#[test]
fn moves_that_only_a_scan_sees_do_not_count() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.source.make(1, b"e", Inode::Dir(BTreeMap::new()));
    bench.settle();
    for (dir, entry, _) in bench.source.names() {
        if dir == 2 {
            bench.source.rename(2, &entry, 153, &entry);
        }
    }
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

impl Bench {
    /// The client ends, and another goes on with what it left.
    fn restart(&mut self, memory: &Memory) {
        self.engine.view_mut().touch_all();
        let rows = self.engine.view_mut().take_touched();
        let view = Tree::from_rows(rows.into_iter().filter_map(|(id, row)| Some((id, row?))));
        self.source.watched.clear();
        self.engine = ClientEngine::new(Settings::default(), Some(root_id(1)), view, memory);
        self.connect();
        self.settle();
    }
}

#[test]
fn a_hold_of_an_earlier_run_ends_when_all_is_back_and_not_before() {
    for (gone, hold) in [(150, Hold::Empty), (149, Hold::Most)] {
        let mut bench = Bench::new();
        bench.make_files(1, 150);
        bench.settle();
        let all = bench.source.dir(1).clone();
        let kept = all.iter().skip(gone);
        *bench.source.dir(1) = kept.map(|(name, id)| (name.clone(), *id)).collect();
        bench.engine.rescan();
        bench.settle();
        assert_eq!(bench.held(), Some(hold));
        let memory = bench.engine.memory();
        // Most of it is back, and a person may be at work on the rest.
        let back = all.iter().skip(10);
        *bench.source.dir(1) = back.map(|(name, id)| (name.clone(), *id)).collect();
        bench.restart(&memory);
        assert_eq!(bench.held(), Some(hold));
        assert_eq!(bench.server.entries.len(), 150);
        let memory = bench.engine.memory();
        *bench.source.dir(1) = all;
        bench.restart(&memory);
        assert_eq!(bench.held(), None);
        assert_eq!(bench.engine.memory().held, None);
        bench.assert_equal();
    }
}

#[test]
fn a_hold_and_the_root_are_remembered_from_run_to_run() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    let memory = bench.engine.memory();
    assert_eq!(
        memory,
        Memory {
            root: Some(root_id(1)),
            held: None
        }
    );
    for before in [
        Memory {
            held: Some(Hold::Most),
            ..memory
        },
        Memory {
            root: Some(root_id(7)),
            ..memory
        },
    ] {
        bench.source.unlink(1, b"f00");
        bench.source.events.clear();
        bench.restart(&before);
        assert!(bench.held().is_some());
        assert_eq!(bench.server.entries.len(), 5);
        bench.source.make(1, b"f00", Inode::File(vec![0; 3]));
        bench.settle();
        assert_eq!(bench.held(), None);
        assert_eq!(bench.engine.memory(), memory);
    }
}

#[test]
fn a_directory_that_another_took_the_place_of_unseen_is_held() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.source.make(1, b"e", Inode::Dir(BTreeMap::new()));
    bench.make_files(153, 3);
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.source.rename(1, b"e", 1, b"d");
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!(bench.server.entries.len(), 155);
    assert_eq!(bench.accept(), Ok(151));
    bench.assert_equal();
    // It was moved, not sent.
    assert_eq!((bench.server.moves, bench.server.contents), (1, 153));
}

#[test]
fn directories_that_change_places_unseen_are_moved() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(2, 150);
    bench.source.make(1, b"e", Inode::Dir(BTreeMap::new()));
    bench.make_files(153, 120);
    bench.settle();
    bench.source.rename(1, b"d", 1, b"x");
    bench.source.rename(1, b"e", 1, b"d");
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
    assert_eq!((bench.server.moves, bench.server.contents), (2, 270));
}

#[test]
fn one_path_that_came_and_went_does_not_end_a_hold() {
    let mut bench = Bench::new();
    bench.make_files(1, 150);
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    for n in 0..120u8 {
        bench
            .source
            .unlink(1, &[b'f', b'0' + n / 50, b'0' + n % 50]);
    }
    bench.source.events.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.make_files(153, 150);
    bench.settle();
    let blip = |bench: &mut Bench, n: u8| {
        bench.engine.event(
            NodeId(0),
            &name(&[b'f', b'0', b'0' + n]),
            Hint::Gone,
            bench.now,
        );
        bench.settle();
    };
    blip(&mut bench, 0);
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!(bench.server.entries.len(), 301);
    // When so many were seen to go that the rest is no mass, it goes too.
    for n in 1..45 {
        blip(&mut bench, n);
    }
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

impl Bench {
    /// Another directory takes the place of the root, with these files.
    fn replace_root(&mut self, files: &[&[u8]]) {
        let meta = Meta {
            inode: Inode::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            links: 1,
        };
        self.source.inodes.insert(900, meta);
        self.source.root = Some(900);
        for file in files {
            self.source.make(900, file, Inode::File(vec![7]));
        }
        self.look_at_root();
        self.settle();
    }
}

#[test]
fn what_goes_from_a_root_that_is_not_the_mirrors_is_held_though_it_was_seen() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    bench.replace_root(&[b"f00", b"f01"]);
    assert_eq!(bench.held(), Some(Hold::Replaced));
    bench.source.unlink(900, b"f00");
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Replaced));
    assert_eq!(bench.server.entries.len(), 5);
    bench.source.root = Some(1);
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

#[test]
fn what_comes_back_from_under_way_is_not_believed_of_another_root() {
    let mut bench = Bench::new();
    bench.make_files(1, 5);
    bench.settle();
    for n in 0..5u8 {
        let entry = [b'f', b'0', b'0' + n];
        bench.source.unlink(1, &entry);
        bench.source.make(1, &entry, Inode::File(vec![9, n]));
    }
    bench.step(true);
    assert!(!bench.engine.inflight.is_empty());
    bench.source.root = None;
    bench.engine.root_event();
    bench.step(true);
    bench.source.inodes.get_mut(&1).unwrap().inode = Inode::Dir(BTreeMap::new());
    bench.source.root = Some(1);
    bench.look_at_root();
    bench.cut();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Empty));
    assert_eq!(bench.server.entries.len(), 5);
}

#[test]
fn numbers_of_another_file_system_mean_nothing() {
    let mut bench = Bench::new();
    bench.make_files(1, 10);
    bench.settle();
    bench.source.root = None;
    bench.look_at_root();
    // Another card of the same kind: its root, and some file, have the numbers of the old ones.
    for n in 0..9u8 {
        bench.source.unlink(1, &[b'f', b'0', b'0' + n]);
    }
    bench.source.rename(1, b"f09", 1, b"other");
    bench.source.events.clear();
    (bench.source.root, bench.source.fs) = (Some(1), 2);
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Most));
    assert_eq!((bench.server.moves, bench.server.entries.len()), (0, 11));
    assert_eq!(bench.accept(), Ok(10));
    bench.assert_equal();
    assert_eq!(bench.engine.memory().root.unwrap().fs, 2);
}

#[test]
fn a_file_system_that_is_called_otherwise_after_a_restart_is_no_other() {
    let mut bench = Bench::new();
    bench.make_files(1, 10);
    bench.settle();
    bench.source.unlink(1, b"f00");
    bench.source.events.clear();
    bench.source.fs = 2;
    bench.look_at_root();
    bench.settle();
    assert_eq!(bench.held(), None);
    bench.assert_equal();
}

#[test]
fn what_is_held_and_goes_otherwise_ends_the_hold() {
    for by_the_server in [false, true] {
        let mut bench = Bench::new();
        bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
        bench.make_files(2, 150);
        bench.source.make(1, b"stays", Inode::File(vec![1]));
        bench.settle();
        for n in 0..149u8 {
            bench
                .source
                .unlink(2, &[b'f', b'0' + n / 50, b'0' + n % 50]);
        }
        bench.source.events.clear();
        bench.engine.rescan();
        bench.settle();
        assert_eq!(bench.held(), Some(Hold::Most));
        if by_the_server {
            let left = |path: &Vec<u8>| path.len() < 3 || path == b"stays";
            bench.server.entries.retain(|path, _| left(path));
            bench.cut();
        } else {
            bench.source.unlink(1, b"d");
        }
        bench.settle();
        assert_eq!(bench.held(), None, "{by_the_server}");
        bench.assert_equal();
    }
}

#[test]
fn what_goes_before_the_root_is_seen_to_be_back_is_held_though_events_told() {
    for replaced in [false, true] {
        let mut bench = Bench::new();
        bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
        bench.make_files(2, 150);
        bench.settle();
        if replaced {
            bench.replace_root(&[]);
        } else {
            bench.source.root = None;
            bench.look_at_root();
        }
        bench.source.root = Some(1);
        bench.source.unlink(1, b"d");
        bench.source.make(1, b"new", Inode::File(vec![1]));
        bench.step(true);
        bench.look_at_root();
        bench.settle();
        assert_eq!(bench.held(), Some(Hold::Most), "{replaced}");
        assert_eq!(bench.server.entries.len(), 152);
        // What goes from then on is seen again.
        bench.source.unlink(1, b"new");
        bench.settle();
        assert_eq!(bench.server.entries.len(), 151);
        assert_eq!(bench.accept(), Ok(151));
        bench.assert_equal();
    }
}
