//! Connections with certificates of the owner's own: the name that is dialled is checked, and nothing is enrolled.

use super::dial::{handshake_as, local, refused};
use super::{ConnectError, Connection};
use crate::host::certificate;
use crate::host::own::{Own, PemFiles};
use crate::host::tls::{Rejection, own_config};
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};

/// What a person can do about a server that does not accept such a certificate, or shows one that is not accepted.
pub(super) fn hint(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::UnknownDevice => {
            "enrol this device's key on the server's machine: `syncd invite --certificate CLIENT.pem --name NAME --root`, or with `--share NAME`"
        }
        Rejection::Revoked => {
            "a revoked key stays so: make another one, and enrol it on the server's machine with `syncd invite --certificate CLIENT.pem --name NAME --root`"
        }
        Rejection::Authority => {
            "`ca` in `[tls]` of each side has to hold the authority that signed the other side's certificate; check what listens at this address, too"
        }
        Rejection::PeerCertificate(_) | Rejection::Expired => {
            "compare the clocks of both machines; `syncd certs init --renew` where the authority lies makes new certificates for the keys that are there"
        }
        Rejection::Unfit => {
            "the certificate has to be one for clients (extended key usage `clientAuth`); `syncd certs init` makes such ones"
        }
        other => other.hint(),
    }
}

/// Opens a connection. The files are read each time, so that new ones are used without a restart.
pub(super) async fn connect(server: &str, files: &PemFiles) -> Result<Connection, ConnectError> {
    let own = Own::load(files).map_err(ConnectError::Own)?;
    let shown = own.certificate().map(certificate::key_fingerprint);
    let Some(Ok(device_id)) = shown else {
        return Err(refused(server, Rejection::Authority));
    };
    let host = host_of(server);
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| refused(server, Rejection::Name))?;
    let config = own_config(&own).map_err(local)?;
    let stream = handshake_as(server, name, config).await?;
    Ok(Connection {
        stream,
        server_id: server_id(host, &own),
        device_id,
    })
}

/// `HOST` of `HOST:PORT`, without the brackets of an address of IPv6.
fn host_of(server: &str) -> &str {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// What stands for the server's id, which such a certificate does not have: its name under its authorities.
fn server_id(host: &str, own: &Own) -> String {
    let mut hash = Sha256::new();
    hash.update(host);
    for subject in own.roots.subjects() {
        hash.update(subject.as_ref());
    }
    let digest = data_encoding::HEXLOWER.encode(&hash.finalize());
    digest.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(host_of("backup.example:7440"), "backup.example");
        assert_eq!(host_of("[2001:db8::1]:7440"), "2001:db8::1");
        assert_eq!(host_of("192.0.2.1:1"), "192.0.2.1");
    }
}
