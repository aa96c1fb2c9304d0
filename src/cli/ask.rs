//! Questions to running daemons over their control sockets.

use super::report::{Kind, Report};
use crate::daemon::client::ClientHandle;
use crate::daemon::control::{self, ControlError};
use crate::daemon::status::{ClientStatus, Status};
use crate::host::control::Running;
use crate::host::dirs::{DirKind, Dirs};
use crate::wire::WirePath;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// What `syncd flush` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlushOptions {
    /// The path that must be durable, absolute: selects the client whose source contains it; none for the only one.
    pub path: Option<PathBuf>,
    /// The directory of the client, absolute; wins over `path` for the selection.
    pub directory: Option<PathBuf>,
    /// How long to wait.
    pub timeout: Duration,
}

/// How long a daemon may take to say what goes on.
const PATIENCE: Duration = Duration::from_secs(10);

fn dirs() -> Result<Dirs, Report> {
    Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))
}

fn explain(error: &ControlError) -> Report {
    let kind = match error {
        ControlError::Resolve { .. } => Kind::Usage,
        ControlError::Malformed { .. } => Kind::Version,
        _ => Kind::Unreachable,
    };
    let report = Report::from_error(kind, error);
    match error {
        ControlError::NoDaemon(_) | ControlError::NoDaemons => {
            report.hint("start one with `syncd server -d DIR` or `syncd client -d DIR`")
        }
        _ => report,
    }
}

/// The status of the daemons of one directory, or of all that this user runs.
///
/// # Errors
/// When none runs, or one does not answer.
pub async fn status(directory: Option<&Path>) -> Result<Vec<Status>, Report> {
    let daemons = control::find(&dirs()?, directory)
        .await
        .map_err(|error| explain(&error))?;
    let mut statuses = Vec::new();
    for daemon in daemons {
        let question = json!({ "op": "status" });
        let answer = timeout(PATIENCE, control::ask_daemon(&daemon, &question)).await;
        let answer = answer
            .map_err(|_| silent(&daemon.directory, PATIENCE))?
            .map_err(|error| explain(&error))?;
        statuses.push(understood(&daemon.directory, answer)?);
    }
    Ok(statuses)
}

fn silent(directory: &Path, waited: Duration) -> Report {
    let message = format!(
        "the syncd of `{}` did not answer within {} s",
        super::settings::shown(directory),
        waited.as_secs()
    );
    Report::new(Kind::Unreachable, message)
}

fn understood<T: DeserializeOwned>(directory: &Path, answer: Value) -> Result<T, Report> {
    if let Some(message) = answer.get("error").and_then(Value::as_str) {
        return Err(Report::new(Kind::Problems, message.to_owned()));
    }
    serde_json::from_value(answer).map_err(|error| {
        let message = format!(
            "the answer of the syncd of `{}` is not understood",
            super::settings::shown(directory)
        );
        Report::new(Kind::Version, message).caused_by(&error)
    })
}

/// Asks the server of a directory, or the only one that this user runs, one thing.
///
/// # Errors
/// When none or several run, or it does not answer, or says no.
pub async fn server<T: DeserializeOwned>(
    directory: Option<PathBuf>,
    op: &str,
    mut question: Value,
) -> Result<T, Report> {
    let start = "start one with `syncd server -d DIR`; `syncd status` shows those of this user";
    let all = control::find(&dirs()?, directory.as_deref())
        .await
        .map_err(|error| explain(&error).hint(start))?;
    let servers: Vec<&Running> = all
        .iter()
        .filter(|daemon| daemon.kind == DirKind::Server)
        .collect();
    let server = match servers.as_slice() {
        [server] => server,
        [] => return Err(Report::new(Kind::Unreachable, "no server runs").hint(start)),
        several => {
            let shown = |it: &&Running| super::settings::shown(&it.directory);
            return Err(Report::new(Kind::Usage, "several servers run")
                .detail(several.iter().map(shown))
                .hint("name the directory of one with `-d DIR`"));
        }
    };
    if let Some(fields) = question.as_object_mut() {
        fields.insert("op".to_owned(), op.into());
    }
    let answer = timeout(PATIENCE, control::ask_daemon(server, &question)).await;
    let answer = answer
        .map_err(|_| silent(&server.directory, PATIENCE))?
        .map_err(|error| explain(&error))?;
    if let Some(message) = answer.get("error").and_then(Value::as_str) {
        return Err(Report::new(Kind::Usage, message.to_owned()));
    }
    understood(&server.directory, answer)
}

