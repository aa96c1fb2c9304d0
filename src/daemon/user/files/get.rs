//! One file from the share: into what grows beside its target, and in its place when it is whole and right.
//!
//! What is there of it already is compared block by block with what the server has, and not asked for again.

mod blocks;
mod spread;

use super::servers::PATIENCE;
use super::work::{Done, Work, silent};
use super::{Entry, EntryKind, FileError, Remote};
use crate::daemon::user::Answers;
use crate::host::local::{self, Kind, LocalFile, Partial, Replace};
use crate::model::RelPath;
use crate::model::limits::MAX_PIECE;
use crate::wire::{FileAnswer, FileAsk, ListEntry, WirePath};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file that changes while it is fetched is begun again with what it has become.
const ATTEMPTS: usize = 5;
/// Bytes that are asked for at once where somebody reads along: as much as may wait here.
const STREAMED: u64 = 8 * MAX_PIECE as u64;

/// Where a file goes.
pub enum Target {
    /// To a path.
    Path(PathBuf),
    /// To whoever reads along.
    Stream(Box<dyn Write + Send>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Takes bytes with the place where they start.
type Sink<'a> = dyn FnMut(&[u8], u64) -> Result<(), FileError> + 'a;

/// What the server says of a file once it was read.
pub(super) struct Whole {
    entry: Entry,
    sum: [u8; 32],
}

/// Fetches a file.
pub(super) fn fetch(
    work: &Work,
    remote: &RelPath,
    size: u64,
    target: Target,
    replace: Replace,
) -> Result<Done, FileError> {
    let fetch = Fetch { work, remote, size };
    match target {
        Target::Path(path) => fetch.to_path(&path, replace),
        Target::Stream(out) => fetch.to_stream(out),
    }
}

pub(super) struct Fetch<'a> {
    work: &'a Work,
    remote: &'a RelPath,
    /// Its length when it was looked at, in bytes.
    size: u64,
}

impl Fetch<'_> {
    fn share(&self) -> Remote<'_> {
        Remote(&self.work.connection)
    }

    fn done(&self, local: Option<&Path>, whole: &Whole, moved: u64) -> Done {
        Done {
            remote: self.remote.clone(),
            local: local.map(Path::to_owned),
            size: size_of(&whole.entry),
            sum: whole.sum,
            moved,
        }
    }

    fn ask(&self, ask: FileAsk) -> Result<Answers, FileError> {
        self.work
            .runtime
            .block_on(self.share().ask(ask, Vec::new()))
    }

    /// The next answer; none once everything was stopped.
    fn said(&self, answers: &mut Answers) -> Result<(FileAnswer, bytes::Bytes), FileError> {
        self.said_after(answers, Duration::ZERO)
    }

    /// The same from a server that has some work to do before it says something.
    fn said_after(
        &self,
        answers: &mut Answers,
        work: Duration,
    ) -> Result<(FileAnswer, bytes::Bytes), FileError> {
        let share = self.share();
        let patience = self.work.patience();
        let silence = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience + work).await,
                None => std::future::pending().await,
            }
        };
        self.work.runtime.block_on(async {
            tokio::select! {
                said = share.said(answers) => said,
                () = self.work.watcher.stop.cancelled() => Err(FileError::Stopped),
                () = silence => Err(silent(self.work.connection.server(), PATIENCE).into()),
            }
        })
    }

    /// In ranges that find room here, however slowly somebody reads: the line is not held up by that, and stays alive.
    fn to_stream(&self, mut out: Box<dyn Write + Send>) -> Result<Done, FileError> {
        let mut sum = Sha256::new();
        let failed = |source| FileError::Local {
            attempt: "cannot write to standard output".to_owned(),
            source,
        };
        let (mut at, mut version) = (0, None);
        loop {
            let mut answers = self.ask(FileAsk::Read {
                path: WirePath::from(self.remote),
                offset: at,
                length: Some(STREAMED),
                version: version.clone(),
            })?;
            let size = loop {
                match self.said(&mut answers)? {
                    (FileAnswer::Piece {}, body) => {
                        sum.update(&body);
                        out.write_all(&body).map_err(failed)?;
                        at += body.len() as u64;
                        self.work.count(body.len() as u64);
                    }
                    (FileAnswer::Read { file, version: of }, _) => {
                        version = Some(of);
                        let entry = Entry::of(&file).ok_or_else(|| self.share().broken())?;
                        break size_of(&entry);
                    }
                    _ => return Err(self.share().broken()),
                }
            };
            if at >= size {
                break;
            }
        }
        out.flush().map_err(failed)?;
        let summed = self.sum()?;
        if Some(summed.version) != version {
            let message = format!("`{}` changed after it was read", self.remote);
            return Err(FileError::Other(message));
        }
        self.check(&summed.whole, sum.finalize().into())?;
        Ok(self.done(None, &summed.whole, at))
    }

    fn check(&self, whole: &Whole, sum: [u8; 32]) -> Result<(), FileError> {
        if whole.sum == sum {
            return Ok(());
        }
        Err(FileError::Wrong(format!(
            "what arrived of `{}` is not what the server has read: the sums differ",
            self.remote
        )))
    }

    fn to_path(&self, path: &Path, replace: Replace) -> Result<Done, FileError> {
        let there = local::look(path).map_err(FileError::local("look at", path))?;
        let kind = there.map(|there| there.kind);
        match &kind {
            Some(Kind::Directory) => {
                let shown = crate::model::escape(path.as_os_str().as_encoded_bytes());
                return Err(FileError::Other(format!("`{shown}` is a directory")));
            }
            Some(Kind::Special) => {
                let shown = crate::model::escape(path.as_os_str().as_encoded_bytes());
                return Err(FileError::Other(format!(
                    "`{shown}` is neither file nor link: `-`, redirected, writes to it"
                )));
            }
            Some(kind) if replace == Replace::Refused => return self.same(path, kind),
            _ => {}
        }
        let failed = || FileError::local("write", path);
        let mut partial = Partial::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => FileError::Other(format!(
                "another `syncd get` fetches `{}` just now",
                crate::model::escape(path.as_os_str().as_encoded_bytes())
            )),
            _ => failed()(error),
        })?;
        let empty = partial.size().map_err(failed())? == 0;
        if let Some(Kind::File { size: 1.. }) = kind
            && empty
        {
            // What the older version has of the new one is not sent.
            partial.begin_with(path).map_err(failed())?;
        }
        match self.fill(&partial) {
            Ok((whole, moved)) => {
                let attributes = (whole.entry.mode, whole.entry.mtime);
                partial.finish(attributes, replace).map_err(failed())?;
                Ok(self.done(Some(path), &whole, moved))
            }
            Err(error) => {
                if empty && partial.size().is_ok_and(|size| size == 0) {
                    partial.discard();
                }
                Err(error)
            }
        }
    }

    /// A file that has the content already loses nothing; any other stays.
    fn same(&self, path: &Path, kind: &Kind) -> Result<Done, FileError> {
        let shown = crate::model::escape(path.as_os_str().as_encoded_bytes());
        if let Kind::File { size } = kind
            && *size == self.size
        {
            let there = sum_of(path, &|| self.work.check())?;
            let summed = self.sum()?;
            if summed.whole.sum == there {
                self.work.count(*size);
                return Ok(self.done(Some(path), &summed.whole, 0));
            }
        }
        Err(FileError::Other(format!(
            "`{shown}` is there already with another content: `--force` replaces it"
        )))
    }

    /// Fetches what is missing, until what grows is what the server has. How many bytes came.
    fn fill(&self, partial: &Partial) -> Result<(Whole, u64), FileError> {
        let failed = || FileError::local("write", partial.path());
        let mut moved = 0;
        for attempt in 1.. {
            let lines = self.lines();
            let filled = if lines.len() > 1 {
                self.spread(partial, &lines, &mut moved)
            } else if partial.size().map_err(failed())? == 0 {
                self.whole(partial, &mut moved)
            } else {
                self.rest(partial, &mut moved)
            };
            match filled {
                Err(error) if error.is_changed() && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(whole) => return Ok((whole, moved)),
            }
        }
        Err(FileError::Stopped)
    }

    /// Reads the file from front to back, whose length and sum come behind it.
    fn read_whole(&self, sink: &mut Sink<'_>) -> Result<(Whole, u64), FileError> {
        let mut answers = self.ask(FileAsk::Read {
            path: WirePath::from(self.remote),
            offset: 0,
            length: None,
            version: None,
        })?;
        let mut at = 0;
        loop {
            match self.said(&mut answers)? {
                (FileAnswer::Piece {}, body) => {
                    sink(&body, at)?;
                    at += body.len() as u64;
                    self.work.count(body.len() as u64);
                }
                (FileAnswer::Read { file, .. }, body) => {
                    let whole = self.told(&file, &body)?;
                    return Ok((whole, at));
                }
                _ => return Err(self.share().broken()),
            }
        }
    }

    fn told(&self, file: &ListEntry, body: &[u8]) -> Result<Whole, FileError> {
        let entry = Entry::of(file);
        let sum = <[u8; 32]>::try_from(body).ok();
        let whole = entry.zip(sum).map(|(entry, sum)| Whole { entry, sum });
        whole.ok_or_else(|| self.share().broken())
    }

    /// A file of which nothing is here.
    fn whole(&self, partial: &Partial, moved: &mut u64) -> Result<Whole, FileError> {
        let failed = || FileError::local("write", partial.path());
        let (mut sum, mut again) = (Sha256::new(), vec![0; MAX_PIECE]);
        let read = self.read_whole(&mut |bytes, at| {
            partial.write_at(bytes, at).map_err(failed())?;
            *moved += bytes.len() as u64;
            // Of what is stored, not of what came.
            for (part, at) in bytes.chunks(MAX_PIECE).zip((at..).step_by(MAX_PIECE)) {
                let stored = again.get_mut(..part.len()).unwrap_or_default();
                let count = partial.read_at(stored, at).map_err(failed())?;
                sum.update(stored.get(..count).unwrap_or_default());
            }
            Ok(())
        });
        let (whole, _) = read?;
        self.checked(partial, whole, sum.finalize().into())
    }

    /// What is stored is never taken for the file when it is not.
    fn checked(&self, partial: &Partial, whole: Whole, sum: [u8; 32]) -> Result<Whole, FileError> {
        if let Err(error) = self.check(&whole, sum) {
            // Nobody knows which of its bytes are wrong.
            partial
                .set_size(0)
                .map_err(FileError::local("write", partial.path()))?;
            return Err(error);
        }
        Ok(whole)
    }
}

fn size_of(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::File { size } => size,
        _ => 0,
    }
}

/// The SHA-256 of a file.
pub(super) fn sum_of(
    path: &Path,
    check: &dyn Fn() -> Result<(), FileError>,
) -> Result<[u8; 32], FileError> {
    let failed = || FileError::local("read", path);
    let mut file = LocalFile::open(path).map_err(failed())?;
    let (mut sum, mut buffer) = (Sha256::new(), vec![0; MAX_PIECE]);
    loop {
        check()?;
        match file.read(&mut buffer).map_err(failed())? {
            0 => return Ok(sum.finalize().into()),
            count => sum.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}
