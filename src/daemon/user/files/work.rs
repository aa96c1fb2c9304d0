//! Transfers side by side: workers that each have a connection and take one file after the other.

use super::get::{self, Target};
use super::send::{self, Behind, Closing};
use super::turns::{LONGEST, Turns};
use super::watching::{Event, Watcher};
use super::{FileError, Source};
use crate::daemon::user::Connection;
use crate::host::local::Replace;
use crate::model::RelPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OnceCell, mpsc};
use tokio::task::JoinSet;

pub(super) use super::watching::Done;

pub(super) use super::servers::{Servers, silent};

/// Files that wait for a worker at most.
pub(super) const WAITING: usize = 256;

/// One file to be moved.
#[derive(Debug)]
pub(super) enum Task {
    Get {
        remote: RelPath,
        size: u64,
        target: Target,
        replace: Replace,
    },
    Send {
        source: Source,
        remote: RelPath,
        replace: Replace,
        /// Whether nothing can be there.
        fresh: bool,
    },
}

impl Task {
    fn remote(&self) -> &RelPath {
        match self {
            Self::Get { remote, .. } | Self::Send { remote, .. } => remote,
        }
    }

    /// The same task once more, where it can be done again.
    fn again(&self) -> Option<impl Fn() -> Self + use<>> {
        let Self::Get {
            remote,
            size,
            target: Target::Path(path),
            replace,
        } = self
        else {
            return None;
        };
        let (remote, size, path, replace) = (remote.clone(), *size, path.clone(), *replace);
        Some(move || Self::Get {
            remote: remote.clone(),
            size,
            target: Target::Path(path.clone()),
            replace,
        })
    }

    /// Which path a failure is about.
    fn shown(&self) -> String {
        match self {
            Self::Get { remote, .. } => remote.to_string(),
            Self::Send { source, .. } => source.shown(),
        }
    }
}

/// What a thread has that moves one file.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) connection: Arc<Connection>,
    pub(super) servers: Servers,
    pub(super) runtime: Handle,
    pub(super) watcher: Watcher,
    /// Of the files that are sent over the same line.
    pub(super) turns: Arc<Turns>,
    /// Whether the worker found something where a file was to go.
    found: Arc<AtomicBool>,
}

/// What became of a task, as far as a thread is needed for it.
#[derive(Debug)]
pub(super) enum Moved {
    Done(Done),
    Closing(Box<Closing>),
}

impl Work {
    /// Whether something was found where a file was to go.
    pub(super) fn finds(&self) -> bool {
        self.found.load(Ordering::Relaxed)
    }

    /// Notes that there are files already: it is worth to look.
    pub(super) fn found(&self) {
        self.found.store(true, Ordering::Relaxed);
    }

    /// The same over a line of its own.
    pub(super) fn to(&self, server: &str) -> Result<Self, FileError> {
        let connect = self.servers.connect(server);
        let connection = self.runtime.block_on(async {
            tokio::select! {
                connection = connect => Ok(connection?),
                () = self.watcher.stop.cancelled() => Err(FileError::Stopped),
            }
        })?;
        Ok(Self {
            connection: Arc::new(connection),
            ..self.clone()
        })
    }

