//! The messages: one type per header, tagged by `op`. What a body holds is said at each message.

use super::Code;
use super::files::{FileRequest, FileResponse, Use};
use super::inspect::{Inspect, Inspected, Visit};
use super::keys::{KeyRequest, KeyResponse};
use super::leftover::Continued;
use super::listing::ListEntry;
use crate::model::{Mtime, PathError, RelPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes in a header: a string where they are UTF-8, `{"hex": "…"}` otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum WireBytes {
    /// UTF-8 text.
    Text(String),
    /// Anything else.
    Hex(HexBytes),
}

/// Bytes that are not UTF-8, as lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HexBytes {
    hex: String,
}

/// A path below the root of the share, in the form of [`WireBytes`]; empty for the root.
pub type WirePath = WireBytes;

impl WireBytes {
    /// Wraps bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(HexBytes {
                hex: data_encoding::HEXLOWER.encode(bytes),
            }),
        }
    }

    /// The bytes; `None` when the hexadecimal form is malformed.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Hex(hex) => data_encoding::HEXLOWER.decode(hex.hex.as_bytes()).ok(),
        }
    }

    /// The bytes as a path below a root.
    ///
    /// # Errors
    /// When they are not one.
    pub fn path(&self) -> Result<RelPath, PathError> {
        RelPath::new(&self.bytes().ok_or(PathError::Empty)?)
    }
}

impl From<&RelPath> for WireBytes {
    fn from(path: &RelPath) -> Self {
        Self::new(path.as_bytes())
    }
}

/// A time: seconds since 1970, and nanoseconds below one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WireTime(pub i64, #[schemars(range(max = 999_999_999))] pub u32);

impl From<Mtime> for WireTime {
    fn from(time: Mtime) -> Self {
        Self(time.secs, time.nanos)
    }
}

impl WireTime {
    /// The time; nanoseconds beyond one second are cut to the last one below it.
    #[must_use]
    pub fn mtime(self) -> Mtime {
        Mtime {
            secs: self.0,
            nanos: self.1.min(999_999_999),
        }
    }
}

/// Where the content of a `put` comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// The next `size` bytes of the body.
    Inline {},
    /// A finished upload of this session, which is used up.
    Upload {
        /// Its id.
        upload: u64,
    },
    /// A file of the share, which stays.
    Copy {
        /// Its path.
        from: WirePath,
    },
}

/// One change of the tree. The server applies changes in the order in which they arrive.
/// `put` replaces whatever is at its path, whatever its kind, without the path being absent in between; so do `mkdir`
/// (unless a directory is there, which is kept), `symlink` and `rename`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// A regular file. In the body: 32 bytes of content digest, then the content if it is inline.
    Put {
        /// Where.
        path: WirePath,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: WireTime,
        /// Length of the content in bytes.
        size: u64,
        /// Where the content comes from.
        content: Content,
    },
    /// A directory. One that is there gets mode and time and keeps what it holds.
    Mkdir {
        /// Where.
        path: WirePath,
        /// Permission bits.
        mode: u32,
        /// Modification time, kept by the server whatever is done inside.
        mtime: WireTime,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        path: WirePath,
        /// What it holds.
        target: WireBytes,
        /// Modification time.
        mtime: WireTime,
    },
    /// Mode and time of a file, directory or link (a link has no mode).
    Attributes {
        /// Which.
        path: WirePath,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: WireTime,
    },
    /// Removes a path with all below it. Nothing there is success.
    Delete {
        /// Which.
        path: WirePath,
    },
    /// Moves a path with all below it.
    Rename {
        /// From where.
        from: WirePath,
        /// To where; what is there is replaced.
        to: WirePath,
    },
    /// Lets two paths change places.
    Exchange {
        /// One.
        a: WirePath,
        /// The other.
        b: WirePath,
    },
}

