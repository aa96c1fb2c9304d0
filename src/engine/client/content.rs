//! The content of small files: read and sent at once.

use super::ClientEngine;
use super::scan::is_clean;
use crate::debounce::{Key, Wait};
use crate::engine::source::{Found, Place, Source, SourceError};
use crate::model::limits::MAX_INLINE;
use crate::model::{Digest, Entry, Kind, RelPath};
use crate::wire::{Content, Op, WirePath};
use std::time::Duration;

/// A file that keeps changing while it is read is tried again after so long, doubled each time.
const REREAD: Duration = Duration::from_millis(10);
const LONGEST_REREAD: Duration = Duration::from_secs(2);

impl ClientEngine {
    /// A file of one leaf: read here and sent whole.
    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and state, and the outside"
    )]
    pub(super) fn small_file(
        &mut self,
        key: Key,
        wait: Wait,
        found: &Found,
        place: &Place,
        path: &RelPath,
        now: Duration,
        source: &mut impl Source,
    ) {
        if !wait.event
            && self
                .existing(&key)
                .is_some_and(|(_, node)| is_clean(node, found))
        {
            self.troubles.remove(&key);
            return;
        }
        match source.read(place, &key.name, MAX_INLINE) {
            // Emptied since it was looked at.
            Ok((_, bytes)) if bytes.is_empty() && self.may_return(&key, &wait) => {
                self.hold(key, wait, now);
            }
            Ok((read, _)) if read.stat != found.stat && self.is_young(&wait, now) => {
                self.reread(key, wait, now);
            }
            Ok((found, bytes)) => {
                let digest = crate::delta::digest(&bytes);
                self.file_content(
                    key,
                    wait,
                    &found,
                    path,
                    digest,
                    bytes.len() as u64,
                    &bytes,
                    now,
                    source,
                );
            }
            Err(SourceError::Failed(message) | SourceError::WatchLimit(message)) => {
                self.fail(key, wait, message, now);
            }
            Err(SourceError::Displaced) => self.displaced(key, wait, now),
            Err(SourceError::Gone) => self.queue.wait(key, now + REREAD, wait),
            Err(SourceError::Changed) => self.reread(key, wait, now),
        }
    }

    /// Whether a change is not yet so old that any version of its file is sent.
    pub(super) fn is_young(&self, wait: &Wait, now: Duration) -> bool {
        now.saturating_sub(wait.since) < self.settings.timing.longest
    }

    /// A file changed while it was read: it is read again, ever later.
    pub(super) fn reread(&mut self, key: Key, wait: Wait, now: Duration) {
        let age = now.saturating_sub(wait.since);
        let pause = (age / 2).clamp(REREAD, LONGEST_REREAD);
        self.queue.wait(
            key,
            now + pause,
            Wait {
                event: true,
                ..wait
            },
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one path, its wait and content, and the outside"
    )]
    fn file_content(
        &mut self,
        key: Key,
        mut wait: Wait,
        found: &Found,
        path: &RelPath,
        digest: Digest,
        size: u64,
        bytes: &[u8],
        now: Duration,
        source: &mut impl Source,
    ) {
        let kind = Kind::File { size, digest };
        self.troubles.remove(&key);
        self.look_at_links(&key, found, digest, now);
        match self
            .existing(&key)
            .map(|(id, node)| (id, node.entry.clone()))
        {
            Some((id, entry)) if entry.kind == kind => {
                self.view.set_stat(id, Some(found.stat));
                self.attributes(key, wait, id, found, path);
            }
            other => {
                if let Some((id, ..)) = other.filter(|(_, entry)| entry.is_dir()) {
                    self.forget(id, &mut wait, source);
                }
                let entry = Entry {
                    kind,
                    mode: found.mode,
                    mtime: found.mtime,
                };
                self.view.put(key.dir, &key.name, entry, Some(found.stat));
                let op = Op::Put {
                    path: WirePath::from(path),
                    mode: found.mode,
                    mtime: found.mtime.into(),
                    size,
                    content: Content::Inline {},
                };
                self.emit(op, &[&digest.0, bytes], key, wait);
            }
        }
    }
}
