//! The list of devices as it stands in its file, and how somebody comes into it.

use super::{Device, DevicesError, Enrolling, MAX_DEVICES};
use crate::host::pending::Pending;
use crate::host::rights::Rights;
use crate::host::{clock, pki};
use crate::model::limits::MAX_SHARE_NAME;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) version: u32,
    pub(super) local_open: bool,
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) invites: Vec<Pending>,
}

impl Stored {
    /// The device of a key: the one that is there, or a new one without rights. One of the same user may do everything.
    pub(super) fn admit(
        &mut self,
        new: Enrolling<'_>,
        name: &str,
        local: bool,
    ) -> Result<&mut Device, DevicesError> {
        let seconds = clock::unix_seconds(new.now);
        let known = self.devices.iter().position(|device| device.id == new.id);
        if known.is_none() {
            if self.devices.len() >= MAX_DEVICES {
                return Err(DevicesError::Full);
            }
            let in_use = |name: &str| self.devices.iter().any(|d| !d.revoked && d.name == name);
            self.devices.push(Device {
                id: new.id.to_owned(),
                name: free_name(&pki::clean_name(name), in_use),
                local,
                rights: if local {
                    Rights::all()
                } else {
                    Rights::default()
                },
                enrolled_at: seconds,
                last_seen: seconds,
                revoked: false,
                certificate_until: 0,
            });
        }
        let place = known.unwrap_or(self.devices.len() - 1);
        let device = self
            .devices
            .get_mut(place)
            .ok_or_else(|| DevicesError::Unknown(new.id.to_owned()))?;
        if device.revoked {
            return Err(DevicesError::Revoked);
        }
        device.last_seen = seconds;
        if let Some(until) = new.until {
            device.certificate_until = clock::unix_seconds(until);
        }
        Ok(device)
    }

    /// The shares that devices other than one may use by name.
    pub(super) fn shares_of_others(&self, id: &str) -> impl Iterator<Item = &str> {
        let devices = self.devices.iter();
        let others = devices.filter(move |device| !device.revoked && device.id != id);
        others.flat_map(|device| device.rights.shares().filter_map(|(name, _)| name))
    }
}

/// A device's name as the name of a share: letters, digits, `.`, `-`, `_`.
pub(super) fn share_name(device: &str) -> String {
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = device.chars().map(fit).take(MAX_SHARE_NAME - 8).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "device".to_owned(),
        name => name.to_owned(),
    }
}

pub(super) fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2..=MAX_DEVICES + 2)
        .map(|number| format!("{wanted}-{number}"))
        .find(|name| !taken(name))
        .unwrap_or_else(|| wanted.to_owned())
}
