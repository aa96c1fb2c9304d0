//! A disk that fails below the keys: nothing that was answered is lost, nothing that was refused is shown, and it goes on.

use crate::support::daemon::Daemon;
use crate::support::failing::Failing;
use crate::support::files::noise;
use crate::support::memcached::{Client, serve, serve_with};
use crate::support::mounted::{Mounted, mount};
use crate::support::sandbox::Sandbox;
use crate::support::wait;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const STORED: &str = "STORED";

/// Keys that were answered, and those that were refused.
#[derive(Default)]
struct Books {
    stored: Vec<(String, Vec<u8>)>,
    refused: Vec<String>,
}

impl Books {
    /// Sets so many keys; how many were stored.
    fn set(&mut self, client: &mut Client, name: &str, count: usize, size: usize) -> usize {
        let before = self.stored.len();
        for number in 0..count {
            let (key, value) = (format!("{name}{number}"), noise(number as u64, size));
            match client.set(&key, &value).unwrap() {
                word if word == STORED => self.stored.push((key, value)),
                word => {
                    assert!(word.starts_with("SERVER_ERROR"), "{word}");
                    self.refused.push(key);
                }
            }
        }
        self.stored.len() - before
    }

    fn check(&self, client: &mut Client) {
        for (key, value) in &self.stored {
            assert!(client.get(key).as_ref() == Some(value), "{key}");
        }
        for key in &self.refused {
            assert_eq!(client.get(key), None, "{key} was refused");
        }
    }
}

#[test]
fn a_disk_that_cannot_be_written_leaves_what_is_stored_to_be_read() {
    let sandbox = Sandbox::new();
    let Some(failing) = Failing::new(&sandbox) else {
        return;
    };
    let preload = |command: &mut Command| failing.below(command, "keys.redb");
    let (mut server, address, port) = serve_with(&sandbox, "", preload);
    let (mut client, mut books) = (Client::connect(&port), Books::default());
    assert_eq!(books.set(&mut client, "a", 5, 3000), 5);
    assert_eq!(books.set(&mut client, "A", 2, 300_000), 2);
    for what in ["w", "s"] {
        failing.fail(what);
        assert_eq!(books.set(&mut client, &format!("{what}b"), 3, 3000), 0);
        assert_eq!(books.set(&mut client, &format!("{what}B"), 1, 300_000), 0);
        books.check(&mut client);
        let status = sandbox.run(&["status", "-d", "mirror"]).out;
        assert!(
            status.contains("nothing can be stored, what is stored can be read"),
            "{status}"
        );
        let over_tls = sandbox.run(&["kv", "get", "A1", "--server", &address]);
        assert_eq!(over_tls.code, Some(0), "{}", over_tls.err);
        // The disk works again, and nobody has to do anything.
        failing.mend();
        let again = || client.set("again", "and again").unwrap() == STORED;
        assert!(wait::until(wait::PATIENCE, again));
        assert_eq!(books.set(&mut client, &format!("{what}c"), 3, 3000), 3);
        books.check(&mut client);
        assert!(
            !sandbox
                .run(&["status", "-d", "mirror"])
                .out
                .contains("stored can")
        );
    }
    server.kill();
    let (mut server, _, port) = serve(&sandbox, "");
    books.check(&mut Client::connect(&port));
    server.stop();
}

#[test]
fn a_change_that_a_failed_sync_has_kept_is_answered_as_it_is() {
    let sandbox = Sandbox::new();
    let Some(failing) = Failing::new(&sandbox) else {
        return;
    };
    let preload = |command: &mut Command| failing.below(command, "keys.redb");
    let (mut server, _, port) = serve_with(&sandbox, "", preload);
    let (mut client, mut books) = (Client::connect(&port), Books::default());
    client.set("count", "0").unwrap();
    for round in 1..=3 {
        // The second sync of a commit is that of the header, which says that it is made.
        failing.fail("2");
        client.says("incr count 1\r\n", format!("{round}\r\n"));
        failing.mend();
        books.set(&mut client, &format!("k{round}"), 3, 3000);
        books.check(&mut client);
    }
    assert!(
        server.err().contains("in spite of an error"),
        "{}",
        server.err()
    );
    server.kill();
    let (mut server, _, port) = serve(&sandbox, "");
    let mut client = Client::connect(&port);
    assert_eq!(client.get("count").as_deref(), Some(&b"3"[..]));
    books.check(&mut client);
    server.stop();
}