/// What a client says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first message. Answered by `welcome` or `refused`.
    Hello {
        /// Newest minor version spoken.
        minor: u16,
        /// The share; none for the directory itself.
        share: Option<String>,
        /// Id of the source tree: 32 hexadecimal digits.
        source: String,
        /// The source for a person: host and path.
        source_name: String,
        /// Takes a share over from another writer.
        take_over: bool,
    },
    /// The first message of somebody who only looks. Answered like `hello`. From minor version 2 on.
    Visit(Visit),
    /// The first message of somebody who uses files and keys without mirroring. Answered like `hello`. From minor version 6 on.
    Use(Use),
    /// About files. From minor version 6 on. Answered by `file`, in any order.
    File(FileRequest),
    /// About keys. From minor version 6 on. Answered by `key`, in any order.
    Key(KeyRequest),
    /// Asks what a directory holds on the disk. From minor version 2 on. Answered by `inspected`.
    Inspect(Inspect),
    /// Changes, applied in order. Body: what each `put` needs, in order. Answered by `applied`.
    Mutate {
        /// Chosen by the client, growing.
        id: u64,
        /// The version of the share that the client last had acknowledged.
        based_on: u64,
        /// The changes.
        ops: Vec<Op>,
        /// Length of the body in bytes when it is unpacked, where it is a zstd frame. From minor version 5 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zstd: Option<u32>,
    },
    /// Starts the upload of a large file. Not answered.
    UploadOpen {
        /// Chosen by the client; not the id of another upload that is open.
        upload: u64,
        /// The file that `copy` instructions refer to.
        base: Option<WirePath>,
        /// The path that it is for: what comes of it and is not used is kept as that path's leftover. From minor version 4
        /// on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<WirePath>,
        /// The leftover that `copy` instructions refer to where it reaches; behind it the base goes on. From minor
        /// version 4 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leftover: Option<Continued>,
    },
    /// A piece. Body: packed instructions. Answered by `received`.
    UploadData {
        /// Which upload.
        upload: u64,
        /// Length of the instructions in bytes, where the body is a zstd frame of them. From minor version 5 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zstd: Option<u32>,
    },
    /// The end. Body: 32 bytes of content digest, and in a session of `use` 32 bytes of SHA-256, which are enough from minor
    /// version 8 on. Answered by `staged` when the content is complete, right and durable.
    UploadClose {
        /// Which upload.
        upload: u64,
        /// Length of the content in bytes.
        size: u64,
    },
    /// Gives an upload up. Not answered.
    UploadAbort {
        /// Which upload.
        upload: u64,
    },
    /// Asks what a directory holds. Answered by `listing`, after all changes that were sent before.
    List {
        /// Chosen by the client.
        id: u64,
        /// Which directory.
        path: WirePath,
        /// Go on after this name.
        after: Option<WireBytes>,
    },
    /// Asks for the recipe of a file. Answered by `recipe`, after all changes that were sent before.
    Recipe {
        /// Chosen by the client.
        id: u64,
        /// Which file.
        path: WirePath,
        /// Size of a block in bytes.
        block: u32,
        /// Seed of the weak sums.
        seed: u64,
        /// Not of the file in view, but of what an earlier upload left of the path. From minor version 4 on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leftover: bool,
    },
    /// The client's tree is now mirrored as far as it can be: the first contact, if it was one, is over.
    Settled {},
    /// Asks for a sign of life.
    Ping {},
    /// Asks for a new certificate for the key of this connection. From minor version 1 on. Answered by `renewed`.
    Renew {
        /// A certificate request for that key, PEM. Nothing but the key is taken from it.
        csr: String,
    },
}

/// A change that could not be applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Its place among the changes of its message, from 0.
    pub index: u32,
    /// The class of failure.
    pub code: Code,
    /// For a person.
    pub message: String,
}

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// The session is open. Body: 32 bytes, the sum of the share's tree. From minor version 4 on, then 16 bytes for each path
    /// of which an upload has left something: the start of the BLAKE3 hash of the path.
    Welcome {
        /// Minor version of the session.
        minor: u16,
        /// Id of the share.
        share: String,
        /// The run of the share's index, random.
        generation: String,
        /// The share's version in that run.
        version: u64,
        /// This source did not fill the share so far: what it lacks is kept aside instead of deleted.
        first_contact: bool,
        /// Whether set-user-id and set-group-id bits are kept. From minor version 1 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keeps_setid: Option<bool>,
        /// The share's directory and those that it lies in, from the inside out, at most 256, for a client on the same
        /// machine that mirrors one of them: 32 hexadecimal digits each. From minor version 7 on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        above: Vec<String>,
    },
    /// The session is not opened, or ends.
    Refused {
        /// Why.
        code: Code,
        /// For a person: what, and what to do.
        message: String,
    },
    /// A `mutate` was applied and is durable, but for the changes listed.
    Applied {
        /// Which message.
        id: u64,
        /// The share's version after it.
        version: u64,
        /// What failed.
        failed: Vec<Failed>,
    },
    /// Bytes of pieces that were written, so that as many more may be sent.
    Received {
        /// How many, in bytes of body as it was sent.
        bytes: u64,
    },
    /// An upload is complete, its digest right, and durable; or it failed and is gone. Body in a session of `use`: 32 bytes of
    /// SHA-256 of what was stored, and from minor version 8 on its content digest.
    Staged {
        /// Which.
        upload: u64,
        /// Why it failed.
        failed: Option<Failed>,
    },
    /// Entries of a directory in the order of their names. Body: 32 bytes for each.
    Listing {
        /// Which request.
        id: u64,
        /// The entries; none when the path is no directory.
        entries: Vec<ListEntry>,
        /// Ask again after this name.
        more: Option<WireBytes>,
        /// Whether the path is a directory at all.
        found: bool,
    },
    /// What a directory holds on the disk. Body: 32 bytes for each entry, as in `listing`, zeros for a directory.
    Inspected(Inspected),
    /// About files. From minor version 6 on.
    File(Box<FileResponse>),
    /// About keys. From minor version 6 on.
    Key(KeyResponse),
    /// Blocks of a recipe, in order. Body: packed blocks.
    Recipe {
        /// Which request.
        id: u64,
        /// Length of the file in bytes.
        size: u64,
        /// Whether these were the last.
        last: bool,
        /// Why there is none.
        failed: Option<Failed>,
        /// The mark of the leftover that it is of. From minor version 4 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leftover: Option<u64>,
    },
    /// Somebody else changed the share: the writer had better compare. From minor version 3 on.
    Drifted {},
    /// A sign of life.
    Pong {},
    /// A new certificate, or why there is none.
    Renewed {
        /// The certificate, PEM.
        certificate: Option<String>,
        /// For a person.
        message: Option<String>,
    },
}
