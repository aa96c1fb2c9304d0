//! Settings of the files that are kept in memory.

use super::Size;
use super::value::between;
use serde::Deserialize;

/// `[cache]` of the server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileCache {
    /// All files together; 0 for none.
    #[serde(deserialize_with = "between::<_, 0, 1_099_511_627_776>")]
    pub max_bytes: Size,
    /// The longest file.
    #[serde(deserialize_with = "between::<_, 0, 1_099_511_627_776>")]
    pub max_entry: Size,
}

impl Default for FileCache {
    fn default() -> Self {
        Self {
            max_bytes: Size(64 * 1024 * 1024),
            max_entry: Size(64 * 1024 * 1024),
        }
    }
}
