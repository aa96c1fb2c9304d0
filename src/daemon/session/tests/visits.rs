//! Those who only look.

use super::*;

fn visit(minor: u16, source: char) -> Request {
    Request::Visit(Visit {
        minor,
        share: None,
        source: source.to_string().repeat(32),
    })
}

#[tokio::test]
async fn a_visitor_reads_beside_the_writer_and_changes_nothing() {
    let server = Server::new();
    let mut writer = server.open().await;
    let mut body = Vec::new();
    let ops = vec![put("f", b"old", &mut body)];
    assert_eq!(writer.apply(ops, &body).await, vec![]);
    let look = Request::Inspect(Inspect {
        id: 9,
        path: text(""),
        first: None,
        last: None,
    });
    let mut reader = device("a");
    reader.rights = Rights::of(None, Access::Read).into();
    let mut visitor = server.connect(reader);
    visitor.send(&visit(2, 'a'), &[]).await;
    let (welcome, sum) = visitor.receive().await;
    assert!(matches!(welcome, Response::Welcome { minor: 2, .. }));
    assert_eq!(sum.len(), 32);
    // Behind the index's back.
    fs::write(server.path().join("f"), "new").unwrap();
    visitor.send(&look, &[]).await;
    let (told, body) = visitor.receive().await;
    let Response::Inspected(told) = told else {
        panic!("{told:?}");
    };
    assert_eq!((told.id, told.found, told.next), (9, true, None));
    assert_eq!(told.entries[0].kind, ListKind::File { size: 3 });
    assert_eq!(&body[..], &digest(b"new").0);
    let delete = mutate(1, vec![Op::Delete { path: text("f") }]);
    visitor.send(&delete, &[]).await;
    assert_eq!(visitor.refused().await, Code::Forbidden);
    for (request, code) in [
        (&delete, Code::Protocol),
        (&visit(2, 'a'), Code::Protocol),
        (&Request::Settled {}, Code::Protocol),
    ] {
        let mut visitor = server.connect(device("a"));
        visitor.send(&visit(2, 'a'), &[]).await;
        visitor.receive().await;
        visitor.send(request, &[]).await;
        assert_eq!(visitor.refused().await, code, "{request:?}");
    }
    for (first, code) in [(visit(2, 'b'), Code::Held), (visit(1, 'a'), Code::Protocol)] {
        let mut stranger = server.connect(device("a"));
        stranger.send(&first, &[]).await;
        assert_eq!(stranger.refused().await, code);
    }
    assert_eq!(fs::read(server.path().join("f")).unwrap(), b"new");
    // The writer's session is the one that it was, and has no need of a visit's question.
    let mut body = Vec::new();
    let ops = vec![put("g", b"more", &mut body)];
    assert_eq!(writer.apply(ops, &body).await, vec![]);
    writer.send(&look, &[]).await;
    assert_eq!(writer.refused().await, Code::Protocol);
}

#[tokio::test]
async fn only_so_many_look_at_a_time() {
    let server = Server::new();
    let mut guests = Vec::new();
    for _ in 0..16 {
        let mut guest = server.connect(device("a"));
        guest.send(&visit(2, 'a'), &[]).await;
        assert!(matches!(guest.receive().await.0, Response::Welcome { .. }));
        guests.push(guest);
    }
    let mut late = server.connect(device("a"));
    late.send(&visit(2, 'a'), &[]).await;
    assert_eq!(late.refused().await, Code::Busy);
    guests.pop().unwrap().close().await.unwrap();
    let mut next = server.connect(device("a"));
    next.send(&visit(2, 'a'), &[]).await;
    assert!(matches!(next.receive().await.0, Response::Welcome { .. }));
    // Nobody became a writer, and nothing was made.
    assert_eq!(visible(server.path()), Vec::<String>::new());
    assert!(server.shares.status().is_empty());
}
