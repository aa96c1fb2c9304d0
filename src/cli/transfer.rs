//! What a person or a machine sees of transfers: sums as they come, progress on a terminal, failures in the end.

use super::everywhere::{self, Outcome, Words};
use super::report::Report;
use super::using;
use super::{overview, render};
use crate::daemon::user::files::{Done, Event, FileError, Progress, Told, Watcher};
use crate::host::local::Replace;
use crate::model::RelPath;
use crate::wire::{WireBytes, WirePath};
use clap::Args;
use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::HashMap;
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
/// Failures that are named in the end; more are counted.
const MAX_FAILURES: usize = 10_000;

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
pub(super) struct Show<'a> {
    pub(super) json: bool,
    pub(super) sums: Sums,
    pub(super) words: Words,
    /// Those that have events of their own; none where they bring files together.
    pub(super) servers: &'a [String],
}

impl Show<'_> {
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
            server: 0,
            progress: Arc::clone(&progress),
            stop: stop.child_token(),
        };
        let stopped = watcher.stop.clone();
        let shown = self.show(queue, &progress, &stopped);
        let (done, shown) = tokio::join!(transfers(watcher), shown);
        done.map_err(|error| super::sync::explain(&error))?;
        let outcomes = shown?;
        if stop.is_cancelled() && outcomes.iter().all(|it| it.failures.is_empty()) {
            return Err(using::explain("", &FileError::Stopped));
        }
        self.ended(&outcomes)?;
        everywhere::conclude(&outcomes, self.words)
    }

    fn is_of_several(&self) -> bool {
        self.servers.len() > 1
    }

    async fn show(
        &self,
        mut queue: mpsc::Receiver<Told>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Vec<Outcome>, Report> {
        let bar = if self.json {
            ProgressBar::hidden()
        } else {
            bar()
        };
        let noun = if self.is_of_several() { "copy" } else { "file" };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut tally, mut output) = (Tally::of(self.servers), Ok(()));
        loop {
            let told = tokio::select! {
                told = queue.recv() => told,
                _ = tick.tick() => {
                    advance(&bar, progress, noun);
                    continue;
                }
            };
            let Some(told) = told else { break };
            let (told, is_first) = tally.checked(told);
            let text = self.text(&told, is_first);
            tally.take(told);
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
        output.map(|()| tally.outcomes)
    }

    /// Says of several servers which have everything.
    fn ended(&self, outcomes: &[Outcome]) -> Result<(), Report> {
        if !self.is_of_several() {
            return Ok(());
        }
        if self.json {
            let line = |it: &Outcome| {
                let (server, files, failed) = (&it.server, it.done, it.failed);
                let object =
                    json!({ "event": "ended", "server": server, "files": files, "failed": failed });
                format!("{object}\n")
            };
            return render::print(&outcomes.iter().map(line).collect::<String>());
        }
        if outcomes.iter().all(|it| it.failures.is_empty()) {
            let (count, all) = (self.servers.len(), self.servers.join(", "));
            super::report::note(&[format!("all {count} servers have everything: {all}")]);
        }
        Ok(())
    }

    /// What is printed of an event; the sum of a file once.
    fn text(&self, told: &Told, is_first: bool) -> Option<Vec<u8>> {
        if !self.json {
            return match &told.event {
                Event::Done(done) if is_first => Some(sum_line(done)),
                _ => None,
            };
        }
        let mut object = match &told.event {
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
            // One server that cannot be reached is all that is said then.
            Event::Failed { path, .. } if path.is_empty() && !self.is_of_several() => return None,
            Event::Failed { path, error } => {
                let message = using::line(path, error);
                json!({ "event": "failed", "path": path, "message": message })
            }
        };
        if let (true, Some(fields)) = (self.is_of_several(), object.as_object_mut()) {
            let server = self.servers.get(told.server);
            fields.insert("server".to_owned(), json!(server));
        }
        Some(format!("{object}\n").into_bytes())
    }
}

/// What has come of the transfers so far.
struct Tally {
    outcomes: Vec<Outcome>,
    /// What was sent, where several servers are sent to: a path and a sum for each file.
    sums: Option<HashMap<RelPath, [u8; 32]>>,
}

impl Tally {
    fn of(servers: &[String]) -> Self {
        let mut outcomes: Vec<Outcome> = Vec::new();
        outcomes.resize_with(servers.len().max(1), Outcome::default);
        for (outcome, server) in outcomes.iter_mut().zip(servers) {
            outcome.server.clone_from(server);
        }
        Self {
            outcomes,
            sums: (servers.len() > 1).then(HashMap::new),
        }
    }

    /// Makes a failure of a file that another server has with another content; whether it is the first word of a file.
    fn checked(&mut self, told: Told) -> (Told, bool) {
        let (Event::Done(done), Some(sums)) = (&told.event, &mut self.sums) else {
            return (told, true);
        };
        match sums.get(&done.remote) {
            None => {
                sums.insert(done.remote.clone(), done.sum);
                (told, true)
            }
            Some(sum) if *sum == done.sum => (told, false),
            Some(_) => {
                let path = done.remote.to_string();
                let message = format!(
                    "`{path}` changed while it was sent: another server has another version"
                );
                let event = Event::Failed {
                    path,
                    error: FileError::Other(message),
                };
                (Told { event, ..told }, false)
            }
        }
    }

    fn take(&mut self, told: Told) {
        let Some(outcome) = self.outcomes.get_mut(told.server) else {
            return;
        };
        match told.event {
            Event::Begun { .. } => {}
            Event::Done(_) => outcome.done += 1,
            Event::Failed { path, error } => {
                outcome.failed += 1;
                if outcome.failures.len() < MAX_FAILURES {
                    outcome.failures.push((path, error));
                }
            }
        }
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

fn advance(bar: &ProgressBar, progress: &Progress, noun: &str) {
    let read = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let (done, files) = (read(&progress.done_files), read(&progress.files));
    bar.set_length(read(&progress.bytes));
    bar.set_position(read(&progress.done_bytes));
    bar.set_message(format!("{done} of {}", overview::count(files, noun)));
    bar.tick();
}

/// Files at a time that may be asked for.
pub(super) fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=64) => Ok(jobs),
        _ => Err("expected a number from 1 to 64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::daemon::user::files::{Done, Event, Told};
    use crate::model::RelPath;

    #[test]
    fn a_file_that_servers_have_otherwise_is_a_failure_of_the_second() {
        let told = |server, name: &[u8], sum| Told {
            server,
            event: Event::Done(Done {
                remote: RelPath::new(name).unwrap(),
                local: None,
                size: 1,
                sum: [sum; 32],
                moved: 1,
            }),
        };
        let mut tally = Tally::of(&["a:1".to_owned(), "b:1".to_owned()]);
        for (next, first) in [
            (told(0, b"same", 1), true),
            (told(1, b"same", 1), false),
            (told(1, b"other", 2), true),
            (told(0, b"other", 3), false),
        ] {
            let (told, is_first) = tally.checked(next);
            assert_eq!(is_first, first);
            tally.take(told);
        }
        let [one, two] = &tally.outcomes[..] else {
            panic!("two servers");
        };
        assert_eq!((one.done, one.failed, two.done, two.failed), (1, 1, 2, 0));
        let message = one.failures[0].1.to_string();
        assert!(message.contains("`other` changed while"), "{message}");
        // One server has no other to be held against.
        let mut alone = Tally::of(&[]);
        assert!(alone.checked(told(0, b"same", 1)).1);
        assert!(alone.checked(told(0, b"same", 2)).1);
    }
}
