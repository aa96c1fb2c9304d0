//! Mirrors, indexes and states that are not what their other side remembers: changed by others, restored, lost, copied.

use crate::support::files::{noise, write};
use crate::support::pair::{Pair, status};
use crate::support::sandbox::Sandbox;
use crate::support::tree::{self, Tree};
use crate::support::wait;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source of some depth, mirrored, with a fast sweep of the server where it is asked for.
fn filled(sweep: &str) -> Pair {
    let sandbox = Sandbox::new();
    fs::write(
        sandbox.path("server.toml"),
        format!("sweep = \"{sweep}\"\n"),
    )
    .unwrap();
    let source = sandbox.dir("source");
    for n in 0..150 {
        write(
            &source,
            &format!("d{}/e{}/f{n}", n % 5, n % 3),
            noise(n, 2000),
        );
    }
    write(&source, "large", noise(999, 700_000));
    let pair = Pair::of(sandbox);
    pair.settle();
    pair
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.unwrap().success());
}

/// The state directories of one kind, `source-` or `server-`.
fn states(pair: &Pair, kind: &str) -> Vec<PathBuf> {
    let state = pair.sandbox.path("home/.local/state/syncd");
    let entries = fs::read_dir(state).unwrap().map(|entry| entry.unwrap());
    let of_kind = entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with(kind));
    let paths: Vec<PathBuf> = of_kind.map(|entry| entry.path()).collect();
    assert!(!paths.is_empty(), "no state of the kind {kind}");
    paths
}

/// The server's files that hold indexes.
fn indexes(pair: &Pair) -> Vec<PathBuf> {
    let directories = states(pair, "server-");
    let files = directories
        .iter()
        .flat_map(|path| fs::read_dir(path).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let indexes = files.filter(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("index-")
    });
    let indexes: Vec<PathBuf> = indexes.collect();
    assert!(!indexes.is_empty());
    indexes
}

fn assert_untouched(pair: &Pair, before: &Tree) {
    let left = tree::diff(before, &tree::snapshot(&pair.source));
    assert!(
        left.is_empty(),
        "the source was changed:\n{}",
        left.join("\n")
    );
}

/// What the server's status says of its one share.
fn drift(pair: &Pair) -> u64 {
    status(&pair.sandbox, "mirror")["shares"][0]["drift"]
        .as_u64()
        .unwrap()
}

/// Changes a mirror in each way that there is; how many paths.
fn tamper(mirror: &Path) -> u64 {
    write(mirror, "d0/e0/f0", "changed by somebody else");
    fs::remove_file(mirror.join("d1/e1/f1")).unwrap();
    write(mirror, "d2/stranger", "more");
    fs::remove_dir_all(mirror.join("d3/e0")).unwrap();
    // The same size, and the same time.
    let (path, time) = (
        mirror.join("large"),
        fs::metadata(mirror.join("large"))
            .unwrap()
            .modified()
            .unwrap(),
    );
    let mut content = fs::read(&path).unwrap();
    content[300_000] ^= 1;
    fs::write(&path, content).unwrap();
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    5
}

#[test]
fn a_mirror_that_is_changed_while_all_runs_is_put_right_by_the_sweep() {
    let pair = filled("1s");
    let before = tree::snapshot(&pair.source);
    assert_eq!(drift(&pair), 0);
    let least = tamper(&pair.mirror);
    tree::assert_converges(&pair.source, &pair.mirror);
    assert!(drift(&pair) >= least);
    let said = pair.sandbox.run(&["status", "-d", "mirror"]).out;
    assert!(said.contains("drift: somebody else changed"), "{said}");
    assert!(
        pair.server.err().contains("d2/stranger"),
        "{}",
        pair.server.err()
    );
    assert_untouched(&pair, &before);
    pair.stop();
}

#[test]
fn a_sweep_amid_changes_finds_nothing_that_is_not_there() {
    let pair = filled("1s");
    // Two seconds and more: at least one sweep, which finds changes under way at most of its steps.
    for round in 0..25 {
        for n in 0..30 {
            write(
                &pair.source,
                &format!("d{}/e{}/g{n}", n % 5, round % 3),
                format!("{round}"),
            );
        }
        fs::rename(pair.source.join("d1"), pair.source.join("d9")).unwrap();
        fs::rename(pair.source.join("d9"), pair.source.join("d1")).unwrap();
        write(&pair.source, "large", noise(round, 700_000));
        pair.flush();
    }
    pair.settle();
    assert_eq!(drift(&pair), 0, "{}", pair.server.err());
    pair.stop();
}

#[test]
fn a_mirror_that_is_changed_while_the_server_is_away_is_put_right_at_the_start() {
    let mut pair = filled("1h");
    let before = tree::snapshot(&pair.source);
    pair.server.stop();
    tamper(&pair.mirror);
    pair.restart_server();
    tree::assert_converges(&pair.source, &pair.mirror);
    pair.settle();
    assert_untouched(&pair, &before);
    pair.stop();
}

