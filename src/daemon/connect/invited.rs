//! Joining a server of another machine by the line of an invite.

use super::{ConnectError, Connector, exchange, handshake, keyless, local, refused};
use crate::host::joined::{JoinedServer, JoinedShare};
use crate::host::pki::{DeviceKey, clean_text};
use crate::host::tls::{Pin, Rejection, invited_config};
use crate::wire::{Granted, Invite, JoinAnswer, JoinCode, JoinRequest, JoinSecret};

/// What joining came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The address that answered.
    pub address: String,
    /// The device's name on the server.
    pub device: String,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// Whether files may be changed there.
    pub write: bool,
    /// All that this home has joined that server for.
    pub server: JoinedServer,
}

impl Connector {
    /// The servers that this home has joined by an invite.
    #[must_use]
    pub fn joined_servers(&self) -> Vec<JoinedServer> {
        self.enrolments.joined()
    }

    /// What this home has joined one server for, if by an invite.
    #[must_use]
    pub fn joined_with(&self, server_id: &str) -> Option<JoinedServer> {
        self.enrolments.joined_with(server_id)
    }

    /// Joins the server of an invite, trying its addresses one after the other.
    ///
    /// # Errors
    /// What is wrong with the invite, the line or the server; of several addresses, what tells most.
    pub async fn join_by(
        &self,
        invite: &Invite,
        name: Option<&str>,
    ) -> Result<Joined, ConnectError> {
        let mut worst: Option<ConnectError> = None;
        for address in &invite.addresses {
            let error = match self.join_at(address, invite, name).await {
                Ok(joined) => return Ok(joined),
                Err(error) => error,
            };
            // The server of the invite has spoken: another of its addresses would say the same.
            if matches!(error, ConnectError::NotEnrolled { .. }) {
                return Err(error);
            }
            worst = Some(ConnectError::telling(worst, error));
        }
        Err(worst.unwrap_or_else(|| refused("the invite", Rejection::NoTls)))
    }

    async fn join_at(
        &self,
        address: &str,
        invite: &Invite,
        name: Option<&str>,
    ) -> Result<Joined, ConnectError> {
        let secret = data_encoding::HEXLOWER.encode(&invite.secret);
        let mut fresh = false;
        loop {
            let (config, met) = invited_config(invite.key).map_err(local)?;
            let mut stream = handshake(address, config).await?;
            let pin = met
                .get()
                .cloned()
                .ok_or_else(|| refused(address, Rejection::Authority))?;
            if !fresh && self.has_used(&pin.server_id, &secret) {
                return Err(ConnectError::NotEnrolled {
                    server: address.to_owned(),
                    code: JoinCode::Used,
                    message: "this home has used the invite already, and it is good once"
                        .to_owned(),
                });
            }
            let _lock = self.lock(address, &pin.server_id).await?;
            let key = if fresh {
                self.enrolments.fresh_key(&pin.server_id)
            } else {
                self.enrolments.joining_key(&pin.server_id)
            };
            let key = key.map_err(ConnectError::Local)?;
            let request = JoinRequest {
                secret: JoinSecret::Invite {
                    secret: secret.clone(),
                },
                csr: key.request().map_err(keyless)?,
                name: name.unwrap_or(&self.device_name).to_owned(),
            };
            match exchange(address, &mut stream, &request).await? {
                JoinAnswer::Joined {
                    certificate,
                    authority,
                    granted: Some(granted),
                } => {
                    let pems = [certificate.as_str(), authority.as_str()];
                    return self.joined(address, invite, &pin, &key, pems, granted);
                }
                JoinAnswer::Joined { granted: None, .. } => {
                    return Err(ConnectError::Version {
                        server: address.to_owned(),
                    });
                }
                // A key that was revoked stays so, but its home may come back with another one.
                JoinAnswer::Refused {
                    code: JoinCode::Revoked,
                    ..
                } if !fresh => fresh = true,
                JoinAnswer::Refused { code, message } => {
                    return Err(ConnectError::NotEnrolled {
                        server: address.to_owned(),
                        code,
                        message: clean_text(&message, 400),
                    });
                }
            }
        }
    }

    fn has_used(&self, server_id: &str, secret: &str) -> bool {
        let joined = self.enrolments.joined_with(server_id);
        joined.is_some_and(|joined| joined.has_used(secret))
    }

    fn joined(
        &self,
        address: &str,
        invite: &Invite,
        pin: &Pin,
        key: &DeviceKey,
        [certificate, authority]: [&str; 2],
        granted: Granted,
    ) -> Result<Joined, ConnectError> {
        self.enrolments
            .keep(pin, key, certificate, authority)
            .map_err(ConnectError::Local)?;
        let others = invite.addresses.iter().filter(|other| *other != address);
        let addresses = std::iter::once(address)
            .chain(others.map(String::as_str))
            .map(str::to_owned)
            .collect();
        let secret = data_encoding::HEXLOWER.encode(&invite.secret);
        let share = granted.share.map(|name| clean_text(&name, 64));
        let noted = JoinedShare {
            name: share.clone(),
            write: granted.write,
        };
        let server = self
            .enrolments
            .note_joined(&pin.server_id, addresses, noted, &secret)
            .map_err(|error| ConnectError::Local(error.into()))?;
        Ok(Joined {
            address: address.to_owned(),
            device: clean_text(&granted.device, 64),
            share,
            write: granted.write,
            server,
        })
    }
}
