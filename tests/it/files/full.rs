//! A disk that is full, here or there: it is said, what came is kept, and it is gone on with when there is room.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::proxy::Proxy;
use crate::support::sandbox::Sandbox;
use std::fs;
use std::path::Path;

const MIB: usize = 1024 * 1024;
/// Length of the file.
const LARGE: usize = 10 * MIB;
/// Room that there is at first, beside what else is kept.
const ROOM: usize = 7 * MIB;
/// What else is kept, handshakes, what was under way.
const SLACK: usize = MIB;

/// A disk of 16 MiB at a directory, of which `room` is free.
pub(super) fn small_disk(at: &Path, room: usize) -> Option<Mounted> {
    let path = at.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=16m", "syncd-test", path]) {
        assert_cannot_mount();
        return None;
    }
    let mounted = Mounted(at.to_owned());
    fs::write(at.join("others"), vec![1; 16 * MIB - room]).unwrap();
    Some(mounted)
}

#[test]
fn a_get_to_a_full_disk_goes_on_when_there_is_room() {
    let used = Used::new();
    let content = noise(21, LARGE);
    used.share("large", &content);
    let Some(_disk) = small_disk(&used.work, ROOM) else {
        return;
    };
    let said = used.bad(7, &["get", "large"]);
    assert!(
        said.contains("cannot write") && said.contains("No space left on device"),
        "{said}"
    );
    assert_eq!(used.names(), [".large.syncd-part", "others"]);
    fs::remove_file(used.work.join("others")).unwrap();
    let line = Proxy::to(&used.address);
    let run = used.command_over(&line.address, &["get", "large"]).output();
    assert!(run.unwrap().status.success());
    let most = (LARGE - ROOM + SLACK) as u64;
    assert!(line.received() <= most, "{} bytes came", line.received());
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    assert_eq!(used.names(), ["large"]);
}

#[test]
fn an_upload_to_a_full_disk_goes_on_when_there_is_room() {
    let sandbox = Sandbox::new();
    let (share, work) = (sandbox.dir("share"), sandbox.dir("work"));
    let Some(_disk) = small_disk(&share, ROOM) else {
        return;
    };
    let (server, address) = Daemon::server(&sandbox, &share);
    let mut used = Used {
        sandbox,
        server,
        address,
        share,
        work,
    };
    let content = noise(22, LARGE);
    used.write("large", &content);
    let said = used.bad(3, &["upload", "large"]);
    assert!(said.contains("the server's disk is full"), "{said}");
    assert!(!used.share.join("large").exists(), "it is out of sight");
    // It is full still, and that costs nothing of what is there.
    let said = used.bad(3, &["upload", "large"]);
    assert!(said.contains("the server's disk is full"), "{said}");
    used.server.kill();
    used.restart();
    fs::remove_file(used.share.join("others")).unwrap();
    let line = Proxy::to(&used.address);
    let run = used.command_over(&line.address, &["upload", "large"]);
    let run = crate::support::sandbox::Finished::of({ run }.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.err);
    used.check(&run.out);
    let most = (LARGE - ROOM + SLACK) as u64;
    assert!(line.sent() <= most, "{} bytes went", line.sent());
    assert!(fs::read(used.share.join("large")).unwrap() == content);
}

#[test]
fn what_needs_the_room_of_an_upload_that_found_none_gets_it() {
    let sandbox = Sandbox::new();
    let (share, work) = (sandbox.dir("share"), sandbox.dir("work"));
    let Some(_disk) = small_disk(&share, ROOM) else {
        return;
    };
    let (server, address) = Daemon::server(&sandbox, &share);
    let used = Used {
        sandbox,
        server,
        address,
        share,
        work,
    };
    used.write("large", noise(23, LARGE));
    used.bad(3, &["upload", "large"]);
    used.write("other", noise(24, 5 * MIB));
    let sums = used.good(&["upload", "other"]);
    used.check(&sums);
    used.bad(3, &["upload", "large"]);
}
