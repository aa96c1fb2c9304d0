//! The devices that a server directory has enrolled: an allow-list of public keys with names and rights.
//!
//! Kept in one JSON file that is replaced as a whole at each change. A device that is not in the list, or is in it as
//! revoked, gets no answer. Live connections of a device end when it is revoked: each holds its token.

mod device;
mod stored;

pub use device::{Device, DeviceInfo, Enrolling, NotServed, Redeemed};

use crate::host::clock;
use crate::host::pending::{self, Pending, Unredeemed};
use crate::host::private::{self, PrivateError};
use crate::host::rights::{Access, LiveRights, Rights};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use stored::{Stored, free_name, share_name};
use tokio_util::sync::CancellationToken;

/// Devices of one server directory at most, revoked ones included.
pub const MAX_DEVICES: usize = 4096;
/// Longest file of devices, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Seconds by which the noted time of the last visit may lag in the file.
const SEEN_LAG_SECONDS: u64 = 3600;
const FILE: &str = "devices.json";

/// Why the list cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The file cannot be used.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The file is no list of devices. Starting with an empty one would be safe, but would lock out everybody silently.
    #[error("`{}` is damaged; restore it, or remove it to enrol all devices again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// There are as many as there may be.
    #[error("{MAX_DEVICES} devices are enrolled, no more are allowed")]
    Full,
    /// The device was revoked.
    #[error("the device is revoked")]
    Revoked,
    /// The invite is not good.
    #[error(transparent)]
    Unredeemed(#[from] Unredeemed),
    /// Enrolment through the local invite is closed.
    #[error(
        "enrolment through the local invite is closed since a device of this home was revoked; `syncd invite` opens it again"
    )]
    LocalClosed,
    /// No device has that name or id.
    #[error("no device `{0}` is enrolled; `syncd clients` lists them")]
    Unknown(String),
}

/// What changes for connections while they last.
#[derive(Debug, Clone, Default)]
struct Live {
    revoked: CancellationToken,
    rights: LiveRights,
}

#[derive(Debug)]
struct Inner {
    stored: Stored,
    /// What the connections of a device hold, by its id.
    live: HashMap<String, Live>,
    /// When the file last followed a visit, in seconds since 1970.
    noted: HashMap<String, u64>,
}

/// The list of one server directory. Shared by its connections; changes are durable when a function returns.
#[derive(Debug)]
pub struct Devices {
    path: PathBuf,
    inner: Mutex<Inner>,
}

