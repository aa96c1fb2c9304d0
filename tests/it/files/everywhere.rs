//! `upload`, `list`, `delete` and `rename` with several servers.

use super::Used;
use super::several::{more, put};
use crate::support::daemon::Daemon;
use crate::support::files::{chmod, noise, set_mtime};
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use crate::support::{tree, wait};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// Several servers, of which the first is that of [`Used`].
pub(super) struct All {
    pub(super) used: Used,
    pub(super) others: Vec<(Daemon, String)>,
}

impl All {
    pub(super) fn new(others: usize) -> Self {
        let used = Used::new();
        used.good(&["list"]);
        let others = more(&used, others);
        Self { used, others }
    }

    pub(super) fn names(&self) -> String {
        let mut names = vec![&*self.used.address];
        names.extend(self.others.iter().map(|(_, address)| &**address));
        names.join(",")
    }

    pub(super) fn name(&self, number: usize) -> &str {
        match number.checked_sub(1) {
            None => &self.used.address,
            Some(other) => &self.others[other].1,
        }
    }

    /// The directory of a server.
    pub(super) fn share(&self, number: usize) -> PathBuf {
        match number {
            0 => self.used.share.clone(),
            number => self.used.sandbox.path(&format!("share{number}")),
        }
    }

    /// Runs a command with all of them.
    pub(super) fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(
            self.used
                .command_over(&self.names(), arguments)
                .output()
                .unwrap(),
        )
    }

    pub(super) fn good(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        run.out
    }

    pub(super) fn bad(&self, code: i32, arguments: &[&str]) -> Finished {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.err);
        run
    }

    /// What one of them alone lists.
    fn alone(&self, number: usize, arguments: &[&str]) -> String {
        let run = self.used.command_over(self.name(number), arguments);
        let run = Finished::of({ run }.output().unwrap());
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        run.out
    }
}

fn objects(lines: &str) -> Vec<Value> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn an_upload_goes_to_all_servers_and_its_sums_are_printed_once() {
    let all = All::new(2);
    let content = noise(1, 700_000);
    all.used.write("tree/large", &content);
    all.used.write("tree/d/small", "small");
    let sent = all.run(&["upload", "--recursive", "tree", "tree/d/small", "/"]);
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert_eq!(sent.out.lines().count(), 3, "{}", sent.out);
    all.used.check(&sent.out);
    assert!(
        sent.err.contains("all 3 servers have everything"),
        "{}",
        sent.err
    );
    for number in 0..3 {
        let share = all.share(number);
        assert!(fs::read(share.join("tree/large")).unwrap() == content);
        assert_eq!(fs::read(share.join("tree/d/small")).unwrap(), b"small");
        assert!(sent.err.contains(all.name(number)), "{}", sent.err);
    }
    // What is sent to all is the same on all.
    let listed = all.good(&["list", "--recursive", "--json"]);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(!listed.contains("elsewhere"), "{listed}");
    // And the same server twice is one.
    let twice = format!("{0},{0}", all.used.address);
    let sent = all
        .used
        .command_over(&twice, &["upload", "tree/d/small", "once"]);
    let sent = Finished::of({ sent }.output().unwrap());
    assert_eq!((sent.code, &*sent.err), (Some(0), ""));
}

