//! What the server's engine asks of the outside: the tree of one share, and the stage beside it.

use crate::engine::source::Found;
use crate::index::Stat;
use crate::model::{Fault, LeftoverKey, Mtime, Name, RelPath};

/// Why the store did not do what it was asked to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// The class of failure.
    pub fault: Fault,
    /// What was attempted and what the system said, for a person.
    pub message: String,
}

impl StoreError {
    /// A failure of one class.
    #[must_use]
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
        }
    }

    /// What an operation was based on is not so.
    #[must_use]
    pub fn changed(message: impl Into<String>) -> Self {
        Self::new(Fault::Changed, message)
    }
}

/// One name of a directory with what it is, or why that could not be seen.
pub type Scanned = (Name, Result<Found, StoreError>);

/// Mode and time that a staged thing is given before it comes into view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub mtime: Mtime,
}

/// What becomes of a thing that leaves the view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Removal {
    /// It goes at once if it is no directory; a directory goes [`Removal::Aside`].
    Now,
    /// It is moved out of sight by one rename, and removed later in the background.
    Aside,
    /// It is kept under this name, at its own path, for a person to look at.
    Keep(Name),
}

/// What an upload builds on, and what it is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The file of the tree that copies come from.
    pub base: Option<&'a RelPath>,
    /// The path that it is for. What is dropped of it becomes the leftover of that path, in the place of an older one.
    pub path: Option<&'a RelPath>,
    /// A leftover of that path, by its mark, and how many of its first bytes count instead of the base's.
    pub leftover: Option<(u64, u64)>,
}

/// What an upload has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// Tells it apart from every other of this run.
    pub mark: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The tree of one share and its stage. Paths are below the share's root; no method follows a symbolic link.
