//! Patterns in gitignore syntax: what a list of lines says of a path below the directory that they belong to.
//!
//! Only matching: `engine::client` reads the files and asks from the deepest directory upwards. As in git, what lies below
//! an ignored directory is never asked for, so nothing below it can be included again.

mod glob;

pub use glob::Glob;

/// The name of the files that hold patterns.
pub const FILE: &[u8] = b".syncdignore";

/// The patterns of one directory.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    refused: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Glob,
    /// It includes again what an earlier one ignores.
    included: bool,
    /// It is about directories only.
    directory: bool,
    /// It is about a name at any depth, not about a path from here.
    anywhere: bool,
}

impl Rules {
    /// From the content of a file. Lines that are no patterns are passed over, and told by [`Rules::refused`].
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        Self::of_lines(text.split(|byte| *byte == b'\n'))
    }

    /// From single patterns.
    #[must_use]
    pub fn of_patterns(patterns: &[String]) -> Self {
        Self::of_lines(patterns.iter().map(String::as_bytes))
    }

    fn of_lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut rules = Self::default();
        for (index, line) in lines.enumerate() {
            let line = without_spaces(line.strip_suffix(b"\r").unwrap_or(line));
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match Rule::parse(line) {
                Some(rule) => rules.rules.push(rule),
                None => rules.refused.push(index + 1),
            }
        }
        rules
    }

    /// The numbers, from 1, of the lines that are no patterns.
    #[must_use]
    pub fn refused(&self) -> &[usize] {
        &self.refused
    }

    /// Whether there is no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the last line that fits says of a path below the directory: ignored, not ignored, or nothing.
    #[must_use]
    pub fn verdict(&self, path: &[u8], directory: bool) -> Option<bool> {
        let last = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.fits(path, directory))?;
        Some(!last.included)
    }
}

impl Rule {
    fn parse(line: &[u8]) -> Option<Self> {
        let (included, line) = match line.strip_prefix(b"!") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (directory, line) = match line.strip_suffix(b"/") {
            Some(line) => (true, line),
            None => (false, line),
        };
        Some(Self {
            glob: Glob::parse(line.strip_prefix(b"/").unwrap_or(line))?,
            included,
            directory,
            anywhere: !line.contains(&b'/'),
        })
    }

    fn fits(&self, path: &[u8], directory: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next();
        let path = if self.anywhere {
            name.unwrap_or(path)
        } else {
            path
        };
        (directory || !self.directory) && self.glob.matches(path)
    }
}

/// A line without the spaces at its end, but for those behind a backslash.
fn without_spaces(line: &[u8]) -> &[u8] {
    let (mut end, mut escaped) = (0, false);
    for (index, byte) in line.iter().enumerate() {
        if escaped || *byte != b' ' {
            end = index + 1;
        }
        escaped = !escaped && *byte == b'\\';
    }
    line.get(..end).unwrap_or(line)
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
            ("odd\\ ", "odd ", false, Some(true)),
            ("a/**", "a", true, None),
            ("**/a/**/b", "a/b", false, Some(true)),
            ("x**y", "xay", false, Some(true)),
            ("x/a**y", "x/a/y", false, None),
            ("[!a]*", "b", false, Some(true)),
            ("x[!a]y/z", "x/y/z", false, None),
            ("{a,b}", "a", false, None),
            ("{a,b}", "{a,b}", false, Some(true)),
            ("[[:digit:]]x", "7x", false, Some(true)),
            ("[]-]", "]", false, Some(true)),
            ("\u{feff}a", "a", false, Some(true)),
        ];
        for (text, path, directory, expected) in rows {
            let verdict = Rules::parse(text.as_bytes()).verdict(path.as_bytes(), *directory);
            assert_eq!(verdict, *expected, "{text:?} {path:?}");
        }
    }

    #[test]
    fn names_need_not_be_text() {
        let rules = Rules::parse(b"*.o\n\xfe[\xf0-\xff]\n");
        assert_eq!(rules.verdict(b"\xfe\xff", false), Some(true));
        assert_eq!(rules.verdict(b"\xfe\xef", false), None);
        assert_eq!(rules.verdict(b"\xff\xfe.o", false), Some(true));
        assert_eq!(rules.verdict(b"\xff.c", false), None);
    }

    #[test]
    fn a_line_that_is_no_pattern_is_told_and_passed_over() {
        let rules = Rules::parse(b"*.o\n[a\n\n*.c\nb\\");
        assert_eq!(rules.verdict(b"x.c", false), Some(true));
        assert_eq!(rules.refused(), [2, 5]);
    }
}
