//! Invites for devices of other machines, as a server keeps them: hashes of secrets, each good for one device and for a
//! time. They stand in the list of devices, so that an invite is used up in the same durable step that takes a device in.

use crate::host::clock;
use crate::host::rights::Access;
use crate::wire::InvitedShare;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::SystemTime;

/// Invites that are kept at most, used and ended ones included.
pub const MAX_PENDING: usize = 256;
/// Seconds for which an invite that is used or has ended is remembered, so that its holder is told why it fails.
const REMEMBERED_SECONDS: u64 = 30 * 86_400;

/// An invite that was given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// The name that the device gets; none for the one that it brings.
    pub name: Option<String>,
    /// The share; none for the directory itself, or for one named after the device.
    pub share: Option<String>,
    /// Whether it is for a share named after the device.
    pub own: bool,
    /// What the device may do there.
    pub access: Access,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// The device that it brought in.
    pub used_by: Option<String>,
    /// Whether the owner took it back before it was used.
    #[serde(default)]
    pub withdrawn: bool,
}

/// Why an invite does not bring a device in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unredeemed {
    /// Its secret is none that was given out, or is long forgotten.
    #[error("the server knows no such invite (any more)")]
    Unknown,
    /// It brought another device in.
    #[error("the invite was used already, and is good once")]
    Used,
    /// Its time is over.
    #[error("the invite has expired")]
    Expired,
    /// The owner of the server took it back.
    #[error("the invite was withdrawn")]
    Withdrawn,
}

impl Pending {
    /// An invite for a secret that was just made.
    #[must_use]
    pub fn new(
        secret: &str,
        name: Option<String>,
        share: &InvitedShare,
        access: Access,
        expires_at: u64,
    ) -> Self {
        Self {
            hash: hash(secret),
            name,
            share: match share {
                InvitedShare::Named(name) => Some(name.clone()),
                InvitedShare::Root | InvitedShare::Own => None,
            },
            own: *share == InvitedShare::Own,
            access,
            expires_at,
            used_by: None,
            withdrawn: false,
        }
    }

    /// Whether it can be used by a device. The one that used it may ask again: the answer may have been lost.
    fn check(&self, device: &str, now: u64) -> Result<(), Unredeemed> {
        match &self.used_by {
            Some(by) if by != device => Err(Unredeemed::Used),
            _ if self.withdrawn => Err(Unredeemed::Withdrawn),
            _ if now >= self.expires_at => Err(Unredeemed::Expired),
            _ => Ok(()),
        }
    }
}

/// The invite of a secret, if a device may use it. Hashes are compared, so time tells nothing about secrets.
///
/// # Errors
/// Why it may not.
pub fn find<'a>(
    pending: &'a mut [Pending],
    secret: &str,
    device: &str,
    now: SystemTime,
) -> Result<&'a mut Pending, Unredeemed> {
    let wanted = hash(secret);
    let found = pending
        .iter_mut()
        .find(|invite| invite.hash == wanted)
        .ok_or(Unredeemed::Unknown)?;
    found.check(device, clock::unix_seconds(now))?;
    Ok(found)
}

/// Adds an invite. What ended long ago goes, and beyond the bound the oldest.
pub fn add(pending: &mut Vec<Pending>, invite: Pending, now: SystemTime) {
    let now = clock::unix_seconds(now);
    pending.retain(|old| old.expires_at.saturating_add(REMEMBERED_SECONDS) > now);
    let over = (pending.len() + 1).saturating_sub(MAX_PENDING);
    pending.drain(..over);
    pending.push(invite);
}

/// Takes back all that could still bring a device in. How many.
pub fn withdraw(pending: &mut [Pending], now: SystemTime) -> usize {
    let now = clock::unix_seconds(now);
    let open = |invite: &&mut Pending| {
        invite.used_by.is_none() && !invite.withdrawn && now < invite.expires_at
    };
    let open = pending.iter_mut().filter(open);
    open.map(|invite| invite.withdrawn = true).count()
}

/// What is kept of a secret.
pub(crate) fn hash(secret: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{MAX_PENDING, Pending, Unredeemed, add, find, withdraw};
    use crate::host::clock;
    use crate::host::rights::Access;
    use crate::wire::InvitedShare;
    use std::time::Duration;

    #[test]
    fn an_invite_is_good_once_and_for_a_time() {
        let now = clock::wall();
        let hour = Duration::from_secs(3600);
        let ends = clock::unix_seconds(now + hour);
        let new =
            |secret: &str| Pending::new(secret, None, &InvitedShare::Root, Access::Write, ends);
        let mut all = Vec::new();
        add(&mut all, new("s"), now);
        assert_eq!(find(&mut all, "t", "a", now), Err(Unredeemed::Unknown));
        assert_eq!(
            find(&mut all, "s", "a", now + hour),
            Err(Unredeemed::Expired)
        );
        find(&mut all, "s", "a", now).unwrap().used_by = Some("a".to_owned());
        assert_eq!(find(&mut all, "s", "b", now), Err(Unredeemed::Used));
        add(&mut all, new("w"), now);
        assert_eq!(withdraw(&mut all, now + hour), 0);
        assert_eq!(withdraw(&mut all, now), 1);
        assert_eq!(find(&mut all, "w", "a", now), Err(Unredeemed::Withdrawn));
        assert_eq!(withdraw(&mut all, now), 0);
        assert!(find(&mut all, "s", "a", now).is_ok());
        // The oldest gives way, and what ended long ago is forgotten.
        for number in 0..MAX_PENDING {
            add(&mut all, new(&number.to_string()), now);
        }
        assert_eq!(all.len(), MAX_PENDING);
        assert_eq!(find(&mut all, "s", "a", now), Err(Unredeemed::Unknown));
        add(&mut all, new("late"), now + 800 * hour);
        assert_eq!(all.len(), 1);
    }
}
