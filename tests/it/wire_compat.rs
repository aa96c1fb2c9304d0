//! The messages against time and against damage: frozen samples, schemas, random bytes.
//!
//! The files below `tests/data/wire/v1` are what a release of version 1 sends. They are never written anew; a new
//! message gets a file of its own (`SYNCD_BLESS=1` writes those that are missing).

use crate::package;
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Debug;
use syncd::model::Fault;
use syncd::model::limits::{MAX_BODY, MAX_HEADER};
use syncd::wire::{
    CachedFile, Code, Content, Continued, Deframer, Failed, FileAnswer, FileAsk, FileRequest,
    FileResponse, Given, Granted, Inspect, Inspected, JoinAnswer, JoinCode, JoinRequest,
    JoinSecret, KeyAnswer, KeyAsk, KeyEntry, KeyMode, KeyRequest, KeyResponse, ListEntry, ListKind,
    ListedKey, Op, Request, Response, Unread, Use, Visit, WireBytes, WireTime, encode, schemas,
};

fn text(text: &str) -> WireBytes {
    WireBytes::new(text.as_bytes())
}

fn raw() -> WireBytes {
    WireBytes::new(b"caf\xe9/\xff")
}

const TIME: WireTime = WireTime(1_790_000_000, 123_456_789);

fn failed(index: u32, code: Code) -> Failed {
    Failed {
        index,
        code,
        message: "cannot look at it: \"quoted\" \u{fc}".to_owned(),
    }
}

fn put(path: WireBytes, size: u64, content: Content) -> Op {
    Op::Put {
        path,
        mode: 0o644,
        mtime: TIME,
        size,
        content,
    }
}

fn ops() -> Vec<Op> {
    vec![
        put(text("a/b"), 5, Content::Inline {}),
        put(raw(), u64::MAX, Content::Upload { upload: 7 }),
        put(text("c"), 0, Content::Copy { from: text("a/b") }),
        Op::Mkdir {
            path: text("d"),
            mode: 0o755,
            mtime: WireTime(-1, 0),
        },
        Op::Symlink {
            path: text("l"),
            target: raw(),
            mtime: TIME,
        },
        Op::Attributes {
            path: text("d"),
            mode: 0o7777,
            mtime: TIME,
        },
        Op::Delete { path: text("x") },
        Op::Rename {
            from: text("x"),
            to: raw(),
        },
        Op::Exchange {
            a: text("x"),
            b: text("y"),
        },
    ]
}

/// A message of each kind with its body, by the name of its file.
fn requests() -> Vec<(&'static str, Request, Vec<u8>)> {
    [
        requests_of_mirroring(),
        requests_of_looking(),
        requests_of_leftovers(),
        requests_that_are_packed(),
        requests_of_using(),
    ]
    .concat()
}

fn requests_of_mirroring() -> Vec<(&'static str, Request, Vec<u8>)> {
    let digest = vec![0xd1; 32];
    let contents = [&digest[..], b"hello", &digest, &digest].concat();
    let bare = |name, request| (name, request, Vec::new());
    let hello = |share: Option<&str>| Request::Hello {
        minor: 0,
        share: share.map(str::to_owned),
        source: "0123456789abcdef".repeat(2),
        source_name: "host:/home/a".to_owned(),
        take_over: share.is_some(),
    };
    let open = |base| Request::UploadOpen {
        upload: 7,
        base,
        path: None,
        leftover: None,
    };
    let list = |after| Request::List {
        id: 4,
        path: text(""),
        after,
    };
    let mutate = Request::Mutate {
        id: 1,
        based_on: 41,
        ops: ops(),
        zstd: None,
    };
    let close = Request::UploadClose {
        upload: 7,
        size: 1 << 40,
    };
    let recipe = Request::Recipe {
        id: 5,
        path: raw(),
        block: 4096,
        seed: u64::MAX,
        leftover: false,
    };
    let data = Request::UploadData {
        upload: 7,
        zstd: None,
    };
    vec![
        bare("hello", hello(None)),
        bare("hello-share", hello(Some("photos"))),
        ("mutate", mutate, contents),
        bare("upload_open", open(None)),
        bare("upload_open-base", open(Some(text("big")))),
        ("upload_data", data, vec![1, 2, 3]),
        ("upload_close", close, digest),
        bare("upload_abort", Request::UploadAbort { upload: 7 }),
        bare("list", list(None)),
        bare("list-after", list(Some(raw()))),
        bare("recipe", recipe),
        bare("settled", Request::Settled {}),
        bare("ping", Request::Ping {}),
    ]
}

