//! The engine's thread: events, answers and the time in; messages and jobs out.

use super::ClientError;
use super::bench::Bench;
pub(super) use super::input::{Accepted, Input, Link};
use super::notes::Notes;
use super::plan::{Plan, Planner};
use super::{readers::Uploader, uploader::Job};
use crate::daemon::changes;
use crate::daemon::pump::Outgoing;
use crate::engine::client::{Output, Settings, Snapshot};
use crate::host::clock;
use crate::host::source::SourceRoot;
use crate::host::watch::Mailbox;
use crate::model::RelPath;
use crate::wire::Request;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What a mirror works on.
pub(super) struct Setup {
    pub(super) root: SourceRoot,
    pub(super) private: PathBuf,
    pub(super) settings: Settings,
    pub(super) rescan: Duration,
    pub(super) block_size: Option<u32>,
    pub(super) once: bool,
    /// Nothing is done; what would be is left here.
    pub(super) plan: Option<Arc<Mutex<Plan>>>,
}

struct Loop<'a> {
    setup: Setup,
    started: Instant,
    runtime: &'a Handle,
    stop: &'a CancellationToken,
    queue: mpsc::Receiver<Input>,
    mailbox: Arc<Mailbox>,
    uploader: Uploader,
    bench: Option<Bench>,
    link: Option<Link>,
    flushes: HashMap<String, oneshot::Sender<()>>,
    flushing: HashMap<u64, oneshot::Sender<()>>,
    accepting: Option<Accepted>,
    /// Paths that are to be put right once there is an engine.
    doubted: Vec<RelPath>,
    next_token: u64,
    next_rescan: Duration,
    next_save: Duration,
    notes: Notes,
    planner: Option<Planner>,
    out: Vec<Output>,
}

/// How often the changed part of the view is stored.
const SAVE: Duration = Duration::from_secs(1);
/// Inputs that are taken before the engine has its turn.
const TAKE: usize = 256;

/// Runs a mirror until it is stopped, or with `once` until everything is mirrored. Gives the last state.
///
/// # Errors
/// When the source cannot be watched.
pub(super) fn run(
    setup: Setup,
    inputs: mpsc::Sender<Input>,
    queue: mpsc::Receiver<Input>,
    runtime: &Handle,
    stop: &CancellationToken,
) -> Result<Option<(Snapshot, usize)>, ClientError> {
    // What cannot be kept there says so itself.
    drop(std::fs::create_dir_all(&setup.private));
    let uploader = Uploader::start(
        setup.root.clone(),
        &setup.private,
        setup.block_size,
        inputs,
        runtime,
        stop,
    );
    let mut looped = Loop {
        next_rescan: setup.rescan,
        next_save: SAVE,
        planner: setup.plan.is_some().then(Planner::default),
        setup,
        started: clock::monotonic(),
        runtime,
        stop,
        queue,
        mailbox: Arc::new(Mailbox::default()),
        uploader,
        bench: None,
        link: None,
        flushes: HashMap::new(),
        flushing: HashMap::new(),
        accepting: None,
        doubted: Vec::new(),
        next_token: 1,
        notes: Notes::default(),
        out: Vec::new(),
    };
    while !stop.is_cancelled() {
        let more = looped.turn()?;
        if looped.is_done() {
            break;
        }
        if !more {
            looped.wait();
        }
    }
    let last = looped.snapshot();
    if let Some((last, _)) = &last {
        looped.notes.tell(last);
    }
    match (looped.planner, &looped.setup.plan) {
        (Some(planner), Some(plan)) => {
            *plan.lock().unwrap_or_else(PoisonError::into_inner) = planner.plan;
        }
        _ => {
            if let Some(bench) = &mut looped.bench {
                bench.finish(runtime);
            }
        }
    }
    looped.uploader.end(runtime);
    Ok(last)
}

