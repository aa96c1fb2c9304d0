//! The first mirror of a tree: every kind of entry arrives, and what is skipped is named.

use crate::support::files::{chmod, mkfifo, noise, set_mtime, write};
use crate::support::pair::{Pair, once};
use crate::support::sandbox::Sandbox;
use crate::support::{daemon::Daemon, tree};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// One of everything.
fn furnish(root: &Path) {
    fs::create_dir_all(root.join("empty")).unwrap();
    write(root, "zero", "");
    write(root, "one", "1");
    write(root, "leaf", noise(1, 64 * 1024));
    write(root, "leaf and one", noise(2, 64 * 1024 + 1));
    write(root, "large", noise(3, 3_000_000));
    for (name, mode) in [
        ("setuid", 0o4755),
        ("setgid", 0o2711),
        ("secret", 0o600),
        ("read only", 0o444),
        ("odd", 0o1357),
    ] {
        chmod(&write(root, &format!("modes/{name}"), name), mode);
    }
    fs::create_dir_all(root.join("modes/sticky")).unwrap();
    chmod(&root.join("modes/sticky"), 0o1777);
    let names: [&[u8]; 7] = [
        b"\xff\xfe not utf-8",
        b"a\nnew line",
        b"back\\slash \"quotes\" 'and' $more",
        b"  spaces  ",
        b"-rf",
        &[b'n'; 255],
        "\u{e4}".as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        fs::write(root.join(name), name.as_bytes()).unwrap();
        fs::create_dir_all(root.join("directories").join(name)).unwrap();
        symlink(name, root.join("empty").join(name)).unwrap();
    }
    // The same letter in another normal form is another name.
    write(root, "a\u{308}", "decomposed");
    let deep: Vec<String> = (0..60).map(|n| format!("{n}{}", "d".repeat(48))).collect();
    write(root, &format!("{}/bottom", deep.join("/")), "deep");
    symlink("nowhere/at/all", root.join("dangling")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/etc", root.join("absolute")).unwrap();
    symlink("x".repeat(4000), root.join("long target")).unwrap();
    fs::hard_link(root.join("one"), root.join("empty/hard link")).unwrap();
    File::create(root.join("sparse"))
        .unwrap()
        .set_len(5_000_000)
        .unwrap();
    set_mtime(&root.join("one"), (1, 1));
    set_mtime(&root.join("zero"), (-77, 999_999_999));
    set_mtime(&root.join("large"), (4_000_000_000, 123_456_789));
    set_mtime(&root.join("dangling"), (1_234_567_890, 987_654_321));
    set_mtime(&root.join("empty"), (1_000_000_000, 5));
    set_mtime(&root.join("modes"), (999, 999));
}

#[test]
fn one_of_everything_arrives_with_bytes_modes_and_times() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    furnish(&source);
    // What was in the mirror before goes, of whatever kind.
    let mirror = sandbox.dir("mirror");
    write(&mirror, "extra/deep/file", "old");
    write(&mirror, "zero/was a directory", "old");
    symlink("/etc/passwd", mirror.join("one")).unwrap();
    let before = tree::snapshot(&source);
    let pair = Pair::of(sandbox);
    pair.settle();
    let after = tree::snapshot(&pair.source);
    assert!(tree::diff(&before, &after).is_empty(), "the source changed");
    // Kept aside, because this source did not make it.
    let kept = pair.mirror.join(".syncd/kept");
    let kept: Vec<_> = fs::read_dir(kept).unwrap().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");

    // Everything that an event tells of, of everything.
    for path in ["dangling", "long target", "up"] {
        set_mtime(&pair.source.join(path), (2_000_000_000, 42));
    }
    set_mtime(&pair.source.join("directories"), (1_500_000_000, 1));
    chmod(&pair.source.join("modes/secret"), 0o4511);
    chmod(&pair.source.join("modes/sticky"), 0o2775);
    pair.settle();
    pair.stop();
}

#[test]
fn pipes_and_sockets_are_skipped_listed_and_no_failure() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    write(&source, "file", "content");
    mkfifo(&source.join("pipe"));
    let _socket = UnixListener::bind(source.join("socket")).unwrap();
    let pair = Pair::of(sandbox);
    pair.settle();
    let status = pair.status();
    let mut skipped: Vec<_> = status["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skipped| skipped["path"].as_str().unwrap())
        .collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["pipe", "socket"]);
    assert_eq!(status["skipped_total"], 2);
    assert_eq!(status["problems_total"], 0);
    let text = pair.sandbox.run(&["status", "-d", "source"]).out;
    assert!(text.contains("skipped by rule: 2 paths"), "{text}");

    // One that becomes a file is mirrored; a file that becomes a pipe is not there any more.
    fs::remove_file(pair.source.join("pipe")).unwrap();
    write(&pair.source, "pipe", "a file now");
    fs::remove_file(pair.source.join("file")).unwrap();
    mkfifo(&pair.source.join("file"));
    pair.settle();
    let address = pair.address.clone();
    let Pair {
        sandbox,
        mut client,
        source,
        server: _server,
        ..
    } = pair;
    client.stop();
    let run = once(&sandbox, &source, &address, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("2 paths skipped by rule"), "{}", run.out);
}

#[test]
fn a_mirror_that_was_tampered_with_is_put_right_by_once() {
    let sandbox = Sandbox::new();
    let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
    for n in 0..40 {
        write(&source, &format!("d{}/f{n}", n % 4), format!("content {n}"));
    }
    write(&source, "large", noise(4, 2_000_000));
    let (mut server, address) = Daemon::server(&sandbox, &mirror);
    let run = || once(&sandbox, &source, &address, &[]);
    let first = run();
    assert_eq!(first.code, Some(0), "{}", first.err);
    assert!(tree::differences(&source, &mirror).is_empty());

    let tamper = || {
        // Same size and time, other bytes.
        let forged = mirror.join("d1/f1");
        let time = fs::metadata(&forged).unwrap().modified().unwrap();
        fs::write(&forged, "CONTENT 1").unwrap();
        let file = File::options().write(true).open(&forged).unwrap();
        file.set_modified(time).unwrap();
        fs::remove_file(mirror.join("d2/f2")).unwrap();
        fs::remove_dir_all(mirror.join("d3")).unwrap();
        write(&mirror, "d0/extra", "extra");
        chmod(&mirror.join("d0/f0"), 0o600);
        set_mtime(&mirror.join("large"), (5, 5));
        fs::remove_file(mirror.join("d0/f4")).unwrap();
        symlink("/etc/passwd", mirror.join("d0/f4")).unwrap();
    };
    tamper();
    let second = run();
    assert_eq!(second.code, Some(0), "{}", second.err);
    let left = tree::differences(&source, &mirror);
    assert!(left.is_empty(), "{}", left.join("\n"));

    server.stop();
    tamper();
    let mut command = sandbox.syncd();
    command.args(["server", "-d", "mirror", "--listen", &address]);
    let (_server, _) = Daemon::server_with(&sandbox, "again", &mut command);
    let third = run();
    assert_eq!(third.code, Some(0), "{}", third.err);
    let left = tree::differences(&source, &mirror);
    assert!(left.is_empty(), "{}", left.join("\n"));
    assert_eq!(fs::read("/etc/passwd").unwrap().first(), Some(&b'r'));
}
