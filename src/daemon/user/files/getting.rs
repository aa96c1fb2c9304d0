//! Which files are to be fetched, with their directories: what the arguments of `get` come to.

use super::get::Target;
use super::names::Argument;
use super::sending::below;
use super::watching::Watcher;
use super::work::{Servers, Task, WAITING, carry_out, close};
use super::{Entry, EntryKind, FileError, Remote, joined};
use crate::daemon::client::ClientError;
use crate::daemon::user::{Connection, Way};
use crate::host::local::{self, Kind, Replace};
use crate::model::{RelPath, escape};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is to be fetched, and how.
#[derive(Clone, Debug)]
pub struct GetOptions {
    /// Files and directories of the share.
    pub remotes: Vec<Argument>,
    /// Where they go; a directory if there are several.
    pub local: PathBuf,
    /// Directories with all below them, too.
    pub recursive: bool,
    /// Whether files may be replaced.
    pub replace: Replace,
    /// Files at a time.
    pub jobs: usize,
}

fn other<T>(message: impl Into<String>) -> Result<T, FileError> {
    Err(FileError::Other(message.into()))
}

/// Fetches files, from all servers that have them. What could not be done is told to the watcher.
///
/// # Errors
/// When there is no connection to any server.
pub async fn get(
    way: &Arc<Way>,
    options: GetOptions,
    target: impl FnOnce() -> Option<Target>,
    watcher: &Watcher,
) -> Result<(), ClientError> {
    let servers = Servers {
        way: Arc::clone(way),
        names: way.servers().into(),
        jobs: options.jobs,
    };
    let connection = Arc::new(servers.first().await?);
    let (tasks, queue) = mpsc::channel(WAITING);
    let mut getting = Getting {
        connection: &connection,
        options,
        tasks,
        watcher,
        directories: Vec::new(),
    };
    let walk = async {
        match target() {
            Some(target) => getting.one_to(target).await,
            None => getting.all().await,
        }
        let Getting {
            directories, tasks, ..
        } = getting;
        drop(tasks);
        directories
    };
    let work = carry_out(&servers, &connection, queue, watcher);
    let (directories, ()) = tokio::join!(walk, work);
    close(connection).await;
    for (path, entry) in directories.into_iter().rev() {
        let dressed = local::dress_directory(&path, entry.mode, entry.mtime);
        if let Err(error) = dressed.map_err(FileError::local("finish", &path)) {
            watcher
                .failed(escape(path.as_os_str().as_encoded_bytes()), error)
                .await;
        }
    }
    Ok(())
}

struct Getting<'a> {
    connection: &'a Connection,
    options: GetOptions,
    tasks: mpsc::Sender<Task>,
    watcher: &'a Watcher,
    /// Directories that were made, with what they are to be in the end.
    directories: Vec<(PathBuf, Entry)>,
}