impl Loop<'_> {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes what came, gives the engine its turn and carries out what it wants. Whether there is more to do at once.
    fn turn(&mut self) -> Result<bool, ClientError> {
        for _ in 0..TAKE {
            let Ok(input) = self.queue.try_recv() else {
                break;
            };
            self.input(input)?;
        }
        let now = self.now();
        let seen = self.mailbox.take();
        let Some(bench) = &mut self.bench else {
            return Ok(false);
        };
        let mut tokens = Vec::new();
        for marker in &seen.markers {
            if let Some(reply) = self.flushes.remove(marker) {
                self.flushing.insert(self.next_token, reply);
                tokens.push(self.next_token);
                self.next_token += 1;
            }
        }
        bench.events(seen, now);
        for token in tokens {
            bench.engine.flush(token, now);
        }
        if now >= self.next_rescan {
            self.next_rescan = now + self.setup.rescan;
            bench.engine.rescan();
        }
        if now >= self.next_save && self.planner.is_none() {
            self.next_save = now + SAVE;
            bench.save(self.runtime);
        }
        if let Some(planner) = &mut self.planner {
            planner.begin(&mut bench.engine);
        }
        let mut more = bench.engine.step(now, &mut bench.source, &mut self.out);
        self.notes.look(&bench.engine, now);
        if let Some(planner) = &mut self.planner {
            more |= planner.play(&mut bench.engine, &self.setup.root, now, &mut self.out)?;
        }
        self.carry_out();
        Ok(more)
    }

    fn input(&mut self, input: Input) -> Result<(), ClientError> {
        let now = self.now();
        let epoch = self.link.as_ref().map(|link| link.epoch);
        match input {
            Input::Connected {
                link,
                mirror,
                welcome,
            } => {
                if let Some(planner) = self.planner.as_mut().filter(|planner| planner.has_begun()) {
                    // The line was cut: the server is as it was, and everything is planned anew.
                    *planner = Planner::default();
                    self.bench = None;
                }
                self.prepare(mirror)?;
                if let Some(bench) = &mut self.bench {
                    if self.link.is_some() {
                        bench.engine.disconnected(now);
                    }
                    bench.engine.connected(&welcome, &mut self.out);
                    let doubted = std::mem::take(&mut self.doubted);
                    if !doubted.is_empty() {
                        bench.engine.repair(&doubted, now);
                    }
                }
                self.link = Some(link);
            }
            Input::Disconnected(ended) if Some(ended) == epoch => {
                self.link = None;
                if let Some(bench) = &mut self.bench {
                    bench.engine.disconnected(now);
                }
            }
            Input::Response {
                epoch: of,
                response,
                body,
            } if Some(of) == epoch => {
                if let Some(bench) = &mut self.bench
                    && let Err(error) = bench.engine.response(response, &body, now, &mut self.out)
                {
                    tracing::error!(%error, "the session ends");
                    bench.engine.disconnected(now);
                    self.link = None;
                }
            }
            Input::Read {
                epoch: of,
                upload,
                outcome,
            } if Some(of) == epoch => {
                if let Some(bench) = &mut self.bench {
                    bench.engine.upload_read(upload, outcome, now);
                }
            }
            Input::Flush { name, reply } => {
                self.flushes.insert(name, reply);
            }
            Input::Repair { paths, reply } => self.repair(paths, reply),
            Input::Held(reply) => {
                let bench = self.bench.as_mut();
                drop(reply.send(bench.and_then(|bench| bench.engine.show_held())));
            }
            Input::Accept { entries, reply } => self.accept(entries, reply),
            Input::Status(reply) => drop(reply.send(self.snapshot())),
            Input::Disconnected(_) | Input::Response { .. } | Input::Read { .. } => {}
        }
        Ok(())
    }

    fn repair(&mut self, paths: Vec<RelPath>, reply: oneshot::Sender<()>) {
        let now = self.now();
        match &mut self.bench {
            Some(bench) => bench.engine.repair(&paths, now),
            None => self.doubted.extend(paths),
        }
        reply.send(()).ok();
    }

    fn accept(&mut self, entries: usize, reply: Accepted) {
        let begun = match &mut self.bench {
            Some(bench) => bench.engine.accept(entries),
            None => Err("no server was reached yet".to_owned()),
        };
        match begun {
            Ok(()) => self.accepting = Some(reply),
            Err(reason) => drop(reply.send(Err(reason))),
        }
    }

    /// The engine of a mirror: the one that runs, or a new one when the server is another than before.
    fn prepare(&mut self, mirror: String) -> Result<(), ClientError> {
        if self
            .bench
            .as_ref()
            .is_some_and(|bench| bench.mirror == mirror)
        {
            return Ok(());
        }
        self.bench = None;
        self.mailbox = Arc::new(Mailbox::default());
        self.bench = Some(Bench::open(
            mirror,
            &self.setup.private,
            self.setup.root.clone(),
            self.setup.settings.clone(),
            Arc::clone(&self.mailbox),
        )?);
        Ok(())
    }

    fn carry_out(&mut self) {
        for output in self.out.drain(..) {
            match (output, &self.link) {
                (Output::Send(request, body), Some(link)) => {
                    if let Request::Mutate { ops, .. } = &request {
                        changes::log(ops);
                    }
                    // The queue is deeper than what the engine has under way: it is never full while the line lives.
                    if link
                        .outbox
                        .urgent
                        .try_send(Outgoing::packable(request, body))
                        .is_err()
                    {
                        link.window.close();
                    }
                }
                (Output::Upload(job), Some(link)) => self.uploader.push(Job {
                    link: link.clone(),
                    job,
                }),
                (Output::Flushed(token), _) => {
                    if let Some(reply) = self.flushing.remove(&token) {
                        reply.send(()).ok();
                    }
                }
                (Output::Accepted(answer), _) => {
                    if let Some(reply) = self.accepting.take() {
                        reply.send(answer).ok();
                    }
                }
                (Output::Send(..) | Output::Upload(_), None) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        self.setup.once
            && self
                .bench
                .as_ref()
                .is_some_and(|bench| bench.engine.is_mirrored() || bench.engine.is_away())
    }

    fn snapshot(&self) -> Option<(Snapshot, usize)> {
        let bench = self.bench.as_ref()?;
        Some((bench.engine.snapshot(self.now()), bench.source.watches()))
    }

    /// Waits for an input, an event, or the time of the next thing that is due.
    fn wait(&mut self) {
        let now = self.now();
        let mut due = self.next_rescan;
        if let Some(bench) = &mut self.bench {
            bench.source.relax();
            if let Some(next) = bench.engine.next_due() {
                due = due.min(next);
            }
            if let Some(next) = self.notes.next(&bench.engine) {
                due = due.min(next.max(now));
            }
            if self.planner.is_none() && (bench.saving.is_some() || bench.is_touched()) {
                due = due.min(self.next_save.max(now));
            }
        }
        let (stop, queue, mailbox) = (self.stop, &mut self.queue, Arc::clone(&self.mailbox));
        let input = self.runtime.block_on(async {
            tokio::select! {
                input = queue.recv() => input,
                () = mailbox.arrived() => None,
                () = tokio::time::sleep(due.saturating_sub(now)) => None,
                () = stop.cancelled() => None,
            }
        });
        if let Some(input) = input
            && let Err(error) = self.input(input)
        {
            tracing::error!(%error, "the mirror stops");
            self.stop.cancel();
        }
    }
}
