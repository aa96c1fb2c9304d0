//! A disk for the state that is full: what a user sees, and that it goes on when there is room.

use crate::support::daemon::Daemon;
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::tree;
use std::fs;
use std::io::Write;
use std::path::Path;

const HINT: &str = "hint: make room on the disk of that path and try again";

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn is_said(run: &Finished, home: &Path) {
    assert_eq!(run.code, Some(7), "{}", run.err);
    let path = format!("cannot write `{}/", home.display());
    assert!(run.err.contains(&path), "{}", run.err);
    assert!(run.err.contains("No space left on device"), "{}", run.err);
    assert!(run.err.contains(HINT), "{}", run.err);
}

#[test]
fn a_full_disk_below_the_state_is_named_with_what_to_do() {
    let sandbox = Sandbox::new();
    let home = sandbox.path("home");
    let at = home.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=2m", "syncd-test", at]) {
        return assert_cannot_mount();
    }
    let _mounted = Mounted(home.clone());
    let (share, source) = (sandbox.dir("share"), sandbox.dir("source"));
    fs::write(source.join("f"), "content").unwrap();
    let rest = home.join("rest");
    let serve = ["server", "--listen", "127.0.0.1:0", "-d", "share"];
    // The first start, and one that finds what the last left.
    fill(&rest);
    is_said(&sandbox.run(&serve), &home);
    fs::remove_file(&rest).unwrap();
    let (mut server, gone) = Daemon::server(&sandbox, &share);
    server.stop();
    fill(&rest);
    is_said(&sandbox.run(&serve), &home);
    // A client says so before it looks for its server.
    let client = |server: &str| {
        let once = ["client", "--once", "-d", "source", "--server", server];
        sandbox.run(&once)
    };
    is_said(&client(&gone), &home);
    fs::remove_file(&rest).unwrap();
    let (_server, address) = Daemon::server(&sandbox, &share);
    let run = client(&address);
    assert_eq!(run.code, Some(0), "{}", run.err);
    tree::assert_converges(&source, &share);
}
