//! What a person or a machine sees of transfers: sums as they come, progress on a terminal, failures in the end.

use super::report::Report;
use super::using;
use super::{overview, render};
use crate::daemon::user::files::{Done, Event, FileError, Progress, Watcher};
use crate::host::local::Replace;
use crate::wire::{WireBytes, WirePath};
use clap::Args;
use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Events that may wait to be shown.
const WAITING: usize = 1024;
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(200);
/// Failures that are kept to be told in the end; each is told when it happens.
const MAX_FAILURES: usize = 100;

/// How files are moved.
#[derive(Debug, Args)]
pub struct TransferArguments {
    /// Directories, too, with all below them
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// Files at a time, 1 to 64 (default: twice as many as the machine has processors, 4 to 8)
    #[arg(short, long, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<usize>,
    /// Replace files that are there with another content
    #[arg(short, long)]
    force: bool,
    /// Print one JSON object a line for what happens
    #[arg(long)]
    pub(super) json: bool,
}

impl TransferArguments {
    /// Whether files may be replaced.
    pub(super) fn replace(&self) -> Replace {
        if self.force {
            Replace::Allowed
        } else {
            Replace::Refused
        }
    }

    /// How many files are moved at a time. When nobody says, some wait for a disk while others keep the processors busy.
    pub(super) fn jobs(&self) -> usize {
        let machine = std::thread::available_parallelism().map_or(2, usize::from);
        let usual = machine.saturating_mul(2).clamp(4, 8);
        self.jobs.unwrap_or(usual)
    }
}

/// How the files of this machine are called in the sums.
pub(super) enum Sums {
    /// On standard output.
    Printed,
    /// On standard error, because the content goes to standard output.
    Aside,
}

/// Shows what happens until everything is done.
pub(super) struct Show {
    pub(super) json: bool,
    pub(super) sums: Sums,
    /// What a failure says of several paths.
    pub(super) what: &'static str,
}

impl Show {
    /// Runs transfers, and shows them.
    pub(super) async fn watch<F>(
        self,
        stop: &CancellationToken,
        transfers: impl FnOnce(Watcher) -> F,
    ) -> Result<(), Report>
    where
        F: Future<Output = Result<(), crate::daemon::client::ClientError>>,
    {
        let (events, queue) = mpsc::channel(WAITING);
        let progress = Arc::new(Progress::default());
        let watcher = Watcher {
            events,
            progress: Arc::clone(&progress),
            stop: stop.child_token(),
        };
        let stopped = watcher.stop.clone();
        let shown = self.show(queue, &progress, &stopped);
        let (done, shown) = tokio::join!(transfers(watcher), shown);
        done.map_err(|error| super::sync::explain(&error))?;
        let failures = shown?;
        if failures.is_empty() && stop.is_cancelled() {
            return Err(using::explain("", &FileError::Stopped));
        }
        using::conclude(&failures, self.what)
    }

    async fn show(
        &self,
        mut queue: mpsc::Receiver<Event>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Vec<(String, FileError)>, Report> {
        let bar = if self.json {
            ProgressBar::hidden()
        } else {
            bar()
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failures, mut output) = (Vec::new(), Ok(()));
        loop {
            let event = tokio::select! {
                event = queue.recv() => event,
                _ = tick.tick() => {
                    advance(&bar, progress);
                    continue;
                }
            };
            let Some(event) = event else { break };
            let text = self.text(&event);
            if let Event::Failed { path, error } = event
                && failures.len() < MAX_FAILURES
            {
                failures.push((path, error));
            }
            if let Some(bytes) = text
                && output.is_ok()
            {
                output = bar.suspend(|| match self.sums {
                    Sums::Aside if !self.json => {
                        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                        super::report::note(&[line]);
                        Ok(())
                    }
                    _ => render::write(&bytes),
                });
                if output.is_err() {
                    stop.cancel();
                }
            }
        }
        bar.finish_and_clear();
        output.map(|()| failures)
    }

    fn text(&self, event: &Event) -> Option<Vec<u8>> {
        if !self.json {
            return match event {
                Event::Done(done) => Some(sum_line(done)),
                _ => None,
            };
        }
        let object = match event {
            Event::Begun { remote, size } => {
                json!({ "event": "begun", "remote": WirePath::from(remote), "size": size })
            }
            Event::Done(done) => json!({
                "event": "done",
                "remote": WirePath::from(&done.remote),
                "local": done.local.as_deref().map(exact),
                "size": done.size,
                "sha256": HEXLOWER.encode(&done.sum),
                "moved": done.moved,
            }),
            Event::Failed { path, error } => {
                let message = using::line(path, error);
                json!({ "event": "failed", "path": path, "message": message })
            }
        };
        Some(format!("{object}\n").into_bytes())
    }
}

fn exact(path: &Path) -> WireBytes {
    WireBytes::new(path.as_os_str().as_encoded_bytes())
}

/// A line as `sha256sum` prints it: names are exact, with what would break the line escaped.
fn sum_line(done: &Done) -> Vec<u8> {
    let name = done.local.as_deref().unwrap_or(Path::new("-"));
    let name = name.as_os_str().as_encoded_bytes();
    let mut line = Vec::new();
    if name.iter().any(|byte| b"\\\n\r".contains(byte)) {
        line.push(b'\\');
    }
    line.extend_from_slice(HEXLOWER.encode(&done.sum).as_bytes());
    line.extend_from_slice(b"  ");
    for byte in name {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// Hidden where nobody looks.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{msg}, {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left {wide_bar}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn advance(bar: &ProgressBar, progress: &Progress) {
    let read = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let (done, files) = (read(&progress.done_files), read(&progress.files));
    bar.set_length(read(&progress.bytes));
    bar.set_position(read(&progress.done_bytes));
    bar.set_message(format!("{done} of {}", overview::count(files, "file")));
    bar.tick();
}

/// Files at a time that may be asked for.
pub(super) fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=64) => Ok(jobs),
        _ => Err("expected a number from 1 to 64".to_owned()),
    }
}
