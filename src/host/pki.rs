//! Keys and certificates that are made here: the server's private authority and its certificate, the devices' keys.
//!
//! An identity is a server id, 16 random bytes in hexadecimal, that stands as the URI `syncd://server/<id>` in the
//! certificates of the authority and of the server. A device is known by the SHA-256 of its public key. Nothing here
//! decides whom to trust; that is in `host::tls` and `host::devices`.

pub use crate::host::names::{MAX_DEVICE_NAME, clean_name, clean_text};

use crate::host::certificate::{
    BACKDATE, DamagedCertificate, SERVER_URI, fingerprint, renewal_due, server_id, spki,
    verify_server,
};
use crate::host::pem::{self, PemError};
use crate::host::private::{self, PrivateError};
use crate::host::random::{self, RandomError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How long an authority is valid.
pub const AUTHORITY_VALIDITY: Duration = days(3650);
/// How long a server's certificate is valid.
pub const SERVER_VALIDITY: Duration = days(365);
/// How long a device's certificate is valid.
pub const DEVICE_VALIDITY: Duration = days(90);

/// How long the certificates are valid that an authority makes. Each gets a successor when a third of its life is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// The server's own.
    pub server: Duration,
    /// Those of devices.
    pub device: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            server: SERVER_VALIDITY,
            device: DEVICE_VALIDITY,
        }
    }
}

/// Longest PEM file, in bytes.
pub const MAX_PEM: u64 = 64 * 1024;

const AUTHORITY_FILE: &str = "authority.pem";
const SERVER_FILE: &str = "server.pem";
const DEVICE_URI: &str = "syncd://device/";

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// Why a key or certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Its file cannot be used.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// Its text cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// A certificate could not be read.
    #[error(transparent)]
    Certificate(#[from] DamagedCertificate),
    /// A request for a certificate is damaged, not signed by its own key, or for another kind of key.
    #[error("the certificate request is not acceptable")]
    Request,
    /// A file holds something, but not the authority of a server.
    #[error(
        "`{0}` holds no authority of a syncd server; restore it, or remove the directory to start with a new one"
    )]
    NoAuthority(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// The server's side: its id, its authority, its certificate.
#[derive(Debug)]
pub struct Identity {
    server_id: String,
    authority: CertificateDer<'static>,
    authority_pem: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    lifetimes: Lifetimes,
}

impl Identity {
    /// Reads the identity kept in `dir`, or makes one if there is none; the server's certificate is made anew when it
    /// ends soon.
    ///
    /// # Errors
    /// When files cannot be used. A damaged authority is an error and never replaced: every device would be locked out.
    pub fn open(dir: &Path, now: SystemTime) -> Result<Self, PkiError> {
        Self::open_with(dir, now, Lifetimes::default())
    }

    /// As [`open`](Self::open), for certificates of other lifetimes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(dir: &Path, now: SystemTime, lifetimes: Lifetimes) -> Result<Self, PkiError> {
        let path = dir.join(AUTHORITY_FILE);
        let text = match private::read_text(&path, MAX_PEM) {
            Ok(text) => text,
            Err(error) if error.is_absent() => {
                let text = new_authority(now)?;
                private::write(&path, text.as_bytes())?;
                text
            }
            Err(error) => return Err(error.into()),
        };
        let no_authority = || PkiError::NoAuthority(path.display().to_string());
        let authority = pem::certificate(&text).map_err(|_| no_authority())?;
        let server_id = server_id(&authority).ok_or_else(no_authority)?;
        let key = KeyPair::try_from(&pem::private_key(&text).map_err(|_| no_authority())?)
            .map_err(|_| no_authority())?;
        if !is_key_of(&key, &authority) {
            return Err(no_authority());
        }
        let issuer = Issuer::from_ca_cert_der(&authority, key)?;
        let (certificate, key) = match kept(&dir.join(SERVER_FILE), &authority, now) {
            Some(kept) => kept,
            None => server_certificate(dir, &issuer, &server_id, now, lifetimes.server)?,
        };
        Ok(Self {
            authority_pem: certificate_pem(&text),
            server_id,
            authority,
            issuer,
            certificate,
            key,
            lifetimes,
        })
    }

    /// The server id: 32 hexadecimal digits.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// The authority's certificate as PEM text.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key of the server's certificate.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// SHA-256 of the authority's public key: what an invite pins.
    ///
    /// # Errors
    /// When the authority cannot be read, which it was when it was opened.
    pub fn fingerprint(&self) -> Result<[u8; 32], PkiError> {
        Ok(Sha256::digest(spki(&self.authority)?).into())
    }

    /// Signs a certificate for the key of a request. Nothing but the key is taken from the request, so it can ask
    /// for no right.
    ///
    /// # Errors
    /// When the request is not signed by its own key or is for anything but an ECDSA P-256 key.
    pub fn sign_device(
        &self,
        request: &str,
        name: &str,
        now: SystemTime,
    ) -> Result<DeviceCertificate, PkiError> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request).map_err(|_| PkiError::Request)?;
        let point = request.public_key.der_bytes();
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256
            || point.len() != 65
            || point.first() != Some(&4)
        {
            return Err(PkiError::Request);
        }
        let device_id = fingerprint(&request.public_key.subject_public_key_info());
        let mut params = leaf(name, now, self.lifetimes.device)?;
        params.subject_alt_names = vec![uri(DEVICE_URI, &device_id)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        Ok(DeviceCertificate {
            device_id,
            until: now + self.lifetimes.device,
            pem: certificate.pem(),
        })
    }
}

