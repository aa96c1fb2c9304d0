//! The client's engine against a source in memory and a naive server: a map from paths to entries that checks each
//! operation's preconditions. Random changes, lost events and cut lines; in the end both must be equal.

use super::{ClientEngine, Output, ReadOutcome, Settings, UploadJob, Welcome};
use crate::debounce::Hint;
use crate::delta::digest;
use crate::engine::source::{Found, FoundKind, Place, Source, SourceError};
use crate::index::{NodeId, Stat, Tree};
use crate::model::{Digest, Entry, Fault, Kind, Mtime, Name, RelPath};
use crate::wire::{
    BodyReader, BodyWriter, Code, Content, Failed, ListEntry, ListKind, Op, Request, Response,
    WireBytes,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Inode {
    Dir(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Link(Vec<u8>),
    Pipe,
}

#[derive(Clone, Debug)]
struct Meta {
    inode: Inode,
    mode: u32,
    mtime: i64,
    ctime: i64,
    links: u32,
}

type Act = fn(&mut MemSource);

/// A source tree in memory, with the events that a watcher would give.
#[derive(Debug)]
struct MemSource {
    inodes: HashMap<u64, Meta>,
    watched: HashMap<u64, NodeId>,
    events: VecDeque<(NodeId, Name, Hint)>,
    inside: VecDeque<NodeId>,
    next: u64,
    clock: i64,
    /// Names that nobody has looked at since they were made.
    fresh: HashSet<(u64, Vec<u8>)>,
    /// Those of them through which a file was changed.
    hidden: HashSet<(u64, Vec<u8>)>,
    /// A file with several names was changed through a name that came and went before anybody looked. As with inotify,
    /// no event tells of its other names: the next scan finds it.
    blind: bool,
    /// What somebody does right after this name was looked at.
    race: Option<(&'static [u8], Act)>,
    /// How many directories can be watched.
    watches: usize,
}

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

impl MemSource {
    fn new() -> Self {
        let root = Meta {
            inode: Inode::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            links: 1,
        };
        Self {
            inodes: HashMap::from([(1, root)]),
            watched: HashMap::new(),
            events: VecDeque::new(),
            inside: VecDeque::new(),
            next: 2,
            clock: 1,
            fresh: HashSet::new(),
            hidden: HashSet::new(),
            blind: false,
            race: None,
            watches: usize::MAX,
        }
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    fn dir(&mut self, inode: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        match &mut self.inodes.get_mut(&inode).unwrap().inode {
            Inode::Dir(children) => children,
            _ => panic!("no directory"),
        }
    }

    fn dirs(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .inodes
            .iter()
            .filter(|(_, m)| matches!(m.inode, Inode::Dir(_)))
            .map(|(id, _)| *id)
            .collect();
        all.sort_unstable();
        all
    }

    /// Every name: its directory's inode, the name, its inode.
    fn names(&self) -> Vec<(u64, Vec<u8>, u64)> {
        let mut all = Vec::new();
        for dir in self.dirs() {
            if let Inode::Dir(children) = &self.inodes[&dir].inode {
                all.extend(children.iter().map(|(n, i)| (dir, n.clone(), *i)));
            }
        }
        all
    }

    fn event(&mut self, dir: u64, entry: &[u8], hint: Hint) {
        if let Some(node) = self.watched.get(&dir) {
            self.events.push_back((*node, name(entry), hint));
            if matches!(hint, Hint::Gone | Hint::Settled | Hint::Made) {
                self.inside.push_back(*node);
            }
        }
    }

    fn changed(&mut self, dir: u64, entry: &[u8]) {
        let at = (dir, entry.to_vec());
        if self.fresh.contains(&at) {
            self.hidden.insert(at);
        }
    }

    fn looked_at(&mut self, dir: u64, entry: &[u8]) {
        let at = (dir, entry.to_vec());
        self.fresh.remove(&at);
        self.hidden.remove(&at);
    }

    /// A name went; whether its file has others.
    fn vanished(&mut self, dir: u64, entry: &[u8], others: bool) {
        let at = (dir, entry.to_vec());
        self.fresh.remove(&at);
        self.blind |= self.hidden.remove(&at) && others;
    }

    fn touch(&mut self, inode: u64, content: bool) {
        let now = self.tick();
        let meta = self.inodes.get_mut(&inode).unwrap();
        meta.ctime = now;
        if content {
            meta.mtime = now;
        }
    }

    fn make(&mut self, dir: u64, entry: &[u8], inode: Inode) {
        if self.dir(dir).contains_key(entry) {
            return;
        }
        let (id, now) = (self.next, self.tick());
        self.next += 1;
        let hint = if matches!(inode, Inode::File(_)) {
            Hint::Settled
        } else {
            Hint::Made
        };
        self.inodes.insert(
            id,
            Meta {
                inode,
                mode: 0o644,
                mtime: now,
                ctime: now,
                links: 1,
            },
        );
        self.dir(dir).insert(entry.to_vec(), id);
        self.fresh.insert((dir, entry.to_vec()));
        self.touch(dir, true);
        self.event(dir, entry, hint);
    }

    fn unlink(&mut self, dir: u64, entry: &[u8]) {
        let Some(id) = self.dir(dir).get(entry).copied() else {
            return;
        };
        if let Inode::Dir(children) = &self.inodes[&id].inode {
            for child in children.keys().cloned().collect::<Vec<_>>() {
                self.unlink(id, &child);
            }
        }
        self.dir(dir).remove(entry);
        let meta = self.inodes.get_mut(&id).unwrap();
        meta.links -= 1;
        let others = meta.links > 0;
        self.vanished(dir, entry, others);
        if !others {
            self.inodes.remove(&id);
            self.watched.remove(&id);
        } else {
            self.touch(id, false);
        }
        self.touch(dir, true);
        self.event(dir, entry, Hint::Gone);
    }

    fn within(&self, inode: u64, above: u64) -> bool {
        if inode == above {
            return true;
        }
        match &self.inodes[&above].inode {
            Inode::Dir(children) => children.values().any(|child| self.within(inode, *child)),
            _ => false,
        }
    }

    fn rename(&mut self, from: u64, old: &[u8], to: u64, new: &[u8]) {
        let Some(id) = self.dir(from).get(old).copied() else {
            return;
        };
        if self.within(to, id) || (from == to && old == new) {
            return;
        }
        if let Some(there) = self.dir(to).get(new).copied() {
            let dir = |id: u64| matches!(self.inodes[&id].inode, Inode::Dir(_));
            let empty =
                !matches!(&self.inodes[&there].inode, Inode::Dir(children) if !children.is_empty());
            if there == id || dir(there) != dir(id) || !empty {
                return;
            }
            let meta = self.inodes.get_mut(&there).unwrap();
            meta.links -= 1;
            let others = meta.links > 0;
            self.vanished(to, new, others);
            if !others {
                self.inodes.remove(&there);
                self.watched.remove(&there);
            }
        }
        let hidden = self.hidden.remove(&(from, old.to_vec()));
        self.fresh.remove(&(from, old.to_vec()));
        self.fresh.insert((to, new.to_vec()));
        if hidden {
            self.hidden.insert((to, new.to_vec()));
        }
        self.dir(from).remove(old);
        self.dir(to).insert(new.to_vec(), id);
        self.touch(id, false);
        self.touch(from, true);
        self.touch(to, true);
        self.event(from, old, Hint::Gone);
        self.event(to, new, Hint::Settled);
    }

    fn link(&mut self, dir: u64, entry: &[u8], id: u64) {
        if self.dir(dir).contains_key(entry) {
            return;
        }
        self.dir(dir).insert(entry.to_vec(), id);
        self.inodes.get_mut(&id).unwrap().links += 1;
        self.fresh.insert((dir, entry.to_vec()));
        self.touch(id, false);
        self.touch(dir, true);
        self.event(dir, entry, Hint::Made);
    }

    fn change(&mut self, n: u8, a: usize, b: usize, c: u8) {
        let (dirs, names) = (self.dirs(), self.names());
        let dir = dirs[a % dirs.len()];
        let fresh = [b'n', b'0' + c % 6];
        let size = if c > 200 { 70_000 } else { usize::from(c) };
        let pick = (!names.is_empty()).then(|| names[b % names.len().max(1)].clone());
        match (n, pick) {
            (0 | 1, _) => self.make(dir, &fresh, Inode::File(vec![c; size])),
            (2, _) => self.make(dir, &fresh, Inode::Dir(BTreeMap::new())),
            (3, _) => self.make(dir, &fresh, Inode::Link(vec![c])),
            (4, Some((d, n, _))) => self.unlink(d, &n),
            (5..=7, Some((d, n, _))) => self.rename(d, &n, dir, &fresh),
            (8 | 9, Some((d, n, id))) => {
                if let Inode::File(content) = &mut self.inodes.get_mut(&id).unwrap().inode {
                    content.resize(size, c);
                    content.push(c);
                    self.touch(id, true);
                    self.changed(d, &n);
                    self.event(d, &n, Hint::Settled);
                }
            }
            (10, Some((d, n, id))) => {
                self.inodes.get_mut(&id).unwrap().mode = u32::from(c);
                self.touch(id, false);
                self.changed(d, &n);
                self.event(d, &n, Hint::Attributes);
            }
            (11, Some((d, n, _))) => {
                // A swap of two names through a third.
                let Some((e, m, _)) = names.get(a % names.len()).cloned() else {
                    return;
                };
                self.rename(d, &n, 1, b"swap");
                self.rename(e, &m, d, &n);
                self.rename(1, b"swap", e, &m);
            }
            (12, Some((_, _, id))) if matches!(self.inodes[&id].inode, Inode::File(_)) => {
                self.link(dir, &fresh, id);
            }
            (13, _) => self.make(dir, &fresh, Inode::Pipe),
            _ => {}
        }
    }

    fn found(&self, id: u64) -> Found {
        let meta = &self.inodes[&id];
        let kind = match &meta.inode {
            Inode::Dir(_) => FoundKind::Directory,
            Inode::File(content) => FoundKind::File {
                size: content.len() as u64,
            },
            Inode::Link(target) => FoundKind::Symlink {
                target: target.clone().into(),
            },
            Inode::Pipe => FoundKind::Special("a pipe"),
        };
        let link = matches!(kind, FoundKind::Symlink { .. });
        Found {
            kind,
            mode: if link { 0 } else { meta.mode },
            mtime: Mtime {
                secs: meta.mtime,
                nanos: 0,
            },
            stat: Stat {
                inode: id,
                birth: 0,
                ctime: meta.ctime,
                links: meta.links,
            },
        }
    }

    fn at(&self, place: &Place) -> Result<u64, SourceError> {
        let mut at = 1;
        for part in place.path.components() {
            let Inode::Dir(children) = &self.inodes[&at].inode else {
                return Err(SourceError::Displaced);
            };
            at = *children.get(part).ok_or(SourceError::Displaced)?;
        }
        let right = place.identity.is_none_or(|(inode, _)| inode == at);
        if right && matches!(self.inodes[&at].inode, Inode::Dir(_)) {
            Ok(at)
        } else {
            Err(SourceError::Displaced)
        }
    }

    fn child(&self, place: &Place, entry: &Name) -> Result<Option<u64>, SourceError> {
        let Inode::Dir(children) = &self.inodes[&self.at(place)?].inode else {
            return Err(SourceError::Displaced);
        };
        Ok(children.get(entry.as_bytes()).copied())
    }

    /// What the mirror must be.
    fn expected(&self) -> BTreeMap<Vec<u8>, Entry> {
        let mut out = BTreeMap::new();
        let mut todo = vec![(Vec::new(), 1)];
        while let Some((path, dir)) = todo.pop() {
            let Inode::Dir(children) = &self.inodes[&dir].inode else {
                continue;
            };
            for (entry, id) in children {
                let mut below: Vec<u8> = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(entry);
                let found = self.found(*id);
                let kind = match &self.inodes[id].inode {
                    Inode::Dir(_) => Kind::Directory,
                    Inode::File(content) => Kind::File {
                        size: content.len() as u64,
                        digest: digest(content),
                    },
                    Inode::Link(target) => Kind::Symlink {
                        target: target.clone().into(),
                    },
                    Inode::Pipe => continue,
                };
                out.insert(
                    below.clone(),
                    Entry {
                        kind,
                        mode: found.mode,
                        mtime: found.mtime,
                    },
                );
                todo.push((below, *id));
            }
        }
        out
    }
}

impl Source for MemSource {
    fn look(&mut self, dir: &Place, entry: &Name) -> Result<Option<Found>, SourceError> {
        let found = self.child(dir, entry)?.map(|id| self.found(id));
        let dir = self.at(dir)?;
        self.looked_at(dir, entry.as_bytes());
        if let Some((_, act)) = self.race.take_if(|(name, _)| *name == entry.as_bytes()) {
            act(self);
        }
        Ok(found)
    }

    fn look_dir(&mut self, dir: &Place) -> Result<Found, SourceError> {
        Ok(self.found(self.at(dir)?))
    }

    fn list(&mut self, dir: &Place) -> Result<Vec<(Name, Found)>, SourceError> {
        let at = self.at(dir)?;
        self.fresh.retain(|(dir, _)| *dir != at);
        self.hidden.retain(|(dir, _)| *dir != at);
        let Inode::Dir(children) = &self.inodes[&self.at(dir)?].inode else {
            return Err(SourceError::Displaced);
        };
        Ok(children
            .iter()
            .map(|(n, id)| (name(n), self.found(*id)))
            .collect())
    }

    fn read(
        &mut self,
        dir: &Place,
        entry: &Name,
        limit: u64,
    ) -> Result<(Found, Vec<u8>), SourceError> {
        let id = self.child(dir, entry)?.ok_or(SourceError::Gone)?;
        match &self.inodes[&id].inode {
            Inode::File(content) if content.len() as u64 <= limit => {
                Ok((self.found(id), content.clone()))
            }
            _ => Err(SourceError::Changed),
        }
    }

    fn watch(&mut self, dir: &Place, node: NodeId) -> Result<(), SourceError> {
        let id = self.at(dir)?;
        if self.watched.len() >= self.watches && !self.watched.contains_key(&id) {
            return Err(SourceError::WatchLimit("no more watches".to_owned()));
        }
        self.watched.insert(id, node);
        Ok(())
    }

    fn unwatch(&mut self, node: NodeId) {
        self.watched.retain(|_, watching| *watching != node);
    }
}

/// A server that believes nothing.
#[derive(Debug, Default)]
struct NaiveServer {
    entries: BTreeMap<Vec<u8>, Entry>,
    uploads: HashMap<u64, (u64, Digest)>,
    moves: usize,
    contents: usize,
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    path == dir
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

impl NaiveServer {
    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in &self.entries {
            let (dir, entry_name) = RelPath::new(path).unwrap().split().unwrap();
            let dir = tree.lookup(&dir).expect("a parent of everything");
            tree.put(dir, &entry_name, entry.clone(), None).unwrap();
        }
        tree
    }

    fn remove(&mut self, path: &[u8]) {
        self.entries.retain(|other, _| !below(other, path));
    }

    fn place(&mut self, path: &[u8], entry: Entry) -> Result<(), String> {
        let parent = RelPath::new(path).unwrap().split().unwrap().0;
        let is_dir = parent.is_root()
            || self
                .entries
                .get(parent.as_bytes())
                .is_some_and(Entry::is_dir);
        if !is_dir {
            return Err(format!("no parent of {}", String::from_utf8_lossy(path)));
        }
        let keep = entry.is_dir() && self.entries.get(path).is_some_and(Entry::is_dir);
        if !keep {
            self.remove(path);
        }
        self.entries.insert(path.to_vec(), entry);
        Ok(())
    }

    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Entry)> {
        let taken: Vec<_> = self
            .entries
            .iter()
            .filter(|(p, _)| below(p, path))
            .map(|(p, e)| (p[path.len()..].to_vec(), e.clone()))
            .collect();
        self.remove(path);
        taken
    }

    fn give(&mut self, path: &[u8], taken: Vec<(Vec<u8>, Entry)>) {
        for (rest, entry) in taken {
            self.entries.insert([path, &rest].concat(), entry);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm an operation")]
    fn apply(&mut self, op: &Op, body: &mut BodyReader<'_>) -> Result<(), String> {
        let bytes = |path: &WireBytes| path.bytes().unwrap();
        match op {
            Op::Put {
                path,
                mode,
                mtime,
                size,
                content,
            } => {
                let digest_sent = body.digest().unwrap();
                let (have_size, have) = match content {
                    Content::Inline {} => {
                        self.contents += 1;
                        let content = body.take(usize::try_from(*size).unwrap()).unwrap();
                        (*size, digest(content))
                    }
                    Content::Upload { upload } => {
                        self.contents += 1;
                        self.uploads.remove(upload).ok_or("no such upload")?
                    }
                    Content::Copy { from } => match self.entries.get(&bytes(from)).map(|e| &e.kind)
                    {
                        Some(Kind::File { size, digest }) => (*size, *digest),
                        _ => return Err("nothing to copy".to_owned()),
                    },
                };
                if (have_size, have) != (*size, digest_sent) {
                    return Err("wrong digest".to_owned());
                }
                let kind = Kind::File {
                    size: *size,
                    digest: have,
                };
                self.place(
                    &bytes(path),
                    Entry {
                        kind,
                        mode: *mode,
                        mtime: mtime.mtime(),
                    },
                )
            }
            Op::Mkdir { path, mode, mtime } => {
                let entry = Entry {
                    kind: Kind::Directory,
                    mode: *mode,
                    mtime: mtime.mtime(),
                };
                self.place(&bytes(path), entry)
            }
            Op::Symlink {
                path,
                target,
                mtime,
            } => {
                let kind = Kind::Symlink {
                    target: target.bytes().unwrap().into(),
                };
                self.place(
                    &bytes(path),
                    Entry {
                        kind,
                        mode: 0,
                        mtime: mtime.mtime(),
                    },
                )
            }
            Op::Attributes { path, mode, mtime } => {
                let entry = self
                    .entries
                    .get_mut(&bytes(path))
                    .ok_or("nothing to change")?;
                (entry.mode, entry.mtime) = (*mode, mtime.mtime());
                Ok(())
            }
            Op::Delete { path } => {
                self.remove(&bytes(path));
                Ok(())
            }
            Op::Rename { from, to } => {
                let (from, to) = (bytes(from), bytes(to));
                let entry = self.entries.get(&from).cloned().ok_or("nothing to move")?;
                assert!(!below(&to, &from), "a move into itself");
                let taken = self.take(&from);
                self.place(&to, entry)?;
                self.remove(&to);
                self.give(&to, taken);
                self.moves += 1;
                Ok(())
            }
            Op::Exchange { a, b } => {
                let (a, b) = (bytes(a), bytes(b));
                if !self.entries.contains_key(&a) || !self.entries.contains_key(&b) {
                    return Err("nothing to exchange".to_owned());
                }
                let (from_a, from_b) = (self.take(&a), self.take(&b));
                self.give(&b, from_a);
                self.give(&a, from_b);
                self.moves += 1;
                Ok(())
            }
        }
    }

    fn listing(&self, id: u64, path: &WireBytes) -> (Response, Vec<u8>) {
        let tree = self.tree();
        let dir = tree.lookup(&path.path().unwrap());
        let (mut entries, mut body) = (Vec::new(), BodyWriter::default());
        for (entry, child) in dir
            .and_then(|dir| tree.get(dir))
            .into_iter()
            .flat_map(crate::index::Node::children)
        {
            let node = tree.get(child).unwrap();
            let kind = match &node.entry.kind {
                Kind::Directory => {
                    body.bytes(&node.sum().to_bytes());
                    ListKind::Directory {}
                }
                Kind::File { size, digest } => {
                    body.bytes(&digest.0);
                    ListKind::File { size: *size }
                }
                Kind::Symlink { target } => {
                    body.bytes(&[0; 32]);
                    ListKind::Symlink {
                        target: WireBytes::new(target),
                    }
                }
            };
            let mtime = node.entry.mtime.into();
            entries.push(ListEntry {
                name: WireBytes::new(entry),
                mode: node.entry.mode,
                mtime,
                kind,
            });
        }
        (
            Response::Listing {
                id,
                entries,
                more: None,
                found: dir.is_some(),
            },
            body.finish(),
        )
    }
}

/// The two joined: the line holds messages until they are delivered.
struct Bench {
    engine: ClientEngine,
    source: MemSource,
    server: NaiveServer,
    line: VecDeque<(Request, Vec<u8>)>,
    jobs: VecDeque<UploadJob>,
    now: Duration,
    failures: usize,
    flushed: Vec<u64>,
    trace: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            engine: ClientEngine::new(Settings::default(), (1, 0), Tree::new()),
            source: MemSource::new(),
            server: NaiveServer::default(),
            line: VecDeque::new(),
            jobs: VecDeque::new(),
            now: Duration::ZERO,
            failures: 0,
            flushed: Vec::new(),
            trace: Vec::new(),
        };
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        let mut out = Vec::new();
        let welcome = Welcome {
            sum: self.server.tree().root_sum(),
            version: 0,
            first_contact: false,
        };
        self.engine.connected(&welcome, &mut out);
        self.take(out);
    }

    fn cut(&mut self) {
        self.line.clear();
        self.jobs.clear();
        self.server.uploads.clear();
        self.engine.disconnected(self.now);
        self.connect();
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Send(request, body) => self.line.push_back((request, body)),
                Output::Upload(job) => self.jobs.push_back(job),
                Output::Flushed(token) => self.flushed.push(token),
            }
        }
    }

    /// The engine's turn, with the events that came (or without: they are late).
    fn step(&mut self, events: bool) -> bool {
        self.now += Duration::from_millis(1);
        if events {
            for (dir, entry, hint) in std::mem::take(&mut self.source.events) {
                self.engine.event(dir, &entry, hint, self.now);
            }
            for dir in std::mem::take(&mut self.source.inside) {
                self.engine.directory_event(dir, Hint::Inside, self.now);
            }
        }
        let mut out = Vec::new();
        let more = self.engine.step(self.now, &mut self.source, &mut out);
        self.take(out);
        more
    }

    fn deliver(&mut self) -> bool {
        let Some((request, body)) = self.line.pop_front() else {
            return false;
        };
        let answer = match request {
            Request::Mutate { id, ops, .. } => {
                let mut reader = BodyReader::new(&body);
                let mut failed = Vec::new();
                for (index, op) in ops.iter().enumerate() {
                    self.trace.push(format!("{op:?}"));
                    if let Err(message) = self.server.apply(op, &mut reader) {
                        self.trace.push(format!("  failed: {message}"));
                        self.failures += 1;
                        let index = u32::try_from(index).unwrap();
                        failed.push(Failed {
                            index,
                            code: Code::Fault(Fault::Changed),
                            message,
                        });
                    }
                }
                reader.finish().unwrap();
                Some((
                    Response::Applied {
                        id,
                        version: 1,
                        failed,
                    },
                    Vec::new(),
                ))
            }
            Request::List { id, path, .. } => Some(self.server.listing(id, &path)),
            _ => None,
        };
        if let Some((response, body)) = answer {
            let mut out = Vec::new();
            self.engine
                .response(response, &body, self.now, &mut out)
                .unwrap();
            self.take(out);
        }
        true
    }

    fn upload(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else {
            return false;
        };
        let read = self.source.read(&job.place, &job.name, u64::MAX);
        let outcome = match &read {
            Ok((found, content)) => {
                let digest = digest(content);
                if job.known.contains(&(content.len() as u64, digest)) {
                    ReadOutcome::Known {
                        found: found.clone(),
                        digest,
                    }
                } else {
                    self.server
                        .uploads
                        .insert(job.upload, (content.len() as u64, digest));
                    ReadOutcome::Sent {
                        found: found.clone(),
                        digest,
                    }
                }
            }
            Err(_) => ReadOutcome::Changed,
        };
        let sent = matches!(outcome, ReadOutcome::Sent { .. });
        let mut out = Vec::new();
        self.engine
            .upload_read(job.upload, outcome, self.now, &mut out);
        if sent {
            let staged = Response::Staged {
                upload: job.upload,
                failed: None,
            };
            self.engine
                .response(staged, &[], self.now, &mut out)
                .unwrap();
        }
        self.take(out);
        true
    }

    fn settle(&mut self) {
        for _ in 0..50_000 {
            let more = self.step(true) | self.deliver() | self.upload();
            if !more && self.engine.is_idle() && self.source.events.is_empty() {
                return;
            }
        }
        panic!(
            "it never rests: {:?} {:?}\n{}",
            self.engine.queue,
            self.engine.snapshot(self.now),
            self.trace.join("\n")
        );
    }

    fn assert_equal(&self) {
        let expected = self.source.expected();
        let show = |(path, entry): (&Vec<u8>, &Entry)| {
            format!("{} {}", String::from_utf8_lossy(path), brief(entry))
        };
        let server: Vec<String> = self.server.entries.iter().map(show).collect();
        let source: Vec<String> = expected.iter().map(show).collect();
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these
                .iter()
                .filter(|line| !those.contains(line))
                .cloned()
                .collect()
        };
        let (extra, lacking) = (only(&server, &source), only(&source, &server));
        assert!(
            extra.is_empty() && lacking.is_empty(),
            "server only: {extra:#?}\nsource only: {lacking:#?}\n{}",
            self.trace.join("\n")
        );
        assert_eq!(self.engine.view.root_sum(), self.server.tree().root_sum());
    }
}

