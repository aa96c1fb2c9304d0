//! The client's way to a server: dial, prove, and enrol itself first where a local invite allows it.
//!
//! Who the server is, is read from its certificate and checked against the authority that this home has pinned for that
//! id, by an earlier enrolment or by a local invite. What is said over the connection is the session's business.

mod dial;
mod error;
mod invited;
mod own;
mod renewal;

pub use error::{ConnectError, ConnectKind};
pub use invited::Joined;

use crate::host::dirs::Dirs;
use crate::host::enrolment::{Enrolment, Enrolments};
use crate::host::invite::{LocalInvite, local_invites};
use crate::host::own::PemFiles;
use crate::host::pki::DeviceKey;
use crate::host::tls::{Rejection, explain, join_config, session_config};
use crate::host::{clock, net};
use crate::model::limits::HANDSHAKE_SECONDS;
use crate::wire::{JoinAnswer, JoinCode, JoinRequest, JoinSecret};
use dial::{exchange, handshake, keyless, local, refused, unreachable};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A connection to a server.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// How long another process of this home may take to enrol before this one gives up waiting.
const LOCK_PATIENCE: Duration = Duration::from_secs(2 * HANDSHAKE_SECONDS);
/// How often the lock is looked at.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// An open connection to a server that was recognised.
#[derive(Debug)]
pub struct Connection {
    /// The encrypted stream. A refusal of our certificate shows at its first read; see [`Connector::rejected`].
    pub stream: ClientStream,
    /// Who the server is.
    pub server_id: String,
    /// Who we are to it.
    pub device_id: String,
}

/// Makes connections for one home.
#[derive(Debug)]
pub struct Connector {
    dirs: Dirs,
    enrolments: Enrolments,
    device_name: String,
    /// Certificates of the owner's own, instead of enrolments.
    own: Option<PemFiles>,
    /// Servers that did not know this device: enrol again before the next connection.
    unknown: Mutex<HashSet<String>>,
    /// Servers that have revoked this device: its key is of no use any more.
    revoked: Mutex<HashSet<String>>,
}

impl Connector {
    /// A connector for the home that `dirs` belong to.
    #[must_use]
    pub fn new(dirs: Dirs) -> Self {
        Self {
            enrolments: Enrolments::of(&dirs),
            dirs,
            device_name: net::host_name(),
            own: None,
            unknown: Mutex::default(),
            revoked: Mutex::default(),
        }
    }

    /// The same with certificates of the owner's own, if any are named.
    #[must_use]
    pub fn with_own(self, own: Option<PemFiles>) -> Self {
        Self { own, ..self }
    }

    /// The servers of this user and home that left an invite: where to dial when no address was given. Of several, those
    /// that do not run (they ended, or were killed) count only while no other runs.
    #[must_use]
    pub fn local_servers(&self) -> Vec<LocalInvite> {
        let all = local_invites(&self.dirs);
        if all.len() < 2 {
            return all;
        }
        let running = all
            .iter()
            .filter(|invite| net::is_anybody_at(&invite.addresses));
        let mut running: Vec<LocalInvite> = running.cloned().collect();
        // Of several for one address the one that was started last is there.
        running.sort_by_key(|invite| Reverse(invite.published(&self.dirs)));
        let mut taken = HashSet::new();
        running.retain(|invite| {
            let fresh = invite
                .addresses
                .iter()
                .filter(|at| taken.insert(String::clone(at)));
            fresh.count() == invite.addresses.len()
        });
        if running.is_empty() { all } else { running }
    }

