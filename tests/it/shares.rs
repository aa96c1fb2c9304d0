//! Many clients and shares on one server: each exact, nobody waits for another, one writer a share.

use crate::support::daemon::Daemon;
use crate::support::files::{noise, write};
use crate::support::pair::{once, status};
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{tree, wait};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn client(sandbox: &Sandbox, source: &str, share: &str, address: &str) -> Daemon {
    let mut command = sandbox.syncd();
    command.args(["client", "-d", source, "--share", share]);
    command.args(["--server", address]);
    Daemon::start(sandbox, &format!("client-{source}"), &mut command)
}

fn server(sandbox: &Sandbox) -> (Daemon, String, PathBuf) {
    let mirror = sandbox.dir("mirror");
    let (server, address) = Daemon::server(sandbox, &mirror);
    (server, address, mirror)
}

/// Files below a share's `.syncd/kept`, by what follows the name of the time.
fn kept(share: &Path) -> Vec<String> {
    let mut found: Vec<String> = tree::snapshot(&share.join(".syncd/kept"))
        .into_iter()
        .filter(|(_, entry)| entry.content != tree::Content::Directory)
        .map(|(path, _)| String::from_utf8(path).unwrap())
        .map(|path| path.split_once('/').unwrap().1.to_owned())
        .collect();
    found.sort();
    found
}

#[test]
fn many_clients_at_once_are_exact_and_one_that_stands_still_delays_nobody() {
    const CLIENTS: u64 = 12;
    let sandbox = Sandbox::new();
    let (mut server, address, mirror) = server(&sandbox);
    let names: Vec<String> = (0..CLIENTS).map(|n| format!("s{n}")).collect();
    let mut clients = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let source = sandbox.dir(name);
        for file in 0..30 {
            write(
                &source,
                &format!("d{}/f{file}", file % 4),
                format!("{n} {file}"),
            );
        }
        write(&source, "large", noise(n as u64, 200_000));
        clients.push(client(&sandbox, name, &format!("share-{n}"), &address));
    }
    let of = |n: usize| mirror.join(format!("share-{n}"));
    for (n, name) in names.iter().enumerate() {
        tree::assert_converges(&sandbox.path(name), &of(n));
    }

    // The first one is stopped midway.
    write(&sandbox.path("s0"), "huge", noise(99, 48 << 20));
    let staged = || du(&of(0).join(".syncd")) > 1 << 20;
    assert!(wait::until(wait::PATIENCE, staged), "{}", clients[0].err());
    clients[0].signal(Signal::STOP);
    assert!(!of(0).join("huge").exists(), "it was stopped too late");
    for round in 0..3 {
        for (n, name) in names.iter().enumerate().skip(1) {
            let text = format!("round {round} of {n}");
            let begun = Instant::now();
            write(&sandbox.path(name), "edited", &text);
            let there = || fs::read_to_string(of(n).join("edited")).is_ok_and(|now| now == text);
            assert!(
                wait::until(Duration::from_secs(5), there),
                "{name} waited {:?}",
                begun.elapsed()
            );
        }
    }
    clients[0].signal(Signal::CONT);
    for (n, name) in names.iter().enumerate() {
        fs::rename(
            sandbox.path(name).join("d1"),
            sandbox.path(name).join("moved"),
        )
        .unwrap();
        fs::remove_dir_all(sandbox.path(name).join("d2")).unwrap();
        let flush = sandbox.run(&["flush", "-d", name]);
        assert_eq!(flush.code, Some(0), "{name}: {}", flush.err);
        let left = tree::differences(&sandbox.path(name), &of(n));
        assert!(left.is_empty(), "{name}: {}", left.join("\n"));
    }
    let told = status(&sandbox, "mirror");
    assert_eq!(told["clients"].as_array().unwrap().len(), names.len());
    assert_eq!(told["shares"].as_array().unwrap().len(), names.len());
    for client in &mut clients {
        client.stop();
    }
    server.stop();
}

/// Bytes of the regular files below a directory.
fn du(root: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(root) else {
        return 0;
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((path.symlink_metadata().ok()?, path)))
        .map(|(stat, path)| if stat.is_dir() { du(&path) } else { stat.len() })
        .sum()
}

