use super::{age, bytes, count, number, text};
use crate::daemon::status::Status;
use serde_json::json;

fn shown(value: serde_json::Value) -> String {
    let status: Status = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&status).unwrap(), value);
    text(&status)
}

#[test]
fn a_client_says_what_waits_and_why() {
    let status = json!({
        "role": "client", "source": "/home/me/src", "entries": 12345, "watches": 1, "polled": 2000,
        "servers": [{
            "address": "127.0.0.1:7440", "share": "src", "state": "mirroring", "lag_ms": 1234, "pending": 3,
            "in_flight_bytes": 2048, "sent_bytes": 1_048_576, "sent_files": 1,
            "last_error": "the peer\nERROR closed", "reconnect_in_ms": null,
        }],
        "problems": [{"path": "a\\nb", "message": "permission denied", "since_ms": 61_000}],
        "problems_total": 7,
        "skipped": [{"path": "pipe", "reason": "a pipe"}],
        "skipped_total": 1,
        "ignored_total": 0,
    });
    assert_eq!(
        shown(status),
        "client  /home/me/src
  12,345 entries, 1 directory watched, 2,000 only looked at from time to time
  to 127.0.0.1:7440, share src: mirroring
    1.2 s behind, 3 paths waiting, 2.0 KiB in flight, 1.0 MiB in 1 file sent
    last error: the peer\\nERROR closed
  PROBLEMS: 7 paths, the first 1
    a\\nb: permission denied (for 1 min 1 s)
  skipped by rule: 1 path
    pipe: a pipe
"
    );
}

#[test]
fn what_is_held_or_cannot_be_mirrored_is_not_equal() {
    let peer = |held: serde_json::Value, problems: u64| {
        let mut peer = json!({
            "address": "a:1", "share": null, "state": "idle", "lag_ms": 0, "pending": 0, "in_flight_bytes": 0,
            "sent_bytes": 0, "sent_files": 0, "last_error": null, "reconnect_in_ms": null,
        });
        if held.is_object() {
            peer["held"] = held;
        }
        let status = json!({
            "role": "client", "source": "/s", "entries": 1, "watches": 1, "polled": 0, "servers": [peer],
            "problems": [], "problems_total": problems, "skipped": [], "skipped_total": 0, "ignored_total": 0,
        });
        shown(status).lines().nth(2).unwrap().to_owned()
    };
    let held = json!({"reason": "r", "advice": "a", "entries": 2, "total": 3, "examples": ["d"]});
    let title = "  to a:1, the directory itself: idle, equal";
    assert_eq!(peer(json!(null), 0), title);
    assert_eq!(
        peer(json!(null), 1),
        format!("{title} but for the problems")
    );
    assert_eq!(peer(held, 1), format!("{title} but for what is held"));
}

#[test]
fn a_server_names_shares_writers_and_clients() {
    let status = json!({
        "role": "server", "directory": "/srv/mirror", "listen": ["127.0.0.1:7440"], "server_id": "ab12",
        "shares": [{
            "name": null, "path": "/srv/mirror", "writer": {"device": "laptop", "source": "laptop:/home/me/src"},
            "connected": false, "entries": 2, "version": 1000, "generation": "f00d", "last_commit_age_ms": 5,
            "drift": 1, "kept": ["/srv/mirror/.syncd/kept/2026-01-01T00:00:00Z"], "problems": [], "paused": "the disk is full",
        }],
        "clients": [{"device": "9f", "name": "laptop", "share": null, "since_ms": 90_000_000, "address": "192.0.2.9:50000"}],
        "keys": {"memcached": "127.0.0.1:11211", "keys": 1, "bytes": 2048, "gets": 3, "hits": 2, "sets": 1,
            "unavailable": "the disk is\nfull"},
    });
    assert_eq!(
        shown(status),
        "server  /srv/mirror
  listening on 127.0.0.1:7440
  id ab12
  the directory itself: written by laptop from laptop:/home/me/src, which is away
    /srv/mirror
    2 entries, version 1,000 of f00d, last change 5 ms ago
    PAUSED: the disk is full
    drift: somebody else changed 1 path of the mirror
    kept for 30 days instead of deleted: /srv/mirror/.syncd/kept/2026-01-01T00:00:00Z
  1 key, 2.0 KiB; 3 gets, 2 found, 1 set since the start
    memcached listening on 127.0.0.1:11211
    UNAVAILABLE: the disk is\\nfull
  1 client connected
    laptop from 192.0.2.9:50000, the directory itself, for 1 d 1 h
"
    );
}

#[test]
fn amounts_read_well() {
    assert_eq!(number(0), "0");
    assert_eq!(number(1_234_567), "1,234,567");
    assert_eq!(count(1, "entry"), "1 entry");
    assert_eq!(count(0, "entry"), "0 entries");
    assert_eq!(count(2, "entry"), "2 entries");
    assert_eq!(count(3, "key"), "3 keys");
    assert_eq!(bytes(0), "0 B");
    assert_eq!(age(999), "999 ms");
    assert_eq!(age(59_999), "59.9 s");
    assert_eq!(age(3_600_000), "1 h 0 min");
}
