//! What the disk holds, read again whatever the tree says; and the tree put right where it says otherwise.
//!
//! The reading needs no tree, so it holds nobody up. Only the correction does, and it looks at nothing but what differs.

use super::listing::{list_entry, room_of};
use super::{Look, Server};
use crate::delta::ContentHasher;
use crate::engine::ports::{Store, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::index::{Node, NodeId};
use crate::model::limits::{MAX_HEADER, MAX_LISTING};
use crate::model::{Entry, Fault, Kind, Name, RelPath};
use crate::wire::{Code, Inspected, Response, Unread, WireBytes};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Bytes of contents after which a part is closed, so that none is long under way.
const PART_BYTES: u64 = 32 * 1024 * 1024;
/// What a name that was not read takes in a header at most, beside the name, in bytes.
const UNREAD_ROOM: usize = 2048;
/// Directories whose names are kept for the next part.
const BEGUN: usize = 4;

/// The names of a directory that are asked for: from one on, and up to one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The least name.
    pub first: Option<Name>,
    /// The greatest name.
    pub last: Option<Name>,
}

impl Range {
    fn holds(&self, name: &Name) -> bool {
        self.first.as_ref().is_none_or(|first| first <= name)
            && self.last.as_ref().is_none_or(|last| name <= last)
    }
}

/// A part of what a directory holds on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inspection {
    seen: Vec<(Name, Seen)>,
    /// All names before it were looked at.
    next: Option<Name>,
    /// Whether it is a directory.
    found: bool,
    /// Why it cannot be looked into.
    failed: Option<StoreError>,
    /// Files that were read.
    read: u64,
}

type Seen = Result<(Found, Entry), StoreError>;

/// Reads directories with the contents of their files.
#[derive(Debug)]
pub struct Inspector<S> {
    store: Arc<S>,
    /// Names that are left of directories of which a part was told.
    begun: VecDeque<(RelPath, VecDeque<Name>)>,
}

