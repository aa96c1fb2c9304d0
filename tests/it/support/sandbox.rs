//! A home of its own for the processes of one test.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with HOME, TMP and the XDG directories of one test. Removed in the end.
#[derive(Debug)]
pub struct Sandbox {
    root: tempfile::TempDir,
}

impl Sandbox {
    /// A new one, with empty directories `home`, `tmp` and `run`.
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("syncd-it-")
            .tempdir()
            .unwrap();
        for name in ["home", "tmp", "run"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        // A runtime directory that others may enter would be refused.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(root.path().join("run"), private).unwrap();
        Self { root }
    }

    /// Where everything of this test lies.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path below the root; the file need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A new empty directory below the root.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The real program with a cleared environment and this home. It runs in the root of the sandbox, without standard
    /// input.
    pub fn syncd(&self) -> Command {
        self.syncd_of("home")
    }

    /// The same with another home, `name`, below the root: another user's, so to speak.
    pub fn syncd_of(&self, name: &str) -> Command {
        let home = self.dir(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncd"));
        command
            .env_clear()
            .env("HOME", &home)
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.root())
            .stdin(Stdio::null());
        command
    }

    /// A user whom modes of files bind: the one of the tests, or for root another one, to whom all that lies in the
    /// sandbox is given.
    pub fn syncd_bound(&self) -> Command {
        let mut command = self.syncd();
        if !rustix::process::geteuid().is_root() {
            return command;
        }
        // The checkout may lie where others cannot go.
        let program = self.path("syncd");
        if !program.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_syncd"), &program).unwrap();
        }
        give(self.root());
        let mut bound = Command::new(&program);
        bound.env_clear().current_dir(self.root());
        bound.envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        bound.stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        command = bound;
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.syncd().args(arguments).output().unwrap())
    }
}

/// The user and group that own nothing.
const NOBODY: u32 = 65534;

/// Gives a path away, with all below it. What is gone meanwhile was a file of a program that runs already.
fn give(path: &Path) {
    match std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        given => given.unwrap(),
    }
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            give(&entry.unwrap().path());
        }
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Finished {
    /// From what the system collected.
    pub fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}
