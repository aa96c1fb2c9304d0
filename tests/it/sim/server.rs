//! The server's side: the engine, and what the daemon does between it and the line.

use super::books::Books;
use super::pack;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use syncd::delta::{RecipeBuilder, pack_blocks};
use syncd::engine::ports::{Origin, Store, StoreError};
use syncd::engine::server::{
    Applied, Finished, Group, Growing, Look, Memory, Server, SetId, Stager, Sweep, SweepStep,
    decode,
};
use syncd::engine::sim::{Dice, MemStaged, MemStore, MemUpload};
use syncd::index::{NodeId, Row, Tree};
use syncd::model::Digest;
use syncd::wire::{BodyReader, Code, Failed, Frame, MINOR, Op, Request, Response};

/// What a session has in hand.
struct Session {
    stager: Stager<MemStore>,
    open: BTreeMap<u64, Growing<MemUpload>>,
    finished: BTreeMap<u64, Finished<MemStaged>>,
}

pub(super) struct Served {
    pub(super) store: MemStore,
    pub(super) server: Server<MemStore>,
    pub(super) books: Books,
    /// The session has to end.
    pub(super) refused: bool,
    session: Option<Session>,
    sweep: Option<Sweep>,
    committer: Committer,
    rows: BTreeMap<NodeId, Row>,
}

/// What is in view and not answered.
#[derive(Default)]
struct Committer {
    waiting: Option<Applied>,
    answers: Vec<Response>,
}

impl Committer {
    fn answer(&mut self, answers: Vec<Response>, store: &MemStore, books: &mut Books) {
        books.see(store);
        if store.is_dead() {
            return;
        }
        let whole = |answer: &Response| matches!(answer, Response::Applied { failed, .. } if failed.is_empty());
        if answers.iter().all(whole) && !answers.is_empty() {
            books.acknowledge(store);
        }
        self.answers.extend(answers);
    }

    fn conclude(
        &mut self,
        server: &mut Server<MemStore>,
        store: &MemStore,
        books: &mut Books,
    ) -> Result<(), StoreError> {
        let synced = store.sync_all();
        if let Some(applied) = self.waiting.take() {
            let answers = server.end(applied, &synced);
            self.answer(answers, store, books);
        }
        synced
    }

    fn commit(
        &mut self,
        server: &mut Server<MemStore>,
        store: &MemStore,
        books: &mut Books,
        group: Group<MemStaged>,
    ) {
        if group.synced {
            if self.waiting.is_some() {
                drop(self.conclude(server, store, books));
            }
            let answers = server.commit(group);
            self.answer(answers, store, books);
        } else {
            let synced = self.conclude(server, store, books);
            self.waiting = Some(server.begin(group, &synced));
            books.see(store);
        }
    }
}

impl Served {
    pub(super) fn new() -> Self {
        let store = MemStore::default();
        let server = Server::new(
            Arc::new(store.clone()),
            Tree::new(),
            ("one".to_owned(), 0),
            Memory::Partial,
        );
        Self {
            store,
            server,
            books: Books::default(),
            refused: false,
            session: None,
            sweep: None,
            committer: Committer::default(),
            rows: BTreeMap::new(),
        }
    }

    /// One step of the slow sweep. Whether it found anything that the writer had not done.
    pub(super) fn sweep(&mut self) -> bool {
        let mut sweep = match self.sweep.take() {
            Some(sweep) => sweep,
            None => self.server.begin_sweep(),
        };
        let (look, unread) = match self.server.sweep(&mut sweep) {
            SweepStep::Looked(look) => (look, Vec::new()),
            SweepStep::Unread(look, unread) => (look, unread),
            SweepStep::Busy => (Look::default(), Vec::new()),
            SweepStep::Over => return false,
        };
        sweep.read(&self.store, unread);
        self.sweep = Some(sweep);
        look.drift
    }

    /// Uploads that were begun and neither used nor given up.
    pub(super) fn uploads(&self) -> usize {
        let session = self.session.as_ref();
        session.map_or(0, |session| session.open.len() + session.finished.len())
    }

