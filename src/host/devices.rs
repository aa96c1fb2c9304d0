//! The devices that a server directory has enrolled: an allow-list of public keys with names and rights.
//!
//! Kept in one JSON file that is replaced as a whole at each change. A device that is not in the list, or is in it as
//! revoked, gets no answer. Live connections of a device end when it is revoked: each holds its token.

use crate::host::private::{self, PrivateError};
use crate::host::{clock, pki};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
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
    /// Enrolment through the local invite is closed.
    #[error("enrolment through the local invite is closed since a device of this home was revoked")]
    LocalClosed,
    /// No device has that name or id.
    #[error("no device `{0}` is enrolled")]
    Unknown(String),
}

/// What a device may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rights {
    /// Change files; otherwise it may only read.
    pub write: bool,
    /// The shares it may use by name; none means all, and the directory itself.
    pub shares: Option<Vec<String>>,
}

impl Rights {
    /// Everything: what the owner's own devices get.
    #[must_use]
    pub fn all() -> Self {
        Self {
            write: true,
            shares: None,
        }
    }

    /// Whether a share may be used (`None`: the directory itself).
    #[must_use]
    pub fn allows(&self, share: Option<&str>) -> bool {
        match (&self.shares, share) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(shares), Some(share)) => shares.iter().any(|allowed| allowed == share),
        }
    }
}

/// A device in the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Device {
    /// SHA-256 of its public key, in hexadecimal.
    pub id: String,
    /// Its name, unique in the list.
    pub name: String,
    /// Whether it came through the local invite, so is of the same user.
    pub local: bool,
    /// What it may do.
    pub rights: Rights,
    /// Seconds since 1970.
    pub enrolled_at: u64,
    /// Seconds since 1970, 0 for never.
    pub last_seen: u64,
    /// Nothing is answered to it any more.
    pub revoked: bool,
}

/// A device as a connection knows it.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// SHA-256 of its public key, in hexadecimal.
    pub id: String,
    /// Its name when it connected.
    pub name: String,
    /// Whether it is of the same user.
    pub local: bool,
    /// What it may do.
    pub rights: Rights,
    /// Is cancelled when the device is revoked: the connection must end.
    pub revoked: CancellationToken,
}

/// Why a device is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotServed {
    /// It is not in the list.
    Unknown,
    /// It was revoked.
    Revoked,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    version: u32,
    local_open: bool,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Inner {
    stored: Stored,
    tokens: HashMap<String, CancellationToken>,
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
            },
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            path,
            inner: Mutex::new(Inner {
                stored,
                tokens: HashMap::new(),
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
        let revoked = inner.tokens.entry(device.id.clone()).or_default().clone();
        Ok(DeviceInfo {
            id: device.id,
            name: device.name,
            local: device.local,
            rights: device.rights,
            revoked,
        })
    }

    /// Takes a device in, or renews one that is there (its name and rights stay). A name that is taken gets a number.
    ///
    /// # Errors
    /// When it is revoked, the list is full or cannot be written.
    pub fn enrol(
        &self,
        id: &str,
        name: &str,
        local: bool,
        rights: Rights,
        now: SystemTime,
    ) -> Result<Device, DevicesError> {
        let seconds = clock::unix_seconds(now);
        self.change(|stored| {
            if local && !stored.local_open {
                return Err(DevicesError::LocalClosed);
            }
            if let Some(known) = stored.devices.iter_mut().find(|device| device.id == id) {
                if known.revoked {
                    return Err(DevicesError::Revoked);
                }
                known.last_seen = seconds;
                return Ok(known.clone());
            }
            if stored.devices.len() >= MAX_DEVICES {
                return Err(DevicesError::Full);
            }
            let device = Device {
                id: id.to_owned(),
                name: free_name(&stored.devices, &pki::clean_name(name)),
                local,
                rights,
                enrolled_at: seconds,
                last_seen: seconds,
                revoked: false,
            };
            stored.devices.push(device.clone());
            Ok(device)
        })
    }

    /// Notes that a device was here. The file follows within the hour.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn seen(&self, id: &str, now: SystemTime) -> Result<(), DevicesError> {
        let seconds = clock::unix_seconds(now);
        let recent = self
            .lock()
            .stored
            .devices
            .iter()
            .any(|d| d.id == id && seconds.saturating_sub(d.last_seen) < SEEN_LAG_SECONDS);
        if recent {
            return Ok(());
        }
        self.change(|stored| {
            for device in stored.devices.iter_mut().filter(|device| device.id == id) {
                device.last_seen = seconds;
            }
            Ok(())
        })
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
                .find(|device| device.name == name_or_id || device.id == name_or_id)
                .ok_or_else(|| DevicesError::Unknown(name_or_id.to_owned()))?;
            device.revoked = true;
            let device = device.clone();
            if device.local {
                stored.local_open = false;
            }
            Ok(device)
        })?;
        if let Some(token) = self.lock().tokens.remove(&device.id) {
            token.cancel();
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
        Ok(result)
    }
}

fn free_name(devices: &[Device], wanted: &str) -> String {
    let taken = |name: &str| devices.iter().any(|device| device.name == name);
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2..=MAX_DEVICES + 1)
        .map(|number| format!("{wanted}-{number}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Devices, DevicesError, NotServed, Rights};
    use crate::host::clock::wall;

    #[test]
    fn a_list_outlives_the_process_and_names_stay_apart() {
        let temp = tempfile::tempdir().unwrap();
        let devices = Devices::open(temp.path()).unwrap();
        let enrol = |id: &str| {
            devices
                .enrol(id, "laptop", true, Rights::all(), wall())
                .unwrap()
        };
        assert_eq!(
            (enrol("a").name, enrol("b").name),
            ("laptop".into(), "laptop-2".into())
        );
        assert_eq!(enrol("a").name, "laptop");
        let again = Devices::open(temp.path()).unwrap();
        assert_eq!(again.list(), devices.list());
        assert_eq!(again.find("c").unwrap_err(), NotServed::Unknown);
    }

    #[test]
    fn revoking_ends_connections_and_closes_the_local_invite() {
        let temp = tempfile::tempdir().unwrap();
        let devices = Devices::open(temp.path()).unwrap();
        let enrol = |id: &str| devices.enrol(id, id, true, Rights::all(), wall());
        enrol("a").unwrap();
        let live = devices.find("a").unwrap().revoked;
        devices.revoke("a").unwrap();
        assert!(live.is_cancelled());
        let devices = Devices::open(temp.path()).unwrap();
        assert_eq!(devices.find("a").unwrap_err(), NotServed::Revoked);
        let enrol = |id: &str| devices.enrol(id, id, true, Rights::all(), wall());
        assert!(matches!(enrol("b"), Err(DevicesError::LocalClosed)));
        devices.open_local().unwrap();
        assert!(matches!(enrol("a"), Err(DevicesError::Revoked)));
        assert!(enrol("b").is_ok());
        assert!(matches!(devices.revoke("z"), Err(DevicesError::Unknown(_))));
    }

    #[test]
    fn rights_name_shares() {
        let rights = Rights {
            write: true,
            shares: Some(vec!["photos".to_owned()]),
        };
        assert!(rights.allows(Some("photos")) && !rights.allows(Some("x")) && !rights.allows(None));
        assert!(Rights::all().allows(None));
    }
}
