//! What goes wrong: deaths of either side, lost events, paths without rights.

use crate::support::daemon::Daemon;
use crate::support::files::{chmod, noise, write};
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::pair::{Pair, once};
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{tree, wait};
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use std::fs;
use std::path::Path;

fn count(root: &Path) -> usize {
    tree::snapshot(root).len()
}

#[test]
fn a_server_that_is_killed_midway_is_filled_to_the_end_by_its_successor() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    for n in 0..4000 {
        write(&source, &format!("d{}/f{n}", n % 40), format!("{n}"));
    }
    let mut pair = Pair::of(sandbox);
    let (mirror, source) = (pair.mirror.clone(), pair.source.clone());
    let _begun = wait::until(wait::PATIENCE, || count(&mirror) > 100);
    pair.server.kill();
    write(&source, "d1/while away", "new");
    fs::remove_dir_all(source.join("d2")).unwrap();
    fs::rename(source.join("d3"), source.join("d4/d3")).unwrap();
    pair.restart_server();
    pair.settle();
    // Quiet times do not hide a death either.
    pair.server.kill();
    fs::rename(source.join("d5"), source.join("d6/d5")).unwrap();
    pair.restart_server();
    pair.settle();
    pair.stop();
}

#[test]
fn a_client_that_is_killed_midway_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    for n in 0..4000 {
        write(&source, &format!("d{}/f{n}", n % 40), format!("{n}"));
    }
    write(&source, "large", noise(1, 2_000_000));
    let mut pair = Pair::of(sandbox);
    let (mirror, source) = (pair.mirror.clone(), pair.source.clone());
    let _begun = wait::until(wait::PATIENCE, || count(&mirror) > 100);
    pair.client.kill();
    write(&source, "d1/while away", "new");
    fs::remove_dir_all(source.join("d2")).unwrap();
    fs::rename(source.join("d3"), source.join("d4/d3")).unwrap();
    pair.restart_client();
    pair.settle();
    pair.client.kill();
    write(&source, "d7/f7", "edited");
    pair.restart_client();
    pair.settle();
    assert!(pair.sent() < 1_000_000, "what is there is not sent again");
    pair.stop();
}

