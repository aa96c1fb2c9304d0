//! TLS 1.3 between a server and its devices, mutual, with one provider that is always passed explicitly.
//!
//! No session is ever resumed and nothing is sent early: a resumed session would pass by the checks of certificates.
//! Whom a server accepts is in `server`, whom a client believes in `client`. Connections are made in `daemon`.

mod client;
mod own;
mod server;
mod verifier;

pub use client::{Pin, Presented, Presenting, invited_config, join_config, session_config};
pub use own::own_config;
pub use server::ServerTls;

use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{AlertDescription, CertificateError};
use std::io;
use std::sync::{Arc, LazyLock};

/// Bytes of plain text and of records that one connection holds at most for a peer that does not read.
pub const BUFFER_LIMIT: usize = 256 * 1024;

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refused a key, a certificate or a version.
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
    /// The check of client certificates could not be made.
    #[error("cannot set up the check of device certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The provider: AES-128-GCM first, which is the fastest with hardware help and as safe here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        Arc::new(provider)
    });
    PROVIDER.clone()
}

pub(crate) fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// What a TLS failure means for whoever must act.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The server does not know this device (any more): it may enrol again.
    #[error("the server does not know this device")]
    UnknownDevice,
    /// The client showed no certificate (only seen by servers).
    #[error("the client shows no certificate")]
    NoCertificate,
    /// The device was revoked.
    #[error("the server has revoked this device")]
    Revoked,
    /// The peer finds our certificate ended, or not begun.
    #[error("the peer finds this certificate expired or not yet valid; compare the clocks")]
    Expired,
    /// The peer finds our certificate made for something else.
    #[error("the peer does not take this certificate: it is damaged, or not made for this side")]
    Unfit,
    /// The certificate is of another authority than the peer's.
    #[error("the certificate is of another authority")]
    Authority,
    /// No common protocol or version.
    #[error("the peer speaks no common version of the protocol")]
    Version,
    /// The peer's certificate is not acceptable.
    #[error("the peer's certificate is not acceptable: {0}")]
    PeerCertificate(String),
    /// The peer's certificate is for other names.
    #[error("the server's certificate is not for the name that was dialled")]
    Name,
    /// What came is no TLS.
    #[error("the peer does not speak TLS")]
    NoTls,
    /// Anything else of TLS.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl Rejection {
    /// What a person can do about it on the client's machine.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownDevice | Self::NoCertificate => {
                "the server does not have this device in its list (any more): `syncd invite` there and `syncd join` here enrol it"
            }
            Self::Revoked => {
                "a new `syncd invite` on the server and `syncd join` here bring this device back"
            }
            Self::Expired => {
                "compare the clocks of both machines; a device that was away for longer than its certificate is valid takes a new `syncd invite` and `syncd join`"
            }
            Self::Authority => {
                "it is not the server that this home knows: check what listens at this address; a server whose state was deleted or replaced takes a new `syncd invite` and `syncd join`"
            }
            Self::Unfit => {
                "a new `syncd invite` on the server and `syncd join` here give this device another certificate"
            }
            Self::Version => "install the same release of `syncd` on both sides",
            Self::PeerCertificate(_) => {
                "compare the clocks of both machines, and restart the server: it renews its certificate"
            }
            Self::Name => {
                "dial a name or an address that stands in the server's certificate; `syncd certs init --host NAME` makes one for more names"
            }
            Self::NoTls => "something else listens at this address",
            Self::Other(_) => "check what listens at this address",
        }
    }
}

/// Whether it was the peer that ended the handshake, and said so.
#[must_use]
pub fn is_of_peer(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

/// Reads what TLS says out of a failed read, write or handshake; `None` when it is not of TLS.
///
/// In TLS 1.3 a client learns only at its first read that its certificate was refused.
#[must_use]
pub fn explain(error: &io::Error) -> Option<Rejection> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::AlertReceived(alert) => by_alert(*alert),
        rustls::Error::NoApplicationProtocol | rustls::Error::PeerIncompatible(_) => {
            Rejection::Version
        }
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Rejection::Authority
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Rejection::Name
            }
            // Only servers say these, of clients.
            CertificateError::Revoked => Rejection::Revoked,
            CertificateError::ApplicationVerificationFailure => Rejection::UnknownDevice,
            reason => Rejection::PeerCertificate(reason.to_string()),
        },
        rustls::Error::NoCertificatesPresented => Rejection::NoCertificate,
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            Rejection::NoTls
        }
        other => Rejection::Other(other.to_string()),
    })
}

fn by_alert(alert: AlertDescription) -> Rejection {
    match alert {
        AlertDescription::AccessDenied | AlertDescription::CertificateRequired => {
            Rejection::UnknownDevice
        }
        AlertDescription::CertificateRevoked => Rejection::Revoked,
        AlertDescription::CertificateExpired => Rejection::Expired,
        AlertDescription::UnsupportedCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => Rejection::Unfit,
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Rejection::Authority,
        AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion => {
            Rejection::Version
        }
        other => Rejection::Other(format!("the peer answered with the alert `{other:?}`")),
    }
}
