//! What a running server answers on its control socket.

use crate::daemon::cache::FileCache;
use crate::daemon::keys::Keys;
use crate::daemon::roster::{
    DeviceConnection, DeviceStatus, InviteAnswer, InviteQuestion, ShareAccess,
};
use crate::daemon::share::Shares;
use crate::daemon::status::{CacheStatus, ConnectedClient, KeysStatus, ServerStatus, Status};
use crate::daemon::trust::{Guest, Trust};
use crate::host::devices::{Device, DeviceInfo};
use crate::host::rights::Rights;
use crate::host::{clock, net, pem};
use crate::model::escape;
use crate::wire::InvitedShare;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest time for which an invite is good, whatever is asked for.
const LONGEST_INVITE: Duration = Duration::from_hours(30 * 24);

/// The clients that are connected, by the number of their connection.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<BTreeMap<u64, Connected>>>);

/// One of them.
#[derive(Debug)]
pub struct Connected {
    /// Whose connection it is.
    pub device: DeviceInfo,
    /// From where.
    pub address: SocketAddr,
    /// Since when.
    pub since: Instant,
    /// The share, once it is open.
    pub share: Arc<OnceLock<Option<String>>>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Connected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in until it leaves.
    pub fn enter(&self, number: u64, connected: Connected) {
        self.lock().insert(number, connected);
    }

    /// Takes one out.
    pub fn leave(&self, number: u64) {
        self.lock().remove(&number);
    }
}

