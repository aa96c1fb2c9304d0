//! Signals: the first ends what runs in order, the second at once.

use crate::support::daemon::Daemon;
use crate::support::files::{noise, write};
use crate::support::pair::Pair;
use crate::support::raw::Raw;
use crate::support::sandbox::Sandbox;
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
    assert!(!pair.client.err().contains("panicked"));
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

#[test]
fn a_server_at_the_address_of_one_that_ended_is_meant_without_being_named() {
    let sandbox = Sandbox::new();
    write(&sandbox.dir("source"), "f", "f");
    let (mut before, address) = Daemon::server(&sandbox, &sandbox.dir("before"));
    before.stop();
    let mut start = sandbox.syncd();
    start.args(["server", "-d", "after", "--listen", &address]);
    let (mut after, _) = Daemon::server_with(&sandbox, "server after it", &mut start);
    let run = sandbox.run(&["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(std::fs::read(sandbox.path("after/f")).unwrap(), b"f");
    after.stop();
}

#[test]
fn a_server_that_ended_or_was_killed_is_not_looked_for_while_another_runs() {
    let sandbox = Sandbox::new();
    let (mut killed, _) = Daemon::server(&sandbox, &sandbox.dir("killed"));
    killed.kill();
    let (mut first, _) = Daemon::server(&sandbox, &sandbox.dir("first"));
    let mut start = sandbox.syncd();
    start.args(["server", "-d", "second", "--listen", "127.0.0.1:0"]);
    let (mut second, _) = Daemon::server_with(&sandbox, "second server", &mut start);
    write(&sandbox.dir("source"), "f", "f");
    // While both run, nobody guesses.
    let once = ["client", "-d", "source", "--once"];
    let run = sandbox.run(&once);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("several servers"), "{}", run.err);
    assert!(!run.err.contains("killed"), "{}", run.err);
    first.stop();
    let run = sandbox.run(&once);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(std::fs::read(sandbox.path("second/f")).unwrap(), b"f");
    second.stop();
}
