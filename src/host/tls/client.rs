//! What a client believes: a server is who its certificate says, if the authority that we pinned for that server id
//! signed it. The address that was dialled says nothing (NAT, bare and changing addresses are normal).

use crate::host::certificate;
use crate::host::tls::verifier::{Check, Shown, Verifier};
use crate::host::tls::{TlsError, algorithms, provider};
use crate::wire::{ALPN, ALPN_JOIN};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, SignatureScheme, version};
use std::sync::{Arc, OnceLock};

/// The authority that is believed for one server id.
#[derive(Debug, Clone)]
pub struct Pin {
    /// The server id.
    pub server_id: String,
    /// The authority's certificate.
    pub authority: CertificateDer<'static>,
}

/// A device's certificate and key for one authority.
#[derive(Debug, Clone)]
pub struct Presenting {
    /// The authority's subject as it stands in its certificate (DER): servers name it when they ask.
    pub authority_subject: Vec<u8>,
    /// The certificate and its key.
    pub key: Arc<CertifiedKey>,
}

/// The server id that the peer of one connection claimed; it is proven only if the handshake succeeds.
#[derive(Debug, Default)]
pub struct Presented(OnceLock<(String, bool)>);

impl Presented {
    /// The server id, if a certificate with one was shown.
    #[must_use]
    pub fn server_id(&self) -> Option<&str> {
        self.0.get().map(|(id, _)| id.as_str())
    }

    /// The server id, if there was no pin for it.
    #[must_use]
    pub fn unpinned(&self) -> Option<&str> {
        self.0
            .get()
            .filter(|(_, pinned)| !pinned)
            .map(|(id, _)| id.as_str())
    }
}

/// A configuration for one session with any of the pinned servers, and where its id will be found.
///
/// # Errors
/// When the library refuses it.
pub fn session_config(
    pins: Vec<Pin>,
    keys: Vec<Presenting>,
) -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    let presented = Arc::new(Presented::default());
    let config = builder(pins, &presented)?.with_client_cert_resolver(Arc::new(ByAuthority(keys)));
    Ok((finish(config, ALPN), presented))
}

/// A configuration for joining any of the pinned servers, and where its id will be found.
///
/// # Errors
/// When the library refuses it.
pub fn join_config(pins: Vec<Pin>) -> Result<(Arc<ClientConfig>, Arc<Presented>), TlsError> {
    let presented = Arc::new(Presented::default());
    let config = builder(pins, &presented)?.with_no_client_auth();
    Ok((finish(config, ALPN_JOIN), presented))
}

/// A configuration for joining the server of an invite, which knows only the SHA-256 of its authority's public key, and
/// where the authority will be found.
///
/// # Errors
/// When the library refuses it.
pub fn invited_config(key: [u8; 32]) -> Result<(Arc<ClientConfig>, Arc<OnceLock<Pin>>), TlsError> {
    let met = Arc::new(OnceLock::new());
    let verifier = Invited {
        key: data_encoding::HEXLOWER.encode(&key),
        met: Arc::clone(&met),
    };
    let config = verified_by(verifier)?.with_no_client_auth();
    Ok((finish(config, ALPN_JOIN), met))
}

pub(super) type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(pins: Vec<Pin>, presented: &Arc<Presented>) -> Result<Builder, TlsError> {
    let presented = presented.clone();
    verified_by(Pinned { pins, presented })
}

pub(super) fn verified_by(check: impl Check) -> Result<Builder, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(check))))
}

pub(super) fn finish(mut config: ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Arc::new(config)
}

/// Checks chain, dates, purpose and signature against the one authority pinned for the server id in the certificate.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    presented: Arc<Presented>,
}

impl Check for Pinned {
    fn check(&self, shown: Shown<'_>) -> Result<(), Error> {
        let id =
            certificate::server_id(shown.end_entity).ok_or(CertificateError::NotValidForName)?;
        let mut roots = RootCertStore::empty();
        for pin in self.pins.iter().filter(|pin| pin.server_id == id) {
            roots.add(pin.authority.clone())?;
        }
        let pinned = !roots.is_empty();
        // One handshake asks once, so the cell is empty here.
        drop(self.presented.0.set((id, pinned)));
        if !pinned {
            return Err(CertificateError::UnknownIssuer.into());
        }
        verify(shown, shown.intermediates, &roots)
    }
}

/// Checks that the server shows the authority whose key an invite names, and that it is that authority's server.
#[derive(Debug)]
struct Invited {
    key: String,
    met: Arc<OnceLock<Pin>>,
}

impl Check for Invited {
    fn check(&self, shown: Shown<'_>) -> Result<(), Error> {
        let is_meant = |authority: &&CertificateDer<'_>| {
            certificate::key_fingerprint(authority).is_ok_and(|key| key == self.key)
        };
        let authority = shown
            .intermediates
            .iter()
            .find(is_meant)
            .ok_or(CertificateError::UnknownIssuer)?;
        let id =
            certificate::server_id(shown.end_entity).ok_or(CertificateError::NotValidForName)?;
        if certificate::server_id(authority).as_deref() != Some(&id) {
            return Err(CertificateError::NotValidForName.into());
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verify(shown, &[], &roots)?;
        // One handshake asks once, so the cell is empty here.
        drop(self.met.set(Pin {
            server_id: id,
            authority: authority.clone().into_owned(),
        }));
        Ok(())
    }
}

fn verify(
    shown: Shown<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> Result<(), Error> {
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(shown.end_entity)?,
        roots,
        intermediates,
        shown.now,
        algorithms().all,
    )
}

/// Shows the certificate of the authority that the server names, and no other server's.
#[derive(Debug)]
struct ByAuthority(Vec<Presenting>);

impl ResolvesClientCert for ByAuthority {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0
            .iter()
            .find(|presenting| {
                root_hint_subjects
                    .iter()
                    .any(|hint| *hint == presenting.authority_subject)
            })
            .map(|presenting| presenting.key.clone())
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}
