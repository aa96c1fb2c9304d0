//! Local invites: what a server leaves in its user's data directory so that this user's clients can enrol themselves.
//!
//! One private file for each server id. A client never chooses by address: it looks the id up that the server shows in
//! its certificate, and believes only the authority that the invite of that id carries.

use crate::host::certificate::{self, DamagedCertificate};
use crate::host::dirs::Dirs;
use crate::host::pki::{Identity, PkiError};
use crate::host::private::{self, PrivateError};
use crate::host::random::{self, RandomError};
use crate::host::{pem, tls::Pin};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest invite, in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Invites that are looked at, at most.
const MAX_INVITES: usize = 1024;
const FILE: &str = "invite.json";

/// Why an invite cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// Its file or directory.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// No secret.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The server's own certificate cannot be read.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A local invite.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LocalInvite {
    /// Layout of the file, 1.
    pub version: u32,
    /// The server's id.
    pub server_id: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// What proves that its holder can read this user's files.
    pub secret: String,
    /// Where the server listens, for information and as a default to dial.
    pub addresses: Vec<String>,
    /// What it serves, for a person.
    pub directory: String,
}

impl LocalInvite {
    /// The invite of a server that starts, with a new secret. It is not written yet.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn new(
        identity: &Identity,
        addresses: Vec<String>,
        directory: &Path,
    ) -> Result<Self, InviteError> {
        Ok(Self {
            version: 1,
            server_id: identity.server_id().to_owned(),
            authority: identity.authority_pem().to_owned(),
            secret: random::hex::<32>()?,
            addresses,
            directory: directory.display().to_string(),
        })
    }

    /// Leaves it for clients, and removes older ones of servers that are gone: of the same directory under another
    /// id, or of directories that no longer exist.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn publish(&self, dirs: &Dirs) -> Result<(), InviteError> {
        for (path, old) in stored(dirs) {
            let gone = old.server_id != self.server_id
                && (old.directory == self.directory
                    || matches!(Path::new(&old.directory).try_exists(), Ok(false)));
            if gone {
                private::remove(&path)?;
            }
        }
        private::create_dir(&dirs.invites())?;
        let dir = dirs.invites().join(&self.server_id);
        private::create_dir(&dir)?;
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(private::write(&dir.join(FILE), &text)?)
    }

    /// When its server was last started, as far as that can be told.
    #[must_use]
    pub fn published(&self, dirs: &Dirs) -> Option<SystemTime> {
        let file = dirs.invites().join(&self.server_id).join(FILE);
        file.metadata().and_then(|found| found.modified()).ok()
    }

    /// The authority to believe for this server.
    ///
    /// # Errors
    /// When the invite's parts do not fit together.
    pub fn pin(&self) -> Result<Pin, PkiError> {
        let authority = pem::certificate(&self.authority)?;
        if certificate::server_id(&authority).as_deref() != Some(&self.server_id) {
            return Err(DamagedCertificate.into());
        }
        Ok(Pin {
            server_id: self.server_id.clone(),
            authority,
        })
    }
}

/// Withdraws the invite of a server.
///
/// # Errors
/// When it cannot be removed.
pub fn withdraw(dirs: &Dirs, server_id: &str) -> Result<(), PrivateError> {
    private::remove(&dirs.invites().join(server_id).join(FILE))
}

/// The usable local invites, by server id. What does not fit together, or others could have read or written, is left
/// out with a warning.
#[must_use]
pub fn local_invites(dirs: &Dirs) -> Vec<LocalInvite> {
    stored(dirs)
        .into_iter()
        .filter_map(|(path, invite)| match invite.pin() {
            Ok(_) => Some(invite),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a local invite is not believed");
                None
            }
        })
        .collect()
}

fn stored(dirs: &Dirs) -> Vec<(PathBuf, LocalInvite)> {
    let Ok(entries) = std::fs::read_dir(dirs.invites()) else {
        return Vec::new();
    };
    let mut ids: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| certificate::is_server_id(name))
        .take(MAX_INVITES)
        .collect();
    ids.sort();
    ids.into_iter()
        .filter_map(|id| {
            let path = dirs.invites().join(&id).join(FILE);
            let text = match private::read(&path, MAX_FILE) {
                Ok(text) => text,
                Err(error) if error.is_absent() => return None,
                Err(error) => {
                    tracing::warn!(%error, "a local invite is not believed");
                    return None;
                }
            };
            match serde_json::from_slice::<LocalInvite>(&text) {
                Ok(invite) if invite.version == 1 && invite.server_id == id => Some((path, invite)),
                _ => {
                    tracing::warn!(path = %path.display(), "a local invite is damaged");
                    None
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{LocalInvite, local_invites, withdraw};
    use crate::host::{clock, dirs::Dirs, pki::Identity, private};

    #[test]
    fn only_whole_and_private_invites_are_believed() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::below(&temp.path().join("home"));
        let make = |name: &str| {
            let state = temp.path().join(name);
            private::create_dir(&state).unwrap();
            let identity = Identity::open(&state, clock::wall()).unwrap();
            LocalInvite::new(&identity, vec!["127.0.0.1:1".to_owned()], &state).unwrap()
        };
        let (a, b) = (make("a"), make("b"));
        a.publish(&dirs).unwrap();
        b.publish(&dirs).unwrap();
        assert_eq!(local_invites(&dirs).len(), 2);
        // One that carries another server's authority.
        let forged = LocalInvite {
            authority: a.authority.clone(),
            ..b.clone()
        };
        forged.publish(&dirs).unwrap();
        assert_eq!(local_invites(&dirs), vec![a.clone()]);
        // One that lies under another server's id.
        let path = dirs.invites().join(&b.server_id).join("invite.json");
        private::write(&path, &serde_json::to_vec(&a).unwrap()).unwrap();
        assert_eq!(local_invites(&dirs), vec![a.clone()]);
        // A server made anew for the same directory replaces the invite; one of a lost directory goes.
        std::fs::remove_dir_all(temp.path().join("a")).unwrap();
        let again = make("a");
        again.publish(&dirs).unwrap();
        assert_eq!(local_invites(&dirs), vec![again.clone()]);
        withdraw(&dirs, &again.server_id).unwrap();
        assert!(local_invites(&dirs).is_empty());
    }
}
