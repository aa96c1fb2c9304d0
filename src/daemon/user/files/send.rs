//! One file to the share: read once, into the server's stage, and in its place when both sides have the same sum.
//!
//! What the server has of it, in view or of an upload that was cut, is not sent again.

mod feed;

use super::get::sum_of;
use super::stream::Stream;
use super::work::{Done, Work};
use super::{EntryKind, FileError, Remote, Source};
use crate::daemon::client::input::Link;
use crate::daemon::client::sender::{Sender, Stop};
use crate::daemon::pump::Outgoing;
use crate::daemon::user::Answers;
use crate::delta::{Recipe, block_size};
use crate::host::local::{LocalFile, Replace, fill};
use crate::host::pki::clean_text;
use crate::host::random;
use crate::model::limits::MAX_PIECE;
use crate::model::{Mtime, RelPath};
use crate::wire::{Content, Continued, Given, Op, Request, Response, WirePath, WireTime};
use feed::Feed;
use std::path::Path;
use std::sync::Arc;

/// How often a file that changes while it is read is begun again.
const ATTEMPTS: usize = 5;
/// An older version that is smaller is not compared, in bytes: to send it whole costs less.
const WORTH: u64 = 256 * 1024;
/// Permission bits of what came from a stream.
const STREAM_MODE: u32 = 0o644;