fn brief(entry: &Entry) -> String {
    let kind = match &entry.kind {
        Kind::Directory => "d".to_owned(),
        Kind::File { size, digest } => format!("f{size}:{}", &digest.to_string()[..4]),
        Kind::Symlink { target } => format!("l{target:?}"),
    };
    format!("{kind} {:o} @{}", entry.mode, entry.mtime.secs)
}

#[test]
fn a_renamed_directory_is_one_message_and_no_content() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    for n in 0..50u8 {
        bench
            .source
            .make(2, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    bench.assert_equal();
    let contents = bench.server.contents;
    bench.source.rename(1, b"d", 1, b"e");
    bench.settle();
    bench.assert_equal();
    assert_eq!(
        (bench.server.moves, bench.server.contents),
        (1, contents),
        "{:?}",
        bench.trace
    );
}

#[test]
fn a_swap_of_files_and_of_directories_sends_no_content() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(1, b"e", Inode::Dir(BTreeMap::new()));
    bench.source.make(2, b"f", Inode::File(vec![1; 10]));
    bench.source.make(3, b"g", Inode::File(vec![2; 10]));
    bench.settle();
    let contents = bench.server.contents;
    for (a, b) in [(b"d", b"e"), (b"e", b"d")] {
        bench.source.rename(1, a, 1, b"t");
        bench.source.rename(1, b, 1, a);
        bench.source.rename(1, b"t", 1, b);
    }
    bench.source.rename(2, b"f", 1, b"t");
    bench.source.rename(3, b"g", 2, b"f");
    bench.source.rename(1, b"t", 3, b"g");
    bench.settle();
    bench.assert_equal();
    assert_eq!(bench.server.contents, contents, "{:#?}", bench.trace);
}

