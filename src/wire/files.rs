//! The messages of those who use a share's files without mirroring it.

use super::listing::ListEntry;
use super::{Code, Unread, WireBytes, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first message of somebody who uses the files and keys of a share without mirroring it. It holds no share, and
/// nothing is walked for it. A share that is not there counts as empty until something is written to it. Answered by
/// `welcome`, with no body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Newest minor version spoken.
    pub minor: u16,
    /// The share; none for the directory itself.
    pub share: Option<String>,
}

/// A question about files, or a change of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// Chosen by the client; not the id of a request or an upload that is under way.
    pub id: u64,
    /// What is asked for.
    pub ask: FileAsk,
}

/// What is asked of files. What is told of them is read from the disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum FileAsk {
    /// What a path is. Answered by `looked`.
    Look {
        /// Which.
        path: WirePath,
    },
    /// What a directory holds. Answered by `listed`.
    List {
        /// Which directory.
        path: WirePath,
        /// The least name that is asked for; none for all.
        first: Option<WireBytes>,
    },
}

/// An answer about files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileResponse {
    /// Which request.
    pub id: u64,
    /// What is said.
    pub answer: FileAnswer,
}

/// What is said of files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum FileAnswer {
    /// What a path is.
    Looked {
        /// With an empty name; none when nothing is there.
        entry: Option<ListEntry>,
        /// What an upload has left of the path.
        leftover: bool,
    },
    /// A part of what a directory holds, in the order of the names.
    Listed {
        /// The entries.
        entries: Vec<ListEntry>,
        /// Names that are there and are neither file, directory nor link, or could not be looked at.
        failed: Vec<Unread>,
        /// All names before this one are told: ask again from it on.
        next: Option<WireBytes>,
        /// Whether the path is a directory at all.
        found: bool,
    },
    /// It could not be done; the session goes on.
    Failed {
        /// The class of failure.
        code: Code,
        /// For a person.
        message: String,
    },
}
