//! A server directory's trust in one piece: its identity, its devices, its TLS, its local invite.

use crate::daemon::join::Enroller;
use crate::host::clock;
use crate::host::devices::{Device, Devices, DevicesError};
use crate::host::dirs::{Dirs, StateDir};
use crate::host::invite::{self, InviteError, LocalInvite};
use crate::host::pki::{Identity, PkiError};
use crate::host::private::PrivateError;
use crate::host::tls::{ServerTls, TlsError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Why a server cannot be trusted by anybody, or change whom it trusts.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Its identity.
    #[error("cannot open the server's identity")]
    Identity(#[from] PkiError),
    /// Its devices.
    #[error("cannot use the list of devices")]
    Devices(#[from] DevicesError),
    /// Its TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its local invite.
    #[error("cannot leave the local invite")]
    Invite(#[from] InviteError),
    /// The local invite could not be withdrawn.
    #[error("cannot withdraw the local invite")]
    Withdraw(#[from] PrivateError),
}

/// Everything that decides whom a server believes.
#[derive(Debug, Clone)]
pub struct Trust {
    dirs: Dirs,
    identity: Arc<Identity>,
    devices: Arc<Devices>,
    invite: LocalInvite,
    state: PathBuf,
    tls: Arc<ServerTls>,
    enroller: Arc<Enroller>,
}

impl Trust {
    /// Opens, or at the first start makes, the trust of a server directory, and leaves the local invite unless
    /// enrolment through it is closed. `state` must be claimed; `addresses` are those really listened on.
    ///
    /// # Errors
    /// When keys or files cannot be made, read or written.
    pub fn open(dirs: &Dirs, state: &StateDir, addresses: Vec<String>) -> Result<Self, TrustError> {
        Self::open_at(dirs, state, addresses, clock::wall())
    }

    /// As [`open`](Self::open), with certificates made at a given time.
    pub(crate) fn open_at(
        dirs: &Dirs,
        state: &StateDir,
        addresses: Vec<String>,
        now: SystemTime,
    ) -> Result<Self, TrustError> {
        let identity = Arc::new(Identity::open(state.path(), now)?);
        let devices = Arc::new(Devices::open(state.path())?);
        let invite = LocalInvite::new(&identity, addresses, state.directory())?;
        let trust = Self {
            tls: Arc::new(ServerTls::new(&identity, devices.clone())?),
            state: state.path().to_owned(),
            enroller: Arc::new(Enroller::new(identity.clone(), devices.clone(), &invite)),
            dirs: dirs.clone(),
            identity,
            devices,
            invite,
        };
        if trust.devices.local_open() {
            trust.invite.publish(dirs)?;
        } else {
            invite::withdraw(dirs, trust.server_id())?;
        }
        Ok(trust)
    }

    /// The server's id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        self.identity.server_id()
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &Arc<Devices> {
        &self.devices
    }

    /// The TLS configurations.
    #[must_use]
    pub fn tls(&self) -> &Arc<ServerTls> {
        &self.tls
    }

    /// Who decides about joining.
    #[must_use]
    pub fn enroller(&self) -> &Arc<Enroller> {
        &self.enroller
    }

    /// Makes the server's certificate anew if it ends soon, for servers that run for a year.
    ///
    /// # Errors
    /// When keys or files cannot be made, read or written; the old certificate stays in use.
    pub fn refresh(&self) -> Result<(), TrustError> {
        let identity = Identity::open(&self.state, clock::wall())?;
        if identity.server_id() == self.server_id()
            && identity.certificate() != self.identity.certificate()
        {
            self.tls.renew(&identity)?;
        }
        Ok(())
    }

    /// Revokes a device by name or id and ends its connections. When it was of the same user, the local invite goes too.
    ///
    /// # Errors
    /// When there is no such device or files cannot be changed.
    pub fn revoke(&self, name_or_id: &str) -> Result<Device, TrustError> {
        let device = self.devices.revoke(name_or_id)?;
        if !self.devices.local_open() {
            invite::withdraw(&self.dirs, self.server_id())?;
        }
        Ok(device)
    }

    /// Lets clients of this user and home enrol themselves again after one of theirs was revoked.
    ///
    /// # Errors
    /// When files cannot be changed.
    pub fn reopen_local(&self) -> Result<(), TrustError> {
        self.devices.open_local()?;
        Ok(self.invite.publish(&self.dirs)?)
    }
}
