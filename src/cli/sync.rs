//! `syncd client`.

use super::overview::{bytes, count};
use super::report::{Kind, Report};
use super::settings::{absolute, beside, load, own};
use super::{ask, log, render, runtime};
use crate::config::{Address, BlockSize, ClientConfig, Ignored, Log, Rate, ShareName};
use crate::daemon::client::{Client, ClientError};
use crate::daemon::connect::ConnectKind;
use crate::daemon::control;
use crate::daemon::options::{ClientOptions, Holder, ServerChoice, Until};
use crate::daemon::status::ClientStatus;
use crate::host::control::ControlSocket;
use crate::host::dirs::{Dirs, DirsError};
use crate::host::watch::WatchError;
use crate::wire::Code;
use clap::Args;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Which directory goes where.
#[derive(Debug, Args)]
pub struct TargetArguments {
    /// The directory that is watched and never changed
    #[arg(short, long, value_name = "DIR")]
    directory: PathBuf,
    /// Settings; `config/client.toml` lists them all
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A server (default: 127.0.0.1:7440); given several times, each holds a mirror
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "SYNCD_SERVER",
        value_delimiter = ','
    )]
    server: Vec<Address>,
    /// The share on the server (default: the server's directory itself)
    #[arg(long, value_name = "NAME", env = "SYNCD_SHARE")]
    share: Option<ShareName>,
}

/// Arguments of `syncd client`.
#[derive(Debug, Args)]
pub struct ClientArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// End when the server durably holds the tree
    #[arg(long)]
    once: bool,
    /// Send each server at most so many bytes a second, such as "2 MiB" (default: unlimited)
    #[arg(long, value_name = "SIZE")]
    upload_rate: Option<Rate>,
    /// Become the writer of a share that another source fills
    #[arg(long)]
    take_over: bool,
}

impl From<TargetArguments> for ClientArguments {
    fn from(target: TargetArguments) -> Self {
        Self {
            target,
            once: false,
            take_over: false,
            upload_rate: None,
        }
    }
}

/// What to do about a directory that is in use.
pub(super) const IN_USE: &str =
    "`syncd status` says what it does; end it first, or use another directory";

/// Runs the command.
///
/// # Errors
/// Wrong settings; whatever stops the client; with `--once`, paths that could not be mirrored.
pub fn run(arguments: ClientArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let (options, log) = merge(arguments)?;
    log::start(&log, overrides)?;
    let until = options.until;
    let last = runtime::run(|stop| sync(options, stop))?;
    match until {
        Until::Stopped | Until::Planned => Ok(()),
        Until::Mirrored => conclude(&last),
    }
}

/// Defaults, file, environment, arguments: the later wins.
pub(super) fn merge(arguments: ClientArguments) -> Result<(ClientOptions, Log), Report> {
    let target = arguments.target;
    let file = target.config.as_deref();
    let config = load(file, ClientConfig::parse)?;
    let named = !target.server.is_empty() || config.servers != ClientConfig::default().servers;
    let servers = if target.server.is_empty() {
        config.servers
    } else {
        target.server
    };
    let log_file = beside(file, &config.log.file)?;
    let options = ClientOptions {
        directory: absolute(&target.directory)?,
        servers: each_once(servers.iter().map(Address::to_string)),
        choice: if named {
            ServerChoice::Named
        } else {
            ServerChoice::Default
        },
        share: target.share.or(config.share).map(|name| name.to_string()),
        block_size: match config.block_size {
            BlockSize::Auto => None,
            BlockSize::Fixed(size) => Some(size),
        },
        rescan: config.watch.rescan.0,
        delete_hold: config.watch.delete_hold.0,
        ignore: config.ignore,
        delete_ignored: config.ignored == Ignored::Delete,
        delete_guard: config.watch.delete_guard,
        window: config.limits.window.0,
        upload_rate: arguments
            .upload_rate
            .unwrap_or(config.limits.upload_rate)
            .bytes(),
        until: if arguments.once {
            Until::Mirrored
        } else {
            Until::Stopped
        },
        holder: if arguments.take_over {
            Holder::Replace
        } else {
            Holder::Respect
        },
        own: own(
            file,
            [&config.tls.certificate, &config.tls.key, &config.tls.ca],
        )?,
        log: (!log_file.as_os_str().is_empty()).then(|| log_file.clone()),
    };
    let log = Log {
        file: log_file,
        ..config.log
    };
    Ok((options, log))
}

/// The servers, each once: one that is named twice has one mirror.
fn each_once(servers: impl Iterator<Item = String>) -> Vec<String> {
    let mut once = Vec::new();
    for server in servers {
        if !once.contains(&server) {
            once.push(server);
        }
    }
    once
}

/// Whether any path could not be mirrored, or is held.
pub(super) fn problems(last: &ClientStatus) -> Result<(), Report> {
    if last.problems_total > 0 {
        let message = format!(
            "{} could not be mirrored",
            count(last.problems_total, "path")
        );
        let more = last
            .problems_total
            .saturating_sub(last.problems.len() as u64);
        let lines = last
            .problems
            .iter()
            .map(|problem| format!("`{}`: {}", problem.path, problem.message))
            .chain((more > 0).then(|| format!("and {}, see the log", count(more, "other path"))));
        return Err(Report::new(Kind::Problems, message).detail(lines));
    }
    Ok(())
}

