//! What a path is: kind, size, mode, modification time, content.

use crate::model::Digest;

/// The bits of a mode that are mirrored: permissions, set-user-id, set-group-id, sticky.
pub const PERMISSION_BITS: u32 = 0o7777;

/// A modification time: seconds since 1970 (negative before) and nanoseconds below one second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Mtime {
    /// Whole seconds since the epoch, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// What kind of thing a path is, with what only that kind has.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Its content digest.
        digest: Digest,
    },
    /// A symbolic link; its target is data and is never followed.
    Symlink {
        /// The bytes that the link holds.
        target: Box<[u8]>,
    },
}

/// A path's kind, mode and modification time: all that is mirrored of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Kind and content.
    pub kind: Kind,
    /// The permission bits (`PERMISSION_BITS`); 0 for a symbolic link, which has none of its own.
    pub mode: u32,
    /// The modification time.
    pub mtime: Mtime,
}

impl Entry {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// Whether two entries have the same kind and content, whatever their mode and time.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
