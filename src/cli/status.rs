//! `syncd status`.

use super::report::{Kind, Report};
use super::using::{self, UseArguments};
use super::{ask, log, overview, render, runtime, settings};
use crate::config::Address;
use crate::daemon::user::files::{self, FileError};
use crate::host::clock;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `syncd status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Only the server or client of this directory (default: all that this user runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Whether these servers answer this device, and how fast, instead of what runs here: repeated, or with commas
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        conflicts_with_all = ["directory", "watch"]
    )]
    server: Vec<Address>,
    /// Show it again every second until stopped
    #[arg(long)]
    watch: bool,
    /// Print a JSON array, one object for each server and client
    #[arg(long)]
    json: bool,
}

/// How often `--watch` asks.
const PERIOD: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// When no daemon answers.
pub fn run(arguments: &StatusArguments, overrides: &log::Overrides) -> Result<(), Report> {
    if !arguments.server.is_empty() {
        return servers(arguments, overrides);
    }
    let directory = arguments
        .directory
        .as_deref()
        .map(settings::absolute)
        .transpose()?;
    let directory = directory.as_deref();
    runtime::run(|stop| async move {
        if !arguments.watch {
            return render::print(&text(directory, arguments.json).await?);
        }
        loop {
            let text = text(directory, arguments.json).await?;
            if arguments.json {
                render::print(&text)?;
            } else {
                render::redraw(&text)?;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    })
}

/// Shows whether each server answers.
fn servers(arguments: &StatusArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let meant = UseArguments::of_servers(arguments.server.clone());
    let json = arguments.json;
    using::run(meant, overrides, |way, _| async move {
        let connected = files::everywhere(way.servers().iter().cloned(), |_, server| {
            let way = Arc::clone(&way);
            async move {
                let begun = clock::monotonic();
                let connection = way.connect(&server).await?;
                let took = clock::monotonic().saturating_duration_since(begun);
                connection.close().await;
                Ok(took)
            }
        });
        let answers: Vec<Answer> = way.servers().iter().cloned().zip(connected.await).collect();
        render::print(&if json {
            objects(&answers)
        } else {
            lines(&answers)
        })?;
        silence(&answers)
    })
}

/// A server, and how long it took to connect to it, or why it could not be used.
type Answer = (String, Result<Duration, FileError>);

fn objects(answers: &[Answer]) -> String {
    let objects = answers.iter().map(|(server, answer)| match answer {
        Ok(took) => {
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            json!({ "server": server, "answers": true, "connected_ms": took })
        }
        Err(error) => {
            json!({ "server": server, "answers": false, "reason": using::line("", error) })
        }
    });
    format!("{}\n", Value::from(objects.collect::<Vec<_>>()))
}

fn lines(answers: &[Answer]) -> String {
    let line = |(server, answer): &Answer| match answer {
        Ok(took) => format!("{server}: answers, connected in {} ms\n", took.as_millis()),
        Err(error) => format!("{server}: {}\n", using::line("", error)),
    };
    answers.iter().map(line).collect()
}

/// What it comes to that some do not answer.
fn silence(answers: &[Answer]) -> Result<(), Report> {
    let mut failures = answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().err());
    let Some(first) = failures.next() else {
        return Ok(());
    };
    if failures.count() + 1 == answers.len() {
        return Err(Report::new(using::kind(first), "no server can be used"));
    }
    Err(Report::new(Kind::Problems, "not all servers can be used"))
}

async fn text(directory: Option<&Path>, json: bool) -> Result<String, Report> {
    let statuses = ask::status(directory).await?;
    if json {
        let text = serde_json::to_string(&statuses).map_err(|error| {
            Report::new(Kind::Unexpected, "the status cannot be shown").caused_by(&error)
        })?;
        return Ok(text + "\n");
    }
    let blocks: Vec<String> = statuses.iter().map(overview::text).collect();
    Ok(blocks.join("\n"))
}
