//! What is no file, cannot be read, or has a name that means something elsewhere.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::{chmod, mkfifo, set_mtime, write};
use crate::support::sandbox::{Finished, Sandbox};
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

#[test]
fn a_pipe_that_is_named_is_no_success_and_one_in_a_tree_stops_nothing() {
    let used = Used::new();
    used.write("tree/f", "f");
    mkfifo(&used.work.join("tree/pipe"));
    used.write("g", "g");
    let err = used.bad(3, &["upload", "tree/pipe", "g", "/"]);
    assert!(
        err.contains("`tree/pipe` is neither file, directory nor link"),
        "{err}"
    );
    assert_eq!(used.good(&["list"]), "g\n");
    used.good(&["upload", "-r", "tree"]);
    assert_eq!(used.good(&["list", "-r", "tree"]), "tree/f\n");
}

#[test]
fn what_is_neither_file_nor_link_is_not_replaced() {
    let used = Used::new();
    used.share("f", "f");
    let pipe = used.work.join("pipe");
    mkfifo(&pipe);
    for arguments in [&["get", "f", "pipe"][..], &["get", "--force", "f", "pipe"]] {
        let err = used.bad(3, arguments);
        assert!(err.contains("`pipe` is neither file nor link"), "{err}");
    }
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(used.names(), ["pipe"]);
}

#[test]
fn a_directory_that_cannot_be_read_is_named_and_stops_no_list() {
    let sandbox = Sandbox::new();
    let share = sandbox.dir("share");
    for name in ["a/f", "b/f", "c/f"] {
        write(&share, name, "");
    }
    let mut command = sandbox.syncd_bound();
    command
        .args(["server", "--listen", "127.0.0.1:0", "-d"])
        .arg(&share);
    let (mut server, address) = Daemon::server_with(&sandbox, "server", &mut command);
    chmod(&share.join("b"), 0);
    let mut list = sandbox.syncd_bound();
    list.args(["list", "-r", "--server", &address]);
    let list = Finished::of(list.output().unwrap());
    chmod(&share.join("b"), 0o700);
    server.stop();
    assert_eq!(list.code, Some(3), "{}", list.err);
    assert_eq!(list.out, "a\nb\nc\na/f\nc/f\n");
    assert!(list.err.contains("`b`: cannot read"), "{}", list.err);
}

#[test]
fn a_path_that_is_too_long_for_the_protocol_is_named() {
    let used = Used::new();
    let name = "n".repeat(240);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(&used.share, flags, Mode::empty()).unwrap();
    for _ in 0..17 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(openat(&at, "f", flags, Mode::RUSR).unwrap());
    used.share("z", "z");
    let list = used.run(&["list", "-r"]);
    assert_eq!(list.code, Some(0), "{}", list.err);
    assert!(list.err.contains("the path is longer"), "{}", list.err);
    assert_eq!(list.out.lines().count(), 17);
    let err = used.bad(3, &["get", "-r", "/", "all"]);
    assert!(err.contains("the path is longer"), "{err}");
    assert!(err.contains(&format!("{name}/{name}`: ")), "{err}");
    assert_eq!(fs::read(used.work.join("all/z")).unwrap(), b"z");
}

#[test]
fn the_top_of_a_share_has_no_time_to_give() {
    let used = Used::new();
    used.share("f", "f");
    let before = fs::metadata(&used.work).unwrap().mtime();
    used.good(&["get", "-r", "/", "all"]);
    assert!(fs::metadata(used.work.join("all")).unwrap().mtime() >= before);
    // That of any other directory comes along.
    used.share("d/f", "f");
    set_mtime(&used.share.join("d"), (1_500_000_000, 7));
    used.good(&["get", "-r", "d"]);
    let own = fs::metadata(used.work.join("d")).unwrap();
    assert_eq!(own.mtime(), 1_500_000_000);
}

#[test]
fn a_name_that_only_the_top_forbids_is_a_name_below_it() {
    let used = Used::new();
    used.share("d/.syncd", "f");
    assert_eq!(used.good(&["list", "d"]), ".syncd\n");
    assert_eq!(used.good(&["get", "d/.syncd", "-"]), "f");
    let err = used.bad(2, &["rename", "d/.syncd", ".syncd"]);
    assert!(err.contains("belongs to syncd"), "{err}");
    used.bad(3, &["rename", "d/.syncd", "/"]);
    assert_eq!(used.good(&["list", "-r"]), "d\nd/.syncd\n");
}

#[test]
fn a_file_without_a_length_is_sent_with_what_is_in_it() {
    let used = Used::new();
    // A length of 0, and one of a page; there is something else in both.
    let shown = "/sys/kernel/mm/transparent_hugepage/enabled";
    for path in ["/proc/version", shown] {
        let Ok(content) = fs::read(path) else {
            continue;
        };
        used.good(&["upload", path, "there"]);
        assert_eq!(fs::read(used.share.join("there")).unwrap(), content);
        used.good(&["delete", "there"]);
    }
}