#[test]
fn a_mirror_restored_from_a_backup_gets_what_it_lacks_and_gives_nothing_back() {
    for with_index in [true, false] {
        let mut pair = filled("1h");
        let backup = pair.sandbox.path("backup");
        pair.server.stop();
        copy(&pair.mirror, &backup);
        let saved: Vec<(PathBuf, Vec<u8>)> = indexes(&pair)
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        pair.restart_server();
        write(&pair.source, "d0/e0/f0", "newer than the backup");
        write(&pair.source, "d0/new", "made after the backup");
        fs::remove_file(pair.source.join("d1/e1/f1")).unwrap();
        fs::rename(pair.source.join("d2"), pair.source.join("d4/d2")).unwrap();
        pair.settle();
        let before = tree::snapshot(&pair.source);
        let sent = pair.sent();
        pair.server.stop();
        fs::remove_dir_all(&pair.mirror).unwrap();
        copy(&backup, &pair.mirror);
        if with_index {
            for (path, content) in saved {
                fs::write(path, content).unwrap();
            }
        }
        pair.restart_server();
        tree::assert_converges(&pair.source, &pair.mirror);
        pair.settle();
        assert_untouched(&pair, &before);
        assert!(
            pair.sent() - sent < 300_000,
            "what is there is not sent again"
        );
        pair.stop();
    }
}

#[test]
fn a_lost_index_costs_a_comparison_and_no_content() {
    let mut pair = filled("1h");
    let before = tree::snapshot(&pair.source);
    let sent = pair.sent();
    pair.server.stop();
    for path in indexes(&pair) {
        fs::remove_file(path).unwrap();
    }
    write(&pair.source, "d0/while the server was away", "new");
    pair.restart_server();
    tree::assert_converges(&pair.source, &pair.mirror);
    pair.settle();
    assert!(pair.sent() - sent < 20_000, "{} bytes", pair.sent() - sent);
    assert_eq!(tree::diff(&before, &tree::snapshot(&pair.source)).len(), 2);
    pair.stop();
}

#[test]
fn a_lost_state_of_the_client_finds_its_share_again_and_sends_no_content() {
    let mut pair = filled("1h");
    pair.client.stop();
    for path in states(&pair, "source-") {
        fs::remove_dir_all(path).unwrap();
    }
    write(&pair.source, "d0/e0/f0", "changed meanwhile");
    fs::remove_file(pair.source.join("d1/e1/f1")).unwrap();
    let before = tree::snapshot(&pair.source);
    pair.restart_client();
    tree::assert_converges(&pair.source, &pair.mirror);
    pair.settle();
    assert!(pair.sent() < 50_000, "{} bytes", pair.sent());
    assert_untouched(&pair, &before);
    pair.stop();
}

#[test]
fn an_old_copy_of_the_clients_state_brings_nothing_old_back() {
    let mut pair = filled("1h");
    pair.client.stop();
    let old: Vec<PathBuf> = states(&pair, "source-");
    for path in &old {
        copy(path, &path.with_extension("old"));
    }
    pair.restart_client();
    write(&pair.source, "d0/e0/f0", "newer than the state");
    write(&pair.source, "d0/e0/new", "newer than the state");
    fs::remove_dir_all(pair.source.join("d3")).unwrap();
    fs::rename(pair.source.join("d2"), pair.source.join("d4/d2")).unwrap();
    pair.settle();
    pair.client.stop();
    for path in &old {
        fs::remove_dir_all(path).unwrap();
        fs::rename(path.with_extension("old"), path).unwrap();
    }
    let before = tree::snapshot(&pair.source);
    let mirror = tree::snapshot(&pair.mirror);
    pair.restart_client();
    pair.settle();
    assert_untouched(&pair, &before);
    assert!(tree::diff(&mirror, &tree::snapshot(&pair.mirror)).is_empty());
    assert!(pair.sent() < 50_000, "{} bytes", pair.sent());
    pair.stop();
}

#[test]
fn a_mirror_that_another_directory_takes_the_place_of_is_not_taken_for_equal() {
    let mut pair = filled("1s");
    pair.settle();
    let away = pair.sandbox.path("away");
    let put = |pair: &Pair| {
        fs::rename(&pair.mirror, &away).unwrap();
        copy(&away, &pair.mirror);
    };
    let says = |pair: &Pair| {
        let said = wait::until(wait::PATIENCE, || {
            let text = pair.sandbox.run(&["status"]).out;
            text.contains("PAUSED: the share's directory was moved away")
                && text.contains("last error: the share's directory was moved away")
        });
        assert!(said, "{}", pair.sandbox.run(&["status"]).out);
    };
    // While nothing changes it is found, too.
    put(&pair);
    says(&pair);
    write(&pair.source, "new", "new");
    says(&pair);
    assert!(!away.join("new").exists() && !pair.mirror.join("new").exists());
    // Put back, it goes on by itself.
    fs::remove_dir_all(&pair.mirror).unwrap();
    fs::rename(&away, &pair.mirror).unwrap();
    tree::assert_converges(&pair.source, &pair.mirror);
    // Or what is there now is used.
    put(&pair);
    write(&pair.source, "newer", "newer");
    says(&pair);
    pair.server.stop();
    pair.restart_server();
    tree::assert_converges(&pair.source, &pair.mirror);
    assert!(!away.join("newer").exists());
    pair.stop();
}