/// What minor versions 1 and 2 brought.
fn requests_of_looking() -> Vec<(&'static str, Request, Vec<u8>)> {
    let bare = |name, request| (name, request, Vec::new());
    let visit = |share: Option<&str>| {
        Request::Visit(Visit {
            minor: 2,
            share: share.map(str::to_owned),
            source: "0123456789abcdef".repeat(2),
        })
    };
    let inspect = |first, last| {
        Request::Inspect(Inspect {
            id: 6,
            path: text("a/b"),
            first,
            last,
        })
    };
    let renew = Request::Renew {
        csr: "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned(),
    };
    vec![
        bare("renew", renew),
        bare("visit", visit(None)),
        bare("visit-share", visit(Some("photos"))),
        bare("inspect", inspect(None, None)),
        bare("inspect-range", inspect(Some(text("c")), Some(raw()))),
    ]
}

/// What minor version 4 brought.
fn requests_of_leftovers() -> Vec<(&'static str, Request, Vec<u8>)> {
    let leftover = Request::Recipe {
        id: 5,
        path: raw(),
        block: 4096,
        seed: 1,
        leftover: true,
    };
    let resumed = Request::UploadOpen {
        upload: 7,
        base: Some(text("big")),
        path: Some(text("big")),
        leftover: Some(Continued {
            mark: 3,
            length: 1 << 33,
        }),
    };
    vec![
        ("upload_open-leftover", resumed, Vec::new()),
        ("recipe-leftover", leftover, Vec::new()),
    ]
}

/// What minor version 5 brought.
fn requests_that_are_packed() -> Vec<(&'static str, Request, Vec<u8>)> {
    let frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    let mutate = Request::Mutate {
        id: 1,
        based_on: 41,
        ops: Vec::new(),
        zstd: Some(9_000),
    };
    let piece = Request::UploadData {
        upload: 7,
        zstd: Some(262_208),
    };
    vec![
        ("mutate-zstd", mutate, frame.clone()),
        ("upload_data-zstd", piece, frame),
    ]
}

/// What minor version 6 brought.
fn requests_of_using() -> Vec<(&'static str, Request, Vec<u8>)> {
    let bare = |name, request| (name, request, Vec::new());
    let file = |ask| Request::File(FileRequest { id: 8, ask });
    let usage = |share: Option<&str>| {
        Request::Use(Use {
            minor: 6,
            share: share.map(str::to_owned),
        })
    };
    let list = |first| {
        let path = text("a/b");
        file(FileAsk::List { path, first })
    };
    let read = |offset, length, version: Option<&str>| {
        file(FileAsk::Read {
            path: text("a"),
            offset,
            length,
            version: version.map(str::to_owned),
        })
    };
    let sum = FileAsk::Sum {
        path: raw(),
        block: 4096,
        seed: u64::MAX,
    };
    let change = FileAsk::Change {
        ops: vec![put(text("a"), 5, Content::Upload { upload: 7 })],
        given: vec![
            Given::Absent { path: text("a") },
            Given::NoDirectory { path: raw() },
            Given::Bare { path: text("d") },
        ],
    };
    let mut all = requests_of_keys();
    all.extend([
        bare("file-read", read(0, None, None)),
        bare("file-read-range", read(1 << 40, Some(9), Some("1-2-3"))),
        bare("file-sum", file(sum)),
        bare("file-cached", file(FileAsk::Cached { first: None })),
        bare(
            "file-cached-from",
            file(FileAsk::Cached { first: Some(raw()) }),
        ),
        ("file-change", file(change), vec![0xd1; 32]),
        bare("use", usage(None)),
        bare("use-share", usage(Some("photos"))),
        bare("file-look", file(FileAsk::Look { path: raw() })),
        bare("file-list", list(None)),
        bare("file-list-from", list(Some(raw()))),
    ]);
    all
}

