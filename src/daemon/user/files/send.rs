//! One file to the share: read once, into the server's stage, and in its place when both sides have the same sum.
//!
//! What the server has of it, in view or of an upload that was cut, is not sent again.

mod closing;
mod feed;

pub(super) use closing::{Behind, Closing};

use super::get::sum_of;
use super::stream::{LEFT_BEHIND, Stream};
use super::work::{Done, Moved, Work};
use super::{EntryKind, FileError, Remote, Source};
use crate::daemon::client::input::Link;
use crate::daemon::client::sender::{Sender, Stop};
use crate::daemon::pump::Outgoing;
use crate::delta::{Recipe, block_size};
use crate::host::local::{LocalFile, Replace, append};
use crate::host::random;
use crate::model::RelPath;
use crate::wire::{Continued, MINOR_SUM, Request, WirePath};
use feed::{Feed, Next};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often a file that changes while it is read is begun again.
const ATTEMPTS: usize = 5;
/// An older version that is smaller is not compared, in bytes: to send it whole costs less.
const WORTH: u64 = 256 * 1024;
/// Files from this length on take turns, in bytes: of smaller ones a turn is as soon over as it takes to wait for.
const IN_TURN: u64 = 4 * 1024 * 1024;
/// How long after the end of a stream it is heard whether the command is ended: Ctrl-C ends who writes, too, and half of what
/// was to come is not to be taken for all of it.
const LAST_WORD: Duration = Duration::from_millis(50);
/// Permission bits of what came from a stream.
const STREAM_MODE: u32 = 0o644;

/// Sends a file, up to its last byte.
pub(super) fn send(
    work: &Work,
    source: Source,
    remote: &RelPath,
    replace: Replace,
    fresh: bool,
) -> Result<Moved, FileError> {
    let send = Send {
        work,
        remote,
        replace,
    };
    match source {
        Source::Path { path, .. } => send.attempts(&path, 1, fresh),
        Source::Stream(mut stream) => match send.stream(&mut stream) {
            Ok(closing) => Ok(Moved::Closing(Box::new(closing))),
            Err(Failure::Of(error)) => Err(error),
            Err(Failure::Again) => Err(closing::gone()),
        },
    }
}

struct Send<'a> {
    work: &'a Work,
    remote: &'a RelPath,
    replace: Replace,
}

enum Failure {
    /// Something changed meanwhile.
    Again,
    Of(FileError),
}

impl<E: Into<FileError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.is_changed() {
            return Self::Again;
        }
        Self::Of(error)
    }
}

/// What the server has that the file can be made of.
#[derive(Default)]
struct Old {
    base: bool,
    recipe: Option<Arc<Recipe>>,
    leftover: Option<Continued>,
}