#[test]
fn few_descriptors_are_enough() {
    let sandbox = Sandbox::new();
    let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
    for n in 0..200 {
        write(&source, &format!("f{n}"), format!("{n}"));
        write(&source, &format!("d{n}/f"), format!("{n}"));
    }
    let (mut server, address) = Daemon::server(&sandbox, &mirror);
    let few = Rlimit {
        current: Some(64),
        maximum: Some(64),
    };
    prlimit(Some(server.pid()), Resource::Nofile, few).unwrap();
    let run = once(&sandbox, &source, &address, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(tree::differences(&source, &mirror), [""; 0]);
    server.stop();
}

#[test]
fn more_events_than_the_queue_holds_lose_nothing() {
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    let pair = Pair::new();
    for n in 0..200 {
        write(&pair.source, &format!("old/d{}/f{n}", n % 5), "old");
    }
    pair.settle();
    pair.client.signal(Signal::STOP);
    // Each file is made, written and closed. A kernel that is set up for more is not driven that far.
    for n in 0..(queue.min(20_000) / 3 + 1000) {
        write(&pair.source, &format!("old/d{}/new{n}", n % 5), "new");
    }
    fs::rename(pair.source.join("old/d1"), pair.source.join("moved")).unwrap();
    fs::remove_file(pair.source.join("old/d2/f2")).unwrap();
    write(&pair.source, "old/d3/f3", "edited");
    pair.client.signal(Signal::CONT);
    pair.settle();
    pair.stop();
}

#[test]
fn a_path_without_rights_is_named_and_mirrored_once_it_has_them() {
    let sandbox = Sandbox::new();
    let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
    write(&source, "open/file", "open");
    write(&source, "closed directory/file", "inside");
    let secret = write(&source, "closed file", "secret");
    let (_server, address) = Daemon::server_with(
        &sandbox,
        "server",
        sandbox
            .syncd_bound()
            .args(["server", "-d", "mirror", "--listen", "127.0.0.1:0"]),
    );
    let once = || {
        let mut command = sandbox.syncd_bound();
        command.args(["client", "-d", "source", "--once", "--server", &address]);
        Finished::of(command.output().unwrap())
    };
    assert_eq!(once().code, Some(0));
    // What was mirrored stays mirrored when it cannot be read any more; what is new and unreadable is missing.
    let new = write(&source, "new and closed", "new");
    write(&source, "open/next to it", "fine");
    chmod(&source.join("closed directory"), 0);
    chmod(&secret, 0);
    chmod(&new, 0);
    let run = once();
    assert_eq!(run.code, Some(3), "{}", run.err);
    for path in ["closed directory", "new and closed"] {
        assert!(run.err.contains(&format!("`{path}`")), "{}", run.err);
    }
    assert!(
        mirror.join("open/next to it").exists(),
        "the others are mirrored"
    );
    assert!(!mirror.join("new and closed").exists());
    chmod(&source.join("closed directory"), 0o700);
    let inside = mirror.join("closed directory/file");
    assert_eq!(fs::read(inside).unwrap(), b"inside");

    chmod(&source.join("closed directory"), 0);
    let mut command = sandbox.syncd_bound();
    command.args(["client", "-d", "source", "--server", &address]);
    let mut client = Daemon::start(&sandbox, "client", &mut command);
    let ask =
        |arguments: &[&str]| Finished::of(sandbox.syncd_bound().args(arguments).output().unwrap());
    let problems = || {
        let run = ask(&["status", "--json", "-d", "source"]);
        let status: serde_json::Value = serde_json::from_str(&run.out).unwrap_or_default();
        status[0]["problems_total"].as_u64()
    };
    assert!(wait::until(wait::PATIENCE, || problems() >= Some(2)));
    let text = ask(&["status", "-d", "source"]).out;
    assert!(
        text.contains("PROBLEMS") && text.contains("closed directory: "),
        "{text}"
    );
    let flush = ask(&["flush", "-d", "source"]);
    assert_eq!(flush.code, Some(3), "{}", flush.err);
    for (path, mode) in [
        ("closed directory", 0o755),
        ("closed file", 0o644),
        ("new and closed", 0o600),
    ] {
        chmod(&source.join(path), mode);
    }
    assert!(wait::until(wait::PATIENCE, || problems() == Some(0)));
    tree::assert_converges(&source, &mirror);
    client.stop();
}

#[test]
fn a_file_that_does_not_fit_is_named_and_not_sent_over_and_over() {
    let sandbox = Sandbox::new();
    let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
    let path = mirror.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=2m", "syncd-test", path]) {
        // Only root may mount.
        return assert_cannot_mount();
    }
    let _mounted = Mounted(mirror.clone());
    write(&source, "small", "small");
    write(&source, "large", noise(1, 4 << 20));
    let pair = Pair::of(sandbox);
    let named = wait::until(wait::PATIENCE, || {
        let status = pair.status();
        let problem = &status["problems"][0];
        problem["path"] == "large" && problem["message"].to_string().contains("No space left")
    });
    assert!(named, "{:#} {}", pair.status(), pair.client.err());
    write(&source, "other", "other");
    let there = || mirror.join("other").exists() && mirror.join("small").exists();
    assert!(wait::until(wait::PATIENCE, there), "{}", pair.client.err());
    // Both are there after one pause: meanwhile, and in the flush, it is not tried time and again.
    let flush = pair.sandbox.run(&["flush", "-d", "source"]);
    assert_eq!(flush.code, Some(3), "{}", flush.err);
    assert!(flush.err.contains("`large`"), "{}", flush.err);
    assert!(
        pair.sent() < 3 * (4 << 20),
        "{} bytes were sent",
        pair.sent()
    );
    let connected = pair.client.err().matches("connected to").count();
    assert_eq!(connected, 1, "{}", pair.client.err());
    // When it fits, it comes by itself.
    let file = fs::File::options()
        .write(true)
        .open(source.join("large"))
        .unwrap();
    file.set_len(1 << 20).unwrap();
    drop(file);
    pair.settle();
    pair.stop();
}