/// What `--once` says in the end.
fn conclude(last: &ClientStatus) -> Result<(), Report> {
    problems(last)?;
    let sent: u64 = last.servers.iter().map(|server| server.sent_bytes).sum();
    let skipped = match last.skipped_total {
        0 => String::new(),
        paths => format!(", {} skipped by rule", count(paths, "path")),
    };
    let entries = count(last.entries, "entry");
    render::line(&format!(
        "mirrored {entries}, sent {}{skipped}",
        bytes(sent)
    ))
}

/// Mirrors until `stop` is cancelled, with [`Until::Mirrored`] until the server durably holds the tree, and gives the last
/// status. Meanwhile the control socket answers.
///
/// # Errors
/// Whatever stops the client.
pub async fn sync(options: ClientOptions, stop: CancellationToken) -> Result<ClientStatus, Report> {
    let once = options.until == Until::Mirrored;
    let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
    let client = Client::prepare(options, dirs.clone()).map_err(|error| explain(&error))?;
    let socket = ControlSocket::bind(&dirs, client.state())
        .map_err(|error| Report::from_error(Kind::Storage, &error))?;
    let control_stop = stop.child_token();
    let answering = control_stop.clone();
    let status = client
        .run(stop.clone(), move |handle| {
            tokio::spawn(control::serve(socket, answering, move |question| {
                let handle = handle.clone();
                async move { ask::answer_client(&handle, &question).await }
            }));
        })
        .await;
    control_stop.cancel();
    let status = status.map_err(|error| explain(&error))?;
    if once && stop.is_cancelled() {
        return Err(Report::new(
            Kind::Unexpected,
            "stopped before everything was mirrored",
        ));
    }
    Ok(status)
}

pub(super) fn explain(error: &ClientError) -> Report {
    let kind = match error {
        ClientError::Source { .. }
        | ClientError::Ambiguous { .. }
        | ClientError::ManyShares { .. }
        | ClientError::OwnState(_)
        | ClientError::Overlap(_)
        | ClientError::Own(_)
        | ClientError::State(DirsError::InUse(_)) => Kind::Usage,
        ClientError::Broken(_) | ClientError::Protocol(_) => Kind::Unexpected,
        ClientError::State(_) | ClientError::Watch(_) => Kind::Storage,
        ClientError::Connect(error) | ClientError::Unaccepted(error) => match error.kind() {
            ConnectKind::Unreachable => Kind::Unreachable,
            ConnectKind::NoInvite | ConnectKind::Refused => Kind::Refused,
            ConnectKind::Version => Kind::Version,
            ConnectKind::Local => Kind::Storage,
        },
        ClientError::Lost { .. } => Kind::Unreachable,
        ClientError::Refused {
            code: Code::Version,
            ..
        } => Kind::Version,
        ClientError::Refused { .. } => Kind::Refused,
    };
    let report = Report::from_error(kind, error);
    match error {
        ClientError::Connect(error) | ClientError::Unaccepted(error) => report.hint(error.hint()),
        ClientError::State(DirsError::InUse(_)) => report.hint(IN_USE),
        ClientError::Watch(WatchError::Limit) => report.hint(
            "`sysctl fs.inotify.max_user_instances=1024` gives more until the next start of the system, `ulimit -n 4096` more open files",
        ),
        ClientError::Source { .. } => {
            report.hint("make it, or mount it if it lies on a disk that is not mounted")
        }
        ClientError::OwnState(_) => report.hint("choose another directory"),
        ClientError::Overlap(_) => {
            report.hint("choose directories of which none is in the other, or another `--share`")
        }
        ClientError::Ambiguous { .. } => report.hint("name one with `--server ADDR:PORT`"),
        ClientError::Own(_) => report.hint(super::settings::OWN_HINT),
        ClientError::ManyShares { .. } => report.hint("name one with `--share NAME`"),
        _ => report,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Kind;
    use super::{ClientArguments, TargetArguments, explain, merge};
    use crate::daemon::client::ClientError;
    use crate::daemon::connect::ConnectError;
    use crate::daemon::options::ServerChoice;
    use crate::wire::Code;
    use std::path::PathBuf;

    #[test]
    fn a_server_is_the_default_until_somebody_names_one() {
        let arguments = |servers: &[&str]| {
            ClientArguments::from(TargetArguments {
                directory: PathBuf::from("/src"),
                config: None,
                server: servers.iter().map(|text| text.parse().unwrap()).collect(),
                share: None,
            })
        };
        let (options, _) = merge(arguments(&[])).unwrap();
        assert_eq!(options.choice, ServerChoice::Default);
        assert_eq!(options.servers, ["127.0.0.1:7440"]);
        let (options, _) = merge(arguments(&["a:1", "b:2"])).unwrap();
        assert_eq!(options.choice, ServerChoice::Named);
        assert_eq!(options.servers, ["a:1", "b:2"]);
    }
    #[test]
    fn what_stops_a_client_decides_the_class_of_the_failure() {
        let refused = |code| ClientError::Refused {
            server: "a:1".to_owned(),
            code,
            message: String::new(),
        };
        let unreachable = ConnectError::Unreachable {
            server: "a:1".to_owned(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        let lost = ClientError::Lost {
            server: "a:1".to_owned(),
            reason: String::new(),
        };
        for (error, kind) in [
            (refused(Code::Held), Kind::Refused),
            (refused(Code::Version), Kind::Version),
            (ClientError::Connect(unreachable), Kind::Unreachable),
            (lost, Kind::Unreachable),
        ] {
            assert_eq!(explain(&error).kind(), kind, "{error}");
        }
    }
}
