//! One file from several servers.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::liar::Liar;
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use crate::support::wait;
use rustix::process::Signal;
use std::fs;
use std::process::Stdio;

const MIB: usize = 1024 * 1024;

/// More servers, each with a directory of its own, that know who uses them.
pub(super) fn more(used: &Used, count: usize) -> Vec<(Daemon, String)> {
    let start = |number| {
        let share = used.sandbox.dir(&format!("share{number}"));
        let mut command = used.sandbox.syncd();
        command.args(["server", "--listen", "127.0.0.1:0", "-d"]);
        command.arg(share);
        let name = format!("server{number}");
        let (server, address) = Daemon::server_with(&used.sandbox, &name, &mut command);
        let listed = used.command_over(&address, &["list"]).output().unwrap();
        assert_eq!(listed.status.code(), Some(0));
        (server, address)
    };
    (1..=count).map(start).collect()
}

pub(super) fn put(used: &Used, number: usize, name: &str, content: &[u8]) {
    let share = used.sandbox.path(&format!("share{number}"));
    fs::write(share.join(name), content).unwrap();
}

#[test]
fn a_get_ends_well_when_nine_of_ten_servers_are_killed() {
    let used = Used::new();
    let content = noise(1, 12 * MIB);
    used.share("large", &content);
    used.good(&["list"]);
    let mut servers = more(&used, 9);
    let lines: Vec<Proxy> = servers
        .iter()
        .map(|(_, address)| Proxy::to(address))
        .collect();
    let last = Proxy::to(&used.address);
    for (index, line) in lines.iter().enumerate() {
        put(&used, index + 1, "large", &content);
        line.allow_back(480_000);
    }
    last.allow_back(MIB as u64);
    let mut names: Vec<&str> = lines.iter().map(|line| line.address.as_str()).collect();
    names.push(&last.address);
    let mut get = used.command_over(&names.join(","), &["get", "large"]);
    let get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let get = get.unwrap();
    let held = || lines.iter().chain([&last]).all(Proxy::is_held_back);
    assert!(wait::until(wait::PATIENCE, held), "all bring something");
    for (server, _) in &mut servers {
        server.kill();
    }
    lines.iter().for_each(Proxy::cut);
    last.mend();
    let got = Finished::of(get.wait_with_output().unwrap());
    assert_eq!(got.code, Some(0), "{}", got.err);
    used.check(&got.out);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    for name in &names[..9] {
        assert!(got.err.contains(name), "{}", got.err);
    }
}

#[test]
fn a_server_with_another_content_brings_nothing() {
    let used = Used::new();
    let content = noise(1, 6 * MIB);
    used.share("large", &content);
    used.share("small", "right");
    used.good(&["list"]);
    let servers = more(&used, 1);
    let mut other = content.clone();
    other[3 * MIB] ^= 1;
    put(&used, 1, "large", &other);
    put(&used, 1, "small", b"wrong");
    let names = format!("{},{}", used.address, servers[0].1);
    let got = Finished::of(
        used.command_over(&names, &["get", "large", "small", "."])
            .output()
            .unwrap(),
    );
    assert_eq!(got.code, Some(0), "{}", got.err);
    used.check(&got.out);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    assert_eq!(fs::read(used.work.join("small")).unwrap(), b"right");
}

#[test]
fn a_server_that_is_away_is_passed_over() {
    let mut used = Used::new();
    let content = noise(1, 3 * MIB);
    used.good(&["list"]);
    let servers = more(&used, 1);
    put(&used, 1, "large", &content);
    put(&used, 1, "small", b"here");
    used.server.kill();
    let names = format!("{},{}", used.address, servers[0].1);
    let got = Finished::of(
        used.command_over(&names, &["get", "large", "small", "."])
            .output()
            .unwrap(),
    );
    assert_eq!(got.code, Some(0), "{}", got.err);
    used.check(&got.out);
    assert!(got.err.contains(&used.address), "{}", got.err);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
}

