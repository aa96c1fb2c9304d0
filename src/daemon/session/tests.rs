//! A session over a pipe with a client written by hand, on a real directory.

mod changes;
mod leftovers;
mod packed;
mod uploads;
mod using;
mod visits;
mod writers;

use super::{SessionError, Terms, serve};
use crate::daemon::cache::{CacheOptions, FileCache};
use crate::daemon::keys::Keys;
use crate::daemon::pump::FrameReader;
use crate::daemon::share::{Shares, Upkeep};
use crate::delta::{Instruction, RecipeBuilder, digest, pack_blocks};
use crate::host::devices::DeviceInfo;
use crate::host::disk::Durability;
use crate::host::rights::{Access, Rights};
use crate::wire::{
    Code, Content, Effort, Inspect, ListKind, MINOR_ZSTD, Op, Request, Response, Visit, WireBytes,
    WireTime, encode, pack,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEPT: CacheOptions = CacheOptions {
    max_bytes: 64 * 1024 * 1024,
    max_entry: 64 * 1024 * 1024,
};
const UPKEEP: Upkeep = Upkeep {
    durability: Durability::Full,
    sweep: Duration::from_secs(3600),
};

const WINDOW: u64 = 2 << 20;
const MAX_FRAME: u32 = 2 << 20;

struct Server {
    dir: tempfile::TempDir,
    shares: Arc<Shares>,
    keys: Option<Arc<Keys>>,
    files: Arc<FileCache>,
    shutdown: CancellationToken,
}

struct Peer {
    reader: FrameReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    session: JoinHandle<Result<(), SessionError>>,
}

fn device(id: &str) -> DeviceInfo {
    DeviceInfo {
        id: id.to_owned(),
        name: format!("device {id}"),
        local: true,
        certificate_until: 0,
        rights: Rights::all().into(),
        revoked: CancellationToken::new(),
    }
}

fn hello(share: Option<&str>, source: char) -> Request {
    Request::Hello {
        minor: 0,
        share: share.map(str::to_owned),
        source: source.to_string().repeat(32),
        source_name: format!("source {source}"),
        take_over: false,
    }
}

fn text(path: &str) -> WireBytes {
    WireBytes::new(path.as_bytes())
}

const TIME: WireTime = WireTime(-5, 123_456_789);

fn put(path: &str, content: &[u8], body: &mut Vec<u8>) -> Op {
    body.extend_from_slice(&digest(content).0);
    body.extend_from_slice(content);
    Op::Put {
        path: text(path),
        mode: 0o640,
        mtime: TIME,
        size: content.len() as u64,
        content: Content::Inline {},
    }
}

fn mkdir(path: &str) -> Op {
    Op::Mkdir {
        path: text(path),
        mode: 0o750,
        mtime: TIME,
    }
}

fn mutate(id: u64, ops: Vec<Op>) -> Request {
    Request::Mutate {
        id,
        based_on: 0,
        ops,
        zstd: None,
    }
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shares = Shares::open(dir.path(), BTreeMap::new(), UPKEEP, None).unwrap();
        Self {
            dir,
            shares,
            keys: None,
            files: FileCache::new(KEPT),
            shutdown: CancellationToken::new(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn connect(&self, device: DeviceInfo) -> Peer {
        let (near, far) = duplex(1 << 16);
        let (reader, writer) = split(near);
        let (shares, shutdown) = (Arc::clone(&self.shares), self.shutdown.clone());
        let terms = Terms {
            window: WINDOW,
            max_frame: MAX_FRAME,
            opened: Arc::default(),
            allow_setid: false,
            enroller: None,
            keys: self.keys.clone(),
            files: Arc::clone(&self.files),
        };
        Peer {
            reader: FrameReader::new(reader),
            writer,
            session: tokio::spawn(serve(far, device, shares, terms, shutdown)),
        }
    }

    async fn open(&self) -> Peer {
        let mut peer = self.connect(device("a"));
        peer.send(&hello(None, 'a'), &[]).await;
        let (welcome, sum) = peer.receive().await;
        assert!(matches!(welcome, Response::Welcome { .. }), "{welcome:?}");
        assert_eq!(sum.len(), 32);
        peer
    }
}

impl Peer {
    async fn send(&mut self, request: &Request, body: &[u8]) {
        let mut frame = Vec::new();
        encode(&serde_json::to_vec(request).unwrap(), body, &mut frame);
        self.writer.write_all(&frame).await.unwrap();
    }

    async fn receive(&mut self) -> (Response, Bytes) {
        let frame = self.reader.next().await.unwrap();
        (serde_json::from_slice(&frame.header).unwrap(), frame.body)
    }

    /// Sends changes and returns those that failed.
    async fn apply(&mut self, ops: Vec<Op>, body: &[u8]) -> Vec<(u32, Code)> {
        self.send(&mutate(7, ops), body).await;
        match self.receive().await.0 {
            Response::Applied { id: 7, failed, .. } => failed
                .into_iter()
                .map(|failed| (failed.index, failed.code))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> Code {
        match self.receive().await.0 {
            Response::Refused { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }

    async fn close(self) -> Result<(), SessionError> {
        drop((self.reader, self.writer));
        self.session.await.unwrap()
    }
}

fn visible(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".syncd")
        .collect();
    names.sort();
    names
}

fn stage_is_empty(dir: &Path) -> bool {
    fs::read_dir(dir.join(".syncd/stage")).unwrap().count() == 0
}

#[tokio::test]
async fn more_than_the_window_is_read_as_the_changes_before_are_done() {
    let server = Server::new();
    let mut peer = server.open().await;
    let content = vec![7; 60 * 1024];
    let messages = 6 * WINDOW / (16 * content.len() as u64);
    for id in 0..messages {
        let mut body = Vec::new();
        let ops = (0..16).map(|n| put(&format!("f{n}"), &content, &mut body));
        let ops = ops.collect();
        peer.send(&mutate(id, ops), &body).await;
    }
    for expected in 0..messages {
        let (answer, _) = peer.receive().await;
        assert!(
            matches!(&answer, Response::Applied { id, failed, .. } if *id == expected && failed.is_empty()),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_session() {
    let server = Server::new();
    let mut peer = server.open().await;
    let mut frame = 2u32.to_le_bytes().to_vec();
    frame.extend((MAX_FRAME + 1).to_le_bytes());
    peer.writer.write_all(&frame).await.unwrap();
    let (answer, _) = peer.receive().await;
    assert!(
        matches!(&answer, Response::Refused { code: Code::Protocol, message } if message.contains("2097153")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn what_was_on_its_way_is_read_until_a_refused_peer_closes_the_line() {
    let server = Server::new();
    let mut peer = server.open().await;
    peer.send(&hello(None, 'a'), &[]).await;
    // More than the line holds: somebody takes it.
    for upload in 0..64 {
        let data = Request::UploadData { upload, zstd: None };
        peer.send(&data, &[7; 64 * 1024]).await;
    }
    assert_eq!(peer.refused().await, Code::Protocol);
    assert!(peer.close().await.is_err());
}

#[tokio::test]
async fn a_stopping_server_finishes_what_it_has_in_hand() {
    let server = Server::new();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![put("f", b"x", &mut body)];
    assert_eq!(peer.apply(ops, &body).await, vec![]);
    server.shutdown.cancel();
    assert_eq!(peer.refused().await, Code::Stopping);
    assert!(peer.close().await.is_err());
}

#[tokio::test]
async fn planted_links_lead_nowhere() {
    let server = Server::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), b"safe").unwrap();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![
        mkdir("d"),
        put("d/f", b"x", &mut body),
        put("v", b"x", &mut body),
    ];
    assert_eq!(peer.apply(ops, &body).await, vec![]);
    fs::remove_dir_all(server.path().join("d")).unwrap();
    symlink(outside.path(), server.path().join("d")).unwrap();
    fs::remove_file(server.path().join("v")).unwrap();
    symlink(outside.path().join("victim"), server.path().join("v")).unwrap();
    let mut body = Vec::new();
    let attributes = |path| Op::Attributes {
        path: text(path),
        mode: 0o777,
        mtime: TIME,
    };
    let ops = vec![
        put("d/victim", b"evil", &mut body),
        attributes("d/victim"),
        attributes("v"),
        put("v", b"mine", &mut body),
        Op::Delete {
            path: text("d/victim"),
        },
    ];
    let failed = peer.apply(ops, &body).await;
    assert_eq!(failed[0].0, 0);
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");
    let meta = fs::metadata(outside.path().join("victim")).unwrap();
    assert!(meta.mtime() > 0 && meta.mode() & 0o777 != 0o777);
    assert_eq!(fs::read(server.path().join("v")).unwrap(), b"mine");
    // What was found there instead is known now, and a new directory takes the link's place.
    let mut body = Vec::new();
    let ops = vec![mkdir("d"), put("d/f", b"y", &mut body)];
    assert_eq!(peer.apply(ops, &body).await, vec![]);
    assert_eq!(fs::read(server.path().join("d/f")).unwrap(), b"y");
    assert_eq!(visible(outside.path()), ["victim"]);
    peer.close().await.unwrap();
}

#[tokio::test]
async fn a_recipe_is_that_of_the_file_after_the_changes_before() {
    let server = Server::new();
    let mut peer = server.open().await;
    let content: Vec<u8> = (0..50_000u32).map(|n| (n % 253) as u8).collect();
    let mut body = Vec::new();
    let ops = vec![put("f", &content, &mut body)];
    peer.send(&mutate(1, ops), &body).await;
    for (path, block) in [("f", 4096), ("f", 4097), ("missing", 4096)] {
        let recipe = Request::Recipe {
            id: 5,
            path: text(path),
            block,
            seed: 11,
            leftover: false,
        };
        peer.send(&recipe, &[]).await;
    }
    // What was applied is in view before it is answered, so its answer may come between those of the recipes.
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(peer.receive().await);
    }
    let applied = |(answer, _): &(Response, _)| matches!(answer, Response::Applied { .. });
    assert_eq!(answers.iter().filter(|answer| applied(answer)).count(), 1);
    answers.retain(|answer| !applied(answer));
    let mut answers = answers.into_iter();
    let (recipe, blocks) = answers.next().unwrap();
    let wanted = Response::Recipe {
        id: 5,
        size: 50_000,
        last: true,
        failed: None,
        leftover: None,
    };
    assert_eq!(recipe, wanted);
    let mut builder = RecipeBuilder::new(4096, 11);
    builder.update(&content);
    let mut packed = Vec::new();
    pack_blocks(builder.finish().blocks(), &mut packed);
    assert_eq!(blocks, packed);
    for (recipe, _) in answers {
        assert!(
            matches!(
                &recipe,
                Response::Recipe {
                    failed: Some(_),
                    last: true,
                    ..
                }
            ),
            "{recipe:?}"
        );
    }
    peer.close().await.unwrap();
}
