//! What the status says, and how commands end that ask.

use crate::support::daemon::Daemon;
use crate::support::files::{mkfifo, write};
use crate::support::pair::{Pair, answers, once, status};
use crate::support::sandbox::Sandbox;
use crate::support::wait;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

fn keys(object: &Value) -> BTreeSet<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_lag_is_the_age_of_the_oldest_change_that_is_not_durable() {
    let pair = Pair::new();
    write(&pair.source, "f", "old");
    pair.settle();
    pair.server.signal(Signal::STOP);
    write(&pair.source, "f", "new");
    let peer = || pair.status()["servers"][0].clone();
    assert!(wait::until(wait::PATIENCE, || peer()["lag_ms"].as_u64() > Some(300)));
    let first = peer();
    // It is the first change that counts.
    write(&pair.source, "g", "newer");
    let grown = || peer()["lag_ms"].as_u64() > first["lag_ms"].as_u64().map(|lag| lag + 200);
    assert!(wait::until(wait::PATIENCE, grown), "{first} {}", peer());
    let now = peer();
    assert_eq!(now["state"], "mirroring");
    assert!(now["pending"].as_u64() > Some(0), "{now}");
    let text = pair.sandbox.run(&["status", "-d", "source"]).out;
    assert!(text.contains(" behind, "), "{text}");
    // A flush that is not waited for any longer says so.
    let flush = pair
        .sandbox
        .run(&["flush", "-d", "source", "--timeout", "100ms"]);
    assert_eq!(flush.code, Some(4), "{}", flush.err);
    pair.server.signal(Signal::CONT);
    pair.settle();
    let now = peer();
    for key in ["lag_ms", "pending", "in_flight_bytes"] {
        assert_eq!(now[key], 0, "{now}");
    }
    assert_eq!(now["state"], "idle");
    let text = pair.sandbox.run(&["status", "-d", "source"]).out;
    assert!(text.contains("nothing waits"), "{text}");
    pair.stop();
}

