//! `syncd server`.

use super::report::{Kind, Report};
use super::settings::{absolute, beside, load, own};
use super::{log, render, runtime};
use crate::config::{Address, Durability, FileCache, Kv, Log, ServerConfig};
use crate::daemon::cache::CacheOptions;
use crate::daemon::keys::{KeyOptions, MemcachedError};
use crate::daemon::options::{self, PlacedShare, ServerOptions};
use crate::daemon::serving::{Server, ServerError};
use crate::daemon::share::SharesError;
use crate::daemon::trust::TrustError;
use crate::host::dirs::{Dirs, DirsError};
use crate::host::pki::Lifetimes;
use clap::Args;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Arguments of `syncd server`.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// The directory that receives: one client's tree, or a directory for each named share
    #[arg(short, long, value_name = "DIR")]
    directory: PathBuf,
    /// Settings; `config/server.toml` lists them all
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients are awaited (default: 127.0.0.1:7440); port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", env = "SYNCD_LISTEN")]
    listen: Option<Address>,
}

/// Runs the command.
///
/// # Errors
/// Wrong settings; whatever stops the server.
pub fn run(arguments: ServerArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let (options, log) = merge(arguments)?;
    log::start(&log, overrides)?;
    runtime::run(|stop| serve(options, announce, stop))
}

/// What a server has by default, for its own machine and on any port.
///
/// # Errors
/// When the path is none.
pub fn for_itself(directory: &Path) -> Result<ServerOptions, Report> {
    let arguments = ServerArguments {
        directory: directory.to_owned(),
        config: None,
        listen: None,
    };
    let (options, _) = merge(arguments)?;
    Ok(ServerOptions {
        listen: "127.0.0.1:0".to_owned(),
        ..options
    })
}

/// Defaults, file, environment, arguments: the later wins.
fn merge(arguments: ServerArguments) -> Result<(ServerOptions, Log), Report> {
    let file = arguments.config.as_deref();
    let config = load(file, ServerConfig::parse)?;
    let mut shares = Vec::new();
    for share in &config.shares {
        shares.push(PlacedShare {
            name: share.name.to_string(),
            path: beside(file, &share.path)?,
        });
    }
    let options = ServerOptions {
        directory: absolute(&arguments.directory)?,
        listen: arguments.listen.unwrap_or(config.listen).to_string(),
        durability: match config.durability {
            Durability::Full => options::Durability::Full,
            Durability::None => options::Durability::None,
        },
        sweep: config.sweep.0,
        max_clients: usize::try_from(config.limits.max_clients).unwrap_or(usize::MAX),
        max_unauthenticated: usize::try_from(config.limits.max_unauthenticated)
            .unwrap_or(usize::MAX),
        window: config.limits.window.0,
        max_frame: u32::try_from(config.limits.max_frame.0).unwrap_or(u32::MAX),
        shares,
        lifetimes: Lifetimes {
            server: config.tls.server_lifetime.0,
            device: config.tls.device_lifetime.0,
        },
        allow_setid: config.allow_setid,
        keys: keys(&config.kv),
        cache: cache(&config.cache),
        own: own(
            file,
            [&config.tls.certificate, &config.tls.key, &config.tls.ca],
        )?,
    };
    let log = Log {
        file: beside(file, &config.log.file)?,
        ..config.log
    };
    Ok((options, log))
}

/// What `[kv]` says.
pub fn keys(kv: &Kv) -> KeyOptions {
    KeyOptions {
        memcached: kv.memcached.as_ref().map(ToString::to_string),
        share: kv.share.as_ref().map(ToString::to_string),
        allow_insecure: kv.allow_insecure,
        max_connections: usize::try_from(kv.max_connections).unwrap_or(usize::MAX),
        max_value: u32::try_from(kv.max_value.0).unwrap_or(u32::MAX),
        max_total: kv.max_total.0,
    }
}