    /// A session begins, unless the machine stops meanwhile.
    pub(super) fn open(&mut self) -> Option<(Response, Vec<u8>)> {
        self.refused = false;
        self.session = Some(Session {
            stager: Stager::new(Arc::new(self.store.clone())),
            open: BTreeMap::new(),
            finished: BTreeMap::new(),
        });
        self.server.forget_session();
        self.server.refresh();
        // The daemon refuses a writer while this fails, and the writer comes again.
        while self.server.make_up().is_err() {
            if self.store.is_dead() {
                return None;
            }
            self.store.heal();
        }
        let welcome = Response::Welcome {
            minor: MINOR,
            share: "share".to_owned(),
            generation: self.server.generation().to_owned(),
            version: self.server.version(),
            first_contact: false,
            keeps_setid: None,
            above: Vec::new(),
        };
        let mut body = self.server.root_sum().to_bytes().to_vec();
        let leftovers = self.store.leftovers();
        leftovers.iter().for_each(|key| body.extend(key.0));
        Some((welcome, body))
    }

    /// The session ends; what was begun is made durable.
    pub(super) fn hang_up(&mut self) {
        self.flush();
        self.conclude();
        self.committer.answers.clear();
        self.session = None;
    }

    /// What is remembered of the tree; it may be older than the tree.
    pub(super) fn save(&mut self) {
        for (id, row) in self.server.tree_mut().take_touched() {
            match row {
                Some(row) => drop(self.rows.insert(id, row)),
                None => drop(self.rows.remove(&id)),
            }
        }
    }

