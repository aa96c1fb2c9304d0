//! `syncd status`.

use super::report::{Kind, Report};
use super::{ask, overview, render, runtime, settings};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `syncd status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Only the server or client of this directory (default: all that this user runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
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
pub fn run(arguments: &StatusArguments) -> Result<(), Report> {
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
