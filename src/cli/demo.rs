//! `syncd demo`: a real server and a real client, with TLS between them, in one terminal.

use super::overview::{bytes, count};
use super::report::{Kind, Report};
use super::settings::{absolute, shown};
use super::{ask, log, render, runtime, serve, sync};
use crate::config::{Level, Log, ServerConfig};
use crate::daemon::options::{
    ClientOptions, Durability, Holder, ServerChoice, ServerOptions, Until,
};
use crate::daemon::status::{ClientStatus, PeerState, Status};
use crate::host::pki::Lifetimes;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "client_synch_test_dir";
const MIRROR: &str = "server_test_dir";
/// How often the client is asked what it has sent.
const GLANCE: Duration = Duration::from_millis(200);

/// Runs the command.
///
/// # Errors
/// When the directories cannot be made; whatever stops the server or the client.
pub fn run(overrides: &log::Overrides) -> Result<(), Report> {
    let stage = Stage::choose()?;
    // The narration says what happens; the log adds only what goes wrong, unless asked for more.
    let quiet = Log {
        level: Level::Warn,
        ..Log::default()
    };
    log::start(&quiet, overrides)?;
    render::line(&format!("source: {}", shown(&stage.source)))?;
    render::line(&format!("mirror: {}", shown(&stage.mirror)))?;
    runtime::run(|stop| play(stage, stop))
}

/// The two directories.
#[derive(Clone, Debug)]
struct Stage {
    source: PathBuf,
    mirror: PathBuf,
}

impl Stage {
    /// Those of a checkout when there is one in the working directory, otherwise directories of its own.
    fn choose() -> Result<Self, Report> {
        if Path::new(SOURCE).is_dir() && Path::new(MIRROR).is_dir() {
            return Ok(Self {
                source: absolute(Path::new(SOURCE))?,
                mirror: absolute(Path::new(MIRROR))?,
            });
        }
        let own = directories::ProjectDirs::from("", "", "syncd").ok_or_else(|| {
            Report::new(Kind::Storage, "there is no home directory for the demo")
                .hint("set HOME, or run it in a checkout of syncd")
        })?;
        let base = own.data_local_dir().join("demo");
        let stage = Self {
            source: base.join("source"),
            mirror: base.join("mirror"),
        };
        stage.furnish().map_err(|error| {
            let message = format!("cannot make the demo in `{}`", shown(&base));
            Report::new(Kind::Storage, message).caused_by(&error)
        })?;
        Ok(stage)
    }

    fn furnish(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.mirror)?;
        std::fs::create_dir_all(self.source.join("nested/empty"))?;
        for (name, text) in [
            ("hello.txt", "Edit me while the demo runs.\n"),
            (
                "nested/notes.md",
                "# Notes\n\nDirectories are mirrored too.\n",
            ),
        ] {
            let path = self.source.join(name);
            if !path.try_exists()? {
                std::fs::write(path, text)?;
            }
        }
        Ok(())
    }

    fn server_options(&self) -> ServerOptions {
        let limits = ServerConfig::default().limits;
        ServerOptions {
            directory: self.mirror.clone(),
            listen: "127.0.0.1:0".to_owned(),
            durability: Durability::Full,
            sweep: ServerConfig::default().sweep.0,
            max_clients: 1,
            max_unauthenticated: 8,
            window: limits.window.0,
            max_frame: u32::try_from(limits.max_frame.0).unwrap_or(u32::MAX),
            shares: Vec::new(),
            lifetimes: Lifetimes::default(),
            allow_setid: false,
            keys: serve::keys(&ServerConfig::default().kv),
            cache: serve::cache(&ServerConfig::default().cache),
            own: None,
        }
    }

    fn client_options(&self, server: String) -> ClientOptions {
        let config = crate::config::ClientConfig::default();
        ClientOptions {
            directory: self.source.clone(),
            servers: vec![server],
            choice: ServerChoice::Named,
            share: None,
            block_size: None,
            rescan: config.watch.rescan.0,
            delete_hold: config.watch.delete_hold.0,
            ignore: Vec::new(),
            delete_ignored: false,
            delete_guard: config.watch.delete_guard,
            window: config.limits.window.0,
            upload_rate: config.limits.upload_rate.bytes(),
            until: Until::Stopped,
            holder: Holder::Respect,
            own: None,
            log: None,
        }
    }
}

