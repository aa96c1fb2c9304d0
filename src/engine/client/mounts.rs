//! File systems that are mounted inside the source: what is on one is not deleted because it is not mounted.
//!
//! That something was mounted on a directory is remembered with the directory, across restarts, until it is mounted again or
//! a person says that what was on it may go. By then what is missing there is held ([`Hold::Inside`]).
//!
//! [`Hold::Inside`]: crate::engine::brake::Hold::Inside

use super::ClientEngine;
use crate::index::{NodeId, Stat};

impl ClientEngine {
    /// A directory of the mirror was found, and `stat` is kept of it. Whether a file system was mounted there, and is not:
    /// that is remembered until a person says that what was on it may go.
    pub(super) fn found_directory(&mut self, dir: NodeId, stat: Stat) -> bool {
        let before = self.view.get(dir).and_then(|node| node.stat);
        let was = before.is_some_and(|stat| stat.mount);
        let mount = was || stat.mount;
        self.view.set_stat(dir, Some(Stat { mount, ..stat }));
        let unmounted = was && !stat.mount;
        if unmounted {
            self.unmounted.insert(dir);
        } else {
            self.unmounted.remove(&dir);
        }
        unmounted
    }

    /// Whether something is missing that may be in a file system which is not mounted now.
    pub(super) fn lacks_mounted(&self) -> bool {
        self.guard.missing().any(|key| {
            let id = self.view.child(key.dir, key.name.as_bytes());
            self.is_unmounted(key.dir) || id.is_some_and(|id| self.has_mount(id))
        })
    }

    /// Whether a directory is one on which something was mounted that is not now, or below one.
    fn is_unmounted(&self, dir: NodeId) -> bool {
        let mut at = Some(dir).filter(|_| !self.unmounted.is_empty());
        while let Some(id) = at {
            if self.unmounted.contains(&id) {
                return true;
            }
            at = self.key_of(id).map(|key| key.dir);
        }
        false
    }

    /// Whether a file system was mounted on an entry of the mirror, or below it. A directory on which one is cannot be
    /// removed or renamed: when it goes, the file system went before, and nobody knows what has become of what is on it.
    pub(super) fn has_mount(&self, top: NodeId) -> bool {
        let mut todo = vec![top];
        while let Some(node) = todo.pop().and_then(|id| self.view.get(id)) {
            if node.stat.is_some_and(|stat| stat.mount) {
                return true;
            }
            let below = node.children().map(|(_, child)| child);
            todo.extend(below.filter(|id| self.view.get(*id).is_some_and(|n| n.entry.is_dir())));
        }
        false
    }

    /// What was mounted is to go: a person said so.
    pub(super) fn forget_mounts(&mut self) {
        let missing = self.guard.missing();
        let missing = missing.filter_map(|key| self.view.child(key.dir, key.name.as_bytes()));
        let mut todo: Vec<NodeId> = missing.chain(self.unmounted.drain()).collect();
        while let Some(id) = todo.pop() {
            let Some(node) = self.view.get(id).filter(|node| node.entry.is_dir()) else {
                continue;
            };
            todo.extend(node.children().map(|(_, child)| child));
            if let Some(stat) = node.stat.filter(|stat| stat.mount) {
                let stat = Stat {
                    mount: false,
                    ..stat
                };
                self.view.set_stat(id, Some(stat));
            }
        }
    }
}
