//! `syncd kv`, and what holds for keys however they are reached: durable, in order, bounded, told when it cannot be.

mod faults;
mod room;

use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::memcached::{Client, serve};
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::wait;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// `syncd kv` on a server, with bytes on its standard input. Its standard output as bytes.
fn kv(sandbox: &Sandbox, server: &str, arguments: &[&str], input: &[u8]) -> (Finished, Vec<u8>) {
    let mut command = sandbox.syncd();
    command.arg("kv").args(arguments).args(["--server", server]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that fails early does not read it.
    let writing = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let bytes = output.stdout.clone();
    (Finished::of(output), bytes)
}

#[test]
fn values_are_set_read_listed_and_removed_over_tls() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let run = |arguments: &[&str]| kv(&sandbox, &address, arguments, b"").0;
    let set = run(&["set", "greeting", "hello"]);
    assert_eq!((set.code, &*set.out), (Some(0), "STORED\n"), "{}", set.err);
    assert_eq!(run(&["get", "greeting"]).out, "hello");
    // Any bytes, of any size, in and out.
    for size in [0, 1 << 20, (5 << 20) + 3] {
        let value = noise(size as u64, size);
        let (set, _) = kv(&sandbox, &address, &["set", "binary", "-"], &value);
        assert_eq!(set.code, Some(0), "{}", set.err);
        let (got, bytes) = kv(&sandbox, &address, &["get", "binary"], b"");
        assert!(got.code == Some(0) && bytes == value, "{size} {}", got.err);
    }
    // Conditions fail with the field's words.
    let missing = run(&["get", "nothing"]);
    assert_eq!(missing.code, Some(3));
    assert!(missing.err.contains("NOT_FOUND"), "{}", missing.err);
    assert!(run(&["delete", "nothing"]).err.contains("NOT_FOUND"));
    let taken = run(&["set", "greeting", "x", "--if-absent"]);
    assert_eq!(taken.code, Some(3));
    assert!(taken.err.contains("NOT_STORED"), "{}", taken.err);
    assert!(
        run(&["set", "new", "x", "--if-exists"])
            .err
            .contains("NOT_STORED")
    );
    let json = |run: Finished| serde_json::from_str::<Value>(&run.out).unwrap();
    let entry = json(run(&["get", "greeting", "--json"]));
    assert_eq!(
        (&entry["value"], &entry["size"]),
        (&"hello".into(), &5.into())
    );
    let unique = entry["unique"].to_string();
    let stored = json(run(&[
        "set",
        "greeting",
        "hi",
        "--if-unique",
        &unique,
        "--json",
    ]));
    assert_eq!(stored["stored"], true);
    let stale = run(&["set", "greeting", "ho", "--if-unique", &unique]);
    assert_eq!(stale.code, Some(3));
    assert!(stale.err.contains("EXISTS"), "{}", stale.err);
    let expiring = run(&["set", "soon", "x", "--expires", "1s"]);
    assert_eq!(expiring.code, Some(0), "{}", expiring.err);
    assert!(wait::until(wait::PATIENCE, || run(&["get", "soon"]).code == Some(3)));
    assert_eq!(run(&["list"]).out, "binary\ngreeting\n");
    assert_eq!(run(&["delete", "binary"]).out, "DELETED\n");
    let long = run(&["set", &"k".repeat(251), "x"]);
    assert!(
        long.code == Some(2) && long.err.contains("250 bytes"),
        "{}",
        long.err
    );
    // A share has keys of its own, and no directory for them.
    assert_eq!(
        run(&["set", "greeting", "photos", "--share", "photos"]).code,
        Some(0)
    );
    assert_eq!(run(&["get", "greeting"]).out, "hi");
    assert_eq!(run(&["get", "greeting", "--share", "photos"]).out, "photos");
    assert!(!sandbox.path("mirror/photos").exists());
    server.stop();
}

#[test]
fn a_list_of_many_keys_comes_whole_and_in_order() {
    let sandbox = Sandbox::new();
    let (mut server, address, port) = serve(&sandbox, "");
    let mut client = Client::connect(&port);
    let mut names: Vec<String> = (0..1500)
        .map(|n| format!("list/{}", n * 7919 % 100_000))
        .collect();
    names.push(format!("list/{}", "\u{e9}".repeat(100)));
    let all: String = names
        .iter()
        .map(|name| format!("set {name} 0 0 1 noreply\r\nx\r\n"))
        .collect();
    assert!(client.send(all));
    client.set("other", "x").unwrap();
    let list = sandbox.run(&["kv", "list", "list/", "--server", &address]);
    names.sort();
    let found: Vec<&str> = list.out.lines().collect();
    assert_eq!(found, names, "{}", list.err);
    let json = sandbox
        .run(&["kv", "list", "--json", "--server", &address])
        .out;
    assert_eq!(json.lines().count(), names.len() + 1);
    let last: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["key"], &last["size"]), (&"other".into(), &1.into()));
    server.stop();
}

