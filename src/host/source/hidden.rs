//! What belongs to the program itself and lies within a source: its state, its keys, its log. None of it is mirrored: keys
//! stay where they were made, and what follows every change must not be a change.

use crate::engine::source::{Found, FoundKind};
use crate::host::place::resolved;
use crate::model::{Name, RelPath};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why such a path is not mirrored.
const REASON: &str = "of syncd itself";

/// The paths of the program's own below one source. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden(Arc<[RelPath]>);

impl Hidden {
    /// Those of some paths that lie below a source. They need not be there yet.
    pub(super) fn below(source: &Path, own: &[PathBuf]) -> Self {
        let source = resolved(source);
        let within = |path: &PathBuf| {
            let path = resolved(path);
            let rest = path.strip_prefix(&source).ok()?;
            let rest = RelPath::new(rest.as_os_str().as_bytes()).ok()?;
            (!rest.is_root()).then_some(rest)
        };
        Self(own.iter().filter_map(within).collect())
    }

    /// What is mirrored of an entry of a directory.
    pub(super) fn entry(&self, dir: &RelPath, name: &Name, found: &mut Found) {
        let is = |path: &RelPath| {
            path.split()
                .is_some_and(|(at, last)| at == *dir && last == *name)
        };
        if !self.0.is_empty() && self.0.iter().any(is) {
            found.kind = FoundKind::Special(REASON);
        }
    }
}

/// Whether a directory is one of the program's own, or lies in one.
#[must_use]
pub fn is_own(directory: &Path, own: &[PathBuf]) -> bool {
    let directory = resolved(directory);
    own.iter().any(|own| directory.starts_with(resolved(own)))
}

#[cfg(test)]
mod tests {
    use super::{Hidden, is_own};
    use crate::engine::source::FoundKind;
    use crate::host::source::stat_fd;
    use crate::model::{Name, RelPath};
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_named_and_within_is_hidden() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("home/state")).unwrap();
        symlink("home", at("link")).unwrap();
        let own = [at("link/state/syncd"), at("elsewhere"), at("home/log")];
        let found = stat_fd(File::open(temp.path()).unwrap()).unwrap();
        for source in ["home", "link", "link/."] {
            let hidden = Hidden::below(&at(source), &own);
            let is_hidden = |dir: &str, name: &str| {
                let mut found = found.clone();
                let dir = RelPath::new(dir.as_bytes()).unwrap();
                hidden.entry(&dir, &Name::new(name.as_bytes()).unwrap(), &mut found);
                found.kind == FoundKind::Special("of syncd itself")
            };
            for (dir, name, expected) in [
                ("state", "syncd", true),
                ("", "log", true),
                ("", "state", false),
                ("", "syncd", false),
                ("state", "log", false),
                ("state/syncd", "syncd", false),
            ] {
                assert_eq!(is_hidden(dir, name), expected, "{source}: {dir}/{name}");
            }
        }
        assert!(
            is_own(&at("link/state/syncd/deep"), &own) && is_own(&at("home/state/syncd"), &own)
        );
        assert!(!is_own(&at("home"), &own) && !is_own(&at("home/state/syncd2"), &own));
    }
}
