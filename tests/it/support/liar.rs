//! A server that changes bytes of files: a relay with the keys of a real one.

use super::sandbox::Sandbox;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use syncd::daemon::connect::{ClientStream, Connector};
use syncd::daemon::pump::FrameReader;
use syncd::host::dirs::Dirs;
use syncd::host::pki::Identity;
use syncd::wire::{ALPN, FileAnswer, Response, encode};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// It says of a file what the server says, and brings other bytes. It ends when it is dropped.
#[derive(Debug)]
pub struct Liar {
    /// Where clients connect.
    pub address: String,
    lies: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Liar {
    /// One before the server at an address, which the home knows.
    pub fn to(sandbox: &Sandbox, server: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let connector = Connector::new(Dirs::below(&base(sandbox)));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let met = runtime.block_on(connector.connect(server)).unwrap();
        let acceptor = acceptor(sandbox, &met.server_id);
        let lies = Arc::new(AtomicU64::new(0));
        let (count, server) = (Arc::clone(&lies), server.to_owned());
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(client) = acceptor.accept(client).await else {
                    continue;
                };
                let far = connector.connect(&server).await.unwrap().stream;
                tokio::spawn(relay(client, far, Arc::clone(&count)));
            }
        });
        Self {
            address,
            lies,
            _runtime: runtime,
        }
    }

    /// How many pieces of files it has changed.
    pub fn lies(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }
}

/// The home's enrolments, for the side that goes to the server.
fn base(sandbox: &Sandbox) -> PathBuf {
    let base = sandbox.dir("liar");
    let data = base.join("data");
    if !data.exists() {
        let home = sandbox.path("home/.local/share/syncd");
        std::os::unix::fs::symlink(home, data).unwrap();
    }
    base
}

/// Shows the certificate of the server, whose keys lie in the home.
fn acceptor(sandbox: &Sandbox, server_id: &str) -> TlsAcceptor {
    let state = sandbox.path("home/.local/state/syncd");
    let places = std::fs::read_dir(state).unwrap();
    let places = places.map(|place| place.unwrap().path());
    let identity = places
        .filter(|place| place.join("authority.pem").exists())
        .map(|place| Identity::open(&place, SystemTime::now()).unwrap())
        .find(|identity| identity.server_id() == server_id)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![identity.certificate().clone()],
            identity.key().clone_key(),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn relay(client: TlsStream<TcpStream>, server: ClientStream, lies: Arc<AtomicU64>) {
    let (mut asked, told) = split(client);
    let (answers, mut requests) = split(server);
    let there = copy(&mut asked, &mut requests);
    tokio::select! {
        _ = there => {}
        () = back(answers, told, &lies) => {}
    }
}

async fn back(
    from: ReadHalf<ClientStream>,
    mut to: WriteHalf<TlsStream<TcpStream>>,
    lies: &AtomicU64,
) {
    let mut frames = FrameReader::new(from);
    while let Ok(frame) = frames.next().await {
        let mut body = frame.body.to_vec();
        let is_piece = match serde_json::from_slice(&frame.header) {
            Ok(Response::File(file)) => matches!(file.answer, FileAnswer::Piece {}),
            _ => false,
        };
        if let (true, Some(byte)) = (is_piece, body.last_mut()) {
            *byte ^= 1;
            lies.fetch_add(1, Ordering::Relaxed);
        }
        let mut bytes = Vec::new();
        encode(&frame.header, &body, &mut bytes);
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
