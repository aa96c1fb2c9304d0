//! A server on a port of its own that answers each line of a device with its name, for the tests of this layer.

use crate::daemon::server::{Limits, ServerStream, run};
use crate::daemon::trust::{Trust, TrustOptions};
use crate::host::devices::DeviceInfo;
use crate::host::dirs::{Claim, DirKind, Dirs};
use crate::host::{clock, net};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct TestServer {
    pub(crate) address: String,
    pub(crate) trust: Trust,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _claim: Claim,
}

/// Limits with a handshake deadline that tests can wait for.
pub(crate) fn quick() -> Limits {
    Limits {
        handshake: Duration::from_secs(5),
        ..Limits::default()
    }
}

impl TestServer {
    pub(crate) async fn start(dirs: &Dirs, directory: &Path, limits: Limits) -> Self {
        Self::start_at(dirs, directory, limits, clock::wall()).await
    }

    /// With certificates made at a given time.
    pub(crate) async fn start_at(
        dirs: &Dirs,
        directory: &Path,
        limits: Limits,
        now: SystemTime,
    ) -> Self {
        let state = dirs.state_of(DirKind::Server, directory).unwrap();
        let claim = state.claim().unwrap();
        let (listener, address) = net::listen("127.0.0.1:0").await.unwrap();
        let addresses = vec![address.to_string()];
        let options = TrustOptions::default();
        let trust = Trust::open_at(dirs, &state, addresses, options, now).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let handler = move |stream, device| {
            let stopped = stopped.clone();
            async move {
                tokio::select! {
                    () = answer(stream, device) => {}
                    () = stopped.cancelled() => {}
                }
            }
        };
        let task = tokio::spawn(run(listener, trust.clone(), limits, stop.clone(), handler));
        Self {
            address: address.to_string(),
            trust,
            stop,
            task,
            _claim: claim,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn answer(mut stream: ServerStream, device: DeviceInfo) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        if byte == [b'\n'] {
            let answer = format!("{}\n", device.id);
            if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Asks a server who we are.
pub(crate) async fn ask(
    stream: &mut crate::daemon::connect::ClientStream,
) -> std::io::Result<String> {
    stream.write_all(b"\n").await?;
    stream.flush().await?;
    let mut answer = vec![0; 65];
    stream.read_exact(&mut answer).await?;
    answer.pop();
    Ok(String::from_utf8(answer).unwrap())
}
