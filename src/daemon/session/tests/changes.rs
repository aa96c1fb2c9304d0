//! Groups of changes: their order, what fails in them, and what is listed after them.

use super::*;

#[tokio::test]
async fn a_group_is_applied_in_order_and_durable_when_answered() {
    let server = Server::new();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![
        mkdir("d"),
        put("d/f", b"one", &mut body),
        Op::Rename {
            from: text("d/f"),
            to: text("d/g"),
        },
        put("d/f", b"two", &mut body),
        Op::Symlink {
            path: text("l"),
            target: text("/etc/passwd"),
            mtime: TIME,
        },
    ];
    assert_eq!(peer.apply(ops, &body).await, vec![]);
    let root = server.path();
    assert_eq!(fs::read(root.join("d/f")).unwrap(), b"two");
    assert_eq!(fs::read(root.join("d/g")).unwrap(), b"one");
    for name in ["d", "d/f", "l"] {
        let meta = fs::symlink_metadata(root.join(name)).unwrap();
        assert_eq!(
            (meta.mtime(), meta.mtime_nsec()),
            (-5, 123_456_789),
            "{name}"
        );
    }
    let mode = fs::metadata(root.join("d/f")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert!(stage_is_empty(root));
    peer.close().await.unwrap();
}

#[tokio::test]
async fn an_operation_that_fails_does_not_stop_the_others() {
    let server = Server::new();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![
        put("missing/f", b"x", &mut body),
        put("../out", b"x", &mut body),
        put("wrong", b"x", &mut body),
        put("good", b"x", &mut body),
        Op::Delete {
            path: text("nothing/there"),
        },
        Op::Mkdir {
            path: text(".syncd"),
            mode: 0,
            mtime: TIME,
        },
    ];
    let wrong = 2 * 33;
    body[wrong] ^= 1;
    let changed = Code::Fault(crate::model::Fault::Changed);
    assert_eq!(
        peer.apply(ops, &body).await,
        vec![
            (0, changed.clone()),
            (1, Code::Protocol),
            (2, changed),
            (5, Code::Protocol)
        ]
    );
    assert_eq!(visible(server.path()), ["good"]);
    assert!(stage_is_empty(server.path()));
    peer.close().await.unwrap();
}

#[tokio::test]
async fn listings_come_after_the_changes_and_show_what_the_disk_holds() {
    let server = Server::new();
    fs::write(server.path().join("before"), b"here").unwrap();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![put("a\nb", b"", &mut body), mkdir("e")];
    peer.send(&mutate(1, ops), &body).await;
    let list = Request::List {
        id: 2,
        path: text(""),
        after: None,
    };
    peer.send(&list, &[]).await;
    assert!(matches!(
        peer.receive().await.0,
        Response::Applied { id: 1, .. }
    ));
    let (listing, body) = peer.receive().await;
    let Response::Listing {
        entries,
        more,
        found,
        ..
    } = listing
    else {
        panic!("{listing:?}");
    };
    assert!(found && more.is_none());
    let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, [text("a\nb"), text("before"), text("e")]);
    assert_eq!(entries[1].kind, ListKind::File { size: 4 });
    assert_eq!(&body[32..64], digest(b"here").0);
    peer.close().await.unwrap();
}

#[tokio::test]
async fn copies_see_earlier_changes_and_are_checked() {
    let server = Server::new();
    let mut peer = server.open().await;
    let copy = |from: &str, to: &str, content: &[u8], body: &mut Vec<u8>| {
        body.extend_from_slice(&digest(content).0);
        Op::Put {
            path: text(to),
            mode: 0o600,
            mtime: TIME,
            size: content.len() as u64,
            content: Content::Copy { from: text(from) },
        }
    };
    let mut body = Vec::new();
    let ops = vec![
        put("a", b"first", &mut body),
        copy("a", "b", b"first", &mut body),
        put("a", b"second", &mut body),
        copy("a", "c", b"first", &mut body),
        copy("a", "d", b"second", &mut body),
    ];
    let changed = Code::Fault(crate::model::Fault::Changed);
    assert_eq!(peer.apply(ops, &body).await, vec![(3, changed)]);
    assert_eq!(visible(server.path()), ["a", "b", "d"]);
    assert_eq!(fs::read(server.path().join("b")).unwrap(), b"first");
    assert_eq!(fs::read(server.path().join("d")).unwrap(), b"second");
    peer.close().await.unwrap();
}
