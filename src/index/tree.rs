//! The arena of nodes. A node knows its parent and name; a directory knows its children and their sum.
//!
//! Invariants: every node but the root is in its parent's `children` under its own name; a directory's `sum` is the
//! sum of the hashes of its children; the hash of a child directory covers that child's own sum, so two equal
//! root sums mean two equal trees.

use crate::model::{Entry, Kind, Mtime, Name, RelPath, Sum};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

mod node;
mod rows;

pub use node::{Node, NodeId, Stat};
pub use rows::Row;

/// A tree of entries.
#[derive(Debug)]
pub struct Tree {
    /// Boxed: a table of whole nodes is up to half empty, and twice there while it grows.
    nodes: HashMap<NodeId, Box<Node>>,
    next: u64,
    inodes: HashMap<u64, NodeId>,
    touched: BTreeSet<NodeId>,
}

const ROOT: NodeId = NodeId(0);

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty tree: a root directory alone.
    #[must_use]
    pub fn new() -> Self {
        let entry = Entry {
            kind: Kind::Directory,
            mode: 0o755,
            mtime: Mtime::default(),
        };
        let root = Node::new(ROOT, Arc::default(), entry);
        Self {
            nodes: HashMap::from([(ROOT, Box::new(root))]),
            next: 1,
            inodes: HashMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The root's id.
    #[must_use]
    pub fn root(&self) -> NodeId {
        ROOT
    }

    /// The sum of the whole tree. The root's own mode and time are not part of it.
    #[must_use]
    pub fn root_sum(&self) -> Sum {
        self.get(ROOT).map(Node::sum).unwrap_or_default()
    }

    /// How many nodes there are, the root not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether there is nothing but the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A node by its id.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// A child by its name.
    #[must_use]
    pub fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes.get(&dir)?.named(name)
    }

    /// A node by its path.
    #[must_use]
    pub fn lookup(&self, path: &RelPath) -> Option<NodeId> {
        path.components()
            .try_fold(ROOT, |dir, name| self.child(dir, name))
    }

    /// The path of a node, if the node exists and its path is within the limits.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = self.nodes.get(&at)?;
            names.push(&*node.name);
            at = node.parent;
        }
        names.reverse();
        RelPath::new(&names.join(&b'/')).ok()
    }

    /// Whether `id` is `dir` or lies below it.
    #[must_use]
    pub fn is_within(&self, id: NodeId, dir: NodeId) -> bool {
        let mut at = id;
        loop {
            if at == dir {
                return true;
            }
            match self.nodes.get(&at) {
                Some(node) if at != ROOT => at = node.parent,
                _ => return false,
            }
        }
    }

    /// The node that was last seen under an inode number.
    #[must_use]
    pub fn by_inode(&self, inode: u64) -> Option<NodeId> {
        self.inodes.get(&inode).copied()
    }

    /// Puts an entry under a name. A node that is there keeps its id and its children, unless one
    /// is a directory and the other is not: then it goes with its children. Nothing happens when `dir` is not a directory of the tree.
    pub fn put(
        &mut self,
        dir: NodeId,
        name: &Name,
        entry: Entry,
        stat: Option<Stat>,
    ) -> Option<NodeId> {
        if !self.nodes.get(&dir)?.entry.is_dir() {
            return None;
        }
        let mut there = self.child(dir, name.as_bytes());
        if let Some(id) = there
            && self
                .get(id)
                .is_some_and(|node| node.entry.is_dir() != entry.is_dir())
        {
            self.remove(id);
            there = None;
        }
        let id = match there {
            Some(id) => {
                self.change(id, |node| node.entry = entry);
                id
            }
            None => {
                let id = NodeId(self.next);
                self.next += 1;
                let name: Arc<[u8]> = name.as_bytes().into();
                let node = Node::new(dir, Arc::clone(&name), entry);
                let hash = node.hash();
                self.nodes.insert(id, Box::new(node));
                self.touched.insert(id);
                self.link(dir, name, id, hash);
                id
            }
        };
        self.set_stat(id, stat);
        Some(id)
    }

    /// Sets mode and time of a node.
    pub fn set_attributes(&mut self, id: NodeId, mode: u32, mtime: Mtime) {
        self.change(id, |node| {
            node.entry.mode = mode;
            node.entry.mtime = mtime;
        });
    }

    /// Remembers what the local disk said of a node.
    pub fn set_stat(&mut self, id: NodeId, stat: Option<Stat>) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.stat == stat {
            return;
        }
        if let Some(old) = node.stat
            && self.inodes.get(&old.inode) == Some(&id)
        {
            self.inodes.remove(&old.inode);
        }
        node.stat = stat;
        if let Some(new) = stat {
            self.inodes.insert(new.inode, id);
        }
        self.touched.insert(id);
    }

    /// Removes a node with everything below it; the root loses its children only.
    pub fn remove(&mut self, id: NodeId) {
        self.clear(id);
        if id == ROOT {
            return;
        }
        if self.unlink(id).is_some() {
            self.set_stat(id, None);
            self.nodes.remove(&id);
            self.touched.insert(id);
        }
    }

    /// Moves a node to a directory under a name, replacing what is there. Refused (`false`) when the directory is not
    /// one, or lies within the node.
    pub fn rename(&mut self, id: NodeId, dir: NodeId, name: &Name) -> bool {
        if id == ROOT
            || self.is_within(dir, id)
            || !self.get(dir).is_some_and(|node| node.entry.is_dir())
        {
            return false;
        }
        match self.child(dir, name.as_bytes()) {
            Some(there) if there == id => return true,
            Some(there) if self.is_within(id, there) => return false,
            Some(there) => self.remove(there),
            None => {}
        }
        if self.unlink(id).is_none() {
            return false;
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        let name: Arc<[u8]> = name.as_bytes().into();
        node.parent = dir;
        node.name = Arc::clone(&name);
        let hash = node.hash();
        self.touched.insert(id);
        self.link(dir, name, id, hash);
        true
    }

    /// Lets two nodes change places. Refused (`false`) when one lies within the other.
    pub fn exchange(&mut self, a: NodeId, b: NodeId) -> bool {
        if a == b || self.is_within(a, b) || self.is_within(b, a) {
            return false;
        }
        let Some((node_a, node_b)) = self.nodes.get(&a).zip(self.nodes.get(&b)) else {
            return false;
        };
        let place_a = (node_a.parent, node_a.name.clone());
        let place_b = (node_b.parent, node_b.name.clone());
        self.unlink(a);
        self.unlink(b);
        for (id, (dir, name)) in [(a, place_b), (b, place_a)] {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            node.parent = dir;
            node.name = Arc::clone(&name);
            let hash = node.hash();
            self.touched.insert(id);
            self.link(dir, name, id, hash);
        }
        true
    }

    fn clear(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let Some(inside) = &mut node.inside else {
            return;
        };
        let children = std::mem::take(&mut inside.children);
        let mut gone: Vec<NodeId> = children.into_values().collect();
        while let Some(child) = gone.pop() {
            self.set_stat(child, None);
            if let Some(node) = self.nodes.remove(&child) {
                gone.extend(node.children().map(|(_, id)| id));
            }
            self.touched.insert(child);
        }
        self.change(id, |node| node.inside = None);
    }

    fn unlink(&mut self, id: NodeId) -> Option<()> {
        let node = self.nodes.get(&id)?;
        let (hash, parent, name) = (node.hash(), node.parent, node.name.clone());
        let inside = self.nodes.get_mut(&parent)?.inside();
        inside.children.remove(&name)?;
        self.change(parent, |dir| dir.inside().sum.sub(hash));
        Some(())
    }

    fn link(&mut self, dir: NodeId, name: Arc<[u8]>, id: NodeId, hash: Sum) {
        if let Some(parent) = self.nodes.get_mut(&dir) {
            parent.inside().children.insert(name, id);
        }
        self.change(dir, |node| node.inside().sum.add(hash));
    }

    /// Changes what a node's hash covers, and carries the difference up to the root: the cost is the node's depth.
    fn change(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let mut old = node.hash();
        edit(node);
        let mut new = node.hash();
        self.touched.insert(id);
        let mut at = id;
        while at != ROOT && old != new {
            let Some(parent_id) = self.get(at).map(Node::parent) else {
                return;
            };
            let Some(parent) = self.nodes.get_mut(&parent_id) else {
                return;
            };
            let before = parent.hash();
            let sum = &mut parent.inside().sum;
            sum.sub(old);
            sum.add(new);
            (old, new) = (before, parent.hash());
            at = parent_id;
        }
    }
}

#[cfg(test)]
mod tests;
