//! Set-user-id and set-group-id bits of a source whose server does not keep them: taken away before anything is compared
//! or sent, and remembered by path, so that they are listed.

use crate::engine::source::{Found, FoundKind};
use crate::model::{Name, RelPath};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bits that let a program run as somebody else.
const BITS: u32 = 0o6000;
/// Paths that are remembered at most.
const MAX_PATHS: usize = 10_000;

/// What one mirror does with the bits. Cheap to clone; all clones are of the same mirror.
#[derive(Debug, Clone, Default)]
pub struct SetIds(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    strip: AtomicBool,
    stripped: Mutex<BTreeSet<RelPath>>,
}

impl SetIds {
    /// Decides from now on: whether the server keeps them.
    pub fn set_kept(&self, kept: bool) {
        self.0.strip.store(!kept, Ordering::Relaxed);
        if kept {
            self.stripped().clear();
        }
    }

    /// The paths that have bits which the server does not get.
    #[must_use]
    pub fn list(&self) -> Vec<RelPath> {
        self.stripped().iter().cloned().collect()
    }

    /// What is mirrored of an entry of a directory.
    pub(super) fn entry(&self, dir: &RelPath, name: &Name, found: &mut Found) {
        if self.0.strip.load(Ordering::Relaxed)
            && let Ok(path) = dir.join(name)
        {
            self.path(path, found);
        }
    }

    /// What is mirrored of a path.
    pub(super) fn path(&self, path: RelPath, found: &mut Found) {
        if !self.0.strip.load(Ordering::Relaxed) || path.is_root() {
            return;
        }
        let has = matches!(found.kind, FoundKind::File { .. } | FoundKind::Directory)
            && found.mode & BITS != 0;
        let mut stripped = self.stripped();
        if !has {
            stripped.remove(&path);
            return;
        }
        found.mode &= !BITS;
        if stripped.len() < MAX_PATHS {
            stripped.insert(path);
        }
    }

    /// A path is gone with all below it.
    pub(super) fn gone(&self, path: &RelPath) {
        let mut stripped = self.stripped();
        if !stripped.is_empty() {
            stripped.retain(|known| !is_within(known, path));
        }
    }

    /// A directory holds these names and no others.
    pub(super) fn holds(&self, dir: &RelPath, entries: &[(Name, Found)]) {
        let mut stripped = self.stripped();
        if stripped.is_empty() {
            return;
        }
        let names: BTreeSet<&[u8]> = entries.iter().map(|(name, _)| name.as_bytes()).collect();
        stripped.retain(|known| match below(known, dir) {
            Some(rest) => {
                let first = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
                names.contains(first)
            }
            None => true,
        });
    }

    fn stripped(&self) -> MutexGuard<'_, BTreeSet<RelPath>> {
        self.0
            .stripped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_within(path: &RelPath, top: &RelPath) -> bool {
    path == top || below(path, top).is_some()
}

/// The part of a path below a directory.
fn below<'a>(path: &'a RelPath, dir: &RelPath) -> Option<&'a [u8]> {
    if dir.is_root() {
        return Some(path.as_bytes());
    }
    path.as_bytes()
        .strip_prefix(dir.as_bytes())?
        .strip_prefix(b"/")
}

#[cfg(test)]
mod tests {
    use super::SetIds;
    use crate::engine::source::{Found, FoundKind};
    use crate::index::Stat;
    use crate::model::{Mtime, Name, RelPath};

    fn found(mode: u32) -> Found {
        Found {
            kind: FoundKind::File { size: 0 },
            mode,
            mtime: Mtime { secs: 0, nanos: 0 },
            stat: Stat {
                inode: 1,
                birth: 0,
                ctime: 0,
                links: 1,
                mount: false,
            },
        }
    }

    #[test]
    fn bits_are_taken_away_and_listed_for_as_long_as_they_are_there() {
        let (dir, name) = (RelPath::new(b"a").unwrap(), Name::new(b"su").unwrap());
        let setids = SetIds::default();
        let look = |mode| {
            let mut found = found(mode);
            setids.entry(&dir, &name, &mut found);
            found.mode
        };
        assert_eq!(look(0o4755), 0o4755);
        setids.set_kept(false);
        assert_eq!((look(0o6755), look(0o1755)), (0o755, 0o1755));
        assert!(setids.list().is_empty());
        assert_eq!(look(0o2755), 0o755);
        assert_eq!(setids.list(), [dir.join(&name).unwrap()]);
        setids.holds(&dir, &[(name.clone(), found(0))]);
        setids.gone(&RelPath::new(b"a/s").unwrap());
        assert_eq!(setids.list().len(), 1);
        setids.holds(&dir, &[]);
        assert!(setids.list().is_empty());
        look(0o2755);
        setids.gone(&dir);
        assert!(setids.list().is_empty());
        look(0o2755);
        setids.set_kept(true);
        assert!(setids.list().is_empty());
        assert_eq!(look(0o4755), 0o4755);
    }
}
