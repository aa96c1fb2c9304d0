//! Large files in pieces.

use super::*;

#[tokio::test]
async fn an_upload_is_built_from_its_base_and_placed_by_a_put() {
    let server = Server::new();
    let old: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(server.path().join("big"), &old).unwrap();
    let mut peer = server.open().await;
    let mut new = old.clone();
    new[100_000..100_005].copy_from_slice(b"12345");
    let mut piece = Vec::new();
    for instruction in [
        Instruction::Copy {
            offset: 0,
            length: 100_000,
        },
        Instruction::Literal(b"12345"),
        Instruction::Copy {
            offset: 100_005,
            length: 199_995,
        },
    ] {
        instruction.pack(&mut piece);
    }
    let base = Some(text("big"));
    peer.send(
        &Request::UploadOpen {
            upload: 3,
            base,
            path: None,
            leftover: None,
        },
        &[],
    )
    .await;
    peer.send(
        &Request::UploadData {
            upload: 3,
            zstd: None,
        },
        &piece,
    )
    .await;
    let size = new.len() as u64;
    let close = Request::UploadClose { upload: 3, size };
    peer.send(&close, &digest(&new).0).await;
    let bytes = piece.len() as u64;
    assert_eq!(peer.receive().await.0, Response::Received { bytes });
    let staged = Response::Staged {
        upload: 3,
        failed: None,
    };
    assert_eq!(peer.receive().await.0, staged);
    assert_eq!(fs::read(server.path().join("big")).unwrap(), old);
    let place = Op::Put {
        path: text("big"),
        mode: 0o4711,
        mtime: TIME,
        size,
        content: Content::Upload { upload: 3 },
    };
    let twice = digest(&new).0.repeat(2);
    let applied = peer.apply(vec![place.clone(), place], &twice);
    let changed = Code::Fault(crate::model::Fault::Changed);
    assert_eq!(applied.await, vec![(1, changed)], "it is used up");
    assert_eq!(fs::read(server.path().join("big")).unwrap(), new);
    let meta = fs::metadata(server.path().join("big")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4711);
    assert_eq!(meta.mtime_nsec(), 123_456_789);
    peer.close().await.unwrap();
    assert!(stage_is_empty(server.path()));
}

#[tokio::test]
async fn uploads_that_fail_are_answered_once_and_leave_nothing() {
    let server = Server::new();
    let mut peer = server.open().await;
    let mut bomb = Vec::new();
    Instruction::Literal(b"x").pack(&mut bomb);
    for upload in [1, 2] {
        let base = (upload == 2).then(|| text("missing"));
        peer.send(
            &Request::UploadOpen {
                upload,
                base,
                path: None,
                leftover: None,
            },
            &[],
        )
        .await;
        peer.send(&Request::UploadData { upload, zstd: None }, &bomb)
            .await;
        let close = Request::UploadClose { upload, size: 1 };
        peer.send(&close, &[0; 32]).await;
    }
    let mut failed = Vec::new();
    let mut received = 0u64;
    while failed.len() < 2 || received < 2 * bomb.len() as u64 {
        match peer.receive().await.0 {
            Response::Staged {
                upload,
                failed: Some(_),
            } => failed.push(upload),
            Response::Received { bytes } => received += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failed, [1, 2]);
    for _ in 0..2 {
        let open = Request::UploadOpen {
            upload: 9,
            base: None,
            path: None,
            leftover: None,
        };
        peer.send(&open, &[]).await;
    }
    assert_eq!(peer.refused().await, Code::Protocol);
    assert!(peer.close().await.is_err());
    assert!(stage_is_empty(server.path()));
}
