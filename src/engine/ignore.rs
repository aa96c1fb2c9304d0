//! Patterns in gitignore syntax: what a list of lines says of a path below the directory that they belong to.
//!
//! Only matching: `engine::client` reads the files and asks from the deepest directory upwards. As in git, what lies below
//! an ignored directory is never asked for, so nothing below it can be included again.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The name of the files that hold patterns.
pub const FILE: &[u8] = b".syncdignore";

/// The patterns of one directory.
#[derive(Clone, Debug)]
pub struct Rules {
    matcher: Gitignore,
    refused: Vec<usize>,
}

impl Rules {
    /// From the content of a file. Lines that are no patterns are passed over, and told by [`Rules::refused`].
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self::of_lines(text.split(|byte| *byte == b'\n').map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            std::str::from_utf8(line).ok()
        }))
    }

    /// From single patterns.
    #[must_use]
    pub fn of_patterns(patterns: &[String]) -> Self {
        Self::of_lines(patterns.iter().map(|line| Some(line.as_str())))
    }

    fn of_lines<'a>(lines: impl Iterator<Item = Option<&'a str>>) -> Self {
        let mut builder = GitignoreBuilder::new("");
        let mut refused = Vec::new();
        for (index, line) in lines.enumerate() {
            let taken = line.is_some_and(|line| builder.add_line(None, line).is_ok());
            if !taken {
                refused.push(index + 1);
            }
        }
        Self {
            matcher: builder.build().unwrap_or_else(|_| Gitignore::empty()),
            refused,
        }
    }

    /// The numbers, from 1, of the lines that are no patterns.
    #[must_use]
    pub fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.matcher.is_empty()
    }

    /// What the last line that fits says of a path below the directory: ignored, not ignored, or nothing.
    #[must_use]
    pub fn verdict(&self, path: &[u8], directory: bool) -> Option<bool> {
        match self.matcher.matched(OsStr::from_bytes(path), directory) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rules;

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let rows: &[(&str, &str, bool, Option<bool>)] = &[
            ("*.o", "a.o", false, Some(true)),
            ("*.o", "deep/er/a.o", false, Some(true)),
            ("/*.o", "deep/a.o", false, None),
            ("/a", "a", true, Some(true)),
            ("build/", "build", true, Some(true)),
            ("build/", "build", false, None),
            ("build/", "x/build", true, Some(true)),
            ("a/b", "a/b", false, Some(true)),
            ("a/b", "x/a/b", false, None),
            ("**/a/b", "x/a/b", false, Some(true)),
            ("a/**", "a/b/c", false, Some(true)),
            ("a/**/c", "a/c", false, Some(true)),
            ("*.o\n!keep.o", "keep.o", false, Some(false)),
            ("!keep.o\n*.o", "keep.o", false, Some(true)),
            ("# comment", "# comment", false, None),
            ("\\#odd", "#odd", false, Some(true)),
            ("\\!odd", "!odd", false, Some(true)),
            ("trailing  ", "trailing", false, Some(true)),
            ("win\r", "win", false, Some(true)),
            ("f?o", "foo", false, Some(true)),
            ("f?o", "f/o", false, None),
            ("[a-c]x", "bx", false, Some(true)),
            ("*", ".hidden", false, Some(true)),
            ("", "a", false, None),
        ];
        for (text, path, directory, expected) in rows {
            let verdict = Rules::parse(text.as_bytes()).verdict(path.as_bytes(), *directory);
            assert_eq!(verdict, *expected, "{text:?} {path:?}");
        }
    }

    #[test]
    fn names_need_not_be_text() {
        let rules = Rules::parse(b"*.o\ncaf?\n");
        assert_eq!(rules.verdict(b"\xff\xfe.o", false), Some(true));
        assert_eq!(rules.verdict(b"\xff.c", false), None);
    }

    #[test]
    fn a_line_that_is_no_pattern_is_told_and_passed_over() {
        let rules = Rules::parse(b"*.o\n\xff\n{a\n*.c");
        assert_eq!(rules.verdict(b"x.c", false), Some(true));
        assert_eq!(rules.refused().first(), Some(&2));
    }
}
