//! Questions about the files of a share, and changes of them, over one connection.

use super::FileError;
use crate::daemon::client::ClientError;
use crate::daemon::user::{Answers, Connection};
use crate::host::pki::clean_text;
use crate::model::limits::MAX_BLOCK;
use crate::model::{Mtime, Name, PERMISSION_BITS, RelPath};
use crate::wire::{
    FileAnswer, FileAsk, FileRequest, Given, ListEntry, ListKind, Op, Request, Response, WireBytes,
    WirePath,
};
use bytes::Bytes;

/// Longest text of a server that is shown, in characters.
const MAX_TEXT: usize = 400;

/// What a path of the share is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub mtime: Mtime,
}

/// The kind of a path of the share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Vec<u8>,
    },
}

impl Entry {
    pub(super) fn of(entry: &ListEntry) -> Option<Self> {
        Some(Self {
            kind: match &entry.kind {
                ListKind::Directory {} => EntryKind::Directory,
                ListKind::File { size } => EntryKind::File { size: *size },
                ListKind::Symlink { target } => EntryKind::Symlink {
                    target: target.bytes()?,
                },
            },
            mode: entry.mode & PERMISSION_BITS,
            mtime: entry.mtime.mtime(),
        })
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

/// What is known of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Looked {
    pub(super) entry: Option<Entry>,
    /// Whether an upload has left something of it.
    pub(super) leftover: bool,
}

/// A name that is there and cannot be listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unlisted {
    /// The name.
    pub name: Name,
    /// Why.
    pub message: String,
}

/// A part of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// What it holds, in the order of the names.
    pub entries: Vec<(Name, Entry)>,
    /// Names that cannot be listed.
    pub unlisted: Vec<Unlisted>,
    /// Where to go on.
    pub next: Option<Name>,
}

/// A file that the server keeps in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cached {
    /// Which.
    pub path: RelPath,
    /// Its length in bytes.
    pub size: u64,
    /// How often it was served from memory.
    pub hits: u64,
    /// Milliseconds since it was read.
    pub age_ms: u64,
    /// How many are being served from it.
    pub users: u64,
}

/// A share as it is asked over one connection.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a>(pub &'a Connection);

