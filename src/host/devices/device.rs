//! A device, as the list has it and as a connection knows it.

use crate::host::rights::{Access, LiveRights, Rights};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

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
    /// When its certificate ends, in seconds since 1970; 0 where the server does not know it.
    #[serde(default)]
    pub certificate_until: u64,
}

/// Who is taken in, when, and with a certificate that ends when.
#[derive(Clone, Copy, Debug)]
pub struct Enrolling<'a> {
    /// SHA-256 of the public key, in hexadecimal.
    pub id: &'a str,
    /// The name that it brings.
    pub name: &'a str,
    /// The present.
    pub now: SystemTime,
    /// The end of its certificate; none where that is not known.
    pub until: Option<SystemTime>,
}

/// What an invite brought to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redeemed {
    /// The device as it now stands in the list.
    pub device: Device,
    /// The share; none for the directory itself.
    pub share: Option<String>,
    /// What it may do there.
    pub access: Access,
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
    /// When the certificate ends that it showed, in seconds since 1970; 0 where that is not known.
    pub certificate_until: u64,
    /// What it may do now, also when that changes while it is connected.
    pub rights: LiveRights,
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
