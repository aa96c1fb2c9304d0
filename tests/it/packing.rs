//! What goes packed over a slow line, and that a fast one carries everything as it is.

use crate::support::files::{noise, text, write};
use crate::support::pair::Pair;
use crate::support::sandbox::Sandbox;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const MIB: usize = 1024 * 1024;

#[test]
fn over_a_slow_line_text_is_sent_packed_and_noise_is_not() {
    let (pair, line) = Pair::over_slow_line(Sandbox::new(), 1_000_000);
    let costs = |name: &str, content: &[u8]| {
        let before = (pair.sent(), line.carried());
        write(&pair.source, name, content);
        pair.settle();
        let (sent, carried) = (pair.sent() - before.0, line.carried() - before.1);
        // Encryption adds little; the last frames of before may have been on their way.
        assert!(
            carried.abs_diff(sent) < sent / 50 + 20_000,
            "{sent} bytes were counted, {carried} carried"
        );
        sent
    };
    let sent = costs("text", &text(1, 4 * MIB));
    assert!(sent < 2 * MIB as u64, "{sent} bytes were sent");
    let sent = costs("noise", &noise(2, MIB / 2));
    assert!(sent < MIB as u64 / 2 + 10_000, "{sent} bytes were sent");
    pair.stop();
}

/// Many small files, which travel inside the messages that put them.
#[test]
fn over_a_slow_line_small_files_are_sent_packed() {
    let (pair, line) = Pair::over_slow_line(Sandbox::new(), 2_000_000);
    let beside = pair.sandbox.dir("beside");
    for n in 0..200 {
        write(&beside, &format!("f{n}"), text(n, 30_000));
    }
    let before = line.carried();
    fs::rename(beside, pair.source.join("files")).unwrap();
    pair.settle();
    let carried = line.carried() - before;
    assert!(carried < 3_000_000, "{carried} of 6 MB were carried");
    pair.stop();
}

/// Threads that keep all processors busy.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn assert_sent_plain(length: usize) {
    let pair = Pair::new();
    let content = text(3, length);
    let beside = write(pair.sandbox.root(), "beside", &content);
    let before = pair.sent();
    fs::rename(beside, pair.source.join("text")).unwrap();
    pair.settle();
    let sent = usize::try_from(pair.sent() - before).unwrap();
    // It packs to less than a tenth: a single piece may be tried.
    assert!(sent + 1_000_000 > length, "only {sent} bytes were sent");
    pair.stop();
}

#[test]
fn over_a_fast_line_text_is_sent_as_it_is() {
    assert_sent_plain(32 * MIB);
}

#[test]
fn a_machine_without_rest_is_not_taken_for_a_slow_line() {
    let _busy = Busy::new(2);
    assert_sent_plain(32 * MIB);
}
