//! An upload whose bytes are all on their way. What is left is to hear that both sides have the same, and that it is durable in
//! its place: the next file goes meanwhile.

use super::feed::Content as Read;
use super::{ATTEMPTS, Failure, Send};
use crate::daemon::client::sender::Stop;
use crate::daemon::pump::Outgoing;
use crate::daemon::user::Answers;
use crate::daemon::user::files::watching::Watcher;
use crate::daemon::user::files::work::{Done, Moved, Work, conclude, unexpected};
use crate::daemon::user::files::{FileError, Remote};
use crate::host::local::Replace;
use crate::host::pki::clean_text;
use crate::model::{Digest, Fault, Mtime, RelPath};
use crate::wire::{BodyReader, Code, Content, Given, Op, Request, Response, WirePath, WireTime};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

/// Longest text of a server that is shown, in characters.
const MAX_TEXT: usize = 400;
/// Files of one worker that may wait for their answers: fewer than a server carries out at a time over one connection, so
/// that what follows on the line is not held up.
const MOST: usize = 12;
/// Bytes of files of one worker that may wait for their answers.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// A file that is to come into view when both sides have the same.
#[derive(Debug)]
pub(in crate::daemon::user::files) struct Closing {
    work: Work,
    remote: RelPath,
    replace: Replace,
    upload: u64,
    answers: Answers,
    read: Read,
    local: Option<PathBuf>,
    attributes: (u32, Mtime),
    /// Which attempt this is.
    attempt: usize,
}

impl Closing {
    pub(super) fn new(
        work: &Work,
        (remote, replace): (&RelPath, Replace),
        (upload, answers): (u64, Answers),
        read: Read,
    ) -> Self {
        Self {
            work: work.clone(),
            remote: remote.clone(),
            replace,
            upload,
            answers,
            read,
            local: None,
            attributes: (0, Mtime { secs: 0, nanos: 0 }),
            attempt: 1,
        }
    }

    pub(super) fn of_file(&mut self, path: &Path, attempt: usize, attributes: (u32, Mtime)) {
        self.local = Some(path.to_owned());
        self.attempt = attempt;
        self.attributes = attributes;
    }

    pub(super) fn of_stream(&mut self, attributes: (u32, Mtime)) {
        self.attributes = attributes;
    }

    pub(super) fn upload(&self) -> u64 {
        self.upload
    }

    /// Its length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.read.size
    }

    /// Says that all has come, by the queue that it went by.
    pub(super) fn close(&self) -> Result<(), Stop> {
        let close = Request::UploadClose {
            upload: self.upload,
            size: self.read.size,
        };
        let mut body = self
            .read
            .digest
            .map_or_else(Vec::new, |digest| digest.0.to_vec());
        body.extend_from_slice(&self.read.sum);
        let bulk = &self.work.connection.link().outbox.bulk;
        let sent = bulk.blocking_send(Outgoing::new(&close, body));
        sent.map_err(|_| Stop::Silent)
    }

    /// Waits until it is durable in its place. Where something changed meanwhile it is sent again.
    pub(in crate::daemon::user::files) async fn end(mut self) -> Result<Done, FileError> {
        loop {
            match self.commit().await {
                Ok(()) => {
                    return Ok(Done {
                        remote: self.remote,
                        local: self.local,
                        size: self.read.size,
                        sum: self.read.sum,
                        moved: self.read.moved,
                    });
                }
                Err(Failure::Of(error)) => return Err(error),
                Err(Failure::Again) => {}
            }
            let again = tokio::task::spawn_blocking(move || self.again()).await;
            match again.unwrap_or_else(|_| Err(unexpected()))? {
                Moved::Done(done) => return Ok(done),
                Moved::Closing(closing) => self = *closing,
            }
        }
    }

    fn again(self) -> Result<Moved, FileError> {
        let Some(path) = &self.local else {
            return Err(gone());
        };
        self.work.uncount(self.read.size);
        let send = Send {
            work: &self.work,
            remote: &self.remote,
            replace: self.replace,
        };
        send.attempts(path, self.attempt + 1, false)
    }

    /// Brings it into view if both sides have the same.
    async fn commit(&mut self) -> Result<(), Failure> {
        let share = Remote(&self.work.connection);
        let answer = self.answers.next().await?;
        let (sum, told) = staged(share, answer)?;
        let Some(digest) = self.read.digest.or(told) else {
            return Err(Failure::Of(share.broken()));
        };
        if sum != self.read.sum {
            return Err(Failure::Of(FileError::Other(format!(
                "what the server has stored of `{}` is not what was read here: the sums differ",
                self.remote
            ))));
        }
        if self.local.is_none() {
            self.work.check()?;
        }
        let path = WirePath::from(&self.remote);
        let given = match self.replace {
            Replace::Allowed => Given::NoDirectory { path: path.clone() },
            Replace::Refused => Given::Absent { path: path.clone() },
        };
        let put = Op::Put {
            path,
            mode: self.attributes.0,
            mtime: WireTime::from(self.attributes.1),
            size: self.read.size,
            content: Content::Upload {
                upload: self.upload,
            },
        };
        let body = digest.0.to_vec();
        match share.change(vec![put], vec![given], body).await {
            // Nobody has looked, or it came meanwhile: it may be the same, and what to say of it is known then.
            Err(FileError::Remote {
                code: Code::Exists, ..
            }) if self.local.is_some() && self.attempt < ATTEMPTS => {
                self.work.found();
                Err(Failure::Again)
            }
            // What is missing now is its directory: to send it again is of no use.
            done => done.map_err(|error| Failure::Of(full(error))),
        }
    }
}

