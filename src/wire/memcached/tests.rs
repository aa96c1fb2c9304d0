use super::{Get, MAX_LINE, Parser, Refusal, Request, Step, Store, Verb};
use bytes::{Bytes, BytesMut};
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

const MAX: usize = 1000;

/// What a stream amounts to when it comes in pieces that end at `cuts`. The keys of one request count as one.
fn read(stream: &[u8], cuts: &[usize]) -> Vec<Step> {
    let mut parser = Parser::new(MAX);
    let mut input = BytesMut::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        input.extend_from_slice(&stream[start..end]);
        start = end;
        loop {
            match parser.step(&mut input) {
                Step::More => break,
                Step::Expect(length) => assert!(length <= MAX),
                Step::Request(Request::Get(get)) => match steps.last_mut() {
                    Some(Step::Request(Request::Get(before))) if before.more => {
                        before.keys.extend(get.keys);
                        before.more = get.more;
                    }
                    _ => steps.push(Step::Request(Request::Get(get))),
                },
                step => steps.push(step),
            }
            assert!(input.len() <= stream.len());
        }
    }
    steps
}

fn texts(stream: &[u8]) -> Vec<&'static str> {
    let refused = read(stream, &[]).into_iter().filter_map(|step| match step {
        Step::Refused(Refusal { text, quiet: false }) => Some(text),
        _ => None,
    });
    refused.collect()
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn requests_are_read_in_both_forms() {
    let store = |verb, flags, expiry, quiet| {
        Step::Request(Request::Store(Store {
            verb,
            key: key("k"),
            flags,
            expiry,
            value: Bytes::from_static(b"a\r\nb"),
            quiet,
        }))
    };
    let stream = b"set k 4294967295 -1 4\r\na\r\nb\r\nset k 4\na\r\nb\r\ncas k 1 2 4 77 noreply\r\na\r\nb\r\n  append  k 0 0 4 \r\na\r\nb\r\n";
    let expected = [
        store(Verb::Set, u32::MAX, -1, false),
        store(Verb::Set, 0, 0, false),
        store(Verb::Cas(77), 1, 2, true),
        store(Verb::Append, 0, 0, false),
    ];
    assert_eq!(read(stream, &[]), expected);
    let stream = b"get a b\r\ngats 5 a\r\ndelete a noreply\r\ndecr a 3\r\ntouch a 9\r\nflush_all 3 noreply\r\nstats items\r\nverbosity 1\r\nversion\r\nquit\r\n";
    let get = |unique, touch, keys: &[&str]| {
        Request::Get(Get {
            unique,
            touch,
            keys: keys.iter().map(|text| key(text)).collect(),
            more: false,
        })
    };
    let expected = [
        get(false, None, &["a", "b"]),
        get(true, Some(5), &["a"]),
        Request::Delete {
            key: key("a"),
            quiet: true,
        },
        Request::Count {
            key: key("a"),
            up: false,
            by: 3,
            quiet: false,
        },
        Request::Touch {
            key: key("a"),
            expiry: 9,
            quiet: false,
        },
        Request::Flush {
            delay: 3,
            quiet: true,
        },
        Request::Stats(key("items")),
        Request::Verbosity { quiet: false },
        Request::Version,
        Request::Quit,
    ];
    assert_eq!(read(stream, &[]), expected.map(Step::Request));
}

#[test]
fn what_is_of_another_protocol_ends_it() {
    let long = format!("POST /{} HTTP/1.1\r\n\r\nversion\r\n", "x".repeat(5000));
    for stream in [
        &b"\x80\x0a\r\nversion\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nversion\r\n",
        b"PUT x\r\nversion\r\n",
        long.as_bytes(),
    ] {
        for cuts in [&[][..], &[1], &[2, 4, 7], &[2100]] {
            assert_eq!(read(stream, cuts), [Step::Request(Request::Quit)]);
        }
    }
    // Only at the start: a value that was announced too short may hold anything.
    let shifted = read(b"set a 0 0 1\r\nxyz\x80\r\n\x80\r\nversion\r\n", &[]);
    assert_eq!(shifted.last(), Some(&Step::Request(Request::Version)));
}

