//! What a running daemon says of itself: the answer on its control socket, and what `syncd status --json` prints.
//!
//! Texts that come from file names, peers or the system are escaped by whoever fills them in ([`crate::model::escape`],
//! the `Display` of paths and names), so the same text is in the log, here and on the terminal. New fields are added with
//! `#[serde(default)]`: a daemon and a command of two releases understand each other.

use serde::{Deserialize, Serialize};

/// A server or a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Status {
    /// `syncd server`.
    Server(ServerStatus),
    /// `syncd client`.
    Client(ClientStatus),
}

/// What a server knows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The directory of `-d`.
    pub directory: String,
    /// Addresses that clients can reach, with the real port.
    pub listen: Vec<String>,
    /// The fixed id in the server's certificate.
    pub server_id: String,
    /// The shares that were opened since the start.
    pub shares: Vec<ShareStatus>,
    /// The clients that are connected.
    pub clients: Vec<ConnectedClient>,
    /// The keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysStatus>,
    /// The files that are kept in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheStatus>,
}

/// The files that are kept in memory because they were fetched, and how often that was of use since the start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CacheStatus {
    /// How many there are.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that they may have.
    pub max_bytes: u64,
    /// Reads that were served from memory.
    pub hits: u64,
    /// Reads that were not.
    pub misses: u64,
}

/// The keys of all shares, and what was done with them since the start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeysStatus {
    /// Where memcached's protocol is spoken; none for nowhere.
    pub memcached: Option<String>,
    /// How many there are; some may have ended and not be removed yet.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Values that were asked for.
    pub gets: u64,
    /// Those that were there.
    pub hits: u64,
    /// Values that were to be stored.
    pub sets: u64,
    /// Why they cannot be used at present.
    pub unavailable: Option<String>,
}

/// One share of a server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Its name; none for the server's directory itself.
    pub name: Option<String>,
    /// Where it lies.
    pub path: String,
    /// Who may write it, once somebody has.
    pub writer: Option<Writer>,
    /// Whether the writer is connected.
    pub connected: bool,
    /// Files, directories and links that it holds.
    pub entries: u64,
    /// The version of its tree.
    pub version: u64,
    /// The run of its index in which the version counts.
    pub generation: String,
    /// Milliseconds since the last change became durable; none before the first.
    pub last_commit_age_ms: Option<u64>,
    /// Paths that somebody else had changed and that were put right, or wait for it.
    pub drift: u64,
    /// Where lies what a first contact, or a person's acceptance of one, would have deleted: a bounded list, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Paths that could not be handled: a bounded list.
    pub problems: Vec<PathProblem>,
    /// Why nothing is applied at present; none when all is well.
    pub paused: Option<String>,
}

/// The holder of a share.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// The name of the device.
    pub device: String,
    /// The source: host and path.
    pub source: String,
}

/// A client that is connected.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConnectedClient {
    /// The id of its key.
    pub device: String,
    /// The name of the device.
    pub name: String,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// For how long, in milliseconds.
    pub since_ms: u64,
    /// From where.
    #[serde(default)]
    pub address: String,
}

/// What a client knows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The directory of `-d`.
    pub source: String,
    /// The servers that it mirrors to.
    pub servers: Vec<PeerStatus>,
    /// Files, directories and links of the source.
    pub entries: u64,
    /// Directories that are watched.
    pub watches: u64,
    /// Directories that the system has no watch for: they are looked at from time to time.
    #[serde(default)]
    pub polled: u64,
    /// Paths that could not be mirrored: the first of them.
    pub problems: Vec<PathProblem>,
    /// How many there are.
    pub problems_total: u64,
    /// Paths that are not mirrored by rule: the first of them.
    pub skipped: Vec<SkippedPath>,
    /// How many there are.
    pub skipped_total: u64,
    /// How many of them are ignored by rules of the user; an ignored directory counts once.
    #[serde(default)]
    pub ignored_total: u64,
}

/// One server of a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Where it is reached.
    pub address: String,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// What goes on.
    pub state: PeerState,
    /// Age of the oldest change that is not yet durable on the server, in milliseconds; 0 when there is none.
    pub lag_ms: u64,
    /// Paths that wait to be sent or acknowledged.
    pub pending: u64,
    /// Bytes that were sent and are not acknowledged.
    pub in_flight_bytes: u64,
    /// Bytes sent since the start, before encryption.
    pub sent_bytes: u64,
    /// Contents of files sent since the start.
    pub sent_files: u64,
    /// Deletions that wait for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldDeletions>,
    /// Why the last connection ended, or was refused, or nothing is sent.
    pub last_error: Option<String>,
    /// Milliseconds until the next attempt, where one is awaited.
    pub reconnect_in_ms: Option<u64>,
}

/// Deletions that a person has to accept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HeldDeletions {
    /// Why they are held.
    pub reason: String,
    /// What to do.
    pub advice: String,
    /// How many entries would be deleted.
    pub entries: u64,
    /// Entries of the mirror.
    pub total: u64,
    /// The first of the paths, each with all below it.
    pub examples: Vec<String>,
}

/// What a client does with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// No connection yet, or not any more.
    Connecting,
    /// Finding out what differs.
    Comparing,
    /// Sending changes.
    Mirroring,
    /// Equal, as far as is known.
    Idle,
    /// The server does not want this client.
    Refused,
}

/// A path that could not be handled.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PathProblem {
    /// The path below the root.
    pub path: String,
    /// What was attempted and what the system said.
    pub message: String,
    /// For how long it has been so, in milliseconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// A path that is not mirrored by rule.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SkippedPath {
    /// The path below the root.
    pub path: String,
    /// The rule.
    pub reason: String,
}