/// Sends a file.
pub(super) fn send(
    work: &Work,
    source: Source,
    remote: &RelPath,
    replace: Replace,
    fresh: bool,
) -> Result<Done, FileError> {
    let send = Send {
        work,
        remote,
        replace,
    };
    match source {
        Source::Path { path, .. } => {
            for attempt in 1.. {
                match send.path(&path, fresh && attempt == 1) {
                    Err(Failure::Again) if attempt < ATTEMPTS => {}
                    Err(Failure::Again) => break,
                    Err(Failure::Of(error)) => return Err(error),
                    Ok(done) => return Ok(done),
                }
            }
            let shown = crate::model::escape(path.as_os_str().as_encoded_bytes());
            Err(FileError::Other(format!(
                "`{shown}` changes again and again while it is read"
            )))
        }
        Source::Stream(mut stream) => match send.stream(&mut stream) {
            Ok(done) => Ok(done),
            Err(Failure::Of(error)) => Err(error),
            Err(Failure::Again) => Err(FileError::Other(
                "what the server had of it changed meanwhile: send it again".to_owned(),
            )),
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

    fn path(&self, path: &Path, fresh: bool) -> Result<Done, Failure> {
        let failed = || FileError::local("read", path);
        let mut file = LocalFile::open(path).map_err(failed())?;
        let old = if fresh {
            Old::default()
        } else if let Some(there) = self.prepare(Some((path, file.size())))? {
            match there {
                Prepared::Same(sum) => {
                    self.work.count(file.size());
                    return Ok(self.done(Some(path), file.size(), sum, 0));
                }
                Prepared::Old(old) => old,
            }
        } else {
            Old::default()
        };
        let expected = file.size();
        let mut left = expected;
        let mut next = |buffer: &mut [u8]| {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = file.read(buffer.get_mut(..want).unwrap_or_default());
            left = left.saturating_sub(*count.as_ref().unwrap_or(&0) as u64);
            count.map_err(failed())
        };
        let (upload, answers, read) = self.upload(old, &mut next)?;
        if read.size != expected || !file.is_same().map_err(failed())? {
            self.give_up(upload)?;
            self.uncount(read.size);
            return Err(Failure::Again);
        }
        self.commit((upload, answers), &read, (file.mode(), file.mtime()))?;
        Ok(self.done(Some(path), read.size, read.sum, read.moved))
    }

    fn stream(&self, stream: &mut Stream) -> Result<Done, Failure> {
        let old = match self.prepare(None)? {
            Some(Prepared::Old(old)) => old,
            _ => Old::default(),
        };
        let failed = |source| FileError::Local {
            attempt: "cannot read standard input".to_owned(),
            source,
        };
        let mut next = |buffer: &mut [u8]| fill(stream, buffer).map_err(failed);
        let (upload, answers, read) = self.upload(old, &mut next)?;
        let mtime = stream.mtime();
        self.commit((upload, answers), &read, (STREAM_MODE, mtime))?;
        Ok(self.done(None, read.size, read.sum, read.moved))
    }

    fn done(&self, local: Option<&Path>, size: u64, sum: [u8; 32], moved: u64) -> Done {
        Done {
            remote: self.remote.clone(),
            local: local.map(Path::to_owned),
            size,
            sum,
            moved,
        }
    }

    fn uncount(&self, bytes: u64) {
        let done = &self.work.watcher.progress.done_bytes;
        done.fetch_sub(bytes, std::sync::atomic::Ordering::Relaxed);
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
    fn upload(
        &self,
        old: Old,
        next: &mut dyn FnMut(&mut [u8]) -> Result<usize, FileError>,
    ) -> Result<(u64, Answers, feed::Content), Failure> {
        let upload = self.work.connection.id();
        let mut answers = self.work.connection.expect(upload)?;
        let paths = (old.base.then_some(self.remote), self.remote);
        let (link, runtime) = (self.link(), &self.work.runtime);
        let mut sender = Sender::new(link, runtime, upload, paths, old.leftover);
        sender.begin().map_err(|stop| self.lost(stop))?;
        let mut feed = Feed::new(sender, old.recipe);
        let mut buffer = vec![0; MAX_PIECE];
        loop {
            let count = match self.work.check().and_then(|()| next(&mut buffer)) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    // What came so far is left for the next attempt.
                    self.give_up(upload)?;
                    return Err(error.into());
                }
            };
            let piece = buffer.get(..count).unwrap_or_default();
            feed.push(piece).map_err(|stop| self.lost(stop))?;
            self.work.count(count as u64);
            if let Some(answer) = answers.ready() {
                self.staged(answer)?;
            }
        }
        let read = feed.finish().map_err(|stop| self.lost(stop))?;
        Ok((upload, answers, read))
    }

    fn give_up(&self, upload: u64) -> Result<(), Failure> {
        let abort = Outgoing::new(&Request::UploadAbort { upload }, Vec::new());
        let sent = self.link().outbox.bulk.blocking_send(abort);
        sent.map_err(|_| self.lost(Stop::Silent))
    }

    /// What the server says of the upload: its SHA-256 of what is stored.
    fn staged(&self, (response, body): (Response, bytes::Bytes)) -> Result<[u8; 32], Failure> {
        match response {
            Response::Staged {
                failed: Some(failed),
                ..
            } => Err(FileError::Remote {
                code: failed.code,
                message: clean_text(&failed.message, 400),
            }
            .into()),
            _ => <[u8; 32]>::try_from(&*body).map_err(|_| Failure::Of(self.share().broken())),
        }
    }

    /// Ends an upload, and brings it into view if both sides have the same.
    fn commit(
        &self,
        (upload, mut answers): (u64, Answers),
        read: &feed::Content,
        (mode, mtime): (u32, Mtime),
    ) -> Result<(), Failure> {
        let size = read.size;
        let close = Request::UploadClose { upload, size };
        let body = [read.digest.0, read.sum].concat();
        let sent = self
            .link()
            .outbox
            .bulk
            .blocking_send(Outgoing::new(&close, body));
        sent.map_err(|_| self.lost(Stop::Silent))?;
        let answer = self.work.runtime.block_on(answers.next())?;
        if self.staged(answer)? != read.sum {
            return Err(Failure::Of(FileError::Other(format!(
                "what the server has stored of `{}` is not what was read here: the sums differ",
                self.remote
            ))));
        }
        let path = WirePath::from(self.remote);
        let given = match self.replace {
            Replace::Allowed => Given::NoDirectory { path: path.clone() },
            Replace::Refused => Given::Absent { path: path.clone() },
        };
        let put = Op::Put {
            path,
            mode,
            mtime: WireTime::from(mtime),
            size,
            content: Content::Upload { upload },
        };
        let share = self.share();
        let change = share.change(vec![put], vec![given], read.digest.0.to_vec());
        // What is missing now is its directory: to send it again is of no use.
        self.work.runtime.block_on(change).map_err(Failure::Of)
    }
}

/// What was found at the path.
enum Prepared {
    /// The same content.
    Same([u8; 32]),
    Old(Old),
}
