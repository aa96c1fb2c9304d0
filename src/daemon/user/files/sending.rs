//! Which files are to be sent, with their directories: what the arguments of `upload` come to.

use super::names::Argument;
use super::stream::Stream;
use super::watching::Watcher;
use super::work::{Servers, Task, WAITING, carry_out, close};
use super::{EntryKind, FileError, Remote};
use crate::daemon::client::ClientError;
use crate::daemon::user::{Connection, Way};
use crate::host::local::{self, Kind, Local, Replace};
use crate::model::{Mtime, Name, RelPath, escape};
use crate::wire::{Given, Op, WireBytes, WirePath, WireTime};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is to be sent, and how.
#[derive(Debug)]
pub struct SendOptions {
    /// What is sent.
    pub sources: Vec<Source>,
    /// Where it goes; a directory if there are several.
    pub remote: Argument,
    /// Directories with all below them, too.
    pub recursive: bool,
    /// Whether files may be replaced.
    pub replace: Replace,
    /// Files at a time.
    pub jobs: usize,
}

/// What is sent.
pub enum Source {
    /// What a path stands for.
    Path {
        /// The path.
        path: PathBuf,
        /// Its length when it was looked at, in bytes.
        size: Option<u64>,
    },
    /// What somebody writes.
    Stream(Stream),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Source {
    /// For a person.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Path { path, .. } => escape(path.as_os_str().as_encoded_bytes()),
            Self::Stream(_) => "-".to_owned(),
        }
    }

    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Path { size, .. } => *size,
            Self::Stream(_) => None,
        }
    }
}

/// Sends files. What could not be done is told to the watcher.
///
/// # Errors
/// When there is no connection.
pub async fn upload(
    (way, server): (&Arc<Way>, &str),
    options: SendOptions,
    watcher: &Watcher,
) -> Result<(), ClientError> {
    let connection = Arc::new(way.connect(server).await?);
    let (tasks, queue) = mpsc::channel(WAITING);
    let servers = Servers {
        way: Arc::clone(way),
        names: [server.to_owned()].into(),
        jobs: options.jobs,
    };
    let sending = Sending {
        connection: &connection,
        remote: options.remote.clone(),
        recursive: options.recursive,
        replace: options.replace,
        tasks,
        watcher,
    };
    let work = carry_out(&servers, &connection, queue, watcher);
    let walk = sending.all(options.sources);
    let ((), ()) = tokio::join!(walk, work);
    close(connection).await;
    Ok(())
}

struct Sending<'a> {
    connection: &'a Connection,
    remote: Argument,
    recursive: bool,
    replace: Replace,
    tasks: mpsc::Sender<Task>,
    watcher: &'a Watcher,
}

