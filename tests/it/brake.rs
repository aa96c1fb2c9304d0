//! Sources that are missing, emptied, replaced or not mounted: nothing of the mirror goes without a person's word.

use crate::support::files::write;
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::pair::{self, Pair, once};
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{tree, wait};
use std::fs;
use std::path::Path;

fn filled(sandbox: &Sandbox, count: usize) {
    let source = sandbox.dir("source");
    for n in 0..count {
        write(&source, &format!("d{}/f{n}", n % 5), format!("{n}"));
    }
}

/// Entries of a tree.
fn count(root: &Path) -> usize {
    tree::snapshot(root).len()
}

impl Pair {
    fn held(&self) -> Option<u64> {
        self.status()["servers"][0]["held"]["entries"].as_u64()
    }

    /// Waits for a word in the status for a person.
    fn says(&self, word: &str) -> String {
        let mut text = String::new();
        let says = wait::until(wait::PATIENCE, || {
            text = self.sandbox.run(&["status", "-d", "source"]).out;
            text.contains(word)
        });
        assert!(says, "{word}: {text}{}", self.client.err());
        text
    }

    fn accept(&self, more: &[&str]) -> Finished {
        let arguments = [&["accept", "-d", "source"], more].concat();
        self.sandbox.run(&arguments)
    }
}

#[test]
fn a_source_that_is_moved_away_and_back_goes_on_by_itself() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 20);
    let pair = Pair::of(sandbox);
    pair.settle();
    let (sent, before) = (pair.sent(), tree::snapshot(&pair.mirror));
    let away = pair.sandbox.path("away");
    fs::rename(&pair.source, &away).unwrap();
    let text = pair.says("missing");
    assert!(
        text.contains("mount it") && !text.contains("syncd accept"),
        "{text}"
    );
    // What happens there is not followed, and is found when it is back.
    fs::remove_dir_all(away.join("d1")).unwrap();
    write(&away, "new", "new");
    assert_eq!(tree::snapshot(&pair.mirror), before);
    fs::rename(&away, &pair.source).unwrap();
    pair.settle();
    assert!(pair.sent() < sent + 2000, "only what is new is sent");
    pair.stop();
}

#[test]
fn a_source_that_is_replaced_is_held_and_accepted_after_a_look() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 20);
    let mut pair = Pair::of(sandbox);
    pair.settle();
    let away = pair.sandbox.path("away");
    fs::rename(&pair.source, &away).unwrap();
    fs::create_dir(&pair.source).unwrap();
    let text = pair.says("DELETIONS HELD: 25 entries");
    assert!(text.contains("put the source back"), "{text}");
    assert_eq!(count(&pair.mirror), 25);
    // The rest goes on.
    write(&pair.source, "new", "new");
    pair.client.stop();
    pair.restart_client();
    assert!(wait::until(wait::PATIENCE, || pair
        .mirror
        .join("new")
        .exists()));
    pair.says("DELETIONS HELD: 25 entries");
    assert_eq!(count(&pair.mirror), 26);
    let run = pair.accept(&[]);
    assert_eq!(run.code, Some(2), "{}{}", run.out, run.err);
    assert!(
        run.out.contains("25 of 26 entries") && run.err.contains("--yes"),
        "{}{}",
        run.out,
        run.err
    );
    assert_eq!(count(&pair.mirror), 26);
    let run = pair.accept(&["--yes"]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert!(run.out.contains("deleted 25 entries"), "{}", run.out);
    assert_eq!(pair.held(), None);
    tree::assert_converges(&pair.source, &pair.mirror);
    assert!(
        pair.accept(&["--yes"])
            .out
            .contains("no deletions are held")
    );
    pair.stop();
}

#[test]
fn a_replaced_source_that_comes_back_needs_nobody() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 20);
    let pair = Pair::of(sandbox);
    pair.settle();
    let (sent, away) = (pair.sent(), pair.sandbox.path("away"));
    fs::rename(&pair.source, &away).unwrap();
    fs::create_dir(&pair.source).unwrap();
    pair.says("DELETIONS HELD");
    fs::remove_dir(&pair.source).unwrap();
    fs::rename(&away, &pair.source).unwrap();
    pair.settle();
    assert_eq!(pair.held(), None);
    // It is watched again.
    write(&pair.source, "d1/later", "later");
    pair.settle();
    assert!(pair.sent() < sent + 3000);
    pair.stop();
}

#[test]
fn a_client_that_starts_without_its_source_or_on_an_empty_one_deletes_nothing() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 20);
    let mut pair = Pair::of(sandbox);
    pair.settle();
    let away = pair.sandbox.path("away");
    pair.client.stop();
    fs::rename(&pair.source, &away).unwrap();
    pair.restart_client();
    pair.says("missing");
    let run = once(&pair.sandbox, &pair.source, &pair.address, &[]);
    assert_ne!(run.code, Some(0), "{}", run.err);
    pair.client.stop();
    let run = once(&pair.sandbox, &pair.source, &pair.address, &[]);
    assert_eq!(run.code, Some(3), "{}", run.err);
    fs::create_dir(&pair.source).unwrap();
    let run = once(&pair.sandbox, &pair.source, &pair.address, &[]);
    assert_eq!(run.code, Some(3), "{}", run.err);
    assert!(run.err.contains("put the source back"), "{}", run.err);
    pair.restart_client();
    pair.says("DELETIONS HELD");
    assert_eq!(count(&pair.mirror), 25);
    fs::remove_dir(&pair.source).unwrap();
    fs::rename(&away, &pair.source).unwrap();
    pair.settle();
    pair.stop();
}