#[test]
fn a_server_that_brings_other_bytes_is_left_with_a_warning() {
    let used = Used::new();
    let content = noise(1, 4 * MIB);
    let small = noise(2, 100_000);
    used.share("large", &content);
    used.share("small", &small);
    used.good(&["list"]);
    let servers = more(&used, 1);
    put(&used, 1, "large", &content);
    put(&used, 1, "small", &small);
    let liar = Liar::to(&used.sandbox, &servers[0].1);
    for liar_is_first in [true, false] {
        let line = Proxy::to(&used.address);
        line.allow_back(MIB as u64);
        let mut names = [&*liar.address, &*line.address];
        if !liar_is_first {
            names.reverse();
        }
        let before = liar.lies();
        let mut get = used.command_over(&names.join(","), &["get", "--force", "large"]);
        let get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let get = get.unwrap();
        let lied = || liar.lies() > before;
        assert!(wait::until(wait::PATIENCE, lied), "it was asked, too");
        line.mend();
        let got = Finished::of(get.wait_with_output().unwrap());
        assert_eq!(got.code, Some(0), "{}", got.err);
        used.check(&got.out);
        assert!(fs::read(used.work.join("large")).unwrap() == content);
        let warned = got.err.lines().find(|line| line.contains("WARN"));
        let warned = warned.unwrap_or_default();
        assert!(
            warned.contains(&liar.address) && warned.contains("other bytes"),
            "{}",
            got.err
        );
        fs::remove_file(used.work.join("large")).unwrap();
    }
    // A small file comes from one, and then from the other.
    let names = format!("{},{}", liar.address, used.address);
    let got = used.command_over(&names, &["get", "small"]).output();
    let got = Finished::of(got.unwrap());
    assert_eq!(got.code, Some(0), "{}", got.err);
    used.check(&got.out);
    assert!(fs::read(used.work.join("small")).unwrap() == small);
    let warned = format!("{}: what arrived of `small` is not", liar.address);
    assert!(got.err.contains(&warned), "{}", got.err);
    // Where nobody tells the truth nothing is kept.
    fs::remove_file(used.work.join("small")).unwrap();
    let got = used.command_over(&liar.address, &["get", "small", "large", "."]);
    let got = Finished::of({ got }.output().unwrap());
    assert_eq!(got.code, Some(3), "{}", got.err);
    assert!(!used.work.join("small").exists() && !used.work.join("large").exists());
}

#[test]
fn servers_that_stall_are_left_and_the_rest_is_fetched() {
    let used = Used::new();
    let content = noise(1, 8 * MIB);
    used.share("large", &content);
    used.good(&["list"]);
    let servers = more(&used, 2);
    put(&used, 1, "large", &content);
    put(&used, 2, "large", &content);
    let (first, second) = (Proxy::to(&used.address), Proxy::to(&servers[1].1));
    first.allow_back(MIB as u64);
    second.allow_back(480_000);
    // The system goes on accepting for a process that is stopped. This one never says a word, the other stops in a range.
    servers[0].0.signal(Signal::STOP);
    let names = [&*first.address, &*servers[0].1, &*second.address];
    let mut get = used.command_over(&names.join(","), &["get", "large"]);
    let get = get.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let get = get.unwrap();
    let held = || first.is_held_back() && second.is_held_back();
    assert!(wait::until(wait::PATIENCE, held), "both bring something");
    servers[1].0.signal(Signal::STOP);
    second.mend();
    first.mend();
    let got = Finished::of(get.wait_with_output().unwrap());
    assert_eq!(got.code, Some(0), "{}", got.err);
    used.check(&got.out);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    let warned = |name: &str| {
        let mut lines = got.err.lines();
        lines.any(|line| line.contains(name) && line.contains("said nothing for 10 s"))
    };
    assert!(warned(&second.address), "{}", got.err);
}
