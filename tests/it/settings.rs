//! What each setting does, with real processes. That all are listed and read is tested in `config.rs`.

use crate::support::daemon::Daemon;
use crate::support::files::{noise, set_mtime, write};
use crate::support::pair::{Pair, once, status};
use crate::support::raw::Raw;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{tree, wait};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};
use syncd::wire::{Code, Request, Response};

/// A sandbox with settings.
fn with(server: &str, client: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    write(sandbox.root(), "server.toml", server);
    write(sandbox.root(), "client.toml", client);
    sandbox
}

fn server_with(sandbox: &Sandbox, settings: &str) -> (Daemon, String) {
    write(sandbox.root(), "server.toml", settings);
    let mut command = sandbox.syncd();
    command.args(["server", "-d", "mirror", "-c", "server.toml"]);
    command.args(["--listen", "127.0.0.1:0"]);
    Daemon::server_with(sandbox, "server", &mut command)
}

#[test]
fn the_address_is_that_of_the_file_the_environment_or_the_arguments() {
    let sandbox = with("listen = \"127.0.0.2:0\"\n", "");
    let listens = |environment: Option<&str>, argument: Option<&str>| {
        let mut command = sandbox.syncd();
        command.args(["server", "-d", "mirror", "-c", "server.toml"]);
        command.envs(environment.map(|address| ("SYNCD_LISTEN", address)));
        if let Some(address) = argument {
            command.args(["--listen", address]);
        }
        let (mut server, address) = Daemon::server_with(&sandbox, "server", &mut command);
        server.stop();
        address.rsplit_once(':').unwrap().0.to_owned()
    };
    let (environment, argument) = (Some("127.0.0.3:0"), Some("127.0.0.4:0"));
    assert_eq!(listens(None, None), "127.0.0.2");
    assert_eq!(listens(environment, None), "127.0.0.3");
    assert_eq!(listens(environment, argument), "127.0.0.4");
}

#[test]
fn server_and_share_are_those_of_the_file_the_environment_or_the_arguments() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let settings = format!("servers = [\"{address}\"]\nshare = \"from-file\"\n");
    write(sandbox.root(), "client.toml", settings);
    let source = sandbox.dir("source");
    write(&source, "f", "f");
    let lands = |environment: Option<&str>, arguments: &[&str], expected: &str| {
        let mut command = sandbox.syncd();
        command.args(["client", "--once", "-d", "source", "-c", "client.toml"]);
        command.envs(environment.map(|share| ("SYNCD_SHARE", share)));
        let run = Finished::of(command.args(arguments).output().unwrap());
        assert_eq!(run.code, Some(0), "{}", run.err);
        let there = sandbox.path("mirror").join(expected);
        assert_eq!(tree::differences(&source, &there), [""; 0]);
    };
    lands(None, &[], "from-file");
    lands(Some("from-environment"), &[], "from-environment");
    lands(
        Some("ignored"),
        &["--share", "from-argument"],
        "from-argument",
    );
    // Of servers, too: nobody listens at the file's any more.
    let (mut other, gone) = Daemon::server(&sandbox, &sandbox.dir("other"));
    other.stop();
    let settings = format!("servers = [\"{gone}\"]\nshare = \"s\"\n");
    write(sandbox.root(), "client.toml", settings);
    lands(None, &["--server", &address], "s");
    let mut command = sandbox.syncd();
    command.args(["client", "--once", "-d", "source", "-c", "client.toml"]);
    let run = Finished::of(command.env("SYNCD_SERVER", &address).output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    server.stop();
}

#[test]
fn a_client_too_many_is_told_and_served_when_there_is_a_place() {
    let sandbox = Sandbox::new();
    let (mut server, address) = server_with(&sandbox, "[limits]\nmax_clients = 1\n");
    let client = |name: &str| {
        write(&sandbox.dir(name), "f", name);
        let mut command = sandbox.syncd();
        command.args(["client", "-d", name, "--share", name, "--server", &address]);
        Daemon::start(&sandbox, name, &mut command)
    };
    let mut first = client("first");
    let mirror = |name: &str| sandbox.path("mirror").join(name);
    tree::assert_converges(&sandbox.path("first"), &mirror("first"));
    let mut second = client("second");
    let told = || {
        second
            .err()
            .contains("the server has as many clients as it may have")
    };
    assert!(wait::until(wait::PATIENCE, told), "{}", second.err());
    let peer = status(&sandbox, "second");
    let error = peer["servers"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("as many clients"), "{error}");
    assert!(!mirror("second").exists());
    first.stop();
    tree::assert_converges(&sandbox.path("second"), &mirror("second"));
    second.stop();
    server.stop();
}

#[test]
fn the_oldest_stranger_too_many_gives_way() {
    let sandbox = Sandbox::new();
    let (mut server, address) = server_with(&sandbox, "[limits]\nmax_unauthenticated = 2\n");
    let mut strangers: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    for stranger in &mut strangers[..3] {
        stranger.set_read_timeout(Some(wait::PATIENCE / 4)).unwrap();
        // An end, or a reset: not a wait for the deadline of the handshake.
        let gone = match stranger.read(&mut [0; 1]) {
            Ok(0) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            Ok(_) => false,
        };
        assert!(gone);
    }
    // The youngest two keep nobody out.
    let source = sandbox.dir("source");
    write(&source, "f", "f");
    assert_eq!(once(&sandbox, &source, &address, &[]).code, Some(0));
    server.stop();
}

