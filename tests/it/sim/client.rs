//! The client's side: the engine, and what the daemon does between it and the line.

use super::{Line, pack};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use syncd::debounce::Hint;
use syncd::delta::{DeltaEncoder, Instruction, Recipe, RecipeCollector, block_size, digest};
use syncd::engine::client::{
    ClientEngine, Memory, Output, ReadOutcome, Settings, UploadJob, Welcome,
};
use syncd::engine::sim::{Dice, MemSource, root_id};
use syncd::engine::source::{Found, Source, SourceError};
use syncd::index::{NodeId, Row, Tree};
use syncd::model::Digest;
use syncd::wire::{Content, Continued, Frame, Op, Request, Response, WirePath};

/// A large file that was read, and whose old recipe is asked for.
struct Asking {
    job: UploadJob,
    found: Found,
    bytes: Vec<u8>,
    block: u32,
    seed: u64,
    /// The recipe of what it can be made of, as far as it is known.
    old: Option<Arc<Recipe>>,
    /// The leftover in that.
    continued: Option<Continued>,
    /// Whether the leftover is asked for.
    resuming: bool,
}

impl Asking {
    /// Takes a leftover in, continued by the old version.
    fn build_on(&mut self, left: &Recipe, mark: u64) {
        let (all, length) = match &self.old {
            Some(old) => left.continued_by(old).unwrap(),
            None => {
                self.job.base = None;
                (left.clone(), left.size())
            }
        };
        self.old = Some(Arc::new(all));
        self.continued = Some(Continued { mark, length });
    }
}

pub(super) struct Client {
    pub(super) engine: ClientEngine,
    pub(super) recipes: HashMap<Digest, Arc<Recipe>>,
    /// Bytes of files that were sent.
    pub(super) content_bytes: u64,
    /// Flushes that were answered.
    pub(super) flushed: Vec<u64>,
    jobs: VecDeque<UploadJob>,
    asking: HashMap<u64, Asking>,
    rows: BTreeMap<NodeId, Row>,
}

fn engine(view: Tree, delete_guard: u8) -> ClientEngine {
    ClientEngine::new(
        Settings {
            delete_guard,
            ..Settings::default()
        },
        Some(root_id(1)),
        view,
        &Memory::default(),
    )
}

impl Client {
    /// A client that holds deletions that nobody saw, beyond so many percent.
    pub(super) fn new(delete_guard: u8) -> Self {
        Self {
            engine: engine(Tree::new(), delete_guard),
            recipes: HashMap::new(),
            content_bytes: 0,
            flushed: Vec::new(),
            jobs: VecDeque::new(),
            asking: HashMap::new(),
            rows: BTreeMap::new(),
        }
    }

