//! Settings as data: text to configuration, with defaults, and errors that name file, line, key and what was expected.
//!
//! It owns the keys, their defaults and their bounds; `config/server.toml` and `config/client.toml` list all of them and
//! a test keeps them equal. It never reads a file or the environment. The next layer that sees it is `cli`, which merges
//! defaults, file, environment and arguments in that order and hands plain options to `daemon`.

mod cache;
mod client;
mod error;
mod kv;
mod log;
mod server;
mod tls;
mod value;

pub use cache::FileCache;
pub use client::{ClientConfig, ClientLimits, ClientTls, Ignored, Watch};
pub use error::{ConfigError, Source};
pub use kv::Kv;
pub use log::{Level, Log, LogFormat};
pub use server::{Durability, ServerConfig, ServerLimits, ServerTls, Share};
pub use value::{Address, BlockSize, Period, Rate, ShareName, Size, ValueError};
