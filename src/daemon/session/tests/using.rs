//! Those who use a share without mirroring it.

use super::*;
use crate::wire::{FileAnswer, FileAsk, FileRequest, Given, ListEntry, MINOR_SUM, Use};

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
    let recipe = Request::Recipe {
        id: 1,
        path: text("a"),
        block: 4096,
        seed: 0,
        leftover: false,
    };
    peer.send(&recipe, &[]).await;
    let (answer, _) = peer.receive().await;
    assert!(
        matches!(
            answer,
            Response::Recipe {
                failed: Some(_),
                ..
            }
        ),
        "{answer:?}"
    );
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
async fn what_the_thread_of_the_uploads_finds_wrong_is_no_failure_of_the_server() {
    let server = Server::new();
    let open = Request::UploadOpen {
        upload: 1,
        path: None,
        base: None,
        leftover: None,
    };
    let mut peer = server.connect(device("a"));
    peer.send(&usage(6), &[]).await;
    peer.receive().await;
    peer.send(&open, &[]).await;
    peer.send(&open, &[]).await;
    assert_eq!(peer.refused().await, Code::Protocol);
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

fn change(ops: Vec<Op>, given: Vec<Given>) -> Request {
    file(5, FileAsk::Change { ops, given })
}

impl Peer {
    /// Sends an upload of a few bytes; the code that it fails with, or the sum of what is stored.
    async fn store(&mut self, upload: u64, content: &[u8], sum: [u8; 32]) -> Result<Bytes, Code> {
        let both = [digest(content).0, sum].concat();
        self.store_closed_by(upload, content, &both).await
    }

    async fn store_closed_by(
        &mut self,
        upload: u64,
        content: &[u8],
        close: &[u8],
    ) -> Result<Bytes, Code> {
        let open = Request::UploadOpen {
            upload,
            base: None,
            path: Some(text("f")),
            leftover: None,
        };
        self.send(&open, &[]).await;
        let mut piece = Vec::new();
        Instruction::Literal(content).pack(&mut piece);
        self.send(&Request::UploadData { upload, zstd: None }, &piece)
            .await;
        let size = content.len() as u64;
        self.send(&Request::UploadClose { upload, size }, close)
            .await;
        loop {
            match self.receive().await {
                (Response::Staged { failed: None, .. }, body) => return Ok(body),
                (Response::Staged { failed, .. }, _) => return Err(failed.unwrap().code),
                (Response::Received { .. }, _) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    async fn changed(&mut self, request: &Request, body: &[u8]) -> FileAnswer {
        self.send(request, body).await;
        match self.receive().await.0 {
            Response::File(response) => response.answer,
            other => panic!("{other:?}"),
        }
    }
}

fn put_upload(upload: u64, size: u64) -> Op {
    Op::Put {
        path: text("f"),
        mode: 0o600,
        mtime: TIME,
        size,
        content: Content::Upload { upload },
    }
}

#[tokio::test]
async fn a_content_whose_sums_differ_never_comes_into_view() {
    use sha2::{Digest as _, Sha256};
    let server = Server::new();
    let mut peer = server.used_by(device("a")).await;
    let wrong = peer.store(1, b"content", [7; 32]).await;
    assert_eq!(wrong, Err(Code::Fault(crate::model::Fault::Changed)));
    let put = change(vec![put_upload(1, 7)], Vec::new());
    let answer = peer.changed(&put, &digest(b"content").0).await;
    let FileAnswer::Changed { failed } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(failed.len(), 1, "it is not there to be used");
    assert!(!server.path().join("f").exists());
    let sum: [u8; 32] = Sha256::digest(b"content").into();
    let stored = peer.store(2, b"content", sum).await.unwrap();
    assert_eq!(&stored[..], sum);
    let put = change(vec![put_upload(2, 7)], Vec::new());
    let answer = peer.changed(&put, &digest(b"content").0).await;
    assert_eq!(answer, FileAnswer::Changed { failed: Vec::new() });
    assert_eq!(fs::read(server.path().join("f")).unwrap(), b"content");
}

#[tokio::test]
async fn a_sum_alone_is_enough_for_a_server_that_tells_the_digest() {
    use sha2::{Digest as _, Sha256};
    let server = Server::new();
    let mut peer = server.connect(device("a"));
    peer.send(&usage(MINOR_SUM), &[]).await;
    peer.receive().await;
    let wrong = peer.store_closed_by(1, b"content", &[7; 32]).await;
    assert_eq!(wrong, Err(Code::Fault(crate::model::Fault::Changed)));
    let sum: [u8; 32] = Sha256::digest(b"content").into();
    let both = [sum, digest(b"content").0].concat();
    let stored = peer.store_closed_by(2, b"content", &sum).await.unwrap();
    assert_eq!(stored, both);
    let put = change(vec![put_upload(2, 7)], Vec::new());
    let answer = peer.changed(&put, &digest(b"content").0).await;
    assert_eq!(answer, FileAnswer::Changed { failed: Vec::new() });
    assert_eq!(peer.store(3, b"content", sum).await.unwrap(), both);
    // An older one has to name both.
    let mut older = server.used_by(device("a")).await;
    let open = Request::UploadOpen {
        upload: 1,
        base: None,
        path: None,
        leftover: None,
    };
    older.send(&open, &[]).await;
    let close = Request::UploadClose { upload: 1, size: 0 };
    older.send(&close, &Sha256::digest(b"")).await;
    assert_eq!(older.refused().await, Code::Protocol);
}

#[tokio::test]
async fn a_change_is_carried_out_only_where_everything_is_as_it_is_based_on() {
    let server = Server::new();
    fs::create_dir_all(server.path().join("full/x")).unwrap();
    fs::create_dir(server.path().join("bare")).unwrap();
    fs::write(server.path().join("there"), "old").unwrap();
    let mut peer = server.used_by(device("a")).await;
    for (given, good) in [
        (
            Given::Absent {
                path: text("there"),
            },
            false,
        ),
        (
            Given::Absent {
                path: text("there/below"),
            },
            true,
        ),
        (Given::NoDirectory { path: text("full") }, false),
        (
            Given::NoDirectory {
                path: text("there"),
            },
            true,
        ),
        (Given::Bare { path: text("full") }, false),
        (Given::Bare { path: text("bare") }, true),
        (
            Given::Bare {
                path: text("nothing"),
            },
            true,
        ),
    ] {
        let mut body = Vec::new();
        let ops = vec![put("new", b"content", &mut body)];
        let answer = peer.changed(&change(ops, vec![given.clone()]), &body).await;
        match answer {
            FileAnswer::Changed { failed } => assert!(good && failed.is_empty(), "{given:?}"),
            FileAnswer::Failed { code, .. } => assert!(!good && code == Code::Exists, "{given:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.path().join("new").exists(), good, "{given:?}");
        drop(fs::remove_file(server.path().join("new")));
    }
    // What somebody else made since the index was last right can be changed all the same.
    fs::create_dir(server.path().join("full/late")).unwrap();
    let mut body = Vec::new();
    let ops = vec![put("full/late/f", b"1", &mut body)];
    let answer = peer.changed(&change(ops, Vec::new()), &body).await;
    assert_eq!(answer, FileAnswer::Changed { failed: Vec::new() });
    let rename = Op::Rename {
        from: text("full/late"),
        to: text("bare/late"),
    };
    let answer = peer.changed(&change(vec![rename], Vec::new()), &[]).await;
    assert_eq!(answer, FileAnswer::Changed { failed: Vec::new() });
    assert_eq!(fs::read(server.path().join("bare/late/f")).unwrap(), b"1");
}

#[tokio::test]
async fn nothing_foreign_is_committed_after_a_writer_came() {
    let server = Server::new();
    let mut peer = server.used_by(device("a")).await;
    let mut body = Vec::new();
    let ops = vec![put("f", b"before", &mut body)];
    let answer = peer.changed(&change(ops, Vec::new()), &body).await;
    assert_eq!(answer, FileAnswer::Changed { failed: Vec::new() });
    let mut writer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![put("f", b"after", &mut body)];
    for _ in 0..2 {
        let answer = peer.changed(&change(ops.clone(), Vec::new()), &body).await;
        let FileAnswer::Failed { code, message } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(code, Code::Held);
        assert!(
            message.contains("`source a` of device `device a`"),
            "{message}"
        );
        assert_eq!(fs::read(server.path().join("f")).unwrap(), b"before");
    }
    // Reading goes on, and so does the writer.
    let mut body = Vec::new();
    let ops = vec![put("g", b"its own", &mut body)];
    assert_eq!(writer.apply(ops, &body).await, vec![]);
    assert!(matches!(
        peer.ask(look("g")).await,
        FileAnswer::Looked { entry: Some(_), .. }
    ));
}
