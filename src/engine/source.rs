//! What the client's engine asks of the tree that it mirrors.

use crate::index::{NodeId, Stat};
use crate::model::{Mtime, Name, RelPath};

/// What a path is on the local disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Box<[u8]>,
    },
    /// A pipe, socket or device: which, for a person.
    Special(&'static str),
}

/// A path as `lstat` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Permission bits; 0 for a link.
    pub mode: u32,
    /// Modification time.
    pub mtime: Mtime,
    /// Inode and change time.
    pub stat: Stat,
}

/// A directory: where it should be, and which inode it must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its path below the root.
    pub path: RelPath,
    /// Inode number and birth time; `None` takes what is there.
    pub identity: Option<(u64, i64)>,
}

/// Which directory is the root. A device number is no part of it: it changes at reboot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RootId {
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970, 0 where the file system has none.
    pub birth: i64,
    /// The id of its file system (`f_fsid`).
    pub fs: u64,
    /// The mount that it was reached through: counts within one run of the system.
    pub mount: u64,
}

impl RootId {
    /// Whether it is the same directory, whatever it is mounted through.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        (self.inode, self.birth) == (other.inode, other.birth)
    }
}

/// Why the tree did not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceError {
    /// The directory is not at its place (any more): it moved, went or was replaced.
    Displaced,
    /// The path is gone.
    Gone,
    /// The file changed while it was read.
    Changed,
    /// The system refused: what it said.
    Failed(String),
    /// The system has no more watches: what to do about it.
    WatchLimit(String),
}

/// The tree that is mirrored. Never changed through this.
pub trait Source {
    /// Looks at the root by its path. What is there is the root from now on; when that is another directory or mount
    /// than before, all watches end.
    ///
    /// # Errors
    /// [`SourceError::Gone`] when there is no directory, or the system refuses.
    fn root(&mut self) -> Result<RootId, SourceError>;

    /// Whether anything was mounted or unmounted below the root since this was asked last: no event tells of that.
    fn mounts_changed(&mut self) -> bool;

    /// Looks at one entry of a directory; `None` when there is nothing.
    ///
    /// # Errors
    /// When the directory is not at its place, or the system refuses.
    fn look(&mut self, dir: &Place, name: &Name) -> Result<Option<Found>, SourceError>;

    /// Looks at a directory itself.
    ///
    /// # Errors
    /// When it is not at its place, or the system refuses.
    fn look_dir(&mut self, dir: &Place) -> Result<Found, SourceError>;

    /// All entries of a directory, in the order of their names. Names that cannot be mirrored are left out and given
    /// apart with the reason. The program's own `.syncd` at the top is left out.
    ///
    /// # Errors
    /// When the directory is not at its place, or the system refuses.
    fn list(&mut self, dir: &Place) -> Result<Vec<(Name, Found)>, SourceError>;

    /// Reads a file of at most `limit` bytes through one descriptor, and what `fstat` said of it before and after.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when it changed meanwhile, is no regular file any more, or is longer.
    fn read(
        &mut self,
        dir: &Place,
        name: &Name,
        limit: u64,
    ) -> Result<(Found, Vec<u8>), SourceError>;

    /// Watches a directory from now on, as `node`. Watched before it is listed, nothing falls between.
    ///
    /// # Errors
    /// When the directory is not at its place, or there are no more watches.
    fn watch(&mut self, dir: &Place, node: NodeId) -> Result<(), SourceError>;

    /// Ends the watching of a directory that left the tree.
    fn unwatch(&mut self, node: NodeId);
}