#[test]
fn a_device_that_may_only_read_changes_nothing() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let set = kv(&sandbox, &address, &["set", "a", "1"], b"").0;
    assert_eq!(set.code, Some(0), "{}", set.err);
    let invite = sandbox.run(&[
        "invite",
        "-d",
        "mirror",
        "--root",
        "--read-only",
        "--name",
        "guest",
    ]);
    let line = invite.out.lines().next().unwrap().to_owned();
    let guest = |arguments: &[&str]| {
        Finished::of(sandbox.syncd_of("guest").args(arguments).output().unwrap())
    };
    let joined = guest(&["join", &line]);
    assert_eq!(joined.code, Some(0), "{}", joined.err);
    assert_eq!(guest(&["kv", "get", "a", "--server", &address]).out, "1");
    assert_eq!(guest(&["kv", "list", "--server", &address]).out, "a\n");
    for change in [&["kv", "set", "a", "2"][..], &["kv", "delete", "a"]] {
        let refused = guest(&[change, &["--server", &address]].concat());
        assert_eq!(refused.code, Some(5), "{}", refused.err);
    }
    let elsewhere = guest(&["kv", "get", "a", "--share", "photos", "--server", &address]);
    assert_eq!(elsewhere.code, Some(5), "{}", elsewhere.err);
    assert_eq!(kv(&sandbox, &address, &["get", "a"], b"").0.out, "1");
    server.stop();
}

#[test]
fn what_was_answered_survives_the_death_of_the_server() {
    let sandbox = Sandbox::new();
    for round in 0..3 {
        let (mut server, _, port) = serve(&sandbox, "");
        let mut first = Client::connect(&port);
        let before: u64 = match first.get("count") {
            Some(text) => String::from_utf8(text).unwrap().trim().parse().unwrap(),
            None => {
                assert_eq!(round, 0, "the count is there");
                first.set("count", "0").unwrap();
                0
            }
        };
        let (answered, counted) = (AtomicU64::new(0), AtomicU64::new(before));
        let mut last = [None; 4];
        thread::scope(|scope| {
            let writers = [0, 1, 2, 3].map(|writer| {
                let (port, answered, counted) = (&port, &answered, &counted);
                scope.spawn(move || {
                    let mut client = Client::connect(port);
                    let mut last = None;
                    for n in 0usize.. {
                        let value = format!("{n}").repeat(1 + n % 9000);
                        if client
                            .set(&format!("{round}-{writer}-{n}"), value)
                            .as_deref()
                            != Some("STORED")
                        {
                            break;
                        }
                        last = Some(n);
                        if !client.send("incr count 1\r\n") {
                            break;
                        }
                        let Some(count) = client.line() else { break };
                        counted.fetch_max(count.parse().unwrap(), Ordering::SeqCst);
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    last
                })
            });
            assert!(wait::until(wait::PATIENCE, || answered
                .load(Ordering::SeqCst)
                > 40));
            server.kill();
            last = writers.map(|writer| writer.join().unwrap());
        });
        let (mut server, _, port) = serve(&sandbox, "");
        let mut client = Client::connect(&port);
        for (writer, last) in last.iter().enumerate() {
            let last = last.expect("it has written");
            for n in 0..=last {
                let value = format!("{n}").repeat(1 + n % 9000);
                let found = client.get(&format!("{round}-{writer}-{n}"));
                assert!(found == Some(value.into_bytes()), "{round}-{writer}-{n}");
            }
        }
        let count = String::from_utf8(client.get("count").unwrap()).unwrap();
        let count: u64 = count.trim().parse().unwrap();
        let counted = counted.load(Ordering::SeqCst);
        // Each writer may have had one count under way.
        assert!(
            (counted..=counted + 4).contains(&count),
            "{count} {counted}"
        );
        server.stop();
    }
}

#[test]
fn a_full_disk_is_said_and_gone_on_after() {
    let sandbox = Sandbox::new();
    let state = sandbox.dir("home/.local/state");
    let path = state.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=12m", "syncd-test", path]) {
        return assert_cannot_mount();
    }
    let _mounted = Mounted(state.clone());
    let (mut server, _, port) = serve(&sandbox, "");
    let mut client = Client::connect(&port);
    let (value, mut stored) = (noise(1, 400_000), Vec::new());
    // Others fill the disk, and leave.
    let (rest, spare) = (state.join("rest"), state.join("spare"));
    fs::write(&rest, vec![0; 6 << 20]).unwrap();
    fs::write(&spare, vec![0; 256 << 10]).unwrap();
    fill(&mut client, &value, &mut stored);
    assert!(stored.len() > 2, "{}", stored.len());
    holds(&mut client, &value, &stored);
    fs::remove_file(&rest).unwrap();
    let before = stored.len();
    fill(&mut client, &value, &mut stored);
    assert!(stored.len() > before + 5, "{} {before}", stored.len());
    // All that was answered is there, and nothing that was refused.
    holds(&mut client, &value, &stored);
    assert_eq!(client.get(&format!("k{}", stored.len())), None);
    // What is removed makes room, without a restart.
    for key in stored.drain(..3) {
        client.says(format!("delete {key}\r\n"), "DELETED\r\n");
    }
    let again = || client.set("again", &value).unwrap() == "STORED";
    assert!(wait::until(wait::PATIENCE, again));
    stored.push("again".to_owned());
    server.kill();
    fs::remove_file(&spare).unwrap();
    let (mut server, _, port) = serve(&sandbox, "");
    holds(&mut Client::connect(&port), &value, &stored);
    server.stop();
}

/// Stores values until the disk is full.
fn fill(client: &mut Client, value: &[u8], stored: &mut Vec<String>) {
    loop {
        let key = format!("k{}", stored.len());
        match client.set(&key, value).unwrap() {
            word if word == "STORED" => stored.push(key),
            word => {
                assert_eq!(word, "SERVER_ERROR out of storage");
                return;
            }
        }
        assert!(stored.len() < 40, "the disk is not that large");
    }
}

fn holds(client: &mut Client, value: &[u8], stored: &[String]) {
    for key in stored {
        assert!(client.get(key).as_deref() == Some(value), "{key}");
    }
}
