//! Where a benchmark runs: a directory that goes with it, and a server in it.

use crate::cli::report::{Kind, Report};
use crate::cli::settings::shown;
use crate::cli::{log, render, runtime, serve};
use crate::config::{Level, Log};
use crate::host::dirs::Dirs;
use crate::host::{clock, process, random};
use clap::Args;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a server may take to end.
const END: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const GLANCE: Duration = Duration::from_millis(5);

/// Arguments of the server of a benchmark.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Its place
    #[arg(value_name = "DIR")]
    place: PathBuf,
}

/// Runs a server that belongs to a benchmark: it ends when the benchmark does, however that ends.
///
/// # Errors
/// Whatever stops the server.
pub fn serve(arguments: ServeArguments, overrides: &log::Overrides) -> Result<(), Report> {
    log::start(&quiet(), overrides)?;
    let options = serve::for_itself(&arguments.place.join("share"))?;
    let dirs = Dirs::below(&arguments.place.join("home"));
    runtime::run(|stop| async move {
        let ends = stop.clone();
        let watch = crate::host::thread::spawn("syncd-stdin", move || {
            // Nothing is ever written: it returns when the other end is gone.
            drop(io::stdin().read(&mut [0]));
            ends.cancel();
        });
        watch.map_err(|error| {
            Report::new(Kind::Unexpected, "cannot start a thread").caused_by(&error)
        })?;
        let ready = |listening: serve::Listening| render::listening(listening.clients);
        serve::serve_in(options, &dirs, ready, stop).await
    })
}

/// What goes wrong, and no more.
pub(super) fn quiet() -> Log {
    Log {
        level: Level::Warn,
        ..Log::default()
    }
}

fn failed(attempt: &str, path: &Path) -> impl FnOnce(io::Error) -> Report {
    let message = format!("cannot {attempt} `{}`", shown(path));
    move |error| Report::new(Kind::Storage, message).caused_by(&error)
}

/// A directory that is removed, with all in it, when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    /// Makes one below a directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn below(directory: &Path) -> Result<Self, Report> {
        let name = random::hex::<6>();
        let name = name.map_err(|error| Report::from_error(Kind::Unexpected, &error))?;
        let path = directory.join(format!(".syncd-bench-{name}"));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(failed("make the directory", &path))
            .map_err(|report| report.hint("`--work DIR` names another place"))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all that is in it, and waits until the file system has come to rest.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn clear(&self) -> Result<(), Report> {
        let clear = || {
            for entry in fs::read_dir(&self.path)? {
                fs::remove_dir_all(entry?.path())?;
            }
            Ok(rustix::fs::syncfs(File::open(&self.path)?)?)
        };
        clear().map_err(failed("clear the directory", &self.path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "`{}` could not be removed", shown(&self.path));
        }
    }
}

/// A server of its own, in a process of its own. Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts one in an empty place, and waits until it is ready. Blocks.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(place: &Path) -> Result<Self, Report> {
        let start = || {
            fs::create_dir(place.join("share"))?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bench", "serve"]).arg(place);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            // Ctrl-C is for the benchmark: it has the server end.
            command.process_group(0).spawn()
        };
        let no_server = || Report::new(Kind::Unexpected, "cannot start a server");
        let child = start().map_err(|error| no_server().caused_by(&error))?;
        let mut server = Self {
            child,
            address: String::new(),
        };
        let mut line = String::new();
        if let Some(out) = server.child.stdout.take() {
            let read = BufReader::new(out).read_line(&mut line);
            read.map_err(|error| no_server().caused_by(&error))?;
        }
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.ok_or_else(no_server)?;
        address.clone_into(&mut server.address);
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// CPU time that it has used.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn cpu_time(&self) -> Result<Duration, Report> {
        cpu_time(self.child.id())
    }

    /// Has it end, and waits for that.
    ///
    /// # Errors
    /// When it does not, or not well.
    pub(super) async fn end(mut self) -> Result<(), Report> {
        drop(self.child.stdin.take());
        let begun = clock::monotonic();
        let message = loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => break format!("the server ended with {status}"),
                Ok(None) if begun.elapsed() > END => break "the server did not end".to_owned(),
                Ok(None) => tokio::time::sleep(GLANCE).await,
                Err(error) => break format!("the server is lost: {error}"),
            }
        };
        Err(Report::new(Kind::Unexpected, message))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// CPU time that a process has used.
pub(super) fn cpu_time(id: u32) -> Result<Duration, Report> {
    process::cpu_time(id).map_err(|error| {
        Report::new(Kind::Unexpected, "cannot see what CPU time was used").caused_by(&error)
    })
}

/// Whether a benchmark is to end.
pub(super) fn check(stop: &CancellationToken) -> Result<(), Report> {
    if stop.is_cancelled() {
        return Err(Report::new(
            Kind::Unexpected,
            "stopped before everything was measured",
        ));
    }
    Ok(())
}
