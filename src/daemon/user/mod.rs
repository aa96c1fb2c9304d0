//! Somebody who uses a share without mirroring it: a connection to each server, and what is asked over it.

mod connection;
pub mod files;
pub mod keys;

use connection::WAITING;
pub use connection::{Answer, Answers, Connection};

use crate::daemon::client::{ClientError, target};
use crate::daemon::connect::Connector;
use crate::daemon::options::UseOptions;
use crate::host::dirs::Dirs;
use crate::host::own::Own;

/// The servers that are meant, and the way to them.
#[derive(Debug)]
pub struct Way {
    connector: Connector,
    options: UseOptions,
}

impl Way {
    /// Finds out which servers and which share are meant.
    ///
    /// # Errors
    /// When several could be, or the owner's own certificates are of no use.
    pub fn find(mut options: UseOptions, dirs: Dirs) -> Result<Self, ClientError> {
        options.own.as_ref().map(Own::load).transpose()?;
        let connector = Connector::new(dirs).with_own(options.own.clone());
        target::choose_to_use(&mut options, &connector)?;
        Ok(Self { connector, options })
    }

    /// The addresses of the servers, one or more; each may be several of one server with commas between.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.options.servers
    }

    /// Opens a connection to one of the servers.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses.
    pub async fn connect(&self, server: &str) -> Result<Connection, ClientError> {
        Connection::open(&self.connector, server, self.options.share.as_ref()).await
    }
}
