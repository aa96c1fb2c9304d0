//! PEM text to certificates and keys. The only user of `rustls-pemfile`, which is archived (RUSTSEC-2025-0134) but
//! only wraps the parser of `rustls-pki-types`.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;

/// Why a text gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// No certificate in it.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// No private key in it.
    #[error("no private key in the PEM text")]
    NoKey,
    /// It is damaged.
    #[error("the PEM text is damaged")]
    Damaged(#[source] io::Error),
}

/// The certificates of a text in their order, at least one.
///
/// # Errors
/// When there is none, or the text is damaged.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let list = rustls_pemfile::certs(&mut text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(PemError::Damaged)?;
    if list.is_empty() {
        return Err(PemError::NoCertificate);
    }
    Ok(list)
}

/// The first certificate of a text.
///
/// # Errors
/// As [`certificates`].
pub fn certificate(text: &str) -> Result<CertificateDer<'static>, PemError> {
    certificates(text)?
        .into_iter()
        .next()
        .ok_or(PemError::NoCertificate)
}

/// The first private key of a text.
///
/// # Errors
/// When there is none, or the text is damaged.
pub fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, PemError> {
    rustls_pemfile::private_key(&mut text.as_bytes())
        .map_err(PemError::Damaged)?
        .ok_or(PemError::NoKey)
}

/// A certificate as PEM text.
#[must_use]
pub fn of_certificate(certificate: &CertificateDer<'_>) -> String {
    let text = data_encoding::BASE64.encode(certificate);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (index, c) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out + "\n-----END CERTIFICATE-----\n"
}
