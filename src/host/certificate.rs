//! What can be read from a certificate that somebody shows, and whether an authority stands behind it.

use crate::host::clock;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// It is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is damaged")]
pub struct DamagedCertificate;

/// Certificates are valid from this long before they are made, for clocks that differ.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// What stands before a server id in the name of a server or authority.
pub(crate) const SERVER_URI: &str = "syncd://server/";

/// SHA-256 of a certificate's public key (the whole `SubjectPublicKeyInfo`), in hexadecimal.
///
/// # Errors
/// When it is no certificate.
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Result<String, DamagedCertificate> {
    Ok(fingerprint(&spki(certificate)?))
}

/// The server id in a certificate, if it has exactly one name and that is one.
#[must_use]
pub fn server_id(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = parse(certificate).ok()?;
    let names = &parsed.subject_alternative_name().ok()??.value.general_names;
    let [GeneralName::URI(uri)] = names.as_slice() else {
        return None;
    };
    let id = uri.strip_prefix(SERVER_URI)?;
    is_server_id(id).then(|| id.to_owned())
}

/// Whether a text is a server id: 32 lower-case hexadecimal digits. Such a text is safe as a file name.
#[must_use]
pub fn is_server_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The subject of a certificate as it stands in it (DER).
///
/// # Errors
/// When it is no certificate.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, DamagedCertificate> {
    Ok(parse(certificate)?
        .tbs_certificate
        .subject
        .as_raw()
        .to_vec())
}

/// Who signed a certificate, as it stands in it (DER).
///
/// # Errors
/// When it is no certificate.
pub fn issuer(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, DamagedCertificate> {
    let parsed = parse(certificate)?;
    Ok(parsed.tbs_certificate.issuer.as_raw().to_vec())
}

/// How long a certificate is still valid: nothing when it has ended or has not begun.
///
/// # Errors
/// When it is no certificate.
pub fn remaining(
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Duration, DamagedCertificate> {
    let parsed = parse(certificate)?;
    let now = i64::try_from(clock::unix_seconds(now)).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Ok(Duration::ZERO);
    }
    let left = validity.not_after.timestamp().saturating_sub(now);
    Ok(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Whether it is time for a certificate's successor.
///
/// # Errors
/// When it is no certificate.
pub fn renewal_due(
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<bool, DamagedCertificate> {
    Ok(until_renewal(certificate, now)?.is_zero())
}

/// How long until it is time for a certificate's successor, which is when a third of its own life is left.
///
/// # Errors
/// When it is no certificate.
pub fn until_renewal(
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Duration, DamagedCertificate> {
    Ok(remaining(certificate, now)?.saturating_sub(lifetime(certificate)? / 3))
}

/// For how long a certificate was meant to be valid when it was made.
fn lifetime(certificate: &CertificateDer<'_>) -> Result<Duration, DamagedCertificate> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    let whole = validity.not_after.timestamp() - validity.not_before.timestamp();
    let whole = Duration::from_secs(u64::try_from(whole).unwrap_or(0));
    Ok(whole.saturating_sub(BACKDATE))
}

/// The end of a certificate.
///
/// # Errors
/// When it is no certificate.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, DamagedCertificate> {
    let end = parse(certificate)?.validity().not_after.timestamp();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0)))
}

/// Checks that `authority` signed a server's certificate: signature, dates, purpose. Its name is not looked at.
///
/// # Errors
/// What is wrong with it.
pub fn verify_server(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<(), rustls::Error> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate)?,
        &roots,
        &[],
        UnixTime::since_unix_epoch(now),
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all,
    )
}

pub(crate) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, DamagedCertificate> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok((&[], parsed)) => Ok(parsed),
        _ => Err(DamagedCertificate),
    }
}

pub(crate) fn spki(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, DamagedCertificate> {
    Ok(parse(certificate)?.tbs_certificate.subject_pki.raw.to_vec())
}

/// SHA-256 of a public key (the whole `SubjectPublicKeyInfo`, DER), in hexadecimal.
pub(crate) fn fingerprint(spki: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(spki))
}
