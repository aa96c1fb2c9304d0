//! The dialling itself, the handshake, the exchange of a join, each within its deadline; and what their failures mean.

use super::{ClientStream, ConnectError};
use crate::daemon::join::{ExchangeError, receive, send};
use crate::host::enrolment::EnrolmentError;
use crate::host::net;
use crate::host::pki::PkiError;
use crate::host::tls::{BUFFER_LIMIT, Rejection, TlsError, explain};
use crate::model::limits::HANDSHAKE_SECONDS;
use crate::wire::{JoinAnswer, JoinRequest};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Says the one thing and hears the answer.
pub(super) async fn exchange(
    server: &str,
    stream: &mut ClientStream,
    request: &JoinRequest,
) -> Result<JoinAnswer, ConnectError> {
    let exchange = async {
        send(stream, request).await?;
        receive::<JoinAnswer>(stream).await
    };
    timeout(Duration::from_secs(HANDSHAKE_SECONDS), exchange)
        .await
        .map_err(|_| unreachable(server, io::ErrorKind::TimedOut.into()))?
        .map_err(|error| exchange_failed(server, error))
}

/// Dials and shakes hands within the deadlines.
pub(super) async fn handshake(
    server: &str,
    config: Arc<ClientConfig>,
) -> Result<ClientStream, ConnectError> {
    // Not sent and not checked: the certificate's URI name is.
    let name =
        ServerName::try_from("syncd.invalid").map_err(|_| refused(server, Rejection::Version))?;
    handshake_as(server, name, config).await
}

/// The same with a name that is sent and checked.
pub(super) async fn handshake_as(
    server: &str,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<ClientStream, ConnectError> {
    let tcp = net::connect(server)
        .await
        .map_err(|error| unreachable(server, error))?;
    let shake = TlsConnector::from(config).connect_with(name, tcp, |connection| {
        connection.set_buffer_limit(Some(BUFFER_LIMIT));
    });
    let stream = timeout(Duration::from_secs(HANDSHAKE_SECONDS), shake)
        .await
        .map_err(|_| unreachable(server, io::ErrorKind::TimedOut.into()))?
        .map_err(|error| tls_failed(server, error))?;
    if stream.get_ref().1.alpn_protocol().is_none() {
        return Err(ConnectError::Version {
            server: server.to_owned(),
        });
    }
    Ok(stream)
}

fn tls_failed(server: &str, error: io::Error) -> ConnectError {
    match explain(&error) {
        Some(Rejection::Version) => ConnectError::Version {
            server: server.to_owned(),
        },
        Some(rejection) => refused(server, rejection),
        None => unreachable(server, error),
    }
}

fn exchange_failed(server: &str, error: ExchangeError) -> ConnectError {
    match error {
        ExchangeError::Io(error) => tls_failed(server, error),
        ExchangeError::Frame(_) | ExchangeError::Message(_) => ConnectError::Version {
            server: server.to_owned(),
        },
    }
}

pub(super) fn refused(server: &str, source: Rejection) -> ConnectError {
    ConnectError::Refused {
        server: server.to_owned(),
        source,
        own: false,
    }
}

pub(super) fn unreachable(server: &str, source: io::Error) -> ConnectError {
    ConnectError::Unreachable {
        server: server.to_owned(),
        source,
    }
}

pub(super) fn keyless(error: PkiError) -> ConnectError {
    ConnectError::Local(error.into())
}

pub(super) fn local(_: TlsError) -> ConnectError {
    ConnectError::Local(EnrolmentError::Unfit)
}
