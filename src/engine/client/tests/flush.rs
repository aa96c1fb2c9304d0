//! What a flush waits for.

use super::*;

#[test]
fn a_flush_waits_for_deletions_that_a_scan_found_and_for_refused_changes() {
    let mut bench = Bench::new();
    for n in 0..3u8 {
        bench
            .source
            .make(1, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    bench.source.unlink(1, b"f1");
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.engine.flush(7, bench.now);
    bench.step(true);
    assert!(bench.flushed.is_empty(), "{:?}", bench.trace);
    bench.settle();
    assert_eq!(bench.flushed, [7]);
    // The server lost the parent of what comes next: the change is refused, and made again.
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.settle();
    bench.server.remove(b"d");
    let inode = bench.source.next - 1;
    bench.source.make(inode, b"f", Inode::File(vec![1; 10]));
    bench.step(true);
    bench.engine.flush(8, bench.now);
    for _ in 0..1_000 {
        bench.step(true);
        if bench.flushed.len() == 2 {
            break;
        }
        bench.deliver();
    }
    assert_eq!(bench.flushed, [7, 8]);
    assert!(bench.failures > 0 && bench.server.entries.contains_key(&b"d/f"[..]));
    bench.settle();
    bench.assert_equal();
}

impl Bench {
    /// Asks for a flush and goes on until it is answered: then the server has what the source has.
    pub(super) fn flush_all(&mut self) {
        self.engine.flush(7, self.now);
        for _ in 0..1_000 {
            if !self.flushed.is_empty() {
                break;
            }
            // Uploads are slow: everything else is answered first.
            let _ = self.step(true) || self.deliver() || self.upload();
        }
        assert_eq!(self.flushed, [7]);
        self.assert_equal();
    }

    pub(super) fn lose_events(&mut self) {
        self.source.events.clear();
        self.source.inside.clear();
        self.engine.rescan();
    }
}

#[test]
fn a_flush_waits_for_the_old_name_of_a_move_that_replaced_a_file() {
    let mut bench = Bench::new();
    bench.source.make(1, b"f", Inode::File(vec![1; 10]));
    bench.source.make(1, b"g", Inode::File(vec![2; 10]));
    bench.settle();
    bench.source.rename(1, b"f", 1, b"g");
    bench.lose_events();
    bench.flush_all();
}

#[test]
fn a_flush_waits_for_a_file_that_was_made_and_not_closed_yet() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"f", Inode::File(vec![3; 10]));
    let (dir, name, _) = bench.source.events.pop_front().unwrap();
    bench.engine.event(dir, &name, Hint::Made, bench.now);
    // The first look at it comes after the flush, and has it rest.
    bench.flush_all();
}

#[test]
fn a_file_that_changed_while_its_last_version_failed_is_tried_at_once_and_waited_for() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"f", Inode::File(vec![0; 100_000]));
    // It does not fit, time and again: the pauses have become long.
    for _ in 0..6 {
        while bench.jobs.is_empty() {
            bench.step(true);
            bench.deliver();
        }
        bench.refuse_upload();
    }
    // Tried once more, and changed meanwhile.
    while bench.jobs.is_empty() {
        bench.step(true);
        bench.deliver();
    }
    rewrite(&mut bench.source, vec![1; 70_000], Hint::Settled);
    bench.step(true);
    bench.refuse_upload();
    let start = bench.now;
    bench.engine.flush(7, bench.now);
    while bench.flushed.is_empty() {
        let _ = bench.step(true) || bench.deliver() || bench.upload();
        assert!(bench.now < start + Duration::from_secs(60), "not answered");
    }
    bench.assert_equal();
    // A full disk has the whole share rest for two seconds.
    assert!(bench.now < start + Duration::from_millis(2500));
}
