//! A device's next certificate, asked for over the connection that it has.

use super::{ConnectError, Connector, keyless};
use crate::host::clock;
use crate::host::enrolment::EnrolmentError;
use std::time::Duration;

/// How long nothing is looked at, however far the end of a certificate is: the machine may sleep, and clocks are set.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

impl Connector {
    /// How long to wait before a look at a server's certificate for this device; `None` when it is none that the server
    /// renews.
    #[must_use]
    pub fn until_renewal(&self, server_id: &str) -> Option<Duration> {
        let enrolment = self.enrolments.get(server_id)?;
        Some(enrolment.until_renewal(clock::wall()).min(LONGEST_WAIT))
    }

    /// How long the certificate for a server is still valid.
    #[must_use]
    pub fn remaining(&self, server_id: &str) -> Duration {
        let enrolment = self.enrolments.get(server_id);
        enrolment.map_or(Duration::ZERO, |it| it.remaining(clock::wall()))
    }

    /// A request for the next certificate, if it is time for one.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn renewal_request(&self, server_id: &str) -> Result<Option<String>, ConnectError> {
        let enrolment = self.enrolments.get(server_id);
        if !enrolment.is_some_and(|it| it.renewal_due(clock::wall())) {
            return Ok(None);
        }
        let key = self.enrolments.key(server_id).map_err(keyless)?;
        key.request().map(Some).map_err(keyless)
    }

    /// Keeps the certificate that the server gave; the next connection shows it.
    ///
    /// # Errors
    /// When it does not fit, or cannot be kept.
    pub fn renewed(&self, server_id: &str, certificate: &str) -> Result<(), ConnectError> {
        let unfit = || ConnectError::Local(EnrolmentError::Unfit);
        let old = self.enrolments.get(server_id).ok_or_else(unfit)?;
        let key = self.enrolments.key(server_id).map_err(keyless)?;
        let authority = crate::host::pem::of_certificate(old.authority());
        self.enrolments
            .keep(&old.pin(), &key, certificate, &authority)
            .map(drop)
            .map_err(ConnectError::Local)
    }
}