impl<S: Store> Inspector<S> {
    /// One that reads from a store.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self {
            store,
            begun: VecDeque::new(),
        }
    }

    /// Looks at the names of a directory, as far as one message has room. Once `halted`, no more contents are read, and
    /// what comes out is of no use.
    pub fn look(&mut self, path: &RelPath, range: &Range, halted: &dyn Fn() -> bool) -> Inspection {
        let mut names = match self.names(path, range) {
            Ok(names) => names,
            Err(error) => {
                return Inspection {
                    found: error.fault != Fault::Changed,
                    failed: Some(error).filter(|error| error.fault != Fault::Changed),
                    ..Inspection::default()
                };
            }
        };
        let mut part = Inspection {
            found: true,
            ..Inspection::default()
        };
        let (mut room, mut bytes) = (MAX_HEADER as usize - 1024, 0);
        while let Some(name) = names.pop_front() {
            if !range.holds(&name) || halted() {
                continue;
            }
            let needs = UNREAD_ROOM + 6 * name.as_bytes().len();
            if part.seen.len() == MAX_LISTING || bytes >= PART_BYTES || needs > room {
                part.next = Some(name.clone());
                names.push_front(name);
                break;
            }
            let Some(seen) = self.entry(path, &name, halted, &mut part.read) else {
                continue;
            };
            if let Ok((_, entry)) = &seen {
                let needs = room_of(name.as_bytes(), entry);
                if needs > room {
                    part.next = Some(name.clone());
                    names.push_front(name);
                    break;
                }
                room -= needs;
                bytes += match entry.kind {
                    Kind::File { size, .. } => size,
                    _ => 0,
                };
            } else {
                room -= needs;
            }
            part.seen.push((name, seen));
        }
        if part.next.is_some() {
            self.begun.truncate(BEGUN - 1);
            self.begun.push_front((path.clone(), names));
        }
        part
    }

    /// The names of a directory that may be in a range, in order.
    fn names(&mut self, path: &RelPath, range: &Range) -> Result<VecDeque<Name>, StoreError> {
        if let Some(first) = &range.first {
            let begun = self.begun.iter().position(|(dir, names)| {
                dir == path && names.front().is_some_and(|next| next == first)
            });
            if let Some((_, names)) = begun.and_then(|index| self.begun.remove(index)) {
                return Ok(names);
            }
        }
        match (&range.first, &range.last) {
            (Some(first), Some(last)) if first == last => Ok([first.clone()].into()),
            _ => {
                let scanned = self.store.scan(std::slice::from_ref(path)).pop();
                let scanned = scanned.unwrap_or_else(|| Ok(Vec::new()))?;
                let mut names: Vec<Name> = scanned.into_iter().map(|(name, _)| name).collect();
                names.sort_unstable();
                Ok(names.into())
            }
        }
    }

    /// What is under a name; nothing when nothing is.
    fn entry(
        &self,
        dir: &RelPath,
        name: &Name,
        halted: &dyn Fn() -> bool,
        read: &mut u64,
    ) -> Option<Seen> {
        if dir.is_root() && name.as_bytes() == b".syncd" {
            return None;
        }
        let path = dir.join(name).ok()?;
        let found = match self.store.lstat(&path) {
            Ok(found) => found?,
            Err(error) => return Some(Err(error)),
        };
        let (found, kind) = match found.kind.clone() {
            FoundKind::Directory => (found, Kind::Directory),
            FoundKind::Symlink { target } => (found, Kind::Symlink { target }),
            FoundKind::Special(what) => {
                let message = format!("it is {what}");
                return Some(Err(StoreError::new(Fault::Unrepresentable, message)));
            }
            FoundKind::File { .. } => {
                *read += 1;
                let mut hasher = ContentHasher::new();
                let found = self.store.read(&path, &mut |bytes| {
                    if !halted() {
                        hasher.update(bytes);
                    }
                });
                let (size, digest) = hasher.finish();
                match found {
                    Ok(found) => (found, Kind::File { size, digest }),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        let entry = Entry {
            kind,
            mode: found.mode,
            mtime: found.mtime,
        };
        Some(Ok((found, entry)))
    }
}

impl Inspection {
    /// The message and its body.
    #[must_use]
    pub fn answer(&self, id: u64) -> (Response, Vec<u8>) {
        let (mut entries, mut failed, mut body) = (Vec::new(), Vec::new(), Vec::new());
        let unread = |name: &[u8], error: &StoreError| Unread {
            name: WireBytes::new(name),
            code: Code::Fault(error.fault),
            message: error.message.chars().take(200).collect(),
        };
        failed.extend(self.failed.iter().map(|error| unread(b"", error)));
        for (name, seen) in &self.seen {
            match seen {
                Ok((_, entry)) => {
                    entries.push(list_entry(name.as_bytes(), entry, [0; 32], &mut body));
                }
                Err(error) => failed.push(unread(name.as_bytes(), error)),
            }
        }
        let answer = Inspected {
            id,
            entries,
            failed,
            next: self
                .next
                .as_ref()
                .map(|name| WireBytes::new(name.as_bytes())),
            found: self.found,
        };
        (Response::Inspected(answer), body)
    }
}

impl<S: Store> Server<S> {
    /// Puts the tree right where it says otherwise than a directory was seen to hold, unless that has changed since. What
    /// cannot be read is no longer said to be known.
    pub fn correct(&mut self, path: &RelPath, range: &Range, part: &Inspection) -> Look {
        let mut look = Look {
            read: part.read,
            ..Look::default()
        };
        if let Some(dir) = self
            .tree
            .lookup(path)
            .filter(|_| part.failed.is_none() && part.found)
        {
            for (name, seen) in &part.seen {
                if let Ok(path) = path.join(name) {
                    self.correct_one(dir, name, &path, seen, &mut look);
                }
            }
            for (path, id) in self.unseen(dir, path, range, part) {
                if matches!(self.store.lstat(&path), Ok(None)) {
                    look.differs(&path);
                    self.tree.remove(id);
                }
            }
        }
        if look.differences > 0 {
            look.drift = true;
            // Somebody else made what the tree says now, and nobody made it durable.
            self.unsettled = true;
        }
        self.count(&look);
        look
    }

    fn correct_one(
        &mut self,
        dir: NodeId,
        name: &Name,
        path: &RelPath,
        seen: &Seen,
        look: &mut Look,
    ) {
        let known = self.tree.child(dir, name.as_bytes());
        let node = known.and_then(|id| self.tree.get(id));
        let (found, entry) = match seen {
            Ok(seen) => seen,
            Err(error) => {
                if let Some(id) = known.filter(|_| is_lost(error, node)) {
                    look.differs(path);
                    self.tree.remove(id);
                }
                return;
            }
        };
        let same = node.is_some_and(|node| node.entry == *entry);
        if same && (entry.is_dir() || node.is_some_and(|node| node.stat == Some(found.stat))) {
            return;
        }
        // The time of one that is owed it is known better than the disk has it.
        let owed = known.is_some_and(|id| self.owed.dirs.contains(&id));
        if owed || !matches!(self.store.lstat(path), Ok(Some(now)) if now == *found) {
            return;
        }
        match known {
            Some(id) if same => self.tree.set_stat(id, Some(found.stat)),
            _ => {
                look.differs(path);
                self.tree.put(dir, name, entry.clone(), Some(found.stat));
            }
        }
    }

    /// What the tree has in the part of a directory that was looked at, and was not seen there.
    fn unseen(
        &self,
        dir: NodeId,
        path: &RelPath,
        range: &Range,
        part: &Inspection,
    ) -> Vec<(RelPath, NodeId)> {
        let seen: HashSet<&Name> = part.seen.iter().map(|(name, _)| name).collect();
        let children = self
            .tree
            .get(dir)
            .into_iter()
            .flat_map(|node| node.children());
        let missing = children.filter_map(|(name, id)| {
            let name = Name::new(name).ok()?;
            let told = part.next.as_ref().is_none_or(|next| name < *next);
            (told && range.holds(&name) && !seen.contains(&name))
                .then(|| Some((path.join(&name).ok()?, id)))?
        });
        missing.collect()
    }
}

/// Whether what the tree says of a path is of no use any more: its content is not to be had.
fn is_lost(error: &StoreError, node: Option<&Node>) -> bool {
    match error.fault {
        Fault::Io => node.is_some_and(|node| !node.entry.is_dir()),
        fault => fault == Fault::Unrepresentable,
    }
}