#[test]
fn a_disk_that_cannot_be_read_is_said_and_read_again_later() {
    let sandbox = Sandbox::new();
    let Some(failing) = Failing::new(&sandbox) else {
        return;
    };
    let mut books = Books::default();
    let (mut server, _, port) = serve(&sandbox, "");
    books.set(&mut Client::connect(&port), "a", 4, 40_000);
    server.stop();
    let preload = |command: &mut Command| failing.below(command, "keys.redb");
    failing.fail("r");
    let (mut server, _, port) = serve_with(&sandbox, "", preload);
    let mut client = Client::connect(&port);
    let refused = "SERVER_ERROR the keys are unavailable, the server's log says why\r\n";
    client.says("get a0\r\n", refused);
    client.says("set a1 0 0 1\r\nx\r\n", refused);
    failing.mend();
    let again = || client.set("again", "and again").unwrap() == STORED;
    assert!(wait::until(wait::PATIENCE, again));
    books.check(&mut client);
    server.stop();
}

/// A file system of 64 MiB on a device that has 12 MiB: what is written beyond is lost when it is synced.
fn overcommitted(sandbox: &Sandbox, at: &Path) -> Option<(Mounted, Mounted, PathBuf)> {
    let below = sandbox.dir("below");
    if !mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=12m",
        "syncd-test",
        below.to_str()?,
    ]) {
        return None;
    }
    let (below_mounted, image) = (Mounted(below.clone()), below.join("image"));
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mut make = Command::new("/sbin/mkfs.ext4");
    make.args(["-q", "-F", "-O", "^has_journal", "-E", "nodiscard"]);
    let made = make.arg(&image).output();
    let options = "loop,errors=continue";
    if !made.is_ok_and(|run| run.status.success())
        || !mount(&["-o", options, image.to_str()?, at.to_str()?])
    {
        return None;
    }
    Some((Mounted(at.to_owned()), below_mounted, below.join("rest")))
}

#[test]
fn a_device_that_loses_what_it_took_loses_nothing_that_was_answered() {
    let sandbox = Sandbox::new();
    let state = sandbox.dir("home/.local/state");
    let Some((_state, _below, rest)) = overcommitted(&sandbox, &state) else {
        println!("skipped: no file system in a file can be mounted here");
        return;
    };
    let (mut server, _, port) = serve(&sandbox, "");
    let (mut client, mut books) = (Client::connect(&port), Books::default());
    assert_eq!(books.set(&mut client, "a", 5, 3000), 5);
    {
        let mut filling = fs::File::create(&rest).unwrap();
        while std::io::Write::write_all(&mut filling, &[1; 4096]).is_ok() {}
    }
    assert_ne!(books.set(&mut client, "B", 12, 400_000), 12);
    books.check(&mut client);
    fs::remove_file(&rest).unwrap();
    let again = || client.set("again", noise(1, 400_000)).unwrap() == STORED;
    assert!(wait::until(wait::PATIENCE, again));
    assert_eq!(books.set(&mut client, "C", 3, 400_000), 3);
    books.check(&mut client);
    server.kill();
    let (mut server, _, port) = serve(&sandbox, "");
    books.check(&mut Client::connect(&port));
    server.stop();
}

#[test]
fn large_values_that_find_no_room_keep_no_small_one_from_it() {
    let sandbox = Sandbox::new();
    let (mut server, _, port) = full(&sandbox);
    let (refused, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut client = Client::connect(&port);
    thread::scope(|scope| {
        for number in 0..3 {
            let (port, refused, is_over) = (&port, &refused, &is_over);
            scope.spawn(move || {
                let (mut client, value) = (Client::connect(port), noise(number, 9_000_000));
                while !is_over.load(Ordering::SeqCst) {
                    let word = client.set("large", &value).unwrap();
                    assert_eq!(word, "SERVER_ERROR out of storage");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut words = BTreeSet::new();
        let enough = || {
            words.insert(client.set("small", "1").unwrap());
            refused.load(Ordering::SeqCst) >= 12
        };
        let is_enough = wait::until(wait::PATIENCE, enough);
        is_over.store(true, Ordering::SeqCst);
        assert!(is_enough);
        assert_eq!(words, BTreeSet::from([STORED.to_owned()]));
    });
    assert_eq!(client.get("large"), None);
    server.stop();
}

/// A server that may keep 4 MiB on its disk.
fn full(sandbox: &Sandbox) -> (Daemon, String, String) {
    let limited = |command: &mut Command| {
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect();
        let mut shell = Command::new("/bin/sh");
        // Blocks of 512 bytes; a signal of that limit is not to end it.
        shell.args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""]);
        shell
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(environment);
        shell.current_dir(sandbox.root());
        *command = shell;
    };
    serve_with(sandbox, "", limited)
}
