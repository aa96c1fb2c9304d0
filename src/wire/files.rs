//! The messages of those who use a share's files without mirroring it.

use super::listing::ListEntry;
use super::{Code, Failed, Op, Unread, WireBytes, WirePath};
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
    /// Bytes of a file. Answered by `piece`s in order, and `read` after the last.
    Read {
        /// Which file.
        path: WirePath,
        /// From which byte on.
        offset: u64,
        /// How many bytes at most; none for all.
        length: Option<u64>,
        /// What `looked` or `summed` called the version that is meant: another one is not read.
        version: Option<String>,
    },
    /// What the content of a file is, block by block and as a whole. Answered by `blocks` in order, and `summed` after the
    /// last.
    Sum {
        /// Which file.
        path: WirePath,
        /// Size of a block in bytes.
        block: u32,
        /// Seed of the weak sums.
        seed: u64,
    },
    /// Which files of the share are kept in memory. Answered by `cached`.
    Cached {
        /// The least path that is asked for; none for all.
        first: Option<WirePath>,
    },
    /// Changes, in order, all of which are carried out or refused by what they are said to be based on. Body: as in
    /// `mutate`; no content is a copy. Answered by `changed`. A share that a client mirrors refuses them.
    Change {
        /// The changes.
        ops: Vec<Op>,
        /// What must be so at the time when they are carried out, or none is.
        given: Vec<Given>,
    },
}

/// What a change is based on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Given {
    /// Nothing is there.
    Absent {
        /// Where.
        path: WirePath,
    },
    /// What is there, if anything, is no directory.
    NoDirectory {
        /// Where.
        path: WirePath,
    },
    /// What is there, if anything, is no directory that holds something.
    Bare {
        /// Where.
        path: WirePath,
    },
}

/// A file that is kept in memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CachedFile {
    /// Which.
    pub path: WirePath,
    /// Its length in bytes.
    pub size: u64,
    /// How often it was served from memory.
    pub hits: u64,
    /// Milliseconds since it was read.
    pub age_ms: u64,
    /// How many are being served from it.
    pub users: u64,
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
        /// Names the version of a file: whatever changes it changes this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
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
    /// Some bytes of a file, in the body.
    Piece {},
    /// All bytes that were asked for have been said. Body: 32 bytes of SHA-256 of the file, if all of it was read.
    Read {
        /// What was read.
        file: ListEntry,
        /// Names its version.
        version: String,
    },
    /// Some blocks of a file, packed in the body.
    Blocks {},
    /// All blocks have been said. Body: 32 bytes of SHA-256 of the file.
    Summed {
        /// What was read.
        file: ListEntry,
        /// Names its version.
        version: String,
    },
    /// Some of the files that are kept in memory, in the order of their paths.
    Cached {
        /// The files.
        entries: Vec<CachedFile>,
        /// All paths before this one are told: ask again from it on.
        next: Option<WirePath>,
    },
    /// Changes were carried out and are durable, but for those listed.
    Changed {
        /// What failed.
        failed: Vec<Failed>,
    },
    /// It could not be done; the session goes on.
    Failed {
        /// The class of failure.
        code: Code,
        /// For a person.
        message: String,
    },
}
