//! Room that is kept on the disk, so that on a full one what takes no room can still be done: removing a key writes, too.

use crate::host::clock;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The least that is kept, in bytes: some times what a small transaction writes.
const LEAST: u64 = 1024 * 1024;
/// The most, in bytes.
const MOST: u64 = 64 * 1024 * 1024;
/// One of so many bytes of the store is kept: what the database remembers of its pages grows with them.
const PART: u64 = 512;
/// How often it is halved at most where there is no room for all of it.
const PARTS: u32 = 5;
/// How long it is left alone after there was no room for it.
const RETRY: Duration = Duration::from_secs(1);

/// The room, in a file beside the store.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// Bytes that are kept; none when it is not known.
    kept: Option<u64>,
    /// When there was no room for it.
    refused: Option<Instant>,
}

impl Reserve {
    /// For the store at a path.
    pub(super) fn of(store: &Path) -> Self {
        let mut path = OsString::from(store);
        path.push(".reserve");
        Self {
            path: path.into(),
            kept: None,
            refused: None,
        }
    }

    /// Keeps as much as a store of this length needs, if there is room for it.
    pub(super) fn keep(&mut self, length: u64) {
        let wanted = (length / PART).clamp(LEAST, MOST);
        if self.kept.is_some_and(|kept| kept >= wanted / 2) {
            return;
        }
        let now = clock::monotonic();
        if self
            .refused
            .is_some_and(|at| now.saturating_duration_since(at) < RETRY)
        {
            return;
        }
        let there = fs::metadata(&self.path).map_or(0, |found| found.len());
        // On a disk that is nearly full as much as there is.
        let sizes = (0..PARTS).map(|halves| wanted >> halves);
        let kept = sizes
            .take_while(|size| *size > there)
            .find(|size| self.extend(*size).is_ok());
        self.kept = kept.or((there > 0).then_some(there));
        self.refused = kept.is_none().then_some(now).filter(|_| there < wanted);
        if self.kept.is_none() {
            drop(fs::remove_file(&self.path));
        }
    }

    fn extend(&self, wanted: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let mut file = std::os::unix::fs::OpenOptionsExt::mode(options, 0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, wanted) {
            Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(wanted), &mut file).map(drop),
            done => Ok(done?),
        }
    }

    /// Whether there is any.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Gives it up. Whether there was any.
    pub(super) fn give_up(&mut self) -> bool {
        (self.kept, self.refused) = (None, None);
        fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{LEAST, PART, Reserve};

    #[test]
    fn it_is_there_until_it_is_given_up_and_grows_with_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::of(&dir.path().join("store"));
        let bytes = || std::fs::metadata(dir.path().join("store.reserve")).map_or(0, |it| it.len());
        assert!(!reserve.give_up());
        reserve.keep(0);
        assert_eq!(bytes(), LEAST);
        reserve.keep(4 * LEAST * PART);
        assert_eq!(bytes(), 4 * LEAST);
        // One that was left by another run is used.
        Reserve::of(&dir.path().join("store")).keep(0);
        assert_eq!(bytes(), 4 * LEAST);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!(bytes(), 0);
    }
}
