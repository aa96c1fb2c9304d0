//! What uploads leave: to the next session of the writer, and to the next upload of the same one.

use super::{Peer, Server, device, hello, stage_is_empty, text};
use crate::delta::{Instruction, RecipeBuilder, digest, pack_blocks};
use crate::model::{Fault, LeftoverKey, RelPath};
use crate::wire::{Code, Content, Continued, MINOR_LEFTOVER, Op, Request, Response};
use std::fs;

const MIB: usize = 1024 * 1024;

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn open(upload: u64, leftover: Option<(u64, usize)>) -> Request {
    Request::UploadOpen {
        upload,
        base: None,
        path: Some(text("big")),
        leftover: leftover.map(|(mark, length)| Continued {
            mark,
            length: length as u64,
        }),
    }
}

fn ask(id: u64) -> Request {
    Request::Recipe {
        id,
        path: text("big"),
        block: 65_536,
        seed: 3,
        leftover: true,
    }
}

fn changed() -> Code {
    Code::Fault(Fault::Changed)
}

impl Server {
    /// A session that knows leftovers, and the body of its welcome behind the sum.
    async fn open_newer(&self) -> (Peer, Vec<u8>) {
        let mut peer = self.connect(device("a"));
        let mut hello = hello(None, 'a');
        if let Request::Hello { minor, .. } = &mut hello {
            *minor = MINOR_LEFTOVER;
        }
        peer.send(&hello, &[]).await;
        let (_, body) = peer.receive().await;
        (peer, body[32..].to_vec())
    }
}

impl Peer {
    /// Sends a part of an upload, and waits until it is written.
    async fn piece(&mut self, upload: u64, instruction: Instruction<'_>) {
        let mut body = Vec::new();
        instruction.pack(&mut body);
        let data = Request::UploadData { upload, zstd: None };
        self.send(&data, &body).await;
        let mut left = body.len() as u64;
        while left > 0 {
            match self.receive().await.0 {
                Response::Received { bytes } => left -= bytes,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks for what is left: its mark and size.
    async fn left(&mut self, content: &[u8]) -> (u64, usize) {
        self.send(&ask(5), &[]).await;
        let (answer, blocks) = self.receive().await;
        let Response::Recipe {
            id: 5,
            size,
            last: true,
            failed: None,
            leftover: Some(mark),
        } = answer
        else {
            panic!("{answer:?}");
        };
        let mut builder = RecipeBuilder::new(65_536, 3);
        builder.update(content);
        let mut packed = Vec::new();
        pack_blocks(builder.finish().blocks(), &mut packed);
        assert_eq!((size, &blocks[..]), (content.len() as u64, &packed[..]));
        (mark, content.len())
    }

    async fn end_upload(&mut self, upload: u64, content: &[u8]) -> Option<Code> {
        let size = content.len() as u64;
        let close = Request::UploadClose { upload, size };
        self.send(&close, &digest(content).0).await;
        match self.receive().await.0 {
            Response::Staged { failed, .. } => failed.map(|failed| failed.code),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for what is left where nothing is.
    async fn nothing_left(&mut self) {
        self.send(&ask(6), &[]).await;
        let (answer, _) = self.receive().await;
        let code = match answer {
            Response::Recipe { failed, .. } => failed.map(|failed| failed.code),
            other => panic!("{other:?}"),
        };
        assert_eq!(code, Some(changed()));
    }
}

#[tokio::test]
async fn what_a_connection_has_sent_is_there_for_the_one_that_replaces_it() {
    let server = Server::new();
    let content = noise(2 * MIB);
    let (mut first, none) = server.open_newer().await;
    assert!(none.is_empty());
    first.send(&open(1, None), &[]).await;
    first.piece(1, Instruction::Literal(&content[..MIB])).await;
    let (mut second, keys) = server.open_newer().await;
    let key = LeftoverKey::of(&RelPath::new(b"big").unwrap());
    assert_eq!(keys, key.0, "the older session has let go of it");
    assert_eq!(first.refused().await, Code::Replaced);
    let left = second.left(&content[..MIB]).await;
    second.send(&open(1, Some(left)), &[]).await;
    let copy = Instruction::Copy {
        offset: 0,
        length: MIB as u64,
    };
    second.piece(1, copy).await;
    let rest = Instruction::Literal(&content[MIB..]);
    second.piece(1, rest).await;
    assert_eq!(second.end_upload(1, &content).await, None);
    let place = Op::Put {
        path: text("big"),
        mode: 0o640,
        mtime: super::TIME,
        size: content.len() as u64,
        content: Content::Upload { upload: 1 },
    };
    let failed = second.apply(vec![place], &digest(&content).0).await;
    assert_eq!(failed, vec![]);
    assert_eq!(fs::read(server.path().join("big")).unwrap(), content);
    assert!(stage_is_empty(server.path()));
    second.close().await.unwrap();
}

#[tokio::test]
async fn what_is_given_up_is_left_at_once_and_with_a_wrong_digest_nothing_is() {
    let server = Server::new();
    let content = noise(MIB + 9);
    let (mut peer, _) = server.open_newer().await;
    peer.nothing_left().await;
    for upload in [1, 2] {
        // Complete or not.
        peer.send(&open(upload, None), &[]).await;
        peer.piece(upload, Instruction::Literal(&content)).await;
        if upload == 2 {
            assert_eq!(peer.end_upload(upload, &content).await, None);
        }
        peer.send(&Request::UploadAbort { upload }, &[]).await;
        peer.left(&content).await;
    }
    let (mark, size) = peer.left(&content).await;
    for (upload, leftover) in [(3, (mark + 1, size)), (4, (mark, size + 1))] {
        peer.send(&open(upload, Some(leftover)), &[]).await;
        match peer.receive().await.0 {
            Response::Staged { failed, .. } => assert_eq!(failed.unwrap().code, changed()),
            other => panic!("{other:?}"),
        }
    }
    peer.left(&content).await;
    peer.send(&open(5, Some((mark, size))), &[]).await;
    peer.nothing_left().await;
    peer.piece(5, Instruction::Literal(b"other")).await;
    assert_eq!(peer.end_upload(5, &content).await, Some(changed()));
    peer.nothing_left().await;
    peer.send(&open(6, None), &[]).await;
    peer.piece(6, Instruction::Literal(&content)).await;
    assert_eq!(peer.end_upload(6, b"other").await, Some(changed()));
    peer.nothing_left().await;
    assert!(stage_is_empty(server.path()));
    peer.close().await.unwrap();
}

#[tokio::test]
async fn older_sessions_hear_nothing_of_leftovers_and_cannot_ask() {
    let server = Server::new();
    let (mut newer, _) = server.open_newer().await;
    newer.send(&open(1, None), &[]).await;
    let content = noise(MIB);
    newer.piece(1, Instruction::Literal(&content)).await;
    newer.close().await.unwrap();
    for request in [open(1, None), open(1, Some((1, 1))), ask(1)] {
        // Its welcome has the sum and nothing else.
        let mut older = server.open().await;
        older.send(&request, &[]).await;
        assert_eq!(older.refused().await, Code::Protocol);
    }
    let (_peer, keys) = server.open_newer().await;
    assert_eq!(keys.len(), 16);
}
