//! `syncd verify`: both sides compared by content, and the mirror made what the source is.

use crate::support::files::{chmod, mkfifo, noise, set_mtime, write};
use crate::support::pair::Pair;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::tree;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

fn verify(pair: &Pair, more: &[&str]) -> Finished {
    let arguments = ["verify", "-d", "source", "--server", &pair.address];
    pair.sandbox.run(&[&arguments, more].concat())
}

fn odd() -> PathBuf {
    PathBuf::from(OsStr::from_bytes(b"odd \xff name"))
}

/// Changes one byte and nothing that `stat` shows but the change time.
fn flip(path: &Path) {
    let old = fs::metadata(path).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    set_mtime(path, (old.mtime(), old.mtime_nsec()));
    let new = fs::metadata(path).unwrap();
    assert_eq!((new.len(), new.mtime_nsec()), (old.len(), old.mtime_nsec()));
}

/// A tree of all kinds, mirrored.
fn pair() -> Pair {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    for name in [
        "same", "flip", "mode", "time", "missing", "kind", "sub/deep", "pipe",
    ] {
        write(&source, name, format!("content of {name}"));
    }
    write(&source, "large", noise(1, 3_000_000));
    fs::write(source.join(odd()), "odd").unwrap();
    symlink("same", source.join("link")).unwrap();
    write(&source, ".syncdignore", "*.tmp\n");
    write(&source, "a.tmp", "here only");
    let pair = Pair::of(sandbox);
    pair.flush();
    let run = verify(&pair, &[]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert!(
        run.out.contains("13 paths with 2.9 MiB the same at") && run.out.contains("1 ignored"),
        "{}",
        run.out
    );
    pair
}

/// Does everything to the mirror that can be found. What is to be said.
fn tamper(mirror: &Path) -> BTreeSet<&'static str> {
    for name in [Path::new("flip"), Path::new("large"), &odd()] {
        flip(&mirror.join(name));
    }
    chmod(&mirror.join("mode"), 0o600);
    set_mtime(&mirror.join("time"), (1, 2));
    fs::remove_file(mirror.join("missing")).unwrap();
    fs::remove_file(mirror.join("kind")).unwrap();
    fs::create_dir(mirror.join("kind")).unwrap();
    let old = fs::symlink_metadata(mirror.join("link")).unwrap();
    fs::remove_file(mirror.join("link")).unwrap();
    symlink("flip", mirror.join("link")).unwrap();
    set_mtime(&mirror.join("link"), (old.mtime(), old.mtime_nsec()));
    fs::remove_file(mirror.join("pipe")).unwrap();
    mkfifo(&mirror.join("pipe"));
    write(mirror, "extra", "nobody's");
    write(mirror, "b.tmp", "ignored, and kept");
    [
        "differs    flip (content)",
        "differs    large (content)",
        "differs    odd \\xff name (content)",
        "differs    mode (mode)",
        "differs    time (mtime)",
        "missing    missing",
        "differs    kind (kind)",
        "differs    link (content)",
        "extra      extra",
        "unreadable pipe (it is a pipe)",
    ]
    .into()
}

fn lines(run: &Finished) -> BTreeSet<&str> {
    let lines = run.out.lines();
    lines
        .filter(|line| !line.contains(" the same at "))
        .collect()
}

