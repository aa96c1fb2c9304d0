//! A mirror that only says what it would do: the engine runs as always, but what it sends is noted instead, and answered
//! as if it had been done. Listings are asked of the server; nothing else goes there, and nothing is stored.

use crate::delta::ContentHasher;
use crate::engine::client::{ClientEngine, Output, ProtocolError, ReadOutcome, UploadJob};
use crate::engine::source::{FoundKind, SourceError};
use crate::host::source::{SourceRoot, stat_fd};
use crate::index::{NodeId, Tree};
use crate::model::{Entry, Kind, RelPath};
use crate::wire::{Op, Request, Response, WirePath};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

/// So many changes are named; of more, only the number.
const NAMED: usize = 10_000;
/// Bytes that are read at once.
const CHUNK: usize = 1024 * 1024;

/// What would be done to one mirror.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Plan {
    /// How many changes there are.
    pub total: u64,
    /// The first of them, in the order in which they would be made.
    pub changes: Vec<Planned>,
    /// Bytes of files that would be sent if no block of them were known to the server.
    pub bytes: u64,
}

/// One change that would be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Planned {
    /// What: `add`, `change`, `attributes`, `delete`, `move` or `exchange`.
    pub action: &'static str,
    /// The path, escaped.
    pub path: String,
    /// Where it goes, for a move or an exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub why: String,
}

/// Notes what an engine wants done.
#[derive(Debug, Default)]
pub(super) struct Planner {
    /// What the server has, as it would be by now; none before the comparison is over.
    mirror: Option<Tree>,
    pub(super) plan: Plan,
}

impl Planner {
    /// Takes in what the server has, once that is known and before anything is planned.
    pub(super) fn begin(&mut self, engine: &mut ClientEngine) {
        if self.mirror.is_none() && engine.is_live() {
            let view = engine.view_mut();
            view.touch_all();
            let rows = view.take_touched().into_iter();
            self.mirror = Some(Tree::from_rows(
                rows.filter_map(|(id, row)| Some((id, row?))),
            ));
        }
    }

    /// Whether the server has been looked at.
    pub(super) fn has_begun(&self) -> bool {
        self.mirror.is_some()
    }

    /// Plays the server: takes what must not be sent out of `out` and answers it. Whether there was any.
    ///
    /// # Errors
    /// When the engine does not take an answer.
    pub(super) fn play(
        &mut self,
        engine: &mut ClientEngine,
        root: &SourceRoot,
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<bool, ProtocolError> {
        let (mut todo, mut played) = (VecDeque::from(std::mem::take(out)), false);
        while let Some(output) = todo.pop_front() {
            let mut more = Vec::new();
            match output {
                Output::Send(request, body) => match self.take(&request) {
                    Ok(()) => out.push(Output::Send(request, body)),
                    Err(None) => {}
                    Err(Some(answer)) => {
                        engine.response(answer, &[], now, &mut more)?;
                        played = true;
                    }
                },
                Output::Upload(job) => {
                    let outcome = read(root, &job);
                    let sent = matches!(outcome, ReadOutcome::Sent { .. });
                    engine.upload_read(job.upload, outcome, now);
                    if sent {
                        let (upload, failed) = (job.upload, None);
                        let staged = Response::Staged { upload, failed };
                        engine.response(staged, &[], now, &mut more)?;
                    }
                    played = true;
                }
                other => out.push(other),
            }
            todo.extend(more);
        }
        Ok(played)
    }

    /// Takes a message that would be sent: whether it has to be, and what to answer otherwise.
    fn take(&mut self, request: &Request) -> Result<(), Option<Response>> {
        match request {
            Request::List { .. } => Ok(()),
            Request::Mutate {
                id, based_on, ops, ..
            } => {
                for op in ops {
                    self.note(op);
                }
                Err(Some(Response::Applied {
                    id: *id,
                    version: *based_on,
                    failed: Vec::new(),
                }))
            }
            _ => Err(None),
        }
    }

    fn note(&mut self, op: &Op) {
        let planned = match op {
            Op::Put { path, size, .. } => {
                self.plan.bytes += size;
                self.put(
                    path,
                    &format!("file of {}", bytesize::ByteSize(*size).display().iec()),
                )
            }
            Op::Mkdir { path, mode, mtime } => {
                let planned = self.put(path, "directory");
                self.add(path, *mode, mtime.mtime());
                planned
            }
            Op::Symlink { path, .. } => self.put(path, "link"),
            Op::Attributes { path, mode, mtime } => self.attributes(path, *mode, mtime.mtime()),
            Op::Delete { path } => self.delete(path),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Exchange { a, b } => self.exchange(a, b),
        };
        self.plan.total += 1;
        if self.plan.changes.len() < NAMED {
            self.plan.changes.push(planned);
        }
    }

    fn find(&self, path: &WirePath) -> Option<(&Tree, NodeId)> {
        let tree = self.mirror.as_ref()?;
        Some((tree, tree.lookup(&path.path().ok()?)?))
    }

    fn kind(&self, path: &WirePath) -> Option<&'static str> {
        let (tree, id) = self.find(path)?;
        Some(match tree.get(id)?.entry.kind {
            Kind::Directory => "directory",
            Kind::File { .. } => "file",
            Kind::Symlink { .. } => "link",
        })
    }

