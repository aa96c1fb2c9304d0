//! Commands that a person ends.

use super::Used;
use crate::support::files::noise;
use crate::support::sandbox::Finished;
use crate::support::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// Begins to send what is written: some of it has come.
fn begun(used: &Used) -> (Child, ChildStdin) {
    used.share("piped", "what was there");
    let mut command = used.command(&["upload", "--force", "-", "piped"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&noise(1, 4 * MIB)).unwrap();
    let staged = || {
        let files = fs::read_dir(used.share.join(".syncd/stage")).unwrap();
        let sizes = files.flatten().filter_map(|file| file.metadata().ok());
        sizes.map(|found| found.len()).sum::<u64>() > 0
    };
    assert!(wait::until(wait::PATIENCE, staged));
    (child, input)
}

fn interrupt(child: &Child) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::INT).unwrap();
}

fn assert_stopped(used: &Used, child: Child) {
    let ended = Finished::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("stopped"), "{}", ended.err);
    assert_eq!(ended.out, "");
    let there = fs::read(used.share.join("piped")).unwrap();
    assert_eq!(there, b"what was there");
}

#[test]
fn half_of_a_stream_is_not_taken_for_all_of_it() {
    let used = Used::new();
    for _ in 0..5 {
        let (child, input) = begun(&used);
        // Ctrl-C ends who writes, too.
        interrupt(&child);
        drop(input);
        assert_stopped(&used, child);
    }
}

#[test]
fn a_command_that_waits_for_its_input_ends_when_it_is_told_to() {
    let used = Used::new();
    let (mut child, input) = begun(&used);
    interrupt(&child);
    let ended = wait::until(Duration::from_secs(15), || {
        child.try_wait().unwrap().is_some()
    });
    drop(input);
    if !ended {
        child.kill().unwrap();
    }
    assert!(ended, "it waits for what is never written");
    assert_stopped(&used, child);
}
