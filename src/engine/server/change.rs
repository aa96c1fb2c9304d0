//! Changes as they are carried out: decoded and checked once.

use crate::model::limits::{MAX_INLINE, MAX_OPS, MAX_TARGET};
use crate::model::{Digest, Mtime, PERMISSION_BITS, RelPath};
use crate::wire::{BodyError, BodyReader, Code, Content, Failed, Op, WireBytes, WirePath};
use bytes::Bytes;

/// Where the content of a file comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// It came with the message.
    Inline(Bytes),
    /// An upload of the session, by its id.
    Upload(u64),
    /// A file of the share.
    Copy(RelPath),
}

/// One change of the tree; see [`Op`] for what each means. No path is the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A regular file.
    Put {
        /// Where.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: Mtime,
        /// Length in bytes.
        size: u64,
        /// Content digest.
        digest: Digest,
        /// Where the content comes from.
        source: Source,
    },
    /// A directory.
    Mkdir {
        /// Where.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: Mtime,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        path: RelPath,
        /// What it holds.
        target: Box<[u8]>,
        /// Modification time.
        mtime: Mtime,
    },
    /// Mode and time.
    Attributes {
        /// Which.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: Mtime,
    },
    /// A removal.
    Delete {
        /// Which.
        path: RelPath,
    },
    /// A move.
    Rename {
        /// From where.
        from: RelPath,
        /// To where.
        to: RelPath,
    },
    /// Two paths change places.
    Exchange {
        /// One.
        a: RelPath,
        /// The other.
        b: RelPath,
    },
}

impl Change {
    /// Gives the bytes of an inline content free, once they are staged: until everything is durable they would be in
    /// memory a second time.
    pub fn forget_content(&mut self) {
        if let Self::Put {
            source: Source::Inline(bytes),
            ..
        } = self
        {
            *bytes = Bytes::new();
        }
    }

    /// The paths whose meaning it changes.
    pub fn touches(&self) -> impl Iterator<Item = &RelPath> {
        let (first, second) = match self {
            Self::Put { path, .. }
            | Self::Mkdir { path, .. }
            | Self::Symlink { path, .. }
            | Self::Attributes { path, .. }
            | Self::Delete { path } => (path, None),
            Self::Rename { from, to } => (from, Some(to)),
            Self::Exchange { a, b } => (a, Some(b)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Whether a device may set the set-user-id and set-group-id bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetId {
    /// They are kept.
    Keep,
    /// They are taken away.
    Strip,
}

/// The bits that let a program run as somebody else.
const SETID_BITS: u32 = 0o6000;

/// Why a `mutate` message is no such message; the session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body does not fit the changes.
    #[error("the body does not fit its header")]
    Body(#[from] BodyError),
    /// More changes than a message may have.
    #[error("{0} changes in one message, at most {MAX_OPS} are allowed")]
    TooMany(usize),
    /// An inline content over its limit.
    #[error("an inline content of {0} bytes, at most {MAX_INLINE} are allowed")]
    TooLarge(u64),
}

/// Decodes the changes of a message. One that cannot be meant becomes a [`Failed`] in its place.
///
/// # Errors
/// When the message breaks the protocol as a whole.
pub fn decode(
    ops: &[Op],
    body: &Bytes,
    setid: SetId,
) -> Result<Vec<Result<Change, Failed>>, DecodeError> {
    if ops.len() > MAX_OPS {
        return Err(DecodeError::TooMany(ops.len()));
    }
    let mut reader = BodyReader::new(body);
    let mut changes = Vec::with_capacity(ops.len());
    for (index, op) in (0u32..).zip(ops) {
        let content = match op {
            Op::Put { size, content, .. } => Some(read_content(&mut reader, body, *size, content)?),
            _ => None,
        };
        changes.push(change(op, content, setid).map_err(|message| Failed {
            index,
            code: Code::Protocol,
            message,
        }));
    }
    reader.finish()?;
    Ok(changes)
}

/// Takes what a `put` has in the body: the digest, and the bytes of an inline content.
fn read_content(
    reader: &mut BodyReader<'_>,
    body: &Bytes,
    size: u64,
    content: &Content,
) -> Result<(Digest, Bytes), DecodeError> {
    let digest = reader.digest()?;
    if !matches!(content, Content::Inline {}) {
        return Ok((digest, Bytes::new()));
    }
    let count = usize::try_from(size).ok().filter(|_| size <= MAX_INLINE);
    let bytes = reader.take(count.ok_or(DecodeError::TooLarge(size))?)?;
    Ok((digest, body.slice_ref(bytes)))
}

fn change(op: &Op, content: Option<(Digest, Bytes)>, setid: SetId) -> Result<Change, String> {
    Ok(match op {
        Op::Put {
            path: at,
            mode: bits,
            mtime,
            size,
            content: from,
        } => {
            let (digest, bytes) = content.unwrap_or_default();
            Change::Put {
                path: path(at)?,
                mode: allowed_mode(*bits, setid)?,
                mtime: mtime.mtime(),
                size: *size,
                digest,
                source: match from {
                    Content::Inline {} => Source::Inline(bytes),
                    Content::Upload { upload } => Source::Upload(*upload),
                    Content::Copy { from } => Source::Copy(path(from)?),
                },
            }
        }
        Op::Mkdir {
            path: at,
            mode: bits,
            mtime,
        } => Change::Mkdir {
            path: path(at)?,
            mode: allowed_mode(*bits, setid)?,
            mtime: mtime.mtime(),
        },
        Op::Symlink {
            path: at,
            target: bytes,
            mtime,
        } => Change::Symlink {
            path: path(at)?,
            target: target(bytes)?,
            mtime: mtime.mtime(),
        },
        Op::Attributes {
            path: at,
            mode: bits,
            mtime,
        } => Change::Attributes {
            path: path(at)?,
            mode: allowed_mode(*bits, setid)?,
            mtime: mtime.mtime(),
        },
        Op::Delete { path: at } => Change::Delete { path: path(at)? },
        Op::Rename { from, to } => Change::Rename {
            from: path(from)?,
            to: path(to)?,
        },
        Op::Exchange { a, b } => Change::Exchange {
            a: path(a)?,
            b: path(b)?,
        },
    })
}

/// A path other than the root.
fn path(wire: &WirePath) -> Result<RelPath, String> {
    let path = wire.path().map_err(|error| error.to_string())?;
    if path.is_root() {
        return Err("the root of the share cannot be changed".to_owned());
    }
    Ok(path)
}

fn mode(bits: u32) -> Result<u32, String> {
    if bits & !PERMISSION_BITS == 0 {
        Ok(bits)
    } else {
        Err(format!("`{bits:o}` is not a mode"))
    }
}

fn allowed_mode(bits: u32, setid: SetId) -> Result<u32, String> {
    let mode = mode(bits)?;
    Ok(match setid {
        SetId::Keep => mode,
        SetId::Strip => mode & !SETID_BITS,
    })
}

fn target(wire: &WireBytes) -> Result<Box<[u8]>, String> {
    match wire.bytes() {
        Some(bytes) if bytes.is_empty() || bytes.len() > MAX_TARGET || bytes.contains(&0) => {
            Err("no symbolic link can hold such a target".to_owned())
        }
        Some(bytes) => Ok(bytes.into_boxed_slice()),
        None => Err("the target is not hexadecimal".to_owned()),
    }
}