impl Getting<'_> {
    fn share(&self) -> Remote<'_> {
        Remote(self.connection)
    }

    /// One file for a stream.
    async fn one_to(&mut self, target: Target) {
        let Some(argument) = self.options.remotes.first().cloned() else {
            return;
        };
        let found = async {
            let paths = argument.expand(&self.share()).await?;
            let [path] = paths.as_slice() else {
                return other("only one file at a time goes to standard output");
            };
            match self.resolved(path).await? {
                (
                    path,
                    Entry {
                        kind: EntryKind::File { size },
                        ..
                    },
                ) if !argument.directory => Ok((path, size)),
                (path, entry) if argument.directory && !entry.is_directory() => {
                    other(format!("`{path}` is no directory"))
                }
                _ => other(format!("`{path}` is no file")),
            }
        };
        match found.await {
            Ok((remote, size)) => {
                self.watcher.progress.expect(size);
                let replace = Replace::Refused;
                let task = Task::Get {
                    remote,
                    size,
                    target,
                    replace,
                };
                // The workers have ended when this fails.
                drop(self.tasks.send(task).await);
            }
            Err(error) => self.watcher.failed(argument.shown(), error).await,
        }
    }

    async fn all(&mut self) {
        let mut paths = Vec::new();
        for argument in self.options.remotes.clone() {
            match argument.expand(&self.share()).await {
                Ok(found) => paths.extend(found.into_iter().map(|path| (path, argument.directory))),
                Err(error) => self.watcher.failed(argument.shown(), error).await,
            }
        }
        let local = self.options.local.clone();
        let here = local.as_os_str().is_empty();
        let there = local::look_through(if here { Path::new(".") } else { &local });
        let is_directory = matches!(&there, Ok(Some(there)) if there.kind == Kind::Directory);
        let wanted = local.as_os_str().as_bytes().ends_with(b"/");
        if !is_directory && (paths.len() > 1 || wanted) {
            let shown = escape(local.as_os_str().as_encoded_bytes());
            let error = FileError::Other(format!("`{shown}` is no directory"));
            return self.watcher.failed(shown, error).await;
        }
        for (path, directory) in paths {
            if self.watcher.stop.is_cancelled() {
                return;
            }
            let to = match path.split() {
                Some((_, name)) if is_directory => local::below(&local, &name),
                _ => local.clone(),
            };
            if let Err(error) = self.one(&path, directory, to).await {
                self.watcher.failed(path.to_string(), error).await;
            }
        }
    }

    /// What a path is in the end: links within the share are followed.
    async fn resolved(&self, path: &RelPath) -> Result<(RelPath, Entry), FileError> {
        let mut at = path.clone();
        for _ in 0..40 {
            let Some(entry) = self.share().look(&at).await? else {
                return other(format!("there is no `{at}` in the share"));
            };
            let EntryKind::Symlink { target } = &entry.kind else {
                return Ok((at, entry));
            };
            match followed(&at, target) {
                Some(next) => at = next,
                None => {
                    return other(format!("the link `{at}` leads out of the share"));
                }
            }
        }
        other(format!("the links at `{path}` lead nowhere"))
    }

    async fn one(&mut self, path: &RelPath, directory: bool, to: PathBuf) -> Result<(), FileError> {
        let recursive = self.options.recursive;
        let (path, entry) = if recursive && !directory {
            let Some(entry) = self.share().look(path).await? else {
                return other(format!("there is no `{path}` in the share"));
            };
            (path.clone(), entry)
        } else {
            self.resolved(path).await?
        };
        if entry.is_directory() && !recursive {
            let shown = if path.is_root() {
                "the share".to_owned()
            } else {
                format!("`{path}`")
            };
            return other(format!("{shown} is a directory: `--recursive` fetches it"));
        }
        if directory && !entry.is_directory() {
            return other(format!("`{path}` is no directory"));
        }
        let mut todo = vec![(path, entry, to)];
        while let Some((path, entry, to)) = todo.pop() {
            if self.watcher.stop.is_cancelled() {
                return Ok(());
            }
            match self.entry(&path, entry, to).await {
                Ok(more) => todo.extend(more),
                Err(error) => self.watcher.failed(path.to_string(), error).await,
            }
        }
        Ok(())
    }

    /// Has one thing fetched. What a directory holds.
    async fn entry(
        &mut self,
        path: &RelPath,
        entry: Entry,
        to: PathBuf,
    ) -> Result<Vec<(RelPath, Entry, PathBuf)>, FileError> {
        let replace = self.options.replace;
        match &entry.kind {
            EntryKind::File { size } => {
                self.watcher.progress.expect(*size);
                let task = Task::Get {
                    remote: path.clone(),
                    size: *size,
                    target: Target::Path(to),
                    replace,
                };
                // The workers have ended when this fails.
                drop(self.tasks.send(task).await);
                Ok(Vec::new())
            }
            EntryKind::Symlink { target } => {
                let there = local::look(&to).map_err(FileError::local("look at", &to))?;
                let there = there.map(|there| there.kind);
                let same = matches!(&there, Some(Kind::Symlink { target: own }) if own == target);
                if !same {
                    let made = local::make_link(&to, (target, entry.mtime), replace);
                    made.map_err(FileError::local("make the link", &to))?;
                }
                Ok(Vec::new())
            }
            EntryKind::Directory => {
                let made = local::make_directory(&to);
                // The top of a share has neither a mode nor a time of its own.
                if made.map_err(FileError::local("make the directory", &to))? && !path.is_root() {
                    self.directories.push((to.clone(), entry));
                }
                let (mut first, mut more) = (None, Vec::new());
                while let Some(listing) = self.share().list(path, first.as_ref()).await? {
                    for unlisted in listing.unlisted {
                        let path = below(path, unlisted.name.as_bytes());
                        let error = FileError::Other(format!("`{path}`: {}", unlisted.message));
                        self.watcher.failed(path, error).await;
                    }
                    for (name, entry) in listing.entries {
                        match joined(path, name.as_bytes()) {
                            Ok(path) => more.push((path, entry, local::below(&to, &name))),
                            Err(error) => self.watcher.failed(path.to_string(), error).await,
                        }
                    }
                    first = listing.next;
                    if first.is_none() {
                        break;
                    }
                }
                more.reverse();
                Ok(more)
            }
        }
    }
}

/// What a link at a path leads to, if that is within the share.
fn followed(at: &RelPath, target: &[u8]) -> Option<RelPath> {
    let (parent, _) = at.split()?;
    if target.starts_with(b"/") {
        return None;
    }
    let mut names: Vec<&[u8]> = parent.components().collect();
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    RelPath::new(&names.join(&b'/')).ok()
}
