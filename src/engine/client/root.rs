//! The root of the source: whether it is there, and whether it is the one that the mirror was made of.
//!
//! It is looked at by its path, regularly, whenever an event tells of it, and before anything is deleted. While nothing
//! is there the engine rests. When something is there again, everything is scanned; deletions that only a scan finds in
//! another directory than the mirror's are held.

use super::ClientEngine;
use crate::engine::brake::Hold;
use crate::engine::source::{RootId, Source, SourceError};
use std::time::Duration;

/// How often the root is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How often while the right one is awaited: what happens in it before it is noticed, no event tells of.
const AWAITED: Duration = Duration::from_millis(100);

/// What is known of the root.
#[derive(Debug)]
pub(super) struct Root {
    /// The directory that is worked in.
    pub(super) now: RootId,
    /// The one that the mirror was made of, as far as that is known.
    pub(super) of_mirror: Option<RootId>,
    /// Why nothing can be looked at.
    pub(super) away: Option<String>,
    checked: Option<Duration>,
    next: Duration,
}

/// What an engine remembers beside its view, from run to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// The directory that the mirror was made of.
    pub root: Option<RootId>,
    /// Why deletions were held in the end.
    pub held: Option<Hold>,
}

impl Root {
    pub(super) fn new(root: Option<RootId>, memory: &Memory) -> Self {
        Self {
            now: root.unwrap_or_default(),
            of_mirror: memory.root,
            away: root.is_none().then(missing),
            checked: None,
            next: Duration::ZERO,
        }
    }

    /// Why deletions are held whatever their number, if another directory is there than the mirror was made of.
    pub(super) fn suspicion(&self) -> Option<Hold> {
        let before = self.of_mirror.filter(|before| !before.same(&self.now))?;
        Some(if before.fs == self.now.fs {
            Hold::Replaced
        } else {
            Hold::Unmounted
        })
    }

    /// Whether it is on another file system than the mirror's, and only a number says that it is the same: file systems
    /// without birth times number their files alike, so inode numbers mean nothing there either.
    pub(super) fn may_be_other(&self) -> bool {
        let before = self.of_mirror.filter(|before| before.fs != self.now.fs);
        before.is_some_and(|before| !before.same(&self.now) || self.now.birth == 0)
    }

    /// When it is looked at next.
    pub(super) fn due(&self) -> Duration {
        self.next
    }
}

fn missing() -> String {
    "the source directory is missing, and nothing is deleted: it was moved or removed, or is not mounted; put it back or \
     mount it, and the mirror goes on by itself"
        .to_owned()
}

impl ClientEngine {
    /// Something happened to the root itself: it is looked at with the next step.
    pub fn root_event(&mut self) {
        self.root.next = Duration::ZERO;
    }

    /// Whether there is no source at present.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.root.away.is_some()
    }

    /// What is worth remembering beside the view.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            root: self.root.of_mirror,
            held: self.guard.hold(),
        }
    }

    pub(super) fn check_root_when_due(&mut self, now: Duration, source: &mut impl Source) {
        if now >= self.root.next {
            self.check_root(now, source);
        }
    }

    /// Looks at the root, at most once a step. Whether it is there and no other than it was.
    pub(super) fn check_root(&mut self, now: Duration, source: &mut impl Source) -> bool {
        if self.root.checked == Some(now) && self.root.next > now {
            return self.root.away.is_none();
        }
        self.root.checked = Some(now);
        let same = self.look_at_root(source);
        if source.mounts_changed() && same {
            self.rescan();
        }
        let right = self.root.away.is_none() && self.root.suspicion().is_none();
        self.root.next = now + if right { PERIOD } else { AWAITED };
        same
    }

    fn look_at_root(&mut self, source: &mut impl Source) -> bool {
        match source.root() {
            Ok(found) if self.root.away.is_none() && found == self.root.now => true,
            Ok(found) => {
                self.root.now = found;
                self.root.away = None;
                // What was told of the old directory says nothing of this one.
                self.queue.doubt();
                self.again.doubt();
                self.large.doubt();
                self.scans.doubt();
                self.doubt_sent();
                self.rescan();
                false
            }
            Err(error) => {
                let reason = match error {
                    SourceError::Failed(message) | SourceError::WatchLimit(message) => {
                        format!(
                            "the source directory cannot be opened, and nothing is deleted: {message}"
                        )
                    }
                    SourceError::Displaced | SourceError::Gone | SourceError::Changed => missing(),
                };
                self.guard.refuse(&reason);
                self.root.away = Some(reason);
                false
            }
        }
    }

    /// What is under way may come back: by then it says nothing of this root.
    fn doubt_sent(&mut self) {
        self.unheard.clear();
        for sent in self.inflight.values_mut().chain([&mut self.batch.sent]) {
            sent.vacated.clear();
            for (_, wait) in &mut sent.keys {
                wait.left = false;
            }
        }
        for upload in self.uploads.values_mut() {
            upload.wait.left = false;
        }
    }

    /// Everything of the mirror is there: this is its root.
    pub(super) fn adopt_root(&mut self) {
        if self.root.away.is_none() {
            self.root.of_mirror = Some(self.root.now);
        }
    }
}
