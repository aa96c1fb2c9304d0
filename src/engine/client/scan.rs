//! Looking at directories: watch first, list second, and mark what differs from the view.

use super::ClientEngine;
use crate::debounce::Key;
use crate::engine::source::{Found, FoundKind, Place, Source, SourceError};
use crate::index::{Node, NodeId};
use crate::model::{Kind, Name};
use std::collections::HashSet;
use std::time::Duration;

impl ClientEngine {
    /// Watches a directory, lists it, and has everything looked at that is not as the view has it.
    pub(super) fn scan(&mut self, dir: NodeId, now: Duration, source: &mut impl Source) {
        let Some(place) = self.place(dir) else {
            // It left the view, or is no directory any more.
            self.unwatched.remove(dir);
            self.scans.done(dir);
            return;
        };
        if self.is_left_out(dir) {
            self.scans.done(dir);
            return;
        }
        match source.watch(&place, dir) {
            Ok(()) => self.unwatched.remove(dir),
            Err(SourceError::WatchLimit(message)) => self.unwatched.insert(dir, message, now),
            Err(other) => return self.scan_failed(dir, other, now),
        }
        match source.list(&place) {
            Ok(entries) => {
                if let Err(error) = self.take_rules(dir, &place, &entries, source) {
                    return self.scan_failed(dir, error, now);
                }
                if let Some(key) = self.key_of(dir) {
                    self.troubles.remove(&key);
                }
                self.scanned_entries(dir, entries, now, source);
                self.check_itself(dir, &place, source);
            }
            Err(error) => self.scan_failed(dir, error, now),
        }
    }

    /// What came into a directory between the look at it and the watch changed its time without an event.
    fn check_itself(&mut self, dir: NodeId, place: &Place, source: &mut impl Source) {
        let Some(key) = self.key_of(dir) else { return };
        let clean = |found: &Found| self.view.get(dir).is_some_and(|node| is_clean(node, found));
        if !source.look_dir(place).is_ok_and(|found| clean(&found)) {
            self.found.push_back(key);
        }
    }

    fn scanned_entries(
        &mut self,
        dir: NodeId,
        entries: Vec<(Name, Found)>,
        now: Duration,
        source: &mut impl Source,
    ) {
        let gone = self.scans.take_gone(dir);
        let went = self.scans.done(dir);
        self.forget_skipped(dir);
        if dir == self.view.root() {
            self.top_entries = entries.len();
        }
        let mut here = HashSet::with_capacity(entries.len());
        for (name, found) in entries {
            let key = Key { dir, name };
            let node = self.view.child(dir, key.name.as_bytes());
            here.extend(node);
            if self.leaves_out(&key, matches!(found.kind, FoundKind::Directory)) {
                let wait = self.fresh_wait(now);
                self.leave_out(key, wait, now, source);
                continue;
            }
            match node.and_then(|id| self.view.get(id).map(|node| (id, node))) {
                Some((id, node)) => {
                    let clean = is_clean(node, &found);
                    if clean && found.stat.links > 1 && !node.entry.is_dir() {
                        self.links.note(key.clone(), found.stat.inode);
                    }
                    if node.entry.is_dir() {
                        let same = matches!(found.kind, FoundKind::Directory)
                            && same_directory(node, &found);
                        if same {
                            self.found_directory(id, found.stat);
                            self.scans.push(id);
                        } else {
                            // It is listed when it has been found where it is now.
                            self.scans.mark(id);
                        }
                    }
                    if !clean {
                        let went = went || gone.contains(&key.name);
                        self.differs(key, went, now);
                    }
                }
                None => self.found.push_back(key),
            }
        }
        let Some(node) = self.view.get(dir) else {
            return;
        };
        let missed = node.children().filter(|(_, id)| !here.contains(id));
        let missed = missed.filter_map(|(name, id)| Some((Name::new(name).ok()?, id)));
        for (name, id) in missed.collect::<Vec<_>>() {
            let key = Key { dir, name };
            if !self.is_kept(&key) {
                // What was seen to go is on its way already.
                let went = went || gone.contains(&key.name);
                if went {
                    self.differs(key, went, now);
                } else if !self.queue.get(&key).is_some_and(|wait| wait.event) {
                    self.miss(key);
                    continue;
                }
                // Should it turn up elsewhere, what is in it may have changed unseen.
                if self.view.get(id).is_some_and(|node| node.entry.is_dir()) {
                    self.scans.mark(id);
                }
            }
        }
    }

    /// Has an entry looked at that is not as the view has it. If its directory went, so did the entry.
    fn differs(&mut self, key: Key, went: bool, now: Duration) {
        if went {
            let mut wait = self.fresh_wait(now);
            wait.left = true;
            self.queue.wait(key, now, wait);
        } else {
            self.found.push_back(key);
        }
    }

    /// A directory could not be listed. Its mark stays: it is listed when its path has been looked at again.
    fn scan_failed(&mut self, dir: NodeId, error: SourceError, now: Duration) {
        let key = self.key_of(dir);
        let message = match (error, &key) {
            (SourceError::Displaced | SourceError::Gone, Some(key)) => {
                if !self.is_below_missing(dir) {
                    let due = now + self.settings.timing.delete_hold;
                    self.owe(key.clone(), due, now);
                }
                return;
            }
            (SourceError::Displaced | SourceError::Gone | SourceError::Changed, _) => {
                "the source directory is missing or was replaced".to_owned()
            }
            (SourceError::Failed(message) | SourceError::WatchLimit(message), _) => message,
        };
        match key {
            Some(key) => {
                let wait = self.fresh_wait(now);
                self.fail(key, wait, format!("cannot look into it: {message}"), now);
            }
            None => {
                self.root_event();
                self.paused = Some((message, now + Duration::from_secs(1)));
                self.scans.push(dir);
            }
        }
    }
}

/// Whether a directory is the one that was scanned before.
pub(super) fn same_directory(node: &Node, found: &Found) -> bool {
    node.stat
        .is_some_and(|stat| (stat.inode, stat.birth) == (found.stat.inode, found.stat.birth))
}

/// Whether a path looks as it did when it was last mirrored.
pub(super) fn is_clean(node: &Node, found: &Found) -> bool {
    let same_kind = match (&node.entry.kind, &found.kind) {
        (Kind::Directory, FoundKind::Directory) => {
            return same_directory(node, found)
                && node.entry.mode == found.mode
                && node.entry.mtime == found.mtime;
        }
        (Kind::File { size, .. }, FoundKind::File { size: found }) => size == found,
        (Kind::Symlink { target }, FoundKind::Symlink { target: found }) => target == found,
        _ => false,
    };
    same_kind
        && node.stat == Some(found.stat)
        && node.entry.mode == found.mode
        && node.entry.mtime == found.mtime
}