fn requests_of_keys() -> Vec<(&'static str, Request, Vec<u8>)> {
    let key = |ask| Request::Key(KeyRequest { id: 9, ask });
    let get = |start, unique| {
        let key = raw();
        KeyAsk::Get { key, start, unique }
    };
    let set = KeyAsk::Set {
        key: text("a"),
        mode: KeyMode::Always,
        unique: 0,
        flags: 0,
        lasts_ms: None,
        pieces: None,
    };
    let set_all = KeyAsk::Set {
        key: text("a"),
        mode: KeyMode::IfUnique,
        unique: 12,
        flags: u32::MAX,
        lasts_ms: Some(600_000),
        pieces: Some(4),
    };
    let list = |after| KeyAsk::List {
        prefix: text("a/"),
        after,
    };
    vec![
        ("key-get", key(get(0, None)), Vec::new()),
        ("key-get-part", key(get(1 << 20, Some(12))), Vec::new()),
        ("key-piece", key(KeyAsk::Piece { value: 4 }), vec![7; 9]),
        ("key-set", key(set), b"value".to_vec()),
        ("key-set-all", key(set_all), b"value".to_vec()),
        (
            "key-delete",
            key(KeyAsk::Delete { key: text("a") }),
            Vec::new(),
        ),
        ("key-list", key(list(None)), Vec::new()),
        ("key-list-from", key(list(Some(raw()))), Vec::new()),
    ]
}

fn codes() -> Vec<Code> {
    let faults = [
        Fault::Changed,
        Fault::Denied,
        Fault::Full,
        Fault::ReadOnly,
        Fault::Unrepresentable,
        Fault::Io,
    ];
    let mut codes: Vec<Code> = faults.map(Code::Fault).into();
    codes.extend([
        Code::Forbidden,
        Code::Held,
        Code::Mixed,
        Code::NoShare,
        Code::Protocol,
        Code::Replaced,
        Code::Stopping,
        Code::Busy,
        Code::Version,
        Code::Other("of_tomorrow".to_owned()),
    ]);
    codes
}

fn responses() -> Vec<(&'static str, Response, Vec<u8>)> {
    [
        responses_of_mirroring(),
        responses_of_renewal(),
        responses_of_visits(),
        responses_of_using(),
        responses_of_leftovers(),
        responses_of_places(),
    ]
    .concat()
}

fn responses_of_mirroring() -> Vec<(&'static str, Response, Vec<u8>)> {
    let bare = |name, response| (name, response, Vec::new());
    let welcome = |minor, keeps_setid| Response::Welcome {
        minor,
        share: "a".repeat(32),
        generation: "b".repeat(32),
        version: 42,
        first_contact: true,
        keeps_setid,
        above: Vec::new(),
    };
    let entry = |name, kind| ListEntry {
        name,
        mode: 0o640,
        mtime: TIME,
        kind,
    };
    let entries = vec![
        entry(text("d"), ListKind::Directory {}),
        entry(raw(), ListKind::File { size: 9 }),
        entry(text("l"), ListKind::Symlink { target: raw() }),
    ];
    let listing = |entries, more: Option<WireBytes>, found| Response::Listing {
        id: 4,
        entries,
        more,
        found,
    };
    let applied = Response::Applied {
        id: 1,
        version: 43,
        failed: (0..)
            .zip(codes())
            .map(|(i, code)| failed(i, code))
            .collect(),
    };
    let refused = Response::Refused {
        code: Code::Held,
        message: "`x` fills this share".to_owned(),
    };
    let staged = |failed| Response::Staged { upload: 7, failed };
    let recipe = |failed| Response::Recipe {
        id: 5,
        size: 9,
        last: true,
        failed,
        leftover: None,
    };
    let broken = || Some(failed(0, Code::Fault(Fault::Changed)));
    vec![
        ("welcome", welcome(0, None), vec![0x50; 32]),
        ("welcome-setid", welcome(1, Some(false)), vec![0x50; 32]),
        bare("refused", refused),
        bare("applied", applied),
        bare("received", Response::Received { bytes: 1 << 33 }),
        bare("staged", staged(None)),
        bare("staged-failed", staged(broken())),
        ("listing", listing(entries, Some(raw()), true), vec![9; 96]),
        bare("listing-absent", listing(Vec::new(), None, false)),
        ("recipe", recipe(None), vec![3; 40]),
        bare("recipe-failed", recipe(broken())),
        bare("drifted", Response::Drifted {}),
        bare("pong", Response::Pong {}),
    ]
}

