//! One entry of the tree.

use crate::model::{Entry, Kind, Sum};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The id of a node: stable for the node's life, also across renames. Ids are not reused within a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u64);

/// What `lstat` said of a path on the local disk: how a change is noticed without reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Inode number.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970, 0 where the file system has none: tells a reused inode number apart.
    pub birth: i64,
    /// Status change time in nanoseconds since 1970.
    pub ctime: i64,
    /// Number of names (hard links).
    pub links: u32,
    /// Whether another file system is mounted here. Of a directory in a mirror: whether one was.
    pub mount: bool,
}

/// One entry of the tree. Most are files: what only a directory has lies apart.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) parent: NodeId,
    /// Shared with the parent's `children`.
    pub(super) name: Arc<[u8]>,
    /// What it is.
    pub entry: Entry,
    /// The local disk's view of it; `None` when it has to be looked at again.
    pub stat: Option<Stat>,
    /// None for a directory that was always empty, too.
    pub(super) inside: Option<Box<Inside>>,
}

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    pub(super) children: BTreeMap<Arc<[u8]>, NodeId>,
    pub(super) sum: Sum,
}

impl Node {
    pub(super) fn new(parent: NodeId, name: Arc<[u8]>, entry: Entry) -> Self {
        Self {
            parent,
            name,
            entry,
            stat: None,
            inside: None,
        }
    }

    pub(super) fn inside(&mut self) -> &mut Inside {
        self.inside.get_or_insert_default()
    }

    pub(super) fn named(&self, name: &[u8]) -> Option<NodeId> {
        self.inside.as_ref()?.children.get(name).copied()
    }

    /// The id of the directory that holds it; its own for the root.
    #[must_use]
    pub fn parent(&self) -> NodeId {
        self.parent
    }

    /// Its name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The sum over its children; zero for what is not a directory.
    #[must_use]
    pub fn sum(&self) -> Sum {
        self.inside
            .as_ref()
            .map(|inside| inside.sum)
            .unwrap_or_default()
    }

    /// Its children in the order of their names.
    pub fn children(&self) -> impl Iterator<Item = (&[u8], NodeId)> {
        let inside = self.inside.iter().flat_map(|inside| &inside.children);
        inside.map(|(name, id)| (&**name, *id))
    }

    /// Its children whose names come after `after`.
    pub fn children_after(&self, after: &[u8]) -> impl Iterator<Item = (&[u8], NodeId)> {
        use std::ops::Bound;
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let inside = self.inside.iter();
        let children = inside.flat_map(move |inside| inside.children.range::<[u8], _>(range));
        children.map(|(name, id)| (&**name, *id))
    }

    /// How many children it has.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.inside
            .as_ref()
            .map_or(0, |inside| inside.children.len())
    }

    pub(super) fn hash(&self) -> Sum {
        let mut hasher = blake3::Hasher::new();
        let mut number = |value: u64| {
            hasher.update(&value.to_le_bytes());
        };
        number(self.name.len() as u64);
        number(u64::from(self.entry.mode));
        number(self.entry.mtime.secs.cast_unsigned());
        number(u64::from(self.entry.mtime.nanos));
        match &self.entry.kind {
            Kind::Directory => {
                number(1);
                hasher.update(&self.sum().to_bytes());
            }
            Kind::File { size, digest } => {
                number(2);
                number(*size);
                hasher.update(&digest.0);
            }
            Kind::Symlink { target } => {
                number(3);
                hasher.update(target);
            }
        }
        hasher.update(&self.name);
        Sum::of(*hasher.finalize().as_bytes())
    }
}
