//! A running `syncd server` or `syncd client`.

use super::sandbox::Sandbox;
use super::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// A process of the program. Killed when dropped; its standard output and error are files of the sandbox.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Daemon {
    /// Starts `command`; `name` tells its files apart from those of the sandbox's other daemons.
    pub fn start(sandbox: &Sandbox, name: &str, command: &mut Command) -> Self {
        let (out, err) = (
            sandbox.path(&format!("{name}.out")),
            sandbox.path(&format!("{name}.err")),
        );
        let child = command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    /// Starts a server on a free port and waits until it is ready. Gives its address, too.
    pub fn server(sandbox: &Sandbox, directory: &Path) -> (Self, String) {
        let mut command = sandbox.syncd();
        command
            .args(["server", "--listen", "127.0.0.1:0", "-d"])
            .arg(directory);
        Self::server_with(sandbox, "server", &mut command)
    }

    /// Starts a server as `command` says and waits until it is ready. Gives its address, too.
    pub fn server_with(sandbox: &Sandbox, name: &str, command: &mut Command) -> (Self, String) {
        let mut server = Self::start(sandbox, name, command);
        let address = server.ready();
        (server, address)
    }

    /// Starts a client.
    pub fn client(sandbox: &Sandbox, directory: &Path, server: &str) -> Self {
        let mut command = sandbox.syncd();
        command
            .args(["client", "--server", server, "-d"])
            .arg(directory);
        Self::start(sandbox, "client", &mut command)
    }

    /// Waits for the line `listening on ADDR:PORT` and gives the address.
    pub fn ready(&mut self) -> String {
        let mut address = None;
        let ready = wait::until(wait::PATIENCE, || {
            address = self.out().split_inclusive('\n').find_map(|line| {
                Some(
                    line.strip_prefix("listening on ")?
                        .strip_suffix('\n')?
                        .to_owned(),
                )
            });
            address.is_some() || !self.runs()
        });
        assert!(ready, "the server is not ready: {}", self.err());
        address.unwrap_or_else(|| panic!("the server ended: {}", self.err()))
    }

    /// What it printed on standard output so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap()).into_owned()
    }

    /// What it printed on standard error so far.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.err).unwrap()).into_owned()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        let ended = wait::until(deadline, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it does not end: {}", self.err());
        status.unwrap()
    }

    /// SIGTERM, and its end within 15 s with exit code 0.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.end(Duration::from_secs(15));
        assert_eq!(status.code(), Some(0), "{}", self.err());
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
