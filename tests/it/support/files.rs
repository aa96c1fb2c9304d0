//! Files of all kinds, and their times.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes a file and whatever directories it needs; gives its path.
pub fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Sets the permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Sets the modification time, of a link itself.
pub fn set_mtime(path: &Path, (tv_sec, tv_nsec): (i64, i64)) {
    let time = Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes a pipe.
pub fn mkfifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Bytes that do not compress or repeat, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines of a program, which pack to less than a tenth, the same for the same seed.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    const LINES: [&str; 4] = [
        "    let index = self.places.get(&path)?;\n",
        "    if value.is_none() {\n        return Err(error);\n    }\n",
        "    match self.take(length) {\n        Some(front) => front,\n    }\n",
        "}\n\nfn next(&mut self) -> Option<Item> {\n",
    ];
    let mut text = Vec::with_capacity(length + 16);
    for byte in noise(seed, length) {
        if text.len() >= length {
            break;
        }
        text.extend_from_slice(LINES[usize::from(byte % 4)].as_bytes());
    }
    text.truncate(length);
    text
}
