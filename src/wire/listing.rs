//! What a listing holds.

use super::{WireBytes, WireTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of an entry in a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ListKind {
    /// A directory. In the body: the sum of its entries.
    Directory {},
    /// A file. In the body: its content digest.
    File {
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link. In the body: 32 zero bytes.
    Symlink {
        /// What it holds.
        target: WireBytes,
    },
}

/// An entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListEntry {
    /// Its name.
    pub name: WireBytes,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub mtime: WireTime,
    /// What it is.
    #[serde(flatten)]
    pub kind: ListKind,
}
