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

#[cfg(test)]
mod tests {
    use crate::delta::digest;
    use crate::engine::server::{Change, Group, Memory, Server, Source, Stager};
    use crate::engine::sim::{Dice, MemStaged, MemStore};
    use crate::index::Tree;
    use crate::model::{Fault, Mtime, RelPath};
    use crate::wire::Response;
    use bytes::Bytes;
    use std::sync::Arc;

    fn put(store: &MemStore, id: u64, name: &str) -> Group<MemStaged> {
        let content = Bytes::copy_from_slice(name.as_bytes());
        let change = Change::Put {
            path: RelPath::new(name.as_bytes()).unwrap(),
            mode: 0o644,
            mtime: Mtime { secs: 7, nanos: 0 },
            size: content.len() as u64,
            digest: digest(&content),
            source: Source::Inline(content),
        };
        let mut stager = Stager::new(Arc::new(store.clone()));
        stager.add((id, u64::MAX), vec![Ok(change)], &mut |_| None, &mut drop);
        stager.finish()
    }

    fn server(store: &MemStore) -> Server<MemStore> {
        let run = ("one".to_owned(), 0);
        let mut server = Server::new(Arc::new(store.clone()), Tree::new(), run, Memory::Partial);
        server.refresh();
        server.make_up().unwrap();
        server
    }

    fn told(answers: &[Vec<Response>]) -> Vec<(u64, usize)> {
        let told = |answer: &Response| match answer {
            Response::Applied { id, failed, .. } => (*id, failed.len()),
            other => panic!("{other:?}"),
        };
        answers.iter().flatten().map(told).collect()
    }

    #[test]
    fn several_groups_are_durable_after_one_settling() {
        let store = MemStore::default();
        let mut server = server(&store);
        let groups = [put(&store, 1, "a"), put(&store, 2, "b")];
        drop(store.take_calls());
        let brought = groups.map(|group| server.bring(group)).into();
        let answers = server.conclude_all(brought);
        assert_eq!(told(&answers), [(1, 0), (2, 0)]);
        let calls = store.take_calls();
        let settled = calls.iter().filter(|call| call.contains("settle")).count();
        assert_eq!(settled, 1, "{calls:?}");
        for seed in 0..20 {
            store.crash(&mut Dice(seed));
            assert_eq!(store.view().len(), 2);
        }
    }

    #[test]
    fn what_cannot_be_settled_fails_in_every_group_and_is_made_up_for() {
        let store = MemStore::default();
        let mut server = server(&store);
        let groups = [put(&store, 1, "a"), put(&store, 2, "b")];
        let brought = groups.map(|group| server.bring(group)).into();
        store.fail_in(1, Fault::Io);
        let answers = server.conclude_all(brought);
        assert_eq!(told(&answers), [(1, 1), (2, 1)]);
        server.make_up().unwrap();
        store.crash(&mut Dice(1));
        assert_eq!(store.view().len(), 2);
    }
}
