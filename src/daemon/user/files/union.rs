//! A share as several servers have it: all that any of them has, and where they differ.
//!
//! A server whose line ends is left out with a warning while another one answers. What is asked of several is asked at once.

mod compare;
mod merge;

pub use compare::{Aspect, Difference, Seen};
pub use merge::Merge;

use super::everywhere::{Patience, promptly};
use super::servers::silent;
use super::{Argument, Entry, EntryKind, FileError, Remote};
use crate::daemon::user::{Connection, Way};
use crate::model::RelPath;
use compare::State;
use std::sync::Arc;
use std::time::Duration;

/// Longest file whose content is compared where nothing else than its time differs, in bytes.
const SMALL: u64 = 64 * 1024;
/// How long a server may say nothing once another one has answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections to the servers that have the share. With one of them it is what that one says.
#[derive(Debug)]
pub struct Union {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    server: String,
    /// None once its line has ended.
    connection: Option<Arc<Connection>>,
}

/// What one of the servers answered; its place in the list.
type Answer<T> = (usize, Result<T, FileError>);

impl Union {
    /// Connects to all servers that are meant.
    ///
    /// # Errors
    /// When none can be reached.
    pub async fn open(way: &Arc<Way>) -> Result<Self, FileError> {
        let servers = way.servers();
        let patience = Some(Patience::AfterOne(PATIENCE));
        let connected = promptly(servers.iter().cloned(), patience, |_, server| {
            let way = Arc::clone(way);
            async move { Ok(way.connect(&server).await?) }
        });
        let mut union = Self {
            members: Vec::new(),
        };
        let (mut errors, connected) = (Vec::new(), connected.await);
        for (server, connection) in servers.iter().zip(connected) {
            let (connection, error) = match connection {
                Some(Ok(connection)) => (Some(Arc::new(connection)), None),
                Some(Err(error)) => (None, Some(error)),
                None => (None, Some(silent(server, PATIENCE).into())),
            };
            let server = server.clone();
            union.members.push(Member { server, connection });
            errors.extend(error);
        }
        if errors.len() == servers.len() {
            let mut errors = errors.into_iter();
            let first = errors.next();
            errors.for_each(|error| tracing::warn!("{error}"));
            return Err(first.unwrap_or(FileError::Stopped));
        }
        for error in errors {
            tracing::warn!("{error}: it is left out");
        }
        Ok(union)
    }

    /// Ends all connections in order.
    pub async fn close(self) {
        for member in self.members {
            if let Some(connection) = member.connection.and_then(Arc::into_inner) {
                connection.close().await;
            }
        }
    }

    /// The servers that answer.
    pub fn answering(&self) -> impl Iterator<Item = (&str, Remote<'_>)> {
        let members = self.members.iter();
        members.filter_map(|member| Some((&*member.server, Remote(member.connection.as_ref()?))))
    }

    /// Whether more than one server is meant.
    #[must_use]
    pub fn is_of_several(&self) -> bool {
        self.members.len() > 1
    }

    /// Asks some of those that answer, at once.
    ///
    /// # Errors
    /// When nobody answers any more.
    async fn ask<T, F>(
        &mut self,
        whom: impl Fn(usize) -> bool,
        act: impl Fn(usize, Arc<Connection>) -> F,
    ) -> Result<Vec<Answer<T>>, FileError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, FileError>> + Send + 'static,
    {
        let members = self.members.iter().enumerate();
        let asked = members.filter(|(index, _)| whom(*index));
        let asked = asked.filter_map(|(index, it)| Some((index, it.connection.clone()?)));
        let asked: Vec<(usize, Arc<Connection>)> = asked.collect();
        let places: Vec<usize> = asked.iter().map(|(index, _)| *index).collect();
        // Where another one answers, nobody is waited for as long as it takes to know that a line is dead.
        let patience = if places.len() < self.answering().count() {
            Patience::Whole(PATIENCE)
        } else {
            Patience::AfterOne(PATIENCE)
        };
        let asking = |_, (index, connection)| act(index, connection);
        let answers = promptly(asked, Some(patience), asking).await;
        let mut kept = Vec::new();
        for (index, answer) in places.into_iter().zip(answers) {
            let silence = || Err(silent(self.name(index), PATIENCE).into());
            match answer.unwrap_or_else(silence) {
                Err(error) if error.ends_all() => self.left_out(index, error)?,
                answer => kept.push((index, answer)),
            }
        }
        Ok(kept)
    }

