//! What a client remembers of the invites that it has joined servers by: where they are, and for which shares.
//!
//! One private file for each server, beside the key of [`crate::host::enrolment`].

use crate::host::enrolment::{Enrolments, MAX_SERVERS};
use crate::host::private::{self, PrivateError};
use crate::host::{certificate, pending, pki};
use serde::{Deserialize, Serialize};

/// Used invites of one server that are remembered.
const MAX_USED: usize = 16;
const JOINED_FILE: &str = "joined.json";

/// A server that this home has joined by an invite.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinedServer {
    /// Its id.
    pub server_id: String,
    /// Where it was when it was joined, `HOST:PORT`: the one that answered first, then the others.
    pub addresses: Vec<String>,
    /// What for.
    pub shares: Vec<JoinedShare>,
    /// SHA-256 of the last secrets that were used, in hexadecimal: an invite is good once.
    #[serde(default)]
    pub used: Vec<String>,
}

impl JoinedServer {
    /// Whether this home has used the invite of a secret.
    #[must_use]
    pub fn has_used(&self, secret: &str) -> bool {
        self.used.contains(&pending::hash(secret))
    }

    /// Whether it was joined for a share of that name.
    #[must_use]
    pub fn has(&self, share: &str) -> bool {
        self.shares
            .iter()
            .any(|it| it.name.as_deref() == Some(share))
    }
}

/// A share that a home has joined for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinedShare {
    /// Its name; none for the server's directory itself.
    pub name: Option<String>,
    /// Whether this device may change files there.
    pub write: bool,
}

impl Enrolments {
    /// The servers that this home has joined by an invite.
    #[must_use]
    pub fn joined(&self) -> Vec<JoinedServer> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let mut joined: Vec<JoinedServer> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| certificate::is_server_id(name))
            .take(MAX_SERVERS)
            .filter_map(|id| self.joined_with(&id))
            .collect();
        joined.sort_by(|a, b| a.server_id.cmp(&b.server_id));
        joined
    }

    /// What this home has joined one server for, if by an invite.
    #[must_use]
    pub fn joined_with(&self, server_id: &str) -> Option<JoinedServer> {
        let path = self.dir.join(server_id).join(JOINED_FILE);
        let text = private::read(&path, pki::MAX_PEM).ok()?;
        let joined: JoinedServer = serde_json::from_slice(&text).ok()?;
        (joined.server_id == server_id).then_some(joined)
    }

    /// Notes that this home has joined a server by an invite, in addition to what it joined before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_joined(
        &self,
        server_id: &str,
        addresses: Vec<String>,
        share: JoinedShare,
        secret: &str,
    ) -> Result<JoinedServer, PrivateError> {
        let mut joined = self.joined_with(server_id).unwrap_or_else(|| JoinedServer {
            server_id: server_id.to_owned(),
            addresses: Vec::new(),
            shares: Vec::new(),
            used: Vec::new(),
        });
        joined.used.truncate(MAX_USED - 1);
        joined.used.insert(0, pending::hash(secret));
        joined.addresses = addresses;
        joined.shares.retain(|old| old.name != share.name);
        joined.shares.push(share);
        self.make(server_id)?;
        let text = serde_json::to_vec_pretty(&joined).unwrap_or_default();
        private::write(&self.dir.join(server_id).join(JOINED_FILE), &text)?;
        Ok(joined)
    }
}
