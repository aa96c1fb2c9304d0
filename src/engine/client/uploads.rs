//! Large files: read and sent by a job outside, staged by the server, and put in place here.

mod known;
mod reading;
mod rest;
mod under_way;

pub(super) use known::Known;
pub use reading::{ReadOutcome, UploadJob};
pub(super) use rest::Rests;
pub(super) use under_way::Upload;

use super::{ClientEngine, Output};
use crate::debounce::{Key, Wait};
use crate::engine::client::resolve::is_empty;
use crate::engine::client::scan::is_clean;
use crate::engine::source::{Found, FoundKind, Source};
use crate::index::{Node, NodeId};
use crate::model::{Digest, Entry, Fault, Kind, LeftoverKey, RelPath};
use crate::wire::{Content, Failed, Op, Request, WirePath};
use std::time::Duration;

/// After so long at most a file is tried again that found the server's disk full.
const LONGEST_WITHOUT_ROOM: Duration = Duration::from_secs(30);
/// How long a new large file is left alone after its last event: if it is a save under another name, it has its own name
/// by then, and what the server has of that is not sent again.
const RENAMED_WITHIN: Duration = Duration::from_millis(15);

impl ClientEngine {
    /// Starts the upload of a large file, or has it wait for its turn.
    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and state, and where jobs go"
    )]
    pub(super) fn large_file(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        path: &RelPath,
        twin: Option<NodeId>,
        now: Duration,
        out: &mut Vec<Output>,
    ) {
        let existing = self
            .view
            .child(key.dir, key.name.as_bytes())
            .and_then(|id| self.view.get(id));
        if !wait.event && existing.is_some_and(|node| is_clean(node, found)) {
            self.troubles.remove(&key);
            return;
        }
        let inode = (found.stat.inode, found.stat.birth);
        if let Some(upload) = self
            .uploads
            .values_mut()
            .find(|upload| upload.inode == inode)
        {
            // Renamed while under way: the upload goes to the new name. Changed: it is looked at again afterwards.
            // Another name of the same file waits until the content is there.
            if found.stat.links < 2 {
                upload.outdated &= upload.key == key;
                let (left, stamp) = (
                    std::mem::replace(&mut upload.key, key.clone()),
                    upload.wait.stamp,
                );
                self.leave_behind(left, &key, stamp, now);
            }
            self.queue.wait(key, now + Duration::from_millis(20), wait);
            return;
        }
        let rests = now >= wait.since + self.settings.timing.longest || wait.held;
        if existing.is_none() && wait.event && !rests && twin.is_none() {
            // Perhaps half of a save, which is about to be renamed over what it is a new version of.
            let (due, held) = (now + RENAMED_WITHIN, true);
            return self.queue.wait(key, due, Wait { held, ..wait });
        }
        let rest = self.rests.until(&key, wait.since, now);
        if let Some(until) = rest.filter(|_| existing.is_some() && self.first_flush().is_none()) {
            self.queue.wait(key, until, wait);
            return;
        }
        if self.uploads.len() >= self.settings.uploads {
            self.large.wait(key, wait.since, wait);
            return;
        }
        let content = |node: &Node| match node.entry.kind {
            Kind::File { size, digest } => Some((size, digest)),
            _ => None,
        };
        let base = existing.and_then(content);
        let known = base
            .into_iter()
            .chain(twin.and_then(|id| self.view.get(id)).and_then(content))
            .collect();
        let whole = self.known.whole.contains(&key);
        let base = base
            .filter(|_| !whole)
            .map(|(_, digest)| (path.clone(), digest));
        let leftover = LeftoverKey::of(path);
        let resume = self.known.leftovers.remove(&leftover) && !whole;
        let Some(place) = self.place(key.dir) else {
            return;
        };
        let upload = self.next_id;
        self.next_id += 1;
        out.push(Output::Upload(UploadJob {
            upload,
            place,
            name: key.name.clone(),
            known,
            base,
            path: path.clone(),
            resume,
        }));
        let begun = Upload::new(key, wait, inode, leftover, now);
        self.uploads.insert(upload, begun);
    }

    /// The reading of a large file ended. What was sent of it in vain was given up by who sent it: such a word must not
    /// overtake what it is about.
    pub fn upload_read(&mut self, upload: u64, outcome: ReadOutcome, now: Duration) {
        match outcome {
            ReadOutcome::Sent { found, digest } => {
                if let Some(known) = self.uploads.get_mut(&upload) {
                    known.read = Some((found, digest));
                    if known.staged {
                        self.ready.push(upload);
                    }
                }
            }
            ReadOutcome::Known { found, digest } => {
                if let Some(Upload { key, wait, .. }) = self.uploads.remove(&upload) {
                    self.known_content(key, wait, &found, digest, now);
                }
            }
            ReadOutcome::Changed => {
                if let Some((key, wait)) = self.given_up(upload) {
                    self.reread(key, wait, now);
                }
            }
            ReadOutcome::Failed(message) => {
                if let Some((key, wait)) = self.given_up(upload) {
                    self.fail(key, wait, message, now);
                }
            }
        }
    }

    /// An upload ended on this side. What came of it by then is left on the server.
    fn given_up(&mut self, upload: u64) -> Option<(Key, Wait)> {
        let upload = self.uploads.remove(&upload)?;
        self.left(upload.leftover);
        Some((upload.key, upload.wait))
    }

    /// The server holds the content already: at this path (then only attributes differ), or at another.
    fn known_content(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        digest: Digest,
        now: Duration,
    ) {
        let FoundKind::File { size } = found.kind else {
            return;
        };
        let Some(path) = self
            .view
            .path(key.dir)
            .and_then(|dir| dir.join(&key.name).ok())
        else {
            return;
        };
        let kind = Kind::File { size, digest };
        self.troubles.remove(&key);
        self.look_at_links(&key, found, digest, now);
        if let Some(id) = self.view.child(key.dir, key.name.as_bytes())
            && self
                .view
                .get(id)
                .is_some_and(|node| node.entry.kind == kind)
        {
            self.view.set_stat(id, Some(found.stat));
            return self.attributes(key, wait, id, found, &path);
        }
        let twin = self.view.by_inode(found.stat.inode);
        let twin = twin.filter(|id| {
            self.view
                .get(*id)
                .is_some_and(|node| node.entry.kind == kind)
        });
        match twin.and_then(|id| self.view.path(id)) {
            Some(from) => self.put_large(
                key,
                wait,
                found,
                digest,
                Content::Copy {
                    from: WirePath::from(&from),
                },
            ),
            // The twin went meanwhile: read the file again, and send it.
            None => self.queue.wait(
                key,
                wait.since,
                Wait {
                    event: true,
                    ..wait
                },
            ),
        }
    }

    fn put_large(&mut self, key: Key, wait: Wait, found: &Found, digest: Digest, content: Content) {
        let FoundKind::File { size } = found.kind else {
            return;
        };
        let Some(path) = self
            .view
            .path(key.dir)
            .and_then(|dir| dir.join(&key.name).ok())
        else {
            return;
        };
        let entry = Entry {
            kind: Kind::File { size, digest },
            mode: found.mode,
            mtime: found.mtime,
        };
        self.view.put(key.dir, &key.name, entry, Some(found.stat));
        self.counters.bytes += if matches!(content, Content::Copy { .. }) {
            0
        } else {
            size
        };
        let op = Op::Put {
            path: WirePath::from(&path),
            mode: found.mode,
            mtime: found.mtime.into(),
            size,
            content,
        };
        self.emit(op, &[&digest.0], key, wait);
    }

    /// The server has an upload complete, or could not make it.
    pub(super) fn staged(&mut self, upload: u64, failed: Option<Failed>, now: Duration) {
        let Some(failed) = failed else {
            if let Some(known) = self.uploads.get_mut(&upload) {
                known.staged = true;
                if known.read.is_some() {
                    self.ready.push(upload);
                }
            }
            return;
        };
        let Some(Upload { key, mut wait, .. }) = self.uploads.remove(&upload) else {
            return;
        };
        match failed.code.fault() {
            Fault::ReadOnly => {
                self.paused = Some((failed.message, now + Duration::from_secs(2)));
                self.queue.wait(key, now, wait);
            }
            // Nobody knows whether the disk is full, or this one only does not fit: others wait a moment, and this one, of
            // which nothing is left on a full disk, longer each time.
            Fault::Full => {
                self.paused = Some((failed.message.clone(), now + Duration::from_secs(2)));
                let message = format!("the server could not store it: {}", failed.message);
                self.fail_for(key, wait, message, LONGEST_WITHOUT_ROOM, now);
            }
            // Perhaps only the old version cannot be used: the next try sends the file whole.
            _ if self.known.whole.insert(key.clone()) => {
                wait.event = true;
                self.queue.wait(key, now, wait);
            }
            _ => self.fail(
                key,
                wait,
                format!("the server could not store it: {}", failed.message),
                now,
            ),
        }
    }

    /// Puts a staged upload in place, if the file is still the one that was read.
    pub(super) fn commit_upload(
        &mut self,
        upload: u64,
        now: Duration,
        source: &mut impl Source,
        out: &mut Vec<Output>,
    ) {
        let Some(Upload {
            key,
            mut wait,
            begun,
            leftover,
            read,
            outdated,
            ..
        }) = self.uploads.remove(&upload)
        else {
            return;
        };
        let Some((found, digest)) = read else { return };
        self.known.whole.remove(&key);
        let there = self
            .place(key.dir)
            .and_then(|place| source.look(&place, &key.name).ok().flatten());
        let same = there.as_ref().is_some_and(|there| {
            (there.stat.inode, there.stat.birth) == (found.stat.inode, found.stat.birth)
        });
        if !same || outdated {
            // Gone or replaced meanwhile: what is there now counts.
            self.left(leftover);
            out.push(Output::Send(Request::UploadAbort { upload }, Vec::new()));
            wait.event = true;
            self.queue.wait(key, now, wait);
            return;
        }
        let hollow = is_empty(&found) && self.may_return(&key, &wait);
        let stirred = there
            .as_ref()
            .is_some_and(|there| self.is_being_written(&key, &found, there));
        if hollow || stirred && self.is_young(&wait, now) {
            // Somebody is at work: what was read may be half of a save.
            self.left(leftover);
            out.push(Output::Send(Request::UploadAbort { upload }, Vec::new()));
            return self.postpone(key, wait, hollow, now);
        }
        if there.is_some_and(|there| there.stat != found.stat) {
            // What was read holds all that this wait is about: what came later is a change of its own.
            let later = Wait {
                event: true,
                stamp: self.queue.next_stamp(),
                ..self.fresh_wait(now)
            };
            self.queue.wait(key.clone(), now, later);
        }
        if let Some(id) = self.view.child(key.dir, key.name.as_bytes())
            && self.view.get(id).is_some_and(|node| node.entry.is_dir())
        {
            self.forget(id, &mut wait, source);
        }
        self.troubles.remove(&key);
        self.rests.committed(&key, wait.since, begun, now);
        self.look_at_links(&key, &found, digest, now);
        self.put_large(key, wait, &found, digest, Content::Upload { upload });
    }

    /// Whether a file that was read is another by now, and in another way than by what was appended to the version that
    /// the server has.
    fn is_being_written(&self, key: &Key, read: &Found, there: &Found) -> bool {
        let size = |found: &Found| match found.kind {
            FoundKind::File { size } => size,
            _ => 0,
        };
        let mirrored = self.existing(key).map(|(_, node)| &node.entry.kind);
        let appended = size(there) > size(read)
            && matches!(mirrored, Some(Kind::File { size: old, .. }) if *old <= size(read));
        there.stat != read.stat && !appended
    }

    /// Looks at a path again when it rests.
    fn postpone(&mut self, key: Key, mut wait: Wait, hollow: bool, now: Duration) {
        if self.join_later(&key, &wait) {
            return;
        }
        if hollow {
            self.hold(key, wait, now);
        } else {
            wait.held = false;
            self.reread(key, wait, now);
        }
    }
}