    /// Goes on without a server that answers nothing any more.
    ///
    /// # Errors
    /// When it was the last one.
    fn left_out(&mut self, index: usize, error: FileError) -> Result<(), FileError> {
        if let Some(member) = self.members.get_mut(index) {
            member.connection = None;
        }
        if self.answering().next().is_none() {
            return Err(error);
        }
        match error {
            FileError::Line(error) => tracing::warn!("{error}: it is left out"),
            error => tracing::warn!("{}: {error}: it is left out", self.name(index)),
        }
        Ok(())
    }

    fn name(&self, index: usize) -> &str {
        self.members.get(index).map_or("", |member| &*member.server)
    }

    /// Says what a server cannot tell.
    fn warn(&self, index: usize, path: &str, message: &dyn std::fmt::Display) {
        if self.is_of_several() {
            tracing::warn!("{}: `{path}`: {message}", self.name(index));
        } else {
            tracing::warn!("`{path}`: {message}");
        }
    }

    /// The paths that an argument means on any of them, in order.
    ///
    /// # Errors
    /// When nothing is meant, or nobody can look.
    pub async fn expand(&mut self, argument: &Argument) -> Result<Vec<RelPath>, FileError> {
        let expanded = |_, connection: Arc<Connection>| {
            let argument = argument.clone();
            async move { argument.expand(&Remote(&connection)).await }
        };
        let (mut paths, mut failed) = (Vec::new(), None);
        for (index, answer) in self.ask(|_| true, expanded).await? {
            match answer {
                Ok(found) => paths.extend(found),
                Err(error) => {
                    if !matches!(error, FileError::Other(_)) {
                        self.warn(index, &argument.shown(), &error);
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        if self.is_of_several() {
            paths.sort_unstable();
            paths.dedup();
        }
        match failed {
            Some(error) if paths.is_empty() => Err(error),
            _ => Ok(paths),
        }
    }

    /// What a path is; nothing where none has anything.
    ///
    /// # Errors
    /// When nobody can look.
    pub async fn look(&mut self, path: &RelPath) -> Result<Option<Seen>, FileError> {
        let looked = |_, connection: Arc<Connection>| {
            let path = path.clone();
            async move { Remote(&connection).look(&path).await }
        };
        let (mut states, mut failed) = (Vec::new(), Vec::new());
        for (index, answer) in self.ask(|_| true, looked).await? {
            match answer {
                Ok(entry) => states.push((index, entry.map_or(State::Missing, State::There))),
                Err(error) => failed.push((index, error)),
            }
        }
        if states.is_empty()
            && let Some((_, error)) = failed.pop()
        {
            return Err(error);
        }
        for (index, error) in failed {
            self.warn(index, &path.to_string(), &error);
            states.push((index, State::Unknown));
        }
        states.sort_unstable_by_key(|(index, _)| *index);
        self.seen(path, states).await
    }

    /// Holds what the servers have at a path against the first of them that has something.
    async fn seen(
        &mut self,
        path: &RelPath,
        states: Vec<(usize, State)>,
    ) -> Result<Option<Seen>, FileError> {
        let first = states.iter().find_map(|(index, state)| match state {
            State::There(entry) => Some((*index, entry.clone())),
            _ => None,
        });
        let Some((first, entry)) = first else {
            return Ok(None);
        };
        let mut differs = Vec::new();
        for (index, state) in states {
            let mut what = compare::aspects(&entry, &state);
            if is_to_be_read(&entry, &what) && !self.is_same_content(path, (first, index)).await? {
                what.insert(0, Aspect::Content);
            }
            if what.is_empty() {
                continue;
            }
            differs.push(Difference {
                server: self.name(index).to_owned(),
                what,
                entry: match state {
                    State::There(entry) => Some(entry),
                    _ => None,
                },
            });
        }
        Ok(Some(Seen { entry, differs }))
    }

    /// Whether two servers have the same content at a path, as far as they say.
    async fn is_same_content(
        &mut self,
        path: &RelPath,
        pair: (usize, usize),
    ) -> Result<bool, FileError> {
        let summed = |_, connection: Arc<Connection>| {
            let path = path.clone();
            async move { Remote(&connection).sum(&path).await }
        };
        let whom = |index| index == pair.0 || index == pair.1;
        let answers = self.ask(whom, summed).await?;
        let mut sums = answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().ok());
        Ok(match (sums.next(), sums.next()) {
            (Some(one), Some(other)) => one == other,
            // It changed or went meanwhile: that the time differs is said already.
            _ => true,
        })
    }
}

/// Whether only its time says that a file may have another content, and it costs little to know.
fn is_to_be_read(entry: &Entry, what: &[Aspect]) -> bool {
    matches!(entry.kind, EntryKind::File { size: 1..=SMALL })
        && what.contains(&Aspect::Time)
        && !what.contains(&Aspect::Size)
}
