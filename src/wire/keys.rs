//! The messages about the keys of a share.
//!
//! A key is 1 to 250 bytes, any. A value that is longer than one body comes in pieces.

use super::{Code, WireBytes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question about keys, or a change of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Chosen by the client; not the id of a request or an upload that is under way.
    pub id: u64,
    /// What is asked for.
    pub ask: KeyAsk,
}

/// What is asked of keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyAsk {
    /// The value of a key, or what of it fits one body. Answered by `value`, `missing` or `exists`.
    Get {
        /// Which.
        key: WireBytes,
        /// From which byte on.
        #[serde(default, skip_serializing_if = "is_zero")]
        start: u64,
        /// The unique number that the value must have, so that parts of one value are parts of the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unique: Option<u64>,
    },
    /// The body is the next piece of a value. Answered by `taken`. A connection has one value in pieces at a time.
    Piece {
        /// Which value: a number that the client chooses. The first piece of another one drops this.
        value: u64,
    },
    /// Stores a value: the pieces, then the body. Answered by `stored`, `not_stored`, `exists`, `missing` or `failed`.
    Set {
        /// Where.
        key: WireBytes,
        /// On which condition.
        #[serde(default)]
        mode: KeyMode,
        /// The unique number that the value must have that is there, for `if_unique`.
        #[serde(default, skip_serializing_if = "is_zero")]
        unique: u64,
        /// What the client wants to remember of it.
        #[serde(default)]
        flags: u32,
        /// For how long, in milliseconds; none for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lasts_ms: Option<u64>,
        /// The number of its pieces; none when the body is all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pieces: Option<u64>,
    },
    /// Removes a key. Answered by `deleted` or `missing`.
    Delete {
        /// Which.
        key: WireBytes,
    },
    /// Keys in the order of their bytes. Answered by `listed`.
    List {
        /// What they begin with; empty for all.
        prefix: WireBytes,
        /// Those behind this one; none from the first on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<WireBytes>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// On which condition a value is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyMode {
    /// None.
    #[default]
    Always,
    /// There is none.
    IfAbsent,
    /// There is one.
    IfPresent,
    /// The one that is there has the unique number that is named.
    IfUnique,
}

/// An answer about keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyResponse {
    /// Which request.
    pub id: u64,
    /// What is said.
    pub answer: KeyAnswer,
}

/// What is said of keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyAnswer {
    /// There is a value; the body is what was asked for of it.
    Value {
        /// What is known of it.
        entry: KeyEntry,
    },
    /// There is none.
    Missing {},
    /// The value has another unique number.
    Exists {},
    /// A piece was taken.
    Taken {},
    /// The value is durable.
    Stored {
        /// Its number: no other value of the server has had it.
        unique: u64,
    },
    /// The condition does not hold.
    NotStored {},
    /// The key is gone, durably.
    Deleted {},
    /// Keys in order.
    Listed {
        /// The keys.
        entries: Vec<ListedKey>,
        /// Behind which key to go on; none at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<WireBytes>,
    },
    /// It could not be done; the session goes on.
    Failed {
        /// The class of failure.
        code: Code,
        /// For a person.
        message: String,
    },
}

/// What is known of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Bytes.
    pub size: u64,
    /// What the client wanted to remember of it.
    pub flags: u32,
    /// Its number: no other value of the server has had it.
    pub unique: u64,
    /// For how long it is there still, in milliseconds; none for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_ms: Option<u64>,
}

/// A key in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListedKey {
    /// The key.
    pub key: WireBytes,
    /// What is known of its value.
    pub entry: KeyEntry,
}
