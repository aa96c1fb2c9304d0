//! Comparing the view with the server: from the root down, only where sums differ.

use super::{ClientEngine, Output, Phase, ProtocolError};
use crate::debounce::{Key, Wait};
use crate::index::NodeId;
use crate::model::{Digest, Entry, Kind, Name, PERMISSION_BITS};
use crate::wire::{BodyReader, ListEntry, ListKind, Request, WireBytes, WirePath};
use std::collections::HashSet;
use std::time::Duration;

/// A directory whose listing is coming in.
#[derive(Debug)]
pub(super) struct Listing {
    dir: NodeId,
    names: HashSet<Name>,
    /// Whether what the view lacks in it was seen to go: it is of what was there before.
    went: bool,
}

impl Listing {
    fn of(dir: NodeId, went: bool) -> Self {
        Self {
            dir,
            names: HashSet::new(),
            went,
        }
    }
}

impl ClientEngine {
    pub(super) fn start_compare(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Comparing;
        self.lists.clear();
        self.ask(Listing::of(self.view.root(), false), None, out);
    }

    fn ask(&mut self, listing: Listing, after: Option<WireBytes>, out: &mut Vec<Output>) {
        let Some(path) = self.view.path(listing.dir) else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        self.lists.insert(id, listing);
        out.push(Output::Send(
            Request::List {
                id,
                path: WirePath::from(&path),
                after,
            },
            Vec::new(),
        ));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message, and where its consequences go"
    )]
    pub(super) fn listed(
        &mut self,
        id: u64,
        entries: &[ListEntry],
        more: Option<&WireBytes>,
        found: bool,
        body: &mut BodyReader<'_>,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), ProtocolError> {
        let Some(mut listing) = self.lists.remove(&id) else {
            return Err(ProtocolError("a listing that was not asked for"));
        };
        for entry in entries {
            let name = entry.name.bytes().and_then(|bytes| Name::new(&bytes).ok());
            let name = name.ok_or(ProtocolError("a listing with a name that is none"))?;
            let digest = body
                .digest()
                .map_err(|_| ProtocolError("a listing with a short body"))?;
            self.merge(&listing, &name, entry, digest, now, out)?;
            listing.names.insert(name);
        }
        match more {
            Some(_) if entries.is_empty() => return Err(ProtocolError("an endless listing")),
            Some(after) if found => self.ask(listing, Some(after.clone()), out),
            _ => self.drop_unlisted(listing.dir, &listing.names),
        }
        if self.lists.is_empty() {
            self.guard.prune(&self.view);
            self.go_live();
        }
        Ok(())
    }

    /// Makes one entry of the view what the server says, and marks it for a look if that was news.
    fn merge(
        &mut self,
        listing: &Listing,
        name: &Name,
        listed: &ListEntry,
        digest: Digest,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), ProtocolError> {
        let dir = listing.dir;
        let kind = match &listed.kind {
            ListKind::Directory {} => Kind::Directory,
            ListKind::File { size } => Kind::File {
                size: *size,
                digest,
            },
            ListKind::Symlink { target } => Kind::Symlink {
                target: target
                    .bytes()
                    .ok_or(ProtocolError("a target that is none"))?
                    .into(),
            },
        };
        let entry = Entry {
            kind,
            mode: listed.mode & PERMISSION_BITS,
            mtime: listed.mtime.mtime(),
        };
        let key = Key {
            dir,
            name: name.clone(),
        };
        let old = self
            .view
            .child(dir, name.as_bytes())
            .and_then(|id| self.view.get(id).map(|node| (id, node)));
        let same = old.as_ref().is_some_and(|(_, node)| node.entry == entry);
        let is_dir = entry.is_dir();
        if !same {
            if let Some(old) = self.view.child(dir, name.as_bytes())
                && !is_dir
            {
                self.leave_links_below(old);
            }
            // What was known of it is of another time: it names no move from or to here.
            self.view.put(dir, name, entry, None);
            if listing.went {
                self.mark_gone(key.clone(), now);
            } else {
                self.mark(key.clone());
            }
        }
        if is_dir && let Some(id) = self.view.child(dir, name.as_bytes()) {
            let sum = self.view.get(id).map(crate::index::Node::sum);
            if sum.map(crate::model::Sum::to_bytes) != Some(digest.0) {
                let went = listing.went || self.unheard.contains(&key);
                self.ask(Listing::of(id, went), None, out);
            }
        }
        Ok(())
    }

    /// Names of files that go from the view: one of the same file that stays may have been written through them.
    fn leave_links_below(&mut self, top: NodeId) {
        let mut todo = vec![top];
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id) else {
                continue;
            };
            if node.entry.is_dir() {
                todo.extend(node.children().map(|(_, child)| child));
                self.scans.done(id);
            } else if let Some(key) = self.key_of(id) {
                let others = if id == top {
                    // In the source it is as before, and may yet be written through and go before it is looked at.
                    self.links.beside(&key)
                } else {
                    self.links.leave(&key, None)
                };
                self.found.extend(others);
            }
        }
    }

    /// What the server does not have goes from the view, and is looked at: the source may have it.
    fn drop_unlisted(&mut self, dir: NodeId, names: &HashSet<Name>) {
        let Some(node) = self.view.get(dir) else {
            return;
        };
        let gone: Vec<(Name, NodeId)> = node
            .children()
            .filter(|(name, _)| !names.contains(*name))
            .filter_map(|(name, id)| Some((Name::new(name).ok()?, id)))
            .collect();
        for (name, id) in gone {
            self.leave_links_below(id);
            self.view.remove(id);
            self.mark(Key { dir, name });
        }
    }

    /// Has a path looked at that is of what was seen to go.
    fn mark_gone(&mut self, key: Key, now: Duration) {
        if self.queue.get(&key).is_some() {
            self.queue.went(&key);
        } else {
            let wait = Wait {
                left: true,
                ..self.fresh_wait(now)
            };
            self.queue.wait(key, now, wait);
        }
    }

    /// Has a path looked at, unless it waits for its next try already, or the first scan will see it anyway.
    fn mark(&mut self, key: Key) {
        if self.scanned && self.queue.get(&key).is_none() {
            self.found.push_back(key);
        }
    }
}
