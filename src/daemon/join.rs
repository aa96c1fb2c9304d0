//! Enrolment: the server's answer to `join`, and the client's side of the exchange. One bounded frame each way; the
//! deadline is the caller's.

use crate::host::clock;
use crate::host::devices::{Devices, DevicesError, Rights};
use crate::host::invite::LocalInvite;
use crate::host::pki::{Identity, PkiError};
use crate::model::limits::MAX_JOIN_FRAME;
use crate::wire::{Deframer, FrameError, JoinAnswer, JoinCode, JoinRequest, JoinSecret, encode};
use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Refusals for a wrong secret that are answered at once.
const REFUSAL_BURST: u32 = 64;
/// Time after which one more such refusal is answered.
const REFUSAL_INTERVAL: Duration = Duration::from_millis(100);

/// Why the exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The line failed or ended.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error("the peer does not speak the protocol")]
    Frame(#[from] FrameError),
    /// What came is a frame with something else in it.
    #[error("the peer's message is not understood")]
    Message(#[from] serde_json::Error),
}

/// Reads the one frame of an exchange.
///
/// # Errors
/// When the line ends, the frame is over the limit, has a body, or is no `T`.
pub async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, ExchangeError> {
    let deframer = Deframer::new(MAX_JOIN_FRAME, 0);
    let mut buffer = BytesMut::new();
    loop {
        if let Some(frame) = deframer.next(&mut buffer)? {
            return Ok(serde_json::from_slice(&frame.header)?);
        }
        buffer.reserve(2048);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(ExchangeError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Writes the one frame of an exchange.
///
/// # Errors
/// When the line fails.
pub async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), ExchangeError> {
    let header = serde_json::to_vec(message)?;
    let mut frame = Vec::with_capacity(header.len() + 8);
    encode(&header, &[], &mut frame);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

/// Decides who is enrolled. Shared by all connections of a server.
#[derive(Debug)]
pub struct Enroller {
    identity: Arc<Identity>,
    devices: Arc<Devices>,
    local: [u8; 32],
    refusals: Mutex<Refusals>,
}

impl Enroller {
    /// An enroller that accepts the secret of this local invite.
    #[must_use]
    pub fn new(identity: Arc<Identity>, devices: Arc<Devices>, invite: &LocalInvite) -> Self {
        Self {
            identity,
            devices,
            local: Sha256::digest(invite.secret.as_bytes()).into(),
            refusals: Mutex::default(),
        }
    }

    /// The list that devices are taken into.
    #[must_use]
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// Holds the server's side of one exchange.
    ///
    /// # Errors
    /// When the line fails; whoever guesses too fast is cut off without an answer.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        stream: &mut S,
    ) -> Result<(), ExchangeError> {
        let answer = match receive::<JoinRequest>(stream).await {
            Ok(request) if self.entitled(&request.secret) => {
                let this = self.clone();
                // Signing and the durable list take milliseconds, too long for a thread of the runtime.
                tokio::task::spawn_blocking(move || this.enrol(&request))
                    .await
                    .unwrap_or_else(|_| refused(JoinCode::Failed, "the server failed"))
            }
            Ok(_) if !self.may_refuse() => return Err(io::Error::other("too many guesses").into()),
            Ok(_) => refused(
                JoinCode::Secret,
                "the secret of the invite is not good (any more)",
            ),
            Err(ExchangeError::Message(_)) => refused(
                JoinCode::Request,
                "the request is not understood by this version of the server",
            ),
            Err(error) => return Err(error),
        };
        send(stream, &answer).await?;
        stream.shutdown().await?;
        Ok(())
    }

    /// Whether a secret is good. Hashes are compared, so time tells nothing about the secret.
    fn entitled(&self, secret: &JoinSecret) -> bool {
        let JoinSecret::Local { secret } = secret;
        let given: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        given
            .iter()
            .zip(self.local)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
    }

    fn enrol(&self, request: &JoinRequest) -> JoinAnswer {
        let now = clock::wall();
        let name = crate::host::pki::clean_name(&request.name);
        let signed = match self.identity.sign_device(&request.csr, &name, now) {
            Ok(signed) => signed,
            Err(PkiError::Request) => {
                return refused(
                    JoinCode::Request,
                    "the certificate request is not acceptable",
                );
            }
            Err(error) => {
                tracing::error!(%error, "cannot sign a device's certificate");
                return refused(JoinCode::Failed, "the server cannot sign certificates");
            }
        };
        let enrolled = self
            .devices
            .enrol(&signed.device_id, &name, true, Rights::all(), now);
        match enrolled {
            Ok(device) => {
                tracing::info!(device = %device.name, id = %device.id, "device enrolled");
                JoinAnswer::Joined {
                    certificate: signed.pem,
                    authority: self.identity.authority_pem().to_owned(),
                }
            }
            Err(
                error @ (DevicesError::Revoked | DevicesError::LocalClosed | DevicesError::Full),
            ) => refused(JoinCode::Closed, &error.to_string()),
            Err(error) => {
                tracing::error!(%error, "cannot keep a device");
                refused(
                    JoinCode::Failed,
                    "the server cannot keep its list of devices",
                )
            }
        }
    }

    /// Takes one from the budget of refusals. Only wrong secrets use it up, so guessing locks out nobody else.
    fn may_refuse(&self) -> bool {
        self.refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now())
    }
}

fn refused(code: JoinCode, message: &str) -> JoinAnswer {
    JoinAnswer::Refused {
        code,
        message: message.to_owned(),
    }
}

/// A budget that refills with time.
#[derive(Debug)]
struct Refusals {
    left: u32,
    since: Option<Instant>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            left: REFUSAL_BURST,
            since: None,
        }
    }
}

impl Refusals {
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let earned =
            now.saturating_duration_since(since).as_millis() / REFUSAL_INTERVAL.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(REFUSAL_BURST);
            self.since = Some(now);
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::{REFUSAL_BURST, REFUSAL_INTERVAL, Refusals};
    use tokio::time::Instant;

    #[test]
    fn refusals_run_out_and_come_back_with_time() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert!((0..REFUSAL_BURST).all(|_| refusals.take(start)));
        assert!(!refusals.take(start));
        assert!(!refusals.take(start + REFUSAL_INTERVAL / 2));
        assert!(refusals.take(start + REFUSAL_INTERVAL));
        assert!(!refusals.take(start + REFUSAL_INTERVAL));
        let later = start + 1000 * REFUSAL_INTERVAL;
        assert!((0..REFUSAL_BURST).all(|_| refusals.take(later)));
        assert!(!refusals.take(later));
    }
}