/// What `[cache]` says.
pub fn cache(cache: &FileCache) -> CacheOptions {
    CacheOptions {
        max_bytes: cache.max_bytes.0,
        max_entry: cache.max_entry.0,
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// To its clients.
    pub clients: SocketAddr,
    /// To those of memcached.
    pub memcached: Option<SocketAddr>,
}

/// The line of the clients comes last: who waits for it has seen all.
fn announce(listening: Listening) -> Result<(), Report> {
    if let Some(address) = listening.memcached {
        render::print(&format!("memcached listening on {address}\n"))?;
    }
    render::listening(listening.clients)
}

/// Serves until `stop` is cancelled, and calls `ready` once with the real addresses as soon as clients are accepted.
///
/// # Errors
/// Whatever stops the server.
pub async fn serve(
    options: ServerOptions,
    ready: impl FnOnce(Listening) -> Result<(), Report>,
    stop: CancellationToken,
) -> Result<(), Report> {
    let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
    serve_in(options, &dirs, ready, stop).await
}

/// The same, with its state elsewhere.
///
/// # Errors
/// Whatever stops the server.
pub async fn serve_in(
    options: ServerOptions,
    dirs: &Dirs,
    ready: impl FnOnce(Listening) -> Result<(), Report>,
    stop: CancellationToken,
) -> Result<(), Report> {
    let server = Server::prepare(options, dirs)
        .await
        .map_err(|error| explain(&error))?;
    ready(Listening {
        clients: server.address(),
        memcached: server.memcached(),
    })?;
    server.run(stop).await;
    Ok(())
}

fn explain(error: &ServerError) -> Report {
    let kind = match error {
        ServerError::Listen { .. }
        | ServerError::Memcached(_)
        | ServerError::Make { .. }
        | ServerError::Trust(TrustError::Own(_))
        | ServerError::Shares {
            source: SharesError::Nested(_),
            ..
        }
        | ServerError::State(DirsError::InUse(_)) => Kind::Usage,
        _ => Kind::Storage,
    };
    let report = Report::from_error(kind, error);
    match error {
        ServerError::Listen { source, .. } => match source.kind() {
            ErrorKind::AddrInUse => report.hint(
                "another server may listen there (`syncd status` shows those of this user); choose another address with `--listen`",
            ),
            ErrorKind::AddrNotAvailable => {
                report.hint("this machine does not have that address; `0.0.0.0:PORT` is all that it has")
            }
            ErrorKind::PermissionDenied => {
                report.hint("ports below 1024 are the system's; choose another with `--listen`")
            }
            _ => report.hint("choose another address with `--listen`"),
        },
        ServerError::Memcached(MemcachedError::Listen { .. }) => {
            report.hint("`[kv] memcached` names the address; another server or memcached itself may listen there")
        }
        ServerError::Memcached(MemcachedError::Insecure(_)) => report.hint(
            "listen on `127.0.0.1`, or set `allow_insecure = true` in `[kv]` if all who reach the address may use the keys",
        ),
        ServerError::State(DirsError::InUse(_)) => report.hint(super::sync::IN_USE),
        ServerError::Trust(TrustError::Own(_)) => report.hint(super::settings::OWN_HINT),
        _ => report,
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerArguments, merge};
    use std::path::{Path, PathBuf};

    #[test]
    fn an_argument_wins_over_the_file_and_paths_are_relative_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.toml");
        let text = "listen = \"127.0.0.1:1\"\n[log]\nfile = \"x.log\"\n[[share]]\nname = \"a\"\npath = \"b\"\n";
        std::fs::write(&file, text).unwrap();
        let arguments = |listen: Option<&str>| ServerArguments {
            directory: PathBuf::from("/srv"),
            config: Some(file.clone()),
            listen: listen.map(|text| text.parse().unwrap()),
        };
        let (options, log) = merge(arguments(None)).unwrap();
        assert_eq!(options.listen, "127.0.0.1:1");
        assert_eq!(options.directory, Path::new("/srv"));
        assert_eq!(options.shares[0].path, dir.path().join("b"));
        assert_eq!(log.file, dir.path().join("x.log"));
        let (options, _) = merge(arguments(Some("[::]:2"))).unwrap();
        assert_eq!(options.listen, "[::]:2");
    }
}
