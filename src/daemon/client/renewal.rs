//! What an invite and its certificate have to do with a session: the share that was granted, and the certificate's successor.

use super::ClientError;
use super::connection::{Dial, FIRST_PAUSE, jittered};
use super::target::only_share;
use crate::daemon::connect::Connector;
use crate::daemon::pump::{Outbox, Outgoing};
use crate::host::pki::clean_text;
use crate::wire::{Request, Response};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a server that did not renew a certificate is left alone.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// The server of a session.
pub(super) struct Met<'a> {
    pub(super) server_id: &'a str,
    pub(super) share: Option<String>,
    /// Cancelled once it has said that it renews certificates.
    pub(super) renews: CancellationToken,
}

/// The share to ask for: the one that was named, or the one that this home was invited to.
pub(in crate::daemon) fn invited_share(
    connector: &Connector,
    share: Option<&String>,
    server_id: &str,
) -> Result<Option<String>, ClientError> {
    match (share, connector.joined_with(server_id)) {
        (None, Some(joined)) => only_share(&joined),
        (named, _) => Ok(named.cloned()),
    }
}

/// Asks for new certificates when it is time, for as long as the session lasts.
pub(super) async fn renew(dial: &Dial, met: &Met<'_>, outbox: &Outbox) {
    met.renews.cancelled().await;
    while let Some(wait) = dial.connector.until_renewal(met.server_id) {
        // Clients of one home have one certificate: whoever comes first renews it for all.
        sleep(wait + jittered(FIRST_PAUSE)).await;
        match dial.connector.renewal_request(met.server_id) {
            Ok(None) => {}
            Ok(Some(csr)) => {
                let request = Outgoing::new(&Request::Renew { csr }, Vec::new());
                if outbox.urgent.send(request).await.is_err() {
                    return;
                }
                let short = dial.connector.remaining(met.server_id) / 8;
                sleep(short.clamp(FIRST_PAUSE, RENEWAL_PAUSE)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot ask for a new certificate");
                sleep(RENEWAL_PAUSE).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Keeps a new certificate, or says why there is none.
pub(super) fn renewed(dial: &Dial, met: &Met<'_>, answer: Response) {
    let Response::Renewed {
        certificate,
        message,
    } = answer
    else {
        return;
    };
    let server = &dial.address;
    match certificate.map(|text| dial.connector.renewed(met.server_id, &text)) {
        Some(Ok(())) => tracing::info!("renewed this device's certificate for `{server}`"),
        Some(Err(error)) => tracing::warn!(%error, "cannot keep the new certificate of `{server}`"),
        None => {
            let message = clean_text(&message.unwrap_or_default(), 400);
            tracing::warn!("`{server}` does not renew this device's certificate: {message}");
        }
    }
}