/// What minor version 1 brought.
fn responses_of_renewal() -> Vec<(&'static str, Response, Vec<u8>)> {
    let bare = |name, response| (name, response, Vec::new());
    let revoked = Response::Refused {
        code: Code::Revoked,
        message: "this device was revoked".to_owned(),
    };
    let renewed = |certificate: Option<&str>, message: Option<&str>| Response::Renewed {
        certificate: certificate.map(str::to_owned),
        message: message.map(str::to_owned),
    };
    vec![
        bare("refused-revoked", revoked),
        bare(
            "renewed",
            renewed(Some("-----BEGIN CERTIFICATE-----\n"), None),
        ),
        bare("renewed-failed", renewed(None, Some("not for this key"))),
    ]
}

/// What minor version 2 brought.
fn responses_of_visits() -> Vec<(&'static str, Response, Vec<u8>)> {
    let entry = ListEntry {
        name: text("f"),
        mode: 0o640,
        mtime: TIME,
        kind: ListKind::File { size: 9 },
    };
    let unread = Unread {
        name: raw(),
        code: Code::Fault(Fault::Io),
        message: "cannot read it".to_owned(),
    };
    let inspected = |entries, failed, next, found| {
        Response::Inspected(Inspected {
            id: 6,
            entries,
            failed,
            next,
            found,
        })
    };
    let some = inspected(vec![entry], vec![unread], Some(text("g")), true);
    let absent = inspected(Vec::new(), Vec::new(), None, false);
    vec![
        ("inspected", some, vec![9; 32]),
        ("inspected-absent", absent, Vec::new()),
    ]
}

fn cached() -> FileAnswer {
    FileAnswer::Cached {
        entries: vec![CachedFile {
            path: raw(),
            size: 9,
            hits: 3,
            age_ms: 1500,
            users: 1,
        }],
        next: Some(text("b")),
    }
}

/// What minor version 6 brought.
fn responses_of_using() -> Vec<(&'static str, Response, Vec<u8>)> {
    let file = |answer| Response::File(Box::new(FileResponse { id: 8, answer }));
    let entry = |name, kind| ListEntry {
        name,
        mode: 0o755,
        mtime: TIME,
        kind,
    };
    let looked = |entry, leftover| {
        let version = None;
        file(FileAnswer::Looked {
            entry,
            leftover,
            version,
        })
    };
    let of_file = || entry(text(""), ListKind::File { size: 9 });
    let version = || "1-2-3".to_owned();
    let versioned = FileAnswer::Looked {
        entry: Some(of_file()),
        leftover: false,
        version: Some(version()),
    };
    let read = FileAnswer::Read {
        file: of_file(),
        version: version(),
    };
    let summed = FileAnswer::Summed {
        file: of_file(),
        version: version(),
    };
    let changed = FileAnswer::Changed {
        failed: vec![failed(0, Code::Exists)],
    };
    let link = ListKind::Symlink { target: raw() };
    let listed = FileAnswer::Listed {
        entries: vec![entry(raw(), ListKind::Directory {})],
        failed: vec![Unread {
            name: text("pipe"),
            code: Code::Fault(Fault::Unrepresentable),
            message: "it is a pipe".to_owned(),
        }],
        next: Some(text("q")),
        found: true,
    };
    let text_of = |code| (code, "cannot look at it".to_owned());
    let (code, message) = text_of(Code::Fault(Fault::Denied));
    let not_done = FileAnswer::Failed { code, message };
    let bare = |name, response| (name, response, Vec::new());
    let mut all = responses_of_keys();
    all.extend([
        bare("file-looked", looked(Some(entry(text(""), link)), true)),
        bare("file-looked-absent", looked(None, false)),
        bare("file-listed", file(listed)),
        bare("file-failed", file(not_done)),
        bare("file-looked-version", file(versioned)),
        ("file-piece", file(FileAnswer::Piece {}), vec![1, 2, 3]),
        ("file-read", file(read), vec![7; 32]),
        ("file-blocks", file(FileAnswer::Blocks {}), vec![3; 20]),
        ("file-summed", file(summed), vec![7; 32]),
        bare("file-changed", file(changed)),
        bare("file-cached", file(cached())),
    ]);
    all
}