#[test]
fn a_second_writer_is_refused_by_name_and_may_take_over() {
    let sandbox = Sandbox::new();
    let (mut server, address, mirror) = server(&sandbox);
    let (first, second) = (sandbox.dir("first"), sandbox.dir("second"));
    write(&first, "of the first", "1");
    write(&first, "common", "old");
    write(&first, "sub/deep", "deep");
    write(&second, "common", "new");
    write(&second, "of the second", "2");
    let mut holder = client(&sandbox, "first", "s", &address);
    tree::assert_converges(&first, &mirror.join("s"));

    let refused = |run: &Finished| {
        assert_eq!(run.code, Some(5), "{}", run.err);
        let name = format!(":{}`", first.display());
        assert!(run.err.contains(&name), "{}", run.err);
        assert!(run.err.contains("--take-over"), "{}", run.err);
    };
    refused(&once(&sandbox, &second, &address, &["--share", "s"]));
    // One that stays is told the same and ends.
    let mut stays = client(&sandbox, "second", "s", &address);
    assert_eq!(stays.end(wait::PATIENCE).code(), Some(5), "{}", stays.err());
    // Also while the holder is away.
    holder.stop();
    refused(&once(&sandbox, &second, &address, &["--share", "s"]));
    tree::assert_converges(&first, &mirror.join("s"));
    let mut holder = client(&sandbox, "first", "s", &address);
    assert!(wait::until(wait::PATIENCE, || {
        sandbox.run(&["flush", "-d", "first"]).code == Some(0)
    }));

    let run = once(
        &sandbox,
        &second,
        &address,
        &["--share", "s", "--take-over"],
    );
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(tree::differences(&second, &mirror.join("s")), [""; 0]);
    let kept = kept(&mirror.join("s"));
    assert!(
        ["of the first", "sub/deep"]
            .iter()
            .all(|name| kept.contains(&(*name).to_owned())),
        "{kept:?}"
    );
    // Who held it is told who does now, and does not fight.
    let status = holder.end(wait::PATIENCE);
    assert_eq!(status.code(), Some(5), "{}", holder.err());
    assert!(holder.err().contains(&format!(":{}`", second.display())));
    tree::assert_converges(&second, &mirror.join("s"));
    server.stop();
}

#[test]
fn a_directory_is_one_share_or_the_parent_of_named_ones() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    write(&source, "f", "f");
    for (first, then, expected) in [
        (&[][..], &["--share", "s"][..], "is one share already"),
        (&["--share", "s"], &[], "`--share NAME`"),
    ] {
        let mirror = sandbox.dir(&format!("mirror{}", first.len()));
        let (mut server, address) = Daemon::server(&sandbox, &mirror);
        assert_eq!(once(&sandbox, &source, &address, first).code, Some(0));
        let before = tree::snapshot(&mirror);
        let run = once(&sandbox, &source, &address, then);
        assert_eq!(run.code, Some(5), "{}", run.err);
        assert!(run.err.contains(expected), "{}", run.err);
        assert_eq!(tree::diff(&before, &tree::snapshot(&mirror)), [""; 0]);
        // The same after a restart of the server.
        server.stop();
        let (mut server, address) = Daemon::server(&sandbox, &mirror);
        let run = once(&sandbox, &source, &address, then);
        assert_eq!(run.code, Some(5), "{}", run.err);
        assert_eq!(once(&sandbox, &source, &address, first).code, Some(0));
        server.stop();
    }
}

#[test]
fn tables_place_shares_elsewhere() {
    let sandbox = Sandbox::new();
    let (source, other) = (sandbox.dir("source"), sandbox.dir("other"));
    write(&source, "f", "of the source");
    write(&other, "g", "of the other");
    let (mirror, settings) = (sandbox.dir("mirror"), sandbox.dir("settings"));
    // Relative paths begin at the file of settings.
    let text = format!(
        "[[share]]\nname = \"near\"\npath = \"beside\"\n[[share]]\nname = \"far\"\npath = \"{}\"\n\
         [[share]]\nname = \"nowhere\"\npath = \"missing\"\n",
        sandbox.dir("elsewhere").display()
    );
    write(&settings, "server.toml", text);
    let beside = sandbox.dir("settings/beside");
    let (mut server, address) = Daemon::server_with(
        &sandbox,
        "server",
        sandbox
            .syncd()
            .args(["server", "-d", "mirror", "--listen", "127.0.0.1:0"])
            .args(["-c", "settings/server.toml"]),
    );
    let run = |source: &Path, more: &[&str]| once(&sandbox, source, &address, more);
    assert_eq!(run(&source, &["--share", "near"]).code, Some(0));
    assert_eq!(run(&other, &["--share", "far"]).code, Some(0));
    assert_eq!(tree::differences(&source, &beside), [""; 0]);
    assert_eq!(
        tree::differences(&other, &sandbox.path("elsewhere")),
        [""; 0]
    );
    // They say nothing of the server's directory, which is still free.
    assert_eq!(run(&source, &[]).code, Some(0));
    assert_eq!(tree::differences(&source, &mirror), [""; 0]);
    let missing = run(&source, &["--share", "nowhere"]);
    assert_eq!(missing.code, Some(5), "{}", missing.err);
    assert!(missing.err.contains("does not exist"), "{}", missing.err);
    server.stop();
}

