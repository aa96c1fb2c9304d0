//! What somebody has of a share who uses it without mirroring it.

use super::shares::{check_name, forbidden};
use super::{Refusal, Share, Shares, lock};
use crate::host::devices::DeviceInfo;
use crate::host::rights::Access;
use crate::wire::Code;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many may use shares without mirroring them at a time.
pub(super) const MAX_USERS: usize = 512;

/// Requests of one kind that threads work at for all users together. A thread may be held up by a line that does not move: all
/// of them together leave enough of the runtime's 512 to those who mirror or enrol.
const MAX_TURNS: usize = 160;

/// Who may have a thread.
#[derive(Debug)]
pub(super) struct Turns {
    files: Arc<Semaphore>,
    keys: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let turns = || Arc::new(Semaphore::new(MAX_TURNS));
        Self {
            files: turns(),
            keys: turns(),
        }
    }
}

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// Files.
    Files,
    /// Keys.
    Keys,
}

/// Somebody who uses a share, or nothing where no share is yet.
#[derive(Debug)]
pub struct User {
    shares: Arc<Shares>,
    name: Option<String>,
    share: Mutex<Option<Arc<Share>>>,
    _place: OwnedSemaphorePermit,
}

impl User {
    pub(super) fn new(
        shares: Arc<Shares>,
        name: Option<&str>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            shares,
            name: name.map(str::to_owned),
            share: Mutex::new(None),
            _place: place,
        }
    }

    /// Where a request waits for a thread: those about keys never wait for those about files.
    #[must_use]
    pub fn turns(&self, about: About) -> Arc<Semaphore> {
        let turns = &self.shares.turns;
        Arc::clone(match about {
            About::Files => &turns.files,
            About::Keys => &turns.keys,
        })
    }

    /// The share to read from; none where no share is yet. Blocks while it is opened.
    ///
    /// # Errors
    /// When it cannot be opened, or the directory is not used so.
    pub fn share(&self) -> Result<Option<Arc<Share>>, Refusal> {
        let known = lock(&self.share).clone();
        if known.is_none() && !self.shares.is_there(self.name.as_deref()) {
            return Ok(None);
        }
        self.made().map(Some)
    }

    /// The share to write to, which is made if it is not there. Blocks while it is opened.
    ///
    /// # Errors
    /// When it cannot be opened or made, or the directory is not used so.
    pub fn made(&self) -> Result<Arc<Share>, Refusal> {
        if let Some(share) = lock(&self.share).clone() {
            return Ok(share);
        }
        let share = self.shares.share(self.name.as_deref())?;
        *lock(&self.share) = Some(Arc::clone(&share));
        Ok(share)
    }
}

impl Shares {
    /// Lets a device use a share, which is made when it is first written to.
    ///
    /// # Errors
    /// When the device may not, or as many as may do so already.
    pub fn user(
        self: &Arc<Self>,
        name: Option<&str>,
        device: &DeviceInfo,
    ) -> Result<User, Refusal> {
        let rights = device.rights.get();
        if !rights.allow(name, Access::Read) {
            return Err(forbidden(&rights, name));
        }
        name.map(check_name).transpose()?;
        let place = self.users.clone().try_acquire_owned();
        let place = place
            .map_err(|_| Refusal::new(Code::Busy, "as many as may use shares do so already"))?;
        Ok(User::new(Arc::clone(self), name, place))
    }
}