fn responses_of_keys() -> Vec<(&'static str, Response, Vec<u8>)> {
    let entry = |lasts_ms| KeyEntry {
        size: 5,
        flags: 7,
        unique: 12,
        lasts_ms,
    };
    let listed = KeyAnswer::Listed {
        entries: vec![ListedKey {
            key: raw(),
            entry: entry(None),
        }],
        next: Some(text("b")),
    };
    let value = KeyAnswer::Value {
        entry: entry(Some(600_000)),
    };
    let failed = KeyAnswer::Failed {
        code: Code::NoShare,
        message: "cannot look at it".to_owned(),
    };
    let answers = [
        ("key-value", value),
        ("key-missing", KeyAnswer::Missing {}),
        ("key-exists", KeyAnswer::Exists {}),
        ("key-taken", KeyAnswer::Taken {}),
        ("key-stored", KeyAnswer::Stored { unique: 12 }),
        ("key-not-stored", KeyAnswer::NotStored {}),
        ("key-deleted", KeyAnswer::Deleted {}),
        ("key-listed", listed),
        ("key-failed", failed),
    ];
    let response = |(name, answer)| {
        let body = if name == "key-value" {
            b"value".to_vec()
        } else {
            Vec::new()
        };
        (name, Response::Key(KeyResponse { id: 9, answer }), body)
    };
    answers.map(response).into()
}

/// What minor version 4 brought.
fn responses_of_leftovers() -> Vec<(&'static str, Response, Vec<u8>)> {
    let recipe = Response::Recipe {
        id: 5,
        size: 9,
        last: true,
        failed: None,
        leftover: Some(3),
    };
    let welcome = Response::Welcome {
        minor: 4,
        share: "a".repeat(32),
        generation: "b".repeat(32),
        version: 42,
        first_contact: false,
        keeps_setid: Some(true),
        above: Vec::new(),
    };
    vec![
        ("recipe-leftover", recipe, vec![3; 20]),
        ("welcome-leftovers", welcome, vec![0x50; 32 + 2 * 16]),
    ]
}

/// What minor version 7 brought.
fn responses_of_places() -> Vec<(&'static str, Response, Vec<u8>)> {
    let welcome = Response::Welcome {
        minor: 7,
        share: "a".repeat(32),
        generation: "b".repeat(32),
        version: 42,
        first_contact: false,
        keeps_setid: Some(true),
        above: vec!["c".repeat(32), "d".repeat(32)],
    };
    vec![("welcome-above", welcome, vec![0x50; 32])]
}

fn join_requests() -> Vec<(&'static str, JoinRequest, Vec<u8>)> {
    let local = JoinRequest {
        secret: JoinSecret::Local {
            secret: "5".repeat(64),
        },
        csr: "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned(),
        name: "a host".to_owned(),
    };
    let invite = JoinRequest {
        secret: JoinSecret::Invite {
            secret: "7".repeat(32),
        },
        ..local.clone()
    };
    vec![("local", local, Vec::new()), ("invite", invite, Vec::new())]
}

