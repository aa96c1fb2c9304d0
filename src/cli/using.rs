//! What the commands share that use a share's files and keys without mirroring it.

use super::everywhere::Tried;
use super::report::{Kind, Report};
use super::settings::{load, own};
use super::{log, runtime, sync};
use crate::config::{Address, ClientConfig, ShareName};
use crate::daemon::options::{ServerChoice, UseOptions};
use crate::daemon::user::files::{Argument, FileError, Remote};
use crate::daemon::user::{Connection, Way};
use crate::host::dirs::Dirs;
use crate::wire::Code;
use clap::Args;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a command may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which share is meant, and where.
#[derive(Debug, Args)]
pub struct UseArguments {
    /// Settings; `config/client.toml` lists them all
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server, or several of them: repeated, or with commas (default: the only one that is known, or 127.0.0.1:7440)
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

impl UseArguments {
    /// These servers, and what the settings say otherwise.
    pub(super) fn of_servers(server: Vec<Address>) -> Self {
        Self {
            config: None,
            server,
            share: None,
        }
    }
}

/// Merges file, environment and arguments, starts the log and a runtime, and runs work that knows which servers are meant.
pub(super) fn run<F, T>(
    arguments: UseArguments,
    overrides: &log::Overrides,
    work: impl FnOnce(Arc<Way>, CancellationToken) -> F,
) -> Result<T, Report>
where
    F: Future<Output = Result<T, Report>>,
{
    let file = arguments.config.as_deref();
    let config = load(file, ClientConfig::parse)?;
    let named = !arguments.server.is_empty() || config.servers != ClientConfig::default().servers;
    let mut servers = if arguments.server.is_empty() {
        config.servers
    } else {
        arguments.server
    };
    let mut met = HashSet::new();
    servers.retain(|server| met.insert(server.to_string()));
    let files = [&config.tls.certificate, &config.tls.key, &config.tls.ca];
    let options = UseOptions {
        servers: servers.iter().map(Address::to_string).collect(),
        choice: if named {
            ServerChoice::Named
        } else {
            ServerChoice::Default
        },
        share: arguments
            .share
            .or(config.share)
            .map(|name| name.to_string()),
        own: own(file, files.map(PathBuf::as_path))?,
    };
    log::start(&config.log, overrides)?;
    runtime::run(|stop| async move {
        let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
        let way = Way::find(options, dirs).map_err(|error| sync::explain(&error))?;
        let ended = stop.clone();
        let patience = async {
            ended.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            done = work(Arc::new(way), stop) => done,
            // What waits for a line that stalls, or for somebody who writes, would wait long.
            () = patience => Err(explain("", &FileError::Stopped)),
        }
    })
}

/// The one server that is meant.
///
/// # Errors
/// When several are.
pub(super) fn only(way: &Way) -> Result<&str, Report> {
    match way.servers() {
        [server] => Ok(server),
        several => Err(
            Report::new(Kind::Usage, "this is done on one server at a time")
                .detail(several.iter().cloned())
                .hint("name one with `--server ADDR:PORT`"),
        ),
    }
}

/// A connection to the one server that is meant.
pub(super) async fn connect(way: &Way) -> Result<Connection, Report> {
    let connection = way.connect(only(way)?).await;
    connection.map_err(|error| sync::explain(&error))
}

/// A path of the share.
pub(super) fn argument(text: &OsString) -> Result<Argument, Report> {
    Argument::parse(text).map_err(|error| Report::from_error(Kind::Usage, &error))
}

/// The class of a failure with a file.
pub(super) fn kind(error: &FileError) -> Kind {
    match error {
        FileError::Line(error) => sync::explain(error).kind(),
        FileError::Remote { code, .. } => match code {
            Code::Held | Code::Forbidden | Code::Revoked | Code::Mixed => Kind::Refused,
            Code::Stopping => Kind::Unreachable,
            _ => Kind::Problems,
        },
        FileError::Local { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
                Kind::Storage
            }
            _ => Kind::Problems,
        },
        FileError::Wrong(_) | FileError::Other(_) => Kind::Problems,
        FileError::Stopped => Kind::Unexpected,
    }
}

/// One failure, for a person. `path` is what it is about.
pub(super) fn explain(path: &str, error: &FileError) -> Report {
    match error {
        FileError::Line(error) => sync::explain(error),
        FileError::Remote { message, .. } => {
            Report::new(kind(error), format!("`{path}`: {message}"))
        }
        error => Report::from_error(kind(error), error),
    }
}

/// The text of one failure among others.
pub(super) fn line(path: &str, error: &FileError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    let cause = cause.unwrap_or_default();
    match error {
        FileError::Remote { message, .. } => format!("`{path}`: {message}"),
        error => format!("{error}{cause}"),
    }
}

/// What several failures, and so many more that are not named, come to: nothing when there was none.
pub(super) fn conclude(
    failures: &[(String, FileError)],
    untold: u64,
    what: &str,
) -> Result<(), Report> {
    let gravest = failures.iter().find(|(_, error)| error.ends_all());
    match (failures, gravest) {
        ([], _) => Ok(()),
        ([(path, error)], _) | (_, Some((path, error))) => Err(explain(path, error)),
        (several, None) => {
            let many = super::overview::count(several.len() as u64 + untold, "path");
            let worst = several.iter().map(|(_, error)| kind(error));
            let kind = worst.max_by_key(|kind| kind.exit_code());
            let lines = several.iter().map(|(path, error)| line(path, error));
            let lines = lines.chain((untold > 0).then(|| format!("and {untold} more")));
            Err(Report::new(kind.unwrap_or(Kind::Problems), format!("{many} {what}")).detail(lines))
        }
    }
}

/// Does something to each path that some arguments mean, one after the other.
pub(super) async fn each<'a, F>(
    connection: &'a Connection,
    arguments: &[Argument],
    act: impl Fn(Remote<'a>, crate::model::RelPath, bool) -> F,
) -> Tried
where
    F: Future<Output = Result<(), FileError>>,
{
    let remote = Remote(connection);
    let (mut done, mut failures) = (0, Vec::new());
    for argument in arguments {
        let paths = match argument.expand(&remote).await {
            Ok(paths) => paths,
            Err(error) => {
                failures.push((argument.shown(), error));
                continue;
            }
        };
        for path in paths {
            let shown = path.to_string();
            if let Err(error) = act(remote, path, argument.directory).await {
                let ends = error.ends_all();
                failures.push((shown, error));
                if ends {
                    return (done, failures);
                }
                continue;
            }
            done += 1;
        }
    }
    (done, failures)
}