    pub(super) fn connected(&mut self, welcome: &Welcome) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.connected(welcome, &mut out);
        out
    }

    pub(super) fn disconnected(&mut self, now: Duration) {
        self.jobs.clear();
        self.asking.clear();
        self.engine.disconnected(now);
    }

    /// Stores the view.
    pub(super) fn save(&mut self) {
        for (id, row) in self.engine.view_mut().take_touched() {
            match row {
                Some(row) => drop(self.rows.insert(id, row)),
                None => drop(self.rows.remove(&id)),
            }
        }
    }

    /// Starts again, with the view that was stored last or without it.
    pub(super) fn restart(&mut self, lost: bool) {
        if lost {
            self.rows.clear();
        }
        self.engine = engine(Tree::from_rows(self.rows.clone()), 50);
    }

    /// Takes what the watcher has to tell.
    pub(super) fn hear(&mut self, now: Duration, source: &mut MemSource) {
        for (dir, name, hint) in std::mem::take(&mut source.events) {
            self.engine.event(dir, &name, hint, now);
        }
        for dir in std::mem::take(&mut source.inside) {
            self.engine.directory_event(dir, Hint::Inside, now);
        }
    }

    pub(super) fn step(
        &mut self,
        now: Duration,
        source: &mut MemSource,
        events: bool,
        up: &mut Line,
    ) -> bool {
        if events {
            self.hear(now, source);
        }
        let mut out = Vec::new();
        let more = self.engine.step(now, source, &mut out);
        let any = !out.is_empty();
        self.carry_out(out, up);
        more || any
    }

    pub(super) fn carry_out(&mut self, out: Vec<Output>, up: &mut Line) {
        for output in out {
            match output {
                Output::Send(request, body) => {
                    if let Request::Mutate { ops, .. } = &request {
                        self.content_bytes += ops.iter().map(inline).sum::<u64>();
                    }
                    up.urgent.push_back(pack(&request, &body));
                }
                Output::Upload(job) => self.jobs.push_back(job),
                Output::Flushed(token) => self.flushed.push(token),
                Output::Accepted(_) => {}
            }
        }
    }

    pub(super) fn response(&mut self, frame: &Frame, now: Duration, up: &mut Line) {
        let response: Response = serde_json::from_slice(&frame.header).unwrap();
        if let Response::Recipe {
            id,
            size,
            failed,
            leftover,
            ..
        } = &response
            && let Some(mut asking) = self.asking.remove(id)
        {
            let recipe = failed.is_none().then(|| {
                let (block, seed) = (asking.block, asking.seed);
                let mut blocks = RecipeCollector::new(*size, block, seed).unwrap();
                blocks.push(&frame.body).unwrap();
                Arc::new(blocks.finish().unwrap())
            });
            if !asking.resuming {
                asking.old = recipe;
                return self.resume(asking, now, up);
            }
            if let (Some(left), Some(mark)) = (recipe, *leftover) {
                asking.build_on(&left, mark);
            }
            return self.send(asking, now, up);
        }
        let mut out = Vec::new();
        let taken = self.engine.response(response, &frame.body, now, &mut out);
        taken.unwrap();
        self.carry_out(out, up);
    }

    /// Reads one large file that is asked for.
    pub(super) fn read(
        &mut self,
        now: Duration,
        source: &mut MemSource,
        dice: &mut Dice,
        up: &mut Line,
    ) -> bool {
        let Some(job) = self.jobs.pop_front() else {
            return false;
        };
        let (found, bytes) = match source.read(&job.place, &job.name, u64::MAX) {
            Ok(read) => read,
            Err(SourceError::Failed(message)) => {
                self.tell(job.upload, ReadOutcome::Failed(message), now);
                return true;
            }
            Err(_) => {
                self.tell(job.upload, ReadOutcome::Changed, now);
                return true;
            }
        };
        let digest = digest(&bytes);
        if job.known.contains(&(bytes.len() as u64, digest)) {
            self.tell(job.upload, ReadOutcome::Known { found, digest }, now);
            return true;
        }
        let (block, seed) = (block_size(bytes.len() as u64), dice.roll());
        let mut asking = Asking {
            job,
            found,
            bytes,
            block,
            seed,
            old: None,
            continued: None,
            resuming: false,
        };
        match &asking.job.base {
            _ if dice.one_in(8) => self.give_up(asking, now, up),
            None => self.resume(asking, now, up),
            Some((path, old)) => match self.recipes.get(old).cloned() {
                Some(recipe) => {
                    asking.old = Some(recipe);
                    self.resume(asking, now, up);
                }
                None => {
                    let id = asking.job.upload;
                    let path = WirePath::from(path);
                    let ask = Request::Recipe {
                        id,
                        path,
                        block,
                        seed,
                        leftover: false,
                    };
                    up.urgent.push_back(pack(&ask, &[]));
                    self.asking.insert(id, asking);
                }
            },
        }
        true
    }

    /// The file changes while it is read.
    fn give_up(&mut self, asking: Asking, now: Duration, up: &mut Line) {
        let upload = asking.job.upload;
        let mut body = Vec::new();
        Instruction::Literal(&asking.bytes[..asking.bytes.len() / 2]).pack(&mut body);
        let open = Request::UploadOpen {
            upload,
            base: None,
            path: Some(WirePath::from(&asking.job.path)),
            leftover: None,
        };
        up.bulk.push_back(pack(&open, &[]));
        up.bulk
            .push_back(pack(&Request::UploadData { upload, zstd: None }, &body));
        up.bulk
            .push_back(pack(&Request::UploadAbort { upload }, &[]));
        self.tell(upload, ReadOutcome::Changed, now);
    }

    /// Asks for what an upload has left, if there may be such a thing.
    fn resume(&mut self, mut asking: Asking, now: Duration, up: &mut Line) {
        if !asking.job.resume {
            return self.send(asking, now, up);
        }
        if let Some(old) = &asking.old {
            (asking.block, asking.seed) = (old.block(), old.seed());
        }
        asking.resuming = true;
        let id = asking.job.upload;
        let ask = Request::Recipe {
            id,
            path: WirePath::from(&asking.job.path),
            block: asking.block,
            seed: asking.seed,
            leftover: true,
        };
        up.bulk.push_back(pack(&ask, &[]));
        self.asking.insert(id, asking);
    }

    fn send(&mut self, asking: Asking, now: Duration, up: &mut Line) {
        let Asking {
            job,
            found,
            bytes,
            block,
            seed,
            old,
            continued,
            ..
        } = asking;
        let path = Some(WirePath::from(&job.path));
        let upload = job.upload;
        let base = job.base.filter(|_| old.is_some());
        let base = base.map(|(path, _)| WirePath::from(&path));
        up.bulk.push_back(pack(
            &Request::UploadOpen {
                upload,
                base,
                path,
                leftover: continued,
            },
            &[],
        ));
        let mut encoder = match old {
            Some(recipe) => DeltaEncoder::against(recipe),
            None => DeltaEncoder::fresh(block, seed),
        };
        let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
        let mut literal = 0;
        let mut emit = |instruction: Instruction<'_>| {
            if let Instruction::Literal(bytes) = instruction {
                literal += bytes.len() as u64;
            }
            if pieces.last().unwrap().len() > 16_384 {
                pieces.push(Vec::new());
            }
            instruction.pack(pieces.last_mut().unwrap());
        };
        encoder.push(&bytes, &mut emit);
        let encoded = encoder.finish(&mut emit);
        self.content_bytes += literal;
        for piece in pieces {
            up.bulk
                .push_back(pack(&Request::UploadData { upload, zstd: None }, &piece));
        }
        let digest = encoded.digest;
        self.recipes.insert(digest, Arc::new(encoded.recipe));
        let size = bytes.len() as u64;
        up.bulk
            .push_back(pack(&Request::UploadClose { upload, size }, &digest.0));
        self.tell(upload, ReadOutcome::Sent { found, digest }, now);
    }

    fn tell(&mut self, upload: u64, outcome: ReadOutcome, now: Duration) {
        self.engine.upload_read(upload, outcome, now);
    }
}

fn inline(op: &Op) -> u64 {
    match op {
        Op::Put {
            size,
            content: Content::Inline {},
            ..
        } => *size,
        _ => 0,
    }
}