/// Everything is synchronous, and callable from several threads.
pub trait Store: Send + Sync + 'static {
    /// Something complete but out of sight. Dropping it leaves rubbish in the stage until the next start, or the leftover of
    /// the path that it was uploaded for; [`Store::discard`] does not.
    type Staged: Send + 'static;
    /// A file that grows in the stage.
    type Upload: Upload;

    /// What a path is; nothing when there is nothing.
    ///
    /// # Errors
    /// When it cannot be seen. A missing parent is [`Fault::Changed`].
    fn lstat(&self, path: &RelPath) -> Result<Option<Found>, StoreError>;

    /// What each of these directories holds, in no order, without the private directory at the top; an error when it is no
    /// directory, or cannot be read.
    fn scan(&self, dirs: &[RelPath]) -> Vec<Result<Vec<Scanned>, StoreError>>;

    /// Reads a regular file from front to back, in pieces, and says what it was.
    ///
    /// # Errors
    /// When it is no regular file, cannot be read, or changed meanwhile ([`Fault::Changed`]).
    fn read(&self, path: &RelPath, sink: &mut dyn FnMut(&[u8])) -> Result<Found, StoreError>;

    /// Stages a regular file.
    ///
    /// # Errors
    /// When the stage cannot take it.
    fn stage_file(
        &self,
        content: &[u8],
        attributes: Attributes,
    ) -> Result<Self::Staged, StoreError>;

    /// Stages a copy of a file of the tree; `sink` sees the bytes that the copy got.
    ///
    /// # Errors
    /// When the source is no readable regular file, or the stage cannot take it.
    fn stage_copy(
        &self,
        from: &RelPath,
        attributes: Attributes,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Self::Staged, StoreError>;

    /// Stages an empty directory.
    ///
    /// # Errors
    /// When the stage cannot take it.
    fn stage_dir(&self, attributes: Attributes) -> Result<Self::Staged, StoreError>;

    /// Stages a symbolic link.
    ///
    /// # Errors
    /// When the stage cannot take it.
    fn stage_symlink(&self, target: &[u8], mtime: Mtime) -> Result<Self::Staged, StoreError>;

    /// Gives a staged file other attributes.
    ///
    /// # Errors
    /// When the system refuses.
    fn dress(&self, staged: &Self::Staged, attributes: Attributes) -> Result<(), StoreError>;

    /// Makes staged files durable.
    ///
    /// # Errors
    /// When any of them may not be durable.
    fn sync_staged(&self, staged: &[&Self::Staged]) -> Result<(), StoreError>;

    /// Brings a staged thing into view, in the place of whatever is there, without the path being absent in between.
    /// What a failure leaves of it is discarded.
    ///
    /// # Errors
    /// When the parent is no directory ([`Fault::Changed`]), or the system refuses.
    fn place(
        &self,
        staged: Self::Staged,
        path: &RelPath,
        displaced: &Removal,
    ) -> Result<Stat, StoreError>;

    /// Removes a staged thing.
    fn discard(&self, staged: Self::Staged);

    /// Moves a path, replacing whatever is at `to`, which is never absent in between.
    ///
    /// # Errors
    /// When there is no `from` or no parent of `to` ([`Fault::Changed`]), or the system refuses.
    fn rename(&self, from: &RelPath, to: &RelPath, displaced: &Removal)
    -> Result<Stat, StoreError>;

    /// Lets two paths change places. What is now at `a`, then what is now at `b`.
    ///
    /// # Errors
    /// When one is missing or the system refuses.
    fn exchange(&self, a: &RelPath, b: &RelPath) -> Result<(Stat, Stat), StoreError>;

    /// Takes a path with all below it out of view. Nothing there, or no such directory, is success.
    ///
    /// # Errors
    /// When the system refuses.
    fn remove(&self, path: &RelPath, how: &Removal) -> Result<(), StoreError>;

    /// Sets mode and time of what is at a path; a symbolic link gets the time only.
    ///
    /// # Errors
    /// When nothing is there ([`Fault::Changed`]) or the system refuses.
    fn set_attributes(&self, path: &RelPath, attributes: Attributes) -> Result<Stat, StoreError>;

    /// Gives directories the times that belong to them (none for the root). Paths that are gone are passed over.
    ///
    /// # Errors
    /// When the system refuses.
    fn restore(&self, dirs: &[(RelPath, Option<Mtime>)]) -> Result<(), StoreError>;

    /// Makes everything durable that was done before, the stage and the tree: one wait for very many changes.
    ///
    /// # Errors
    /// When something may not be durable.
    fn sync_all(&self) -> Result<(), StoreError>;

    /// Ends a small group: gives directories the times that belong to them (none for the root), and makes them, and the
    /// attributes of `files`, durable. Paths that are gone are passed over.
    ///
    /// # Errors
    /// When something of the group may not be durable.
    fn settle(
        &self,
        dirs: &[(RelPath, Option<Mtime>)],
        files: &[RelPath],
    ) -> Result<(), StoreError>;

    /// Starts a file in the stage. A leftover that it builds on is its own from then on.
    ///
    /// # Errors
    /// When the base is no readable regular file, there is no such leftover ([`Fault::Changed`]), or the stage cannot take
    /// it.
    fn open_upload(&self, origin: &Origin<'_>) -> Result<Self::Upload, StoreError>;

    /// The keys of all paths that have a leftover. It waits a little for uploads that are about to become one.
    fn leftovers(&self) -> Vec<LeftoverKey>;

    /// The leftover of a path.
    fn leftover(&self, path: &RelPath) -> Option<Leftover>;

    /// Reads a leftover from front to back, in pieces, for as long as `sink` wants more.
    ///
    /// # Errors
    /// When it is there no more ([`Fault::Changed`]), or cannot be read.
    fn read_leftover(
        &self,
        path: &RelPath,
        leftover: Leftover,
        sink: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StoreError>;

    /// Ends an upload. Its content need not be durable before it is synced like anything staged.
    ///
    /// # Errors
    /// When the stage cannot keep it; what was uploaded is gone then.
    fn finish_upload(&self, upload: Self::Upload) -> Result<Self::Staged, StoreError>;
}

/// A file that grows in the stage. Dropping it leaves the leftover of its path, if it has one and it is worth that.
pub trait Upload: Send + 'static {
    /// Appends bytes.
    ///
    /// # Errors
    /// When the stage cannot take them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Appends a range of what it builds on; `sink` sees its bytes.
    ///
    /// # Errors
    /// When there is no such thing, it is shorter or changed since it was opened ([`Fault::Changed`]), or the stage cannot
    /// take the bytes.
    fn copy(
        &mut self,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError>;

    /// Shows again what was stored, which is there: from the stage, or from the memory that the disk is written from.
    ///
    /// # Errors
    /// When the stage cannot be read.
    fn read_back(
        &mut self,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError>;

    /// Leaves all that came so far to the thread that writes it, if there is one. Whether there is: then it is finished by that
    /// thread, so that nobody waits.
    fn write_behind(&mut self) -> bool {
        false
    }

    /// Work that makes what was written so far durable, for another thread.
    fn flusher(&self) -> Box<dyn FnOnce() + Send>;

    /// Removes it, and the leftover that it builds on.
    fn discard(self);
}