/// Says what to do when the server's disk is full.
fn full(error: FileError) -> FileError {
    match error {
        FileError::Remote { code, message } if code == Code::Fault(Fault::Full) => {
            let message = format!(
                "the server's disk is full ({message}): what is there is kept, send it again when there is room"
            );
            FileError::Remote { code, message }
        }
        other => other,
    }
}

/// What became of the source of a stream.
pub(super) fn gone() -> FileError {
    FileError::Other("what the server had of it changed meanwhile: send it again".to_owned())
}

/// What the server says of an upload: its SHA-256 of what is stored, and the content digest if it tells that.
pub(super) fn staged(
    share: Remote<'_>,
    (response, body): (Response, Bytes),
) -> Result<([u8; 32], Option<Digest>), Failure> {
    match response {
        Response::Staged {
            failed: Some(failed),
            ..
        } => Err(full(FileError::Remote {
            code: failed.code,
            message: clean_text(&failed.message, MAX_TEXT),
        })
        .into()),
        _ => {
            let broken = |_| Failure::Of(share.broken());
            let mut reader = BodyReader::new(&body);
            let sum = reader.digest().map_err(broken)?.0;
            let told = (body.len() > sum.len()).then(|| reader.digest());
            let digest = told.transpose().map_err(broken)?;
            reader.finish().map_err(broken)?;
            Ok((sum, digest))
        }
    }
}

/// The files of one worker that wait for their answers.
#[derive(Debug, Default)]
pub(in crate::daemon::user::files) struct Behind {
    files: JoinSet<u64>,
    bytes: u64,
}

impl Behind {
    /// Waits until one more file may follow.
    pub(in crate::daemon::user::files) async fn room(&mut self) {
        while (self.files.len() >= MOST || self.bytes > MOST_BYTES)
            && let Some(ended) = self.files.join_next().await
        {
            self.bytes -= ended.unwrap_or(0).min(self.bytes);
        }
    }

    /// Waits for a file while others go.
    pub(in crate::daemon::user::files) fn add(
        &mut self,
        closing: Closing,
        shown: String,
        watcher: &Watcher,
    ) {
        let (size, watcher) = (closing.size(), watcher.clone());
        self.bytes += size;
        self.files.spawn(async move {
            let done = tokio::spawn(closing.end()).await;
            let done = done.unwrap_or_else(|_| Err(unexpected()));
            conclude(&watcher, shown, done).await;
            size
        });
    }

    /// Waits for all of them.
    pub(in crate::daemon::user::files) async fn all(&mut self) {
        while self.files.join_next().await.is_some() {}
    }
}