#[test]
fn a_server_that_is_dead_or_refuses_keeps_no_other_from_having_a_file() {
    let mut all = All::new(3);
    all.others[0].0.kill();
    let source = all.used.sandbox.dir("source");
    fs::write(source.join("f"), "mirrored").unwrap();
    let _client = Daemon::client(&all.used.sandbox, &source, all.name(3));
    tree::assert_converges(&source, &all.share(3));
    put(&all.used, 2, "x", b"other");
    all.used.write("x", "right");
    all.used.write("y", "also");
    let sent = all.bad(3, &["upload", "x", "y", "/"]);
    assert_eq!(sent.out.lines().count(), 2, "{}", sent.out);
    all.used.check(&sent.out);
    let (first, dead, other, held) = (all.name(0), all.name(1), all.name(2), all.name(3));
    for told in [
        "not everything could be sent to all servers".to_owned(),
        format!("{first} has everything"),
        format!("{other}: 1 file done"),
        format!("{other}: `x` is in the share already with another content"),
        "the same command goes on".to_owned(),
    ] {
        assert!(sent.err.contains(&told), "{told}: {}", sent.err);
    }
    for (server, why) in [(dead, "cannot reach"), (held, "fills this share")] {
        let line = sent.err.lines().find(|line| line.contains(server)).unwrap();
        assert!(line.contains(why), "{line}");
    }
    assert_eq!(fs::read(all.share(0).join("x")).unwrap(), b"right");
    assert_eq!(fs::read(all.share(2).join("x")).unwrap(), b"other");
    assert_eq!(fs::read(all.share(2).join("y")).unwrap(), b"also");
    // What fails everywhere is said once, as if there were one server.
    all.others.remove(0);
    let sent = all.used.command_over(
        &format!("{},{}", all.name(0), all.name(1)),
        &["upload", "nope"],
    );
    let sent = Finished::of({ sent }.output().unwrap());
    assert_eq!(sent.code, Some(3));
    assert_eq!(sent.err, "error: there is no `nope`\n");
    all.used.server.kill();
    all.others.truncate(1);
    all.others[0].0.kill();
    let sent = all.bad(4, &["upload", "x"]);
    assert_eq!(sent.out, "");
}

