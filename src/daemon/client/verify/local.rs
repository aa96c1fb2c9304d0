//! The source of a verification: listed and read below its open root, by the rules that leave paths out.

use crate::delta::ContentHasher;
use crate::engine::ignore::{FILE, Rules};
use crate::engine::source::{Found, FoundKind, Place, SourceError};
use crate::host::source::{SourceRoot, stat_again};
use crate::model::limits::MAX_INLINE;
use crate::model::{Digest, Name, RelPath};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// The source.
#[derive(Debug)]
pub(super) struct Local {
    root: SourceRoot,
    settings: Rules,
    /// Whether what is left out is deleted on the server, too.
    delete_ignored: bool,
}

/// The rules of a directory and of those above it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    rules: Rules,
    up: Option<(Arc<Self>, Name)>,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) entries: BTreeMap<Name, Found>,
    pub(super) scope: Arc<Scope>,
}

/// What rules make of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ruled {
    /// It is mirrored.
    In,
    /// It is not, and the server keeps what it has.
    Kept,
    /// It is not, and the server is to have nothing there.
    Gone,
}

/// Why nothing can be said.
#[derive(Debug)]
pub(super) enum Blind {
    /// It changed meanwhile.
    Changed,
    /// For a person.
    Failed(String),
}

impl From<SourceError> for Blind {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Displaced | SourceError::Gone | SourceError::Changed => Self::Changed,
            SourceError::Failed(message) | SourceError::WatchLimit(message) => {
                Self::Failed(message)
            }
        }
    }
}

impl Local {
    pub(super) fn new(root: SourceRoot, patterns: &[String], delete_ignored: bool) -> Self {
        Self {
            root,
            settings: Rules::of_patterns(patterns),
            delete_ignored,
        }
    }

    /// What a directory holds, with its rules.
    pub(super) fn list(
        &self,
        path: &RelPath,
        up: Option<(Arc<Scope>, Name)>,
    ) -> Result<Listed, Blind> {
        let entries = self.root.list(&place(path))?;
        let rules = entries
            .iter()
            .find(|(name, found)| {
                name.as_bytes() == FILE && matches!(found.kind, FoundKind::File { .. })
            })
            .map(|(name, _)| self.rules(path, name))
            .transpose()?;
        Ok(Listed {
            entries: entries.into_iter().collect(),
            scope: Arc::new(Scope {
                rules: rules.unwrap_or_default(),
                up,
            }),
        })
    }

    fn rules(&self, dir: &RelPath, name: &Name) -> Result<Rules, Blind> {
        let (file, _) = self.root.open_file(&place(dir), name)?;
        let mut text = Vec::new();
        let read = file.take(MAX_INLINE + 1).read_to_end(&mut text);
        read.map_err(|error| Blind::Failed(format!("cannot read its `.syncdignore`: {error}")))?;
        if text.len() as u64 > MAX_INLINE {
            let message = "its `.syncdignore` is longer than 64 KiB";
            return Err(Blind::Failed(message.to_owned()));
        }
        Ok(Rules::parse(&text))
    }

    /// What rules make of a name.
    pub(super) fn ruled(&self, scope: &Scope, name: &Name, directory: bool) -> Ruled {
        match scope.leaves_out(&self.settings, name, directory) {
            false => Ruled::In,
            true if self.delete_ignored => Ruled::Gone,
            true => Ruled::Kept,
        }
    }

    /// What is under a name now; none for nothing, and for what is not mirrored.
    pub(super) fn look(&self, dir: &RelPath, name: &Name) -> Result<Option<Found>, Blind> {
        let found = match self.root.look(&place(dir), name) {
            // Nothing is in a directory that is not there.
            Err(SourceError::Displaced | SourceError::Gone) => None,
            found => found?,
        };
        Ok(found.filter(|found| !matches!(found.kind, FoundKind::Special(_))))
    }

    /// Reads a file. What it was, and its digest.
    pub(super) fn read(&self, dir: &RelPath, name: &Name) -> Result<(Found, Digest), Blind> {
        let (mut file, found) = self.root.open_file(&place(dir), name)?;
        let failed = |error: std::io::Error| Blind::Failed(format!("cannot read it: {error}"));
        let (mut hasher, mut buffer) = (ContentHasher::new(), vec![0; CHUNK]);
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                read => hasher.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        let (size, digest) = hasher.finish();
        if stat_again(&file, &found).map_err(failed)? != found
            || found.kind != (FoundKind::File { size })
        {
            return Err(Blind::Changed);
        }
        Ok((found, digest))
    }
}

impl Scope {
    /// The scope of a directory that only the server has.
    pub(super) fn below(up: Option<(Arc<Self>, Name)>) -> Arc<Self> {
        Arc::new(Self {
            rules: Rules::default(),
            up,
        })
    }

    /// Whether a rule leaves a name out: the deepest one that fits decides, those of the settings last.
    fn leaves_out(&self, settings: &Rules, name: &Name, directory: bool) -> bool {
        if name.as_bytes() == FILE {
            return false;
        }
        let mut path = name.as_bytes().to_vec();
        let mut at = self;
        loop {
            if let Some(verdict) = at.rules.verdict(&path, directory) {
                return verdict;
            }
            let Some((up, name)) = &at.up else {
                return settings.verdict(&path, directory) == Some(true);
            };
            path.splice(0..0, [name.as_bytes(), b"/"].concat());
            at = up;
        }
    }
}

fn place(path: &RelPath) -> Place {
    Place {
        path: path.clone(),
        identity: None,
    }
}