#[test]
fn an_editors_save_never_takes_the_path_away() {
    let mut bench = Bench::new();
    bench.source.make(1, b"f", Inode::File(vec![1; 10]));
    bench.source.make(1, b"f~", Inode::File(vec![0; 9]));
    bench.settle();
    bench.source.rename(1, b"f", 1, b"f~");
    bench.step(true);
    bench.deliver();
    assert!(
        bench.server.entries.contains_key(&b"f"[..]),
        "{:?}",
        bench.trace
    );
    bench.source.make(1, b"f", Inode::File(vec![2; 11]));
    bench.settle();
    bench.assert_equal();
    assert!(
        !bench
            .trace
            .iter()
            .any(|op| op.contains("Delete") || op.contains("Rename")),
        "{:?}",
        bench.trace
    );
}

/// What somebody writes in place into the first file that was made.
fn rewrite(source: &mut MemSource, content: Vec<u8>, hint: Hint) {
    source.inodes.get_mut(&2).unwrap().inode = Inode::File(content);
    source.touch(2, true);
    source.event(1, b"f", hint);
}

#[test]
fn a_file_that_is_emptied_between_the_look_and_the_read_is_not_sent_empty() {
    for size in [10, 100_000] {
        let mut bench = Bench::new();
        bench.source.make(1, b"f", Inode::File(vec![1; size]));
        bench.settle();
        rewrite(&mut bench.source, vec![2; size + 1], Hint::Settled);
        bench.source.race = Some((b"f", |source| rewrite(source, Vec::new(), Hint::Touched)));
        for _ in 0..10 {
            bench.step(true);
            bench.upload();
            bench.deliver();
        }
        let empty = |bench: &Bench| bench.trace.iter().any(|op| op.contains("size: 0,"));
        assert!(!empty(&bench), "{:?}", bench.trace);
        rewrite(&mut bench.source, vec![3; size + 2], Hint::Settled);
        bench.settle();
        bench.assert_equal();
        assert!(!empty(&bench), "{:?}", bench.trace);
        // What stays empty is believed.
        rewrite(&mut bench.source, Vec::new(), Hint::Settled);
        bench.settle();
        bench.assert_equal();
        assert!(empty(&bench), "{:?}", bench.trace);
    }
}