fn names_and_heals(mut pair: Pair, running: bool) {
    if !running {
        pair.client.stop();
    }
    let expected = tamper(&pair.mirror);
    let run = verify(&pair, &[]);
    assert_eq!(run.code, Some(3), "{}{}", run.out, run.err);
    assert_eq!(lines(&run), expected, "{}", run.err);
    assert!(run.err.contains("10 paths are not the same"), "{}", run.err);
    // It only looked, and finds the same again; the client is none the wiser.
    let json = verify(&pair, &["--json"]);
    assert_eq!(json.code, Some(3), "{}", json.err);
    let whole: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let found = &whole["servers"][0]["found"];
    assert_eq!(
        (&found["differing"], &found["missing"], &found["extra"]),
        (&7.into(), &1.into(), &1.into()),
        "{whole}"
    );
    let run = verify(&pair, &["--repair"]);
    assert_eq!(
        run.code,
        Some(0),
        "{}{}\n{}\n{}",
        run.out,
        run.err,
        pair.client.err(),
        pair.server.err()
    );
    assert!(run.out.contains("put right 10 paths"), "{}", run.out);
    let run = verify(&pair, &[]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    for name in ["a.tmp", "b.tmp"] {
        for side in [&pair.source, &pair.mirror] {
            drop(fs::remove_file(side.join(name)));
        }
    }
    let left = tree::differences(&pair.source, &pair.mirror);
    assert!(left.is_empty(), "{}", left.join("\n"));
    if !running {
        pair.restart_client();
    }
    pair.settle();
    pair.stop();
}

#[test]
fn beside_a_client_all_that_differs_is_named_and_put_right() {
    names_and_heals(pair(), true);
}

#[test]
fn without_a_client_all_that_differs_is_named_and_put_right() {
    names_and_heals(pair(), false);
}

#[test]
fn one_file_among_many_is_found() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    for number in 0..700 {
        write(&source, &format!("many/{number}"), number.to_string());
    }
    let pair = Pair::of(sandbox);
    pair.settle();
    flip(&pair.mirror.join("many/555"));
    // The client that runs says which server is meant.
    let run = pair.sandbox.run(&["verify", "-d", "source"]);
    assert_eq!(run.code, Some(3), "{}{}", run.out, run.err);
    assert_eq!(
        lines(&run),
        ["differs    many/555 (content)"].into(),
        "{}",
        run.err
    );
    assert!(run.out.contains("700 paths"), "{}", run.out);
    let run = pair.sandbox.run(&["verify", "-d", "source", "--repair"]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    pair.settle();
    pair.stop();
}

#[test]
fn a_repair_deletes_nothing_past_the_brake() {
    let mut pair = Pair::new();
    for number in 0..5 {
        write(&pair.source, &format!("dir/{number}"), "x");
    }
    pair.settle();
    pair.client.stop();
    fs::remove_dir_all(pair.source.join("dir")).unwrap();
    let run = verify(&pair, &["--repair"]);
    assert_eq!(run.code, Some(3), "{}{}", run.out, run.err);
    assert!(run.out.contains("extra      dir/4"), "{}", run.out);
    assert!(run.err.contains("the source is empty"), "{}", run.err);
    assert!(run.err.contains("syncd accept"), "{}", run.err);
    assert!(pair.mirror.join("dir/4").exists());
    pair.server.stop();
    let run = verify(&pair, &[]);
    assert_eq!(run.code, Some(4), "{}{}", run.out, run.err);
}

#[test]
fn a_share_that_is_not_there_is_not_made_by_looking() {
    let mut pair = Pair::new();
    pair.flush();
    pair.client.stop();
    let more = ["--share", "photos"];
    let run = verify(&pair, &more);
    assert_eq!(run.code, Some(5), "the directory is one share\n{}", run.err);
    let sandbox = Sandbox::new();
    let (first, second) = (sandbox.dir("first"), sandbox.dir("second"));
    write(&first, "a", "a");
    let mirror = sandbox.dir("mirror");
    let (mut server, address) = crate::support::daemon::Daemon::server(&sandbox, &mirror);
    for command in ["verify", "plan"] {
        let run = sandbox.run(&[command, "-d", "first", "--server", &address]);
        let expected = if command == "verify" {
            Some(3)
        } else {
            Some(0)
        };
        assert_eq!(run.code, expected, "{}{}", run.out, run.err);
        let line = run.out.lines().next().unwrap_or_default();
        assert!(
            ["missing    a", "add        a (new file of 1 B)"].contains(&line),
            "{line}"
        );
    }
    // Nobody became its writer.
    let run = crate::support::pair::once(&sandbox, &second, &address, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let run = sandbox.run(&["verify", "-d", "first", "--server", &address]);
    assert_eq!(run.code, Some(5), "{}", run.err);
    assert!(run.err.contains("fills this share"), "{}", run.err);
    server.stop();
    pair.server.stop();
}
