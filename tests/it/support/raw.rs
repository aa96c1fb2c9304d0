//! A client that says what a test wants, over the enrolment of a sandbox's home.

use super::sandbox::Sandbox;
use std::time::Duration;
use syncd::daemon::connect::{ClientStream, Connector};
use syncd::daemon::pump::FrameReader;
use syncd::host::dirs::Dirs;
use syncd::wire::{Request, Response, encode};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::runtime::Runtime;

/// An open connection of an enrolled device.
#[derive(Debug)]
pub struct Raw {
    runtime: Runtime,
    read: FrameReader<ReadHalf<ClientStream>>,
    write: WriteHalf<ClientStream>,
}

impl Raw {
    /// Connects as the home's device, which a client has enrolled or this enrols.
    pub fn connect(sandbox: &Sandbox, address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let base = sandbox.dir("raw");
        let data = base.join("data");
        if !data.exists() {
            let home = sandbox.path("home/.local/share/syncd");
            std::os::unix::fs::symlink(home, data).unwrap();
        }
        let connector = Connector::new(Dirs::below(&base));
        let connection = runtime.block_on(connector.connect(address)).unwrap();
        let (read, write) = split(connection.stream);
        Self {
            runtime,
            read: FrameReader::new(read),
            write,
        }
    }

    /// The first message, as the writer of the server's directory itself.
    pub fn hello(&mut self) {
        let hello = Request::Hello {
            minor: 0,
            share: None,
            source: "5ead".repeat(8),
            source_name: "a test".to_owned(),
            take_over: true,
        };
        assert!(self.send(&hello, &[]), "the hello cannot be sent");
        let answer = self.next();
        assert!(
            matches!(answer, Some(Response::Welcome { .. })),
            "{answer:?}"
        );
    }

    /// Sends a message; whether the line took it within a second.
    pub fn send(&mut self, request: &Request, body: &[u8]) -> bool {
        let mut frame = Vec::new();
        encode(&serde_json::to_vec(request).unwrap(), body, &mut frame);
        let write = &mut self.write;
        let sent = async {
            let sent = async {
                write.write_all(&frame).await?;
                write.flush().await
            };
            tokio::time::timeout(Duration::from_secs(1), sent).await
        };
        matches!(self.runtime.block_on(sent), Ok(Ok(())))
    }

    /// The next message; none when the line ended.
    pub fn next(&mut self) -> Option<Response> {
        let frame = self.runtime.block_on(self.read.next()).ok()?;
        Some(serde_json::from_slice(&frame.header).unwrap())
    }
}
