//! Groups of several who do not know of each other: each comes into view by itself, and all are made durable at once.

use super::{Applied, Group, Server, Touched};
use crate::engine::ports::Store;
use crate::wire::Response;

impl<S: Store> Server<S> {
    /// Brings a group into view whose contents are durable, as far as `synced` of it says so. It is not durable in its place
    /// before [`Server::conclude_all`], which is to follow before anybody else learns of it.
    pub fn bring(&mut self, mut group: Group<S::Staged>) -> Applied {
        if !group.synced {
            let synced = self.store.sync_all();
            self.note_synced(&mut group, &synced);
        }
        let mut applied = self.apply_all(group);
        // The next group may look at these directories: it finds their times as they are in the tree.
        applied.restored = self.store.restore(&self.directories(&applied.touched));
        applied
    }

    /// Makes everything durable that was brought into view. The answers of each group.
    pub fn conclude_all(&mut self, all: Vec<Applied>) -> Vec<Vec<Response>> {
        let mut touched = Touched::default();
        for applied in &all {
            touched.dirs.extend(&applied.touched.dirs);
            touched.files.extend(&applied.touched.files);
        }
        let settled = self.settle(&mut touched);
        let conclude = |applied| self.conclude(applied, &settled);
        all.into_iter().map(conclude).collect()
    }
}
