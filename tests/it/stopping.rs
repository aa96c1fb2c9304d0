//! Signals: the first ends what runs in order, the second at once.

use crate::support::files::{noise, write};
use crate::support::pair::Pair;
use crate::support::raw::Raw;
use crate::support::wait;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use syncd::wire::{Request, WireBytes};

/// Longer than a process needs that has nothing to wait for, shorter than any wait for a peer.
const A_WHILE: Duration = Duration::from_millis(400);

#[test]
fn the_first_signal_ends_both_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut pair = Pair::new();
        write(&pair.source, "f", "f");
        pair.settle();
        for daemon in [&mut pair.client, &mut pair.server] {
            daemon.signal(signal);
            let status = daemon.end(Duration::from_secs(15));
            assert_eq!(status.code(), Some(0), "{}", daemon.err());
        }
    }
}

#[test]
fn a_second_signal_ends_a_client_that_still_waits() {
    let mut pair = Pair::new();
    write(&pair.source, "f", "f");
    pair.settle();
    // More than the line takes while nobody reads.
    pair.server.signal(Signal::STOP);
    for n in 0..300u64 {
        write(&pair.source, &format!("f{n}"), noise(n, 60_000));
    }
    let under_way = || pair.status()["servers"][0]["in_flight_bytes"].as_u64() > Some(15_000_000);
    assert!(wait::until(wait::PATIENCE, under_way), "{}", pair.status());
    pair.client.signal(Signal::INT);
    let ended = wait::until(A_WHILE, || !pair.client.runs());
    assert!(!ended, "it had nothing to wait for: {}", pair.client.err());
    let begun = Instant::now();
    pair.client.signal(Signal::INT);
    let status = pair.client.end(wait::PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", pair.client.err());
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        pair.client.err().contains("a second signal"),
        "{}",
        pair.client.err()
    );
    // Nothing is lost by it.
    pair.server.signal(Signal::CONT);
    pair.restart_client();
    pair.settle();
    pair.stop();
}

#[test]
fn a_second_signal_ends_a_server_that_still_waits() {
    let mut pair = Pair::new();
    for n in 0..2000 {
        write(&pair.source, &format!("{n:0>200}"), "");
    }
    pair.settle();
    pair.client.stop();
    // A client that asks and asks, and reads no answer.
    let mut deaf = Raw::connect(&pair.sandbox, &pair.address);
    deaf.hello();
    let list = |id| Request::List {
        id,
        path: WireBytes::new(b""),
        after: None,
    };
    for id in 0..200 {
        assert!(deaf.send(&list(id), &[]));
    }
    let mut pings = 0;
    while pings < 100_000 && deaf.send(&Request::Ping {}, &[]) {
        pings += 1;
    }
    pair.server.signal(Signal::INT);
    let ended = wait::until(A_WHILE, || !pair.server.runs());
    assert!(!ended, "it had nothing to wait for: {}", pair.server.err());
    let begun = Instant::now();
    pair.server.signal(Signal::INT);
    let status = pair.server.end(wait::PATIENCE);
    assert_eq!(status.code(), Some(1), "{}", pair.server.err());
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    drop(deaf);
    pair.restart_server();
    // It took over.
    pair.server.stop();
}
