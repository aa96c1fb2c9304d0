//! One file from several servers.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use crate::support::wait;
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
