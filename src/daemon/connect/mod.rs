//! The client's way to a server: dial, prove, and enrol itself first where a local invite allows it.
//!
//! Who the server is, is read from its certificate and checked against the authority that this home has pinned for that
//! id, by an earlier enrolment or by a local invite. What is said over the connection is the session's business.

mod error;

pub use error::{ConnectError, ConnectKind};

use crate::daemon::join::{ExchangeError, receive, send};
use crate::host::dirs::Dirs;
use crate::host::enrolment::{Enrolment, EnrolmentError, Enrolments};
use crate::host::invite::{LocalInvite, local_invites};
use crate::host::pki::{DEVICE_RENEWAL, DeviceKey, PkiError};
use crate::host::tls::{BUFFER_LIMIT, Rejection, TlsError, explain, join_config, session_config};
use crate::host::{clock, net};
use crate::model::limits::HANDSHAKE_SECONDS;
use crate::wire::{JoinAnswer, JoinRequest, JoinSecret};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

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
    /// Servers that did not know this device: enrol again before the next connection.
    unknown: Mutex<HashSet<String>>,
}

impl Connector {
    /// A connector for the home that `dirs` belong to.
    #[must_use]
    pub fn new(dirs: Dirs) -> Self {
        Self {
            enrolments: Enrolments::of(&dirs),
            dirs,
            device_name: net::host_name(),
            unknown: Mutex::default(),
        }
    }

    /// The servers of this user and home that left an invite: where to dial when no address was given.
    #[must_use]
    pub fn local_servers(&self) -> Vec<LocalInvite> {
        local_invites(&self.dirs)
    }

    /// Opens a connection to `HOST:PORT`, enrolling this device if a local invite allows it.
    ///
    /// # Errors
    /// Why there is none, with its kind and a hint.
    pub async fn connect(&self, server: &str) -> Result<Connection, ConnectError> {
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
        if matches!(
            rejection,
            Rejection::UnknownDevice | Rejection::Expired | Rejection::Authority
        ) {
            self.unknown().insert(connection_server_id.to_owned());
        }
        Some(rejection)
    }

    fn unknown(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
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
        let ends = |known: &Enrolment| {
            unknown.contains(known.server_id()) || known.remaining(now) < DEVICE_RENEWAL
        };
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
            self.join(server, &invite()?).await?;
        }
        self.unknown().remove(server_id);
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
        let key = self.enrolments.key(&pin.server_id).map_err(keyless)?;
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
        let exchange = async {
            send(&mut stream, &request).await?;
            receive::<JoinAnswer>(&mut stream).await
        };
        let answer = timeout(Duration::from_secs(HANDSHAKE_SECONDS), exchange)
            .await
            .map_err(|_| unreachable(server, io::ErrorKind::TimedOut.into()))?
            .map_err(|error| exchange_failed(server, error))?;
        match answer {
            JoinAnswer::Joined {
                certificate,
                authority,
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

/// Dials and shakes hands within the deadlines.
async fn handshake(server: &str, config: Arc<ClientConfig>) -> Result<ClientStream, ConnectError> {
    let tcp = net::connect(server)
        .await
        .map_err(|error| unreachable(server, error))?;
    // Not sent and not checked: the certificate's URI name is.
    let name =
        ServerName::try_from("syncd.invalid").map_err(|_| refused(server, Rejection::Version))?;
    let shake = TlsConnector::from(config).connect_with(name, tcp, |connection| {
        connection.set_buffer_limit(Some(BUFFER_LIMIT));
    });
    let stream = timeout(Duration::from_secs(HANDSHAKE_SECONDS), shake)
        .await
        .map_err(|_| unreachable(server, io::ErrorKind::TimedOut.into()))?
        .map_err(|error| tls_failed(server, error))?;
    if stream.get_ref().1.alpn_protocol().is_none() {
        return Err(ConnectError::Version {
            server: server.to_owned(),
        });
    }
    Ok(stream)
}

fn tls_failed(server: &str, error: io::Error) -> ConnectError {
    match explain(&error) {
        Some(Rejection::Version) => ConnectError::Version {
            server: server.to_owned(),
        },
        Some(rejection) => refused(server, rejection),
        None => unreachable(server, error),
    }
}

fn exchange_failed(server: &str, error: ExchangeError) -> ConnectError {
    match error {
        ExchangeError::Io(error) => tls_failed(server, error),
        ExchangeError::Frame(_) | ExchangeError::Message(_) => ConnectError::Version {
            server: server.to_owned(),
        },
    }
}

fn refused(server: &str, source: Rejection) -> ConnectError {
    ConnectError::Refused {
        server: server.to_owned(),
        source,
    }
}

fn unreachable(server: &str, source: io::Error) -> ConnectError {
    ConnectError::Unreachable {
        server: server.to_owned(),
        source,
    }
}

fn keyless(error: PkiError) -> ConnectError {
    ConnectError::Local(error.into())
}

fn local(_: TlsError) -> ConnectError {
    ConnectError::Local(EnrolmentError::Unfit)
}

#[cfg(test)]
mod tests;
