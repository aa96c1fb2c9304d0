//! What a client keeps for each server that it is enrolled with: its key, its certificate, the authority.
//!
//! One private file for each home and server id, so fifty clients of one home are one device. The key is made here and
//! never leaves. Who may enrol when is decided in `daemon::connect`.

use crate::host::certificate::DamagedCertificate;
use crate::host::dirs::{Dirs, open_lock};
use crate::host::pki::{self, DeviceKey, PkiError};
use crate::host::private::{self, PrivateError};
use crate::host::tls::{Pin, Presenting, provider};
use crate::host::{certificate, clock, pem};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Servers of one home that are looked at, at most.
pub(super) const MAX_SERVERS: usize = 1024;
const FILE: &str = "device.pem";
/// A key whose certificate has not come yet.
const JOINING_FILE: &str = "joining.pem";

/// Why an enrolment cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Its file or directory.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// Its key or certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] DamagedCertificate),
    /// What the server gave is not for this key, or not of the authority that was pinned.
    #[error("the server gave a certificate that does not fit")]
    Unfit,
}

/// An enrolment with one server.
#[derive(Debug, Clone)]
pub struct Enrolment {
    server_id: String,
    device_id: String,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: Arc<CertifiedKey>,
    subject: Vec<u8>,
}

impl Enrolment {
    /// The server's id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// This device's id at that server.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The authority to believe for the server.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin {
            server_id: self.server_id.clone(),
            authority: self.authority.clone(),
        }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// What is shown to the server.
    #[must_use]
    pub fn presenting(&self) -> Presenting {
        Presenting {
            authority_subject: self.subject.clone(),
            key: self.key.clone(),
        }
    }

    /// How long the certificate is still valid.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Duration {
        certificate::remaining(&self.certificate, now).unwrap_or_default()
    }

    /// Whether it is time for a new certificate.
    #[must_use]
    pub fn renewal_due(&self, now: SystemTime) -> bool {
        certificate::renewal_due(&self.certificate, now).unwrap_or(true)
    }

    /// How long until it is time for a new certificate.
    #[must_use]
    pub fn until_renewal(&self, now: SystemTime) -> Duration {
        certificate::until_renewal(&self.certificate, now).unwrap_or_default()
    }

    /// The certificate, to tell whether somebody renewed it meanwhile.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
}

/// The enrolments of one home.
#[derive(Debug, Clone)]
pub struct Enrolments {
    pub(super) dir: PathBuf,
}

impl Enrolments {
    /// Those of the home that `dirs` belong to.
    #[must_use]
    pub fn of(dirs: &Dirs) -> Self {
        Self {
            dir: dirs.enrolments(),
        }
    }

