//! What a session does with the share that it holds.

use super::{Refusal, Share, lock};
use crate::engine::ports::{Store, StoreError};
use crate::engine::server::{Applied, Group, Listing, Server};
use crate::host::clock;
use crate::host::disk::{DiskStore, Staged};
use crate::model::{Fault, Name, RelPath};
use crate::wire::{Code, MINOR_LEFTOVER, Response};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A session's hold on a share.
#[derive(Clone, Debug)]
pub struct Held {
    /// The share.
    pub share: Arc<Share>,
    /// The number of the session.
    pub epoch: u64,
    /// Cancelled when a newer session of the writer comes.
    pub replaced: CancellationToken,
}

impl Held {
    /// Whether no newer session has come.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.share.epoch.load(Ordering::SeqCst) == self.epoch
    }

    /// The engine, for as long as this session is the share's and the share is where it was.
    fn core(&self) -> Result<MutexGuard<'_, Server<DiskStore>>, Refusal> {
        let core = lock(&self.share.core);
        if !self.is_current() {
            return Err(Refusal::replaced());
        }
        self.share.in_place()?;
        Ok(core)
    }

    /// Compares the share with its directory, and greets. The message and its body.
    ///
    /// # Errors
    /// When a newer session has come, or what the share holds cannot be made durable.
    pub fn welcome(&self, minor: u16) -> Result<(Response, Vec<u8>), Refusal> {
        let (id, settled) = {
            let lease = lock(&self.share.lease);
            (lease.meta.id.clone(), lease.meta.settled)
        };
        let leftovers = if minor >= MINOR_LEFTOVER {
            self.share.store().leftovers()
        } else {
            Vec::new()
        };
        let mut core = self.core()?;
        let keep = || {
            let time = humantime::format_rfc3339_seconds(clock::wall()).to_string();
            Name::new(time.as_bytes()).ok()
        };
        core.forget_session();
        core.set_keep(if settled { None } else { keep() });
        let look = core.refresh();
        core.make_up().map_err(|error| undurable(&error))?;
        self.share.tell(&mut core, &look);
        self.share.note(&core, None);
        let welcome = Response::Welcome {
            minor,
            share: id,
            generation: core.generation().to_owned(),
            version: core.version(),
            first_contact: !settled,
            keeps_setid: None,
            above: super::visit::above(&self.share.path, minor),
        };
        let mut body = core.root_sum().to_bytes().to_vec();
        leftovers.iter().for_each(|key| body.extend(key.0));
        Ok((welcome, body))
    }

    /// Brings a large group into view; see [`Server::begin`].
    ///
    /// # Errors
    /// When a newer session has come: nothing of the group came into view.
    pub fn begin(
        &self,
        group: Group<Staged>,
        synced: &Result<(), StoreError>,
    ) -> Result<Applied, Refusal> {
        Ok(self.core()?.begin(group, synced))
    }

    /// Ends what was begun; see [`Server::end`]. The answers.
    ///
    /// # Errors
    /// When a newer session has come; what was begun stays in view.
    pub fn end(
        &self,
        applied: Applied,
        synced: &Result<(), StoreError>,
    ) -> Result<Vec<Response>, Refusal> {
        let mut core = self.core()?;
        let answers = core.end(applied, synced);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        Ok(answers)
    }

    /// Commits a group. The answers.
    ///
    /// # Errors
    /// When a newer session has come: nothing of the group was committed.
    pub fn commit(&self, group: Group<Staged>) -> Result<Vec<Response>, Refusal> {
        let mut core = self.core()?;
        let answers = core.commit(group);
        self.share.note(&core, Some(Instant::now()));
        drop(core);
        self.share.wake_sweeper();
        Ok(answers)
    }

    /// What a directory of the share holds, durably.
    ///
    /// # Errors
    /// When a newer session has come, or what the share holds cannot be made durable.
    pub fn list(&self, id: u64, path: &RelPath, after: Option<&[u8]>) -> Result<Listing, Refusal> {
        let mut core = self.core()?;
        core.make_up().map_err(|error| undurable(&error))?;
        Ok(core.list(id, path, after))
    }

    /// Ends the first contact. Where nothing can be written now it goes on, and ends with a later session: what is deleted
    /// meanwhile is kept.
    ///
    /// # Errors
    /// When a newer session has come, or this cannot be recorded for another reason.
    pub fn settle(&self) -> Result<(), Refusal> {
        let mut core = self.core()?;
        let mut lease = lock(&self.share.lease);
        let mut meta = lease.meta.clone();
        meta.settled = true;
        match self.share.record(&mut lease, meta) {
            Ok(()) => core.set_keep(None),
            Err(refusal) if is_for_want_of_room(&refusal) => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Lets go of the share; its writer stays its writer.
    pub fn detach(&self) {
        let mut lease = lock(&self.share.lease);
        if self.is_current() {
            lease.session = None;
        }
    }
}

fn is_for_want_of_room(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::Fault(Fault::Full | Fault::ReadOnly))
}

fn undurable(error: &StoreError) -> Refusal {
    let message = format!("the share cannot be made durable: {}", error.message);
    Refusal::new(Code::Fault(error.fault), message)
}
