//! The first hand: contents are made complete and durable out of sight, in groups.

use super::change::{Change, Source};
use crate::delta::{ContentHasher, digest};
use crate::engine::ports::{Attributes, Store, StoreError};
use crate::model::{Digest, RelPath};
use crate::wire::Failed;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// A change that is ready to be brought into view.
#[derive(Debug)]
pub struct Prepared<T> {
    /// Its place among the changes of its message.
    pub index: u32,
    /// What is to be done.
    pub change: Change,
    /// The content of a `put`, or why there is none; nothing for other changes.
    pub staged: Result<Option<T>, StoreError>,
}

/// One step of a group, in order.
#[derive(Debug)]
pub enum Item<T> {
    /// A message begins.
    Begin {
        /// The version that the client had heard of when it sent it.
        based_on: u64,
    },
    /// A change.
    Change(Prepared<T>),
    /// A change that cannot be meant.
    Refused(Failed),
    /// The end of a message, which is now to be answered.
    End {
        /// Which message.
        id: u64,
    },
}

/// Changes that become durable together.
#[derive(Debug)]
pub struct Group<T> {
    /// Counts groups, from 1.
    pub number: u64,
    /// The changes in order.
    pub items: Vec<Item<T>>,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Whether its contents are durable; those of a large group are made so together with what came before it.
    pub synced: bool,
}

impl<T> Group<T> {
    /// How many contents are staged in it.
    fn staged(&self) -> impl Iterator<Item = &T> {
        self.items.iter().filter_map(|item| match item {
            Item::Change(prepared) => prepared.staged.as_ref().ok()?.as_ref(),
            _ => None,
        })
    }

    /// Notes that its contents may not be durable: no `put` of it is carried out.
    pub(super) fn spoil(&mut self, error: &StoreError, mut discard: impl FnMut(T)) {
        for item in &mut self.items {
            if let Item::Change(prepared) = item
                && let Ok(Some(staged)) =
                    std::mem::replace(&mut prepared.staged, Err(error.clone()))
            {
                discard(staged);
            }
        }
    }
}

/// A group of more contents than this is large.
const LARGE: usize = 16;

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            number: 0,
            items: Vec::new(),
            bytes: 0,
            synced: false,
        }
    }
}

/// A finished upload: complete, verified and out of sight.
#[derive(Debug)]
pub struct Finished<T> {
    /// The staged file.
    pub staged: T,
    /// Its length in bytes.
    pub size: u64,
    /// Its content digest.
    pub digest: Digest,
}

/// Gathers changes into groups.
#[derive(Debug)]
pub struct Stager<S: Store> {
    store: Arc<S>,
    group: Group<S::Staged>,
    number: u64,
    /// Paths touched by the group that is gathered.
    touched: HashSet<RelPath>,
    /// The same of groups that were handed over and are not known to be committed.
    pending: VecDeque<(u64, HashSet<RelPath>)>,
}

