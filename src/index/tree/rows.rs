//! A tree as rows, for whoever stores it.

use super::{Node, NodeId, ROOT, Stat, Tree};
use crate::model::{Entry, Name};
use std::collections::HashMap;
use std::sync::Arc;

/// A node as it is stored: everything but what follows from the other rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The directory that holds it.
    pub parent: NodeId,
    /// Its name.
    pub name: Box<[u8]>,
    /// What it is.
    pub entry: Entry,
    /// The local disk's view of it.
    pub stat: Option<Stat>,
}

impl Tree {
    /// The rows that changed since the last call: `None` for a node that is gone.
    pub fn take_touched(&mut self) -> Vec<(NodeId, Option<Row>)> {
        self.take_some_touched(usize::MAX)
    }

    /// The same, at most `limit` of them: the rest is given by the next calls.
    pub fn take_some_touched(&mut self, limit: usize) -> Vec<(NodeId, Option<Row>)> {
        let mut ids = std::mem::take(&mut self.touched);
        if let Some(first) = ids.iter().nth(limit).copied() {
            self.touched = ids.split_off(&first);
        }
        ids.into_iter().map(|id| (id, self.row(id))).collect()
    }

    /// Counts every row as changed: what was stored of them is lost.
    pub fn touch_all(&mut self) {
        self.touched.extend(self.nodes.keys());
    }

    /// Whether rows changed since they were taken last.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// A node as it is stored.
    #[must_use]
    pub fn row(&self, id: NodeId) -> Option<Row> {
        self.nodes.get(&id).map(|node| Row {
            parent: node.parent,
            name: (*node.name).into(),
            entry: node.entry.clone(),
            stat: node.stat,
        })
    }

    /// Builds a tree from stored rows. Rows that do not hang together (a missing or wrong parent, a cycle, a bad
    /// name, two of one name) are left out: the tree is a cache, and what is missing is found by comparison.
    #[must_use]
    pub fn from_rows(rows: impl IntoIterator<Item = (NodeId, Row)>) -> Self {
        let mut tree = Self::new();
        let mut below: HashMap<NodeId, Vec<(NodeId, Row)>> = HashMap::new();
        for (id, row) in rows {
            tree.next = tree.next.max(id.0.saturating_add(1));
            if id == ROOT {
                if row.entry.is_dir()
                    && let Some(root) = tree.nodes.get_mut(&ROOT)
                {
                    root.entry = row.entry;
                    root.stat = row.stat;
                }
            } else {
                below.entry(row.parent).or_default().push((id, row));
            }
        }
        let mut order = vec![ROOT];
        let mut at = 0;
        while let Some(dir) = order.get(at).copied() {
            at += 1;
            for (id, row) in below.remove(&dir).unwrap_or_default() {
                if tree.adopt(dir, id, row) {
                    order.push(id);
                }
            }
        }
        for id in order.iter().rev() {
            tree.sum_up(*id);
        }
        tree.touched.clear();
        tree
    }

    fn adopt(&mut self, dir: NodeId, id: NodeId, row: Row) -> bool {
        let Some(parent) = self.nodes.get_mut(&dir) else {
            return false;
        };
        if !parent.entry.is_dir()
            || Name::new(&row.name).is_err()
            || parent.named(&row.name).is_some()
        {
            return false;
        }
        let name: Arc<[u8]> = row.name.into();
        parent.inside().children.insert(Arc::clone(&name), id);
        if let Some(stat) = row.stat {
            self.inodes.insert(stat.inode, id);
        }
        let mut node = Node::new(dir, name, row.entry);
        node.stat = row.stat;
        self.nodes.insert(id, Box::new(node));
        true
    }

    /// Adds a node's hash, final once its own children were summed up, to its parent.
    fn sum_up(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let (hash, parent) = (node.hash(), node.parent);
        if id != ROOT
            && let Some(parent) = self.nodes.get_mut(&parent)
        {
            parent.inside().sum.add(hash);
        }
    }
}
