//! Large files on their way to those who read them, and back.

use crate::engine::source::{Found, Place};
use crate::model::{Digest, Name, RelPath};

/// A large file to be read and sent.
#[derive(Clone, Debug)]
pub struct UploadJob {
    /// The upload's id on the wire.
    pub upload: u64,
    /// Its directory on the local disk.
    pub place: Place,
    /// Its name there.
    pub name: Name,
    /// Contents that the server holds already, with their sizes: if the file is one of them, nothing is sent.
    pub known: Vec<(u64, Digest)>,
    /// The server's version of the file, by path and digest: only what differs from it is sent.
    pub base: Option<(RelPath, Digest)>,
    /// Its path in the share: what comes of the upload and is not used is kept there under this name.
    pub path: RelPath,
    /// The server may have what an earlier upload of the path has left: that is not sent again.
    pub resume: bool,
}

/// How the reading of a large file ended.
#[derive(Clone, Debug)]
pub enum ReadOutcome {
    /// It was read without change, and everything was sent.
    Sent {
        /// What `fstat` said.
        found: Found,
        /// Its content digest.
        digest: Digest,
    },
    /// It is one of the known contents; nothing was sent.
    Known {
        /// What `fstat` said.
        found: Found,
        /// Its content digest.
        digest: Digest,
    },
    /// It changed while it was read, or is no regular file any more.
    Changed,
    /// The system refused to read it.
    Failed(String),
}
