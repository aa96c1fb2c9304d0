//! The server's two configurations: for enrolled devices, and for joining.

use crate::host::devices::{DeviceInfo, Devices, NotServed};
use crate::host::own::Own;
use crate::host::pki::Identity;
use crate::host::tls::own::ByHint;
use crate::host::tls::{TlsError, provider};
use crate::host::{certificate, clock};
use crate::wire::{ALPN, ALPN_JOIN};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use std::sync::{Arc, PoisonError, RwLock};

/// The configurations of a server. They can be renewed while connections are accepted.
#[derive(Debug)]
pub struct ServerTls {
    configs: RwLock<Configs>,
    devices: Arc<Devices>,
}

#[derive(Debug, Clone)]
struct Configs {
    session: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
}

impl ServerTls {
    /// Sets up TLS for a server's identity and its list of devices, and for certificates of the owner's own.
    ///
    /// # Errors
    /// When the library refuses a key or certificate.
    pub fn new(
        identity: &Identity,
        devices: Arc<Devices>,
        own: Option<Own>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            configs: RwLock::new(Configs::new(identity, devices.clone(), own)?),
            devices,
        })
    }

    /// Goes on with other certificates; connections that are open stay.
    ///
    /// # Errors
    /// When the library refuses a key or certificate; nothing changes then.
    pub fn renew(&self, identity: &Identity, own: Option<Own>) -> Result<(), TlsError> {
        let configs = Configs::new(identity, self.devices.clone(), own)?;
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    /// The configuration for what a client asks: joining if it asks for that alone, else a session.
    #[must_use]
    pub fn choose(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let joins = hello
            .alpn()
            .is_some_and(|mut names| names.next() == Some(ALPN_JOIN) && names.next().is_none());
        let configs = self.configs.read().unwrap_or_else(PoisonError::into_inner);
        if joins {
            configs.join.clone()
        } else {
            configs.session.clone()
        }
    }

    /// The device behind the certificates that a client showed, if it is to be served.
    ///
    /// # Errors
    /// Why it is not.
    pub fn device(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
    ) -> Result<DeviceInfo, NotServed> {
        let certificate = certificates
            .and_then(<[_]>::first)
            .ok_or(NotServed::Unknown)?;
        let id = certificate::key_fingerprint(certificate).map_err(|_| NotServed::Unknown)?;
        let until = certificate::not_after(certificate).map_or(0, clock::unix_seconds);
        self.devices.find(&id).map(|device| DeviceInfo {
            certificate_until: until,
            ..device
        })
    }
}

impl Configs {
    fn new(identity: &Identity, devices: Arc<Devices>, own: Option<Own>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority().clone())?;
        if let Some(own) = &own {
            roots.extend(own.roots.roots.iter().cloned());
        }
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        let verifier = Arc::new(Enrolled { chain, devices });
        let builder = || {
            ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&version::TLS13])
        };
        let leaf = identity.certificate().clone();
        let usual =
            CertifiedKey::from_der(vec![leaf.clone()], identity.key().clone_key(), &provider())?;
        let usual = Arc::new(usual);
        let session = builder()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByHint { usual, own }));
        // Whoever joins from elsewhere knows only the fingerprint of the authority, so it is sent along.
        let join = builder()?.with_no_client_auth().with_single_cert(
            vec![leaf, identity.authority().clone()],
            identity.key().clone_key(),
        )?;
        Ok(Self {
            session: Arc::new(finish(session, ALPN)),
            join: Arc::new(finish(join, ALPN_JOIN)),
        })
    }
}

fn finish(mut config: ServerConfig, alpn: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Accepts certificates of our authority whose key is in the list of devices, so that others learn it in the handshake.
#[derive(Debug)]
struct Enrolled {
    chain: Arc<dyn ClientCertVerifier>,
    devices: Arc<Devices>,
}

impl ClientCertVerifier for Enrolled {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let id =
            certificate::key_fingerprint(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        match self.devices.find(&id) {
            Ok(_) => Ok(verified),
            Err(NotServed::Revoked) => Err(CertificateError::Revoked.into()),
            Err(NotServed::Unknown) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
