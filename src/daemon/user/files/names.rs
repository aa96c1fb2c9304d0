//! Paths of a share as people write them, and the patterns among them.

use super::{FileError, Remote};
use crate::engine::ignore::Glob;
use crate::model::{PathError, RelPath, escape};
use std::ffi::OsStr;

/// A path of a share as it was written: from the top of the share, with or without a slash in front.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    text: Vec<u8>,
    path: RelPath,
    /// Whether only a directory can be meant.
    pub directory: bool,
}

/// Why a text is no path of a share.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no path of a share")]
pub struct ArgumentError {
    text: String,
    source: PathError,
}

impl Argument {
    /// Reads a path.
    ///
    /// # Errors
    /// When it climbs, is too long, or belongs to the program.
    pub fn parse(text: &OsStr) -> Result<Self, ArgumentError> {
        let text = text.as_encoded_bytes();
        let names = text.split(|byte| *byte == b'/');
        let names: Vec<&[u8]> = names
            .filter(|name| !name.is_empty() && *name != b".")
            .collect();
        let path = RelPath::new(&names.join(&b'/')).map_err(|source| ArgumentError {
            text: escape(text),
            source,
        })?;
        Ok(Self {
            text: text.to_owned(),
            directory: path.is_root() || text.ends_with(b"/") || text.ends_with(b"/."),
            path,
        })
    }

    /// The path, taken as it is.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// As it was written, for a person.
    #[must_use]
    pub fn shown(&self) -> String {
        escape(&self.text)
    }

    /// The paths that are meant: the path itself if there is such, else those that it is a pattern of, in order. A name
    /// that begins with a dot is meant only by a pattern that does.
    ///
    /// # Errors
    /// When nothing is meant, or the server cannot look.
    pub async fn expand(&self, remote: &Remote<'_>) -> Result<Vec<RelPath>, FileError> {
        let bytes = self.path.as_bytes();
        let is_pattern = bytes.iter().any(|byte| b"*?[".contains(byte));
        if !is_pattern || remote.look(&self.path).await?.is_some() {
            return Ok(vec![self.path.clone()]);
        }
        let mut found = vec![RelPath::root()];
        for part in bytes.split(|byte| *byte == b'/') {
            found = self.one(remote, found, part).await?;
        }
        if found.is_empty() {
            let message = format!("nothing in the share matches `{}`", self.shown());
            return Err(FileError::Other(message));
        }
        Ok(found)
    }

    /// Goes one name further from each of some directories.
    async fn one(
        &self,
        remote: &Remote<'_>,
        from: Vec<RelPath>,
        part: &[u8],
    ) -> Result<Vec<RelPath>, FileError> {
        let bad = || FileError::Other(format!("`{}` is no pattern", self.shown()));
        let glob = Glob::parse(part).ok_or_else(bad)?;
        let plain = !part.iter().any(|byte| b"*?[\\".contains(byte));
        let mut found = Vec::new();
        for directory in from {
            if plain {
                let name = crate::model::Name::new(part).map_err(|_| bad())?;
                let path = directory.join(&name).map_err(|_| bad())?;
                if remote.look(&path).await?.is_some() {
                    found.push(path);
                }
                continue;
            }
            let mut first = None;
            while let Some(listing) = remote.list(&directory, first.as_ref()).await? {
                for (name, _) in &listing.entries {
                    let hidden = name.as_bytes().starts_with(b".") && !part.starts_with(b".");
                    if !hidden
                        && glob.matches(name.as_bytes())
                        && let Ok(path) = directory.join(name)
                    {
                        found.push(path);
                    }
                }
                first = listing.next;
                if first.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::Argument;
    use std::ffi::OsStr;

    #[test]
    fn a_path_is_read_from_the_top_of_the_share() {
        let read = |text: &str| {
            let argument = Argument::parse(OsStr::new(text)).unwrap();
            (argument.path().to_string(), argument.directory)
        };
        assert_eq!(read("a/b"), ("a/b".to_owned(), false));
        assert_eq!(read("/a//./b/"), ("a/b".to_owned(), true));
        for root in ["", "/", ".", "./"] {
            assert!(read(root).1, "{root}");
        }
        for bad in ["..", "a/../b", ".syncd/stage"] {
            assert!(Argument::parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
