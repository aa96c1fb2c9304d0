//! Enrolment: the server's answer to `join`, and the client's side of the exchange. One bounded frame each way; the
//! deadline is the caller's.

use crate::daemon::turned_away::Budget;
use crate::host::clock;
use crate::host::devices::{DeviceInfo, Devices, DevicesError, Enrolling};
use crate::host::invite::LocalInvite;
use crate::host::pending::Unredeemed;
use crate::host::pki::{DeviceCertificate, Identity, PkiError};
use crate::host::rights::Access;
use crate::model::limits::MAX_JOIN_FRAME;
use crate::wire::{
    Deframer, FrameError, Granted, JoinAnswer, JoinCode, JoinRequest, JoinSecret, encode,
};
use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
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
    taken: Taken,
    refusals: Budget,
}

/// Names that a new share cannot have.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// Where shares are directories.
    pub directory: PathBuf,
    /// Shares that lie elsewhere.
    pub placed: BTreeSet<String>,
}

impl Taken {
    fn has(&self, name: &str) -> bool {
        self.placed.contains(name) || self.directory.join(name).symlink_metadata().is_ok()
    }
}

impl Enroller {
    /// An enroller that accepts the secret of this local invite, and those of invites in the list of devices.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        devices: Arc<Devices>,
        invite: &LocalInvite,
        taken: Taken,
    ) -> Self {
        Self {
            identity,
            devices,
            local: Sha256::digest(invite.secret.as_bytes()).into(),
            taken,
            refusals: Budget::new(REFUSAL_BURST, REFUSAL_INTERVAL),
        }
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
            Ok(request) => match self.judge(&request.secret) {
                Ok(()) => {
                    let this = self.clone();
                    // Signing and the durable list take milliseconds, too long for a thread of the runtime.
                    tokio::task::spawn_blocking(move || this.enrol(&request))
                        .await
                        .unwrap_or_else(|_| refused(JoinCode::Failed, "the server failed"))
                }
                Err(_) if !self.may_refuse() => {
                    return Err(io::Error::other("too many guesses").into());
                }
                Err(answer) => *answer,
            },
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

    /// Whether a secret is good for somebody. Hashes are compared, so time tells nothing about secrets.
    fn judge(&self, secret: &JoinSecret) -> Result<(), Box<JoinAnswer>> {
        match secret {
            JoinSecret::Local { secret } => {
                let given: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
                let differs = given
                    .iter()
                    .zip(self.local)
                    .fold(0, |d, (a, b)| d | (a ^ b));
                if differs == 0 {
                    return Ok(());
                }
                Err(Box::new(refused(
                    JoinCode::Secret,
                    "the secret of the invite is not good (any more)",
                )))
            }
            JoinSecret::Invite { secret } => {
                match self.devices.is_invited(secret, "", clock::wall()) {
                    // The device that used it may ask again.
                    Ok(()) | Err(Unredeemed::Used) => Ok(()),
                    Err(reason) => Err(Box::new(unredeemed(reason))),
                }
            }
        }
    }

    fn enrol(&self, request: &JoinRequest) -> JoinAnswer {
        let now = clock::wall();
        let name = crate::host::pki::clean_name(&request.name);
        let signed = match self.sign(&request.csr, &name) {
            Ok(signed) => signed,
            Err(answer) => return *answer,
        };
        let new = Enrolling {
            id: &signed.device_id,
            name: &name,
            now,
            until: Some(signed.until),
        };
        let enrolled = match &request.secret {
            JoinSecret::Local { .. } => self.devices.enrol(new).map(|device| (device, None)),
            JoinSecret::Invite { secret } => self
                .devices
                .redeem(secret, new, |name| self.taken.has(name))
                .map(|redeemed| {
                    let granted = Granted {
                        device: redeemed.device.name.clone(),
                        share: redeemed.share,
                        write: redeemed.access == Access::Write,
                    };
                    (redeemed.device, Some(granted))
                }),
        };
        match enrolled {
            Ok((device, granted)) => {
                tracing::info!(device = %device.name, id = %device.id, "device enrolled");
                JoinAnswer::Joined {
                    certificate: signed.pem,
                    authority: self.identity.authority_pem().to_owned(),
                    granted,
                }
            }
            Err(DevicesError::Unredeemed(reason)) => unredeemed(reason),
            Err(error @ DevicesError::Revoked) => refused(JoinCode::Revoked, &error.to_string()),
            Err(error @ (DevicesError::LocalClosed | DevicesError::Full)) => {
                refused(JoinCode::Closed, &error.to_string())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "cannot keep a device");
                refused(
                    JoinCode::Failed,
                    "the server cannot keep its list of devices",
                )
            }
        }
    }

    /// Gives a device that is served a new certificate for the key that it has.
    ///
    /// # Errors
    /// Why not, for the device.
    pub fn renew(&self, device: &DeviceInfo, csr: &str) -> Result<String, String> {
        let signed = self
            .sign(csr, &device.name)
            .map_err(|answer| match *answer {
                JoinAnswer::Refused { message, .. } => message,
                JoinAnswer::Joined { .. } => String::new(),
            })?;
        if signed.device_id != device.id {
            return Err("the certificate request is for another key".to_owned());
        }
        self.devices
            .renewed(&device.id, signed.until)
            .map_err(|error| {
                tracing::warn!(%error, device = %device.name, "cannot renew a certificate");
                "the server cannot renew certificates at present".to_owned()
            })?;
        tracing::info!(device = %device.name, "renewed a device's certificate");
        Ok(signed.pem)
    }

    fn sign(&self, csr: &str, name: &str) -> Result<DeviceCertificate, Box<JoinAnswer>> {
        self.identity
            .sign_device(csr, name, clock::wall())
            .map_err(|error| {
                Box::new(match error {
                    PkiError::Request => refused(
                        JoinCode::Request,
                        "the certificate request is not acceptable",
                    ),
                    error => {
                        tracing::error!(%error, "cannot sign a device's certificate");
                        refused(JoinCode::Failed, "the server cannot sign certificates")
                    }
                })
            })
    }

    /// Takes one from the budget of refusals. Only wrong secrets use it up, so guessing locks out nobody else.
    fn may_refuse(&self) -> bool {
        self.refusals.take(Instant::now())
    }
}

fn unredeemed(reason: Unredeemed) -> JoinAnswer {
    let code = match reason {
        Unredeemed::Unknown => JoinCode::Secret,
        Unredeemed::Used => JoinCode::Used,
        Unredeemed::Expired | Unredeemed::Withdrawn => JoinCode::Expired,
    };
    refused(code, &reason.to_string())
}

fn refused(code: JoinCode, message: &str) -> JoinAnswer {
    JoinAnswer::Refused {
        code,
        message: message.to_owned(),
    }
}