fn join_answers() -> Vec<(&'static str, JoinAnswer, Vec<u8>)> {
    let joined = |granted| JoinAnswer::Joined {
        certificate: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        authority: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        granted,
    };
    let granted = Granted {
        device: "laptop".to_owned(),
        share: Some("photos".to_owned()),
        write: true,
    };
    let refused = |code| JoinAnswer::Refused {
        code,
        message: "ask later".to_owned(),
    };
    let other = JoinCode::Other("of_tomorrow".to_owned());
    let bare = |name, answer| (name, answer, Vec::new());
    vec![
        bare("joined", joined(None)),
        bare("joined-granted", joined(Some(granted))),
        bare("refused-used", refused(JoinCode::Used)),
        bare("refused-expired", refused(JoinCode::Expired)),
        bare("refused-revoked", refused(JoinCode::Revoked)),
        bare("refused-secret", refused(JoinCode::Secret)),
        bare("refused-closed", refused(JoinCode::Closed)),
        bare("refused-request", refused(JoinCode::Request)),
        bare("refused-busy", refused(JoinCode::Busy)),
        bare("refused-failed", refused(JoinCode::Failed)),
        bare("refused-other", refused(other)),
    ]
}

/// Checks samples against their frozen files and their schema.
fn check<T>(schema: &str, samples: Vec<(&'static str, T, Vec<u8>)>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let folder = package().join("tests/data/wire/v1");
    let valid = validator(schema);
    let mut seen = BTreeSet::new();
    for (name, message, body) in samples {
        let header = serde_json::to_vec(&message).unwrap();
        let mut frame = Vec::new();
        encode(&header, &body, &mut frame);
        let kind = schema.trim_end_matches(".schema.json");
        let file = folder.join(format!("{kind}-{name}.bin"));
        if std::env::var_os("SYNCD_BLESS").is_some() && !file.exists() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &frame).unwrap();
        }
        let frozen = std::fs::read(&file).unwrap_or_default();
        assert!(
            frozen == frame,
            "`{}` is what older releases send; now it would be `{}`",
            file.display(),
            frame.escape_ascii()
        );
        let deframer = Deframer::new(MAX_HEADER, MAX_BODY);
        let mut buffer = BytesMut::from(&frozen[..]);
        let read = deframer.next(&mut buffer).unwrap().unwrap();
        assert!(buffer.is_empty());
        assert_eq!(&read.body[..], &body[..]);
        let parsed: T = serde_json::from_slice(&read.header).unwrap();
        assert_eq!(parsed, message);
        let value: Value = serde_json::from_slice(&read.header).unwrap();
        assert!(valid.is_valid(&value), "{value} does not match {schema}");
        seen.extend(value.get("op").and_then(Value::as_str).map(str::to_owned));
    }
    assert_eq!(seen, kinds(schema), "each kind of {schema} has a sample");
}

fn schema(name: &str) -> Value {
    let schemas = schemas();
    let (_, schema) = schemas.iter().find(|(own, _)| *own == name).unwrap();
    serde_json::to_value(schema).unwrap()
}

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&schema(name)).unwrap()
}

/// The values that a schema has for the tag.
fn kinds(name: &str) -> BTreeSet<String> {
    let schema = schema(name);
    let variants = schema.get("oneOf").and_then(Value::as_array);
    let tag = |variant: &Value| {
        let tag = variant.pointer("/properties/op/const")?.as_str()?;
        Some(tag.to_owned())
    };
    variants.into_iter().flatten().filter_map(tag).collect()
}

#[test]
fn frozen_requests_are_still_spoken() {
    check("request.schema.json", requests());
}

#[test]
fn frozen_responses_are_still_spoken() {
    check("response.schema.json", responses());
}

#[test]
fn frozen_join_messages_are_still_spoken() {
    check("join-request.schema.json", join_requests());
    check("join-answer.schema.json", join_answers());
}

#[test]
fn no_frozen_file_is_without_a_sample() {
    let count = requests().len() + responses().len() + join_requests().len() + join_answers().len();
    let files = std::fs::read_dir(package().join("tests/data/wire/v1")).unwrap();
    assert_eq!(files.count(), count);
}

#[test]
fn unknown_fields_and_kinds_are_refused() {
    for header in [
        r#"{"op":"ping","more":1}"#,
        r#"{"op":"of_tomorrow"}"#,
        r#"{"op":"list","id":1,"path":{"hex":"ff","more":1},"after":null}"#,
        r#"{"op":"mutate","id":1,"based_on":0,"ops":[{"do":"delete","path":"x","more":1}]}"#,
        r#"{"op":"upload_data","upload":-1}"#,
    ] {
        assert!(serde_json::from_str::<Request>(header).is_err(), "{header}");
    }
}

