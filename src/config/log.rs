//! Settings of the log, the same on both sides.

use serde::Deserialize;
use std::path::PathBuf;

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Only what stops the work.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And connections, shares, and what became of each large step.
    #[default]
    Info,
    /// And each change.
    Debug,
    /// And each message.
    Trace,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// In which form.
    pub format: LogFormat,
    /// The file that lines are appended to, relative to the file of settings; empty for standard error.
    pub file: PathBuf,
}