    /// Opens a connection to `HOST:PORT`, or to the first that can be had of several with commas between, which are addresses
    /// of one server. Enrols this device if a local invite allows it.
    ///
    /// # Errors
    /// Why there is none, with its kind and a hint.
    pub async fn connect(&self, server: &str) -> Result<Connection, ConnectError> {
        let mut worst: Option<ConnectError> = None;
        for address in server.split(',') {
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => worst = Some(ConnectError::telling(worst, error)),
            }
        }
        Err(worst.unwrap_or_else(|| unreachable(server, io::ErrorKind::InvalidInput.into())))
    }

    async fn connect_to(&self, server: &str) -> Result<Connection, ConnectError> {
        if let Some(files) = &self.own {
            return own::connect(server, files)
                .await
                .map_err(ConnectError::with_own);
        }
        let (server_id, used) = match self.session(server, Use::Current).await? {
            Attempt::Open(connection) => return Ok(*connection),
            Attempt::Unpinned(server_id, used) => (server_id, used),
        };
        let enrolled = self.enrol(server, &server_id, used.as_ref()).await;
        // A renewal that fails is no reason to stay away while the old certificate holds.
        let holds = used.is_some_and(|used| !used.remaining(clock::wall()).is_zero())
            && !self.unknown().contains(&server_id);
        match (enrolled, holds) {
            (Ok(()), _) => {}
            (Err(error), true) => {
                tracing::warn!(%error, "cannot renew this device's certificate");
            }
            (Err(error), false) => return Err(error),
        }
        match self.session(server, Use::Any).await? {
            Attempt::Open(connection) => Ok(*connection),
            Attempt::Unpinned(server_id, _) => Err(ConnectError::NoInvite {
                server: server.to_owned(),
                server_id,
            }),
        }
    }

    /// Takes note of what the first read or write of a connection failed with, when the server does not accept this
    /// device's certificate: the next [`connect`](Self::connect) enrols again where it can. `None` when it was
    /// something else.
    pub fn rejected(&self, connection_server_id: &str, error: &io::Error) -> Option<Rejection> {
        let rejection = explain(error)?;
        if rejection == Rejection::Revoked {
            self.revoked().insert(connection_server_id.to_owned());
        }
        if matches!(
            rejection,
            Rejection::UnknownDevice
                | Rejection::Revoked
                | Rejection::Expired
                | Rejection::Authority
        ) {
            self.unknown().insert(connection_server_id.to_owned());
        }
        Some(rejection)
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure that stands behind what a server said of this device's certificate.
    #[must_use]
    pub fn unaccepted(&self, server: &str, rejection: Rejection) -> ConnectError {
        let error = match rejection {
            Rejection::Version => ConnectError::Version {
                server: server.to_owned(),
            },
            rejection => refused(server, rejection),
        };
        match self.own {
            Some(_) => error.with_own(),
            None => error,
        }
    }

    /// Whether a device that a server does not accept could enrol with it again by itself.
    #[must_use]
    pub fn may_enrol(&self, server_id: &str) -> bool {
        local_invites(&self.dirs)
            .iter()
            .any(|invite| self.own.is_none() && invite.server_id == server_id)
    }

    /// Tries a session with what this home is enrolled with.
    async fn session(&self, server: &str, which: Use) -> Result<Attempt, ConnectError> {
        let all = self.enrolments.all();
        let usable: Vec<&Enrolment> = match which {
            Use::Any => all.iter().collect(),
            Use::Current => self.current(&all),
        };
        let pins = usable.iter().map(|enrolment| enrolment.pin()).collect();
        let keys = usable
            .iter()
            .map(|enrolment| enrolment.presenting())
            .collect();
        let (config, presented) = session_config(pins, keys).map_err(local)?;
        let of = |id: Option<&str>| all.iter().find(|known| Some(known.server_id()) == id);
        match handshake(server, config).await {
            Ok(stream) => {
                let enrolment = of(presented.server_id())
                    .ok_or_else(|| refused(server, Rejection::Authority))?;
                Ok(Attempt::Open(Box::new(Connection {
                    stream,
                    server_id: enrolment.server_id().to_owned(),
                    device_id: enrolment.device_id().to_owned(),
                })))
            }
            Err(error) => match presented.unpinned() {
                Some(id) => Ok(Attempt::Unpinned(id.to_owned(), of(Some(id)).cloned())),
                None => Err(error),
            },
        }
    }

    /// The enrolments to use: not those that should be made anew, when there is an invite to do so.
    fn current<'a>(&self, all: &'a [Enrolment]) -> Vec<&'a Enrolment> {
        let now = clock::wall();
        let unknown = self.unknown().clone();
        let ends =
            |known: &Enrolment| unknown.contains(known.server_id()) || known.renewal_due(now);
        if !all.iter().any(ends) {
            return all.iter().collect();
        }
        let invites = local_invites(&self.dirs);
        let invited =
            |known: &Enrolment| invites.iter().any(|it| it.server_id == known.server_id());
        all.iter()
            .filter(|known| !(ends(known) && invited(known)))
            .collect()
    }

    /// Enrols with a server through its local invite, unless another process of this home did so since `used` was read.
    async fn enrol(
        &self,
        server: &str,
        server_id: &str,
        used: Option<&Enrolment>,
    ) -> Result<(), ConnectError> {
        let invite = || {
            let mut invites = local_invites(&self.dirs).into_iter();
            invites
                .find(|invite| invite.server_id == server_id)
                .ok_or_else(|| ConnectError::NoInvite {
                    server: server.to_owned(),
                    server_id: server_id.to_owned(),
                })
        };
        // Without an invite nothing is left behind, not even a lock.
        invite()?;
        let _lock = self.lock(server, server_id).await?;
        let done = self
            .enrolments
            .get(server_id)
            .is_some_and(|now| used.is_none_or(|used| used.certificate() != now.certificate()));
        if !done {
            match self.join(server, &invite()?).await {
                Err(ConnectError::NotEnrolled {
                    code: JoinCode::Revoked,
                    ..
                }) => {
                    // The key is lost, but the invite is open: the owner wants this home back.
                    self.revoked().insert(server_id.to_owned());
                    self.join(server, &invite()?).await?;
                }
                joined => joined?,
            }
        }
        self.unknown().remove(server_id);
        self.revoked().remove(server_id);
        Ok(())
    }

    async fn lock(&self, server: &str, server_id: &str) -> Result<File, ConnectError> {
        let wait = async {
            loop {
                match self.enrolments.try_lock(server_id) {
                    Ok(Some(lock)) => return Ok(lock),
                    Ok(None) => sleep(LOCK_INTERVAL).await,
                    Err(error) => return Err(ConnectError::Local(error.into())),
                }
            }
        };
        timeout(LOCK_PATIENCE, wait)
            .await
            .unwrap_or_else(|_| Err(unreachable(server, io::ErrorKind::TimedOut.into())))
    }

    /// Holds the client's side of the exchange and keeps what it brings.
    async fn join(&self, server: &str, invite: &LocalInvite) -> Result<(), ConnectError> {
        let pin = invite
            .pin()
            .map_err(|error| ConnectError::Local(error.into()))?;
        let key = if self.revoked().contains(&pin.server_id) {
            DeviceKey::generate()
        } else {
            self.enrolments.key(&pin.server_id)
        };
        let key = key.map_err(keyless)?;
        let (config, presented) = join_config(vec![pin.clone()]).map_err(local)?;
        let mut stream = match (handshake(server, config).await, presented.unpinned()) {
            (Ok(stream), _) => stream,
            (Err(_), Some(server_id)) => {
                return Err(ConnectError::NoInvite {
                    server: server.to_owned(),
                    server_id: server_id.to_owned(),
                });
            }
            (Err(error), None) => return Err(error),
        };
        let request = self.request(&key, invite)?;
        let answer = exchange(server, &mut stream, &request).await?;
        match answer {
            JoinAnswer::Joined {
                certificate,
                authority,
                ..
            } => {
                self.enrolments
                    .keep(&pin, &key, &certificate, &authority)
                    .map_err(ConnectError::Local)?;
                tracing::info!(server, server_id = %pin.server_id, "enrolled");
                Ok(())
            }
            JoinAnswer::Refused { code, message } => Err(ConnectError::NotEnrolled {
                server: server.to_owned(),
                code,
                message: crate::host::pki::clean_text(&message, 400),
            }),
        }
    }

    fn request(&self, key: &DeviceKey, invite: &LocalInvite) -> Result<JoinRequest, ConnectError> {
        Ok(JoinRequest {
            secret: JoinSecret::Local {
                secret: invite.secret.clone(),
            },
            csr: key.request().map_err(keyless)?,
            name: self.device_name.clone(),
        })
    }
}

/// What an attempt at a session came to.
enum Attempt {
    Open(Box<Connection>),
    /// The server has an id that nothing was pinned for; with what this home knows of it nevertheless.
    Unpinned(String, Option<Enrolment>),
}

/// Which enrolments an attempt may use.
#[derive(Clone, Copy)]
enum Use {
    /// Those that need no renewal.
    Current,
    /// All.
    Any,
}

#[cfg(test)]
mod tests;
