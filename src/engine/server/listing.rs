//! Listings of one directory, in bounded batches.

use super::Server;
use crate::engine::ports::Store;
use crate::index::Node;
use crate::model::limits::{MAX_HEADER, MAX_LISTING};
use crate::model::{Entry, Kind, RelPath};
use crate::wire::{ListEntry, ListKind, Response, WireBytes};

/// A `listing` message and its body.
#[derive(Debug)]
pub struct Listing {
    /// The message.
    pub response: Response,
    /// 32 bytes for each entry.
    pub body: Vec<u8>,
}

/// What an entry takes in a header at most, beside its names, in bytes.
const ENTRY_OVERHEAD: usize = 192;
/// What a byte of a name takes in a header at most: JSON writes some as `\u0001`.
const ESCAPED: usize = 6;

impl<S: Store> Server<S> {
    /// What a directory holds after a name, as far as one message has room.
    #[must_use]
    pub fn list(&self, id: u64, path: &RelPath, after: Option<&[u8]>) -> Listing {
        let dir = self
            .tree
            .lookup(path)
            .and_then(|id| self.tree.get(id))
            .filter(|node| node.entry.is_dir());
        let mut entries = Vec::new();
        let mut body = Vec::new();
        let mut more = None;
        // No name is empty, so all names come after the empty one.
        let children = dir
            .into_iter()
            .flat_map(|node| node.children_after(after.unwrap_or_default()));
        let mut room = MAX_HEADER as usize - 1024;
        let mut last: &[u8] = &[];
        for (name, child) in children {
            let Some(node) = self.tree.get(child) else {
                continue;
            };
            let size = header_size(name, node);
            if entries.len() == MAX_LISTING || size > room {
                more = Some(WireBytes::new(last));
                break;
            }
            room -= size;
            last = name;
            entries.push(entry(name, node, &mut body));
        }
        Listing {
            response: Response::Listing {
                id,
                entries,
                more,
                found: dir.is_some(),
            },
            body,
        }
    }
}

fn header_size(name: &[u8], node: &Node) -> usize {
    room_of(name, &node.entry)
}

/// What an entry takes in a header at most, in bytes.
pub(super) fn room_of(name: &[u8], entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink { target } => target.len(),
        _ => 0,
    };
    ENTRY_OVERHEAD + ESCAPED * (name.len() + target)
}

fn entry(name: &[u8], node: &Node, body: &mut Vec<u8>) -> ListEntry {
    list_entry(name, &node.entry, node.sum().to_bytes(), body)
}

/// An entry as the wire has it; `sum` is what the body says of a directory.
pub(super) fn list_entry(
    name: &[u8],
    entry: &Entry,
    sum: [u8; 32],
    body: &mut Vec<u8>,
) -> ListEntry {
    let kind = match &entry.kind {
        Kind::Directory => {
            body.extend_from_slice(&sum);
            ListKind::Directory {}
        }
        Kind::File { size, digest } => {
            body.extend_from_slice(&digest.0);
            ListKind::File { size: *size }
        }
        Kind::Symlink { target } => {
            body.extend_from_slice(&[0; 32]);
            ListKind::Symlink {
                target: WireBytes::new(target),
            }
        }
    };
    ListEntry {
        name: WireBytes::new(name),
        mode: entry.mode,
        mtime: entry.mtime.into(),
        kind,
    }
}