fn any_bytes() -> impl Strategy<Value = WireBytes> {
    prop_oneof![
        ".{0,40}".prop_map(|text| WireBytes::new(text.as_bytes())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| WireBytes::new(&bytes)),
    ]
}

fn any_time() -> impl Strategy<Value = WireTime> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| WireTime(secs, nanos))
}

fn any_op() -> impl Strategy<Value = Op> {
    let content = prop_oneof![
        Just(Content::Inline {}),
        any::<u64>().prop_map(|upload| Content::Upload { upload }),
        any_bytes().prop_map(|from| Content::Copy { from }),
    ];
    let one = (any_bytes(), any::<u32>(), any_time());
    prop_oneof![
        (one, any::<u64>(), content).prop_map(|((path, mode, mtime), size, content)| Op::Put {
            path,
            mode,
            mtime,
            size,
            content
        }),
        (any_bytes(), any::<u32>(), any_time()).prop_map(|(path, mode, mtime)| Op::Mkdir {
            path,
            mode,
            mtime
        }),
        (any_bytes(), any_bytes(), any_time()).prop_map(|(path, target, mtime)| Op::Symlink {
            path,
            target,
            mtime
        }),
        (any_bytes(), any::<u32>(), any_time()).prop_map(|(path, mode, mtime)| Op::Attributes {
            path,
            mode,
            mtime
        }),
        any_bytes().prop_map(|path| Op::Delete { path }),
        (any_bytes(), any_bytes()).prop_map(|(from, to)| Op::Rename { from, to }),
        (any_bytes(), any_bytes()).prop_map(|(a, b)| Op::Exchange { a, b }),
    ]
}

fn any_request() -> impl Strategy<Value = Request> {
    let number = any::<u64>;
    prop_oneof![
        (
            any::<u16>(),
            any::<Option<String>>(),
            ".{0,40}",
            ".{0,40}",
            any::<bool>()
        )
            .prop_map(
                |(minor, share, source, source_name, take_over)| Request::Hello {
                    minor,
                    share,
                    source,
                    source_name,
                    take_over
                }
            ),
        (
            number(),
            number(),
            vec(any_op(), 0..5),
            any::<Option<u32>>()
        )
            .prop_map(|(id, based_on, ops, zstd)| Request::Mutate {
                id,
                based_on,
                ops,
                zstd
            }),
        (
            number(),
            proptest::option::of(any_bytes()),
            proptest::option::of(any_bytes()),
            proptest::option::of((number(), number()))
        )
            .prop_map(|(upload, base, path, leftover)| Request::UploadOpen {
                upload,
                base,
                path,
                leftover: leftover.map(|(mark, length)| Continued { mark, length }),
            }),
        (number(), any::<Option<u32>>())
            .prop_map(|(upload, zstd)| Request::UploadData { upload, zstd }),
        (number(), number()).prop_map(|(upload, size)| Request::UploadClose { upload, size }),
        number().prop_map(|upload| Request::UploadAbort { upload }),
        (number(), any_bytes(), proptest::option::of(any_bytes()))
            .prop_map(|(id, path, after)| Request::List { id, path, after }),
        (number(), any_bytes(), any::<u32>(), number(), any::<bool>()).prop_map(
            |(id, path, block, seed, leftover)| Request::Recipe {
                id,
                path,
                block,
                seed,
                leftover,
            }
        ),
    ]
}

fn any_failed() -> impl Strategy<Value = Failed> {
    let code = prop_oneof![
        proptest::sample::select(codes()),
        "new_[a-z]{1,9}".prop_map(Code::Other),
    ];
    (any::<u32>(), code, any::<String>()).prop_map(|(index, code, message)| Failed {
        index,
        code,
        message,
    })
}

fn any_entry() -> impl Strategy<Value = ListEntry> {
    let kind = prop_oneof![
        Just(ListKind::Directory {}),
        any::<u64>().prop_map(|size| ListKind::File { size }),
        any_bytes().prop_map(|target| ListKind::Symlink { target }),
    ];
    (any_bytes(), any::<u32>(), any_time(), kind).prop_map(|(name, mode, mtime, kind)| ListEntry {
        name,
        mode,
        mtime,
        kind,
    })
}

