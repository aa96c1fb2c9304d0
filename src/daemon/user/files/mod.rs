//! The files of a share, for people and scripts: looked at, fetched, sent, removed, moved.

mod everywhere;
mod get;
mod getting;
mod names;
mod remote;
mod send;
mod sending;
mod servers;
mod stream;
mod turns;
mod union;
mod watching;
mod work;

pub use everywhere::{everywhere, upload_everywhere};
pub use get::Target;
pub use getting::{GetOptions, get};
pub use names::{Argument, ArgumentError};
pub use remote::{Cached, Entry, EntryKind, Listing, Remote, Unlisted};
pub use sending::{SendOptions, Source, joined, upload};
pub use stream::Stream;
pub use union::{Aspect, Difference, Merge, Seen, Union};
pub use watching::{Done, Event, Progress, Told, Watcher};

use crate::daemon::client::ClientError;
use crate::model::Fault;
use crate::wire::Code;
use std::io;
use std::path::Path;

/// Why something could not be done with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing more can be done over this line.
    #[error(transparent)]
    Line(#[from] ClientError),
    /// The server cannot do it.
    #[error("{message}")]
    Remote {
        /// The class.
        code: Code,
        /// For a person.
        message: String,
    },
    /// This machine cannot do it.
    #[error("{attempt}")]
    Local {
        /// What was attempted, with the path.
        attempt: String,
        /// What the system said.
        source: io::Error,
    },
    /// What arrived is not what the server had told.
    #[error("{0}")]
    Wrong(String),
    /// Something is there already, or something else than is meant.
    #[error("{0}")]
    Other(String),
    /// It was stopped.
    #[error("stopped before it was complete")]
    Stopped,
}

impl FileError {
    fn local(attempt: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = crate::model::escape(path.as_os_str().as_encoded_bytes());
        let attempt = format!("cannot {attempt} `{path}`");
        move |source| Self::Local { attempt, source }
    }

    /// Whether the server says that what was asked for is not so any more.
    fn is_changed(&self) -> bool {
        matches!(
            self,
            Self::Remote {
                code: Code::Fault(Fault::Changed),
                ..
            }
        )
    }

    /// Whether nothing else can be done either: the line or the rights are gone, or a disk is full.
    #[must_use]
    pub fn ends_all(&self) -> bool {
        match self {
            Self::Line(_) | Self::Stopped => true,
            Self::Remote { code, .. } => {
                let full = Code::Fault(Fault::Full);
                matches!(code, Code::Held | Code::Forbidden | Code::Stopping) || *code == full
            }
            Self::Local { source, .. } => {
                use io::ErrorKind::{QuotaExceeded, StorageFull};
                matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            Self::Wrong(_) | Self::Other(_) => false,
        }
    }
}
