//! The two threads that carry changes out: one stages a group and makes it durable while the other brings the one
//! before into view.

use super::SessionError;
use super::progress::{EndFlow, Flow};
use crate::daemon::cache::FileCache;
use crate::daemon::changes;
use crate::daemon::pump::{Outbox, Outgoing};
use crate::daemon::share::{Held, Refusal};
use crate::engine::ports::{Store, StoreError};
use crate::engine::server::{Applied, Change, Group, Item, Stager};
use crate::host::disk::{DiskStore, Staged};
use crate::host::thread;
use crate::model::RelPath;
use crate::model::limits::MAX_GROUP;
use crate::wire::{Failed, Response};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes of content after which a group is closed, so that none is long under way.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;

/// A request that is carried out in order.
#[derive(Debug)]
pub(super) enum Job {
    Mutate {
        id: u64,
        based_on: u64,
        changes: Vec<Result<Change, Failed>>,
        /// Bytes of the message.
        weight: u64,
    },
    List {
        id: u64,
        path: RelPath,
        after: Option<Vec<u8>>,
    },
    Settled,
}

/// What the stager hands to the committer.
enum Work {
    Group(Group<Staged>),
    Other(Job),
    /// Nothing follows for now: what waits to be made durable has no company to wait for.
    Idle,
}

/// A piece of work, how many jobs are done with it, and how many bytes of messages.
struct Handed {
    work: Work,
    jobs: u64,
    weight: u64,
}

type Ends = Vec<oneshot::Receiver<Result<(), SessionError>>>;

/// Starts both threads. What they end with.
pub(super) fn start_committing(
    (held, files): (&Held, &Arc<FileCache>),
    jobs: mpsc::Receiver<Job>,
    outbox: &Outbox,
    flow: &Arc<Flow>,
    halt: &CancellationToken,
    dead: &CancellationToken,
) -> Result<Ends, SessionError> {
    let (hand, handed) = sync_channel(1);
    let staging = Staging {
        stager: Stager::new(Arc::clone(held.share.store())),
        jobs,
        hand,
        held: held.clone(),
        flow: Arc::clone(flow),
        halt: halt.clone(),
        taken: 0,
        weight: 0,
        _dies: dead.clone().drop_guard(),
    };
    let committing = Committing {
        held: held.clone(),
        files: Arc::clone(files),
        space: held.share.name().into(),
        handed,
        outbox: outbox.clone(),
        flow: Arc::clone(flow),
        _ends: EndFlow(Arc::clone(flow)),
        _dies: dead.clone().drop_guard(),
    };
    let start = |name, run: Box<dyn FnOnce() -> Result<(), SessionError> + Send>| {
        thread::spawn(name, run).map_err(SessionError::Thread)
    };
    Ok(vec![
        start("syncd-commit", Box::new(move || committing.run()))?,
        start("syncd-stage", Box::new(move || staging.run()))?,
    ])
}

/// The thread that stages.
struct Staging {
    stager: Stager<DiskStore>,
    jobs: mpsc::Receiver<Job>,
    hand: SyncSender<Handed>,
    held: Held,
    flow: Arc<Flow>,
    halt: CancellationToken,
    /// How many jobs were taken in.
    taken: u64,
    /// Bytes of messages in the group.
    weight: u64,
    _dies: DropGuard,
}