fn any_response() -> impl Strategy<Value = Response> {
    let number = any::<u64>;
    let fault = || proptest::option::of(any_failed());
    prop_oneof![
        (
            any::<u16>(),
            any::<String>(),
            any::<String>(),
            number(),
            any::<bool>()
        )
            .prop_map(|(minor, share, generation, version, first_contact)| {
                Response::Welcome {
                    minor,
                    share,
                    generation,
                    version,
                    first_contact,
                    keeps_setid: None,
                    above: Vec::new(),
                }
            }),
        any_failed().prop_map(|Failed { code, message, .. }| Response::Refused { code, message }),
        (number(), number(), vec(any_failed(), 0..5)).prop_map(|(id, version, failed)| {
            Response::Applied {
                id,
                version,
                failed,
            }
        }),
        number().prop_map(|bytes| Response::Received { bytes }),
        (number(), fault()).prop_map(|(upload, failed)| Response::Staged { upload, failed }),
        (
            number(),
            vec(any_entry(), 0..5),
            proptest::option::of(any_bytes()),
            any::<bool>()
        )
            .prop_map(|(id, entries, more, found)| Response::Listing {
                id,
                entries,
                more,
                found
            }),
        (
            number(),
            number(),
            any::<bool>(),
            fault(),
            any::<Option<u64>>()
        )
            .prop_map(|(id, size, last, failed, leftover)| Response::Recipe {
                id,
                size,
                last,
                failed,
                leftover,
            }),
    ]
}

/// What a message becomes and what comes back, checked against a schema.
fn returns<T>(message: &T, valid: &jsonschema::Validator) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let header = serde_json::to_vec(message).unwrap();
    let parsed: T = serde_json::from_slice(&header).unwrap();
    prop_assert_eq!(&parsed, message);
    prop_assert_eq!(serde_json::to_vec(&parsed).unwrap(), &header[..]);
    let value: Value = serde_json::from_slice(&header).unwrap();
    prop_assert!(valid.is_valid(&value), "{value}");
    Ok(())
}

/// Reads bytes as each message. Nothing is asked but that it returns.
fn read_as_anything(header: &[u8]) {
    drop(serde_json::from_slice::<Request>(header));
    drop(serde_json::from_slice::<Response>(header));
    drop(serde_json::from_slice::<JoinRequest>(header));
    drop(serde_json::from_slice::<JoinAnswer>(header));
}

#[test]
fn messages_return_as_they_were_and_follow_the_schemas() {
    let (requests, responses) = (
        validator("request.schema.json"),
        validator("response.schema.json"),
    );
    proptest!(|(request in any_request(), response in any_response())| {
        returns(&request, &requests)?;
        returns(&response, &responses)?;
    });
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let deframer = Deframer::new(MAX_HEADER, MAX_BODY);
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = deframer.next(&mut buffer) {
            read_as_anything(&frame.header);
        }
        read_as_anything(&bytes);
    }

    #[test]
    fn a_damaged_message_never_panics(
        request in any_request(),
        response in any_response(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let headers = [serde_json::to_vec(&request), serde_json::to_vec(&response)];
        for header in headers {
            let mut header = header.unwrap();
            for (place, byte) in &damage {
                let at = place.index(header.len());
                header[at] = *byte;
            }
            read_as_anything(&header);
            header.truncate(cut.index(header.len() + 1));
            read_as_anything(&header);
        }
    }

    #[test]
    fn frames_come_out_however_they_are_cut(
        bodies in vec(vec(any::<u8>(), 0..60), 1..5),
        step in 1usize..40,
    ) {
        let mut line = Vec::new();
        for body in &bodies {
            encode(b"{}", body, &mut line);
        }
        let deframer = Deframer::new(16, 64);
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for piece in line.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = deframer.next(&mut buffer).unwrap() {
                out.push(frame.body.to_vec());
            }
        }
        prop_assert_eq!(out, bodies);
        prop_assert!(buffer.is_empty());
    }
}