impl Devices {
    /// Reads the list in a server's state directory; none is an empty one.
    ///
    /// # Errors
    /// When the file cannot be used or is damaged.
    pub fn open(state: &Path) -> Result<Self, DevicesError> {
        let path = state.join(FILE);
        let stored = match private::read(&path, MAX_FILE) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| DevicesError::Damaged {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.is_absent() => Stored {
                version: 1,
                local_open: true,
                devices: Vec::new(),
                invites: Vec::new(),
            },
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path,
            inner: Mutex::new(Inner {
                stored,
                live: HashMap::new(),
                noted: HashMap::new(),
            }),
        })
    }

    /// The device of a key, if it is to be served.
    ///
    /// # Errors
    /// Why it is not.
    pub fn find(&self, id: &str) -> Result<DeviceInfo, NotServed> {
        let mut inner = self.lock();
        let device = inner
            .stored
            .devices
            .iter()
            .find(|device| device.id == id)
            .ok_or(NotServed::Unknown)?;
        if device.revoked {
            return Err(NotServed::Revoked);
        }
        let device = device.clone();
        let live = inner.live.entry(device.id.clone()).or_default().clone();
        live.rights.set(&device.rights);
        Ok(DeviceInfo {
            id: device.id,
            name: device.name,
            local: device.local,
            certificate_until: 0,
            rights: live.rights,
            revoked: live.revoked,
        })
    }

    /// Takes a device in through the local invite, or renews one that is there (its name and rights stay). A name that is
    /// taken gets a number.
    ///
    /// # Errors
    /// When it is revoked, local enrolment is closed, the list is full or cannot be written.
    pub fn enrol(&self, new: Enrolling<'_>) -> Result<Device, DevicesError> {
        self.change(|stored| {
            if !stored.local_open {
                return Err(DevicesError::LocalClosed);
            }
            Ok(stored.admit(new, new.name, true)?.clone())
        })
    }

    /// Takes a device in whose key the owner named, with rights for one share in addition to those that it has.
    ///
    /// # Errors
    /// When it is revoked, the list is full or cannot be written.
    pub fn allow(&self, new: Enrolling<'_>, rights: Rights) -> Result<Device, DevicesError> {
        self.change(|stored| {
            let device = stored.admit(new, new.name, false)?;
            device.rights.renew(rights);
            Ok(device.clone())
        })
    }

    /// Remembers an invite.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn invite(&self, invite: Pending, now: SystemTime) -> Result<(), DevicesError> {
        self.change(|stored| {
            pending::add(&mut stored.invites, invite, now);
            Ok(())
        })
    }

    /// Takes back all invites that could still bring a device in. How many.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn withdraw_invites(&self, now: SystemTime) -> Result<usize, DevicesError> {
        self.change(|stored| Ok(pending::withdraw(&mut stored.invites, now)))
    }

    /// Whether a device may use the invite of a secret, without using it.
    ///
    /// # Errors
    /// Why it may not.
    pub fn is_invited(&self, secret: &str, id: &str, now: SystemTime) -> Result<(), Unredeemed> {
        let mut invites = self.lock().stored.invites.clone();
        pending::find(&mut invites, secret, id, now).map(drop)
    }

    /// Takes a device in through an invite, which is used up. The rights are added to those that the device has. `taken`
    /// tells whether a share of a name exists: a share named after a device is a new one, unless the owner chose the name.
    ///
    /// # Errors
    /// When the invite is not good, the device is revoked, the list is full or cannot be written.
    pub fn redeem(
        &self,
        secret: &str,
        new: Enrolling<'_>,
        taken: impl Fn(&str) -> bool,
    ) -> Result<Redeemed, DevicesError> {
        self.change(|stored| {
            let invite = pending::find(&mut stored.invites, secret, new.id, new.now)?.clone();
            let again = invite.used_by.is_some();
            let name = invite.name.as_deref().unwrap_or(new.name);
            let others: Vec<String> = stored.shares_of_others(new.id).map(str::to_owned).collect();
            let device = stored.admit(new, name, false)?;
            let of_others = |name: &str| {
                let own = device.rights.access(Some(name)).is_some();
                !own && (taken(name) || others.iter().any(|other| other == name))
            };
            let share = match (invite.own && !again, &invite.name) {
                (false, _) => invite.share.clone(),
                (true, Some(name)) => Some(share_name(name)),
                (true, None) => Some(free_name(&share_name(&device.name), of_others)),
            };
            // Who asks again is told again, but gets nothing back that the owner has taken away since.
            if !again {
                device
                    .rights
                    .renew(Rights::of(share.as_deref(), invite.access));
            }
            let device = device.clone();
            let access = device.rights.access(share.as_deref());
            if let Ok(used) = pending::find(&mut stored.invites, secret, new.id, new.now) {
                used.used_by = Some(new.id.to_owned());
                used.share.clone_from(&share);
            }
            Ok(Redeemed {
                device,
                share,
                access: access.unwrap_or(Access::Read),
            })
        })
    }

    /// Notes a new certificate of a device.
    ///
    /// # Errors
    /// When the device is not served, or the list cannot be written.
    pub fn renewed(&self, id: &str, until: SystemTime) -> Result<(), DevicesError> {
        self.change(|stored| {
            let device = stored.devices.iter_mut().find(|device| device.id == id);
            match device {
                Some(device) if !device.revoked => {
                    device.certificate_until = clock::unix_seconds(until);
                    Ok(())
                }
                Some(_) => Err(DevicesError::Revoked),
                None => Err(DevicesError::Unknown(id.to_owned())),
            }
        })
    }

    /// Notes that a device was here, and until when the certificate is good that it showed. The file follows within the hour.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn seen(&self, id: &str, now: SystemTime, until: u64) -> Result<(), DevicesError> {
        let seconds = clock::unix_seconds(now);
        {
            let mut inner = self.lock();
            let Inner { stored, noted, .. } = &mut *inner;
            let Some(device) = stored.devices.iter_mut().find(|device| device.id == id) else {
                return Ok(());
            };
            device.last_seen = seconds;
            // It may have got a later one since it connected.
            device.certificate_until = device.certificate_until.max(until);
            let noted = noted.entry(id.to_owned()).or_default();
            if seconds.saturating_sub(*noted) < SEEN_LAG_SECONDS {
                return Ok(());
            }
            *noted = seconds;
        }
        self.change(|_| Ok(()))
    }

    /// Revokes the device of that name or id, at once and for good. When it was of the same user, enrolment through the
    /// local invite closes too: its home could otherwise come back with a new key.
    ///
    /// # Errors
    /// When there is no such device, or the list cannot be written.
    pub fn revoke(&self, name_or_id: &str) -> Result<Device, DevicesError> {
        let device = self.change(|stored| {
            let device = stored
                .devices
                .iter_mut()
                // A name may be in use again after its first holder was revoked, and no name stands for another's id.
                .filter(|device| device.name == name_or_id || device.id == name_or_id)
                .min_by_key(|device| (device.id != name_or_id, device.revoked))
                .ok_or_else(|| DevicesError::Unknown(name_or_id.to_owned()))?;
            device.revoked = true;
            let device = device.clone();
            if device.local {
                stored.local_open = false;
            }
            Ok(device)
        })?;
        if let Some(live) = self.lock().live.remove(&device.id) {
            live.revoked.cancel();
        }
        Ok(device)
    }

    /// Whether the local invite may be used.
    #[must_use]
    pub fn local_open(&self) -> bool {
        self.lock().stored.local_open
    }

    /// Lets the local invite be used again.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn open_local(&self) -> Result<(), DevicesError> {
        self.change(|stored| {
            stored.local_open = true;
            Ok(())
        })
    }

    /// All devices, in the order of their enrolment.
    #[must_use]
    pub fn list(&self) -> Vec<Device> {
        self.lock().stored.devices.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic cannot leave the list half changed: `change` works on a copy.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change to a copy, writes it, and only then lets it hold.
    fn change<T>(
        &self,
        work: impl FnOnce(&mut Stored) -> Result<T, DevicesError>,
    ) -> Result<T, DevicesError> {
        let mut inner = self.lock();
        let mut next = inner.stored.clone();
        let result = work(&mut next)?;
        let text = serde_json::to_vec_pretty(&next).map_err(|source| DevicesError::Damaged {
            path: self.path.clone(),
            source,
        })?;
        private::write(&self.path, &text)?;
        inner.stored = next;
        for device in &inner.stored.devices {
            if let Some(live) = inner.live.get(&device.id) {
                live.rights.set(&device.rights);
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