    fn put(&self, path: &WirePath, what: &str) -> Planned {
        let (action, why) = match self.kind(path) {
            None => ("add", format!("new {what}")),
            Some(kind) if what.starts_with(kind) => {
                ("change", format!("{what} with another content"))
            }
            Some(kind) => ("change", format!("{what} in the place of a {kind}")),
        };
        planned(action, path, why)
    }

    fn add(&mut self, path: &WirePath, mode: u32, mtime: crate::model::Mtime) {
        let entry = Entry {
            kind: Kind::Directory,
            mode,
            mtime,
        };
        if let Some(tree) = &mut self.mirror
            && let Some((dir, name)) = path.path().ok().and_then(|path| path.split())
            && let Some(dir) = tree.lookup(&dir)
        {
            tree.put(dir, &name, entry, None);
        }
    }

    fn attributes(&self, path: &WirePath, mode: u32, mtime: crate::model::Mtime) -> Planned {
        let old = self.find(path).and_then(|(tree, id)| tree.get(id));
        let why = match old.map(|node| &node.entry) {
            Some(old) if old.mode != mode && old.mtime != mtime => "other mode and time".to_owned(),
            Some(old) if old.mode != mode => format!("mode {mode:o} instead of {:o}", old.mode),
            _ => "other time".to_owned(),
        };
        planned("attributes", path, why)
    }

    fn delete(&mut self, path: &WirePath) -> Planned {
        let found = self.find(path).map(|(tree, id)| (count(tree, id), id));
        let why = match found {
            Some((entries, _)) if entries > 1 => {
                format!("not in the source, with {} entries below it", entries - 1)
            }
            _ => "not in the source".to_owned(),
        };
        if let (Some(tree), Some((_, id))) = (&mut self.mirror, found) {
            tree.remove(id);
        }
        planned("delete", path, why)
    }

    fn rename(&mut self, from: &WirePath, to: &WirePath) -> Planned {
        let found = self.find(from).map(|(_, id)| id);
        if let (Some(tree), Some(id)) = (&mut self.mirror, found)
            && let Some((dir, name)) = to.path().ok().and_then(|path| path.split())
            && let Some(dir) = tree.lookup(&dir)
        {
            if let Some(old) = tree.child(dir, name.as_bytes()) {
                tree.remove(old);
            }
            tree.rename(id, dir, &name);
        }
        Planned {
            to: Some(shown(to)),
            ..planned("move", from, "the source has it there".to_owned())
        }
    }

    fn exchange(&mut self, a: &WirePath, b: &WirePath) -> Planned {
        let ids = [a, b].map(|path| self.find(path).map(|(_, id)| id));
        if let (Some(tree), [Some(a), Some(b)]) = (&mut self.mirror, ids) {
            tree.exchange(a, b);
        }
        Planned {
            to: Some(shown(b)),
            ..planned(
                "exchange",
                a,
                "they changed places in the source".to_owned(),
            )
        }
    }
}

fn count(tree: &Tree, id: NodeId) -> usize {
    let (mut count, mut todo) = (0, vec![id]);
    while let Some(id) = todo.pop() {
        count += 1;
        let children = tree
            .get(id)
            .into_iter()
            .flat_map(crate::index::Node::children);
        todo.extend(children.map(|(_, child)| child));
    }
    count
}

fn planned(action: &'static str, path: &WirePath, why: String) -> Planned {
    Planned {
        action,
        path: shown(path),
        to: None,
        why,
    }
}

fn shown(path: &WirePath) -> String {
    let path = path.path().ok();
    path.as_ref().map_or_else(String::new, RelPath::to_string)
}

/// Reads a large file for its digest; nothing of it is sent.
pub(super) fn read(root: &SourceRoot, job: &UploadJob) -> ReadOutcome {
    let (mut file, found) = match root.open_file(&job.place, &job.name) {
        Ok(opened) => opened,
        Err(SourceError::Failed(message)) => return ReadOutcome::Failed(message),
        Err(_) => return ReadOutcome::Changed,
    };
    let (mut hasher, mut buffer) = (ContentHasher::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) => return ReadOutcome::Failed(format!("cannot read it: {error}")),
        }
    }
    let (size, digest) = hasher.finish();
    let after = stat_fd(&file).ok();
    if after.as_ref() != Some(&found) || found.kind != (FoundKind::File { size }) {
        return ReadOutcome::Changed;
    }
    if job.known.contains(&(size, digest)) {
        ReadOutcome::Known { found, digest }
    } else {
        ReadOutcome::Sent { found, digest }
    }
}
