//! `syncd verify`.

use super::ask::{ask_client, client_of};
use super::overview::{bytes, count};
use super::report::{Kind, Report, printable};
use super::sync::{self, TargetArguments};
use super::{log, render, runtime};
use crate::daemon::client::{Client, Difference, Verification, Verifier};
use crate::daemon::options::{ClientOptions, ServerChoice, Until};
use crate::daemon::status::Status;
use crate::host::control::Running;
use crate::host::dirs::Dirs;
use crate::model::RelPath;
use crate::wire::WirePath;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Arguments of `syncd verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Have the mirror made what the source is; deletions beyond the limit are held as always
    #[arg(long)]
    repair: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How long a running client may take for one question.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to put right what it was told.
const REPAIR: Duration = Duration::from_secs(3600);
/// Paths that a running client is told at a time; the longest of them fit into one question.
const TOLD: usize = 4;
/// Bytes of paths that a running client is told at a time.
const TOLD_BYTES: usize = 16 * 1024;

/// What was found at one server, and after a repair.
struct Outcome {
    server: String,
    first: Verification,
    repaired: Option<Verification>,
}

impl Outcome {
    fn last(&self) -> &Verification {
        self.repaired.as_ref().unwrap_or(&self.first)
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong settings, no server, or both sides are not the same in the end.
pub fn run(arguments: VerifyArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let (options, log) = sync::merge(arguments.target.into())?;
    log::start(&log, overrides)?;
    let source = super::settings::shown(&options.directory);
    let repairs = arguments.repair;
    let outcomes = runtime::run(|stop| async move {
        let halt = stop.clone();
        tokio::select! {
            done = verify(options, repairs, stop) => done,
            () = halt.cancelled() => {
                Err(Report::new(Kind::Unexpected, "stopped before everything was compared"))
            }
        }
    })?;
    if arguments.json {
        let all = outcomes.iter().map(|outcome| {
            json!({ "server": outcome.server, "found": outcome.first, "repaired": outcome.repaired })
        });
        let whole = json!({ "source": source, "servers": all.collect::<Vec<_>>() });
        render::print(&format!("{whole}\n"))?;
    } else {
        for outcome in &outcomes {
            render::print(&text(outcome))?;
        }
    }
    conclude(&outcomes, repairs)
}

async fn verify(
    mut options: ClientOptions,
    repairs: bool,
    stop: CancellationToken,
) -> Result<Vec<Outcome>, Report> {
    let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
    let client = client_of(Some(&options.directory), None).await.ok();
    if let Some(client) = client
        .as_ref()
        .filter(|_| options.choice == ServerChoice::Default)
    {
        as_it_runs(client, &mut options).await?;
    }
    let explained = |error| sync::explain(&error);
    let mut verifiers = Verifier::open(options.clone(), dirs.clone())
        .await
        .map_err(explained)?;
    let mut outcomes = Vec::new();
    for verifier in &mut verifiers {
        verifier.run(client.as_ref()).await.map_err(explained)?;
        outcomes.push(Outcome {
            server: verifier.address().to_owned(),
            first: verifier.verification(),
            repaired: None,
        });
    }
    for (verifier, outcome) in verifiers.iter_mut().zip(&mut outcomes) {
        if !repairs || outcome.first.different() == 0 {
            continue;
        }
        match &client {
            Some(client) => tell(client, verifier).await?,
            None => once(options.clone(), &dirs, verifier, stop.clone()).await?,
        }
        verifier.recheck(client.as_ref()).await.map_err(explained)?;
        outcome.repaired = Some(verifier.verification());
    }
    for verifier in verifiers {
        verifier.close().await;
    }
    Ok(outcomes)
}

/// The servers and the share of a client that runs, where nobody named others.
async fn as_it_runs(client: &Running, options: &mut ClientOptions) -> Result<(), Report> {
    let status: Status = ask_client(client, &json!({ "op": "status" }), PATIENCE).await?;
    if let Status::Client(status) = status
        && !status.servers.is_empty()
    {
        let share = status
            .servers
            .iter()
            .find_map(|server| server.share.clone());
        options.share = options.share.take().or(share);
        options.servers = status
            .servers
            .into_iter()
            .map(|server| server.address)
            .collect();
        options.choice = ServerChoice::Named;
    }
    Ok(())
}

/// Has a running client put right what differs, and waits for it.
async fn tell(client: &Running, verifier: &Verifier) -> Result<(), Report> {
    let paths = verifier.paths();
    let mut paths = paths.iter().map(WirePath::from).peekable();
    while paths.peek().is_some() {
        let (mut told, mut size) = (Vec::new(), 0);
        while let Some(path) = paths.next_if(|_| told.len() < TOLD || size < TOLD_BYTES) {
            size += path.bytes().map_or(0, |bytes| bytes.len());
            told.push(path);
        }
        let question = json!({ "op": "repair", "server": verifier.address(), "paths": told });
        let _taken: Value = ask_client(client, &question, PATIENCE).await?;
    }
    let _status: Value = ask_client(client, &json!({ "op": "flush" }), REPAIR).await?;
    Ok(())
}

/// Puts right what differs by a client that ends when that is done. What it holds is said.
async fn once(
    mut options: ClientOptions,
    dirs: &Dirs,
    verifier: &Verifier,
    stop: CancellationToken,
) -> Result<(), Report> {
    options.until = Until::Mirrored;
    options.servers = vec![verifier.address().to_owned()];
    options.choice = ServerChoice::Named;
    let (address, paths): (String, Vec<RelPath>) =
        (verifier.address().to_owned(), verifier.paths());
    let client = Client::prepare(options, dirs.clone()).map_err(|error| sync::explain(&error))?;
    let status = client.run(stop, move |handle| {
        if let Err(message) = handle.repair_first(&address, paths) {
            tracing::warn!("{message}");
        }
    });
    let status = status.await.map_err(|error| sync::explain(&error))?;
    for problem in &status.problems {
        tracing::warn!("`{}`: {}", problem.path, problem.message);
    }
    Ok(())
}

fn text(outcome: &Outcome) -> String {
    let Outcome { server, first, .. } = outcome;
    let mut lines: Vec<String> = first.differences.iter().map(line).collect();
    let more = first
        .different()
        .saturating_sub(first.differences.len() as u64);
    if more > 0 {
        lines.push(format!("and {}", count(more, "other path")));
    }
    lines.push(sums(server, first));
    if let Some(left) = &outcome.repaired {
        let mended = first.different().saturating_sub(left.different());
        lines.push(format!("put right {} at {server}", count(mended, "path")));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn line(difference: &Difference) -> String {
    let Difference {
        status,
        path,
        what,
        why,
    } = difference;
    let mut about = what.join(", ");
    if let Some(why) = why {
        about.push_str(why);
    }
    let about = if about.is_empty() {
        about
    } else {
        format!(" ({about})")
    };
    format!("{:10} {path}{about}", status.word())
}

fn sums(server: &str, found: &Verification) -> String {
    let equal = format!(
        "{} with {} the same at {server}",
        count(found.equal, "path"),
        bytes(found.bytes)
    );
    let rows = [
        (found.differing, "differing"),
        (found.missing, "missing"),
        (found.extra, "extra"),
        (found.unreadable, "unreadable"),
        (found.changing, "changing"),
        (found.ignored, "ignored"),
        (found.skipped, "skipped"),
    ];
    let rows = rows.iter().filter(|(number, _)| *number > 0);
    let rows = rows.map(|(number, word)| format!(", {} {word}", super::overview::number(*number)));
    equal + &rows.collect::<String>()
}

/// Whether both sides are the same in the end.
fn conclude(outcomes: &[Outcome], repairs: bool) -> Result<(), Report> {
    let different: u64 = outcomes
        .iter()
        .map(|outcome| outcome.last().different())
        .sum();
    let problems: u64 = outcomes
        .iter()
        .map(|outcome| outcome.last().problems_total)
        .sum();
    let unread = outcomes.iter().flat_map(|outcome| &outcome.last().problems);
    let unread = unread.map(|problem| format!("`{}`: {}", problem.path, problem.message));
    if different == 0 && problems == 0 {
        return Ok(());
    }
    if different == 0 {
        let message = format!("{} could not be compared", count(problems, "path"));
        return Err(Report::new(Kind::Problems, message).detail(unread));
    }
    let are = if different == 1 { "is" } else { "are" };
    let message = format!(
        "{} {are} not the same on both sides",
        count(different, "path")
    );
    let report = Report::new(Kind::Problems, message);
    if !repairs {
        let hint = "`syncd verify --repair` makes the mirror what the source is";
        return Err(report.detail(unread).hint(hint));
    }
    let left = outcomes
        .iter()
        .flat_map(|outcome| &outcome.last().differences);
    let left =
        left.map(|difference| format!("`{}`: {}", difference.path, difference.status.word()));
    let hint = "`syncd status` says what a client holds or could not mirror, `syncd accept` has held deletions done";
    Err(report.detail(left.chain(unread)).hint(hint))
}
