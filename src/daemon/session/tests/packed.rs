//! Bodies that come packed.

use super::*;

/// A session of a minor version with an upload that has begun.
async fn uploading(server: &Server, minor: u16) -> Peer {
    let mut peer = server.connect(device("a"));
    let hello = match hello(None, 'a') {
        Request::Hello {
            share,
            source,
            source_name,
            take_over,
            ..
        } => Request::Hello {
            minor,
            share,
            source,
            source_name,
            take_over,
        },
        other => panic!("{other:?}"),
    };
    peer.send(&hello, &[]).await;
    let (welcome, _) = peer.receive().await;
    let agreed = matches!(welcome, Response::Welcome { minor: own, .. } if own == minor);
    assert!(agreed, "{welcome:?}");
    let open = Request::UploadOpen {
        upload: 1,
        base: None,
        path: None,
        leftover: None,
    };
    peer.send(&open, &[]).await;
    peer
}

#[tokio::test]
async fn packed_pieces_are_unpacked_and_counted_as_they_came() {
    let server = Server::new();
    let mut peer = uploading(&server, MINOR_ZSTD).await;
    let content = b"again and ".repeat(10_000);
    let mut piece = Vec::new();
    Instruction::Literal(&content).pack(&mut piece);
    let (packed, size) = pack(&piece, 1 << 20, Effort::Quick).unwrap();
    let data = |zstd| Request::UploadData { upload: 1, zstd };
    peer.send(&data(Some(size)), &packed).await;
    peer.send(&data(None), &piece).await;
    let whole = content.repeat(2);
    let size = whole.len() as u64;
    let close = Request::UploadClose { upload: 1, size };
    peer.send(&close, &digest(&whole).0).await;
    let mut received = 0;
    loop {
        match peer.receive().await.0 {
            Response::Received { bytes } => received += bytes,
            Response::Staged { failed, .. } => break assert_eq!(failed, None),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, (packed.len() + piece.len()) as u64);
    peer.close().await.unwrap();
}

fn packed_mutate(id: u64, ops: Vec<Op>, size: u32) -> Request {
    Request::Mutate {
        id,
        based_on: 0,
        ops,
        zstd: Some(size),
    }
}

#[tokio::test]
async fn packed_changes_are_applied() {
    let server = Server::new();
    let mut peer = uploading(&server, MINOR_ZSTD).await;
    let content = b"again and ".repeat(6_000);
    let mut body = Vec::new();
    let ops = vec![put("f", &content, &mut body), put("g", b"short", &mut body)];
    let (packed, size) = pack(&body, 1 << 20, Effort::Quick).unwrap();
    peer.send(&packed_mutate(1, ops, size), &packed).await;
    let (applied, _) = peer.receive().await;
    let whole = matches!(&applied, Response::Applied { id: 1, failed, .. } if failed.is_empty());
    assert!(whole, "{applied:?}");
    assert_eq!(fs::read(server.path().join("f")).unwrap(), content);
    assert_eq!(fs::read(server.path().join("g")).unwrap(), b"short");
    peer.close().await.unwrap();
}

#[tokio::test]
async fn packed_changes_that_cannot_be_meant_end_the_session() {
    let server = Server::new();
    let mut body = Vec::new();
    let op = put("f", &[7; 9_000], &mut body);
    let (packed, size) = pack(&body, 1 << 20, Effort::Quick).unwrap();
    let bomb = vec![0; 5 * 1024 * 1024];
    let (bomb, bombs) = pack(&bomb, usize::MAX, Effort::Thorough).unwrap();
    for (minor, size, body) in [
        (MINOR_ZSTD - 1, size, &packed),
        (MINOR_ZSTD, 0, &packed),
        (MINOR_ZSTD, size + 1, &packed),
        (MINOR_ZSTD, size, &body),
        (MINOR_ZSTD, size, &bomb),
        (MINOR_ZSTD, bombs, &bomb),
    ] {
        let mut peer = uploading(&server, minor).await;
        let request = packed_mutate(1, vec![op.clone()], size);
        peer.send(&request, body).await;
        assert_eq!(peer.refused().await, Code::Protocol, "{minor} {size}");
        assert!(peer.close().await.is_err());
        assert!(!server.path().join("f").exists());
    }
}

#[tokio::test]
async fn packed_pieces_that_cannot_be_meant_end_the_session() {
    let server = Server::new();
    let mut piece = Vec::new();
    Instruction::Literal(&[7; 9_000]).pack(&mut piece);
    let (packed, size) = pack(&piece, 1 << 20, Effort::Quick).unwrap();
    let mut damaged = packed.clone();
    damaged[0] ^= 1;
    for (minor, zstd, body) in [
        (MINOR_ZSTD - 1, size, &packed),
        (MINOR_ZSTD, 0, &packed),
        (MINOR_ZSTD, size - 1, &packed),
        (MINOR_ZSTD, size + 1, &packed),
        (MINOR_ZSTD, u32::MAX, &packed),
        (MINOR_ZSTD, size, &damaged),
        (MINOR_ZSTD, size, &piece),
    ] {
        let mut peer = uploading(&server, minor).await;
        let data = Request::UploadData {
            upload: 1,
            zstd: Some(zstd),
        };
        peer.send(&data, body).await;
        assert_eq!(peer.refused().await, Code::Protocol, "{minor} {zstd}");
        assert!(peer.close().await.is_err());
        assert!(stage_is_empty(server.path()));
    }
}
