//! A source that has its mirror within, or lies within it, and what of syncd itself lies in a source.

use crate::support::daemon::Daemon;
use crate::support::files::write;
use crate::support::pair::once;
use crate::support::sandbox::Sandbox;
use crate::support::{tree, wait};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Names of all files below a directory.
fn names(root: &Path) -> Vec<String> {
    let all = tree::snapshot(root).into_keys();
    all.map(|path| String::from_utf8_lossy(&path).into_owned())
        .collect()
}

#[test]
fn a_source_and_a_mirror_that_lie_in_one_another_are_refused() {
    let sandbox = Sandbox::new();
    let outer = sandbox.dir("outer");
    write(&outer, "file", "file");
    let mirror = outer.join("mirror");
    write(&mirror, "s0/inner/file", "file");
    write(&mirror, "s1/file", "file");
    symlink("outer/mirror/s1", sandbox.path("link")).unwrap();
    let (mut server, address) = Daemon::server(&sandbox, &mirror);
    for (source, share, words) in [
        ("outer/mirror/s0/inner", "s0", "lies in"),
        ("link", "s1", "itself the mirror"),
        ("outer/mirror", "s2", "contains the mirror"),
        ("outer", "s3", "contains the mirror"),
    ] {
        fs::create_dir_all(mirror.join(share)).unwrap();
        for command in ["plan", "client"] {
            let run = sandbox.run(&[
                command, "-d", source, "--share", share, "--server", &address,
            ]);
            assert_eq!(run.code, Some(2), "{command} {source}: {}", run.err);
            assert!(run.err.contains(words), "{command} {source}: {}", run.err);
        }
    }
    assert!(mirror.join("s0/inner/file").exists() && !mirror.join("s3/file").exists());

    // A copy of the mirror is no part of it.
    server.stop();
    let (copy, mirror) = (sandbox.path("copy"), mirror.join("s0"));
    assert!(
        std::process::Command::new("cp")
            .args(["-a".as_ref(), mirror.as_os_str(), copy.as_os_str()])
            .status()
            .unwrap()
            .success()
    );
    let (mut server, address) = Daemon::server(&sandbox, &outer.join("mirror"));
    let run = once(&sandbox, &copy, &address, &["--share", "s0", "--take-over"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    server.stop();
}

#[test]
fn what_is_of_syncd_itself_is_not_mirrored() {
    let sandbox = Sandbox::new();
    let mirror = sandbox.dir("mirror");
    let (mut server, address) = Daemon::server(&sandbox, &mirror);
    // The home, with the keys and the state of server and client, and the client's log.
    let home = sandbox.path("home");
    write(&home, "document", "1");
    let settings = write(
        &home,
        "client.toml",
        "[log]\nfile = \"log\"\nlevel = \"trace\"\n",
    );
    let mut command = sandbox.syncd();
    command
        .args(["client", "--server", &address, "-d"])
        .arg(&home);
    command.arg("-c").arg(&settings);
    let mut client = Daemon::start(&sandbox, "client", &mut command);
    let is_there = |text: &str| {
        wait::until(wait::PATIENCE, || {
            fs::read_to_string(mirror.join("document")).is_ok_and(|now| now == text)
        })
    };
    assert!(is_there("1"), "{}", client.err());
    write(&home, "document", "2");
    assert!(is_there("2"), "{}", client.err());
    let flush = sandbox.run(&["flush", "-d", "home"]);
    assert_eq!(flush.code, Some(0), "{}", flush.err);
    let found = names(&mirror);
    let ours = |name: &String| name.contains(".pem") || name.contains("source-") || name == "log";
    assert!(!found.iter().any(ours), "{found:?}");
    assert!(names(&home).iter().any(ours), "it was not in the source");
    let status = sandbox.run(&["status", "-d", "home"]).out;
    assert!(status.contains("of syncd itself"), "{status}");
    client.stop();
    // Nor is any of it a source.
    let run = sandbox.run(&["client", "-d", "home/.local/share/syncd/devices", "--once"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("its own state"), "{}", run.err);
    server.stop();
}