/// A certificate made for a device.
#[derive(Debug, Clone)]
pub struct DeviceCertificate {
    /// SHA-256 of the device's public key, in hexadecimal.
    pub device_id: String,
    /// When it ends.
    pub until: SystemTime,
    /// The certificate as PEM text.
    pub pem: String,
}

/// A device's key, made and kept on the device.
#[derive(Debug)]
pub struct DeviceKey(KeyPair);

impl DeviceKey {
    /// A new key.
    ///
    /// # Errors
    /// When the provider fails.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads the first private key of a PEM text.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        Ok(Self(KeyPair::try_from(&pem::private_key(text)?)?))
    }

    /// The key as PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The device id: SHA-256 of the public key, in hexadecimal.
    #[must_use]
    pub fn device_id(&self) -> String {
        fingerprint(&self.0.subject_public_key_info())
    }

    /// A request for a certificate, as PEM text.
    ///
    /// # Errors
    /// When the provider fails.
    pub fn request(&self) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("syncd device");
        Ok(params.serialize_request(&self.0)?.pem()?)
    }
}

fn new_authority(now: SystemTime) -> Result<String, PkiError> {
    let id = random::hex::<16>()?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = leaf(&format!("syncd authority {id}"), now, AUTHORITY_VALIDITY)?;
    params.subject_alt_names = vec![uri(SERVER_URI, &id)?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// The server's certificate and key from its file, if they are good for a while yet.
fn kept(
    path: &Path,
    authority: &CertificateDer<'_>,
    now: SystemTime,
) -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let text = private::read_text(path, MAX_PEM).ok()?;
    let certificate = pem::certificate(&text).ok()?;
    let key = pem::private_key(&text).ok()?;
    is_current(&certificate, &key, authority, now).then_some((certificate, key))
}

/// A new certificate and key of the server, which are kept.
fn server_certificate(
    dir: &Path,
    issuer: &Issuer<'static, KeyPair>,
    server_id: &str,
    now: SystemTime,
    lifetime: Duration,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PkiError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = leaf("syncd server", now, lifetime)?;
    params.subject_alt_names = vec![uri(SERVER_URI, server_id)?];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, issuer)?;
    let text = format!("{}{}", key.serialize_pem(), certificate.pem());
    private::write(&dir.join(SERVER_FILE), text.as_bytes())?;
    Ok((certificate.der().clone(), key.into()))
}

/// Whether a client that trusts the authority would accept the certificate, for a while yet.
fn is_current(
    certificate: &CertificateDer<'_>,
    key: &PrivateKeyDer<'_>,
    authority: &CertificateDer<'_>,
    now: SystemTime,
) -> bool {
    server_id(certificate).is_some_and(|id| server_id(authority) == Some(id))
        && renewal_due(certificate, now).is_ok_and(|due| !due)
        && verify_server(certificate, authority, now).is_ok()
        && KeyPair::try_from(key).is_ok_and(|key| is_key_of(&key, certificate))
}

/// What all certificates have in common; a fresh serial, because the default repeats for the same key.
pub(super) fn leaf(
    name: &str,
    now: SystemTime,
    validity: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut serial = random::bytes::<16>()?;
    // Positive and of full length in DER.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Whether a key is the one of a certificate.
pub(super) fn is_key_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> bool {
    spki(certificate).is_ok_and(|spki| spki == key.subject_public_key_info())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn uri(prefix: &str, id: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(format!("{prefix}{id}").try_into()?))
}

/// The part of a PEM text from its first certificate on.
fn certificate_pem(text: &str) -> String {
    text.find("-----BEGIN CERTIFICATE-----")
        .and_then(|start| text.get(start..))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