#[test]
fn what_is_no_file_is_skipped_and_listed_with_its_kind() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    write(&source, "file", "f");
    mkfifo(&write(&source, "d/x", "").with_file_name("pipe"));
    let _socket = UnixListener::bind(source.join("socket")).unwrap();
    let pair = Pair::of(sandbox);
    pair.settle();
    let status = pair.status();
    assert_eq!(
        (&status["skipped_total"], &status["problems_total"]),
        (&2.into(), &0.into())
    );
    let skipped: BTreeSet<(&str, &str)> = status["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| {
            (
                path["path"].as_str().unwrap(),
                path["reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        skipped,
        BTreeSet::from([("d/pipe", "a pipe"), ("socket", "a socket")])
    );
    let text = pair.sandbox.run(&["status", "-d", "source"]).out;
    assert!(text.contains("skipped by rule: 2 paths"), "{text}");
    assert!(
        text.contains("d/pipe: a pipe") && text.contains("socket: a socket"),
        "{text}"
    );
    // One that takes the place of a file takes the file away; one that becomes a file is mirrored.
    fs::remove_file(source_of(&pair, "socket")).unwrap();
    write(&pair.source, "socket", "a file now");
    fs::remove_file(source_of(&pair, "file")).unwrap();
    mkfifo(&source_of(&pair, "file"));
    pair.settle();
    let now = pair.status();
    assert_eq!(now["skipped_total"], 2, "{now}");
    let address = pair.address.clone();
    let Pair {
        sandbox,
        mut server,
        mut client,
        source,
        ..
    } = pair;
    client.stop();
    let run = once(&sandbox, &source, &address, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("2 paths skipped by rule"), "{}", run.out);
    server.stop();
}

fn source_of(pair: &Pair, name: &str) -> PathBuf {
    pair.source.join(name)
}

#[test]
fn a_path_that_is_too_long_is_named_by_its_directory() {
    let pair = Pair::new();
    write(&pair.source, "fine", "f");
    let top = deep(&pair.source);
    let told = || pair.status()["problems_total"] == 1;
    assert!(wait::until(wait::PATIENCE, told), "{}", pair.status());
    let status = pair.status();
    let problem = &status["problems"][0];
    assert!(
        problem["path"].as_str().unwrap().starts_with("dxxx"),
        "{status}"
    );
    let message = problem["message"].as_str().unwrap();
    assert!(
        message.contains("xxx` in it: the path is too long"),
        "{status}"
    );
    assert!(problem["since_ms"].is_u64());
    let flush = pair.sandbox.run(&["flush", "-d", "source"]);
    assert_eq!(flush.code, Some(3), "{}", flush.err);
    assert!(flush.err.contains("the path is too long"), "{}", flush.err);
    assert!(pair.mirror.join("fine").exists());
    // In the log, too, and once.
    let said = || pair.client.err().matches("it cannot be mirrored").count();
    assert!(
        wait::until(wait::PATIENCE, || said() == 1),
        "{}",
        pair.client.err()
    );
    fs::remove_dir_all(top).unwrap();
    assert!(wait::until(
        wait::PATIENCE,
        || pair.status()["problems_total"] == 0
    ));
    pair.settle();
    assert_eq!(said(), 1, "{}", pair.client.err());
    pair.stop();
}

/// Makes directories in each other until a path is longer than any that is mirrored; gives the top one.
fn deep(source: &std::path::Path) -> PathBuf {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let name = format!("d{}", "x".repeat(240));
    let mut at = rustix::fs::open(source, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..18 {
        mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    source.join(name)
}

#[test]
fn the_status_for_machines_has_its_fields() {
    let pair = Pair::new();
    write(&pair.source, "f", "f");
    pair.settle();
    let run = pair.sandbox.run(&["status", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.out.lines().count(), 1);
    let all: Value = serde_json::from_str(&run.out).unwrap();
    let of = |role: &str| {
        let all = all.as_array().unwrap();
        all.iter().find(|daemon| daemon["role"] == role).unwrap()
    };
    let (server, client) = (of("server"), of("client"));
    let expect = |object: &Value, names: &str| {
        assert_eq!(
            keys(object),
            names.split(' ').collect::<BTreeSet<_>>(),
            "{object}"
        );
    };
    expect(
        server,
        "role directory listen server_id shares clients keys cache",
    );
    expect(
        &server["shares"][0],
        "name path writer connected entries version generation last_commit_age_ms drift problems paused",
    );
    expect(
        &server["keys"],
        "memcached keys bytes gets hits sets unavailable",
    );
    expect(&server["clients"][0], "device name share since_ms address");
    expect(
        client,
        "role source servers entries watches problems problems_total skipped skipped_total ignored_total polled",
    );
    expect(
        &client["servers"][0],
        "address share state lag_ms pending in_flight_bytes sent_bytes sent_files last_error reconnect_in_ms",
    );
    assert_eq!(server["listen"][0], pair.address.as_str());
    assert_eq!(
        (&client["entries"], &server["shares"][0]["entries"]),
        (&1.into(), &1.into())
    );
    pair.stop();
}

#[test]
fn asking_where_nobody_answers_is_unreachable() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["status"][..],
        &["flush"],
        &["status", "-d", "."],
        &["flush", "-d", "."],
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, Some(4), "{arguments:?} {}", run.err);
        assert!(
            run.out.is_empty() && run.err.starts_with("error: "),
            "{}",
            run.err
        );
    }
    // One that was killed left its socket behind.
    let source = sandbox.dir("source");
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let mut client = Daemon::client(&sandbox, &source, &address);
    assert!(wait::until(wait::PATIENCE, || sandbox
        .run(&["status", "-d", "source"])
        .code
        == Some(0)));
    client.kill();
    let run = sandbox.run(&["status", "-d", "source"]);
    assert_eq!(run.code, Some(4), "{}", run.err);
    server.stop();
}

#[test]
fn a_server_that_was_never_reached_is_as_far_behind_as_the_client_is_old() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    // Nobody can listen on port 0.
    let mut client = Daemon::client(&sandbox, &source, "127.0.0.1:0");
    assert!(wait::until(wait::PATIENCE, || answers(&sandbox, "source")));
    let lag = || status(&sandbox, "source")["servers"][0]["lag_ms"].as_u64();
    assert!(wait::until(wait::PATIENCE, || lag() > Some(300)));
    let text = sandbox.run(&["status", "-d", "source"]).out;
    assert!(text.contains(" behind, "), "{text}");
    client.stop();
}

#[test]
fn an_answer_of_another_release_is_a_matter_of_versions() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let mut client = Daemon::client(&sandbox, &source, &address);
    assert!(wait::until(wait::PATIENCE, || sandbox
        .run(&["status", "-d", "source"])
        .code
        == Some(0)));
    server.stop();
    client.kill();
    // Somebody else answers in its place.
    let socket = sockets(&sandbox).pop().unwrap();
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let answering = std::thread::spawn(move || {
        // Whoever only looks whether somebody is here says nothing.
        let asked = listener.incoming().map(Result::unwrap).find_map(|stream| {
            let mut question = String::new();
            BufReader::new(&stream).read_line(&mut question).unwrap();
            (!question.is_empty()).then_some(stream)
        });
        asked
            .unwrap()
            .write_all(b"{\"role\":\"oracle\"}\n")
            .unwrap();
    });
    let run = sandbox.run(&["status"]);
    assert_eq!(run.code, Some(6), "{}", run.err);
    assert!(run.err.contains("is not understood"), "{}", run.err);
    answering.join().unwrap();
}

/// The control sockets of a sandbox.
fn sockets(sandbox: &Sandbox) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let mut todo = vec![sandbox.path("run")];
    let mut found = Vec::new();
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_socket() {
                found.push(entry.path());
            }
        }
    }
    found
}
