//! `syncd accept`.

use super::overview::{count, number};
use super::report::{Kind, Report};
use super::{ask, render, runtime, settings};
use crate::daemon::status::HeldDeletions;
use crate::host::control::Running;
use clap::Args;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `syncd accept`.
#[derive(Debug, Args)]
pub struct AcceptArguments {
    /// The client's directory (default: the only client that runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Do not ask: delete what is shown
    #[arg(long)]
    yes: bool,
}

/// How long a client may take to say what it holds.
const LOOK: Duration = Duration::from_secs(30);
/// How long it may take to look at the source again and have the deletions done.
const DELETE: Duration = Duration::from_secs(3600);

/// Runs the command.
///
/// # Errors
/// When no client answers, nobody confirms, or something else would be deleted than what was shown.
pub fn run(arguments: &AcceptArguments) -> Result<(), Report> {
    let directory = arguments.directory.as_deref();
    let directory = directory.map(settings::absolute).transpose()?;
    let yes = arguments.yes;
    runtime::run(|stop| async move {
        tokio::select! {
            done = accept(directory, yes) => done,
            () = stop.cancelled() => Err(Report::new(Kind::Unexpected, "stopped: `syncd status` says what is held")),
        }
    })
}

async fn accept(directory: Option<PathBuf>, yes: bool) -> Result<(), Report> {
    let client = ask::client_of(directory.as_deref(), None).await?;
    let question = json!({ "op": "held" });
    let all: Vec<(String, HeldDeletions)> = ask::ask_client(&client, &question, LOOK).await?;
    if all.is_empty() {
        return render::line("no deletions are held");
    }
    for (server, held) in &all {
        render::print(&shown(&client, server, held))?;
    }
    if !yes {
        // A terminal may take its time: a signal must still be heard.
        let asked = tokio::task::spawn_blocking(confirm).await;
        asked.map_err(|error| Report::new(Kind::Unexpected, "cannot ask").caused_by(&error))??;
    }
    for (server, held) in &all {
        let question = json!({ "op": "accept", "server": server, "entries": held.entries });
        let deleted: u64 = ask::ask_client(&client, &question, DELETE).await?;
        render::line(&format!("deleted {} at {server}", count(deleted, "entry")))?;
    }
    Ok(())
}

/// What would be deleted, and what may be the better way.
fn shown(client: &Running, server: &str, held: &HeldDeletions) -> String {
    let mut lines = vec![
        format!("{}: {}", settings::shown(&client.directory), held.reason),
        format!("  {}", held.advice),
        format!(
            "  {} of {} would be deleted at {server}:",
            number(held.entries),
            count(held.total, "entry")
        ),
    ];
    lines.extend(held.examples.iter().map(|path| format!("    {path}")));
    if held.entries > held.examples.len() as u64 {
        lines.push("    and more, or more below them".to_owned());
    }
    let lines = lines
        .iter()
        .map(|line| super::report::printable(line) + "\n");
    lines.collect()
}

fn confirm() -> Result<(), Report> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        let message = "nothing is deleted: there is no terminal to ask at";
        return Err(
            Report::new(Kind::Usage, message).hint("`--yes` deletes what was shown without asking")
        );
    }
    render::line(
        "type `delete` to delete them for good, anything else to leave everything as it is:",
    )?;
    let mut answer = String::new();
    let read = input.lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "delete" {
        Ok(())
    } else {
        Err(Report::new(Kind::Usage, "nothing is deleted"))
    }
}
