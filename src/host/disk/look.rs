//! Looking: `lstat`, names, contents. Nothing is followed and nothing blocks.

use crate::engine::ports::{Scanned, StoreError};
use crate::engine::source::{Found, FoundKind};
use crate::host::root::{Root, allowed, failed};
use crate::index::Stat;
use crate::model::limits::LEAF;
use crate::model::{Fault, Mtime, Name, PERMISSION_BITS, RelPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::ffi::CStr;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags, StatxTimestamp, statx};
use rustix::io::{Errno, Result, read as read_some};

/// How much of a file is read at a time, in bytes.
const PIECE: usize = 4 * LEAF;
/// So many directories are read by a thread of their own at least.
const WORTH_A_THREAD: usize = 8;

pub(super) fn lstat(root: &Root, path: &RelPath) -> std::result::Result<Option<Found>, StoreError> {
    let look = || {
        let (dir, name) = root.parent(path)?;
        allowed(dir.as_fd(), || found_at(dir.as_fd(), name.as_bytes()))
    };
    match look() {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("look at it", errno)),
    }
}

/// What a directory holds, or why that is not known.
type Names = std::result::Result<Vec<Scanned>, StoreError>;

/// Reads directories, many of them by two threads: the time goes into system calls.
pub(super) fn scan(root: &Root, paths: &[RelPath]) -> Vec<Names> {
    let each = |paths: &[RelPath]| -> Vec<Names> {
        let one = |path| scan_one(root, path).map_err(|errno| failed("read the directory", errno));
        paths.iter().map(one).collect()
    };
    let (front, back) = paths.split_at(paths.len() / 2);
    if front.len() < WORTH_A_THREAD {
        return each(paths);
    }
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("syncd-scan".to_owned());
        let other = worker.spawn_scoped(scope, || each(back));
        let mut found = each(front);
        found.extend(match other.map(|other| other.join()) {
            Ok(Ok(names)) => names,
            // There is no thread to be had, or it panicked: this one does the work.
            _ => each(back),
        });
        found
    })
}

fn scan_one(root: &Root, path: &RelPath) -> Result<Vec<Scanned>> {
    let dir = root.open_at(path, OFlags::DIRECTORY)?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let bytes = name.to_bytes();
        if matches!(bytes, b"." | b"..") || (path.is_root() && bytes == b".syncd") {
            continue;
        }
        let Ok(valid) = Name::new(bytes) else {
            continue;
        };
        match allowed(dir.as_fd(), || found_at(dir.as_fd(), name)) {
            Ok(what) => found.push((valid, Ok(what))),
            Err(Errno::NOENT) => {}
            Err(errno) => found.push((valid, Err(failed("look at it", errno)))),
        }
    }
    Ok(found)
}

/// What is under a name of a directory.
pub(super) fn found_at<P: rustix::path::Arg + Copy>(dir: BorrowedFd<'_>, name: P) -> Result<Found> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(
        dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )?;
    let mut found = found(&stat);
    if let FoundKind::Symlink { target } = &mut found.kind {
        let link = rustix::fs::readlinkat(dir, name, Vec::new())?;
        *target = link.into_bytes().into_boxed_slice();
    }
    Ok(found)
}

/// What an open file is.
pub(super) fn found_open(fd: BorrowedFd<'_>) -> Result<Found> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    statx(fd, c"", AtFlags::EMPTY_PATH, mask).map(|stat| found(&stat))
}

fn found(stat: &Statx) -> Found {
    let mode = u32::from(stat.stx_mode);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => FoundKind::Directory,
        FileType::RegularFile => FoundKind::File {
            size: stat.stx_size,
        },
        FileType::Symlink => FoundKind::Symlink {
            target: Box::default(),
        },
        FileType::Fifo => FoundKind::Special("a pipe"),
        FileType::Socket => FoundKind::Special("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => FoundKind::Special("a device"),
        _ => FoundKind::Special("of an unknown kind"),
    };
    let is_link = matches!(kind, FoundKind::Symlink { .. });
    Found {
        kind,
        mode: if is_link { 0 } else { mode & PERMISSION_BITS },
        mtime: Mtime {
            secs: stat.stx_mtime.tv_sec,
            nanos: stat.stx_mtime.tv_nsec,
        },
        stat: Stat {
            inode: stat.stx_ino,
            birth: if stat.stx_mask & StatxFlags::BTIME.bits() == 0 {
                0
            } else {
                nanoseconds(&stat.stx_btime)
            },
            ctime: nanoseconds(&stat.stx_ctime),
            links: stat.stx_nlink,
            // Nothing is concluded from that where the mirror is.
            mount: false,
        },
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec.into())
}

/// Opens a regular file for reading, and nothing else: a pipe would block, a device could do anything.
pub(super) fn open_regular(
    root: &Root,
    path: &RelPath,
) -> std::result::Result<(OwnedFd, Found), StoreError> {
    let open = || {
        let file = root.open_at(path, OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let found = found_open(file.as_fd())?;
        Ok((file, found))
    };
    let (file, found) = open().map_err(|errno| match errno {
        // What a socket or a device without a driver says when it is opened.
        Errno::NXIO | Errno::NODEV => StoreError::changed("it is not a regular file"),
        errno => failed("open it", errno),
    })?;
    if matches!(found.kind, FoundKind::File { .. }) {
        Ok((file, found))
    } else {
        Err(StoreError::changed("it is not a regular file"))
    }
}

pub(super) fn read(
    root: &Root,
    path: &RelPath,
    sink: &mut dyn FnMut(&[u8]),
) -> std::result::Result<Found, StoreError> {
    let (file, before) = open_regular(root, path)?;
    let mut piece = vec![0u8; piece_size(&before)];
    loop {
        match read_some(&file, &mut *piece) {
            Ok(0) => break,
            Ok(count) => sink(piece.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("read it", errno)),
        }
    }
    unchanged(file.as_fd(), &before)?;
    Ok(before)
}

/// A buffer as large as is of use for a file.
pub(super) fn piece_size(found: &Found) -> usize {
    let size = match found.kind {
        FoundKind::File { size } => usize::try_from(size).unwrap_or(PIECE),
        _ => PIECE,
    };
    size.saturating_add(1).min(PIECE)
}

/// Checks that an open file is still what it was.
pub(super) fn unchanged(
    file: BorrowedFd<'_>,
    before: &Found,
) -> std::result::Result<(), StoreError> {
    let after = found_open(file).map_err(|errno| failed("look at it", errno))?;
    let same = after.kind == before.kind
        && after.mtime == before.mtime
        && after.stat.ctime == before.stat.ctime;
    if same {
        Ok(())
    } else {
        Err(StoreError::new(
            Fault::Changed,
            "it changed while it was read",
        ))
    }
}

/// The name of an open directory's entry as the system takes it.
pub(super) fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
