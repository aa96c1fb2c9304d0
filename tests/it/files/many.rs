//! Many files at once, and many who send them.

use super::Used;
use crate::support::files::noise;
use crate::support::sandbox::Finished;
use crate::support::tree;
use std::fs;
use std::process::Stdio;

#[test]
fn files_that_wait_for_each_other_all_arrive() {
    let used = Used::new();
    for n in 0..120 {
        let size = if n % 40 == 0 { 900_000 } else { n };
        used.write(&format!("all/d{}/f{n}", n % 7), noise(n as u64, size));
    }
    let sums = used.good(&["upload", "--recursive", "--jobs", "3", "all", "/"]);
    assert_eq!(sums.lines().count(), 120);
    used.check(&sums);
    tree::assert_converges(&used.work.join("all"), &used.share.join("all"));
    // Some are there, some are others, some are new; nothing is replaced that is not meant.
    for n in 0..20 {
        fs::remove_file(used.share.join(format!("all/d{}/f{n}", n % 7))).unwrap();
        used.share(&format!("all/d{}/f{}", (n + 60) % 7, n + 60), "another");
    }
    let said = used.bad(3, &["upload", "--recursive", "--jobs", "2", "all", "/"]);
    assert!(
        said.contains("20 files") || said.contains("20 paths"),
        "{said}"
    );
    assert_eq!(said.matches("with another content").count(), 20, "{said}");
    assert_eq!(fs::read(used.share.join("all/d4/f60")).unwrap(), b"another");
    let sums = used.good(&["upload", "--recursive", "--force", "all", "/"]);
    assert_eq!(sums.lines().count(), 120);
    for n in 0..120 {
        let name = format!("all/d{}/f{n}", n % 7);
        let there = fs::read(used.share.join(&name)).unwrap();
        assert!(there == fs::read(used.work.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn of_several_who_send_the_same_name_one_wins() {
    let used = Used::new();
    used.good(&["list"]);
    let begin = |n: usize| {
        used.write(&format!("{n}/one"), noise(n as u64, 1000 + n));
        let path = format!("{n}/one");
        let mut command = used.command(&["upload", &path, "one"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all: Vec<_> = (0..6).map(begin).collect();
    let mut won = Vec::new();
    for (n, child) in all.into_iter().enumerate() {
        let ended = Finished::of(child.wait_with_output().unwrap());
        match ended.code {
            Some(0) => won.push(n),
            code => {
                assert_eq!(code, Some(3), "{}", ended.err);
                assert!(ended.err.contains("in the share already"), "{}", ended.err);
            }
        }
    }
    let [winner] = won[..] else {
        panic!("{won:?} have won");
    };
    let there = fs::read(used.share.join("one")).unwrap();
    assert!(there == noise(winner as u64, 1000 + winner));
}

#[test]
fn the_same_content_that_several_send_at_once_is_no_conflict() {
    let used = Used::new();
    used.write("one", noise(1, 9_000_000));
    used.good(&["list"]);
    let begin = |_| {
        let mut command = used.command(&["upload", "one", "one"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let all: Vec<_> = (0..6).map(begin).collect();
    for child in all {
        let ended = Finished::of(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        used.check(&ended.out);
    }
}
