//! Emptying private directories: the stage at the start, the trash and what was kept too long in the background.

use super::commit::{Spot, shift};
use super::{DiskStore, READ_DIR, look};
use crate::host::random;
use crate::host::root::Loosened;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, openat, unlinkat};
use rustix::io::{Errno, Result};
use std::time::{Duration, SystemTime};

/// How long what was kept aside stays, from the first contact on that it was kept in.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// So many folders of kept things are named.
const NAMED: usize = 10;

impl DiskStore {
    /// The folders below `.syncd/kept` whose names are times, the newest first; at most ten.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let entries = Dir::read_from(&*self.kept).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names
            .filter(|name| humantime::parse_rfc3339(name).is_ok())
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.truncate(NAMED);
        names
    }
}

/// Moves what was kept too long to the trash. Folders whose names are no times are somebody's own.
pub(super) fn expire(kept: BorrowedFd<'_>, trash: BorrowedFd<'_>, now: SystemTime) -> Result<()> {
    let mut old = Vec::new();
    for entry in Dir::read_from(kept)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let since = str::from_utf8(name).ok();
        let since = since.and_then(|text| humantime::parse_rfc3339(text).ok());
        let age = since.and_then(|since| now.duration_since(since).ok());
        if age.is_some_and(|age| age >= KEPT_FOR) {
            old.push(name.to_vec());
        }
    }
    for name in old {
        let fresh = random::hex::<8>().map_err(|_| Errno::IO)?;
        let from = Spot {
            dir: kept,
            name: &name,
        };
        let to = Spot {
            dir: trash,
            name: fresh.as_bytes(),
        };
        shift(from, to, RenameFlags::empty())?;
    }
    Ok(())
}

/// Removes everything in a private directory.
pub(super) fn empty(top: BorrowedFd<'_>) -> Result<()> {
    empty_but(top, |_| false)
}

/// Removes everything in a private directory but what has one of some names. A tree of any depth costs two descriptors: a directory that is not
/// empty is first moved up.
pub(super) fn empty_but(top: BorrowedFd<'_>, stays: impl Fn(&[u8]) -> bool) -> Result<()> {
    let prefix = random::hex::<4>().map_err(|_| Errno::IO)?;
    let mut number = 0u64;
    loop {
        let mut more = false;
        for entry in Dir::read_from(top)? {
            let entry = entry?;
            let name = entry.file_name();
            if look::is_dots(name) || stays(name.to_bytes()) {
                continue;
            }
            match unlinkat(top, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
            more = true;
            hollow(top, name.to_bytes(), &mut || {
                number += 1;
                format!("{prefix}d{number:x}")
            })?;
        }
        if !more {
            return Ok(());
        }
    }
}

/// Removes a directory after its files were removed and its directories moved to `top`.
fn hollow(top: BorrowedFd<'_>, name: &[u8], fresh: &mut dyn FnMut() -> String) -> Result<()> {
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let bare = openat(top, name, flags, Mode::empty())?;
    let _loose = Loosened::new(bare.as_fd());
    let dir = openat(top, name, READ_DIR, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let inner = entry.file_name();
        if look::is_dots(inner) {
            continue;
        }
        match unlinkat(&dir, inner, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        match unlinkat(&dir, inner, AtFlags::REMOVEDIR) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let up = fresh();
                let from = Spot {
                    dir: dir.as_fd(),
                    name: inner.to_bytes(),
                };
                let to = Spot {
                    dir: top,
                    name: up.as_bytes(),
                };
                shift(from, to, RenameFlags::empty())?;
            }
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(top, name, AtFlags::REMOVEDIR)
}
