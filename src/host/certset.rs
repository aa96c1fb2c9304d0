//! A complete set of PEM files for `[tls]`: an authority, a server's certificate, those of clients, each with its key.
//!
//! What is there stays: only what is missing is made, by the authority that is there. Certificates can be made anew for the
//! keys that are there, so that devices stay enrolled.

use crate::host::pem::{self, PemError};
use crate::host::pki::{self, PkiError};
use crate::host::private::{self, PrivateError};
use crate::host::random;
use crate::host::{certificate, clock};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;

/// The file of the authority's certificate.
pub const AUTHORITY: &str = "ca";
/// The files of the server.
pub const SERVER: &str = "server";
const README: &str = include_str!("../../certs/README.md");
/// What else lies there is public, or of the repository that the directory is in.
const IGNORED: &str = "*.key\n";

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where.
    pub directory: PathBuf,
    /// Names and addresses of the server besides those of this machine.
    pub hosts: Vec<String>,
    /// Names of clients; each is the name of its files.
    pub clients: Vec<String>,
    /// How long the certificates of the server and the clients are valid.
    pub lifetime: Duration,
    /// Whether certificates are made anew that are there.
    pub renew: bool,
}

/// Why there is no set.
#[derive(Debug, thiserror::Error)]
pub enum CertSetError {
    /// A directory or a public file.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// A key or a certificate that was not made.
    #[error("cannot make keys and certificates")]
    Make(#[from] PkiError),
    /// A file that is there is something else.
    #[error("cannot use `{}`", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// One half of the authority is missing.
    #[error("`{}` is not there, but the other half of the authority is: restore it, or move both away", .0.display())]
    Half(PathBuf),
    /// Its key and its certificate are not of each other.
    #[error("`{}` holds no authority, or its key is another's", .0.display())]
    NoAuthority(PathBuf),
    /// No name or address.
    #[error("`{}` is no name or address of a machine", .0.escape_debug())]
    Host(String),
    /// No name for a client's files.
    #[error("`{}` is no name for a client: letters, digits, `-`, `_` and `.` inside, but not `ca` or `server`", .0.escape_debug())]
    Client(String),
    /// More hosts for a certificate that is there.
    #[error("`{}` is there already", .0.display())]
    There(PathBuf),
}

/// Makes what is missing; the paths of what was made.
///
/// # Errors
/// When a name is none, a file that is there cannot be used, or one cannot be made or written.
pub fn make(wanted: &Wanted) -> Result<Vec<PathBuf>, CertSetError> {
    let directory = &wanted.directory;
    let now = clock::wall();
    for name in &wanted.clients {
        check_client(name)?;
    }
    let given = wanted.hosts.iter().map(|host| san(host));
    let given: Vec<SanType> = given.collect::<Result<_, _>>()?;
    let shown = directory.join(SERVER).with_extension("pem");
    if !given.is_empty() && !wanted.renew && shown.symlink_metadata().is_ok() {
        return Err(CertSetError::There(shown));
    }
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut made = Vec::new();
    for (name, text) in [("README.md", README), (".gitignore", IGNORED)] {
        let path = directory.join(name);
        if path.symlink_metadata().is_err() {
            std::fs::write(&path, text).map_err(failed(&path))?;
        }
    }
    let issuer = authority(directory, now, &mut made)?;
    let mut files = Files {
        wanted,
        issuer,
        now,
        made,
    };
    let mut names = hosts(&shown);
    names.extend(given);
    files.leaf(SERVER, names, ExtendedKeyUsagePurpose::ServerAuth)?;
    for name in &wanted.clients {
        files.leaf(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(files.made)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CertSetError + use<> {
    let path = path.to_owned();
    move |source| CertSetError::Write { path, source }
}

fn check_client(name: &str) -> Result<(), CertSetError> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = name.chars().all(fit)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= pki::MAX_DEVICE_NAME
        && ![AUTHORITY, SERVER].contains(&name);
    if good {
        Ok(())
    } else {
        Err(CertSetError::Client(name.to_owned()))
    }
}

fn san(host: &str) -> Result<SanType, CertSetError> {
    let no_host = || CertSetError::Host(host.to_owned());
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    ServerName::try_from(host).map_err(|_| no_host())?;
    Ok(SanType::DnsName(host.try_into().map_err(|_| no_host())?))
}

/// This machine's names, and those of the certificate that is there.
fn hosts(shown: &Path) -> Vec<SanType> {
    let machine = crate::host::net::host_name();
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1", &machine]
        .map(str::to_owned)
        .to_vec();
    if let Ok(text) = std::fs::read_to_string(shown)
        && let Ok(old) = pem::certificate(&text)
    {
        all.extend(names_of(&old));
    }
    let mut seen = BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    all.iter().filter_map(|name| san(name).ok()).collect()
}

fn names_of(shown: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = certificate::parse(shown) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// The authority that is there, or a new one.
fn authority(
    directory: &Path,
    now: SystemTime,
    made: &mut Vec<PathBuf>,
) -> Result<Issuer<'static, KeyPair>, CertSetError> {
    let [shown, secret] = ["pem", "key"].map(|kind| directory.join(AUTHORITY).with_extension(kind));
    let there = |path: &Path| path.symlink_metadata().is_ok();
    match (there(&shown), there(&secret)) {
        (true, true) => {}
        (false, false) => {
            let name = format!(
                "syncd certs {}",
                random::hex::<8>().map_err(PkiError::from)?
            );
            let key = new_key()?;
            let mut params = pki::leaf(&name, now, pki::AUTHORITY_VALIDITY)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.self_signed(&key).map_err(PkiError::from)?;
            private::write(&secret, key.serialize_pem().as_bytes())?;
            public(&shown, &certificate.pem())?;
            made.extend([shown.clone(), secret.clone()]);
        }
        (true, false) => return Err(CertSetError::Half(secret)),
        (false, true) => return Err(CertSetError::Half(shown)),
    }
    let damaged = |source| CertSetError::Damaged {
        path: shown.clone(),
        source,
    };
    let text = std::fs::read_to_string(&shown).map_err(failed(&shown))?;
    let certificate = pem::certificate(&text).map_err(damaged)?;
    let key = key_of(&secret)?;
    let fits = certificate::parse(&certificate).is_ok_and(|parsed| parsed.is_ca())
        && pki::is_key_of(&key, &certificate);
    if !fits {
        return Err(CertSetError::NoAuthority(shown));
    }
    Ok(Issuer::from_ca_cert_der(&certificate, key).map_err(PkiError::from)?)
}

fn new_key() -> Result<KeyPair, CertSetError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(PkiError::from)?)
}

fn key_of(path: &Path) -> Result<KeyPair, CertSetError> {
    let text = private::read_text(path, pki::MAX_PEM)?;
    let key = pem::private_key(&text).map_err(|source| CertSetError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    Ok(KeyPair::try_from(&key).map_err(PkiError::from)?)
}

/// Writes a file that everybody may read.
fn public(path: &Path, text: &str) -> Result<(), CertSetError> {
    private::write(path, text.as_bytes())?;
    std::fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(failed(path))
}

struct Files<'a> {
    wanted: &'a Wanted,
    issuer: Issuer<'static, KeyPair>,
    now: SystemTime,
    made: Vec<PathBuf>,
}

impl Files<'_> {
    /// A key and its certificate, as far as they are not there.
    fn leaf(
        &mut self,
        name: &str,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(), CertSetError> {
        let [shown, secret] =
            ["pem", "key"].map(|kind| self.wanted.directory.join(format!("{name}.{kind}")));
        let key = match key_of(&secret) {
            Ok(key) => key,
            Err(CertSetError::Private(error)) if error.is_absent() => {
                let key = new_key()?;
                private::write(&secret, key.serialize_pem().as_bytes())?;
                self.made.push(secret.clone());
                key
            }
            Err(error) => return Err(error),
        };
        let kept = !self.made.contains(&secret) && shown.symlink_metadata().is_ok();
        if kept && !self.wanted.renew {
            return Ok(());
        }
        let mut params: CertificateParams = pki::leaf(name, self.now, self.wanted.lifetime)?;
        params.subject_alt_names = names;
        params.extended_key_usages = vec![purpose];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(PkiError::from)?;
        public(&shown, &certificate.pem())?;
        self.made.push(shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