#[test]
fn a_name_that_is_no_plain_component_is_refused() {
    let sandbox = Sandbox::new();
    let (mut server, address, mirror) = server(&sandbox);
    let source = sandbox.dir("source");
    let long = "x".repeat(256);
    for name in ["..", ".", "a/b", "/", ".syncd", "a\nb", &long] {
        let run = once(&sandbox, &source, &address, &["--share", name]);
        assert_eq!(run.code, Some(2), "{name}: {}", run.err);
        assert!(
            run.err.contains("a name of at most 64 bytes"),
            "{}",
            run.err
        );
    }
    assert_eq!(tree::snapshot(&mirror).len(), 0);
    server.stop();
}

#[test]
fn a_new_connection_of_the_same_writer_replaces_the_old_one_at_once() {
    let sandbox = Sandbox::new();
    let (mut server, address, mirror) = server(&sandbox);
    let source = sandbox.dir("source");
    write(&source, "f", "old");
    let mut old = client(&sandbox, "source", "s", &address);
    tree::assert_converges(&source, &mirror.join("s"));
    // Its line stays open, and it says nothing any more.
    old.signal(Signal::STOP);
    write(&source, "f", "new");
    // The same device and the same source, with its state lost.
    let mut command = sandbox.syncd();
    command
        .env("XDG_STATE_HOME", sandbox.dir("fresh state"))
        .args([
            "client", "-d", "source", "--share", "s", "--once", "--server", &address,
        ]);
    let begun = Instant::now();
    let run = Finished::of(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(tree::differences(&source, &mirror.join("s")), [""; 0]);
    write(&source, "f", "newer");
    old.signal(Signal::CONT);
    tree::assert_converges(&source, &mirror.join("s"));
    let said = old.err();
    assert!(said.contains("another client has this one's key"), "{said}");
    old.stop();
    server.stop();
}

#[test]
fn shares_that_lie_in_one_another_are_refused_before_one_deletes_the_other() {
    let sandbox = Sandbox::new();
    let (source, inner) = (sandbox.dir("source"), sandbox.dir("mirror/inner"));
    write(&source, "f", "of the source");
    write(&inner, "g", "of another");
    let serve = |tables: &[(&str, &str)]| {
        let text = |(name, path): &(&str, &str)| {
            format!("[[share]]\nname = \"{name}\"\npath = \"{path}\"\n")
        };
        let text: String = tables.iter().map(text).collect();
        write(sandbox.root(), "server.toml", text);
        let mut command = sandbox.syncd();
        command.args(["server", "-d", "mirror", "--listen", "127.0.0.1:0"]);
        command.args(["-c", "server.toml"]);
        command
    };
    for tables in [[("a", "x"), ("b", "x/y")], [("a", "x"), ("b", "mirror")]] {
        let run = Finished::of(serve(&tables).output().unwrap());
        assert_eq!(run.code, Some(2), "{}", run.err);
        assert!(run.err.contains("lies within"), "{}", run.err);
    }
    // The directory may hold it while it is the parent of shares, but not as one share.
    let mut command = serve(&[("a", "mirror/inner")]);
    let (mut server, address) = Daemon::server_with(&sandbox, "server", &mut command);
    for more in [&[][..], &["--share", "inner"]] {
        let run = once(&sandbox, &source, &address, more);
        assert_eq!(run.code, Some(5), "{}", run.err);
        assert!(
            run.err.contains("place the share `a` within"),
            "{}",
            run.err
        );
    }
    assert_eq!(fs::read(inner.join("g")).unwrap(), b"of another");
    let run = once(&sandbox, &source, &address, &["--share", "other"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    // A second server does not begin within what the first one uses.
    let second = ["server", "--listen", "127.0.0.1:0", "-d", "mirror/other"];
    let run = sandbox.run(&second);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("another server uses"), "{}", run.err);
    server.stop();
}
