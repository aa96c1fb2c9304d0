//! One of several servers that falls silent, or whose disk is full: the others are not kept from anything.

use super::Used;
use super::everywhere::All;
use super::full::small_disk;
use super::several::more;
use crate::support::files::noise;
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::thread;

const MIB: usize = 1024 * 1024;

#[test]
fn a_list_goes_on_without_servers_that_fall_silent() {
    let mut all = All::new(2);
    let mut expected = String::new();
    for number in 0..2400 {
        let name = format!("name-{number:05}");
        for number in 0..3 {
            fs::write(all.share(number).join(&name), "").unwrap();
            crate::support::files::set_mtime(&all.share(number).join(&name), (1_600_000_000, 0));
        }
        expected.push_str(&name);
        expected.push('\n');
    }
    // The first stalls within its list, the second never says a word.
    let line = Proxy::to(all.name(0));
    line.allow_back(60_000);
    all.others[0].0.signal(Signal::STOP);
    let names = format!("{},{},{}", line.address, all.name(1), all.name(2));
    let listed = all.used.command_over(&names, &["list"]).output();
    let listed = Finished::of(listed.unwrap());
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    assert!(line.is_held_back());
    assert!(listed.out == expected, "{}", listed.out);
    for silent in [&*line.address, all.name(1)] {
        let mut warned = listed.err.lines().filter(|line| line.contains(silent));
        let warned = warned.next().unwrap_or_default();
        assert!(warned.contains("said nothing for 5 s"), "{}", listed.err);
    }
    all.others[0].0.kill();
}

#[test]
fn standard_input_goes_on_to_others_without_a_server_that_stalls() {
    let all = All::new(1);
    let content = noise(5, 24 * MIB);
    all.used.write("in", &content);
    let line = Proxy::to(all.name(1));
    line.allow(MIB as u64);
    let names = format!("{},{}", line.address, all.name(0));
    let input = fs::File::open(all.used.work.join("in")).unwrap();
    let mut upload = all.used.command_over(&names, &["upload", "-", "piped"]);
    let sent = Finished::of(upload.stdin(input).output().unwrap());
    assert_eq!(sent.code, Some(3), "{}", sent.err);
    assert!(fs::read(all.share(0).join("piped")).unwrap() == content);
    assert!(!all.share(1).join("piped").exists());
    assert_eq!(sent.out.lines().count(), 1, "{}", sent.out);
    let told = |what: &str| {
        let mut lines = sent.err.lines();
        lines.any(|told| told.contains(&*line.address) && told.contains(what))
    };
    assert!(told("took nothing for 10 s"), "{}", sent.err);
    let good = format!("{} has everything", all.name(0));
    assert!(sent.err.contains(&good), "{}", sent.err);
}

#[test]
fn one_full_disk_of_several_is_named_and_the_others_have_the_file() {
    let used = Used::new();
    used.good(&["list"]);
    let Some(_disk) = small_disk(&used.sandbox.dir("share1"), 7 * MIB) else {
        return;
    };
    let others = more(&used, 1);
    let all = All { used, others };
    let content = noise(6, 10 * MIB);
    all.used.write("large", &content);
    let full = |sent: &Finished| {
        assert_eq!(sent.code, Some(3), "{}", sent.err);
        assert_eq!(sent.out.lines().count(), 1, "{}", sent.out);
        let mut lines = sent.err.lines();
        let told = lines
            .any(|line| line.contains(all.name(1)) && line.contains("the server's disk is full"));
        assert!(told, "{}", sent.err);
        let good = format!("{} has everything", all.name(0));
        assert!(sent.err.contains(&good), "{}", sent.err);
    };
    let sent = all.run(&["upload", "large"]);
    full(&sent);
    all.used.check(&sent.out);
    assert!(fs::read(all.share(0).join("large")).unwrap() == content);
    assert!(!all.share(1).join("large").exists());
    let mut upload = all
        .used
        .command_over(&all.names(), &["upload", "-", "piped"]);
    let mut upload = upload
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = upload.stdin.take().unwrap();
    let writing = thread::spawn(move || {
        std::io::Write::write_all(&mut input, &content).unwrap();
        content
    });
    full(&Finished::of(upload.wait_with_output().unwrap()));
    let content = writing.join().unwrap();
    assert!(fs::read(all.share(0).join("piped")).unwrap() == content);
    assert!(!all.share(1).join("piped").exists());
    fs::remove_file(all.share(1).join("others")).unwrap();
    all.good(&["upload", "large"]);
    assert!(fs::read(all.share(1).join("large")).unwrap() == content);
}

#[test]
fn status_shows_each_server_that_is_named() {
    let mut all = All::new(1);
    let status = |all: &All, more: &[&str]| {
        let mut command = all.used.sandbox.syncd();
        command.args(["status", "--server", all.name(0), "--server", all.name(1)]);
        Finished::of(command.args(more).output().unwrap())
    };
    let both = status(&all, &[]);
    assert_eq!((both.code, &*both.err), (Some(0), ""));
    assert_eq!(both.out.lines().count(), 2, "{}", both.out);
    for number in 0..2 {
        let answers = format!("{}: answers, connected in ", all.name(number));
        assert!(both.out.contains(&answers), "{}", both.out);
    }
    all.others[0].0.kill();
    let one = status(&all, &[]);
    assert_eq!(one.code, Some(3), "{}", one.err);
    assert!(
        one.err.contains("not all servers can be used"),
        "{}",
        one.err
    );
    let mut lines = one.out.lines();
    let dead = lines.find(|line| line.starts_with(all.name(1))).unwrap();
    assert!(dead.contains("cannot reach"), "{dead}");
    let told: Value = serde_json::from_str(&status(&all, &["--json"]).out).unwrap();
    assert_eq!(told[0]["server"], all.name(0));
    assert_eq!(
        (&told[0]["answers"], &told[1]["answers"]),
        (&json!(true), &json!(false))
    );
    all.used.server.kill();
    assert_eq!(status(&all, &[]).code, Some(4));
}
