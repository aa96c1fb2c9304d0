//! Settings of the server.

use super::value::{between, number_between, period_between};
use super::{Address, ConfigError, FileCache, Kv, Log, Period, ShareName, Size, Source};
use crate::model::limits::{MAX_BODY, MUTATE_WINDOW, UPLOAD_WINDOW};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// All settings of `syncd server`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where clients are awaited.
    pub listen: Address,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Whether devices that were invited may set the set-user-id and set-group-id bits.
    pub allow_setid: bool,
    /// How often a share that has a writer is swept for what somebody else did to it.
    #[serde(deserialize_with = "period_between::<_, 1_000, 2_592_000_000>")]
    pub sweep: Period,
    /// Bounds of what clients may use.
    pub limits: ServerLimits,
    /// Certificates.
    pub tls: ServerTls,
    /// Keys.
    pub kv: Kv,
    /// The files that are kept in memory.
    pub cache: FileCache,
    /// The log.
    pub log: Log,
    /// Shares that lie elsewhere than in the server's directory.
    #[serde(rename = "share")]
    pub shares: Vec<Share>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: Address::loopback(),
            durability: Durability::default(),
            allow_setid: false,
            sweep: Period(Duration::from_secs(3600)),
            limits: ServerLimits::default(),
            tls: ServerTls::default(),
            kv: Kv::default(),
            cache: FileCache::default(),
            log: Log::default(),
            shares: Vec::new(),
        }
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// What is acknowledged survives a loss of power.
    #[default]
    Full,
    /// What is acknowledged survives the death of the server, but not of the machine.
    None,
}

/// `[limits]` of the server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLimits {
    /// Connections of enrolled clients at a time.
    #[serde(deserialize_with = "number_between::<_, 1, 65536>")]
    pub max_clients: u64,
    /// Connections that have not shown a certificate yet, at a time; beyond it the oldest is dropped.
    #[serde(deserialize_with = "number_between::<_, 1, 65536>")]
    pub max_unauthenticated: u64,
    /// Bytes that one client may have sent without an acknowledgement; beyond it the server stops reading from it.
    #[serde(deserialize_with = "between::<_, 2_097_152, 4_294_967_296>")]
    pub window: Size,
    /// Longest body of one message that is accepted from an enrolled client, in bytes.
    #[serde(deserialize_with = "between::<_, 2_097_152, 4_194_304>")]
    pub max_frame: Size,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_clients: 256,
            max_unauthenticated: 64,
            window: Size(64 * 1024 * 1024),
            max_frame: Size(u64::from(MAX_BODY)),
        }
    }
}

/// `[tls]` of the server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// A certificate of one's own, PEM; empty for what the server makes.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients with certificates of one's own.
    pub ca: PathBuf,
    /// How long the certificates of devices are valid.
    #[serde(deserialize_with = "period_between::<_, 3_000, 315_576_000_000>")]
    pub device_lifetime: Period,
    /// How long the server's own certificate is valid.
    #[serde(deserialize_with = "period_between::<_, 3_000, 315_576_000_000>")]
    pub server_lifetime: Period,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            ca: PathBuf::new(),
            device_lifetime: Period(Duration::from_hours(90 * 24)),
            server_lifetime: Period(Duration::from_hours(365 * 24)),
        }
    }
}

// The bounds of `max_frame` above: two of the longest messages that a client of this build sends, and what the format allows.
const _: () = assert!(MAX_BODY == 4_194_304);
// A client with its own defaults never has to wait for the server's.
const _: () = assert!(MUTATE_WINDOW + UPLOAD_WINDOW < 64 * 1024 * 1024);

/// One `[[share]]`: a share that lies in a directory of its own.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(from = "RawShare")]
pub struct Share {
    /// The name that clients ask for.
    pub name: ShareName,
    /// Its directory, relative to the file of settings.
    pub path: PathBuf,
    at: Range<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShare {
    name: toml::Spanned<ShareName>,
    path: PathBuf,
}

impl From<RawShare> for Share {
    fn from(raw: RawShare) -> Self {
        Self {
            at: raw.name.span(),
            name: raw.name.into_inner(),
            path: raw.path,
        }
    }
}

impl ServerConfig {
    /// Reads settings; what is not set has its default.
    ///
    /// # Errors
    /// When the text is not TOML, a key is unknown, a value is of the wrong kind or out of its bounds, or two shares
    /// have one name.
    pub fn parse(source: Source<'_>) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(source.text).map_err(|error| ConfigError::from_toml(source, &error))?;
        let tls = &config.tls;
        super::tls::all_or_none(source, [&tls.certificate, &tls.key, &tls.ca])?;
        let mut names = BTreeSet::new();
        for share in &config.shares {
            if !names.insert(&share.name) {
                let message = format!("there are two shares named `{}`", share.name);
                return Err(ConfigError::at(source, Some(share.at.clone()), &message));
            }
            if share.path.as_os_str().is_empty() {
                let message = format!("expected the directory of share `{}`", share.name);
                return Err(ConfigError::at(source, Some(share.at.clone()), &message));
            }
        }
        Ok(config)
    }
}