/// Returns when all changes that were made before are durable on every server of the client.
///
/// # Errors
/// When no client or several match, the time is over, or paths could not be mirrored.
pub async fn flush(options: FlushOptions) -> Result<(), Report> {
    let path = options
        .path
        .as_ref()
        .filter(|_| options.directory.is_none());
    let client = client_of(options.directory.as_deref(), path.map(PathBuf::as_path)).await?;
    let question = json!({ "op": "flush" });
    let answer = timeout(options.timeout, control::ask_daemon(&client, &question)).await;
    let answer = answer
        .map_err(|_| {
            silent(&client.directory, options.timeout).hint("`syncd status` says what is under way")
        })?
        .map_err(|error| explain(&error))?;
    let status: ClientStatus = understood(&client.directory, answer)?;
    if status.problems_total == 0 {
        return Ok(());
    }
    let lines = status
        .problems
        .iter()
        .map(|problem| format!("`{}`: {}", problem.path, problem.message));
    Err(Report::new(
        Kind::Problems,
        format!(
            "{} could not be mirrored",
            super::overview::count(status.problems_total, "path")
        ),
    )
    .detail(lines))
}

/// The client that runs for a directory, or whose directory contains a path, or the only one.
///
/// # Errors
/// When there is none, or several.
pub(super) async fn client_of(
    directory: Option<&Path>,
    path: Option<&Path>,
) -> Result<Running, Report> {
    let all = control::find(&dirs()?, directory)
        .await
        .map_err(|error| explain(&error))?;
    let path = path.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let meant = |daemon: &&Running| {
        daemon.kind == DirKind::Source
            && path
                .as_ref()
                .is_none_or(|path| path.starts_with(&daemon.directory))
    };
    let mut clients = all.iter().filter(meant);
    match (clients.next(), clients.next()) {
        (Some(client), None) => Ok(client.clone()),
        (None, _) => Err(
            Report::new(Kind::Unreachable, "no client of that directory runs")
                .hint("start one with `syncd client -d DIR`"),
        ),
        (Some(_), Some(_)) => {
            Err(Report::new(Kind::Usage, "several clients run").hint("name one with `-d DIR`"))
        }
    }
}

/// Asks a client, with patience for what may take long.
///
/// # Errors
/// When it does not answer within the time, or says why not.
pub(super) async fn ask_client<T: serde::de::DeserializeOwned>(
    client: &Running,
    question: &Value,
    patience: Duration,
) -> Result<T, Report> {
    let answer = timeout(patience, control::ask_daemon(client, question)).await;
    let answer = answer
        .map_err(|_| silent(&client.directory, patience))?
        .map_err(|error| explain(&error))?;
    understood(&client.directory, answer)
}

/// What a running client answers on its control socket.
pub(super) async fn answer_client(handle: &ClientHandle, question: &Value) -> Value {
    let answer = match question.get("op").and_then(Value::as_str) {
        Some("status") => serde_json::to_value(Status::Client(handle.status().await)),
        Some("flush") => match handle.flush().await {
            Ok(()) => serde_json::to_value(handle.status().await),
            Err(message) => return json!({ "error": message }),
        },
        Some("repair") => match repair(handle, question).await {
            Ok(()) => Ok(json!({})),
            Err(message) => return json!({ "error": message }),
        },
        Some("held") => serde_json::to_value(handle.held().await),
        Some("accept") => {
            let address = question.get("server").and_then(Value::as_str);
            let entries = question.get("entries").and_then(Value::as_u64);
            match handle
                .accept(address.unwrap_or_default(), entries.unwrap_or(0))
                .await
            {
                Ok(deleted) => Ok(json!(deleted)),
                Err(message) => return json!({ "error": message }),
            }
        }
        _ => return json!({ "error": "a client does not answer that" }),
    };
    answer.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

async fn repair(handle: &ClientHandle, question: &Value) -> Result<(), String> {
    let address = question.get("server").and_then(Value::as_str);
    let paths = question.get("paths").cloned().unwrap_or_default();
    let paths: Vec<WirePath> = serde_json::from_value(paths).map_err(|error| error.to_string())?;
    let paths: Result<_, _> = paths.iter().map(WirePath::path).collect();
    let paths = paths.map_err(|error| error.to_string())?;
    handle.repair(address.unwrap_or_default(), paths).await
}