#[test]
fn what_is_no_request_is_answered_as_memcached_does() {
    let long = "k".repeat(251);
    let rows: &[(String, &[&str])] = &[
        (
            "\r\n   \r\nfoo\r\nget\r\nset a\r\nGET a\r\n".to_owned(),
            &["ERROR"; 6],
        ),
        (
            "set a x 0 1\r\n".to_owned(),
            &["CLIENT_ERROR bad command line format"],
        ),
        (
            "set a 0 0 -1\r\n".to_owned(),
            &["CLIENT_ERROR bad command line format"],
        ),
        (
            "set a -1 0 1\r\n".to_owned(),
            &["CLIENT_ERROR bad command line format"],
        ),
        (
            "set a 0 0 99999999999\r\n".to_owned(),
            &["CLIENT_ERROR bad data chunk"],
        ),
        (
            format!("get a {long} b\r\n"),
            &["CLIENT_ERROR bad command line format"],
        ),
        (
            "get a\u{1}b\r\n".to_owned(),
            &["CLIENT_ERROR bad command line format"],
        ),
        (
            "incr a x\r\n".to_owned(),
            &["CLIENT_ERROR invalid numeric delta argument"],
        ),
        (
            "gat x a\r\n".to_owned(),
            &["CLIENT_ERROR invalid exptime argument"],
        ),
        (
            "delete a 1\r\n".to_owned(),
            &["CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]"],
        ),
        // What follows a value that is longer than announced is the next line.
        (
            "set a 0 0 3\r\nabcdef\r\n".to_owned(),
            &["CLIENT_ERROR bad data chunk", "ERROR"],
        ),
        // A value that is too large is skipped, with the answer before.
        (
            format!("set a 0 0 1001\r\n{}\r\nfoo\r\n", "x".repeat(1001)),
            &["SERVER_ERROR object too large for cache", "ERROR"],
        ),
        (
            format!("set a 0 0 1001 noreply\r\n{}\r\n", "x".repeat(1001)),
            &[],
        ),
    ];
    for (stream, expected) in rows {
        assert_eq!(texts(stream.as_bytes()), *expected, "{stream}");
    }
}

#[test]
fn a_line_that_is_too_long_is_skipped_and_a_long_list_of_keys_is_not() {
    let long = format!("{}\r\nfoo\r\n", "x".repeat(3 * MAX_LINE));
    assert_eq!(texts(long.as_bytes()), ["ERROR"; 2]);
    let mut parser = Parser::new(MAX);
    let mut input = BytesMut::from(&vec![b'x'; 3 * MAX_LINE][..]);
    assert!(matches!(parser.step(&mut input), Step::Refused(_)));
    assert_eq!(
        (parser.step(&mut input), input.len()),
        (Step::More, 0),
        "nothing of it is kept"
    );
    let names: Vec<String> = (0..5000).map(|n| format!("key-{n}")).collect();
    let stream = format!("gets {}\r\nversion\r\n", names.join(" "));
    let steps = read(stream.as_bytes(), &[3000, 20_000]);
    let [
        Step::Request(Request::Get(get)),
        Step::Request(Request::Version),
    ] = &steps[..]
    else {
        panic!("{steps:?}");
    };
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(get.unique && !get.more);
    assert_eq!(get.keys, keys);
    // A key without end in the middle of such a list costs the list, not the connection.
    let stream = format!(
        "get {} {}\r\nversion\r\n",
        names.join(" "),
        "k".repeat(9000)
    );
    let steps = read(stream.as_bytes(), &[3000, 60_000, 64_000]);
    assert_eq!(steps.last(), Some(&Step::Request(Request::Version)));
}

/// Lines and values, good and bad, and bytes of any kind.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        "[a-z]{1,6}",
        "[0-9]{1,12}",
        "-?[0-9]{1,3}",
        "k{240,260}",
        "noreply"
    ];
    let command = prop_oneof![
        "(set|add|cas|append) [ab] [0-9] -?[0-9]{1,2} [0-9]( [0-9])?( noreply)?\r?\n[a-z\r\n]{0,9}\r\n",
        "(get|gets|gat 1) ([a-d] ){0,9}\r\n",
        "(incr|decr|touch|delete) a [0-9]{1,3}( noreply)?\r\n",
        "(flush_all|version|stats|verbosity)( [0-9])?\r\n",
        "get( k{1,200}){0,40}\r\n",
    ];
    let piece = prop_oneof![
        4 => command.prop_map(String::into_bytes),
        1 => word.prop_map(|word| format!("{word} ").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn requests_do_not_depend_on_how_the_stream_is_split(
        stream in streams(),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let whole = read(&stream, &[]);
        // A list of keys may be refused with or without the part that was good; nothing else depends on the cuts.
        let plain = |steps: Vec<Step>| -> Vec<Step> {
            steps
                .into_iter()
                .filter(|step| !matches!(step, Step::Request(Request::Get(get)) if get.more))
                .collect()
        };
        let every: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(plain(read(&stream, &cuts)), plain(whole.clone()));
        prop_assert_eq!(plain(read(&stream, &every)), plain(whole));
    }
}
