//! Settings of the keys.

use super::value::{between, number_between};
use super::{Address, ShareName, Size};
use crate::model::limits::MAX_VALUE;
use serde::Deserialize;

/// `[kv]` of the server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kv {
    /// Where memcached's text protocol is spoken; nowhere when empty.
    #[serde(deserialize_with = "super::value::optional_address")]
    pub memcached: Option<Address>,
    /// The share whose keys it serves; empty for the directory itself.
    #[serde(deserialize_with = "super::value::optional_share")]
    pub share: Option<ShareName>,
    /// Whether it may listen to other machines.
    pub allow_insecure: bool,
    /// Connections to it at a time.
    #[serde(deserialize_with = "number_between::<_, 1, 65536>")]
    pub max_connections: u64,
    /// Longest value.
    #[serde(deserialize_with = "between::<_, 1024, MAX_VALUE>")]
    pub max_value: Size,
    /// All keys and values of the server together.
    #[serde(deserialize_with = "between::<_, 1_048_576, 17_592_186_044_416>")]
    pub max_total: Size,
}

impl Default for Kv {
    fn default() -> Self {
        Self {
            memcached: None,
            share: None,
            allow_insecure: false,
            max_connections: 1024,
            max_value: Size(16 * 1024 * 1024),
            max_total: Size(16 * 1024 * 1024 * 1024),
        }
    }
}
