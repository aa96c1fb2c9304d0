//! Settings of the client.

use super::value::{between, percent, period_between};
use super::{Address, BlockSize, ConfigError, Log, Period, Rate, ShareName, Size, Source};
use crate::model::limits::MUTATE_WINDOW;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// All settings of `syncd client`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// The servers, each with a mirror of its own. The default counts as not chosen.
    #[serde(deserialize_with = "super::value::addresses")]
    pub servers: Vec<Address>,
    /// The share; none for the server's directory itself.
    #[serde(deserialize_with = "super::value::optional_share")]
    pub share: Option<ShareName>,
    /// The size of the blocks of which only changed ones are sent.
    pub block_size: BlockSize,
    /// Patterns of what is not mirrored, in gitignore syntax.
    pub ignore: Vec<String>,
    /// What becomes of what was mirrored and is ignored from now on.
    pub ignored: Ignored,
    /// How changes are noticed.
    pub watch: Watch,
    /// Certificates.
    pub tls: ClientTls,
    /// Bounds of what the client uses.
    pub limits: ClientLimits,
    /// The log.
    pub log: Log,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            servers: vec![Address::loopback()],
            share: None,
            block_size: BlockSize::default(),
            ignore: Vec::new(),
            ignored: Ignored::default(),
            watch: Watch::default(),
            tls: ClientTls::default(),
            limits: ClientLimits::default(),
            log: Log::default(),
        }
    }
}

/// What becomes of what was mirrored and is ignored from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ignored {
    /// The server keeps it as it is.
    #[default]
    Keep,
    /// The server deletes it.
    Delete,
}

/// `[watch]`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// How often the whole tree is looked over for changes that no event told of.
    #[serde(deserialize_with = "period_between::<_, 1_000, 2_592_000_000>")]
    pub rescan: Period,
    /// How long a deletion waits in case it is the first half of an editor's save.
    #[serde(deserialize_with = "period_between::<_, 0, 10_000>")]
    pub delete_hold: Period,
    /// What share of the mirror, in percent, may be found missing without a person's word.
    #[serde(deserialize_with = "percent")]
    pub delete_guard: u8,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            rescan: Period(Duration::from_secs(3600)),
            delete_hold: Period(Duration::from_millis(50)),
            delete_guard: 50,
        }
    }
}

/// `[limits]` of the client.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientLimits {
    /// Bytes of changes that are sent before the server has acknowledged any.
    #[serde(deserialize_with = "between::<_, 2_097_152, 1_073_741_824>")]
    pub window: Size,
    /// How fast each server is sent to.
    pub upload_rate: Rate,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            window: Size(MUTATE_WINDOW),
            upload_rate: Rate::Unlimited,
        }
    }
}

/// `[tls]` of the client.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// A certificate of one's own, PEM; empty for what the server gives.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of servers, whose host names are checked.
    pub ca: PathBuf,
}

impl ClientConfig {
    /// Reads settings; what is not set has its default.
    ///
    /// # Errors
    /// When the text is not TOML, a key is unknown, or a value is of the wrong kind or out of its bounds.
    pub fn parse(source: Source<'_>) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(source.text).map_err(|error| ConfigError::from_toml(source, &error))?;
        let tls = &config.tls;
        super::tls::all_or_none(source, [&tls.certificate, &tls.key, &tls.ca])?;
        Ok(config)
    }
}