#[test]
fn an_emptied_source_found_by_a_scan_deletes_nothing() {
    let mut bench = Bench::new();
    for n in 0..5u8 {
        bench
            .source
            .make(1, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    for n in 0..5u8 {
        bench.source.unlink(1, &[b'f', b'0' + n]);
    }
    bench.source.events.clear();
    bench.engine.rescan();
    bench.settle();
    assert_eq!(bench.server.entries.len(), 5);
    assert!(bench.engine.snapshot(bench.now).deletions_held);
}

#[test]
fn a_directory_that_is_moved_before_it_was_listed_is_listed_where_it_is() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.make(2, b"e", Inode::Dir(BTreeMap::new()));
    bench.source.make(3, b"f", Inode::File(vec![1; 10]));
    bench.source.race = Some((b"d", |source| source.rename(1, b"d", 1, b"g")));
    bench.settle();
    bench.assert_equal();
    // Once more, with its parent moved on.
    bench.source.make(2, b"h", Inode::Dir(BTreeMap::new()));
    bench.source.make(5, b"f", Inode::File(vec![2; 10]));
    bench.source.race = Some((b"h", |source| source.rename(1, b"g", 1, b"i")));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn what_comes_between_the_look_at_a_directory_and_its_watch_is_not_lost() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.source.race = Some((b"d", |source| {
        source.make(2, b"f", Inode::File(vec![1; 10]));
    }));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn directories_that_changed_places_unseen_are_listed() {
    let mut bench = Bench::new();
    for (n, dir) in [b"d", b"e"].into_iter().enumerate() {
        bench.source.make(1, dir, Inode::Dir(BTreeMap::new()));
        bench
            .source
            .make(2 + 2 * n as u64, b"f", Inode::File(vec![1; 10]));
    }
    bench.settle();
    bench.source.rename(1, b"d", 1, b"t");
    bench.source.rename(1, b"e", 1, b"d");
    bench.source.rename(1, b"t", 1, b"e");
    bench.source.make(2, b"g", Inode::File(vec![2; 10]));
    bench.source.make(4, b"h", Inode::File(vec![3; 10]));
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.settle();
    bench.assert_equal();
}

#[test]
fn a_flush_waits_for_deletions_that_a_scan_found_and_for_refused_changes() {
    let mut bench = Bench::new();
    for n in 0..3u8 {
        bench
            .source
            .make(1, &[b'f', b'0' + n], Inode::File(vec![n; 10]));
    }
    bench.settle();
    bench.source.unlink(1, b"f1");
    bench.source.events.clear();
    bench.source.inside.clear();
    bench.engine.rescan();
    bench.engine.flush(7, bench.now);
    bench.step(true);
    assert!(bench.flushed.is_empty(), "{:?}", bench.trace);
    bench.settle();
    assert_eq!(bench.flushed, [7]);
    // The server lost the parent of what comes next: the change is refused, and made again.
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.settle();
    bench.server.remove(b"d");
    let inode = bench.source.next - 1;
    bench.source.make(inode, b"f", Inode::File(vec![1; 10]));
    bench.step(true);
    bench.engine.flush(8, bench.now);
    for _ in 0..1_000 {
        bench.step(true);
        if bench.flushed.len() == 2 {
            break;
        }
        bench.deliver();
    }
    assert_eq!(bench.flushed, [7, 8]);
    assert!(bench.failures > 0 && bench.server.entries.contains_key(&b"d/f"[..]));
    bench.settle();
    bench.assert_equal();
}

#[test]
fn directories_without_a_watch_are_looked_at_from_time_to_time() {
    let mut bench = Bench::new();
    bench.source.watches = 1;
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    bench.settle();
    let status = bench.engine.snapshot(bench.now);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    assert_eq!(bench.engine.problem_count(), 0);
    bench.source.make(2, b"f", Inode::File(vec![1; 10]));
    bench.settle();
    let due = bench.engine.next_due().expect("a time for the next look");
    assert!(due <= bench.now + Duration::from_secs(3));
    bench.now = due;
    bench.settle();
    bench.assert_equal();
    bench.source.watches = 2;
    bench.now = bench.engine.next_due().unwrap();
    bench.settle();
    assert_eq!(bench.engine.next_due(), None);
    assert!(bench.engine.snapshot(bench.now).problems.is_empty());
}

/// Everything that is asked at each step must cost the same however much is dirty: this would take minutes otherwise.
#[test]
fn many_dirty_paths_do_not_slow_a_step() {
    let mut bench = Bench::new();
    bench.settle();
    bench.engine.flush(1, bench.now);
    for n in 0..60_000u32 {
        let file = format!("n{n}");
        bench
            .source
            .make(1, file.as_bytes(), Inode::File(Vec::new()));
    }
    bench.engine.flush(2, bench.now);
    let mut steps = 0;
    while bench.flushed != [1, 2] || !bench.engine.is_idle() {
        steps += 1;
        assert!(steps < 2_000, "{:?}", bench.engine.snapshot(bench.now));
        bench.step(true);
        for (request, _) in std::mem::take(&mut bench.line) {
            let Request::Mutate { id, .. } = request else {
                continue;
            };
            let (version, failed) = (1, Vec::new());
            let applied = Response::Applied {
                id,
                version,
                failed,
            };
            let answer = bench
                .engine
                .response(applied, &[], bench.now, &mut Vec::new());
            answer.unwrap();
        }
    }
    assert_eq!(bench.engine.view.len(), 60_000);
}

#[test]
fn what_is_seen_to_go_is_not_held_though_a_scan_misses_it_first() {
    let mut bench = Bench::new();
    bench.source.make(1, b"d", Inode::Dir(BTreeMap::new()));
    for n in 0..150u8 {
        bench.source.make(
            2,
            &[b'f', b'0' + n / 50, b'0' + n % 50],
            Inode::File(vec![n; 3]),
        );
    }
    bench.source.make(1, b"stays", Inode::File(vec![1]));
    bench.settle();
    bench.source.unlink(1, b"d");
    bench.engine.rescan();
    while bench.step(false) {}
    bench.settle();
    assert!(!bench.engine.snapshot(bench.now).deletions_held);
    bench.assert_equal();
}

/// The seed is fixed so that a run of the tests says something about the change under test; `SYNCD_SLOW=1` looks
/// further, from a new seed each time.
fn further() -> ProptestConfig {
    let slow = std::env::var_os("SYNCD_SLOW").is_some();
    ProptestConfig {
        cases: if slow { 20_000 } else { 400 },
        rng_seed: if slow {
            proptest::test_runner::RngSeed::Random
        } else {
            proptest::test_runner::RngSeed::Fixed(7)
        },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(further())]
    #[test]
    fn the_mirror_follows_any_changes(
        changes in proptest::collection::vec((0u8..14, 0usize..60, 0usize..60, any::<u8>(), 0u8..12), 1..120),
    ) {
        let mut bench = Bench::new();
        for (n, a, b, c, pause) in changes {
            bench.trace.push(format!("-- {n} {a} {b} {c} {pause}"));
            bench.source.change(n, a, b, c);
            let now: Vec<String> = bench.source.expected().iter()
                .map(|(path, entry)| format!("{} {}", String::from_utf8_lossy(path), brief(entry))).collect();
            bench.trace.push(format!("   source: {}", now.join(", ")));
            match pause {
                0..=3 => { bench.step(true); }
                4 | 5 => { bench.step(false); bench.deliver(); }
                6 => { bench.now += Duration::from_millis(60); bench.step(true); bench.upload(); }
                7 => bench.cut(),
                8 => { bench.source.events.clear(); bench.source.inside.clear(); bench.engine.rescan(); }
                _ => {}
            }
        }
        bench.settle();
        if bench.source.blind {
            bench.engine.rescan();
            bench.settle();
        }
        if bench.engine.snapshot(bench.now).deletions_held {
            return Ok(());
        }
        bench.assert_equal();
    }
}
