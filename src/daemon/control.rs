//! Questions to a running daemon and their answers: one line of JSON each, over its control socket.
//!
//! Lines, connections and waits are bounded on the daemon's side. What the questions mean is the handler's business.

use crate::host::control::{ControlSocket, Running, running};
use crate::host::dirs::{DirKind, Dirs};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest question, in bytes.
pub const MAX_QUESTION: u64 = 64 * 1024;
/// Longest answer, in bytes.
pub const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// Connections that are answered at a time; more wait.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may wait between questions, and how long one line may take to be sent or taken.
const IDLE: Duration = Duration::from_secs(60);
/// How long the loop waits after the system failed.
const STARVED: Duration = Duration::from_millis(100);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No daemon of that directory runs.
    #[error("no syncd runs for `{}`", .0.display())]
    NoDaemon(PathBuf),
    /// No daemon runs at all.
    #[error("no syncd of this user runs")]
    NoDaemons,
    /// The directory cannot be resolved.
    #[error("cannot resolve `{}`", path.display())]
    Resolve {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon ended before it answered.
    #[error("the syncd of `{}` ended before it answered", .0.display())]
    Closed(PathBuf),
    /// The exchange failed.
    #[error("cannot talk to the syncd of `{}`", directory.display())]
    Io {
        /// Whose daemon.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is no JSON.
    #[error("the answer of the syncd of `{}` is not understood", directory.display())]
    Malformed {
        /// Whose daemon.
        directory: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

/// Answers questions until `shutdown`. A question that is no JSON is answered with `{"error": "…"}`. When the asker
/// goes away, the handler's future is dropped, so a handler must not leave anything half done at an await.
pub async fn serve<H, F>(socket: ControlSocket, shutdown: CancellationToken, handler: H)
where
    H: Fn(Value) -> F + Send + Sync + 'static,
    F: Future<Output = Value> + Send + 'static,
{
    let handler = Arc::new(handler);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            place = places.clone().acquire_owned() => match place {
                Ok(place) => tokio::select! {
                    () = shutdown.cancelled() => break,
                    accepted = socket.accept() => accepted.map(|stream| (stream, place)),
                },
                Err(_) => break,
            },
        };
        match accepted {
            Ok((stream, place)) => {
                let handler = handler.clone();
                tasks.spawn(async move {
                    if let Err(error) = converse(stream, handler.as_ref()).await {
                        tracing::debug!(%error, "a control connection failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept control connections for now");
                sleep(STARVED).await;
            }
        }
    }
    drop(socket);
    tasks.shutdown().await;
}

async fn converse<H, F>(stream: UnixStream, handler: &H) -> io::Result<()>
where
    H: Fn(Value) -> F,
    F: Future<Output = Value>,
{
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(line) = within(read_line(&mut read, MAX_QUESTION)).await? {
        let answer = match serde_json::from_slice(&line) {
            Ok(question) => tokio::select! {
                answer = handler(question) => answer,
                () = gone(&mut read) => return Ok(()),
            },
            Err(error) => json!({ "error": format!("the question is no JSON: {error}") }),
        };
        within(write_line(&mut write, &answer)).await?;
    }
    Ok(())
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(IDLE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Ends when the asker went away; a question that it sent meanwhile stays in the buffer.
async fn gone(read: &mut BufReader<OwnedReadHalf>) {
    let left = read.fill_buf().await.map_or(0, <[u8]>::len);
    if left > 0 {
        std::future::pending::<()>().await;
    }
}

/// The next line without its end; `None` at the end of the stream.
async fn read_line(
    read: &mut BufReader<impl AsyncRead + Unpin>,
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    read.take(limit + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= limit => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than {limit} bytes"),
        )),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn write_line(write: &mut OwnedWriteHalf, value: &Value) -> io::Result<()> {
    let mut line = value.to_string();
    line.push('\n');
    write.write_all(line.as_bytes()).await
}

/// The living daemons: of one directory, or of all.
///
/// # Errors
/// When there is none.
pub async fn find(dirs: &Dirs, directory: Option<&Path>) -> Result<Vec<Running>, ControlError> {
    let wanted = match directory {
        Some(path) => Some(
            Dirs::canonical(path).map_err(|source| ControlError::Resolve {
                path: path.to_owned(),
                source,
            })?,
        ),
        None => None,
    };
    let mut alive = Vec::new();
    for daemon in running(dirs) {
        let asked = wanted.as_ref().is_none_or(|path| *path == daemon.directory);
        if asked && daemon.connect().await.is_ok() {
            alive.push(daemon);
        }
    }
    match (alive.is_empty(), wanted) {
        (false, _) => Ok(alive),
        (true, Some(path)) => Err(ControlError::NoDaemon(path)),
        (true, None) => Err(ControlError::NoDaemons),
    }
}

/// Asks the daemon of one kind and directory. Has no deadline of its own: a flush may take long.
///
/// # Errors
/// When none runs there, it does not answer, or not in JSON.
pub async fn ask(
    dirs: &Dirs,
    kind: DirKind,
    directory: &Path,
    question: &Value,
) -> Result<Value, ControlError> {
    let found = find(dirs, Some(directory)).await?;
    match found.iter().find(|daemon| daemon.kind == kind) {
        Some(daemon) => ask_daemon(daemon, question).await,
        None => Err(ControlError::NoDaemon(directory.to_owned())),
    }
}

/// Asks a daemon that was found. Has no deadline of its own.
///
/// # Errors
/// When it is dead, does not answer, or not in JSON.
pub async fn ask_daemon(daemon: &Running, question: &Value) -> Result<Value, ControlError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoDaemon(daemon.directory.clone())
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => ControlError::Closed(daemon.directory.clone()),
        _ => ControlError::Io {
            directory: daemon.directory.clone(),
            source,
        },
    };
    let (read, mut write) = daemon.connect().await.map_err(failed)?.into_split();
    write_line(&mut write, question).await.map_err(failed)?;
    let line = read_line(&mut BufReader::new(read), MAX_ANSWER)
        .await
        .map_err(failed)?
        .ok_or_else(|| ControlError::Closed(daemon.directory.clone()))?;
    serde_json::from_slice(&line).map_err(|source| ControlError::Malformed {
        directory: daemon.directory.clone(),
        source,
    })
}

#[cfg(test)]
mod tests;
