//! The messages of those who only look: they open no session of a writer, and what they ask for is read from the disk.

use super::{Code, ListEntry, WireBytes, WirePath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first message of somebody who only looks. The share keeps its writer, and a share that is not there is not made: it
/// counts as empty. Only `list`, `inspect`, `ping` and `renew` may follow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// Newest minor version spoken.
    pub minor: u16,
    /// The share; none for the directory itself.
    pub share: Option<String>,
    /// Id of the source tree that is compared: 32 hexadecimal digits. A share that another source fills is refused.
    pub source: String,
}

/// Asks what a directory holds on the disk now. Contents are read; the index is not asked, but put right where it says
/// otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    /// Chosen by the client.
    pub id: u64,
    /// Which directory.
    pub path: WirePath,
    /// The least name that is asked for; none for all from the first on.
    pub first: Option<WireBytes>,
    /// The greatest name that is asked for; none for all up to the last.
    pub last: Option<WireBytes>,
}

/// A part of what a directory holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inspected {
    /// Which request.
    pub id: u64,
    /// The entries in the order of their names; none when the path is no directory.
    pub entries: Vec<ListEntry>,
    /// Names that are there and could not be looked at or read.
    pub failed: Vec<Unread>,
    /// All names before this one are told: ask again from it on.
    pub next: Option<WireBytes>,
    /// Whether the path is a directory at all.
    pub found: bool,
}

/// A name that could not be looked at or read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unread {
    /// The name.
    pub name: WireBytes,
    /// The class of failure.
    pub code: Code,
    /// For a person.
    pub message: String,
}
