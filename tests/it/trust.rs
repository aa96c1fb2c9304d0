//! Trust between machines: one home has the server, another joins it, uses it, is limited, revoked and renewed.

use crate::support::daemon::Daemon;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{files, tree, wait};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};
use syncd::wire::Invite;

/// A server in one home; whoever comes is of another.
struct Host {
    sandbox: Sandbox,
    server: Daemon,
    address: String,
}

impl Host {
    fn new() -> Self {
        Self::with("")
    }

    /// With settings.
    fn with(settings: &str) -> Self {
        let sandbox = Sandbox::new();
        fs::write(sandbox.path("server.toml"), settings).unwrap();
        let (server, address) = start(&sandbox, &unshared());
        Self {
            sandbox,
            server,
            address,
        }
    }

    /// A command of the server's home, which must succeed: its standard output.
    fn here(&self, arguments: &[&str]) -> String {
        let run = self.sandbox.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        run.out
    }

    /// An invite: one line.
    fn invite(&self, arguments: &[&str]) -> String {
        let out = self.here(&[&["invite"], arguments].concat());
        assert_eq!(out.lines().count(), 1, "{out}");
        out.trim_end().to_owned()
    }

    /// A command of another home.
    fn away(&self, home: &str, arguments: &[&str]) -> Finished {
        Finished::of(self.away_command(home, arguments).output().unwrap())
    }

    fn away_command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.syncd_of(home);
        command.args(arguments);
        command
    }

    /// Another home joins by an invite.
    fn join(&self, home: &str, arguments: &[&str]) -> Finished {
        let invite = self.invite(arguments);
        let run = self.away(home, &["join", &invite, "--name", home]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        run
    }

    fn clients(&self) -> Vec<Value> {
        serde_json::from_str(&self.here(&["clients", "--json"])).unwrap()
    }

    fn client(&self, name: &str) -> Value {
        let clients = self.clients();
        let found = clients.into_iter().find(|client| client["name"] == name);
        found.unwrap_or_else(|| panic!("no client `{name}`"))
    }

    fn is_connected(&self, name: &str) -> bool {
        !self.client(name)["connections"]
            .as_array()
            .unwrap()
            .is_empty()
    }

    fn live(&self, home: &str, directory: &str) -> Daemon {
        let mut command = self.away_command(home, &["client", "-d", directory]);
        Daemon::start(&self.sandbox, home, &mut command)
    }
}

/// Where nobody else listens, whatever the port: a server that ended is not taken for another one there, and can come back.
fn unshared() -> String {
    static HOSTS: AtomicU8 = AtomicU8::new(0);
    let host = 64 + HOSTS.fetch_add(1, Ordering::Relaxed) % 128;
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{host}.{high}.{low}:0")
}

