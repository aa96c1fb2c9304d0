//! What a person sees when something fails: `error:`, `caused by:` and `hint:` lines on standard error, and the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Everything was done.
pub const EXIT_DONE: u8 = 0;
/// Something that should not happen.
pub const EXIT_UNEXPECTED: u8 = 1;
/// Wrong arguments or settings.
pub const EXIT_USAGE: u8 = 2;
/// Finished, but some paths could not be handled.
pub const EXIT_PROBLEMS: u8 = 3;
/// The peer, or the daemon that was asked, cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 4;
/// The peer refuses: not enrolled, no right, held by another writer.
pub const EXIT_REFUSED: u8 = 5;
/// The peer speaks no common version.
pub const EXIT_VERSION: u8 = 6;
/// The local disk or the state on it failed.
pub const EXIT_STORAGE: u8 = 7;

/// The class of a failure: what decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something that should not happen.
    Unexpected,
    /// Wrong arguments or settings.
    Usage,
    /// Finished, but some paths could not be handled.
    Problems,
    /// The peer, or the daemon that was asked, cannot be reached.
    Unreachable,
    /// The peer refuses.
    Refused,
    /// The peer speaks no common version.
    Version,
    /// The local disk or the state on it failed.
    Storage,
}

impl Kind {
    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Unexpected => EXIT_UNEXPECTED,
            Self::Usage => EXIT_USAGE,
            Self::Problems => EXIT_PROBLEMS,
            Self::Unreachable => EXIT_UNREACHABLE,
            Self::Refused => EXIT_REFUSED,
            Self::Version => EXIT_VERSION,
            Self::Storage => EXIT_STORAGE,
        }
    }
}

/// A failure on its way to a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    kind: Kind,
    message: String,
    detail: Vec<String>,
    causes: Vec<String>,
    hint: Option<String>,
    is_full: bool,
}

/// What to do about a full disk, where nothing better is known.
const FULL: &str =
    "make room on the disk of that path and try again: what was there before is as it was";

impl Report {
    /// A failure in one sentence: lower case, no full stop, values in backticks.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: Vec::new(),
            causes: Vec::new(),
            hint: None,
            is_full: false,
        }
    }

    /// An error with all its sources.
    #[must_use]
    pub fn from_error(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let mut report = Self::new(kind, error.to_string());
        report.is_full = is_full(error);
        report.add_causes(error.source());
        report
    }

    /// Adds an error with all its sources as the cause.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        self.add_causes(Some(error));
        self
    }

    fn add_causes(&mut self, mut next: Option<&(dyn Error + 'static)>) {
        while let Some(error) = next {
            self.causes.push(error.to_string());
            self.is_full |= is_full(error);
            next = error.source();
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds lines that stand below the message: a place in a file, a list of paths.
    #[must_use]
    pub fn detail(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.detail.extend(lines);
        self
    }

    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The text as it is printed: each line with its label, none of which a value can forge.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{label}{}", printable(text));
        };
        line("error: ", &self.message);
        for text in &self.detail {
            line("  ", text);
        }
        for text in &self.causes {
            line("caused by: ", text);
        }
        let full = self.is_full.then_some(FULL);
        if let Some(text) = self.hint.as_deref().or(full) {
            line("hint: ", text);
        }
        out
    }

    /// Prints it on standard error and gives the exit code.
    #[must_use]
    pub fn print(&self) -> ExitCode {
        // Nobody is left to tell when standard error is closed.
        drop(std::io::stderr().lock().write_all(self.text().as_bytes()));
        ExitCode::from(self.kind.exit_code())
    }
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

/// Lines beside a result, for people: on standard error, so that the result alone can be piped.
pub fn note(lines: &[String]) {
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", printable(line)))
        .collect();
    // Nobody is left to tell when standard error is closed.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Text with control characters and bidirectional overrides as escapes. Unlike [`crate::model::escape`] it leaves backslashes
/// alone, so that a name that is escaped already is not escaped twice.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' {
            out.push(c);
        } else {
            out.push_str(&crate::model::escape(c.encode_utf8(&mut [0; 4]).as_bytes()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Kind, Report};

    #[test]
    fn a_report_has_one_line_for_each_level() {
        let io = std::io::Error::other("the plug\nerror: was pulled");
        let report = Report::new(Kind::Storage, "cannot write `a\\nb`")
            .detail(["3 | here".to_owned()])
            .caused_by(&io)
            .hint("put it back");
        assert_eq!(
            report.text(),
            "error: cannot write `a\\nb`\n  3 | here\ncaused by: the plug\\nerror: was pulled\nhint: put it back\n"
        );
    }

    #[test]
    fn each_kind_has_the_exit_code_of_the_readme() {
        let readme = include_str!("../../README.md");
        let kinds = [
            (Kind::Unexpected, 1),
            (Kind::Usage, 2),
            (Kind::Problems, 3),
            (Kind::Unreachable, 4),
            (Kind::Refused, 5),
            (Kind::Version, 6),
            (Kind::Storage, 7),
        ];
        for (kind, code) in kinds {
            assert_eq!(kind.exit_code(), code);
            assert!(readme.contains(&format!("| {code} | ")), "{code}");
        }
    }
}
