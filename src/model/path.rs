//! Paths below a root: relative, bytes, validated once.

use crate::model::limits::{MAX_NAME, MAX_PATH};
use std::fmt;

/// The name of the directory that belongs to the program at the top of a share. Never mirrored, listed or served.
const PRIVATE: &[u8] = b".syncd";

/// One component of a path: not empty, not `.` or `..`, no `/` and no NUL, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a path below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A path that starts with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// An empty component: `a//b`, a final `/`, or an empty name.
    #[error("the path has an empty component")]
    Empty,
    /// `.` or `..`.
    #[error("the path has a `.` or `..` component")]
    Dots,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// A component over 255 bytes.
    #[error("a component of the path is longer than {MAX_NAME} bytes")]
    LongName,
    /// A path over 4,095 bytes.
    #[error("the path is longer than {MAX_PATH} bytes")]
    LongPath,
    /// `.syncd` at the top, which belongs to the program.
    #[error("`.syncd` belongs to syncd")]
    Private,
}

impl Name {
    /// Checks one component.
    ///
    /// # Errors
    /// When it is empty, dots, over-long, or holds `/` or NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dots),
        _ if bytes.contains(&0) => Err(PathError::Nul),
        _ if bytes.contains(&b'/') => Err(PathError::Empty),
        _ if bytes.len() > MAX_NAME => Err(PathError::LongName),
        _ => Ok(()),
    }
}

/// A path below a root, as bytes without a leading or trailing `/`; empty for the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks a path as a peer or a user wrote it.
    ///
    /// # Errors
    /// When it is absolute, leaves the root, is over-long, has an empty component or names `.syncd` at the top.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute);
        }
        if bytes.len() > MAX_PATH {
            return Err(PathError::LongPath);
        }
        for (depth, name) in bytes.split(|b| *b == b'/').enumerate() {
            check_name(name)?;
            if depth == 0 && name == PRIVATE {
                return Err(PathError::Private);
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The path of an entry of this directory.
    ///
    /// # Errors
    /// When the result would be over-long, or is `.syncd` at the top.
    pub fn join(&self, name: &Name) -> Result<Self, PathError> {
        if self.is_root() {
            return Self::new(name.as_bytes());
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        if bytes.len() > MAX_PATH {
            return Err(PathError::LongPath);
        }
        Ok(Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its directory and last component; nothing for the root.
    #[must_use]
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.is_root() {
            return None;
        }
        let mut parts = self.0.rsplitn(2, |b| *b == b'/');
        let name = Name(parts.next()?.into());
        let parent = Self(parts.next().unwrap_or_default().into());
        Some((parent, name))
    }

    /// Its components from the top down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// Whether this path is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(other.as_bytes())
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str(".")
        } else {
            f.write_str(&escape(&self.0))
        }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Shows the bytes of a name to a person: printable text as it is, control characters, bidirectional overrides,
/// backslashes and bytes that are not UTF-8 as escapes, so that no name can forge a line of a log.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\'
                || c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Name, PathError, RelPath, escape};

    #[test]
    fn what_leaves_the_root_is_refused() {
        for (bytes, why) in [
            (&b"/etc/x"[..], PathError::Absolute),
            (b"..", PathError::Dots),
            (b"a/../../x", PathError::Dots),
            (b"a/./b", PathError::Dots),
            (b"a//b", PathError::Empty),
            (b"a/", PathError::Empty),
            (b"a\0b", PathError::Nul),
            (b".syncd/stage", PathError::Private),
            (&[b'x'; 256], PathError::LongName),
        ] {
            assert_eq!(RelPath::new(bytes), Err(why), "{}", escape(bytes));
        }
        assert_eq!(
            RelPath::new(&[b'a', b'/'].repeat(3000)),
            Err(PathError::LongPath)
        );
        assert!(RelPath::new(b"a/.syncd").is_ok());
        assert!(RelPath::new(b"\xff\xfe/new\nline").is_ok());
    }

    #[test]
    fn a_path_splits_into_what_it_was_joined_from() {
        let dir = RelPath::new(b"a/b").unwrap();
        let name = Name::new(b"c").unwrap();
        assert_eq!(dir.join(&name).unwrap().split(), Some((dir.clone(), name)));
        assert_eq!(RelPath::root().split(), None);
        assert!(dir.is_within(&RelPath::new(b"a").unwrap()));
        assert!(
            !RelPath::new(b"ab")
                .unwrap()
                .is_within(&RelPath::new(b"a").unwrap())
        );
        assert!(
            RelPath::root()
                .join(&Name::new(b".syncd").unwrap())
                .is_err()
        );
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert_eq!(escape(b"a\nb\x1b[31m\xff\\"), "a\\nb\\u{1b}[31m\\xff\\\\");
        assert_eq!(escape("r\u{202e}txt é".as_bytes()), "r\\u{202e}txt é");
    }
}
