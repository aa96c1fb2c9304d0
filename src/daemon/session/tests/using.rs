//! Those who use a share without mirroring it.

use super::*;
use crate::wire::{FileAnswer, FileAsk, FileRequest, ListEntry, Use};

pub(super) fn usage(minor: u16) -> Request {
    Request::Use(Use { minor, share: None })
}

fn file(id: u64, ask: FileAsk) -> Request {
    Request::File(FileRequest { id, ask })
}

fn look(path: &str) -> FileAsk {
    FileAsk::Look { path: text(path) }
}

fn list(path: &str, first: Option<WireBytes>) -> FileAsk {
    let path = text(path);
    FileAsk::List { path, first }
}

impl Server {
    async fn used_by(&self, device: DeviceInfo) -> Peer {
        let mut peer = self.connect(device);
        peer.send(&usage(6), &[]).await;
        let (welcome, body) = peer.receive().await;
        assert!(
            matches!(welcome, Response::Welcome { minor: 6, .. }),
            "{welcome:?}"
        );
        assert!(body.is_empty());
        peer
    }
}

impl Peer {
    async fn ask(&mut self, ask: FileAsk) -> FileAnswer {
        self.send(&file(5, ask), &[]).await;
        let (answer, _) = self.receive().await;
        match answer {
            Response::File(response) if response.id == 5 => response.answer,
            other => panic!("{other:?}"),
        }
    }
}

fn reader() -> DeviceInfo {
    let mut reader = device("r");
    reader.rights = Rights::of(None, Access::Read).into();
    reader
}

#[tokio::test]
async fn who_only_reads_is_told_what_the_disk_holds_and_makes_nothing() {
    let server = Server::new();
    let mut peer = server.used_by(reader()).await;
    let empty = peer.ask(list("", None)).await;
    assert!(
        matches!(&empty, FileAnswer::Listed { entries, found: true, .. } if entries.is_empty())
    );
    assert!(matches!(
        peer.ask(look("a")).await,
        FileAnswer::Looked { entry: None, .. }
    ));
    assert!(server.shares.status().is_empty(), "no share was made");
    fs::create_dir(server.path().join("d")).unwrap();
    fs::write(server.path().join("d/f"), "content").unwrap();
    symlink("f", server.path().join("d/l")).unwrap();
    let FileAnswer::Looked {
        entry: Some(ListEntry { kind, .. }),
        leftover: false,
        version: Some(_),
    } = peer.ask(look("d/f")).await
    else {
        panic!("it is there");
    };
    assert_eq!(kind, ListKind::File { size: 7 });
    for gone in ["x", "x/y", "d/f/y", "d/l/y"] {
        let answer = peer.ask(look(gone)).await;
        assert!(
            matches!(answer, FileAnswer::Looked { entry: None, .. }),
            "{gone}: {answer:?}"
        );
        let answer = peer.ask(list(gone, None)).await;
        assert!(
            matches!(answer, FileAnswer::Listed { found: false, .. }),
            "{gone}: {answer:?}"
        );
    }
    let FileAnswer::Listed { entries, .. } = peer.ask(list("", None)).await else {
        panic!("it is a directory");
    };
    let names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, [text("d")], "nothing private is told");
}

#[tokio::test]
async fn a_large_directory_is_told_in_parts() {
    let server = Server::new();
    let names: Vec<String> = (0..1100).map(|number| format!("{number:04}")).collect();
    for name in &names {
        fs::write(server.path().join(name), "").unwrap();
    }
    let mut peer = server.used_by(reader()).await;
    let (mut first, mut seen, mut parts) = (None, Vec::new(), 0);
    loop {
        let FileAnswer::Listed { entries, next, .. } = peer.ask(list("", first)).await else {
            panic!("it is a directory");
        };
        seen.extend(entries.iter().filter_map(|entry| entry.name.bytes()));
        parts += 1;
        first = next;
        if first.is_none() {
            break;
        }
    }
    let names: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
    assert_eq!((seen, parts), (names, 3));
}

#[tokio::test]
async fn what_has_no_place_there_ends_it() {
    let server = Server::new();
    for (first, next, code) in [
        (usage(5), None, Code::Protocol),
        (usage(6), Some(usage(6)), Code::Protocol),
        (usage(6), Some(Request::Settled {}), Code::Protocol),
        (usage(6), Some(file(1, look("../x"))), Code::Protocol),
        (
            usage(6),
            Some(file(1, look(".syncd/share.json"))),
            Code::Protocol,
        ),
        (hello(None, 'a'), Some(file(1, look("x"))), Code::Protocol),
    ] {
        let mut peer = server.connect(device("a"));
        peer.send(&first, &[]).await;
        if let Some(next) = &next {
            peer.receive().await;
            peer.send(next, &[]).await;
        }
        assert_eq!(peer.refused().await, code, "{first:?} {next:?}");
    }
    let mut stranger = device("s");
    stranger.rights = Rights::of(Some("other"), Access::Write).into();
    let mut peer = server.connect(stranger);
    peer.send(&usage(6), &[]).await;
    assert_eq!(peer.refused().await, Code::Forbidden);
}
