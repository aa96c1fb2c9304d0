//! Packed rows. All numbers little-endian:
//!
//! ```text
//! check   u32        the first bytes of BLAKE3(node id u64 || all that follows)
//! version u8 = 1
//! kind    u8         1 directory, 2 file, 3 symbolic link; + 16 with a stat; + 32 where a file system was mounted
//! parent  u64
//! mode    u32        permission bits
//! mtime   i64, u32   seconds, nanoseconds
//! stat    u64, i64, i64, u32    inode, birth, ctime, links; only with a stat
//! file    u64, [32]  size, digest; only of a file
//! name    u16, bytes
//! target  u16, bytes; only of a symbolic link
//! ```
//!
//! The check is there because the database does not compare its own checksums when it reads: a flipped bit of a
//! digest would otherwise be believed.

use crate::index::{NodeId, Row, Stat};
use crate::model::limits::{MAX_NAME, MAX_TARGET};
use crate::model::{Digest, Entry, Kind, Mtime, PERMISSION_BITS};

const VERSION: u8 = 1;
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const WITH_STAT: u8 = 16;
const MOUNT: u8 = 32;
const CHECK: usize = 4;

/// Bytes that are no row of this version and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// Puts the packed row into `out`, replacing what is there.
pub(super) fn pack(id: u64, row: &Row, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; CHECK]);
    let kind = match row.entry.kind {
        Kind::Directory => DIRECTORY,
        Kind::File { .. } => FILE,
        Kind::Symlink { .. } => SYMLINK,
    };
    let with_stat = match row.stat {
        Some(Stat { mount: true, .. }) => WITH_STAT | MOUNT,
        Some(_) => WITH_STAT,
        None => 0,
    };
    out.extend_from_slice(&[VERSION, kind | with_stat]);
    out.extend_from_slice(&row.parent.0.to_le_bytes());
    out.extend_from_slice(&(row.entry.mode & PERMISSION_BITS).to_le_bytes());
    out.extend_from_slice(&row.entry.mtime.secs.to_le_bytes());
    out.extend_from_slice(&row.entry.mtime.nanos.to_le_bytes());
    if let Some(stat) = row.stat {
        out.extend_from_slice(&stat.inode.to_le_bytes());
        out.extend_from_slice(&stat.birth.to_le_bytes());
        out.extend_from_slice(&stat.ctime.to_le_bytes());
        out.extend_from_slice(&stat.links.to_le_bytes());
    }
    if let Kind::File { size, digest } = &row.entry.kind {
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&digest.0);
    }
    counted(&row.name, out);
    if let Kind::Symlink { target } = &row.entry.kind {
        counted(target, out);
    }
    let (check, rest) = out.split_at_mut(CHECK);
    check.copy_from_slice(&checked(id, rest));
}

/// The row that was packed under an id.
pub(super) fn unpack(id: u64, packed: &[u8]) -> Result<Row, Damaged> {
    let (check, rest) = packed.split_first_chunk::<CHECK>().ok_or(Damaged)?;
    if *check != checked(id, rest) {
        return Err(Damaged);
    }
    let mut reader = Reader(rest);
    let [version, kind] = reader.array()?;
    if version != VERSION {
        return Err(Damaged);
    }
    let parent = NodeId(u64::from_le_bytes(reader.array()?));
    let mode = u32::from_le_bytes(reader.array()?);
    let mtime = Mtime {
        secs: i64::from_le_bytes(reader.array()?),
        nanos: u32::from_le_bytes(reader.array()?),
    };
    if mode & !PERMISSION_BITS != 0 || mtime.nanos >= 1_000_000_000 {
        return Err(Damaged);
    }
    let stat = match kind & WITH_STAT {
        0 => None,
        _ => Some(Stat {
            inode: u64::from_le_bytes(reader.array()?),
            birth: i64::from_le_bytes(reader.array()?),
            ctime: i64::from_le_bytes(reader.array()?),
            links: u32::from_le_bytes(reader.array()?),
            mount: kind & MOUNT != 0,
        }),
    };
    let (kind, name) = match kind & !(WITH_STAT | MOUNT) {
        DIRECTORY => (Kind::Directory, reader.counted(MAX_NAME)?),
        FILE => {
            let size = u64::from_le_bytes(reader.array()?);
            let digest = Digest(reader.array()?);
            (Kind::File { size, digest }, reader.counted(MAX_NAME)?)
        }
        SYMLINK => {
            let name = reader.counted(MAX_NAME)?;
            let target = reader.counted(MAX_TARGET)?.into();
            (Kind::Symlink { target }, name)
        }
        _ => return Err(Damaged),
    };
    if !reader.0.is_empty() {
        return Err(Damaged);
    }
    Ok(Row {
        parent,
        name: name.into(),
        entry: Entry { kind, mode, mtime },
        stat,
    })
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn checked(id: u64, rest: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(rest);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*front)
    }

    fn counted(&mut self, most: usize) -> Result<&'a [u8], Damaged> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let (front, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        if length > most {
            return Err(Damaged);
        }
        self.0 = rest;
        Ok(front)
    }
}