#[test]
fn a_window_bounds_what_is_under_way() {
    let in_flight = |settings: &str| {
        let pair = Pair::of(with("", settings));
        pair.settle();
        pair.server.signal(Signal::STOP);
        for n in 0..150u64 {
            write(&pair.source, &format!("f{n}"), noise(n, 60_000));
        }
        let told = || pair.status()["servers"][0].clone();
        let mut bytes = 0;
        // Until it grows no more although there is more to send, or all is under way.
        let stands = wait::until(wait::PATIENCE, || {
            let (before, now) = (bytes, told()["in_flight_bytes"].as_u64().unwrap());
            bytes = now;
            now > 1 << 20 && now == before && told()["lag_ms"].as_u64() > Some(500)
        });
        assert!(stands, "{}", pair.status());
        pair.server.signal(Signal::CONT);
        pair.settle();
        pair.stop();
        bytes
    };
    let small = in_flight("[limits]\nwindow = \"2 MiB\"\n");
    assert!(small < 4 << 20, "{small}");
    let usual = in_flight("");
    assert!(usual > 8_000_000, "{usual}");
}

#[test]
fn what_is_sent_is_spread_over_the_time_and_small_changes_overtake() {
    let settings = "[limits]\nupload_rate = \"20 MiB\"\n";
    let pair = Pair::of(with("", settings));
    write(&pair.source, "large", noise(1, 24 << 20));
    let begun = wait::until(wait::PATIENCE, || pair.sent() > 1 << 20);
    assert!(begun, "{}", pair.status());
    write(&pair.source, "small", "small");
    let small = wait::until(wait::PATIENCE, || pair.mirror.join("small").exists());
    assert!(small && !pair.mirror.join("large").exists());
    pair.settle();
    pair.stop();
}

