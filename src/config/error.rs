//! What is wrong with a file of settings, and where.

use std::fmt;
use std::ops::Range;

/// Text of a file of settings, and the file's name for messages.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name of the file as the user gave it.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// A refused file of settings: where, which key, what was expected. Shown as `FILE:LINE: KEY: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as the user gave it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key with its tables (`limits.window`), where one can be told.
    pub key: Option<String>,
    /// What was expected and what was found.
    pub message: String,
    /// The line itself.
    pub excerpt: String,
}

impl ConfigError {
    pub(super) fn from_toml(source: Source<'_>, error: &toml::de::Error) -> Self {
        Self::at(source, error.span(), error.message())
    }

    /// An error at a place in the text; at its start when there is none.
    pub(super) fn at(source: Source<'_>, span: Option<Range<usize>>, message: &str) -> Self {
        let start = span.map_or(0, |span| span.start);
        let before = source.text.get(..start).unwrap_or(source.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = source.text.get(line_start..).unwrap_or_default();
        Self {
            file: source.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            key: key_at(source.text, line_start),
            message: message.trim_end().replace('\n', ", "),
            excerpt: plain(line.lines().next().unwrap_or_default()),
        }
    }

    /// The line and a caret below the place, for a terminal: two lines without a final newline.
    #[must_use]
    pub fn picture(&self) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(self.column.saturating_sub(1));
        format!("{number} | {}\n{margin} | {indent}^", self.excerpt)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        match &self.key {
            Some(key) => write!(f, "`{key}`: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The line with a space for each control character: a tab must not move the caret, nor a sequence the terminal.
fn plain(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The key of the line that starts at `line_start`: the last `name =` at or above it below the last table header. This
/// reads lines, not TOML: good enough for a message, which shows the line as well.
fn key_at(text: &str, line_start: usize) -> Option<String> {
    let end = text
        .get(line_start..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |length| line_start + length);
    let above = text.get(..end)?;
    let (mut table, mut key) = (None, None);
    for line in above.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let name = header.trim_start_matches('[').split(']').next();
            (table, key) = (name.map(str::trim), None);
        } else if let Some((name, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            key = Some(name.trim());
        }
    }
    match (table, key) {
        (Some(table), Some(key)) => Some(format!("{table}.{key}")),
        (table, key) => key.or(table).map(str::to_owned),
    }
}
