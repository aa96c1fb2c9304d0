//! The servers of a transfer, and lines to them.

use crate::daemon::client::ClientError;
use crate::daemon::user::{Connection, Way};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a server may say nothing while another one could be asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The servers of a transfer, and how many lines it may have.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    pub(super) way: Arc<Way>,
    /// One or more; files come from any of them, and go to the first.
    pub(super) names: Arc<[String]>,
    pub(super) jobs: usize,
}

impl Servers {
    /// How long a server may say nothing, if there is another one to ask instead.
    pub(super) fn patience(&self) -> Option<Duration> {
        (self.names.len() > 1).then_some(PATIENCE)
    }

    /// A connection to one of them.
    pub(super) async fn connect(&self, server: &str) -> Result<Connection, ClientError> {
        let connect = self.way.connect(server);
        let Some(patience) = self.patience() else {
            return connect.await;
        };
        let connected = timeout(patience, connect).await;
        connected.unwrap_or_else(|_| Err(silent(server, patience)))
    }

    /// A connection to the first that can be reached.
    pub(super) async fn first(&self) -> Result<Connection, ClientError> {
        let mut names = self.names.iter().peekable();
        loop {
            let server = names.next().map_or("", String::as_str);
            match self.connect(server).await {
                Err(error) if names.peek().is_some() => tracing::warn!("{error}: another is asked"),
                connected => return connected,
            }
        }
    }
}

/// The error of a server that says nothing.
pub(super) fn silent(server: &str, patience: Duration) -> ClientError {
    ClientError::Lost {
        server: server.to_owned(),
        reason: format!("it said nothing for {} s", patience.as_secs()),
    }
}
