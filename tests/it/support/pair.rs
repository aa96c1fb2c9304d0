//! A source and its mirror with a running server and client between them.

use super::daemon::Daemon;
use super::sandbox::{Finished, Sandbox};
use super::slow::SlowLine;
use super::{tree, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A server, a client, and their directories `mirror` and `source` in a sandbox.
#[derive(Debug)]
pub struct Pair {
    /// Where it all lies.
    pub sandbox: Sandbox,
    /// The server.
    pub server: Daemon,
    /// Its address.
    pub address: String,
    /// The client.
    pub client: Daemon,
    /// What is mirrored.
    pub source: PathBuf,
    /// What the server fills.
    pub mirror: PathBuf,
}

impl Pair {
    /// Starts both with their defaults on an empty source.
    pub fn new() -> Self {
        Self::of(Sandbox::new())
    }

    /// Starts both on what the sandbox has in `source` and `mirror`. Files `server.toml` and `client.toml` are their
    /// settings.
    pub fn of(sandbox: Sandbox) -> Self {
        Self::over(sandbox, str::to_owned)
    }

    /// Starts both, and what is between them: `line` is told the server's address, and gives the one that is dialled.
    fn over(sandbox: Sandbox, line: impl FnOnce(&str) -> String) -> Self {
        let (source, mirror) = (sandbox.dir("source"), sandbox.dir("mirror"));
        let (server, address) = start_server(&sandbox, "127.0.0.1:0");
        let client = start_client(&sandbox, &line(&address));
        Self {
            sandbox,
            server,
            address,
            client,
            source,
            mirror,
        }
    }

    /// Starts both with a line between them that carries so many bytes a second to the server.
    pub fn over_slow_line(sandbox: Sandbox, rate: u32) -> (Self, SlowLine) {
        let mut line = None;
        let pair = Self::over(sandbox, |address| {
            let slow = line.insert(SlowLine::to(address, rate));
            slow.address.clone()
        });
        (pair, line.expect("it was dialled"))
    }

    /// Waits with `syncd flush` until all is durable; then, at once, the mirror is equal to the source.
    pub fn settle(&self) {
        self.flush();
        let left = tree::differences(&self.source, &self.mirror);
        assert!(
            left.is_empty(),
            "after a flush the mirror differs:\n{}\nclient: {}\nserver: {}",
            left.join("\n"),
            self.client.err(),
            self.server.err()
        );
    }

    /// `syncd flush`, which must succeed.
    pub fn flush(&self) {
        let flush = self.sandbox.run(&["flush", "-d", "source"]);
        assert_eq!(
            flush.code,
            Some(0),
            "{}\nclient: {}\nserver: {}",
            flush.err,
            self.client.err(),
            self.server.err()
        );
    }

    /// The status of the client.
    pub fn status(&self) -> Value {
        status(&self.sandbox, "source")
    }

    /// Bytes that the client has sent.
    pub fn sent(&self) -> u64 {
        let status = self.status();
        status["servers"][0]["sent_bytes"].as_u64().unwrap()
    }

    /// Starts the server again at the address that it had.
    pub fn restart_server(&mut self) {
        let address = self.address.clone();
        self.server = start_server(&self.sandbox, &address).0;
    }

    /// Starts the client again.
    pub fn restart_client(&mut self) {
        self.client = start_client(&self.sandbox, &self.address);
    }

    /// Ends both as a user does.
    pub fn stop(mut self) {
        self.client.stop();
        self.server.stop();
    }
}

fn settings(sandbox: &Sandbox, name: &str) -> Vec<PathBuf> {
    let file = sandbox.path(name);
    if file.exists() {
        vec![PathBuf::from("-c"), file]
    } else {
        Vec::new()
    }
}

fn start_server(sandbox: &Sandbox, address: &str) -> (Daemon, String) {
    let mut command = sandbox.syncd();
    command
        .args(["server", "-d", "mirror", "--listen", address])
        .args(settings(sandbox, "server.toml"));
    Daemon::server_with(sandbox, "server", &mut command)
}

fn start_client(sandbox: &Sandbox, address: &str) -> Daemon {
    let mut command = sandbox.syncd();
    command
        .args(["client", "-d", "source", "--server", address])
        .args(settings(sandbox, "client.toml"));
    let client = Daemon::start(sandbox, "client", &mut command);
    assert!(
        wait::until(wait::PATIENCE, || answers(sandbox, "source")),
        "the client does not answer: {}",
        client.err()
    );
    client
}

/// Whether a daemon of a directory says its status.
pub fn answers(sandbox: &Sandbox, directory: &str) -> bool {
    sandbox.run(&["status", "-d", directory]).code == Some(0)
}

/// The status of the daemon of a directory.
pub fn status(sandbox: &Sandbox, directory: &str) -> Value {
    let run = sandbox.run(&["status", "--json", "-d", directory]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let mut all: Value = serde_json::from_str(&run.out).unwrap();
    all[0].take()
}

/// `syncd client --once` of a directory, with more arguments.
pub fn once(sandbox: &Sandbox, directory: &Path, address: &str, more: &[&str]) -> Finished {
    let mut command = sandbox.syncd();
    command
        .args(["client", "--once", "--server", address, "-d"])
        .arg(directory)
        .args(more);
    Finished::of(command.output().unwrap())
}
