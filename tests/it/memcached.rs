//! The memcached port: the protocol byte by byte, real clients, and what bounds it.

use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::memcached::{Client, serve};
use crate::support::pair::status;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::wait;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";

/// Requests and their answers, one after the other.
const ROWS: &[(&str, &str)] = &[
    ("set a 5 0 3\r\nabc\r\n", "STORED\r\n"),
    ("get a\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n"),
    (
        "get a b a\r\n",
        "VALUE a 5 3\r\nabc\r\nVALUE a 5 3\r\nabc\r\nEND\r\n",
    ),
    ("gets a\r\n", "VALUE a 5 3 1\r\nabc\r\nEND\r\n"),
    ("add a 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("replace b 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("append b 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("append a 9 0 2\r\nde\r\n", "STORED\r\n"),
    ("prepend a 9 0 1\r\n>\r\n", "STORED\r\n"),
    ("get a\r\n", "VALUE a 5 6\r\n>abcde\r\nEND\r\n"),
    ("cas a 1 0 1 1\r\nx\r\n", "EXISTS\r\n"),
    ("cas a 1 0 1 3\r\nx\r\n", "STORED\r\n"),
    ("cas b 0 0 1 3\r\nx\r\n", "NOT_FOUND\r\n"),
    ("delete a\r\n", "DELETED\r\n"),
    ("delete a\r\n", "NOT_FOUND\r\n"),
    ("incr n 1\r\n", "NOT_FOUND\r\n"),
    ("set n 7 0 2\r\n10\r\n", "STORED\r\n"),
    ("decr n 1\r\n", "9\r\n"),
    ("get n\r\n", "VALUE n 7 2\r\n9 \r\nEND\r\n"),
    ("incr n 18446744073709551615\r\n", "8\r\n"),
    ("decr n 100\r\n", "0\r\n"),
    // What came with the end of its line, and what white space parts.
    ("set n 0 0 2\r\n5\n\r\n", "STORED\r\n"),
    ("incr n 1\r\n", "6\r\n"),
    ("set n 0 0 4\r\n 5 6\r\n", "STORED\r\n"),
    ("incr n 2\r\n", "7\r\n"),
    ("set t 0 0 1\r\nx\r\n", "STORED\r\n"),
    (
        "incr t 1\r\n",
        "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    ("touch t 100\r\n", "TOUCHED\r\n"),
    ("touch u 100\r\n", "NOT_FOUND\r\n"),
    ("gat 0 t u\r\n", "VALUE t 0 1\r\nx\r\nEND\r\n"),
    ("gat -1 t\r\n", "VALUE t 0 1\r\nx\r\nEND\r\n"),
    ("get t\r\n", "END\r\n"),
    ("set e 0 -1 1\r\nx\r\n", "STORED\r\n"),
    ("get e\r\n", "END\r\n"),
    ("set e 0 2592001 1\r\nx\r\n", "STORED\r\n"),
    ("get e\r\n", "END\r\n"),
    // The short form.
    ("set s 3\r\nabc\r\n", "STORED\r\n"),
    ("get s\r\n", "VALUE s 0 3\r\nabc\r\nEND\r\n"),
    (
        "set s 0 0 1 noreply\r\nq\r\nget s\r\n",
        "VALUE s 0 1\r\nq\r\nEND\r\n",
    ),
    (
        "set s 0 0 3\r\nabcdef\r\n",
        "CLIENT_ERROR bad data chunk\r\nERROR\r\n",
    ),
    ("bogus\r\n", "ERROR\r\n"),
    ("verbosity 1\r\n", "OK\r\n"),
    ("stats items\r\n", "END\r\n"),
    ("stats reset\r\n", "RESET\r\n"),
    ("flush_all 100\r\n", "OK\r\n"),
    ("get s\r\n", "VALUE s 0 1\r\nq\r\nEND\r\n"),
    ("flush_all\r\n", "OK\r\n"),
    ("get s n\r\n", "END\r\n"),
];

#[test]
fn commands_are_answered_as_memcached_answers_them() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "max_value = \"1 MiB\"");
    let mut client = Client::connect(&port);
    for (request, expected) in ROWS {
        client.says(request, expected);
    }
    // Many at once, answered in their order.
    let all: String = ROWS.iter().skip(19).take(12).map(|row| row.0).collect();
    assert!(client.send(all));
    for (_, expected) in ROWS.iter().skip(19).take(2) {
        let text = String::from_utf8(client.receive("NOT_FOUND\r\n".len()).unwrap());
        assert_eq!(text.unwrap(), "NOT_FOUND\r\n", "{expected}");
    }
    client.says("", "STORED\r\n");
    let mut other = Client::connect(&port);
    other.says("quit\r\n", "");
    assert!(other.ends());
    server.stop();
}

#[test]
fn what_browsers_and_binary_clients_send_changes_nothing_and_ends_the_connection() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "");
    let command = "set evil 0 0 1\r\nx\r\n";
    let long = "p".repeat(5000);
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("POST /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        "\r\nPUT / HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        let mut page = Client::connect(&port);
        page.send(format!("{head}{command}"));
        while page.receive(1).is_some() {}
    }
    let mut binary = Client::connect(&port);
    assert!(binary.send([&[0x80, 0x0a][..], &[0; 22]].concat()));
    assert!(binary.ends());
    // Commands are not what they merely look like.
    let mut client = Client::connect(&port);
    client.says("POST\r\nGET\r\n", "ERROR\r\nERROR\r\n");
    assert_eq!(client.get("evil"), None);
    server.stop();
}