impl Sending<'_> {
    fn share(&self) -> Remote<'_> {
        Remote(self.connection)
    }

    async fn all(self, sources: Vec<Source>) {
        let target = self.remote.path().clone();
        let is_directory = match self.share().look(&target).await {
            Ok(there) => target.is_root() || there.is_some_and(|there| there.is_directory()),
            Err(error) => return self.watcher.failed(self.remote.shown(), error).await,
        };
        if !is_directory && (sources.len() > 1 || self.remote.directory) {
            let shown = self.remote.shown();
            let error = FileError::Other(format!("`{shown}` is no directory in the share"));
            return self.watcher.failed(shown, error).await;
        }
        if !is_directory && let Err(error) = self.has_place(&target).await {
            return self.watcher.failed(self.remote.shown(), error).await;
        }
        let mut targets = HashMap::new();
        for source in sources {
            if self.watcher.stop.is_cancelled() {
                return;
            }
            let shown = source.shown();
            let one = self.one(source, &target, is_directory, &mut targets);
            if let Err(error) = one.await {
                self.watcher.failed(shown, error).await;
            }
        }
    }

    /// Whether there is a directory for a path: known before anything is sent.
    async fn has_place(&self, target: &RelPath) -> Result<(), FileError> {
        let Some((parent, _)) = target.split().filter(|(parent, _)| !parent.is_root()) else {
            return Ok(());
        };
        match self.share().look(&parent).await? {
            Some(entry) if entry.is_directory() => Ok(()),
            Some(_) => other(format!("`{parent}` is no directory in the share")),
            None => other(format!("there is no `{parent}` in the share")),
        }
    }

    async fn one(
        &self,
        source: Source,
        target: &RelPath,
        is_directory: bool,
        targets: &mut HashMap<RelPath, PathBuf>,
    ) -> Result<(), FileError> {
        let path = match source {
            Source::Path { path, .. } => path,
            Source::Stream(_) if is_directory => {
                return other("standard input has no name: name the file that it is to be");
            }
            stream @ Source::Stream(_) => {
                self.send(stream, target.clone(), false).await;
                return Ok(());
            }
        };
        // As `cp -r` does it: a link in a tree, and one that is named, is sent as a link.
        let as_it_is = self.recursive && !path.as_os_str().as_bytes().ends_with(b"/");
        let look = if as_it_is {
            local::look
        } else {
            local::look_through
        };
        let found = look(&path).map_err(FileError::local("look at", &path))?;
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let Some(found) = found else {
            return other(format!("there is no `{shown}`"));
        };
        let to = if is_directory {
            let own = path.file_name().map(|name| name.as_bytes().to_vec());
            match own {
                Some(name) => joined(target, &name)?,
                // `.`, `..` or `/`: what is in it goes into the directory itself.
                None if found.kind == Kind::Directory => target.clone(),
                None => return other(format!("`{shown}` has no name")),
            }
        } else {
            target.clone()
        };
        match targets.insert(to.clone(), path.clone()) {
            Some(before) if before == path => {
                tracing::warn!("`{shown}` is named more than once");
                return Ok(());
            }
            Some(before) if !to.is_root() => {
                let before = escape(before.as_os_str().as_encoded_bytes());
                return other(format!(
                    "`{shown}` would replace `{before}`, which this command sends to `{to}`, too"
                ));
            }
            _ => {}
        }
        if found.kind == Kind::Directory && !self.recursive {
            return other(format!("`{shown}` is a directory: `--recursive` sends it"));
        }
        if found.kind == Kind::Special {
            // In a tree such a thing is passed over; who names it wants it sent.
            return other(format!(
                "`{shown}` is neither file, directory nor link: what comes out of it is sent as standard input, by `-`"
            ));
        }
        let mut todo = vec![(path, found, to, false)];
        while let Some((path, found, to, fresh)) = todo.pop() {
            if self.watcher.stop.is_cancelled() {
                return Ok(());
            }
            let shown = escape(path.as_os_str().as_encoded_bytes());
            match self.entry(path, &found, to, fresh).await {
                Ok(more) => todo.extend(more),
                Err(error) => self.watcher.failed(shown, error).await,
            }
        }
        Ok(())
    }

    async fn send(&self, source: Source, remote: RelPath, fresh: bool) {
        self.watcher.progress.expect(source.size().unwrap_or(0));
        let task = Task::Send {
            source,
            remote,
            replace: self.replace,
            fresh,
        };
        // The workers have ended when this fails.
        drop(self.tasks.send(task).await);
    }

    /// Has one thing sent. What a directory holds.
    async fn entry(
        &self,
        path: PathBuf,
        found: &Local,
        to: RelPath,
        fresh: bool,
    ) -> Result<Vec<(PathBuf, Local, RelPath, bool)>, FileError> {
        match &found.kind {
            Kind::File { size } => {
                let size = Some(*size);
                self.send(Source::Path { path, size }, to, fresh).await;
                Ok(Vec::new())
            }
            Kind::Symlink { target } => {
                self.link(&to, target, found.mtime).await?;
                Ok(Vec::new())
            }
            Kind::Special => {
                // As when mirroring: they are listed, and change nothing.
                tracing::warn!(
                    "`{}` is neither file, directory nor link: skipped",
                    escape(path.as_os_str().as_encoded_bytes())
                );
                Ok(Vec::new())
            }
            Kind::Directory => {
                let fresh = self.directory(&to, found, fresh).await?;
                self.below(&path, &to, fresh).await
            }
        }
    }

    async fn below(
        &self,
        path: &Path,
        to: &RelPath,
        fresh: bool,
    ) -> Result<Vec<(PathBuf, Local, RelPath, bool)>, FileError> {
        let names = local::names(path).map_err(FileError::local("read the directory", path))?;
        let mut more = Vec::new();
        for name in names {
            let path = path.join(&name);
            let found = local::look(&path).map_err(FileError::local("look at", &path));
            match found.and_then(|found| Ok((found, joined(to, name.as_bytes())?))) {
                Ok((Some(found), to)) => more.push((path, found, to, fresh)),
                Ok((None, _)) => {}
                Err(error) => {
                    let shown = escape(path.as_os_str().as_encoded_bytes());
                    self.watcher.failed(shown, error).await;
                }
            }
        }
        more.reverse();
        Ok(more)
    }

    /// Makes a directory where none is; whether it is new.
    async fn directory(&self, to: &RelPath, found: &Local, fresh: bool) -> Result<bool, FileError> {
        if to.is_root() {
            return Ok(false);
        }
        let there = if fresh {
            None
        } else {
            self.share().look(to).await?
        };
        match there {
            Some(entry) if entry.is_directory() => return Ok(false),
            Some(_) => return other(format!("`{to}` is no directory in the share")),
            None => {}
        }
        let path = WirePath::from(to);
        let given = Given::Absent { path: path.clone() };
        let make = Op::Mkdir {
            path,
            mode: found.mode,
            mtime: WireTime::from(found.mtime),
        };
        let made = self
            .share()
            .change(vec![make], vec![given], Vec::new())
            .await;
        made.map(|()| true)
    }

    async fn link(&self, to: &RelPath, target: &[u8], mtime: Mtime) -> Result<(), FileError> {
        let there = self.share().look(to).await?.map(|there| there.kind);
        match there {
            Some(EntryKind::Symlink { target: own }) if own == target => return Ok(()),
            Some(EntryKind::Directory) => {
                return other(format!("`{to}` is a directory in the share"));
            }
            Some(_) if self.replace == Replace::Refused => {
                return other(format!(
                    "`{to}` is in the share already: `--force` replaces it"
                ));
            }
            _ => {}
        }
        let path = WirePath::from(to);
        let given = match self.replace {
            Replace::Allowed => Given::NoDirectory { path: path.clone() },
            Replace::Refused => Given::Absent { path: path.clone() },
        };
        let link = Op::Symlink {
            path,
            target: WireBytes::new(target),
            mtime: WireTime::from(mtime),
        };
        self.share()
            .change(vec![link], vec![given], Vec::new())
            .await
    }
}

fn other<T>(message: impl Into<String>) -> Result<T, FileError> {
    Err(FileError::Other(message.into()))
}

/// The path of a name in a directory.
///
/// # Errors
/// When the share cannot have such a path: it is named.
pub fn joined(to: &RelPath, name: &[u8]) -> Result<RelPath, FileError> {
    let path = Name::new(name).and_then(|name| to.join(&name));
    path.map_err(|error| FileError::Other(format!("`{}`: {error}", below(to, name))))
}

/// A name in a directory for a person, also where a share cannot have such a path.
pub(super) fn below(to: &RelPath, name: &[u8]) -> String {
    if to.is_root() {
        escape(name)
    } else {
        format!("{to}/{}", escape(name))
    }
}
