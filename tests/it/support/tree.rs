//! Snapshots of trees, by bytes of names, and their differences.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use syncd::model::escape;

/// What a path holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file with its bytes.
    File(Vec<u8>),
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// Anything else.
    Other,
}

/// What a path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it holds.
    pub content: Content,
    /// Permission bits; 0 for a symbolic link.
    pub mode: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
}

/// Every path below a root but `.syncd` at its top, which is the program's own.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// Reads a tree. What vanishes meanwhile is left out.
pub fn snapshot(root: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(root, &[], &mut tree);
    tree
}

fn walk(root: &Path, below: &[u8], tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(root.join(OsStr::from_bytes(below))) else {
        return;
    };
    for name in entries.filter_map(|entry| Some(entry.ok()?.file_name().into_vec())) {
        if below.is_empty() && name == b".syncd" {
            continue;
        }
        let mut path = below.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let Some(entry) = entry(&root.join(OsStr::from_bytes(&path))) else {
            continue;
        };
        let descend = entry.content == Content::Directory;
        tree.insert(path.clone(), entry);
        if descend {
            walk(root, &path, tree);
        }
    }
}

fn entry(path: &Path) -> Option<Entry> {
    let stat = fs::symlink_metadata(path).ok()?;
    let content = if stat.is_dir() {
        Content::Directory
    } else if stat.is_symlink() {
        Content::Symlink(fs::read_link(path).ok()?.into_os_string().into_vec())
    } else if stat.is_file() {
        Content::File(fs::read(path).ok()?)
    } else {
        Content::Other
    };
    Some(Entry {
        mode: if stat.is_symlink() {
            0
        } else {
            stat.mode() & 0o7777
        },
        mtime: (stat.mtime(), stat.mtime_nsec()),
        content,
    })
}

/// What is mirrored of a tree: pipes, sockets and devices are not.
pub fn mirrored(mut tree: Tree) -> Tree {
    tree.retain(|_, entry| entry.content != Content::Other);
    tree
}

/// One line for each path that differs; empty when the trees are equal.
pub fn diff(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in expected {
        match found.get(path) {
            None => lines.push(format!("{}: missing", escape(path))),
            Some(other) if other == entry => {}
            Some(other) => lines.push(format!(
                "{}: expected {}, found {}",
                escape(path),
                brief(entry),
                brief(other)
            )),
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path));
    lines.extend(extra.map(|path| format!("{}: extra", escape(path))));
    lines
}

fn brief(entry: &Entry) -> String {
    let content = match &entry.content {
        Content::Directory => "directory".to_owned(),
        Content::File(bytes) if bytes.len() <= 40 => format!("file `{}`", escape(bytes)),
        Content::File(bytes) => format!("file of {} bytes", bytes.len()),
        Content::Symlink(target) => format!("link to `{}`", escape(target)),
        Content::Other => "neither file, directory nor link".to_owned(),
    };
    let (secs, nanos) = entry.mtime;
    format!("{content} {:o} {secs}.{nanos:09}", entry.mode)
}

/// The differences between a source and its mirror.
pub fn differences(source: &Path, mirror: &Path) -> Vec<String> {
    diff(&mirrored(snapshot(source)), &snapshot(mirror))
}

/// Waits until the mirror is equal to the source.
pub fn assert_converges(source: &Path, mirror: &Path) {
    let equal = super::wait::until(super::wait::PATIENCE, || {
        differences(source, mirror).is_empty()
    });
    let left = if equal {
        Vec::new()
    } else {
        differences(source, mirror)
    };
    assert!(left.is_empty(), "the mirror differs:\n{}", left.join("\n"));
}
