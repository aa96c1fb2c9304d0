//! What is told of transfers while they go on.

use super::FileError;
use crate::model::RelPath;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How far everything is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of all files that are known of.
    pub bytes: AtomicU64,
    /// Bytes that are done with: moved, or found to be there.
    pub done_bytes: AtomicU64,
    /// Files that are known of.
    pub files: AtomicU64,
    /// Files that are done with.
    pub done_files: AtomicU64,
}

impl Progress {
    pub(super) fn expect(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file that was fetched or sent, and is where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// Its path in the share.
    pub remote: RelPath,
    /// Its path here; none for standard input or output.
    pub local: Option<PathBuf>,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of its content, as both sides have it.
    pub sum: [u8; 32],
    /// How many bytes of it went over the line.
    pub moved: u64,
}

/// What is told while files are moved.
#[derive(Debug)]
pub enum Event {
    /// A file is begun.
    Begun {
        /// Its path in the share.
        remote: RelPath,
        /// Its length in bytes, where that is known.
        size: Option<u64>,
    },
    /// A file is where it belongs.
    Done(Done),
    /// Something could not be done; the rest goes on.
    Failed {
        /// Which path it is about, for a person.
        path: String,
        /// Why.
        error: FileError,
    },
}

/// An event, and whose it is.
#[derive(Debug)]
pub struct Told {
    /// The place of the server in the list of those that are sent to; 0 where the servers bring files together.
    pub server: usize,
    /// What happened.
    pub event: Event,
}

/// Who is told what happens, and may stop it.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Where events go.
    pub events: mpsc::Sender<Told>,
    /// The place of the server in the list, if each has events of its own.
    pub server: usize,
    /// How far everything is.
    pub progress: Arc<Progress>,
    /// Cancelled when the piece in hand is the last.
    pub stop: CancellationToken,
}

impl Watcher {
    /// The same for one of several servers, which ends by itself.
    pub(super) fn of(&self, server: usize) -> Self {
        Self {
            server,
            stop: self.stop.child_token(),
            ..self.clone()
        }
    }

    pub(super) async fn failed(&self, path: String, error: FileError) {
        if error.ends_all() {
            self.stop.cancel();
        }
        self.tell(Event::Failed { path, error }).await;
    }

    pub(super) async fn tell(&self, event: Event) {
        let server = self.server;
        // Whoever does not listen any more has ended.
        drop(self.events.send(Told { server, event }).await);
    }
}
