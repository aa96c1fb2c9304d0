//! What a client believes: a server is who its certificate says, if the authority that we pinned for that server id
//! signed it. The address that was dialled says nothing (NAT, bare and changing addresses are normal).

use crate::host::certificate;
use crate::host::tls::{TlsError, algorithms, provider};
use crate::wire::{ALPN, ALPN_JOIN};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme, version,
};
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

fn builder(
    pins: Vec<Pin>,
    presented: &Arc<Presented>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    let verifier = Pinned {
        pins,
        presented: presented.clone(),
    };
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finish(mut config: ClientConfig, alpn: &[u8]) -> Arc<ClientConfig> {
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

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let id = certificate::server_id(end_entity).ok_or(CertificateError::NotValidForName)?;
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
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            algorithms().all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
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
