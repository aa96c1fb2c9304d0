//! Where a directory is on this machine, so that a source and a mirror that lie in one another are noticed.
//!
//! A directory is named by a hash of the running system's id and of the directory's own device and inode: whoever has
//! the directory before him recognises it, under whatever path and user, and nobody else learns anything.

use crate::model::limits::MAX_ABOVE;
use rustix::fs::{AtFlags, StatxFlags};
use std::fs;
use std::path::{Path, PathBuf};

/// The kernel's id of this run of the system.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A directory and those that it lies in, from the inside out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Above(Vec<(PathBuf, String)>);

impl Above {
    /// Of a directory. Empty where the system does not say.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let named = || {
            let boot = fs::read(BOOT).ok()?;
            let real = directory.canonicalize().ok()?;
            let above = real.ancestors().take(MAX_ABOVE);
            above
                .map(|path| Some((path.to_owned(), name(&boot, path)?)))
                .collect::<Option<Vec<_>>>()
        };
        Self(named().unwrap_or_default())
    }

    /// The names, 32 hexadecimal digits each; the directory's own comes first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(_, name)| name.clone()).collect()
    }

    /// The directory of these that has a name.
    #[must_use]
    pub fn named(&self, wanted: &str) -> Option<&Path> {
        let found = self.0.iter().find(|(_, name)| name == wanted)?;
        Some(&found.0)
    }

    /// The directory itself.
    #[must_use]
    pub fn own(&self) -> Option<(&Path, &str)> {
        self.0.first().map(|(path, name)| (&**path, &**name))
    }
}

fn name(boot: &[u8], directory: &Path) -> Option<String> {
    let mask = StatxFlags::INO | StatxFlags::BTIME;
    let statx = rustix::fs::statx(rustix::fs::CWD, directory, AtFlags::empty(), mask).ok()?;
    let mut hasher = blake3::Hasher::new_derive_key("syncd: a directory of a running system");
    hasher.update(boot);
    for part in [statx.stx_dev_major, statx.stx_dev_minor] {
        hasher.update(&part.to_le_bytes());
    }
    hasher.update(&statx.stx_ino.to_le_bytes());
    hasher.update(&statx.stx_btime.tv_sec.to_le_bytes());
    hasher.update(&statx.stx_btime.tv_nsec.to_le_bytes());
    Some(hasher.finalize().to_hex().chars().take(32).collect())
}

/// A path without links, as far as it is there.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let Ok(real) = above.canonicalize() {
            return match path.strip_prefix(above) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::Above;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_is_known_by_itself_and_not_by_its_path() {
        let temp = tempfile::tempdir().unwrap();
        let inner = temp.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        symlink("a/b", temp.path().join("link")).unwrap();
        let above = Above::of(&inner);
        assert_eq!(above, Above::of(&temp.path().join("link")));
        let (_, outer) = (above.own().unwrap(), Above::of(temp.path()));
        let name = outer.own().unwrap().1;
        assert_eq!(above.named(name), outer.own().map(|(path, _)| path));
        assert_eq!(outer.named(above.own().unwrap().1), None);
        assert!(above.names().iter().all(|name| name.len() == 32));
        assert_eq!(Above::of(&temp.path().join("nothing")), Above::default());
        fs::rename(temp.path().join("a"), temp.path().join("c")).unwrap();
        let moved = Above::of(&temp.path().join("c/b"));
        assert_eq!(moved.names(), above.names());
    }
}