    /// How long the server may say nothing, if there is another one to ask instead.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.servers.patience()
    }

    /// Whether to end now.
    pub(super) fn check(&self) -> Result<(), FileError> {
        if self.watcher.stop.is_cancelled() {
            return Err(FileError::Stopped);
        }
        Ok(())
    }

    /// Counts bytes that are done with.
    pub(super) fn count(&self, bytes: u64) {
        let done = &self.watcher.progress.done_bytes;
        done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted are to be moved again.
    pub(super) fn uncount(&self, bytes: u64) {
        let done = &self.watcher.progress.done_bytes;
        done.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn carry_out(&self, task: Task) -> Result<Moved, FileError> {
        match task {
            Task::Get {
                remote,
                size,
                target,
                replace,
            } => get::fetch(self, &remote, size, target, replace).map(Moved::Done),
            Task::Send {
                source,
                remote,
                replace,
                fresh,
            } => send::send(self, source, &remote, replace, fresh),
        }
    }
}

/// Carries out what comes until nothing does, so many at a time. A connection is written by one thread, so there are as many as
/// processors if there are so many workers, each opened when it is needed; more would only take turns.
pub(super) async fn carry_out(
    servers: &Servers,
    first: &Arc<Connection>,
    tasks: mpsc::Receiver<Task>,
    watcher: &Watcher,
) {
    let tasks = Arc::new(Mutex::new(tasks));
    let lines = std::thread::available_parallelism().map_or(2, |most| most.get().max(2));
    let lines: Vec<(Arc<Line>, Arc<Turns>)> = (0..lines)
        .map(|_| (Arc::default(), Arc::new(Turns::new(LONGEST))))
        .collect();
    let mut workers = JoinSet::new();
    for (number, (line, turns)) in (0..servers.jobs.max(1)).zip(lines.iter().cycle()) {
        let worker = Worker {
            servers: servers.clone(),
            first: Arc::clone(first),
            line: Arc::clone(line),
            turns: Arc::clone(turns),
            own: (number % lines.len() == 0).then(|| Arc::clone(first)),
            tasks: Arc::clone(&tasks),
            watcher: watcher.clone(),
            behind: Behind::default(),
            found: Arc::default(),
        };
        workers.spawn(worker.run());
    }
    while workers.join_next().await.is_some() {}
    for (line, _) in lines {
        if let Some(connection) = Arc::into_inner(line).and_then(Line::into_inner) {
            close(connection).await;
        }
    }
}

/// A connection that some workers share, once it is open.
type Line = OnceCell<Arc<Connection>>;

struct Worker {
    servers: Servers,
    first: Arc<Connection>,
    line: Arc<Line>,
    turns: Arc<Turns>,
    own: Option<Arc<Connection>>,
    tasks: Arc<Mutex<mpsc::Receiver<Task>>>,
    watcher: Watcher,
    behind: Behind,
    found: Arc<AtomicBool>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            self.behind.room().await;
            let next = async { self.tasks.lock().await.recv().await };
            let task = tokio::select! {
                () = self.watcher.stop.cancelled() => break,
                task = next => task,
            };
            let Some(task) = task else { break };
            self.one(task).await;
        }
        self.behind.all().await;
        if let Some(own) = self.own.take()
            && let Ok(own) = Arc::try_unwrap(own)
        {
            own.close().await;
        }
    }

    /// The connection of its line; where none can be had, the first one does for all.
    async fn connection(&mut self) -> Arc<Connection> {
        if let Some(own) = &self.own {
            return Arc::clone(own);
        }
        let open = || async {
            let own = self.servers.connect(self.first.server()).await;
            own.map_or_else(|_| Arc::clone(&self.first), Arc::new)
        };
        let own = Arc::clone(self.line.get_or_init(open).await);
        self.own = Some(Arc::clone(&own));
        own
    }

    async fn one(&mut self, task: Task) {
        let (path, remote) = (task.shown(), task.remote().clone());
        let size = match &task {
            Task::Get { size, .. } => Some(*size),
            Task::Send { source, .. } => source.size(),
        };
        let begun = Event::Begun { remote, size };
        self.watcher.tell(begun).await;
        let again = task.again();
        let connection = self.connection().await;
        let mut done = self.over(connection, task).await;
        if let Some(again) = again {
            done = self.elsewhere(done, again).await;
        }
        match done {
            Ok(Moved::Closing(closing)) => self.behind.add(*closing, path, &self.watcher),
            Ok(Moved::Done(done)) => conclude(&self.watcher, path, Ok(done)).await,
            Err(error) => conclude(&self.watcher, path, Err(error)).await,
        }
    }

    /// Carries a task out over a connection.
    async fn over(&self, connection: Arc<Connection>, task: Task) -> Result<Moved, FileError> {
        let work = Work {
            connection,
            servers: self.servers.clone(),
            runtime: Handle::current(),
            watcher: self.watcher.clone(),
            turns: Arc::clone(&self.turns),
            found: Arc::clone(&self.found),
        };
        let done = tokio::task::spawn_blocking(move || work.carry_out(task)).await;
        done.unwrap_or_else(|_| Err(unexpected()))
    }

    /// Goes on with the other servers in turn after one was lost, could not read, or brought other bytes. What is here already is
    /// not fetched again.
    async fn elsewhere(
        &mut self,
        mut done: Result<Moved, FileError>,
        again: impl Fn() -> Task,
    ) -> Result<Moved, FileError> {
        let names = Arc::clone(&self.servers.names);
        let own = self.own.as_ref().map(|own| own.server().to_owned());
        let mut from = own.unwrap_or_default();
        for server in names.iter() {
            let Some(error) = done.as_ref().err().filter(|error| is_of_server(error)) else {
                break;
            };
            if self.own.as_ref().is_some_and(|own| own.server() == server) {
                continue;
            }
            match error {
                FileError::Line(error) => tracing::warn!("{error}: {server} is asked instead"),
                error => tracing::warn!("{from}: {error}: {server} is asked instead"),
            }
            from.clone_from(server);
            match self.servers.connect(server).await {
                Ok(own) => {
                    let own = Arc::new(own);
                    self.own = Some(Arc::clone(&own));
                    done = self.over(own, again()).await;
                }
                Err(error) => done = Err(error.into()),
            }
        }
        done
    }
}

/// Whether another server may do better.
fn is_of_server(error: &FileError) -> bool {
    match error {
        FileError::Line(_) | FileError::Remote { .. } | FileError::Wrong(_) => true,
        FileError::Local { .. } | FileError::Other(_) | FileError::Stopped => false,
    }
}

/// Tells what became of a file.
pub(super) async fn conclude(watcher: &Watcher, path: String, done: Result<Done, FileError>) {
    watcher.progress.done_files.fetch_add(1, Ordering::Relaxed);
    match done {
        Ok(done) => watcher.tell(Event::Done(done)).await,
        Err(FileError::Stopped) => {}
        Err(error) => watcher.failed(path, error).await,
    }
}

pub(super) fn unexpected() -> FileError {
    FileError::Other("a part of the program failed unexpectedly".to_owned())
}

/// Ends a connection that nobody uses any more in order.
pub(super) async fn close(connection: Arc<Connection>) {
    if let Ok(connection) = Arc::try_unwrap(connection) {
        connection.close().await;
    }
}