#[test]
fn the_rate_of_an_argument_wins() {
    let sandbox = with("", "[limits]\nupload_rate = \"unlimited\"\n");
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let source = sandbox.dir("source");
    write(&source, "f", noise(1, 600_000));
    let start = Instant::now();
    let more = ["-c", "client.toml", "--upload-rate", "1 MB"];
    let run = once(&sandbox, &source, &address, &more);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    let run = once(&sandbox, &source, &address, &["--upload-rate", "1 KiB"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    server.stop();
}

#[test]
fn a_small_window_of_the_server_slows_down_and_breaks_nothing() {
    let sandbox = with("[limits]\nwindow = \"2 MiB\"\nmax_frame = \"2 MiB\"\n", "");
    let source = sandbox.dir("source");
    for n in 0..150u64 {
        write(&source, &format!("f{n}"), noise(n, 60_000));
    }
    write(&source, "large", noise(7, 12 << 20));
    let pair = Pair::of(sandbox);
    pair.settle();
    pair.stop();
}

#[test]
fn a_message_longer_than_the_frame_limit_ends_the_session() {
    let answer = |settings: &str| {
        let sandbox = Sandbox::new();
        let (mut server, address) = server_with(&sandbox, settings);
        let mut raw = Raw::connect(&sandbox, &address);
        raw.hello();
        raw.send(&Request::Ping {}, &vec![7; 3 << 20]);
        let answer = raw.next();
        drop(raw);
        server.stop();
        answer
    };
    let refused = answer("[limits]\nmax_frame = \"2 MiB\"\n");
    assert!(
        matches!(
            &refused,
            Some(Response::Refused {
                code: Code::Protocol,
                ..
            })
        ),
        "{refused:?}"
    );
    let served = answer("");
    assert!(matches!(&served, Some(Response::Pong {})), "{served:?}");
}

#[test]
fn the_size_of_blocks_decides_what_a_small_edit_costs() {
    let cost = |size: &str| {
        let sandbox = with("", &format!("block_size = \"{size}\"\n"));
        let large = write(&sandbox.dir("source"), "large", noise(3, 6 << 20));
        let pair = Pair::of(sandbox);
        pair.settle();
        let before = pair.sent();
        let file = File::options().write(true).open(large).unwrap();
        file.write_all_at(b"edited", 3_000_000).unwrap();
        drop(file);
        pair.settle();
        let sent = pair.sent() - before;
        pair.stop();
        sent
    };
    let (fine, coarse) = (cost("4 KiB"), cost("1 MiB"));
    assert!(fine < 64_000, "{fine}");
    assert!(coarse > fine, "{coarse} is not more than {fine}");
}

#[test]
fn the_sweep_finds_what_no_event_tells_of() {
    let sandbox = with("", "[watch]\nrescan = \"1s\"\n");
    let source = sandbox.dir("source");
    let (file, other) = (write(&source, "d/f", "before"), sandbox.path("other name"));
    fs::hard_link(&file, &other).unwrap();
    let pair = Pair::of(sandbox);
    pair.settle();
    // The directory is watched, but it is not the one through which the file is written: the same size, and the same
    // time as before.
    let stat = other.metadata().unwrap();
    let mut opened = File::options().write(true).open(&other).unwrap();
    opened.write_all(b"behind").unwrap();
    drop(opened);
    set_mtime(&other, (stat.mtime(), stat.mtime_nsec()));
    let mirrored = pair.mirror.join("d/f");
    let there = || fs::read(&mirrored).unwrap() == b"behind";
    assert!(wait::until(wait::PATIENCE, there), "{}", pair.client.err());
    pair.settle();
    pair.stop();
}

#[test]
fn a_deletion_waits_as_long_as_it_is_told_to_unless_a_flush_ends_it() {
    let pair = Pair::of(with("", "[watch]\ndelete_hold = \"10s\"\n"));
    write(&pair.source, "gone", "gone");
    pair.settle();
    let begun = Instant::now();
    fs::remove_file(pair.source.join("gone")).unwrap();
    write(&pair.source, "later", "later");
    let there = |name: &str| pair.mirror.join(name).exists();
    assert!(wait::until(wait::PATIENCE, || there("later")));
    // Longer than the usual hold.
    let went = wait::until(Duration::from_millis(300), || !there("gone"));
    assert!(!went || begun.elapsed() > Duration::from_secs(10));
    pair.settle();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    pair.stop();

    let pair = Pair::of(with("", "[watch]\ndelete_hold = \"0s\"\n"));
    write(&pair.source, "gone", "gone");
    pair.settle();
    fs::remove_file(pair.source.join("gone")).unwrap();
    let gone = || !pair.mirror.join("gone").exists();
    assert!(wait::until(wait::PATIENCE, gone));
    pair.stop();
}

#[test]
fn no_durability_mirrors_the_same() {
    let sandbox = with("durability = \"none\"\n", "");
    let source = sandbox.dir("source");
    for n in 0..300 {
        write(&source, &format!("d{}/f{n}", n % 7), format!("{n}"));
    }
    write(&source, "large", noise(5, 3 << 20));
    let mut pair = Pair::of(sandbox);
    pair.settle();
    // What is acknowledged survives the death of the process.
    pair.server.kill();
    assert_eq!(tree::differences(&pair.source, &pair.mirror), [""; 0]);
    pair.restart_server();
    write(&pair.source, "after", "after");
    pair.settle();
    pair.stop();
}

#[test]
fn several_servers_each_hold_a_mirror_and_a_dead_one_delays_none() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    write(&source, "d/f", "first");
    let start = |name: &str, address: &str| {
        let mut command = sandbox.syncd();
        command.args(["server", "-d", name, "--listen", address]);
        Daemon::server_with(&sandbox, name, &mut command)
    };
    let (mut one, address_one) = start("one", "127.0.0.1:0");
    let (mut two, address_two) = start("two", "127.0.0.1:0");
    let (mut late, address_late) = start("late", "127.0.0.1:0");
    // It made its keys, and goes away before it has seen any client.
    late.stop();
    let settings =
        format!("servers = [\"{address_one}\", \"{address_late}\", \"{address_two}\"]\n");
    write(sandbox.root(), "client.toml", settings);
    let mut client = Daemon::start(
        &sandbox,
        "client",
        sandbox
            .syncd()
            .args(["client", "-d", "source", "-c", "client.toml"]),
    );
    for name in ["one", "two"] {
        tree::assert_converges(&source, &sandbox.path(name));
    }
    // A live edit waits for nobody, be the others dead or without an answer.
    two.signal(Signal::STOP);
    for number in 0..3 {
        write(&source, "d/f", format!("edit {number}"));
        let arrived = || tree::differences(&source, &sandbox.path("one")).is_empty();
        assert!(wait::until(Duration::from_secs(5), arrived));
    }
    two.signal(Signal::CONT);
    let of = |address: &str| {
        let status = status(&sandbox, "source");
        let peers = status["servers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["address"] == address);
        peer.unwrap().clone()
    };
    let idle = || of(&address_one)["lag_ms"] == 0 && of(&address_one)["state"] == "idle";
    assert!(wait::until(wait::PATIENCE, idle), "{}", of(&address_one));
    let dead = of(&address_late);
    assert_eq!(dead["state"], "connecting", "{dead}");
    assert!(dead["last_error"].is_string(), "{dead}");
    fs::rename(source.join("d"), source.join("moved")).unwrap();
    let (mut late, _) = start("late", &address_late);
    for name in ["one", "two", "late"] {
        tree::assert_converges(&source, &sandbox.path(name));
    }
    assert_eq!(sandbox.run(&["flush", "-d", "source"]).code, Some(0));
    client.stop();

    // Named on the command line.
    write(&source, "moved/g", "again");
    let source: &Path = &source;
    let run = once(&sandbox, source, &address_one, &["--server", &address_late]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    for name in ["one", "late"] {
        assert_eq!(tree::differences(source, &sandbox.path(name)), [""; 0]);
    }
    assert!(!sandbox.path("two/moved/g").exists());
    one.stop();
    two.stop();
    late.stop();
}
