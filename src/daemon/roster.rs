//! Questions about devices over the control socket and their answers: `invite`, `clients`, `revoke`.
//!
//! Texts of peers are escaped by whoever fills them in, as in [`crate::daemon::status`]. New fields are added with
//! `#[serde(default)]`.

use crate::host::rights::Access;
use serde::{Deserialize, Serialize};

/// `{"op":"invite"}`: makes an invite, or enrols the key of a certificate at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InviteQuestion {
    /// The name of the device; none for the one that it brings.
    pub name: Option<String>,
    /// For which share; none for the directory itself, or one named after the device.
    pub share: Option<String>,
    /// Whether it is for the directory itself.
    pub root: bool,
    /// What the device may do there.
    pub access: Access,
    /// For how many seconds it is good.
    pub expires_seconds: u64,
    /// Where the server is found; none for where it listens.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// A certificate, PEM, whose key is enrolled instead of an invite being made.
    #[serde(default)]
    pub certificate: Option<String>,
}

/// The answer to [`InviteQuestion`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InviteAnswer {
    /// The line; none when a certificate was enrolled.
    pub invite: Option<String>,
    /// The device, when a certificate was enrolled.
    pub device: Option<String>,
    /// Where the server is found.
    pub addresses: Vec<String>,
    /// Whether only this machine finds it.
    pub loopback: bool,
    /// Whether the local invite had been closed and is good again.
    pub reopened: bool,
}

/// A device that a server has enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// SHA-256 of its key, in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is of the same user and came through the local invite.
    pub local: bool,
    /// Nothing is answered to it any more.
    pub revoked: bool,
    /// What it may do with every share, if anything: `read` or `write`.
    pub everywhere: Option<Access>,
    /// What it may do with single shares.
    pub shares: Vec<ShareAccess>,
    /// Seconds since 1970.
    pub enrolled_at: u64,
    /// Seconds since 1970.
    pub last_seen: u64,
    /// When its certificate ends, in seconds since 1970; none where the server does not know it.
    pub certificate_until: Option<u64>,
    /// Its connections.
    pub connections: Vec<DeviceConnection>,
}

/// What a device may do with one share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShareAccess {
    /// Its name; none for the server's directory itself.
    pub share: Option<String>,
    /// What.
    pub access: Access,
}

/// A connection of a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceConnection {
    /// From where.
    pub address: String,
    /// The share; none for the server's directory itself, or before it is open.
    pub share: Option<String>,
    /// For how long, in milliseconds.
    pub since_ms: u64,
}
