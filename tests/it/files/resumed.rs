//! What is there of a file is not sent again, whoever died.

use super::Used;
use crate::support::files::noise;
use crate::support::proxy::Proxy;
use crate::support::sandbox::Finished;
use crate::support::wait;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};

const MIB: usize = 1024 * 1024;
/// Length of the file.
const LARGE: usize = 10 * MIB;
/// How much of it goes before something happens.
const PART: usize = 7 * MIB;
/// What was under way and is lost, sums of blocks, handshakes.
const SLACK: usize = MIB;

impl Used {
    /// Begins something over a line that is held after so many bytes in a direction.
    fn begin(&self, line: &Proxy, arguments: &[&str], held: impl Fn(&Proxy) -> bool) -> Child {
        let mut command = self.command_over(&line.address, arguments);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.unwrap();
        assert!(wait::until(wait::PATIENCE, || held(line)), "it is held");
        child
    }

    /// Does it again, which must end well.
    fn again(&self, line: &Proxy, arguments: &[&str]) -> String {
        let run = Finished::of(
            self.command_over(&line.address, arguments)
                .output()
                .unwrap(),
        );
        assert_eq!(run.code, Some(0), "{}{}", run.err, self.server.err());
        run.out
    }

    /// The largest file in the stage.
    fn staged(&self) -> u64 {
        let files = fs::read_dir(self.share.join(".syncd/stage"));
        let sizes = files.into_iter().flatten();
        let sizes = sizes.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
        sizes.max().unwrap_or(0)
    }

    fn partial(&self) -> u64 {
        let file = fs::metadata(self.work.join(".large.syncd-part"));
        file.map_or(0, |file| file.len())
    }
}

fn most(bytes: u64, expected: usize) {
    assert!(bytes <= (expected + SLACK) as u64, "{bytes} bytes went");
}

/// Begins an upload of a large file, of which the server has a part.
fn half_sent(used: &Used, line: &Proxy, seed: u64) -> (Vec<u8>, Child) {
    let content = noise(seed, LARGE);
    used.write("large", &content);
    used.good(&["list"]);
    line.allow(PART as u64);
    let child = used.begin(line, &["upload", "large"], Proxy::is_held);
    let there = || used.staged() >= (PART - SLACK / 2) as u64;
    assert!(wait::until(wait::PATIENCE, there), "it is staged");
    assert!(!used.share.join("large").exists(), "it is out of sight");
    (content, child)
}

