//! What the `[tls]` tables of both sides have in common.

use super::{ConfigError, Source};
use std::path::PathBuf;

/// Checks that a certificate of one's own is named with its key and the authorities, or none of them.
///
/// # Errors
/// When one is missing.
pub(super) fn all_or_none(source: Source<'_>, files: [&PathBuf; 3]) -> Result<(), ConfigError> {
    let named = files
        .iter()
        .filter(|file| !file.as_os_str().is_empty())
        .count();
    if named == 0 || named == files.len() {
        return Ok(());
    }
    let start = source.text.find("[tls]").unwrap_or(0);
    let message = "expected all of `certificate`, `key` and `ca`, or none of them";
    Err(ConfigError::at(source, Some(start..start), message))
}
