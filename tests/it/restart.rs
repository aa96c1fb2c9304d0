//! What a restart costs: of a tree where nothing changed, and where something did while the client was down.

use crate::support::files::{noise, write};
use crate::support::pair::Pair;
use crate::support::sandbox::Sandbox;
use std::fs;

/// A mirrored tree of so many files of 3,000 bytes in ten directories, with a client that logs each message.
fn filled(files: u64) -> Pair {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("client.toml"), "[log]\nlevel = \"trace\"\n").unwrap();
    let source = sandbox.dir("source");
    for n in 0..files {
        write(&source, &format!("d{}/f{n}", n % 10), noise(n, 3000));
    }
    let pair = Pair::of(sandbox);
    pair.settle();
    pair
}

/// The messages that a client that has just settled has exchanged, in both directions, without signs of life: each
/// with its header.
fn messages(pair: &Pair) -> Vec<String> {
    let log = pair.client.err();
    let lines = log.lines().filter(|line| line.contains("\"op\":"));
    let lines = lines.filter(|line| !line.contains("\"ping\"") && !line.contains("\"pong\""));
    lines.map(str::to_owned).collect()
}

#[test]
fn where_nothing_changed_it_costs_the_same_whatever_the_size_of_the_tree() {
    let cost = |files| {
        let mut pair = filled(files);
        pair.client.stop();
        pair.restart_client();
        pair.settle();
        let (sent, messages) = (pair.sent(), messages(&pair));
        pair.stop();
        assert!(sent < 1000, "{sent} bytes");
        messages.len()
    };
    let (small, large) = (cost(10), cost(3000));
    assert_eq!(small, large);
    assert!(large <= 6, "{large} messages");
}

#[test]
fn what_was_moved_changed_and_deleted_meanwhile_is_told_as_that() {
    let mut pair = filled(400);
    let at = |name: &str| pair.source.join(name);
    let (d1, d2) = (at("d1"), at("d2/moved"));
    let (file, moved) = (at("d3/f3"), at("d4/moved file"));
    pair.client.stop();
    fs::rename(d1, d2).unwrap();
    fs::rename(file, moved).unwrap();
    write(&pair.source, "d5/f5", "changed");
    fs::remove_file(pair.source.join("d6/f6")).unwrap();
    pair.restart_client();
    pair.settle();
    let said = messages(&pair).join("\n");
    let count = |what: &str| said.matches(what).count();
    assert_eq!(count("\"do\":\"rename\""), 2, "{said}");
    assert_eq!(count("\"do\":\"put\""), 1, "{said}");
    assert_eq!(count("\"do\":\"delete\""), 1, "{said}");
    assert!(pair.sent() < 5000, "{} bytes", pair.sent());
    pair.stop();
}
