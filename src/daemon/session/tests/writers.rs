//! Who holds a share.

use super::*;

#[tokio::test]
async fn one_writer_holds_a_share_and_its_newer_connection_replaces_the_older() {
    let server = Server::new();
    let mut first = server.open().await;
    let mut foreign = server.connect(device("b"));
    foreign.send(&hello(None, 'b'), &[]).await;
    let (refused, _) = foreign.receive().await;
    let Response::Refused { code, message } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(code, Code::Held);
    assert!(message.contains("source a"), "{message}");
    let mut second = server.open().await;
    assert_eq!(first.refused().await, Code::Replaced);
    let mut body = Vec::new();
    let ops = vec![put("f", b"x", &mut body)];
    assert_eq!(second.apply(ops, &body).await, vec![]);
    assert!(server.shares.status()[0].connected);
    second.close().await.unwrap();
    assert!(!server.shares.status()[0].connected);
}

#[tokio::test]
async fn a_writer_is_remembered_and_a_take_over_keeps_what_it_removes() {
    let mut server = Server::new();
    let mut peer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![mkdir("d"), put("d/f", b"old", &mut body)];
    assert_eq!(peer.apply(ops, &body).await, vec![]);
    peer.send(&Request::Settled {}, &[]).await;
    peer.close().await.unwrap();
    // A new server on the same directory.
    let path = server.path().to_owned();
    let empty = tempfile::tempdir().unwrap();
    server.shares = Shares::open(empty.path(), BTreeMap::new(), UPKEEP, None).unwrap();
    server.shares = Shares::open(&path, BTreeMap::new(), UPKEEP, None).unwrap();
    let mut again = server.connect(device("a"));
    again.send(&hello(None, 'a'), &[]).await;
    let (welcome, _) = again.receive().await;
    assert!(
        matches!(
            &welcome,
            Response::Welcome {
                first_contact: false,
                ..
            }
        ),
        "{welcome:?}"
    );
    again.close().await.unwrap();
    let mut taker = server.connect(device("b"));
    let Request::Hello {
        minor,
        share,
        source,
        source_name,
        ..
    } = hello(None, 'b')
    else {
        panic!();
    };
    let hello = Request::Hello {
        minor,
        share,
        source,
        source_name,
        take_over: true,
    };
    taker.send(&hello, &[]).await;
    let (welcome, _) = taker.receive().await;
    assert!(
        matches!(
            &welcome,
            Response::Welcome {
                first_contact: true,
                ..
            }
        ),
        "{welcome:?}"
    );
    let delete = Op::Delete { path: text("d/f") };
    assert_eq!(taker.apply(vec![delete], &[]).await, vec![]);
    let kept = fs::read_dir(path.join(".syncd/kept")).unwrap();
    let folder = kept.map(|entry| entry.unwrap().path()).next().unwrap();
    assert_eq!(fs::read(folder.join("d/f")).unwrap(), b"old");
    taker.close().await.unwrap();
}

#[tokio::test]
async fn named_shares_and_the_directory_itself_exclude_each_other() {
    let server = Server::new();
    let mut named = server.connect(device("a"));
    named.send(&hello(Some("photos"), 'a'), &[]).await;
    let (welcome, _) = named.receive().await;
    assert!(matches!(welcome, Response::Welcome { .. }), "{welcome:?}");
    assert!(server.path().join("photos/.syncd/share.json").exists());
    for (share, code) in [
        (None, Code::Mixed),
        (Some("../x"), Code::NoShare),
        (Some(".x"), Code::NoShare),
        (Some(""), Code::NoShare),
    ] {
        let mut other = server.connect(device("b"));
        other.send(&hello(share, 'b'), &[]).await;
        assert_eq!(other.refused().await, code, "{share:?}");
    }
    let elsewhere = Shares::open(server.path(), BTreeMap::new(), UPKEEP, None);
    assert!(elsewhere.is_err(), "a second server on one directory");
    named.close().await.unwrap();
}
