//! The messages about the keys of a share.

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
    /// The value of a key.
    Get {
        /// Which.
        key: WireBytes,
    },
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
    /// It could not be done; the session goes on.
    Failed {
        /// The class of failure.
        code: Code,
        /// For a person.
        message: String,
    },
}