#[test]
fn values_of_any_size_return_and_too_large_ones_are_skipped() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "max_value = \"2 MiB\"");
    let mut client = Client::connect(&port);
    for size in [0, 1, 16_384, 16_385, 300_000, 2 << 20] {
        let value = noise(size as u64, size);
        assert_eq!(client.set("v", &value).as_deref(), Some("STORED"), "{size}");
        assert!(client.get("v") == Some(value), "{size}");
    }
    let large = format!(
        "set v 0 0 {}\r\n{}\r\n",
        (2 << 20) + 1,
        "x".repeat((2 << 20) + 1)
    );
    client.says(
        format!("{large}version\r\n"),
        format!("{TOO_LARGE}VERSION "),
    );
    drop(client.line());
    assert_eq!(
        client.get("v").unwrap().len(),
        2 << 20,
        "the old value stays"
    );
    client.says("append v 0 0 1\r\nx\r\n", TOO_LARGE);
    let keys: Vec<String> = (0..5000).map(|n| format!("some-key-{n}")).collect();
    client.set("some-key-4321", "here").unwrap();
    client.says(
        format!("get {}\r\n", keys.join(" ")),
        "VALUE some-key-4321 0 4\r\nhere\r\nEND\r\n",
    );
    server.stop();
}

#[test]
fn a_value_ends_when_it_should_and_a_restart_changes_nothing() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "share = \"photos\"");
    let mut client = Client::connect(&port);
    client.says("set soon 0 1 1\r\nx\r\n", "STORED\r\n");
    client.says("set later 0 1000 1\r\ny\r\n", "STORED\r\n");
    assert!(client.get("soon").is_some());
    assert!(wait::until(wait::PATIENCE, || client.get("soon").is_none()));
    let keys = || status(&sandbox, "mirror")["keys"].clone();
    assert!(wait::until(wait::PATIENCE, || keys()["keys"] == 1), "swept");
    let kept = keys();
    assert_eq!(
        (&kept["sets"], &kept["memcached"]),
        (&2.into(), &port.into())
    );
    assert!(kept["hits"].as_u64() >= Some(1) && kept["gets"].as_u64() > kept["hits"].as_u64());
    let text = sandbox.run(&["status", "-d", "mirror"]).out;
    assert!(text.contains("memcached listening on 127.0.0.1:"), "{text}");
    // An open connection does not hold the end up.
    server.stop();
    assert!(client.ends());
    let (_server, address, port) = serve(&sandbox, "share = \"photos\"");
    assert_eq!(Client::connect(&port).get("later").unwrap(), b"y");
    // It is the key of the share, and of no other.
    let get = |share: &[&str]| {
        let arguments = ["kv", "get", "later", "--server", &address];
        sandbox.run(&[&arguments, share].concat())
    };
    assert_eq!(get(&["--share", "photos"]).out, "y");
    assert_eq!(get(&[]).code, Some(3));
}

#[test]
fn strangers_who_connect_are_bounded_and_other_machines_are_kept_out() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "max_connections = 2");
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&port)).collect();
    for client in &mut clients {
        client.says("verbosity 1\r\n", "OK\r\n");
    }
    let mut third = Client::connect(&port);
    assert_eq!(
        third.line().as_deref(),
        Some("ERROR Too many open connections")
    );
    assert!(third.ends());
    drop(clients.pop());
    let again = || Client::connect(&port).set("a", "b").as_deref() == Some("STORED");
    assert!(wait::until(wait::PATIENCE, again));
    server.stop();
    let settings = sandbox.path("open.toml");
    let start = |text: &str| {
        fs::write(
            &settings,
            format!("[kv]\nmemcached = \"0.0.0.0:0\"\n{text}"),
        )
        .unwrap();
        let mut command = sandbox.syncd();
        command.args([
            "server",
            "-d",
            "mirror",
            "--listen",
            "127.0.0.1:0",
            "-c",
            "open.toml",
        ]);
        command
    };
    let refused = Finished::of(start("").output().unwrap());
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(
        refused.err.contains("allow_insecure = true"),
        "{}",
        refused.err
    );
    let mut open = start("allow_insecure = true\n");
    let (mut server, _) = Daemon::server_with(&sandbox, "open", &mut open);
    assert!(server.out().starts_with("memcached listening on 0.0.0.0:"));
    assert!(
        server.err().contains("neither passwords nor encryption"),
        "{}",
        server.err()
    );
    server.stop();
}

