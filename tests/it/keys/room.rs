//! A disk that the keys themselves have filled: what is removed makes room again.

use crate::support::files::noise;
use crate::support::memcached::{Client, serve};
use crate::support::mounted::{Mounted, assert_cannot_mount, mount};
use crate::support::sandbox::Sandbox;
use crate::support::wait;

const STORED: &str = "STORED";
const FULL: &str = "SERVER_ERROR out of storage";

fn state(sandbox: &Sandbox, size: &str) -> Option<Mounted> {
    let state = sandbox.dir("home/.local/state");
    let size = format!("size={size}");
    let path = state.to_str().unwrap();
    if !mount(&["-t", "tmpfs", "-o", &size, "syncd-test", path]) {
        assert_cannot_mount();
        return None;
    }
    Some(Mounted(state))
}

#[test]
fn a_disk_full_of_keys_is_emptied_by_removing_them() {
    let sandbox = Sandbox::new();
    let Some(_mounted) = state(&sandbox, "24m") else {
        return;
    };
    let (mut server, _, port) = serve(&sandbox, "");
    let mut client = Client::connect(&port);
    let mut stored = Vec::new();
    // To the last byte.
    for size in [1_000_000, 100_000, 10_000, 1000, 1] {
        let value = noise(size as u64, size);
        loop {
            let key = format!("{size}-{}", stored.len());
            match client.set(&key, &value).unwrap() {
                word if word == STORED => stored.push((key, value.clone())),
                word => {
                    assert_eq!(word, FULL);
                    break;
                }
            }
            assert!(stored.len() < 40_000, "the disk is not that large");
        }
    }
    for (key, value) in stored.iter().take(30) {
        assert!(client.get(key).as_ref() == Some(value), "{key}");
    }
    for (key, _) in stored.drain(..10) {
        client.says(format!("delete {key}\r\n"), "DELETED\r\n");
    }
    let value = noise(1, 1_000_000);
    let mut again = || client.set("again", &value).unwrap() == STORED;
    assert!(wait::until(wait::PATIENCE, &mut again));
    assert!(client.get("again").as_ref() == Some(&value));
    for (key, value) in &stored {
        assert!(client.get(key).as_ref() == Some(value), "{key}");
    }
    server.stop();
}

#[test]
fn somebody_who_reads_slowly_fills_no_disk_for_ever() {
    let sandbox = Sandbox::new();
    let Some(_mounted) = state(&sandbox, "80m") else {
        return;
    };
    let (mut server, _, port) = serve(&sandbox, "");
    let mut client = Client::connect(&port);
    let large = noise(1, 16 * 1024 * 1024);
    assert_eq!(client.set("large", &large).unwrap(), STORED);
    // What it reads must stay as it is, whatever is stored meanwhile.
    let mut slow = Client::connect(&port);
    assert!(slow.send("get large\r\n"));
    assert!(slow.receive(1000).is_some());
    let value = noise(2, 1_000_000);
    let full = (0..200).any(|_| client.set("again", &value).unwrap() == FULL);
    assert!(full, "it is not held");
    drop(slow);
    let mut again = || client.set("again", &value).unwrap() == STORED;
    assert!(wait::until(wait::PATIENCE, &mut again));
    for _ in 0..100 {
        assert_eq!(client.set("again", &value).unwrap(), STORED);
    }
    assert!(client.get("large").as_ref() == Some(&large));
    server.stop();
}
