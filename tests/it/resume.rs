//! What the server has of a large file is not sent again when the line is cut, a side dies, or the file changes meanwhile.

use crate::support::daemon::Daemon;
use crate::support::files::{noise, write};
use crate::support::proxy::Proxy;
use crate::support::sandbox::Sandbox;
use crate::support::{pair, tree, wait};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const MIB: usize = 1024 * 1024;
/// Length of the large file.
const LARGE: usize = 12 * MIB;
/// How much of it goes before something happens.
const PART: usize = 6 * MIB;
/// What was under way and is lost, messages, handshakes.
const SLACK: usize = MIB;

/// A server and a client with a line between them that can be cut.
struct Far {
    sandbox: Sandbox,
    server: Daemon,
    address: String,
    line: Proxy,
    client: Daemon,
    source: PathBuf,
    mirror: PathBuf,
}

impl Far {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
        let (server, address) = Daemon::server(&sandbox, &mirror);
        let line = Proxy::to(&address);
        let client = Daemon::client(&sandbox, &source, &line.address);
        let far = Self {
            sandbox,
            server,
            address,
            line,
            client,
            source,
            mirror,
        };
        assert!(wait::until(wait::PATIENCE, || pair::answers(
            &far.sandbox,
            "source"
        )));
        far.settle();
        far
    }

    /// A large file moves into the source at once.
    fn write(&self, content: &[u8]) {
        let made = write(&self.sandbox.dir("aside"), "large", content);
        fs::rename(made, self.source.join("large")).unwrap();
    }

    /// Overwrites a part of it.
    fn overwrite(&self, at: usize, content: &[u8]) {
        let file = File::options().write(true).open(self.source.join("large"));
        file.unwrap().write_all_at(content, at as u64).unwrap();
    }

    /// Does something that has a large file sent, and waits until the server has a part of it.
    fn begin(&self, bytes: usize, change: impl FnOnce(&Self)) {
        self.line.allow(bytes as u64);
        change(self);
        assert!(wait::until(wait::PATIENCE, || self.line.is_held()));
        let stage = self.mirror.join(".syncd/stage");
        let most = |files: fs::ReadDir| {
            let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
            sizes.max().unwrap_or(0)
        };
        let staged = || fs::read_dir(&stage).map_or(0, most) >= (bytes - SLACK / 2) as u64;
        assert!(wait::until(wait::PATIENCE, staged), "it is staged");
        assert!(
            fs::read_dir(&self.mirror).unwrap().count() <= 2,
            "it is out of sight"
        );
    }

    fn restart_server(&mut self) {
        let mut command = self.sandbox.syncd();
        command.args(["server", "-d", "mirror", "--listen", &self.address]);
        self.server = Daemon::server_with(&self.sandbox, "server", &mut command).0;
    }

    fn restart_client(&mut self) {
        self.client = Daemon::client(&self.sandbox, &self.source, &self.line.address);
    }

    /// Lets everything go on, and waits for the mirror to be equal after so many bytes at most.
    fn goes_on_with(&self, bytes: usize) {
        let before = self.line.sent();
        self.line.mend();
        tree::assert_converges(&self.source, &self.mirror);
        self.settle();
        let sent = self.line.sent() - before;
        assert!(
            sent <= (bytes + SLACK) as u64,
            "{sent} bytes were sent\nserver: {}\nclient: {}",
            self.server.err(),
            self.client.err()
        );
        let stage = self.mirror.join(".syncd/stage");
        assert_eq!(fs::read_dir(stage).unwrap().count(), 0, "nothing is left");
    }

    fn settle(&self) {
        let flush = self.sandbox.run(&["flush", "-d", "source"]);
        assert_eq!(flush.code, Some(0), "{}\n{}", flush.err, self.client.err());
        let left = tree::differences(&self.source, &self.mirror);
        assert!(left.is_empty(), "{left:?}");
    }

    fn stop(mut self) {
        self.client.stop();
        self.server.stop();
    }
}

#[test]
fn a_cut_line_costs_only_what_was_under_way() {
    let far = Far::new();
    far.begin(PART, |far| far.write(&noise(1, LARGE)));
    far.line.cut();
    far.goes_on_with(LARGE - PART);
    far.stop();
}

#[test]
fn a_client_that_is_killed_does_not_send_again_what_the_server_has() {
    let mut far = Far::new();
    far.begin(PART, |far| far.write(&noise(2, LARGE)));
    far.client.kill();
    far.line.cut();
    far.restart_client();
    far.goes_on_with(LARGE - PART);
    far.stop();
}

#[test]
fn a_server_that_is_killed_still_has_what_it_had() {
    let mut far = Far::new();
    far.begin(PART, |far| far.write(&noise(3, LARGE)));
    far.server.kill();
    far.line.cut();
    far.restart_server();
    far.goes_on_with(LARGE - PART);
    far.stop();
}

#[test]
fn of_a_new_file_that_changes_while_the_line_is_cut_only_the_change_is_sent_again() {
    let far = Far::new();
    far.begin(PART, |far| far.write(&noise(4, LARGE)));
    far.line.cut();
    far.overwrite(MIB, b"changed");
    far.overwrite(5 * MIB, &noise(5, MIB));
    far.overwrite(LARGE, b"longer");
    far.goes_on_with(LARGE - PART + MIB);
    far.stop();
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_not_sent_twice() {
    let far = Far::new();
    far.begin(PART, |far| far.write(&noise(6, LARGE)));
    far.overwrite(5 * MIB, &noise(7, MIB));
    far.goes_on_with(LARGE - PART + MIB);
    far.stop();
}

#[test]
fn a_new_version_goes_on_where_it_was_and_takes_the_rest_from_the_old_one() {
    let mut far = Far::new();
    far.write(&noise(8, LARGE));
    far.settle();
    far.begin(PART, |far| far.overwrite(0, &noise(9, PART + 2 * MIB)));
    far.line.cut();
    far.server.kill();
    far.restart_server();
    far.goes_on_with(2 * MIB);
    far.stop();
}