/// Whether a program can be run; says so when not.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn is_there(program: &str, arguments: &[&str]) -> bool {
    let there = Command::new(program).args(arguments).output();
    let there = there.is_ok_and(|run| run.status.success());
    if !there {
        println!(
            "skipped: `{program} {}` does not run here",
            arguments.join(" ")
        );
    }
    there
}

#[test]
fn pymemcache_works() {
    if !is_there("python3", &["-c", "import pymemcache"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (_server, _, port) = serve(&sandbox, "");
    let script = r#"
import sys
from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheServerError, MemcacheIllegalInputError
c = Client(sys.argv[1], default_noreply=False, timeout=20)
assert c.set("a", b"1", flags=3) and c.get("a") == b"1"
assert c.add("a", b"2") is False and c.add("b", b"2") is True
assert c.replace("a", b"5") is True and c.replace("zz", b"5") is False
assert c.incr("a", 2) == 7 and c.decr("a", 100) == 0 and c.incr("zz", 1) is None
assert c.append("b", b"3") and c.prepend("b", b"1") and c.get("b") == b"123"
value, unique = c.gets("b")
assert c.cas("b", b"new", unique) is True
assert c.cas("b", b"newer", unique) is False
assert c.cas("zz", b"newer", unique) is None
assert c.set_many({"k%d" % n: b"v%d" % n for n in range(300)}) == []
assert c.get_many(["k%d" % n for n in range(400)]) == {"k%d" % n: b"v%d" % n for n in range(300)}
assert c.touch("a", 100) is True and c.touch("zz", 100) is False
assert c.delete("a") is True and c.delete("a") is False
assert c.delete_many(["k%d" % n for n in range(300)])
big = bytes(range(256)) * 4096
assert c.set("big", big) and c.get("big") == big
assert c.set("gone", b"x", expire=-1) and c.get("gone") is None
c.set("quiet", b"x", noreply=True)
assert c.get("quiet") == b"x"
assert int(c.stats()[b"curr_items"]) >= 1 and c.version().startswith(b"1.6.0-syncd")
try:
    c.set("k" * 251, b"x")
    raise SystemExit("a key was too long")
except MemcacheIllegalInputError:
    pass
try:
    c.set("toobig", b"x" * (17 << 20))
    raise SystemExit("a value was too large")
except MemcacheServerError as error:
    assert "too large" in str(error), error
assert c.get("b") == b"new"
assert c.flush_all() is True and c.get("b") is None
pool = PooledClient(sys.argv[1], max_pool_size=4)
pool.set("p", b"1"); assert pool.get("p") == b"1"
c.quit()
print("done")
"#;
    let run = Command::new("python3").args(["-c", script, &port]).output();
    let run = Finished::of(run.unwrap());
    assert_eq!(run.out, "done\n", "{}", run.err);
}

#[test]
fn the_tools_of_libmemcached_work() {
    if !Path::new("/usr/bin/memccat").exists() {
        println!("skipped: libmemcached-tools are not installed here");
        return;
    }
    let sandbox = Sandbox::new();
    let (_server, _, port) = serve(&sandbox, "");
    let value = "lines\nof text\n".repeat(500);
    fs::write(sandbox.path("notes"), &value).unwrap();
    let servers = format!("--servers={port}");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(format!("/usr/bin/{program}"));
        command
            .arg(&servers)
            .args(arguments)
            .current_dir(sandbox.root());
        Finished::of(command.output().unwrap())
    };
    let stored = run("memccp", &["notes"]);
    assert_eq!(stored.code, Some(0), "{}", stored.err);
    assert_eq!(run("memccat", &["notes"]).out.trim_end(), value.trim_end());
    assert_eq!(run("memcexist", &["notes"]).code, Some(0));
    assert_eq!(run("memctouch", &["--expire=100", "notes"]).code, Some(0));
    assert_eq!(run("memcrm", &["notes"]).code, Some(0));
    assert_ne!(run("memcexist", &["notes"]).code, Some(0));
    let stat = run("memcstat", &[]);
    assert!(stat.out.contains("curr_items"), "{} {}", stat.out, stat.err);
    assert_eq!(run("memcping", &[]).code, Some(0));
    assert_eq!(run("memcflush", &[]).code, Some(0));
}

#[test]
fn a_client_that_sends_garbage_or_nothing_disturbs_nobody() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = serve(&sandbox, "");
    let mut quiet: Vec<Client> = (0..50).map(|_| Client::connect(&port)).collect();
    let mut half = Client::connect(&port);
    assert!(half.send("set half 0 0 5000000\r\nand no more"));
    let mut garbage = Client::connect(&port);
    // The other end may have given up before all is sent.
    let _taken = garbage.send(noise(7, 2 << 20));
    let mut client = Client::connect(&port);
    assert_eq!(client.set("a", "1").as_deref(), Some("STORED"));
    assert_eq!(client.get("half"), None);
    quiet[49].says("get a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n");
    let stopped = std::time::Instant::now();
    server.stop();
    assert!(stopped.elapsed() < Duration::from_secs(10));
}
