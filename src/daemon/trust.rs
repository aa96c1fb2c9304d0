//! A server directory's trust in one piece: its identity, its devices, its TLS, its local invite.

use crate::daemon::join::{Enroller, Taken};
use crate::host::devices::{Device, Devices, DevicesError, Enrolling};
use crate::host::dirs::{Dirs, StateDir};
use crate::host::invite::{self, InviteError, LocalInvite};
use crate::host::own::{Own, OwnError, PemFiles};
use crate::host::pending::Pending;
use crate::host::pki::{Identity, Lifetimes, PkiError};
use crate::host::private::PrivateError;
use crate::host::random::{self, RandomError};
use crate::host::rights::{Access, Rights};
use crate::host::tls::{ServerTls, TlsError};
use crate::host::{certificate, clock};
use crate::wire::{INVITE_SECRET, Invite, InvitedShare};
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// The owner's own certificates.
    #[error("cannot use the certificates of `[tls]`")]
    Own(#[from] OwnError),
    /// An invite has no secret.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// How often certificates of the owner's own are read again.
const OWN_PERIOD: Duration = Duration::from_secs(60);

/// What a server decides of its trust.
#[derive(Debug, Clone, Default)]
pub struct TrustOptions {
    /// How long certificates are valid.
    pub lifetimes: Lifetimes,
    /// Names that a new share cannot have.
    pub taken: Taken,
    /// Certificates of the owner's own.
    pub own: Option<PemFiles>,
}

/// For whom an invite is.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The name that the device gets; none for the one that it brings.
    pub name: Option<String>,
    /// For which share.
    pub share: InvitedShare,
    /// What it may do there.
    pub access: Access,
    /// For how long the invite is good.
    pub expires: Duration,
    /// Where it finds the server: `HOST:PORT`.
    pub addresses: Vec<String>,
}

/// Everything that decides whom a server believes.
#[derive(Debug, Clone)]
pub struct Trust {
    dirs: Dirs,
    identity: Arc<Identity>,
    devices: Arc<Devices>,
    invite: LocalInvite,
    state: PathBuf,
    lifetimes: Lifetimes,
    own: Option<PemFiles>,
    tls: Arc<ServerTls>,
    enroller: Arc<Enroller>,
}

impl Trust {
    /// Opens, or at the first start makes, the trust of a server directory, and leaves the local invite unless
    /// enrolment through it is closed. `state` must be claimed; `addresses` are those really listened on.
    ///
    /// # Errors
    /// When keys or files cannot be made, read or written.
    pub fn open(
        dirs: &Dirs,
        state: &StateDir,
        addresses: Vec<String>,
        options: TrustOptions,
    ) -> Result<Self, TrustError> {
        Self::open_at(dirs, state, addresses, options, clock::wall())
    }

    /// As [`open`](Self::open), with certificates made at a given time.
    pub(crate) fn open_at(
        dirs: &Dirs,
        state: &StateDir,
        addresses: Vec<String>,
        options: TrustOptions,
        now: SystemTime,
    ) -> Result<Self, TrustError> {
        let TrustOptions {
            lifetimes,
            taken,
            own,
        } = options;
        let shown = own.as_ref().map(Own::load).transpose()?;
        if let (Some(files), Some(own)) = (&own, &shown) {
            warn_of_end(files, own, now);
        }
        let identity = Arc::new(Identity::open_with(state.path(), now, lifetimes)?);
        let devices = Arc::new(Devices::open(state.path())?);
        let invite = LocalInvite::new(&identity, addresses, state.directory())?;
        let enroller = Enroller::new(identity.clone(), devices.clone(), &invite, taken);
        let trust = Self {
            tls: Arc::new(ServerTls::new(&identity, devices.clone(), shown)?),
            state: state.path().to_owned(),
            lifetimes,
            own,
            enroller: Arc::new(enroller),
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

    /// How often [`refresh`](Self::refresh) is called for.
    #[must_use]
    pub fn refresh_period(&self) -> Duration {
        let longest = match self.own {
            Some(_) => OWN_PERIOD,
            None => Duration::from_hours(24),
        };
        (self.lifetimes.server / 12).clamp(Duration::from_millis(250), longest)
    }

    /// Makes an invite for one device of another machine, and remembers it. The local invite is good again, too.
    ///
    /// # Errors
    /// When there are no random bytes, or the list cannot be written.
    pub fn invite(&self, guest: Guest) -> Result<Invite, TrustError> {
        let now = clock::wall();
        let secret = random::bytes::<INVITE_SECRET>()?;
        let expires = clock::unix_seconds(now + guest.expires);
        let text = data_encoding::HEXLOWER.encode(&secret);
        let pending = Pending::new(&text, guest.name, &guest.share, guest.access, expires);
        self.devices.invite(pending, now)?;
        Ok(Invite {
            key: self.identity.fingerprint()?,
            secret,
            expires,
            write: guest.access == Access::Write,
            share: guest.share,
            addresses: guest.addresses,
        })
    }

    /// Enrols the key of a certificate that the owner shows, for servers with certificates of one's own.
    ///
    /// # Errors
    /// When it is no certificate, or the list cannot be written.
    pub fn allow(
        &self,
        shown: &CertificateDer<'_>,
        name: &str,
        rights: Rights,
    ) -> Result<Device, TrustError> {
        let id = certificate::key_fingerprint(shown).map_err(PkiError::from)?;
        let until = certificate::not_after(shown).map_err(PkiError::from)?;
        let new = Enrolling {
            id: &id,
            name,
            now: clock::wall(),
            until: Some(until),
        };
        Ok(self.devices.allow(new, rights)?)
    }

    /// Makes the server's certificate anew if it ends soon, for servers that run for a year, and reads certificates of the
    /// owner's own again.
    ///
    /// # Errors
    /// When keys or files cannot be made, read or written; the old certificate stays in use.
    pub fn refresh(&self) -> Result<(), TrustError> {
        let identity = Identity::open_with(&self.state, clock::wall(), self.lifetimes)?;
        if identity.server_id() == self.server_id() {
            let own = self.own.as_ref().map(Own::load).transpose()?;
            self.tls.renew(&identity, own)?;
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

/// How long before a certificate of the owner's own ends he is told.
const NOTICE: Duration = Duration::from_hours(14 * 24);

fn warn_of_end(files: &PemFiles, own: &Own, now: SystemTime) {
    let end = own.certificate().map(certificate::not_after);
    let Some(Ok(end)) = end.filter(|end| end.as_ref().is_ok_and(|end| *end < now + NOTICE)) else {
        return;
    };
    let what = if end <= now {
        "has expired, and clients refuse it"
    } else {
        "expires soon"
    };
    tracing::warn!(
        certificate = %files.certificate.display(), end = %humantime::format_rfc3339_seconds(end),
        "the server's certificate {what}: put a new one and its key in its place (`syncd certs init --renew` makes them); \
         they are read without a restart"
    );
}