impl Remote<'_> {
    /// Asks something, and gives what is said.
    pub(super) async fn ask(
        &self,
        ask: FileAsk,
        body: impl Into<Bytes>,
    ) -> Result<Answers, FileError> {
        let request = |id| Request::File(FileRequest { id, ask });
        Ok(self.0.ask(request, body).await?)
    }

    /// The next thing that is said to a question; a refusal is an error.
    pub(super) async fn said(
        &self,
        answers: &mut Answers,
    ) -> Result<(FileAnswer, Bytes), FileError> {
        let (response, body) = answers.next().await?;
        match response {
            Response::File(file) => match file.answer {
                FileAnswer::Failed { code, message } => Err(FileError::Remote {
                    code,
                    message: clean_text(&message, MAX_TEXT),
                }),
                answer => Ok((answer, body)),
            },
            _ => Err(self.broken()),
        }
    }

    pub(super) fn broken(&self) -> FileError {
        FileError::Line(ClientError::Lost {
            server: self.0.server().to_owned(),
            reason: "it broke the protocol".to_owned(),
        })
    }

    /// What a path is; nothing where nothing is.
    ///
    /// # Errors
    /// When the server cannot look, or the line ended.
    pub async fn look(&self, path: &RelPath) -> Result<Option<Entry>, FileError> {
        Ok(self.look_closely(path).await?.entry)
    }

    pub(super) async fn look_closely(&self, path: &RelPath) -> Result<Looked, FileError> {
        let path = WirePath::from(path);
        let mut answers = self.ask(FileAsk::Look { path }, Vec::new()).await?;
        let (
            FileAnswer::Looked {
                entry, leftover, ..
            },
            _,
        ) = self.said(&mut answers).await?
        else {
            return Err(self.broken());
        };
        let entry = match entry {
            Some(entry) => Some(Entry::of(&entry).ok_or_else(|| self.broken())?),
            None => None,
        };
        Ok(Looked { entry, leftover })
    }

    /// A part of what a directory holds; nothing when it is no directory.
    ///
    /// # Errors
    /// When the server cannot look, or the line ended.
    pub async fn list(
        &self,
        path: &RelPath,
        first: Option<&Name>,
    ) -> Result<Option<Listing>, FileError> {
        let ask = FileAsk::List {
            path: WirePath::from(path),
            first: first.map(|name| WireBytes::new(name.as_bytes())),
        };
        let mut answers = self.ask(ask, Vec::new()).await?;
        let (
            FileAnswer::Listed {
                entries,
                failed,
                next,
                found,
            },
            _,
        ) = self.said(&mut answers).await?
        else {
            return Err(self.broken());
        };
        let name = |name: &WireBytes| Name::new(&name.bytes()?).ok();
        let listing = || {
            let entries = entries.iter();
            let entries = entries.map(|entry| Some((name(&entry.name)?, Entry::of(entry)?)));
            let unlisted = failed.iter().map(|unread| {
                Some(Unlisted {
                    name: name(&unread.name)?,
                    message: clean_text(&unread.message, MAX_TEXT),
                })
            });
            let next = match &next {
                Some(next) => Some(name(next)?),
                None => None,
            };
            Some(Listing {
                entries: entries.collect::<Option<_>>()?,
                unlisted: unlisted.collect::<Option<_>>()?,
                next,
            })
        };
        let listing = listing().ok_or_else(|| self.broken())?;
        Ok(found.then_some(listing))
    }

    /// The SHA-256 of a file.
    ///
    /// # Errors
    /// When there is none, the server cannot read it, or the line ended.
    pub async fn sum(&self, path: &RelPath) -> Result<[u8; 32], FileError> {
        let ask = FileAsk::Sum {
            path: WirePath::from(path),
            block: MAX_BLOCK,
            seed: 0,
        };
        let mut answers = self.ask(ask, Vec::new()).await?;
        loop {
            match self.said(&mut answers).await? {
                (FileAnswer::Blocks {}, _) => {}
                (FileAnswer::Summed { .. }, body) => {
                    return <[u8; 32]>::try_from(&*body).map_err(|_| self.broken());
                }
                _ => return Err(self.broken()),
            }
        }
    }

    /// Some of the files of the share that the server keeps in memory, from a path on, and where to go on.
    ///
    /// # Errors
    /// When the server cannot tell, or the line ended.
    pub async fn cached(
        &self,
        first: Option<&RelPath>,
    ) -> Result<(Vec<Cached>, Option<RelPath>), FileError> {
        let first = first.map(WirePath::from);
        let mut answers = self.ask(FileAsk::Cached { first }, Vec::new()).await?;
        let (FileAnswer::Cached { entries, next }, _) = self.said(&mut answers).await? else {
            return Err(self.broken());
        };
        let entries = entries.into_iter().map(|file| {
            Some(Cached {
                path: file.path.path().ok()?,
                size: file.size,
                hits: file.hits,
                age_ms: file.age_ms,
                users: file.users,
            })
        });
        let entries: Option<Vec<Cached>> = entries.collect();
        let next = next.map(|next| next.path()).transpose();
        match (entries, next) {
            (Some(entries), Ok(next)) => Ok((entries, next)),
            _ => Err(self.broken()),
        }
    }

    /// Has changes carried out, all or, where something is not as they are based on, none.
    ///
    /// # Errors
    /// When they are refused, the first of them that failed, or the line ended.
    pub async fn change(
        &self,
        ops: Vec<Op>,
        given: Vec<Given>,
        body: impl Into<Bytes>,
    ) -> Result<(), FileError> {
        let mut answers = self.ask(FileAsk::Change { ops, given }, body).await?;
        let (FileAnswer::Changed { failed }, _) = self.said(&mut answers).await? else {
            return Err(self.broken());
        };
        match failed.into_iter().next() {
            Some(failed) => Err(FileError::Remote {
                code: failed.code,
                message: clean_text(&failed.message, MAX_TEXT),
            }),
            None => Ok(()),
        }
    }
}
