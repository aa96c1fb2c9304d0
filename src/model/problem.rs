//! Paths that could not be handled, as values beside the result.

use crate::model::RelPath;
use std::fmt;

/// Why an operation failed, as far as anybody has to tell the cases apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// What the operation was based on is no longer so (a content, a kind, a missing parent): compare and try again.
    Changed,
    /// No permission.
    Denied,
    /// No space, no quota or no inodes left: the share pauses.
    Full,
    /// The file system is read-only: the share pauses.
    ReadOnly,
    /// A name or path that the file system cannot represent.
    Unrepresentable,
    /// Anything else that the system said.
    Io,
}

/// A path that could not be handled, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The path below the root.
    pub path: RelPath,
    /// The class of failure.
    pub fault: Fault,
    /// What was attempted and what the system said, for a person.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.message)
    }
}

/// A path that is not mirrored by rule (a pipe, a socket, a device), and which rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// The path below the root.
    pub path: RelPath,
    /// The rule, for a person.
    pub reason: &'static str,
}
