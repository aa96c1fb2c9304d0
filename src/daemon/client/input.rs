//! What the engine's thread is told by everybody else.

use super::asked::Asked;
use crate::daemon::packing::Line;
use crate::daemon::pump::Outbox;
use crate::engine::client::{Held, ReadOutcome, Snapshot, Welcome};
use crate::model::RelPath;
use crate::wire::{MINOR_ZSTD, Response};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// The way to the server while a session lasts.
#[derive(Debug, Clone)]
pub(in crate::daemon) struct Link {
    /// Tells sessions apart: what comes late from an older one is dropped.
    pub(in crate::daemon) epoch: u64,
    pub(in crate::daemon) outbox: Outbox,
    /// Bytes of uploads that may still be sent. Closed when the session ends.
    pub(in crate::daemon) window: Arc<Semaphore>,
    /// Recipes that were asked for.
    pub(in crate::daemon) asked: Arc<Asked>,
    /// Whether the server keeps what is left of uploads.
    pub(in crate::daemon) resumes: bool,
    /// What is known of the line.
    pub(in crate::daemon) line: Arc<Mutex<Line>>,
}

impl Link {
    /// A session of a minor version has begun: perhaps the server takes what is packed.
    pub(in crate::daemon) fn speaks(&self, minor: u16) {
        if minor >= MINOR_ZSTD {
            let line = self.line.lock();
            line.unwrap_or_else(PoisonError::into_inner).enable();
        }
    }
}

/// What the engine's thread is told.
pub(super) enum Input {
    /// A session is open, with the mirror that it is about.
    Connected {
        link: Link,
        mirror: String,
        welcome: Welcome,
    },
    /// It is over.
    Disconnected(u64),
    /// The server said something.
    Response {
        epoch: u64,
        response: Response,
        body: Bytes,
    },
    /// A large file was read.
    Read {
        epoch: u64,
        upload: u64,
        outcome: ReadOutcome,
    },
    /// A marker of this name was or will be written: tell when all before it is durable.
    Flush {
        name: String,
        reply: oneshot::Sender<()>,
    },
    /// Paths that differ between the source and the mirror are to be put right. Told once they are taken in.
    Repair {
        paths: Vec<RelPath>,
        reply: oneshot::Sender<()>,
    },
    /// What is held; it is shown to a person.
    Held(oneshot::Sender<Option<Held>>),
    /// A person accepts so many of the deletions that were shown.
    Accept { entries: usize, reply: Accepted },
    /// What goes on, and how many directories are watched.
    Status(oneshot::Sender<Option<(Snapshot, usize)>>),
}

/// Where it is told how many entries are being deleted, or why none is.
pub(super) type Accepted = oneshot::Sender<Result<usize, String>>;

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input")
    }
}