    /// All that can be used. One that cannot is left out with a warning: the device enrols again.
    #[must_use]
    pub fn all(&self) -> Vec<Enrolment> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| certificate::is_server_id(name))
            .take(MAX_SERVERS)
            .filter_map(|id| self.get(&id))
            .collect()
    }

    /// The one with a server, if it can be used.
    #[must_use]
    pub fn get(&self, server_id: &str) -> Option<Enrolment> {
        let path = self.file(server_id);
        let read = private::read_text(&path, pki::MAX_PEM)
            .map_err(EnrolmentError::from)
            .and_then(|text| parse(server_id, &text));
        match read {
            Ok(enrolment) => Some(enrolment),
            Err(EnrolmentError::Private(error)) if error.is_absent() => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a device key cannot be used");
                None
            }
        }
    }

    /// The key to enrol with: the one that is there, or a new one, which is not kept yet.
    ///
    /// # Errors
    /// When the provider fails.
    pub fn key(&self, server_id: &str) -> Result<DeviceKey, PkiError> {
        match private::read_text(&self.file(server_id), pki::MAX_PEM) {
            Ok(text) => DeviceKey::from_pem(&text).or_else(|_| DeviceKey::generate()),
            Err(_) => DeviceKey::generate(),
        }
    }

    /// The key to join with by an invite: as [`key`](Self::key), but kept at once, so that an attempt whose answer was lost
    /// can be repeated with the same key. An invite is good for one key.
    ///
    /// # Errors
    /// When the provider fails, or the key cannot be kept.
    pub fn joining_key(&self, server_id: &str) -> Result<DeviceKey, EnrolmentError> {
        let path = self.dir.join(server_id).join(JOINING_FILE);
        for path in [self.file(server_id), path] {
            if let Ok(text) = private::read_text(&path, pki::MAX_PEM)
                && let Ok(key) = DeviceKey::from_pem(&text)
            {
                return Ok(key);
            }
        }
        self.fresh_key(server_id)
    }

    /// A new key to join with, kept as by [`joining_key`](Self::joining_key).
    ///
    /// # Errors
    /// When the provider fails, or the key cannot be kept.
    pub fn fresh_key(&self, server_id: &str) -> Result<DeviceKey, EnrolmentError> {
        let key = DeviceKey::generate()?;
        self.make(server_id)?;
        let path = self.dir.join(server_id).join(JOINING_FILE);
        private::write(&path, key.to_pem().as_bytes())?;
        Ok(key)
    }

    /// Keeps what the server gave, if it is for this key, in force, and of the pinned authority.
    ///
    /// # Errors
    /// When it does not fit or cannot be written.
    pub fn keep(
        &self,
        pin: &Pin,
        key: &DeviceKey,
        certificate: &str,
        authority: &str,
    ) -> Result<Enrolment, EnrolmentError> {
        let text = format!("{}{certificate}{authority}", key.to_pem());
        let enrolment = parse(&pin.server_id, &text)?;
        if enrolment.authority != pin.authority
            || enrolment.device_id != key.device_id()
            || enrolment.remaining(clock::wall()).is_zero()
        {
            return Err(EnrolmentError::Unfit);
        }
        self.make(&pin.server_id)?;
        private::write(&self.file(&pin.server_id), text.as_bytes())?;
        private::remove(&self.dir.join(&pin.server_id).join(JOINING_FILE))?;
        Ok(enrolment)
    }

    /// Tries to become the only process of this home that enrols with a server; `None` when another one does.
    ///
    /// # Errors
    /// When there is no place for the lock.
    pub fn try_lock(&self, server_id: &str) -> Result<Option<File>, PrivateError> {
        self.make(server_id)?;
        let path = self.dir.join(server_id).join("lock");
        let failed = |source: io::Error| PrivateError::Io {
            action: "lock",
            path: path.clone(),
            source,
        };
        let file = open_lock(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(super) fn make(&self, server_id: &str) -> Result<(), PrivateError> {
        private::create_dir(&self.dir)?;
        private::create_dir(&self.dir.join(server_id))
    }

    fn file(&self, server_id: &str) -> PathBuf {
        self.dir.join(server_id).join(FILE)
    }
}

/// Reads key, certificate and authority, in this order, and checks that they belong together.
fn parse(server_id: &str, text: &str) -> Result<Enrolment, EnrolmentError> {
    let certificates = pem::certificates(text).map_err(PkiError::from)?;
    let [certificate, authority] = certificates.as_slice() else {
        return Err(EnrolmentError::Unfit);
    };
    let key = pem::private_key(text).map_err(PkiError::from)?;
    // Also checks that the key is the certificate's.
    let key = CertifiedKey::from_der(vec![certificate.clone()], key, &provider())
        .map_err(|_| EnrolmentError::Unfit)?;
    if certificate::server_id(authority).as_deref() != Some(server_id) {
        return Err(EnrolmentError::Unfit);
    }
    Ok(Enrolment {
        server_id: server_id.to_owned(),
        device_id: certificate::key_fingerprint(certificate)?,
        subject: certificate::subject(authority)?,
        authority: authority.clone(),
        certificate: certificate.clone(),
        key: Arc::new(key),
    })
}