impl Send<'_> {
    fn share(&self) -> Remote<'_> {
        Remote(&self.work.connection)
    }

    fn link(&self) -> &Link {
        self.work.connection.link()
    }

    /// The line has ended.
    fn lost(&self, _: Stop) -> Failure {
        let error = self.work.runtime.block_on(self.work.connection.error());
        Failure::Of(FileError::Line(error))
    }

    /// Begins a file again as often as it changes meanwhile.
    fn attempts(&self, path: &Path, first: usize, fresh: bool) -> Result<Moved, FileError> {
        for attempt in first..=ATTEMPTS {
            match self.path(path, attempt, fresh && attempt == 1) {
                Err(Failure::Again) => {}
                Err(Failure::Of(error)) => return Err(error),
                Ok(moved) => return Ok(moved),
            }
        }
        let shown = crate::model::escape(path.as_os_str().as_encoded_bytes());
        Err(FileError::Other(format!(
            "`{shown}` changes again and again while it is read"
        )))
    }

    fn path(&self, path: &Path, attempt: usize, fresh: bool) -> Result<Moved, Failure> {
        let failed = || FileError::local("read", path);
        let mut file = LocalFile::open(path).map_err(failed())?;
        // Of a small one nothing is saved by looking first; that it may not be replaced is found in the end.
        let blind = attempt == 1 && (fresh || file.size() < WORTH && !self.work.finds());
        let old = if blind {
            Old::default()
        } else if let Some(there) = self.prepare(Some((path, file.size())))? {
            match there {
                Prepared::Same(sum) => {
                    self.work.count(file.size());
                    return Ok(Moved::Done(Done {
                        remote: self.remote.clone(),
                        local: Some(path.to_owned()),
                        size: file.size(),
                        sum,
                        moved: 0,
                    }));
                }
                Prepared::Old(old) => old,
            }
        } else {
            Old::default()
        };
        let expected = file.size();
        let turn = (expected >= IN_TURN).then(|| self.work.turns.wait());
        // Some have no length, but content (`/proc`): of those all is read.
        let mut left = if expected == 0 { u64::MAX } else { expected };
        let mut next = |to: &mut Vec<u8>, most: usize| {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(most);
            let count = file.append(to, want);
            left = left.saturating_sub(*count.as_ref().unwrap_or(&0) as u64);
            count.map_err(failed())
        };
        let mut closing = self.upload(old, &mut next)?;
        drop(turn);
        // Some have less than they say (`/sys`): the same once more is all of it.
        let is_short = closing.size() < expected && attempt == 1;
        if is_short || !file.is_same().map_err(failed())? {
            self.give_up(closing.upload())?;
            self.work.uncount(closing.size());
            return Err(Failure::Again);
        }
        closing.of_file(path, attempt, (file.mode(), file.mtime()));
        closing.close().map_err(|stop| self.lost(stop))?;
        Ok(Moved::Closing(Box::new(closing)))
    }

    fn stream(&self, stream: &mut Stream) -> Result<Closing, Failure> {
        let line = self.work.connection.line_end(LEFT_BEHIND);
        let (left, done) = (stream.left_behind().clone(), CancellationToken::new());
        let _done = done.clone().drop_guard();
        self.work.runtime.spawn(async move {
            tokio::select! {
                () = left.cancelled() => line.end(),
                () = done.cancelled() => {}
            }
        });
        let old = match self.prepare(None)? {
            Some(Prepared::Old(old)) => old,
            _ => Old::default(),
        };
        let failed = |source| FileError::Local {
            attempt: "cannot read standard input".to_owned(),
            source,
        };
        let mut next = |to: &mut Vec<u8>, most| append(stream, to, most).map_err(failed);
        let mut closing = self.upload(old, &mut next)?;
        let stop = &self.work.watcher.stop;
        let heard = timeout(LAST_WORD, stop.cancelled());
        if self.work.runtime.block_on(heard).is_ok() {
            self.give_up(closing.upload())?;
            return Err(FileError::Stopped.into());
        }
        closing.of_stream((STREAM_MODE, stream.mtime()));
        closing.close().map_err(|stop| self.lost(stop))?;
        Ok(closing)
    }

    /// Looks at what is there. Nothing when nothing is.
    fn prepare(&self, source: Option<(&Path, u64)>) -> Result<Option<Prepared>, Failure> {
        let share = self.share();
        let looked = share.look_closely(self.remote);
        let looked = self.work.runtime.block_on(looked)?;
        let there = looked.entry.map(|entry| entry.kind);
        let refused = |what: &str| {
            let message = format!("`{}` {what}", self.remote);
            Err(Failure::Of(FileError::Other(message)))
        };
        match (&there, source) {
            (Some(EntryKind::Directory), _) => return refused("is a directory in the share"),
            (Some(EntryKind::File { size }), Some((path, length)))
                if self.replace == Replace::Refused && *size == length =>
            {
                let sum = sum_of(path, &|| self.work.check())?;
                let there = self.share();
                if self.work.runtime.block_on(there.sum(self.remote))? == sum {
                    return Ok(Some(Prepared::Same(sum)));
                }
            }
            _ => {}
        }
        if there.is_some() && self.replace == Replace::Refused {
            return refused("is in the share already with another content: `--force` replaces it");
        }
        let base = matches!(there, Some(EntryKind::File { size: WORTH.. }));
        if !base && !looked.leftover {
            return Ok(None);
        }
        let size = match (source, &there) {
            (Some((_, size)), _) => size,
            (None, Some(EntryKind::File { size })) => *size,
            _ => 0,
        };
        Ok(Some(Prepared::Old(self.old(base, looked.leftover, size))))
    }

    /// What the server has that the file can be made of: its version in view, and what a cut upload has left.
    fn old(&self, base: bool, leftover: bool, size: u64) -> Old {
        let seed = random::bytes::<8>().map_or(1, u64::from_le_bytes);
        let kind = (block_size(size), seed);
        let base = base
            .then(|| self.recipe(kind, false))
            .flatten()
            .map(|(recipe, _)| recipe);
        let left = leftover.then(|| self.recipe(kind, true)).flatten();
        let in_view = |recipe: Option<Recipe>| Old {
            base: recipe.is_some(),
            recipe: recipe.map(Arc::new),
            leftover: None,
        };
        let Some((left, Some(mark))) = left else {
            return in_view(base);
        };
        let (all, length) = match base.as_ref().map(|base| left.continued_by(base)) {
            Some(Some(continued)) => continued,
            Some(None) => return in_view(base),
            None => {
                let size = left.size();
                (left, size)
            }
        };
        Old {
            base: base.is_some(),
            recipe: Some(Arc::new(all)),
            leftover: Some(Continued { mark, length }),
        }
    }

    fn recipe(&self, (block, seed): (u32, u64), leftover: bool) -> Option<(Recipe, Option<u64>)> {
        let id = self.work.connection.id();
        let answer = self.link().asked.expect(id, block, seed);
        let request = Request::Recipe {
            id,
            path: WirePath::from(self.remote),
            block,
            seed,
            leftover,
        };
        let send = self.work.connection.send(&request, Vec::new());
        self.work.runtime.block_on(send).ok()?;
        self.work.runtime.block_on(answer).ok()
    }

    /// Sends a content.
    fn upload(&self, old: Old, next: &mut Next<'_>) -> Result<Closing, Failure> {
        let upload = self.work.connection.id();
        let mut answers = self.work.connection.expect(upload)?;
        let paths = (old.base.then_some(self.remote), self.remote);
        let (link, runtime) = (self.link(), &self.work.runtime);
        let mut sender = Sender::new(link, runtime, upload, paths, old.leftover);
        sender.begin().map_err(|stop| self.lost(stop))?;
        let told = self.work.connection.minor() >= MINOR_SUM;
        let mut feed = Feed::new(sender, old.recipe, told);
        let mut next = |to: &mut Vec<u8>, most| {
            self.work.check()?;
            next(to, most)
        };
        loop {
            let pulled = feed.pull(&mut next).map_err(|stop| self.lost(stop))?;
            let count = match pulled {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    // What came so far is left for the next attempt.
                    self.give_up(upload)?;
                    return Err(error.into());
                }
            };
            self.work.count(count as u64);
            if let Some(answer) = answers.ready() {
                closing::staged(self.share(), answer)?;
            }
        }
        let read = feed.finish().map_err(|stop| self.lost(stop))?;
        let to = (self.remote, self.replace);
        Ok(Closing::new(self.work, to, (upload, answers), read))
    }

    fn give_up(&self, upload: u64) -> Result<(), Failure> {
        let abort = Outgoing::new(&Request::UploadAbort { upload }, Vec::new());
        let sent = self.link().outbox.bulk.blocking_send(abort);
        sent.map_err(|_| self.lost(Stop::Silent))
    }
}

/// What was found at the path.
enum Prepared {
    /// The same content.
    Same([u8; 32]),
    Old(Old),
}
