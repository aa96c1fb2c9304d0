//! What is mounted below a directory, as the system's own table tells. Neither a mount nor its end is an event for who
//! watches directories.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;

/// The table of this process's mounts (`proc_pid_mountinfo(5)`).
const TABLE: &str = "/proc/self/mountinfo";
/// Columns before the one with the id, and before the path of a mount.
const PATH: usize = 4;

/// The mounts below one directory.
#[derive(Debug)]
pub struct Mounts {
    /// None where there is no such table.
    table: Option<File>,
    /// The id and the path of each, as the table has them.
    below: BTreeSet<Vec<u8>>,
}

impl Mounts {
    /// What is mounted below a directory now.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let mut mounts = Self {
            table: File::open(TABLE).ok(),
            below: BTreeSet::new(),
        };
        mounts.below = mounts.read(root).unwrap_or_default();
        mounts
    }

    /// Whether that has changed since this was asked last.
    pub fn changed(&mut self, root: &Path) -> bool {
        if !self.table.as_ref().is_some_and(is_marked) {
            return false;
        }
        let below = self.read(root).unwrap_or_default();
        let changed = below != self.below;
        self.below = below;
        changed
    }

    fn read(&mut self, root: &Path) -> Option<BTreeSet<Vec<u8>>> {
        let table = self.table.as_mut()?;
        let mut text = Vec::new();
        table.rewind().ok()?;
        table.read_to_end(&mut text).ok()?;
        let root = fs::canonicalize(root).ok()?;
        Some(mounts_below(&text, root.as_os_str().as_encoded_bytes()))
    }
}

/// Whether the system says that its table has changed.
fn is_marked(table: &File) -> bool {
    let mut fds = [PollFd::new(table, PollFlags::PRI)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&at_once)).is_ok_and(|count| count > 0)
}

/// The mounts of a table that are below a path.
fn mounts_below(table: &[u8], root: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut below = BTreeSet::new();
    for line in table.split(|byte| *byte == b'\n') {
        let mut columns = line.split(|byte| *byte == b' ');
        let (Some(id), Some(path)) = (columns.next(), columns.nth(PATH - 1)) else {
            continue;
        };
        let inside = unescaped(path);
        let rest = inside.strip_prefix(root);
        if rest.is_some_and(|rest| rest.starts_with(b"/")) {
            below.insert([id, b" ", path].concat());
        }
    }
    below
}

/// A path of the table: blanks, line ends and backslashes are `\` and three octal digits there.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((first, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::mounts_below;

    #[test]
    fn mounts_below_a_directory_are_found_whatever_their_names() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/a rw\n\
            36 22 0:33 / /home/a rw - tmpfs none rw\n\
            37 36 0:34 / /home/a/usb\\040stick rw - tmpfs none rw\n\
            38 36 0:35 / /home/ab rw - tmpfs none rw\n\
            damaged\n";
        let below = mounts_below(table, b"/home/a");
        assert_eq!(
            below.into_iter().collect::<Vec<_>>(),
            [b"37 /home/a/usb\\040stick"]
        );
        assert_eq!(mounts_below(table, b"/home/a/usb stick").len(), 0);
        assert_eq!(mounts_below(table, b"/home").len(), 3);
    }
}
