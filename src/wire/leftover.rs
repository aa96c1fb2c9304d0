//! What is said of leftovers: what earlier uploads have sent and nobody used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an upload builds on besides its base: the first bytes of a leftover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Continued {
    /// The mark that came with its recipe.
    pub mark: u64,
    /// How many of its bytes; behind them the base counts, at the same offsets.
    pub length: u64,
}