/// Runs both until `stop`: the client ends first, so that what it has sent is acknowledged.
async fn play(stage: Stage, stop: CancellationToken) -> Result<(), Report> {
    let server_stop = CancellationToken::new();
    let (tell, told) = oneshot::channel();
    let server = async {
        let ready = |listening: serve::Listening| {
            // The client is gone only when the demo ends.
            let _ = tell.send(listening.clients);
            render::listening(listening.clients)
        };
        let done = serve::serve(stage.server_options(), ready, server_stop.clone()).await;
        stop.cancel();
        done
    };
    let client = async {
        let done = match told.await {
            Ok(address) => {
                let options = stage.client_options(address.to_string());
                sync::sync(options, stop.clone()).await.map(drop)
            }
            // The server has failed and says why.
            Err(_) => Ok(()),
        };
        stop.cancel();
        server_stop.cancel();
        done
    };
    let narration = async {
        let done = narrate(&stage, &stop).await;
        if done.is_err() {
            stop.cancel();
        }
        done
    };
    let (server, client, narration) = tokio::join!(server, client, narration);
    server.and(client).and(narration)
}

/// Says what the client has done, from its own status.
async fn narrate(stage: &Stage, stop: &CancellationToken) -> Result<(), Report> {
    let mut before: Option<Seen> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(GLANCE) => {}
        }
        // A client that does not answer yet is asked again.
        let Ok(statuses) = ask::status(Some(&stage.source)).await else {
            continue;
        };
        let Some((entries, files, sent)) = statuses.iter().find_map(settled) else {
            continue;
        };
        let Ok(servers) = ask::status(Some(&stage.mirror)).await else {
            continue;
        };
        let now = Seen {
            entries,
            files,
            sent,
            version: servers.iter().map(version).sum(),
        };
        match &before {
            None => introduce(stage, &now)?,
            Some(before) => {
                if let Some(text) = now.since(before) {
                    render::line(&text)?;
                }
            }
        }
        before = Some(now);
    }
}

/// What was seen of a mirror that is equal to its source.
struct Seen {
    entries: u64,
    /// Files and bytes sent; signs of life are among the bytes.
    files: u64,
    sent: u64,
    /// It grows with every change, also with renames and deletions, for which nothing is sent.
    version: u64,
}

impl Seen {
    /// What happened since another look, if anything did.
    fn since(&self, before: &Self) -> Option<String> {
        if self.version == before.version {
            return None;
        }
        let files = self.files.saturating_sub(before.files);
        let what = if files == 0 {
            "no content had to be sent".to_owned()
        } else {
            let sent = self.sent.saturating_sub(before.sent);
            format!("{} sent in {}", bytes(sent), count(files, "file"))
        };
        let entries = count(self.entries, "entry");
        Some(format!("followed: {what}, {entries} in the mirror"))
    }
}

/// Entries, files sent and bytes sent of a client that is equal to its server.
fn settled(status: &Status) -> Option<(u64, u64, u64)> {
    let Status::Client(ClientStatus {
        servers, entries, ..
    }) = status
    else {
        return None;
    };
    let server = servers.first()?;
    (server.state == PeerState::Idle && server.pending == 0).then_some((
        *entries,
        server.sent_files,
        server.sent_bytes,
    ))
}

/// The sum of the versions of a server's shares.
fn version(status: &Status) -> u64 {
    match status {
        Status::Server(server) => server.shares.iter().map(|share| share.version).sum(),
        Status::Client(_) => 0,
    }
}

fn introduce(stage: &Stage, seen: &Seen) -> Result<(), Report> {
    let (source, mirror) = (shown(&stage.source), shown(&stage.mirror));
    let mirrored = format!(
        "mirrored: {}, {} sent in {}",
        count(seen.entries, "entry"),
        bytes(seen.sent),
        count(seen.files, "file")
    );
    for text in [
        mirrored.as_str(),
        "",
        "Change something in the source and look at the mirror. Ctrl-C ends the demo.",
        "The same with two commands, each in a terminal of its own:",
        &format!("    syncd server -d {mirror}"),
        &format!("    syncd client -d {source}"),
    ] {
        render::line(text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn only_changes_are_told() {
        let seen = |entries, files, sent, version| Seen {
            entries,
            files,
            sent,
            version,
        };
        let before = seen(4, 2, 763, 1);
        assert_eq!(seen(4, 2, 790, 1).since(&before), None, "signs of life");
        let told = seen(3, 2, 900, 2).since(&before).unwrap();
        assert!(told.contains("no content") && told.contains("3 entries"));
        let told = seen(5, 3, 2763, 2).since(&before).unwrap();
        assert!(told.contains("sent in 1 file"), "{told}");
    }
}