impl Connected {
    fn since_ms(&self) -> u64 {
        let since = clock::monotonic().saturating_duration_since(self.since);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the answers are made from.
pub struct Answers {
    /// The directory of `-d`, for people.
    pub directory: String,
    /// Where the server listens.
    pub address: SocketAddr,
    /// Whom it believes.
    pub trust: Trust,
    /// What it serves.
    pub shares: Arc<Shares>,
    /// Who is connected.
    pub clients: Clients,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The files that are in memory.
    pub files: Arc<FileCache>,
    /// Where the memcached protocol is spoken.
    pub memcached: Option<SocketAddr>,
}

impl Answers {
    /// Answers one question.
    pub async fn answer(self: Arc<Self>, question: Value) -> Value {
        // What changes the list of devices waits for the disk.
        tokio::task::spawn_blocking(move || self.answer_now(question))
            .await
            .unwrap_or_else(|_| failure("the server failed; its log says why"))
    }

    fn answer_now(&self, question: Value) -> Value {
        match question.get("op").and_then(Value::as_str) {
            Some("status") => value(&Status::Server(self.status())),
            Some("clients") => value(&self.devices()),
            Some("invite") => match serde_json::from_value(question) {
                Ok(question) => self.invite(question).map_or_else(failure, |it| value(&it)),
                Err(error) => failure(format!("the question is not understood: {error}")),
            },
            Some("revoke") => {
                let name = question.get("name").and_then(Value::as_str);
                self.revoke(name.unwrap_or_default())
                    .map_or_else(failure, |device| value(&device))
            }
            Some("withdraw") => {
                let devices = self.trust.devices();
                match devices.withdraw_invites(clock::wall()) {
                    Ok(withdrawn) => json!({ "withdrawn": withdrawn }),
                    Err(error) => failure(error.to_string()),
                }
            }
            _ => failure("a server answers `status`, `clients`, `invite`, `revoke` and `withdraw`"),
        }
    }

    fn status(&self) -> ServerStatus {
        let clients = self.clients.lock();
        let clients = clients.values().map(|client| ConnectedClient {
            device: client.device.id.clone(),
            name: escape(client.device.name.as_bytes()),
            share: client.share.get().cloned().flatten(),
            since_ms: client.since_ms(),
            address: client.address.to_string(),
        });
        ServerStatus {
            directory: self.directory.clone(),
            listen: vec![self.address.to_string()],
            server_id: self.trust.server_id().to_owned(),
            shares: self.shares.status(),
            clients: clients.collect(),
            keys: Some(self.kept()),
            cache: Some(self.cached()),
        }
    }

    fn cached(&self) -> CacheStatus {
        let usage = self.files.usage();
        CacheStatus {
            entries: usage.entries,
            bytes: usage.bytes,
            max_bytes: self.files.options().max_bytes,
            hits: usage.hits,
            misses: usage.misses,
        }
    }

    fn kept(&self) -> KeysStatus {
        let (status, counters) = (self.keys.status(), &self.keys.counters);
        let (hits, misses) = (counters.get_hits.get(), counters.get_misses.get());
        KeysStatus {
            memcached: self.memcached.map(|address| address.to_string()),
            keys: status.spaces.iter().map(|space| space.1).sum(),
            bytes: status.spaces.iter().map(|space| space.2).sum(),
            gets: hits + misses,
            hits,
            sets: counters.cmd_set.get(),
            unavailable: status.unavailable.map(|reason| escape(reason.as_bytes())),
        }
    }

    fn devices(&self) -> Vec<DeviceStatus> {
        let devices = self.trust.devices().list();
        devices.iter().map(|device| self.device(device)).collect()
    }

    fn device(&self, device: &Device) -> DeviceStatus {
        let clients = self.clients.lock();
        let connections = clients
            .values()
            .filter(|client| client.device.id == device.id)
            .map(|client| DeviceConnection {
                address: client.address.to_string(),
                share: client.share.get().cloned().flatten(),
                since_ms: client.since_ms(),
            });
        let shares = device.rights.shares().map(|(share, access)| ShareAccess {
            share: share.map(|name| escape(name.as_bytes())),
            access,
        });
        DeviceStatus {
            id: device.id.clone(),
            name: escape(device.name.as_bytes()),
            local: device.local,
            revoked: device.revoked,
            everywhere: device.rights.everywhere(),
            shares: shares.collect(),
            enrolled_at: device.enrolled_at,
            last_seen: device.last_seen,
            certificate_until: Some(device.certificate_until).filter(|until| *until > 0),
            connections: connections.collect(),
        }
    }

    fn invite(&self, question: InviteQuestion) -> Result<InviteAnswer, String> {
        let share = match (question.share, question.root) {
            (Some(_), true) => {
                return Err("an invite is for one share or for the directory itself".to_owned());
            }
            (Some(name), false) => InvitedShare::Named(name),
            (None, true) => InvitedShare::Root,
            (None, false) => InvitedShare::Own,
        };
        self.shares.may_invite(&share)?;
        if let Some(text) = question.certificate {
            let name = question.name.unwrap_or_default();
            let rights = match share {
                InvitedShare::Named(share) => Rights::of(Some(&share), question.access),
                InvitedShare::Root => Rights::of(None, question.access),
                InvitedShare::Own => {
                    return Err("a certificate needs a share: name one, or the root".to_owned());
                }
            };
            let shown = pem::certificate(&text).map_err(|error| error.to_string())?;
            let allowed = self.trust.allow(&shown, &name, rights);
            let device = allowed.map_err(|error| chain(&error))?;
            tracing::info!(device = %device.name, id = %device.id, "device enrolled");
            return Ok(InviteAnswer {
                invite: None,
                device: Some(escape(device.name.as_bytes())),
                addresses: Vec::new(),
                loopback: false,
                reopened: false,
            });
        }
        let reopened = !self.trust.devices().local_open();
        if reopened {
            self.trust.reopen_local().map_err(|error| chain(&error))?;
        }
        let addresses = if question.addresses.is_empty() {
            net::reachable(self.address)
        } else {
            question.addresses.clone()
        };
        let guest = Guest {
            name: question.name,
            share,
            access: question.access,
            expires: Duration::from_secs(question.expires_seconds).min(LONGEST_INVITE),
            addresses: addresses.clone(),
        };
        let invite = self.trust.invite(guest).map_err(|error| chain(&error))?;
        Ok(InviteAnswer {
            invite: Some(invite.to_string()),
            device: None,
            loopback: question.addresses.is_empty() && self.address.ip().is_loopback(),
            addresses,
            reopened,
        })
    }

    fn revoke(&self, name: &str) -> Result<DeviceStatus, String> {
        let device = self.trust.revoke(name).map_err(|error| chain(&error))?;
        tracing::info!(device = %device.name, id = %device.id, "device revoked");
        Ok(self.device(&device))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    text.join(": ")
}

fn failure(message: impl Into<String>) -> Value {
    json!({ "error": message.into() })
}

fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_else(|error| failure(error.to_string()))
}
