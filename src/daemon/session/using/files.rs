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
    CachedFile, Code, FileAnswer, FileAsk, FileRequest, FileResponse, ListEntry, ListKind,
    Response, Unread, WireBytes, WirePath, WireTime,
};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What an entry takes in a header beside its name and target, each six times as long at most, in bytes.
const ENTRY_ROOM: usize = 256;

/// Directories whose names are kept for the next part, of one connection.
const BEGUN: usize = 4;

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
    Cached(Option<RelPath>),
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
        FileAsk::Cached { first } => What::Cached(first.as_ref().map(wire_path).transpose()?),
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
        What::List(path, first) => told(&|share| listed(share, path, first.as_ref(), &using.begun)),
        What::Cached(first) => told(&|share| Ok(cached(using, share, first.as_ref()))),
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

/// Names that are left of directories of which a part was told: whoever goes on does not have all of them read again.
#[derive(Debug, Default)]
pub(super) struct Begun(Mutex<VecDeque<(RelPath, VecDeque<Name>)>>);

impl Begun {
    fn all(&self) -> MutexGuard<'_, VecDeque<(RelPath, VecDeque<Name>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, path: &RelPath, first: &Name) -> Option<VecDeque<Name>> {
        let mut all = self.all();
        let at = |(dir, names): &(RelPath, VecDeque<Name>)| {
            dir == path && names.front().is_some_and(|next| next == first)
        };
        let index = all.iter().position(at)?;
        all.remove(index).map(|(_, names)| names)
    }

    fn keep(&self, path: &RelPath, names: VecDeque<Name>) {
        let mut all = self.all();
        all.truncate(BEGUN - 1);
        all.push_front((path.clone(), names));
    }
}

/// The names of a directory from one on, in order; nothing when it is no directory.
fn names(
    share: Option<&Share>,
    path: &RelPath,
    first: Option<&Name>,
    begun: &Begun,
) -> Result<Option<VecDeque<Name>>, StoreError> {
    if let Some(names) = first.and_then(|first| begun.take(path, first)) {
        return Ok(Some(names));
    }
    let Some(share) = share else {
        return Ok(path.is_root().then(VecDeque::new));
    };
    let scanned = share.store().scan(std::slice::from_ref(path)).pop();
    let scanned = match scanned.unwrap_or_else(|| Ok(Vec::new())) {
        Ok(scanned) => scanned,
        Err(error) if error.fault == Fault::Changed => return Ok(None),
        Err(error) => return Err(error),
    };
    let names = scanned.into_iter().map(|(name, _)| name);
    let mut names: Vec<Name> = names
        .filter(|name| first.is_none_or(|first| first <= name))
        .collect();
    names.sort_unstable();
    Ok(Some(names.into()))
}

fn listed(
    share: Option<&Share>,
    path: &RelPath,
    first: Option<&Name>,
    begun: &Begun,
) -> Result<FileAnswer, StoreError> {
    let (mut entries, mut failed, mut next) = (Vec::new(), Vec::new(), None);
    let names = names(share, path, first, begun)?;
    let found = names.is_some();
    let mut names = names.unwrap_or_default();
    let mut room = MAX_HEADER as usize - 1024;
    while let (Some(share), Some(name)) = (share, names.pop_front()) {
        let told = match path.join(&name).map(|path| share.store().lstat(&path)) {
            Ok(Ok(Some(found))) => entry(name.as_bytes(), &found),
            Ok(Err(error)) => Err(error),
            // It went meanwhile.
            Ok(Ok(None)) => continue,
            // Nobody can ask for it, and somebody should know.
            Err(error) => Err(StoreError::new(Fault::Unrepresentable, error.to_string())),
        };
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
            names.push_front(name);
            begun.keep(path, names);
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
        found,
    })
}

/// The files of the share that are in memory. What changed on the disk meanwhile is forgotten and not told.
fn cached(using: &Using, share: Option<&Share>, first: Option<&RelPath>) -> FileAnswer {
    let (mut entries, mut next) = (Vec::new(), None);
    let mut room = MAX_HEADER as usize - 1024;
    let shown = using.files.list(&using.space).into_iter();
    for file in shown.filter(|file| first.is_none_or(|first| *first <= file.path)) {
        let found = share.and_then(|share| share.store().lstat(&file.path).ok().flatten());
        if found.is_none_or(|found| reading::version(&found) != file.version) {
            using
                .files
                .forget_version(&using.key(&file.path), &file.version);
            continue;
        }
        let needs = ENTRY_ROOM + 6 * file.path.as_bytes().len();
        let path = WirePath::from(&file.path);
        if needs > room || entries.len() == MAX_LISTING {
            next = Some(path);
            break;
        }
        room -= needs;
        entries.push(CachedFile {
            path,
            size: file.size,
            hits: file.hits,
            age_ms: file.age_ms,
            users: file.users,
        });
    }
    FileAnswer::Cached { entries, next }
}