impl Staging {
    fn run(mut self) -> Result<(), SessionError> {
        while let Some(job) = self.jobs.blocking_recv() {
            if self.halt.is_cancelled() || !self.held.is_current() {
                break;
            }
            self.stager.committed(self.flow.reached().groups);
            self.take(job)?;
            while self.stager.len() < MAX_GROUP
                && self.stager.bytes() < GROUP_BYTES
                && let Ok(job) = self.jobs.try_recv()
            {
                self.take(job)?;
            }
            self.hand_over()?;
            if self.jobs.is_empty() {
                self.send(Work::Idle)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, job: Job) -> Result<(), SessionError> {
        match job {
            Job::Mutate {
                id,
                based_on,
                changes,
                weight,
            } => {
                let jobs = self.taken;
                let Self {
                    stager, hand, flow, ..
                } = self;
                stager.add(
                    (id, based_on),
                    changes,
                    &mut |id| flow.take_upload(id),
                    &mut |group| {
                        let number = group.number;
                        let work = Work::Group(group);
                        let weight = 0;
                        // If the committer is gone, waiting ends at once, and the next hand-over reports it.
                        drop(hand.send(Handed { work, jobs, weight }));
                        flow.wait(|reached| reached.groups >= number);
                    },
                );
                self.taken += 1;
                self.weight += weight;
                Ok(())
            }
            other => {
                self.hand_over()?;
                self.taken += 1;
                self.send(Work::Other(other))
            }
        }
    }

    fn hand_over(&mut self) -> Result<(), SessionError> {
        if self.stager.is_empty() {
            return Ok(());
        }
        let group = self.stager.finish();
        self.send(Work::Group(group))
    }

    fn send(&mut self, work: Work) -> Result<(), SessionError> {
        let handed = Handed {
            work,
            jobs: self.taken,
            weight: std::mem::take(&mut self.weight),
        };
        let sent = self.hand.send(handed);
        sent.map_err(|_| SessionError::dead_thread())
    }
}

/// The thread that brings into view.
struct Committing {
    held: Held,
    /// Where files are in memory that may change, and how the share is called there.
    files: Arc<FileCache>,
    space: Arc<str>,
    handed: Receiver<Handed>,
    outbox: Outbox,
    flow: Arc<Flow>,
    _ends: EndFlow,
    _dies: DropGuard,
}

/// A large group that is in view, and is answered once everything is durable.
struct Waiting {
    applied: Applied,
    weight: u64,
}

impl Committing {
    /// Small groups are made durable one by one. Large ones share a wait: what makes the contents of a group durable
    /// makes the one before it durable in its directories. After the last one the stager says that it is idle.
    fn run(self) -> Result<(), SessionError> {
        let mut waiting: Option<Waiting> = None;
        loop {
            let Ok(Handed { work, jobs, weight }) = self.handed.recv() else {
                return self.conclude(&mut waiting);
            };
            match work {
                Work::Idle => self.conclude(&mut waiting)?,
                Work::Group(group) if !group.synced => {
                    let number = group.number;
                    let synced = self.conclude_with(&mut waiting)?;
                    let touched = self.touched(&group);
                    let applied = self.held.begin(group, &synced);
                    self.files.forget(&self.space, touched.iter());
                    let applied = applied?;
                    self.flow.reach(jobs, Some(number));
                    waiting = Some(Waiting { applied, weight });
                }
                Work::Group(group) => {
                    self.conclude(&mut waiting)?;
                    let number = group.number;
                    let touched = self.touched(&group);
                    let answers = self.held.commit(group);
                    self.files.forget(&self.space, touched.iter());
                    let answers = answers?;
                    self.flow.reach(jobs, Some(number));
                    self.tell(&answers, weight);
                }
                Work::Other(job) => {
                    self.conclude(&mut waiting)?;
                    let answers = self.answer(job)?;
                    self.flow.reach(jobs, None);
                    self.flow.outstanding.done(weight);
                    for answer in answers {
                        // The peer is gone: what it sent is still carried out.
                        drop(self.outbox.urgent.blocking_send(answer));
                    }
                }
            }
        }
    }

    /// The paths of a group, if any file is in memory at all.
    fn touched(&self, group: &Group<Staged>) -> Vec<RelPath> {
        if self.files.is_empty() {
            return Vec::new();
        }
        let changes = group.items.iter().filter_map(|item| match item {
            Item::Change(prepared) => Some(&prepared.change),
            _ => None,
        });
        changes.flat_map(changes::touched).cloned().collect()
    }

    /// Makes what waits durable and answers it.
    fn conclude(&self, waiting: &mut Option<Waiting>) -> Result<(), SessionError> {
        if waiting.is_some() {
            // How it went is in the answers.
            drop(self.conclude_with(waiting)?);
        }
        Ok(())
    }

    /// Makes everything durable, answers what waited for that, and says how it went.
    fn conclude_with(
        &self,
        waiting: &mut Option<Waiting>,
    ) -> Result<Result<(), StoreError>, SessionError> {
        let synced = self.held.share.store().sync_all();
        if let Some(Waiting { applied, weight }) = waiting.take() {
            let answers = self.held.end(applied, &synced)?;
            self.tell(&answers, weight);
        }
        Ok(synced)
    }

    fn tell(&self, answers: &[Response], weight: u64) {
        self.flow.outstanding.done(weight);
        for answer in answers {
            // The peer is gone: what it sent is still carried out.
            drop(
                self.outbox
                    .urgent
                    .blocking_send(Outgoing::new(answer, Vec::new())),
            );
        }
    }

    fn answer(&self, job: Job) -> Result<Vec<Outgoing>, Refusal> {
        match job {
            Job::Mutate { .. } => Ok(Vec::new()),
            Job::List { id, path, after } => {
                let listing = self.held.list(id, &path, after.as_deref())?;
                Ok(vec![Outgoing::new(&listing.response, listing.body)])
            }
            Job::Settled => {
                self.held.settle()?;
                Ok(Vec::new())
            }
        }
    }
}