fn start(sandbox: &Sandbox, address: &str) -> (Daemon, String) {
    let mut command = sandbox.syncd();
    command.args([
        "server",
        "-d",
        "mirror",
        "-c",
        "server.toml",
        "--listen",
        address,
    ]);
    Daemon::server_with(sandbox, "server", &mut command)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The texts of all files below a directory.
fn texts(directory: &Path) -> String {
    let mut all = String::new();
    for (_, entry) in tree::snapshot(directory) {
        if let tree::Content::File(bytes) = entry.content {
            all += &String::from_utf8_lossy(&bytes);
        }
    }
    all
}

#[test]
fn a_line_is_all_that_another_home_needs() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    files::write(&source, "a/b", "hello");
    let joined = host.join("laptop", &[]);
    assert!(
        joined.out.contains("`syncd client -d DIR`"),
        "{}",
        joined.out
    );
    let run = host.away("laptop", &["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let share = host.sandbox.path("mirror/laptop");
    assert!(tree::differences(&source, &share).is_empty());
    // The same with the address, and with the share.
    for arguments in [
        &["--server", &host.address][..],
        &["--share", "laptop"],
        &["--server", &host.address, "--share", "laptop"],
    ] {
        let run = host.away(
            "laptop",
            &[&["client", "-d", "source", "--once"], arguments].concat(),
        );
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
    }
    // The key has not left its home, and nobody else may read it.
    let own = texts(&host.sandbox.path("laptop"));
    let key = own.split("-----BEGIN PRIVATE KEY-----\n").nth(1).unwrap();
    let key = key.split("-----END").next().unwrap();
    assert!(!texts(&host.sandbox.path("home")).contains(key));
    let client = host.client("laptop");
    assert_eq!(client["shares"][0]["share"], "laptop");
    assert_eq!(client["shares"][0]["access"], "write");
    assert_eq!(
        (&client["local"], &client["revoked"]),
        (&false.into(), &false.into())
    );
    assert!(client["certificate_until"].as_u64() > client["enrolled_at"].as_u64());
}

#[test]
fn an_invite_that_is_not_good_says_why() {
    let mut host = Host::new();
    let expect = |run: Finished, code: i32, text: &str| {
        assert_eq!(run.code, Some(code), "{text}: {}", run.err);
        assert!(run.err.contains(text), "{text}: {}", run.err);
        assert!(run.err.contains("hint: "), "{}", run.err);
        assert_eq!(run.out, "");
    };
    let invite = host.invite(&["--share", "photos"]);
    assert_eq!(host.away("one", &["join", &invite]).code, Some(0));
    expect(host.away("one", &["join", &invite]), 5, "used");
    expect(host.away("two", &["join", &invite]), 5, "used already");
    expect(host.away("two", &["join", "syncd-invite-x"]), 2, "damaged");
    expect(host.away("two", &["join", &invite[..80]]), 2, "damaged");
    expect(host.away("two", &["join", "hello"]), 2, "no invite");
    let brief = host.invite(&["--expires", "1s"]);
    let ends = brief.parse::<Invite>().unwrap().expires;
    assert!(wait::until(wait::PATIENCE, || now() > ends));
    expect(
        host.away("two", &["join", &brief]),
        5,
        "the invite has expired",
    );
    let sent_astray = host.invite(&[]);
    let revoke = |host: &Host| host.sandbox.run(&["revoke", "--invites"]).out;
    assert_eq!(revoke(&host), "withdrew 1 invite\n");
    assert_eq!(
        revoke(&host),
        "there was no invite that could still be used\n"
    );
    expect(host.away("two", &["join", &sent_astray]), 5, "withdrawn");
    // An invite outlives its server, but not a server that was made anew at the same address.
    let (kept, lost) = (host.invite(&[]), host.invite(&[]));
    host.server.stop();
    expect(host.away("two", &["join", &kept]), 4, "cannot reach");
    host.server = start(&host.sandbox, &host.address).0;
    assert_eq!(host.away("two", &["join", &kept]).code, Some(0));
    host.server.stop();
    fs::remove_dir_all(host.sandbox.path("home")).unwrap();
    host.server = start(&host.sandbox, &host.address).0;
    expect(host.away("four", &["join", &lost]), 5, "another authority");
    assert!(host.clients().is_empty());
}

#[test]
fn what_an_invite_grants_is_all_that_its_device_may() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    files::write(&source, "f", "1");
    host.join("writer", &["--share", "photos"]);
    let read_only = host.join("reader", &["--share", "photos", "--read-only"]);
    assert!(read_only.out.contains("may read"), "{}", read_only.out);
    let once = |home: &str, arguments: &[&str]| {
        let all = [&["client", "-d", "source", "--once"], arguments].concat();
        host.away(home, &all)
    };
    let run = once("writer", &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    for (home, arguments, text) in [
        ("reader", &[][..], "may only read the share `photos`"),
        (
            "reader",
            &["--take-over"],
            "may only read the share `photos`",
        ),
        (
            "reader",
            &["--share", "music"],
            "may not use the share `music`",
        ),
        (
            "writer",
            &["--share", "music"],
            "but write the share `photos`",
        ),
    ] {
        let run = once(home, arguments);
        assert_eq!(run.code, Some(5), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(text), "{}", run.err);
        assert!(run.err.contains("syncd invite"), "{}", run.err);
    }
    assert!(!host.sandbox.path("mirror/music").exists());
    // The directory holds named shares: nobody can be invited to it as one.
    let run = host.sandbox.run(&["invite", "--root"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("--share NAME"), "{}", run.err);
    // Joining again adds rights to those that are there.
    let more = host.invite(&["--share", "music"]);
    assert_eq!(host.away("writer", &["join", &more]).code, Some(0));
    let run = once("writer", &[]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("photos, music"), "{}", run.err);
    for share in ["music", "photos"] {
        let run = once("writer", &["--share", share]);
        assert_eq!(run.code, Some(0), "{share}: {}", run.err);
    }
}

#[test]
fn a_name_that_a_device_brings_opens_no_share_that_is_there() {
    let host = Host::new();
    fs::create_dir(host.sandbox.path("mirror/photos")).unwrap();
    let run = host.join("photos", &[]);
    assert!(run.out.contains("share `photos-2`"), "{}", run.out);
    // The owner may say so.
    let invite = host.invite(&["--name", "photos"]);
    let run = host.away("other", &["join", &invite]);
    assert!(run.out.contains("share `photos`"), "{}", run.out);
}

#[test]
fn a_root_invite_is_for_the_directory_itself() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    files::write(&source, "f", "1");
    host.join("laptop", &["--root"]);
    let run = host.away("laptop", &["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(tree::differences(&source, &host.sandbox.path("mirror")).is_empty());
    let run = host.sandbox.run(&["invite"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("--root"), "{}", run.err);
}

#[test]
fn a_revoked_device_is_cut_in_the_middle_of_an_upload_and_stays_out() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    host.join("laptop", &[]);
    // Sparse, so that it is there at once and takes long to send.
    let large = fs::File::create(source.join("large")).unwrap();
    large.set_len(8 << 30).unwrap();
    let mut client = host.live("laptop", "source");
    let sending = || {
        let run = host.away("laptop", &["status", "--json", "-d", "source"]);
        let status: Value = serde_json::from_str(&run.out).unwrap_or_default();
        status[0]["servers"][0]["sent_bytes"].as_u64() > Some(1 << 20)
    };
    assert!(wait::until(wait::PATIENCE, sending), "{}", client.err());
    assert!(host.is_connected("laptop"));
    let address = host.client("laptop")["connections"][0]["address"].clone();
    assert!(address.as_str().unwrap().starts_with("127.0.0.1:"));
    host.here(&["revoke", "laptop"]);
    let revoked = Instant::now();
    assert!(wait::until(wait::PATIENCE, || !host.is_connected("laptop")));
    // The promise is a second; the machine may be loaded.
    assert!(
        revoked.elapsed() < Duration::from_secs(3),
        "{:?}",
        revoked.elapsed()
    );
    assert_eq!(
        client.end(wait::PATIENCE).code(),
        Some(5),
        "{}",
        client.err()
    );
    assert!(client.err().contains("revoked"), "{}", client.err());
    assert!(client.err().contains("syncd invite"), "{}", client.err());
    assert!(!host.sandbox.path("mirror/laptop/large").exists());
    let run = host.away("laptop", &["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(5), "{}", run.err);
    assert!(run.err.contains("syncd join"), "{}", run.err);
    assert_eq!(host.client("laptop")["revoked"], true);
    // A new invite brings the home back, with another key.
    fs::remove_file(source.join("large")).unwrap();
    let again = host.invite(&["--share", "laptop"]);
    let run = host.away("laptop", &["join", &again]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let run = host.away(
        "laptop",
        &["client", "-d", "source", "--once", "--take-over"],
    );
    assert_eq!(run.code, Some(0), "{}", run.err);
    let run = host.sandbox.run(&["revoke", "nobody"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("syncd clients"), "{}", run.err);
}

#[test]
fn a_revoked_home_of_the_same_user_stays_out_until_the_next_invite() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    files::write(&source, "f", "1");
    let once = |arguments: &[&str]| {
        let start = [
            "client",
            "-d",
            "source",
            "--once",
            "--server",
            &host.address,
        ];
        host.sandbox.run(&[&start, arguments].concat())
    };
    assert_eq!(once(&[]).code, Some(0));
    let invites = host.sandbox.path("home/.local/share/syncd/servers");
    assert!(texts(&invites).contains("secret"));
    let name = host.clients()[0]["name"].as_str().unwrap().to_owned();
    host.here(&["revoke", &name]);
    let run = once(&[]);
    assert_eq!(run.code, Some(5), "{}", run.err);
    // A new key is no way around it: the local invite is gone.
    assert!(!texts(&invites).contains("secret"));
    let invited = host.sandbox.run(&["invite", "--root"]);
    assert_eq!(invited.code, Some(0), "{}", invited.err);
    assert!(invited.err.contains("again"), "{}", invited.err);
    let run = once(&["--take-over"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(host.clients().len(), 2);
}

#[test]
fn certificates_renew_themselves_while_the_connection_lasts() {
    let settings = "[tls]\ndevice_lifetime = \"3s\"\nserver_lifetime = \"3s\"\n";
    let host = Host::with(settings);
    host.sandbox.dir("source");
    host.join("laptop", &[]);
    let joined = host.client("laptop")["certificate_until"].as_u64().unwrap();
    let mut client = host.live("laptop", "source");
    let renewed = wait::until(wait::PATIENCE, || client.err().contains("renewed"));
    assert!(renewed, "{}", client.err());
    assert!(wait::until(wait::PATIENCE, || now() > joined));
    let there = host.client("laptop");
    assert!(
        there["certificate_until"].as_u64().unwrap() > joined,
        "{there}"
    );
    // It is still the first connection.
    let since = there["connections"][0]["since_ms"].as_u64().unwrap();
    assert!(since > 1500, "{there}");
    client.stop();
    // Both first certificates have ended by now.
    let run = host.away("laptop", &["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    // Away for longer than its certificate is good: it has to join again.
    let ends = host.client("laptop")["certificate_until"].as_u64().unwrap();
    assert!(wait::until(wait::PATIENCE, || now() > ends));
    let mut late = host.live("laptop", "source");
    let told = wait::until(wait::PATIENCE, || late.err().contains("expired"));
    assert!(told, "{}", late.err());
    assert!(late.err().contains("syncd join"), "{}", late.err());
    late.kill();
}

#[test]
fn bits_that_let_programs_run_as_others_are_listed_when_they_are_not_kept() {
    let mut host = Host::new();
    let source = host.sandbox.dir("source");
    let mirrored = host.sandbox.path("mirror/laptop");
    for (name, length) in [("su", 10), ("large", 300_000), ("plain", 10)] {
        files::write(&source, name, files::noise(1, length));
    }
    fs::create_dir(source.join("shared")).unwrap();
    let all = [
        ("su", 0o4755),
        ("large", 0o6711),
        ("shared", 0o2775),
        ("plain", 0o755),
    ];
    for (name, mode) in all {
        files::chmod(&source.join(name), mode);
    }
    host.join("laptop", &[]);
    let mode = |name: &str| fs::metadata(mirrored.join(name)).unwrap().mode() & 0o7777;
    // Twice: nothing is sent again for what cannot be kept.
    for _ in 0..2 {
        let run = host.away("laptop", &["client", "-d", "source", "--once"]);
        assert_eq!(run.code, Some(3), "{}", run.err);
        assert!(run.err.contains("3 paths"), "{}", run.err);
        assert!(run.err.contains("allow_setid"), "{}", run.err);
        for (name, expected) in all {
            assert_eq!(
                run.err.contains(&format!("`{name}`")),
                name != "plain",
                "{}",
                run.err
            );
            assert_eq!(mode(name), expected & 0o1777, "{name}");
        }
    }
    host.server.stop();
    fs::write(host.sandbox.path("server.toml"), "allow_setid = true\n").unwrap();
    host.server = start(&host.sandbox, &host.address).0;
    let run = host.away("laptop", &["client", "-d", "source", "--once"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    for (name, expected) in all {
        assert_eq!(mode(name), expected, "{name}");
    }
}

#[test]
fn a_server_says_how_to_be_reached_and_which_one_is_meant() {
    let host = Host::new();
    let run = host.sandbox.run(&["invite"]);
    assert!(run.err.contains("--listen 0.0.0.0:7440"), "{}", run.err);
    let run = host
        .sandbox
        .run(&["invite", "--address", "backup.example:7440"]);
    assert!(!run.err.contains("--listen"), "{}", run.err);
    assert!(run.err.contains("backup.example:7440"), "{}", run.err);
    let (_other, _) = Daemon::server_with(
        &host.sandbox,
        "other",
        host.sandbox
            .syncd()
            .args(["server", "-d", "other", "--listen", "0.0.0.0:0"]),
    );
    for command in [&["invite"][..], &["clients"], &["revoke", "x"]] {
        let run = host.sandbox.run(command);
        assert_eq!(run.code, Some(2), "{command:?}: {}", run.err);
        assert!(run.err.contains("-d DIR"), "{}", run.err);
    }
    let run = host.sandbox.run(&["invite", "-d", "other"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.err.contains("--listen"), "{}", run.err);
    let nobody = Sandbox::new();
    for command in [&["invite"][..], &["clients"], &["revoke", "x"]] {
        let run = nobody.run(command);
        assert_eq!(run.code, Some(4), "{command:?}: {}", run.err);
        assert!(run.err.contains("syncd server -d DIR"), "{}", run.err);
    }
}

#[test]
fn rights_that_are_taken_away_hold_for_a_connection_that_is_open() {
    let host = Host::new();
    let source = host.sandbox.dir("source");
    files::write(&source, "f", "1");
    host.join("laptop", &["--share", "photos"]);
    let mut client = host.live("laptop", "source");
    let mirrored = host.sandbox.path("mirror/photos");
    let arrived = || mirrored.join("f").exists();
    assert!(wait::until(wait::PATIENCE, arrived), "{}", client.err());
    host.join("laptop", &["--share", "photos", "--read-only"]);
    assert_eq!(host.client("laptop")["shares"][0]["access"], "read");
    files::write(&source, "g", "2");
    let code = client.end(wait::PATIENCE).code();
    assert_eq!(code, Some(5), "{}", client.err());
    let said = "may not write the share `photos`";
    assert!(client.err().contains(said), "{}", client.err());
    assert!(!mirrored.join("g").exists());
    assert!(arrived());
}

#[test]
fn a_server_that_starts_again_at_another_address_of_its_invite_is_found_there() {
    let mut host = Host::new();
    let here = host.address.clone();
    host.server.stop();
    let (server, elsewhere) = start(&host.sandbox, &unshared());
    host.server = server;
    let source = host.sandbox.dir("source");
    let mirror = host.sandbox.path("mirror");
    host.join(
        "laptop",
        &["--root", "--address", &here, "--address", &elsewhere],
    );
    let mut client = host.live("laptop", "source");
    for (round, address) in [&here, &elsewhere, &here].into_iter().enumerate() {
        files::write(&source, "file", format!("before {round}"));
        tree::assert_converges(&source, &mirror);
        if round == 1 {
            host.server.stop();
        } else {
            host.server.kill();
        }
        files::write(&source, "file", format!("after {round}"));
        host.server = start(&host.sandbox, address).0;
        tree::assert_converges(&source, &mirror);
    }
    client.stop();
}

#[test]
fn an_invite_is_read_from_standard_input_too() {
    let host = Host::new();
    let invite = host.invite(&[]);
    let path = host.sandbox.path("line");
    fs::write(&path, format!("{invite}\n")).unwrap();
    let mut command = host.away_command("laptop", &["join", "-"]);
    command.stdin(fs::File::open(&path).unwrap());
    let run = Finished::of(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let run = host.away("laptop", &["join", "-"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
}
