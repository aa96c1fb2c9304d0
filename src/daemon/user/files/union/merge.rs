//! A directory as several servers have it: their lists, which are sorted, in one.

use super::compare::{Seen, State};
use super::{Connection, Union};
use crate::daemon::user::files::sending::below;
use crate::daemon::user::files::{Entry, FileError, Listing, Remote};
use crate::model::{Name, RelPath};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How far a directory was listed.
#[derive(Debug)]
pub struct Merge {
    path: RelPath,
    cursors: Vec<Cursor>,
}

/// How far one server has listed it.
#[derive(Debug, Default)]
struct Cursor {
    /// The place of the server.
    index: usize,
    entries: VecDeque<(Name, Entry)>,
    /// Names that it cannot list.
    unlisted: BTreeSet<Name>,
    /// Whether it has more, from which name on.
    more: bool,
    next: Option<Name>,
    /// Whether it cannot say what it has.
    unknown: bool,
}

impl Cursor {
    fn wants(&self) -> bool {
        self.more && self.entries.is_empty()
    }

    /// Takes the next part in; nothing comes of what is no directory.
    fn take(&mut self, part: Option<Listing>) {
        let part = part.unwrap_or_default();
        self.entries.extend(part.entries);
        let names = part.unlisted.into_iter().map(|unlisted| unlisted.name);
        self.unlisted.extend(names);
        self.more = part.next.is_some();
        self.next = part.next;
    }

    /// What the server has under a name. All names before it were asked for.
    fn under(&mut self, name: &Name) -> State {
        match self.entries.pop_front_if(|(first, _)| first == name) {
            Some((_, entry)) => State::There(entry),
            None if self.unknown || self.unlisted.contains(name) => State::Unknown,
            None => State::Missing,
        }
    }
}

impl Union {
    /// Begins to list a directory.
    #[must_use]
    pub fn directory(&self, path: &RelPath) -> Merge {
        let cursor = |index| Cursor {
            index,
            more: true,
            ..Cursor::default()
        };
        Merge {
            path: path.clone(),
            cursors: (0..self.members.len()).map(cursor).collect(),
        }
    }

    /// The next part of what any of the servers has in a directory, in the order of the names; none at its end. Names that
    /// cannot be listed are warned of.
    ///
    /// # Errors
    /// When nobody can list it.
    pub async fn list(
        &mut self,
        merge: &mut Merge,
    ) -> Result<Option<Vec<(Name, Seen)>>, FileError> {
        self.fill(merge).await?;
        let mut part = Vec::new();
        while !merge.cursors.iter().any(Cursor::wants) {
            let fronts = merge.cursors.iter().filter_map(|it| it.entries.front());
            let Some(name) = fronts.map(|(name, _)| name.clone()).min() else {
                break;
            };
            let under = |cursor: &mut Cursor| (cursor.index, cursor.under(&name));
            let states = merge.cursors.iter_mut().map(under).collect();
            if let Ok(path) = merge.path.join(&name)
                && let Some(seen) = self.seen(&path, states).await?
            {
                part.push((name, seen));
            }
        }
        let is_over = part.is_empty() && !merge.cursors.iter().any(|cursor| cursor.more);
        Ok((!is_over).then_some(part))
    }

    /// Asks all that have more and of which nothing is left.
    async fn fill(&mut self, merge: &mut Merge) -> Result<(), FileError> {
        loop {
            // Whoever is left out lists nothing any more.
            let answers = |cursor: &Cursor| {
                let member = self.members.get(cursor.index);
                member.is_some_and(|member| member.connection.is_some())
            };
            merge.cursors.retain(answers);
            if !merge.cursors.iter().any(Cursor::wants) {
                return Ok(());
            }
            let cursors = &merge.cursors;
            let wanting = |index| cursors.iter().any(|it| it.index == index && it.wants());
            let next = |index, connection: Arc<Connection>| {
                let cursor = cursors.iter().find(|it| it.index == index);
                let next = cursor.and_then(|cursor| cursor.next.clone());
                let path = merge.path.clone();
                async move { Remote(&connection).list(&path, next.as_ref()).await }
            };
            for (index, answer) in self.ask(wanting, next).await? {
                let cursors = &mut merge.cursors;
                let others = cursors.iter().any(|it| it.index != index && !it.unknown);
                let Some(cursor) = cursors.iter_mut().find(|it| it.index == index) else {
                    continue;
                };
                match answer {
                    Ok(part) => {
                        for unlisted in part.iter().flat_map(|part| &part.unlisted) {
                            let path = below(&merge.path, unlisted.name.as_bytes());
                            self.warn(index, &path, &unlisted.message);
                        }
                        cursor.take(part);
                    }
                    Err(error) if others => {
                        self.warn(index, &merge.path.to_string(), &error);
                        (cursor.unknown, cursor.more) = (true, false);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