#[test]
fn a_source_that_never_was_there_is_an_error() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["client", "-d", "nowhere"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(
        run.err.contains("nowhere") && run.err.contains("hint: "),
        "{}",
        run.err
    );
}

#[test]
fn a_large_part_that_went_while_nobody_looked_is_held() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 150);
    fs::write(sandbox.path("client.toml"), "[watch]\ndelete_guard = 10\n").unwrap();
    let mut pair = Pair::of(sandbox);
    pair.settle();
    pair.client.stop();
    for n in (0..4).map(|n| format!("d{n}")) {
        fs::remove_dir_all(pair.source.join(n)).unwrap();
    }
    pair.restart_client();
    pair.says("DELETIONS HELD: 124 entries");
    // What is seen to go is deleted all the same.
    fs::remove_dir_all(pair.source.join("d4")).unwrap();
    write(&pair.source, "stays", "stays");
    pair.sandbox.run(&["flush", "-d", "source"]);
    assert_eq!(count(&pair.mirror), 125);
    assert_eq!(pair.accept(&["--yes"]).code, Some(0));
    pair.settle();
    pair.stop();
}

#[test]
fn what_a_comparison_finds_extra_is_held_as_well() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 5);
    let mut pair = Pair::of(sandbox);
    pair.settle();
    pair.server.stop();
    for n in 0..120 {
        write(&pair.mirror, &format!("by somebody else/{n}"), "theirs");
    }
    pair.restart_server();
    pair.says("DELETIONS HELD: 121 entries");
    assert_eq!(count(&pair.mirror), 131);
    assert_eq!(pair.accept(&["--yes"]).code, Some(0));
    pair.settle();
    pair.stop();
}

#[test]
fn a_first_contact_keeps_what_a_person_has_deleted() {
    let sandbox = Sandbox::new();
    let mirror = sandbox.dir("mirror");
    for n in 0..120 {
        write(&mirror, &format!("old/{n}"), format!("{n}"));
    }
    let pair = Pair::of(sandbox);
    pair.says("DELETIONS HELD: 121 entries");
    assert_eq!(count(&pair.mirror), 121);
    assert_eq!(pair.accept(&["--yes"]).code, Some(0));
    assert_eq!(count(&pair.mirror), 0);
    let kept = fs::read_dir(mirror.join(".syncd/kept")).unwrap();
    let kept: Vec<_> = kept.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(fs::read(kept[0].join("old/7")).unwrap(), b"7");
    let status = pair.sandbox.run(&["status", "-d", "mirror"]).out;
    assert!(status.contains("/.syncd/kept/"), "{status}");
    pair.stop();
}

#[test]
fn a_source_that_is_unmounted_waits_for_its_mount() {
    let sandbox = Sandbox::new();
    let (source, keep) = (sandbox.dir("source"), sandbox.dir("keep"));
    let (path, kept) = (source.to_str().unwrap(), keep.to_str().unwrap());
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "syncd-test", path]) {
        // Only root may mount; the engine's tests cover the rest.
        return assert_cannot_mount();
    }
    let _first = Mounted(source.clone());
    filled(&sandbox, 20);
    assert!(mount(&["--bind", path, kept]));
    let _second = Mounted(keep.clone());
    let pair = Pair::of(sandbox);
    pair.settle();
    drop(Mounted(source.clone()));
    let text = pair.says("DELETIONS HELD: 25 entries");
    assert!(
        text.contains("mount the source") && !text.contains("syncd accept"),
        "{text}"
    );
    assert_eq!(count(&pair.mirror), 25);
    let sent = pair.sent();
    assert!(mount(&["--bind", kept, path]));
    let back = wait::until(wait::PATIENCE, || pair.held().is_none());
    assert!(back, "{}", pair.client.err());
    pair.settle();
    write(&pair.source, "d1/later", "later");
    pair.settle();
    assert!(pair.sent() < sent + 3000);
    assert!(pair::answers(&pair.sandbox, "source"));
    pair.stop();
}

#[test]
fn what_is_mounted_inside_the_source_stays_when_it_is_unmounted() {
    let sandbox = Sandbox::new();
    filled(&sandbox, 20);
    let (usb, keep) = (sandbox.dir("source/usb"), sandbox.dir("keep"));
    let (path, kept) = (usb.to_str().unwrap(), keep.to_str().unwrap());
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "syncd-test", path]) {
        return assert_cannot_mount();
    }
    let _first = Mounted(usb.clone());
    write(&usb, "sub/on-it", "on it");
    assert!(mount(&["--bind", path, kept]));
    let _second = Mounted(keep.clone());
    let mut pair = Pair::of(sandbox);
    pair.settle();
    assert_eq!(count(&pair.mirror), 28);
    // While nobody looks, and by a client that starts then: what was not judged then is held by the next.
    pair.client.stop();
    drop(Mounted(usb.clone()));
    pair.restart_client();
    let text = pair.says("DELETIONS HELD: 2 entries");
    assert!(text.contains("mount it again"), "{text}");
    pair.client.stop();
    pair.restart_client();
    pair.says("DELETIONS HELD: 2 entries");
    assert_eq!(count(&pair.mirror), 28);
    let again = |pair: &Pair| {
        assert!(mount(&["--bind", kept, path]));
        assert!(wait::until(wait::PATIENCE, || pair.held().is_none()));
        pair.settle();
    };
    again(&pair);
    // It is watched again. And while the client runs.
    write(&usb, "sub/later", "later");
    pair.settle();
    tree::assert_converges(&pair.source, &pair.mirror);
    drop(Mounted(usb.clone()));
    pair.says("DELETIONS HELD: 3 entries");
    again(&pair);
    tree::assert_converges(&pair.source, &pair.mirror);
    pair.stop();
}
