//! File systems that are mounted inside the source: what is on one is not deleted because it is not mounted.

use super::*;

const USB: &[u8] = b"usb";

impl Bench {
    /// A file system with files is mounted at `usb`. The directory below the mount, and the top of what is mounted.
    fn mount_usb(&mut self) -> (u64, u64) {
        self.source.make(1, USB, Inode::Dir(BTreeMap::new()));
        let below = self.source.dir(1)[USB];
        self.source.make(1, b"on-it", Inode::Dir(BTreeMap::new()));
        let top = self.source.dir(1).remove(b"on-it".as_slice()).unwrap();
        self.source.events.clear();
        self.source.mounts.insert(top);
        self.source.make(top, b"sub", Inode::Dir(BTreeMap::new()));
        self.make_files(top, 5);
        self.make_files(1, 9);
        self.swap(top);
        (below, top)
    }

    /// What is mounted at `usb`, or not, changes: only the table of mounts tells.
    fn swap(&mut self, inode: u64) {
        self.source.dir(1).insert(USB.to_vec(), inode);
        self.source.mounted = true;
        self.now += Duration::from_secs(2);
        self.settle();
    }

    fn entries_below_usb(&self) -> usize {
        let paths = self.server.entries.keys();
        paths.filter(|path| path.starts_with(b"usb/")).count()
    }
}

#[test]
fn what_is_on_a_file_system_that_is_unmounted_is_held_until_it_is_back() {
    let mut bench = Bench::new();
    let (below, top) = bench.mount_usb();
    bench.assert_equal();
    bench.swap(below);
    assert_eq!(bench.held(), Some(Hold::Inside));
    assert_eq!(bench.entries_below_usb(), 6);
    // A rescan, or a restart that knows no more than the view, changes nothing.
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Inside));
    let memory = bench.engine.memory();
    let view = std::mem::take(&mut bench.engine.view);
    let root = Some(root_id(1));
    bench.engine = ClientEngine::new(Settings::default(), root, view, &memory);
    bench.source.watched.clear();
    bench.connect();
    bench.settle();
    assert_eq!(bench.held(), Some(Hold::Inside));
    assert_eq!(bench.entries_below_usb(), 6);
    bench.swap(top);
    assert_eq!(bench.held(), None);
    bench.assert_equal();
    // It is watched again, and what is removed while it is mounted goes.
    bench.source.unlink(top, b"sub");
    bench.settle();
    assert_eq!(bench.entries_below_usb(), 5);
    bench.assert_equal();
}

#[test]
fn a_person_may_let_go_what_was_mounted() {
    let mut bench = Bench::new();
    let (below, _) = bench.mount_usb();
    bench.swap(below);
    let shown = bench.engine.show_held().unwrap();
    assert_eq!(shown.entries, 6);
    bench.engine.accept(shown.entries).unwrap();
    bench.settle();
    assert_eq!(bench.accepted.pop(), Some(Ok(6)));
    assert_eq!(bench.held(), None);
    bench.assert_equal();
    // From then on it is a directory like any other.
    bench.source.make(below, b"f", Inode::File(vec![1]));
    bench.settle();
    bench.source.dir(below).clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.held(), None);
}

#[test]
fn a_directory_that_goes_once_nothing_is_mounted_there_takes_nothing_along() {
    for noticed in [false, true] {
        let mut bench = Bench::new();
        let (below, _) = bench.mount_usb();
        if noticed {
            bench.swap(below);
        } else {
            bench.source.dir(1).insert(USB.to_vec(), below);
        }
        bench.source.unlink(1, USB);
        bench.settle();
        assert_eq!(bench.held(), Some(Hold::Inside), "{noticed}");
        assert_eq!(bench.entries_below_usb(), 6);
    }
}
