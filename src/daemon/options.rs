//! What a daemon is told: defaults, file, environment and arguments already merged. The daemons never see the format of
//! the configuration.

use crate::daemon::cache::CacheOptions;
use crate::daemon::keys::KeyOptions;
use crate::host::dirs::Dirs;
use crate::host::own::PemFiles;
use crate::host::pki::Lifetimes;
use std::path::PathBuf;
use std::time::Duration;

/// What `syncd server` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerOptions {
    /// The directory of `-d`, absolute.
    pub directory: PathBuf,
    /// `HOST:PORT`; port 0 lets the system choose.
    pub listen: String,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How often a share is swept for what somebody else did to it.
    pub sweep: Duration,
    /// Connections of enrolled clients at a time.
    pub max_clients: usize,
    /// Connections without a certificate at a time.
    pub max_unauthenticated: usize,
    /// Bytes that one client may have sent without an acknowledgement.
    pub window: u64,
    /// Longest body of one message, in bytes.
    pub max_frame: u32,
    /// Shares that lie elsewhere than in `directory`.
    pub shares: Vec<PlacedShare>,
    /// How long the certificates are valid that the server makes.
    pub lifetimes: Lifetimes,
    /// Whether invited devices may set the set-user-id and set-group-id bits.
    pub allow_setid: bool,
    /// The keys.
    pub keys: KeyOptions,
    /// How much of the files that are fetched is kept in memory.
    pub cache: CacheOptions,
    /// Certificates of the owner's own.
    pub own: Option<PemFiles>,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// What is acknowledged survives a loss of power.
    Full,
    /// What is acknowledged survives the death of the server, but not of the machine.
    None,
}

/// A share with a directory of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedShare {
    /// The name that clients ask for.
    pub name: String,
    /// Its directory, absolute.
    pub path: PathBuf,
}

/// What `syncd client` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientOptions {
    /// The directory of `-d`, absolute.
    pub directory: PathBuf,
    /// `HOST:PORT` of each server.
    pub servers: Vec<String>,
    /// Whether the user named the servers.
    pub choice: ServerChoice,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// The size of the blocks that are compared, in bytes; none to choose it by the size of the file.
    pub block_size: Option<u32>,
    /// How often the whole tree is looked over.
    pub rescan: Duration,
    /// How long a deletion waits in case it is half of a save.
    pub delete_hold: Duration,
    /// Patterns of what is not mirrored, in gitignore syntax.
    pub ignore: Vec<String>,
    /// Whether what was mirrored and is ignored from now on is deleted on the server.
    pub delete_ignored: bool,
    /// What share of the mirror, in percent, may be found missing without a person's word.
    pub delete_guard: u8,
    /// Bytes of changes that are sent before any is acknowledged.
    pub window: u64,
    /// Bytes a second that each server is sent; none for no limit.
    pub upload_rate: Option<u64>,
    /// When it ends.
    pub until: Until,
    /// What to do with a share that another source fills.
    pub holder: Holder,
    /// Certificates of the owner's own.
    pub own: Option<PemFiles>,
    /// The file that the log goes to.
    pub log: Option<PathBuf>,
}

impl ClientOptions {
    /// What belongs to the program and is not mirrored, with its directories.
    #[must_use]
    pub fn private(&self, dirs: &Dirs) -> Vec<PathBuf> {
        let key = self.own.as_ref().map(|own| own.key.clone());
        let mut private = dirs.own();
        private.extend(key.into_iter().chain(self.log.clone()));
        private
    }
}

/// What those commands are told that use a share without mirroring it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UseOptions {
    /// `HOST:PORT` of each server.
    pub servers: Vec<String>,
    /// Whether the user named the servers.
    pub choice: ServerChoice,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// Certificates of the owner's own.
    pub own: Option<PemFiles>,
}

/// Whether somebody said which server is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerChoice {
    /// Nobody did: the default address is tried, and several local invites are an error.
    Default,
    /// The file, the environment or an argument did.
    Named,
}

/// When a client ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// When it is stopped.
    Stopped,
    /// When the server durably holds the tree as it was found (`--once`).
    Mirrored,
    /// When it is known what would be done, of which nothing is (`syncd plan`).
    Planned,
}

/// What to do with a share that another source fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Leave it alone and end with the holder's name.
    Respect,
    /// Become its writer (`--take-over`).
    Replace,
}
