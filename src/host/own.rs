//! Certificates of one's own: PEM files that the owner names in the settings, instead of what syncd makes by itself.

use crate::host::certificate::{self, DamagedCertificate};
use crate::host::pem::{self, PemError};
use crate::host::tls::provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, RootCertStore};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest PEM file, in bytes.
const MAX_PEM: u64 = 1024 * 1024;

/// Where they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PemFiles {
    /// The certificate that is shown, with those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that are believed.
    pub ca: PathBuf,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key is open to everybody.
    #[error("everybody can read the key `{}` (mode {mode:04o}): make it 0600", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("cannot use `{}`", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A certificate is damaged.
    #[error("cannot use `{}`", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: DamagedCertificate,
    },
    /// The key is not the certificate's, or of a kind that cannot be used.
    #[error("the key `{}` does not fit the certificate `{}`", key.display(), certificate.display())]
    Unfit {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// A certificate of an authority cannot be used as one.
    #[error("`{}` holds a certificate that is none of an authority", .0.display())]
    Authority(PathBuf),
}

/// What they hold.
#[derive(Clone, Debug)]
pub struct Own {
    /// What is shown to the peer.
    pub key: Arc<CertifiedKey>,
    /// Whom to believe.
    pub roots: Arc<RootCertStore>,
    /// Who signed what is shown, each name as it stands in the certificates (DER).
    issuers: Vec<Vec<u8>>,
}

impl Own {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, does not hold what it should, or they do not fit together.
    pub fn load(files: &PemFiles) -> Result<Self, OwnError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OwnError::Pem { path, source }
        };
        let text = read(&files.certificate, Secrecy::Public)?;
        let chain = pem::certificates(&text).map_err(unusable(&files.certificate))?;
        let text = read(&files.key, Secrecy::Secret)?;
        let key = pem::private_key(&text).map_err(unusable(&files.key))?;
        let issuers = chain.iter().map(certificate::issuer).collect();
        let issuers: Result<Vec<_>, DamagedCertificate> = issuers;
        let issuers = issuers.map_err(|source| OwnError::Certificate {
            path: files.certificate.clone(),
            source,
        })?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| OwnError::Unfit {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        })?;
        let text = read(&files.ca, Secrecy::Public)?;
        let mut roots = RootCertStore::empty();
        for authority in pem::certificates(&text).map_err(unusable(&files.ca))? {
            let parsed = certificate::parse(&authority);
            if !parsed.is_ok_and(|parsed| parsed.is_ca()) {
                return Err(OwnError::Authority(files.ca.clone()));
            }
            roots
                .add(authority)
                .map_err(|_| OwnError::Authority(files.ca.clone()))?;
        }
        Ok(Self {
            key: Arc::new(key),
            roots: Arc::new(roots),
            issuers,
        })
    }

    /// Whether one of the authorities of these names (DER) signed what is shown.
    #[must_use]
    pub fn is_of(&self, authorities: &[DistinguishedName]) -> bool {
        let asked = |issuer: &Vec<u8>| authorities.iter().any(|name| name.as_ref() == issuer);
        self.issuers.iter().any(asked)
    }

    /// The certificate itself.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Secret,
}

fn read(path: &Path, secrecy: Secrecy) -> Result<String, OwnError> {
    let failed = |source| OwnError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if secrecy == Secrecy::Secret && mode & 0o007 != 0 {
        return Err(OwnError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    let length = file
        .take(MAX_PEM + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if length as u64 > MAX_PEM {
        let message = format!("it is longer than {MAX_PEM} bytes");
        return Err(failed(io::Error::other(message)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Own, OwnError, PemFiles};
    use crate::host::certset::{self, Wanted};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn files_that_cannot_be_meant_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let wanted = Wanted {
            directory: temp.path().to_owned(),
            hosts: Vec::new(),
            clients: vec!["me".to_owned()],
            lifetime: Duration::from_secs(60),
            renew: false,
        };
        certset::make(&wanted).unwrap();
        let load = |certificate: &str, key: &str, ca: &str| {
            Own::load(&PemFiles {
                certificate: at(certificate),
                key: at(key),
                ca: at(ca),
            })
        };
        assert!(load("me.pem", "me.key", "ca.pem").is_ok());
        fs::write(at("empty"), "# nothing\n").unwrap();
        fs::set_permissions(at("empty"), Permissions::from_mode(0o600)).unwrap();
        type Check = fn(&OwnError) -> bool;
        let cases: [(_, Check); 6] = [
            (["no", "me.key", "ca.pem"], |it| {
                matches!(it, OwnError::Read { .. })
            }),
            // The parser gives an empty list for a file without certificates.
            (["empty", "me.key", "ca.pem"], |it| {
                matches!(it, OwnError::Pem { .. })
            }),
            (["me.pem", "empty", "ca.pem"], |it| {
                matches!(it, OwnError::Pem { .. })
            }),
            (["me.pem", "me.key", "empty"], |it| {
                matches!(it, OwnError::Pem { .. })
            }),
            (["me.pem", "server.key", "ca.pem"], |it| {
                matches!(it, OwnError::Unfit { .. })
            }),
            (["me.pem", "me.key", "me.pem"], |it| {
                matches!(it, OwnError::Authority(_))
            }),
        ];
        for ([certificate, key, ca], is_expected) in cases {
            let error = load(certificate, key, ca).unwrap_err();
            assert!(is_expected(&error), "{certificate} {key} {ca}: {error:?}");
        }
        for mode in [0o640, 0o604, 0o602] {
            fs::set_permissions(at("me.key"), Permissions::from_mode(mode)).unwrap();
            let loaded = load("me.pem", "me.key", "ca.pem");
            let refused = matches!(loaded, Err(OwnError::Exposed { .. }));
            // A group of its own is how system keys are shared with a daemon.
            assert_eq!(refused, mode != 0o640, "{mode:o}");
        }
    }
}
