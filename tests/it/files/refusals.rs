//! Who may not, and shares that somebody mirrors.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use crate::support::{tree, wait};
use std::fs;

#[test]
fn a_share_that_a_client_mirrors_is_read_only_to_others_with_the_writers_name() {
    let used = Used::new();
    let source = used.sandbox.dir("source");
    fs::write(source.join("f"), "mirrored").unwrap();
    let mut client = Daemon::client(&used.sandbox, &source, &used.address);
    tree::assert_converges(&source, &used.share);
    used.write("g", "foreign");
    let refused = |used: &Used| {
        for arguments in [
            &["upload", "g"][..],
            &["upload", "-r", "."],
            &["delete", "f"],
            &["rename", "f", "h"],
        ] {
            let err = used.bad(5, arguments);
            assert!(err.contains("/source` of device `"), "{arguments:?}: {err}");
            assert!(err.contains("fills this share"), "{err}");
        }
        assert_eq!(used.good(&["list"]), "f\n");
        assert_eq!(used.good(&["get", "f", "-"]), "mirrored");
    };
    refused(&used);
    // While it is away, too.
    client.stop();
    refused(&used);
    tree::assert_converges(&source, &used.share);
}

#[test]
fn a_writer_that_comes_while_something_is_uploaded_wins() {
    let used = Used::new();
    let content = noise(1, 6_000_000);
    used.write("large", &content);
    used.good(&["list"]);
    let line = Proxy::to(&used.address);
    line.allow(2_000_000);
    let mut upload = used.command_over(&line.address, &["upload", "large"]);
    let upload = upload
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait::until(wait::PATIENCE, || line.is_held()));
    let source = used.sandbox.dir("source");
    fs::write(source.join("f"), "the writer's").unwrap();
    let once = used.sandbox.run(&[
        "client",
        "-d",
        "source",
        "--once",
        "--server",
        &used.address,
    ]);
    assert_eq!(once.code, Some(0), "{}", once.err);
    line.mend();
    let ended = Finished::of(upload.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(5), "{}", ended.err);
    assert!(ended.err.contains("fills this share"), "{}", ended.err);
    tree::assert_converges(&source, &used.share);
}

#[test]
fn rights_hold_for_files_too() {
    let used = Used::new();
    used.share("f", "secret");
    let invite = |arguments: &[&str]| {
        let mut all = vec!["invite", "-d", "share"];
        all.extend(arguments);
        let run = used.sandbox.run(&all);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.out.trim().to_owned()
    };
    let other = |arguments: &[&str]| {
        let mut command = used.sandbox.syncd_of("other");
        command.current_dir(&used.work).args(arguments);
        Finished::of(command.output().unwrap())
    };
    let stranger = other(&["list", "--server", &used.address]);
    assert_eq!(stranger.code, Some(5), "{}", stranger.err);
    let joined = other(&["join", &invite(&["--root", "--read-only"])]);
    assert_eq!(joined.code, Some(0), "{}", joined.err);
    let listed = other(&["list", "--server", &used.address]);
    assert_eq!(
        (listed.code, listed.out.as_str()),
        (Some(0), "f\n"),
        "{}",
        listed.err
    );
    assert_eq!(other(&["get", "f", "-"]).out, "secret");
    used.write("g", "no");
    for arguments in [
        &["upload", "g"][..],
        &["delete", "f"],
        &["rename", "f", "g"],
    ] {
        let refused = other(arguments);
        assert_eq!(refused.code, Some(5), "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains("may not write"), "{}", refused.err);
    }
    assert_eq!(used.good(&["list"]), "f\n");
    let elsewhere = other(&["list", "--share", "photos"]);
    assert_eq!(elsewhere.code, Some(5), "{}", elsewhere.err);
}

#[test]
fn a_server_that_is_not_there_is_said_at_once() {
    let mut used = Used::new();
    used.write("f", "x");
    used.good(&["list"]);
    used.server.kill();
    for arguments in [
        &["list"][..],
        &["get", "f"],
        &["upload", "f"],
        &["delete", "f"],
    ] {
        let err = used.bad(4, arguments);
        assert!(err.contains("cannot reach `127.0.0.1:"), "{err}");
    }
}

#[test]
fn two_files_that_go_to_one_name_are_refused_and_one_that_is_named_twice_is_not() {
    let used = Used::new();
    used.write("a/one", "of a");
    used.write("b/one", "of b");
    let err = used.bad(3, &["upload", "--force", "a/one", "b/one", "/"]);
    assert!(err.contains("`b/one` would replace `a/one`"), "{err}");
    assert_eq!(fs::read(used.share.join("one")).unwrap(), b"of a");
    let sums = used.good(&["upload", "--force", "b/one", "b/one", "/"]);
    assert_eq!(sums.lines().count(), 1, "{sums}");
    assert_eq!(fs::read(used.share.join("one")).unwrap(), b"of b");
}

#[test]
fn every_path_that_failed_is_named() {
    let used = Used::new();
    for n in 0..150 {
        used.write(&format!("all/{n}"), "x");
        fs::create_dir_all(used.share.join(format!("all/{n}"))).unwrap();
    }
    let err = used.bad(3, &["upload", "-r", "all", "/"]);
    assert!(err.contains("150 paths could not be sent"), "{err}");
    for n in 0..150 {
        assert!(err.contains(&format!("`all/{n}`")), "{n}: {err}");
    }
}