    /// The machine stops and starts again.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.books.see(&self.store);
        self.session = None;
        self.sweep = None;
        self.committer = Committer::default();
        self.store.crash(dice);
        self.books.crashed(&self.store);
        if dice.one_in(2) {
            self.rows.clear();
        }
        let tree = Tree::from_rows(self.rows.clone());
        let store = Arc::new(self.store.clone());
        let run = ("next".to_owned(), self.server.version());
        self.server = Server::new(store, tree, run, Memory::Partial);
    }

    fn flush(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.stager.is_empty() {
            return;
        }
        let group = session.stager.finish();
        let number = group.number;
        self.committer
            .commit(&mut self.server, &self.store, &mut self.books, group);
        session.stager.committed(number);
    }

    fn conclude(&mut self) {
        if self.committer.waiting.is_some() {
            drop(
                self.committer
                    .conclude(&mut self.server, &self.store, &mut self.books),
            );
        }
    }

    fn send(&mut self, down: &mut VecDeque<Vec<u8>>) {
        for answer in self.committer.answers.drain(..) {
            down.push_back(pack(&answer, &[]));
        }
    }

    /// Nothing comes: what is gathered is committed. Whether there was anything.
    pub(super) fn rest(&mut self, down: &mut VecDeque<Vec<u8>>) -> bool {
        self.flush();
        self.conclude();
        let any = !self.committer.answers.is_empty();
        self.send(down);
        any
    }

    pub(super) fn take(&mut self, frame: &Frame, dice: &mut Dice, down: &mut VecDeque<Vec<u8>>) {
        let request: Request = serde_json::from_slice(&frame.header).unwrap();
        match request {
            Request::Mutate {
                id, based_on, ops, ..
            } => {
                self.mutate((id, based_on), &ops, &frame.body, dice);
            }
            Request::List { id, path, after } => {
                self.flush();
                self.conclude();
                let after = after.map(|name| name.bytes().unwrap());
                let path = path.path().unwrap();
                self.send(down);
                if self.server.make_up().is_err() {
                    self.refused = true;
                    return;
                }
                let listing = self.server.list(id, &path, after.as_deref());
                down.push_back(pack(&listing.response, &listing.body));
            }
            Request::Recipe {
                id,
                path,
                block,
                seed,
                leftover,
            } => {
                self.flush();
                let mut builder = RecipeBuilder::new(block, seed);
                let path = path.path().unwrap();
                let left = self.store.leftover(&path).filter(|_| leftover);
                let mut sink = |bytes: &[u8]| builder.update(bytes);
                let read = match left {
                    Some(left) => self.store.read_leftover(&path, left, &mut |bytes| {
                        sink(bytes);
                        true
                    }),
                    None if leftover => Err(StoreError::changed("nothing is left")),
                    None => self.store.read(&path, &mut sink).map(drop),
                };
                let mut body = Vec::new();
                let recipe = builder.finish();
                pack_blocks(recipe.blocks(), &mut body);
                let answer = Response::Recipe {
                    id,
                    size: recipe.size(),
                    last: true,
                    failed: read.err().map(|error| failure(&error)),
                    leftover: left.map(|left| left.mark),
                };
                self.send(down);
                down.push_back(pack(&answer, &body));
            }
            Request::Settled {} => {
                self.flush();
                self.server.set_keep(None);
            }
            Request::Hello { .. } | Request::Ping {} => panic!("not expected"),
            upload => self.upload(upload, frame, down),
        }
        self.send(down);
    }

    fn mutate(&mut self, message: (u64, u64), ops: &[Op], body: &Bytes, dice: &mut Dice) {
        let changes = decode(ops, body, SetId::Keep).unwrap();
        let Self {
            session,
            committer,
            server,
            store,
            books,
            ..
        } = self;
        let Session {
            stager, finished, ..
        } = session.as_mut().unwrap();
        stager.add(
            message,
            changes,
            &mut |id| finished.remove(&id),
            &mut |group| {
                committer.commit(server, store, books, group);
            },
        );
        if dice.one_in(2) {
            self.flush();
        }
        if dice.one_in(2) {
            self.conclude();
        }
    }

    fn upload(&mut self, request: Request, frame: &Frame, down: &mut VecDeque<Vec<u8>>) {
        if let Request::UploadOpen { base: Some(_), .. } = &request {
            self.flush();
        }
        let session = self.session.as_mut().unwrap();
        let done = match request {
            Request::UploadOpen {
                upload,
                base,
                path,
                leftover,
            } => {
                let base = base.map(|path| path.path().unwrap());
                let path = path.map(|path| path.path().unwrap());
                let origin = Origin {
                    base: base.as_ref(),
                    path: path.as_ref(),
                    leftover: leftover.map(|on| (on.mark, on.length)),
                };
                match self.store.open_upload(&origin) {
                    Ok(opened) => {
                        let twice = session.open.insert(upload, Growing::new(opened));
                        assert!(twice.is_none(), "an upload was opened twice");
                        None
                    }
                    Err(error) => Some((upload, Some(failure(&error)))),
                }
            }
            Request::UploadData { upload, .. } => {
                let piece = session.open.get_mut(&upload).map(|g| g.piece(&frame.body));
                match piece {
                    Some(Err(error)) => {
                        if let Some(growing) = session.open.remove(&upload) {
                            growing.discard();
                        }
                        let syncd::engine::server::UploadError::Store(error) = error else {
                            panic!("a malformed piece");
                        };
                        Some((upload, Some(failure(&error))))
                    }
                    _ => None,
                }
            }
            Request::UploadClose { upload, size } => {
                let digest = BodyReader::new(&frame.body).digest().unwrap();
                session.open.remove(&upload).map(|growing| {
                    let finished = close(&self.store, growing, size, digest);
                    let failed = finished.as_ref().err().map(failure);
                    if let Ok(finished) = finished {
                        session.finished.insert(upload, finished);
                    }
                    (upload, failed)
                })
            }
            Request::UploadAbort { upload } => {
                session.open.remove(&upload);
                session.finished.remove(&upload);
                None
            }
            other => panic!("{other:?}"),
        };
        if let Some((upload, failed)) = done
            && !self.store.is_dead()
        {
            down.push_back(pack(&Response::Staged { upload, failed }, &[]));
        }
    }
}

fn close(
    store: &MemStore,
    growing: Growing<MemUpload>,
    size: u64,
    digest: Digest,
) -> Result<Finished<MemStaged>, StoreError> {
    let staged = store.finish_upload(growing.close(size, (Some(digest), None))?.upload)?;
    Ok(Finished {
        staged,
        size,
        digest,
    })
}

fn failure(error: &StoreError) -> Failed {
    Failed {
        index: 0,
        code: Code::Fault(error.fault),
        message: error.message.clone(),
    }
}
