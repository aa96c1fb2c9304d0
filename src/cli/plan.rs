//! `syncd plan`.

use super::overview::{bytes, count};
use super::report::{Kind, Report, printable};
use super::sync::{self, TargetArguments};
use super::{log, render, runtime};
use crate::daemon::client::{Client, Plan, Planned};
use crate::daemon::options::{ClientOptions, Until};
use crate::daemon::status::ClientStatus;
use crate::host::dirs::Dirs;
use clap::Args;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Arguments of `syncd plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Wrong settings, no server, a client that runs already, or paths that could not be mirrored, or are held.
pub fn run(arguments: PlanArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let (mut options, log) = sync::merge(arguments.target.into())?;
    options.until = Until::Planned;
    log::start(&log, overrides)?;
    let (status, plans) = runtime::run(|stop| plan(options, stop))?;
    if arguments.json {
        let all = plans.iter().zip(&status.servers);
        let all = all.map(
            |((server, plan), peer)| json!({ "server": server, "plan": plan, "held": peer.held }),
        );
        let whole = json!({ "source": status.source, "servers": all.collect::<Vec<_>>() });
        render::print(&format!("{whole}\n"))?;
    } else {
        for ((server, plan), peer) in plans.iter().zip(&status.servers) {
            render::print(&text(
                server,
                plan,
                peer.held.as_ref().map_or(0, |held| held.entries),
            ))?;
        }
    }
    sync::problems(&status)
}

async fn plan(
    options: ClientOptions,
    stop: CancellationToken,
) -> Result<(ClientStatus, Vec<(String, Plan)>), Report> {
    let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
    let client = Client::prepare(options, dirs).map_err(|error| sync::explain(&error))?;
    let handle = Arc::new(OnceLock::new());
    let running = Arc::clone(&handle);
    let status = client
        .run(stop.clone(), move |handle| drop(running.set(handle)))
        .await
        .map_err(|error| sync::explain(&error))?;
    if stop.is_cancelled() {
        return Err(Report::new(
            Kind::Unexpected,
            "stopped before everything was looked at",
        ));
    }
    let plans = handle.get().map(|handle| handle.plans());
    Ok((status, plans.unwrap_or_default()))
}

fn text(server: &str, plan: &Plan, held: u64) -> String {
    let mut lines: Vec<String> = plan.changes.iter().map(line).collect();
    let more = plan.total.saturating_sub(plan.changes.len() as u64);
    if more > 0 {
        lines.push(format!("and {}", count(more, "other change")));
    }
    let mut sum = match plan.total {
        0 => format!("nothing is to be done at {server}"),
        total => format!(
            "{} at {server}, at most {} to send",
            count(total, "change"),
            bytes(plan.bytes)
        ),
    };
    if held > 0 {
        sum.push_str(&format!(", {} held", count(held, "deletion")));
    }
    lines.push(sum);
    let lines = lines.iter().map(|line| printable(line) + "\n");
    lines.collect()
}

fn line(change: &Planned) -> String {
    let Planned {
        action,
        path,
        to,
        why,
    } = change;
    let to = to.as_ref().map(|to| format!(" -> {to}"));
    format!("{action:10} {path}{} ({why})", to.unwrap_or_default())
}