#[test]
fn an_upload_that_was_cut_goes_on() {
    let used = Used::new();
    let line = Proxy::to(&used.address);
    let (content, child) = half_sent(&used, &line, 1);
    line.cut();
    let cut = Finished::of(child.wait_with_output().unwrap());
    assert_eq!(cut.code, Some(4), "{}", cut.err);
    line.mend();
    let before = line.sent();
    let sums = used.again(&line, &["upload", "large"]);
    most(line.sent() - before, LARGE - PART);
    used.check(&sums);
    assert_eq!(fs::read(used.share.join("large")).unwrap(), content);
    assert_eq!(
        fs::read_dir(used.share.join(".syncd/stage"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn an_upload_goes_on_after_both_were_killed_and_the_file_changed() {
    let mut used = Used::new();
    let line = Proxy::to(&used.address);
    let (mut content, mut child) = half_sent(&used, &line, 2);
    used.server.kill();
    child.kill().unwrap();
    child.wait().unwrap();
    line.cut();
    used.restart();
    content[2 * MIB..2 * MIB + 7].copy_from_slice(b"changed");
    used.write("large", &content);
    line.mend();
    let before = line.sent();
    let sums = used.again(&line, &["upload", "large"]);
    most(line.sent() - before, LARGE - PART);
    used.check(&sums);
    assert_eq!(fs::read(used.share.join("large")).unwrap(), content);
}

#[test]
fn of_a_file_that_is_there_only_the_change_is_sent() {
    let used = Used::new();
    let line = Proxy::to(&used.address);
    let mut content = noise(3, LARGE);
    used.write("large", &content);
    used.again(&line, &["upload", "large"]);
    content[5 * MIB] ^= 1;
    used.write("large", &content);
    let before = line.sent();
    let sums = used.again(&line, &["upload", "--force", "large"]);
    most(line.sent() - before, 0);
    used.check(&sums);
    assert_eq!(fs::read(used.share.join("large")).unwrap(), content);
}

/// Begins to fetch a large file, of which a part is here.
fn half_fetched(used: &Used, line: &Proxy, seed: u64) -> (Vec<u8>, Child) {
    let content = noise(seed, LARGE);
    used.share("large", &content);
    used.good(&["list"]);
    line.allow_back(PART as u64);
    let child = used.begin(line, &["get", "large"], Proxy::is_held_back);
    let here = || used.partial() >= (PART - SLACK / 2) as u64;
    assert!(wait::until(wait::PATIENCE, here), "a part is here");
    assert_eq!(used.names(), [".large.syncd-part"], "it is out of sight");
    (content, child)
}

#[test]
fn a_get_that_was_cut_goes_on() {
    let used = Used::new();
    let line = Proxy::to(&used.address);
    let (content, child) = half_fetched(&used, &line, 4);
    line.cut();
    let cut = Finished::of(child.wait_with_output().unwrap());
    assert_eq!(cut.code, Some(4), "{}", cut.err);
    line.mend();
    let before = line.received();
    let sums = used.again(&line, &["get", "large"]);
    most(line.received() - before, LARGE - PART);
    used.check(&sums);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    assert_eq!(used.names(), ["large"]);
}

#[test]
fn a_get_goes_on_after_both_were_killed_and_the_file_changed() {
    let mut used = Used::new();
    let line = Proxy::to(&used.address);
    let (mut content, mut child) = half_fetched(&used, &line, 5);
    used.server.kill();
    child.kill().unwrap();
    child.wait().unwrap();
    line.cut();
    content[3 * MIB..3 * MIB + 7].copy_from_slice(b"changed");
    content.extend_from_slice(b"longer");
    used.share("large", &content);
    used.restart();
    line.mend();
    let before = line.received();
    let sums = used.again(&line, &["get", "large"]);
    most(line.received() - before, LARGE - PART);
    used.check(&sums);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
}

#[test]
fn what_is_here_is_believed_only_block_by_block() {
    let used = Used::new();
    let line = Proxy::to(&used.address);
    let content = noise(6, LARGE);
    used.share("large", &content);
    // Somebody else's bytes in the middle, and more than there is.
    let mut wrong = content.clone();
    wrong[MIB] ^= 1;
    wrong.extend_from_slice(b"more");
    used.write(".large.syncd-part", &wrong);
    used.good(&["list"]);
    let before = line.received();
    let sums = used.again(&line, &["get", "large"]);
    most(line.received() - before, 0);
    used.check(&sums);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
    // An older version that may be replaced has most of a newer one.
    let file = File::options()
        .write(true)
        .open(used.share.join("large"))
        .unwrap();
    file.write_all_at(b"newer", 9 * MIB as u64).unwrap();
    let before = line.received();
    let sums = used.again(&line, &["get", "--force", "large"]);
    most(line.received() - before, 0);
    used.check(&sums);
    let newer = fs::read(used.share.join("large")).unwrap();
    assert!(fs::read(used.work.join("large")).unwrap() == newer);
}

#[test]
fn more_may_be_missing_than_waits_for_being_taken_in() {
    let used = Used::new();
    let content = noise(8, 40 * MIB);
    used.share("large", &content);
    used.write(".large.syncd-part", &content[..MIB]);
    let sums = used.good(&["get", "large"]);
    used.check(&sums);
    assert!(fs::read(used.work.join("large")).unwrap() == content);
}

#[test]
fn one_who_is_stopped_leaves_what_is_there_for_the_next() {
    let used = Used::new();
    let line = Proxy::to(&used.address);
    let (_, child) = half_fetched(&used, &line, 7);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let stopped = Finished::of(child.wait_with_output().unwrap());
    assert_eq!(stopped.code, Some(1), "{}", stopped.err);
    assert!(
        stopped.err.contains("stopped before it was complete"),
        "{}",
        stopped.err
    );
    assert!(used.partial() > 0);
}