impl<S: Store> Stager<S> {
    /// A stager with nothing gathered.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self {
            store,
            group: Group::default(),
            number: 0,
            touched: HashSet::new(),
            pending: VecDeque::new(),
        }
    }

    /// How many steps the group has so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.group.items.len()
    }

    /// Whether nothing was gathered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.items.is_empty()
    }

    /// Bytes of content in the group so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.group.bytes
    }

    /// Learns that groups up to this number are committed.
    pub fn committed(&mut self, number: u64) {
        self.pending.retain(|(pending, _)| *pending > number);
    }

    /// Stages the changes of a message. `take` hands a finished upload over. `wait` is called where a copy's source may
    /// still be changed by what was gathered or handed over: it commits the group and returns when that and all
    /// earlier ones are in view.
    pub fn add(
        &mut self,
        (id, based_on): (u64, u64),
        changes: Vec<Result<Change, Failed>>,
        take: &mut dyn FnMut(u64) -> Option<Finished<S::Staged>>,
        wait: &mut dyn FnMut(Group<S::Staged>),
    ) {
        self.group.items.push(Item::Begin { based_on });
        for (index, change) in (0u32..).zip(changes) {
            let mut change = match change {
                Ok(change) => change,
                Err(failed) => {
                    self.group.items.push(Item::Refused(failed));
                    continue;
                }
            };
            if let Change::Put {
                source: Source::Copy(from),
                ..
            } = &change
                && self.is_unsettled(from)
            {
                wait(self.finish());
                self.pending.clear();
            }
            let staged = self.stage(&change, take);
            change.forget_content();
            self.touched.extend(change.touches().cloned());
            self.group.items.push(Item::Change(Prepared {
                index,
                change,
                staged,
            }));
        }
        self.group.items.push(Item::End { id });
    }

    /// Ends the group and hands it over; the contents of a small one are durable then.
    pub fn finish(&mut self) -> Group<S::Staged> {
        let mut group = std::mem::take(&mut self.group);
        self.number += 1;
        group.number = self.number;
        let staged: Vec<&S::Staged> = group.staged().collect();
        if staged.len() <= LARGE {
            let synced = self.store.sync_staged(&staged);
            group.synced = true;
            if let Err(error) = synced {
                group.spoil(&error, |staged| self.store.discard(staged));
            }
        }
        let touched = std::mem::take(&mut self.touched);
        self.pending.push_back((self.number, touched));
        group
    }

    fn stage(
        &mut self,
        change: &Change,
        take: &mut dyn FnMut(u64) -> Option<Finished<S::Staged>>,
    ) -> Result<Option<S::Staged>, StoreError> {
        let Change::Put {
            mode,
            mtime,
            size,
            digest: wanted,
            source,
            ..
        } = change
        else {
            return Ok(None);
        };
        let attributes = Attributes {
            mode: *mode,
            mtime: *mtime,
        };
        let wanted = (*size, *wanted);
        let staged = match source {
            Source::Inline(bytes) => {
                self.group.bytes += bytes.len() as u64;
                check(wanted, (bytes.len() as u64, digest(bytes)))?;
                self.store.stage_file(bytes, attributes)?
            }
            Source::Copy(from) => {
                let mut hasher = ContentHasher::new();
                let mut sink = |bytes: &[u8]| hasher.update(bytes);
                let staged = self.store.stage_copy(from, attributes, &mut sink)?;
                let got = hasher.finish();
                self.group.bytes += got.0;
                self.verified(staged, wanted, got)?
            }
            Source::Upload(id) => {
                let done = take(*id)
                    .ok_or_else(|| StoreError::changed(format!("there is no upload {id}")))?;
                let staged = self.verified(done.staged, wanted, (done.size, done.digest))?;
                match self.store.dress(&staged, attributes) {
                    Ok(()) => staged,
                    Err(error) => {
                        self.store.discard(staged);
                        return Err(error);
                    }
                }
            }
        };
        Ok(Some(staged))
    }

    fn verified(
        &self,
        staged: S::Staged,
        wanted: (u64, Digest),
        got: (u64, Digest),
    ) -> Result<S::Staged, StoreError> {
        match check(wanted, got) {
            Ok(()) => Ok(staged),
            Err(error) => {
                self.store.discard(staged);
                Err(error)
            }
        }
    }

    /// Whether what was gathered or handed over may change what a path stands for.
    fn is_unsettled(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.touched.contains(&path)
                || self.pending.iter().any(|(_, paths)| paths.contains(&path))
            {
                return true;
            }
            at = path.split().map(|(parent, _)| parent);
        }
        false
    }
}

fn check(wanted: (u64, Digest), got: (u64, Digest)) -> Result<(), StoreError> {
    if wanted == got {
        Ok(())
    } else {
        Err(StoreError::changed(
            "the content does not have the announced digest",
        ))
    }
}
