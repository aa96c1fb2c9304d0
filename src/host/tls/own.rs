//! TLS with certificates of one's own: the client checks the host name against its authorities, and says which they are, so
//! that a server with both kinds of certificates shows the right one, also where no name is sent (bare addresses).

use super::client::{finish, verified_by};
use super::verifier::{Check, Shown};
use super::{TlsError, provider};
use crate::host::own::Own;
use crate::wire::ALPN;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DistinguishedName, Error};
use std::sync::Arc;

/// A configuration for a session with a server whose certificate stands for the name that is dialled.
///
/// # Errors
/// When the library refuses it.
pub fn own_config(own: &Own) -> Result<Arc<ClientConfig>, TlsError> {
    let inner =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&own.roots), provider()).build()?;
    let verifier = Named {
        inner,
        hints: own.roots.subjects(),
    };
    let config = verified_by(verifier)?
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.key))));
    let mut config = finish(config, ALPN);
    if let Some(config) = Arc::get_mut(&mut config) {
        config.enable_sni = true;
    }
    Ok(config)
}

/// The library's own check, chain, dates, purpose and name, with the authorities named in the first message.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    hints: Vec<DistinguishedName>,
}

impl Check for Named {
    fn check(&self, shown: Shown<'_>) -> Result<(), Error> {
        self.inner
            .verify_server_cert(
                shown.end_entity,
                shown.intermediates,
                shown.name,
                shown.ocsp,
                shown.now,
            )
            .map(|_| ())
    }

    fn hints(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }
}

/// Shows the certificate of one's own to whoever names the authority that signed it, and the server's usual one to others.
#[derive(Debug)]
pub(super) struct ByHint {
    pub(super) usual: Arc<CertifiedKey>,
    pub(super) own: Option<Own>,
}

impl ResolvesServerCert for ByHint {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.certificate_authorities().unwrap_or_default();
        let own = self.own.as_ref().filter(|own| own.is_of(asked));
        Some(Arc::clone(own.map_or(&self.usual, |own| &own.key)))
    }
}