#[test]
fn a_server_behind_a_line_that_is_held_holds_no_other_up() {
    let all = All::new(1);
    let line = Proxy::to(all.name(1));
    let content = noise(3, 2_000_000);
    all.used.write("large", &content);
    let names = format!("{},{}", line.address, all.name(0));
    line.allow(500_000);
    let mut upload = all
        .used
        .command_over(&names, &["upload", "--json", "large"]);
    let upload = upload.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let upload = upload.unwrap();
    let there = all.share(0).join("large");
    assert!(wait::until(wait::PATIENCE, || there.exists() && line.is_held()));
    assert!(!all.share(1).join("large").exists());
    line.mend();
    let sent = Finished::of(upload.wait_with_output().unwrap());
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert!(fs::read(all.share(1).join("large")).unwrap() == content);
    // Machines are told of each server.
    let told = objects(&sent.out);
    for server in [&*line.address, all.name(0)] {
        let of = |event: &str| {
            let is = |it: &&Value| it["event"] == event && it["server"] == server;
            told.iter().find(is).unwrap_or_else(|| panic!("{told:?}"))
        };
        assert_eq!(of("begun")["remote"], "large");
        assert_eq!(of("done")["size"], 2_000_000);
        assert_eq!(of("ended")["files"], 1);
        assert_eq!(of("ended")["failed"], 0);
    }
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn standard_input_is_read_once_and_goes_to_all() {
    let mut all = All::new(2);
    let content = noise(2, 9_000_000);
    all.used.write("in", &content);
    let pipe = |all: &All, name: &str| {
        let input = fs::File::open(all.used.work.join("in")).unwrap();
        let mut command = all.used.command_over(&all.names(), &["upload", "-", name]);
        Finished::of(command.stdin(input).output().unwrap())
    };
    let sent = pipe(&all, "piped");
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert_eq!(sent.out.lines().count(), 1, "{}", sent.out);
    for number in 0..3 {
        assert!(fs::read(all.share(number).join("piped")).unwrap() == content);
    }
    let listed = all.good(&["list", "--long"]);
    assert!(!listed.contains('('), "times are the same, too: {listed}");
    // Those who do not want it do not hold the others up.
    all.others[0].0.kill();
    fs::write(all.share(2).join("again"), "in the way").unwrap();
    let sent = pipe(&all, "again");
    assert_eq!(sent.code, Some(3), "{}", sent.err);
    assert!(!sent.err.contains("hint"), "it cannot be read again");
    assert!(fs::read(all.share(0).join("again")).unwrap() == content);
    assert_eq!(fs::read(all.share(2).join("again")).unwrap(), b"in the way");
}

#[test]
fn a_list_of_servers_that_have_the_same_is_that_of_one() {
    let all = All::new(1);
    for number in 0..2 {
        let share = all.share(number);
        for name in ["a", "d/e/f", "d/g"] {
            let path = crate::support::files::write(&share, name, name);
            set_mtime(&path, (1_600_000_000, 7));
        }
        std::os::unix::fs::symlink("a", share.join("l")).unwrap();
        set_mtime(&share.join("l"), (1_600_000_000, 7));
        // When something was put into a directory is no difference.
        set_mtime(&share.join("d"), (1_600_000_000 + number as i64, 0));
    }
    for arguments in [
        &["list"][..],
        &["list", "--long", "--recursive"],
        &["list", "--recursive", "--json"],
        &["list", "d/*", "a", "/"],
    ] {
        let run = all.run(arguments);
        assert_eq!((run.code, &*run.err), (Some(0), ""));
        assert_eq!(run.out, all.alone(0, arguments), "{arguments:?}");
    }
    // What is in the memory of each is that server's.
    let mut cached = Vec::new();
    let is_kept = wait::until(wait::PATIENCE, || {
        assert_eq!(all.good(&["get", "a", "-"]), "a");
        cached = objects(&all.good(&["list", "--cached", "--json"]));
        !cached.is_empty()
    });
    assert!(is_kept && cached.len() == 1, "{cached:?}");
    assert_eq!(cached[0]["server"], all.name(0));
    let cached = all.good(&["list", "--cached"]);
    let titles = [all.name(0), all.name(1)].map(|name| format!("{name}:"));
    assert!(
        titles.iter().all(|title| cached.contains(title)),
        "{cached}"
    );
    let nothing = all.bad(3, &["list", "z*", "nope"]);
    assert!(nothing.err.contains("nothing in the share matches `z*`"));
    assert!(nothing.err.contains("there is no `nope`"));
}

#[test]
fn a_list_says_where_servers_differ() {
    let mut all = All::new(2);
    for name in ["same", "sized", "moded", "timed", "read", "kind/f"] {
        for number in 0..3 {
            let path = crate::support::files::write(&all.share(number), name, "12345");
            set_mtime(&path, (1_600_000_000, 0));
        }
    }
    let (one, two) = (all.share(1), all.share(2));
    let write = |path: PathBuf, content: &str, time| {
        fs::write(&path, content).unwrap();
        set_mtime(&path, (time, 0));
    };
    write(one.join("sized"), "123456", 1_600_000_000);
    write(two.join("timed"), "12345", 1_600_000_001);
    write(one.join("read"), "54321", 1_600_000_001);
    chmod(&two.join("moded"), 0o600);
    write(two.join("two"), "only there", 1_600_000_000);
    fs::remove_dir_all(one.join("kind")).unwrap();
    write(one.join("kind"), "a file", 1_600_000_000);
    let (b, c) = (all.name(1).to_owned(), all.name(2).to_owned());
    let expected = format!(
        "kind  ({b}: kind)\nmoded  ({c}: mode)\nread  ({b}: content, time)\nsame\nsized  ({b}: size)\ntimed  ({c}: time)\ntwo  ({}: missing; {b}: missing)\n",
        all.name(0)
    );
    assert_eq!(all.good(&["list"]), expected);
    let below = all.good(&["list", "--recursive", "kind", "t*"]);
    let shown = format!("timed  ({c}: time)\n");
    assert!(
        below.contains(&format!("kind/f  ({b}: missing)\n")),
        "{below}"
    );
    assert!(below.contains(&shown), "{below}");
    let told = objects(&all.good(&["list", "--json"]));
    let sized = told.iter().find(|it| it["path"] == "sized").unwrap();
    assert_eq!(sized["size"], 5);
    let elsewhere = json!([{
        "server": b, "differs": ["size"], "kind": "file", "size": 6, "mode": sized["mode"],
        "mtime": [1_600_000_000, 0],
    }]);
    assert_eq!(sized["elsewhere"], elsewhere);
    let two = told.iter().find(|it| it["path"] == "two").unwrap();
    let missing = json!({ "server": b, "differs": ["missing"] });
    assert_eq!(two["elsewhere"][1], missing);
    let same = told.iter().find(|it| it["path"] == "same").unwrap();
    assert_eq!(same.get("elsewhere"), None);
    // One that is dead is warned of and left out.
    all.others[0].0.kill();
    let left = all.run(&["list"]);
    assert_eq!(left.code, Some(0), "{}", left.err);
    assert!(left.err.contains(&b), "{}", left.err);
    assert!(!left.out.contains(&b), "{}", left.out);
    assert!(left.out.contains(&shown), "{}", left.out);
    all.used.server.kill();
    all.others[1].0.kill();
    all.bad(4, &["list"]);
}

#[test]
fn long_lists_of_several_servers_are_one_in_order() {
    let all = All::new(1);
    let mut expected = String::new();
    for number in 0..2400 {
        let name = format!("n{number:05}");
        let missing = match number {
            // Each lacks long stretches, and single names.
            0..=800 => 1,
            801..=1400 => 0,
            number => number % 2,
        };
        fs::write(all.share(1 - missing).join(&name), "").unwrap();
        let server = all.name(missing);
        expected.push_str(&format!("{name}  ({server}: missing)\n"));
    }
    assert_eq!(all.good(&["list"]), expected);
}

#[test]
fn a_file_is_renamed_and_deleted_on_all_servers() {
    let mut all = All::new(2);
    for number in 0..3 {
        let share = all.share(number);
        for name in ["a", "b", "x.log", "y.log", "d/f"] {
            crate::support::files::write(&share, name, name);
        }
    }
    assert_eq!(all.good(&["rename", "a", "d"]), "");
    assert_eq!(all.good(&["delete", "*.log"]), "");
    for number in 0..3 {
        assert!(all.share(number).join("d/a").exists());
        assert!(!all.share(number).join("y.log").exists());
    }
    // Where it is not there it is said, and the others go on.
    fs::remove_file(all.share(1).join("b")).unwrap();
    let renamed = all.bad(3, &["rename", "b", "c"]);
    let message = format!("{}: there is no `b` in the share", all.name(1));
    assert!(renamed.err.contains(&message), "{}", renamed.err);
    let good = format!("{} has renamed it", all.name(2));
    assert!(renamed.err.contains(&good), "{}", renamed.err);
    assert!(all.share(0).join("c").exists() && all.share(2).join("c").exists());
    all.others[0].0.kill();
    let deleted = all.bad(3, &["delete", "c", "d/f"]);
    assert!(deleted.err.contains(all.name(1)), "{}", deleted.err);
    let good = format!("{} has removed everything", all.name(0));
    assert!(deleted.err.contains(&good), "{}", deleted.err);
    for number in [0, 2] {
        assert!(!all.share(number).join("c").exists());
        assert!(!all.share(number).join("d/f").exists());
    }
    assert!(all.share(1).join("d/f").exists());
    // What is not there on any is said once.
    all.others.remove(0);
    let gone = Finished::of(
        all.used
            .command_over(
                &format!("{},{}", all.used.address, all.others[0].1),
                &["delete", "c"],
            )
            .output()
            .unwrap(),
    );
    assert_eq!(gone.code, Some(3));
    assert_eq!(gone.err, "error: there is no `c` in the share\n");
    // Keys are kept by one server.
    let kept = all.bad(2, &["kv", "get", "key"]);
    assert!(kept.err.contains("one server at a time"), "{}", kept.err);
}
