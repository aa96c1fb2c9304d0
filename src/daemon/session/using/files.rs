//! What is answered about files: what the disk says, not the index.

use super::Using;
use super::reading::{self, Summing, Wanted};
use crate::daemon::session::{SessionError, wire_path};
use crate::daemon::share::{Refusal, Share};
use crate::engine::ports::{Store, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::model::limits::{MAX_HEADER, MAX_LISTING};
use crate::model::{Fault, Name, RelPath};
use crate::wire::{
    Code, FileAnswer, FileAsk, FileRequest, FileResponse, ListEntry, ListKind, Response, Unread,
    WireBytes, WireTime,
};

/// What an entry takes in a header beside its name and target, each six times as long at most, in bytes.
const ENTRY_ROOM: usize = 256;

/// A request that was looked at.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Look(RelPath),
    List(RelPath, Option<Name>),
    Read(Wanted),
    Sum(Summing),
}

/// Takes a request apart.
pub(super) fn understood(request: FileRequest) -> Result<Job, SessionError> {
    let bad = |error: crate::model::PathError| SessionError::Protocol(error.to_string());
    let what = match request.ask {
        FileAsk::Look { path } => What::Look(wire_path(&path)?),
        FileAsk::List { path, first } => {
            let first = first.map(|name| Name::new(&name.bytes().unwrap_or_default()));
            What::List(wire_path(&path)?, first.transpose().map_err(bad)?)
        }
        FileAsk::Read {
            path,
            offset,
            length,
            version,
        } => What::Read(Wanted {
            path: wire_path(&path)?,
            offset,
            length,
            version,
        }),
        FileAsk::Sum { path, block, seed } => What::Sum(Summing {
            path: wire_path(&path)?,
            block,
            seed,
        }),
        FileAsk::Change { .. } => {
            return Err(SessionError::Protocol("a change has a body".to_owned()));
        }
    };
    Ok(Job {
        id: request.id,
        what,
    })
}

/// Answers a request.
pub(super) fn answer(using: &Using, job: Job) -> Result<(), Refusal> {
    let told = |answer: &dyn Fn(Option<&Share>) -> Result<FileAnswer, StoreError>| {
        let share = using.user.share()?;
        let answer = answer(share.as_deref()).unwrap_or_else(|error| failed(&error));
        using.answer(&response(job.id, answer), Vec::new());
        Ok(())
    };
    match &job.what {
        What::Look(path) => told(&|share| looked(share, path)),
        What::List(path, first) => told(&|share| listed(share, path, first.as_ref())),
        What::Read(wanted) => reading::read(using, job.id, wanted),
        What::Sum(wanted) => reading::sum(using, job.id, wanted),
    }
}

pub(super) fn response(id: u64, answer: FileAnswer) -> Response {
    Response::File(Box::new(FileResponse { id, answer }))
}

pub(super) fn failed(error: &StoreError) -> FileAnswer {
    FileAnswer::Failed {
        code: Code::Fault(error.fault),
        message: error.message.clone(),
    }
}

fn looked(share: Option<&Share>, path: &RelPath) -> Result<FileAnswer, StoreError> {
    let Some(share) = share.filter(|_| !path.is_root()) else {
        let entry = path.is_root().then(top);
        return Ok(FileAnswer::Looked {
            entry,
            leftover: false,
            version: None,
        });
    };
    let found = match share.store().lstat(path) {
        Ok(found) => found,
        // A file or a link stands in the way: nothing is there.
        Err(error) if error.fault == Fault::Changed => None,
        Err(error) => return Err(error),
    };
    let entry = found.as_ref().map(|found| entry(b"", found)).transpose()?;
    let file = found.filter(|found| matches!(found.kind, FoundKind::File { .. }));
    Ok(FileAnswer::Looked {
        entry,
        version: file.as_ref().map(reading::version),
        leftover: share.store().leftover(path).is_some(),
    })
}

/// What the top of a share is, also of one that is not there.
fn top() -> ListEntry {
    ListEntry {
        name: WireBytes::new(b""),
        mode: 0o755,
        mtime: WireTime(0, 0),
        kind: ListKind::Directory {},
    }
}

pub(super) fn entry(name: &[u8], found: &Found) -> Result<ListEntry, StoreError> {
    let kind = match &found.kind {
        FoundKind::Directory => ListKind::Directory {},
        FoundKind::File { size } => ListKind::File { size: *size },
        FoundKind::Symlink { target } => ListKind::Symlink {
            target: WireBytes::new(target),
        },
        FoundKind::Special(what) => {
            return Err(StoreError::new(
                Fault::Unrepresentable,
                format!("it is {what}"),
            ));
        }
    };
    Ok(ListEntry {
        name: WireBytes::new(name),
        mode: found.mode,
        mtime: found.mtime.into(),
        kind,
    })
}

fn listed(
    share: Option<&Share>,
    path: &RelPath,
    first: Option<&Name>,
) -> Result<FileAnswer, StoreError> {
    let scanned = match share {
        None if path.is_root() => Ok(Vec::new()),
        None => Err(StoreError::changed("there is nothing at the path")),
        Some(share) => {
            let scanned = share.store().scan(std::slice::from_ref(path)).pop();
            scanned.unwrap_or_else(|| Ok(Vec::new()))
        }
    };
    let (mut entries, mut failed, mut next) = (Vec::new(), Vec::new(), None);
    let mut scanned = match scanned {
        Ok(scanned) => scanned,
        Err(error) if error.fault == Fault::Changed => {
            return Ok(FileAnswer::Listed {
                entries,
                failed,
                next,
                found: false,
            });
        }
        Err(error) => return Err(error),
    };
    scanned.retain(|(name, _)| first.is_none_or(|first| first <= name));
    scanned.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let mut room = MAX_HEADER as usize - 1024;
    for (name, found) in scanned {
        let told = found.and_then(|found| entry(name.as_bytes(), &found));
        let target = match &told {
            Ok(ListEntry {
                kind: ListKind::Symlink { target },
                ..
            }) => target.bytes().map_or(0, |target| target.len()),
            _ => 0,
        };
        let needs = ENTRY_ROOM + 6 * (name.as_bytes().len() + target);
        if needs > room || entries.len() + failed.len() == MAX_LISTING {
            next = Some(WireBytes::new(name.as_bytes()));
            break;
        }
        room -= needs;
        match told {
            Ok(entry) => entries.push(entry),
            Err(error) => failed.push(Unread {
                name: WireBytes::new(name.as_bytes()),
                code: Code::Fault(error.fault),
                message: error.message.chars().take(ENTRY_ROOM / 12).collect(),
            }),
        }
    }
    Ok(FileAnswer::Listed {
        entries,
        failed,
        next,
        found: true,
    })
}
