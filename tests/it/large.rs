//! Large files: what is sent of a change, windows, files that grow while they are read, ends in the middle.

use crate::support::files::{noise, write};
use crate::support::pair::Pair;
use crate::support::sandbox::Sandbox;
use crate::support::wait;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

#[test]
fn of_a_changed_large_file_only_the_change_is_sent() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    let content = noise(11, 64 * MIB);
    let path = write(&source, "image", &content);
    let pair = Pair::of(sandbox);
    pair.settle();
    let first = pair.sent();
    assert!(first >= content.len() as u64, "{first}");
    let sends = |at_most: u64, change: &dyn Fn()| {
        let before = pair.sent();
        change();
        pair.settle();
        let sent = pair.sent() - before;
        assert!(
            sent <= at_most,
            "{sent} bytes were sent, {at_most} allowed, now {} bytes long",
            fs::metadata(&path).map_or(0, |stat| stat.len())
        );
    };
    let file = File::options().write(true).open(&path).unwrap();
    sends(40_000, &|| {
        file.write_all_at(&noise(12, 4096), 20 * MIB as u64 + 777)
            .unwrap();
    });
    // In each block that changed, only the part that did.
    sends(80_000, &|| {
        for n in 0..100 {
            let place = 600_000 * n + 31;
            file.write_all_at(&noise(n, 16), place).unwrap();
        }
    });
    // Written again as it is.
    sends(2_000, &|| {
        let content = fs::read(&path).unwrap();
        file.write_all_at(&content, 0).unwrap();
    });
    sends(60_000, &|| {
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&noise(13, 1000)).unwrap();
    });
    sends(60_000, &|| {
        let mut changed = b"!".to_vec();
        changed.extend(fs::read(&path).unwrap());
        // Under a name of its own in the source it would be a new file, and be sent as one.
        let beside = pair.sandbox.path("beside");
        fs::write(&beside, changed).unwrap();
        fs::rename(beside, &path).unwrap();
    });
    sends(60_000, &|| {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(50 * MIB as u64).unwrap();
    });
    sends(2_000, &|| {
        fs::rename(&path, path.with_extension("moved")).unwrap();
    });
    pair.stop();
}

#[test]
fn of_a_large_file_that_is_saved_by_renaming_only_the_change_is_sent() {
    let sandbox = Sandbox::new();
    let mut content = noise(14, MIB);
    let path = write(&sandbox.dir("source"), "document", &content);
    let pair = Pair::of(sandbox);
    pair.settle();
    let first = pair.sent();
    for (number, place) in (0u8..).zip([10, 300_000, 900_000]) {
        content[place..place + 50].fill(number);
        let beside = path.with_extension("new");
        fs::write(&beside, &content).unwrap();
        fs::rename(beside, &path).unwrap();
        pair.settle();
    }
    let sent = pair.sent() - first;
    assert!(sent < 60_000, "{sent}");
    pair.stop();
}

#[test]
fn files_larger_than_the_windows_arrive() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    fs::write(
        sandbox.path("server.toml"),
        "[limits]\nwindow = \"2 MiB\"\nmax_frame = \"2 MiB\"\n",
    )
    .unwrap();
    fs::write(
        sandbox.path("client.toml"),
        "block_size = \"4 KiB\"\n[limits]\nwindow = \"64 MiB\"\n",
    )
    .unwrap();
    for n in 0..3 {
        write(&source, &format!("large{n}"), noise(n, 12 * MIB));
    }
    for n in 0..300 {
        write(&source, &format!("small/{n}"), noise(n, 50_000));
    }
    let pair = Pair::of(sandbox);
    pair.settle();
    let before = pair.sent();
    let file = File::options()
        .write(true)
        .open(pair.source.join("large0"))
        .unwrap();
    file.write_all_at(b"x", 5 * MIB as u64).unwrap();
    drop(file);
    pair.settle();
    assert!(
        pair.sent() - before <= 16 * 1024,
        "blocks are as small as set"
    );
    pair.stop();
}

#[test]
fn a_file_that_grows_while_it_is_sent_arrives_in_the_end() {
    let pair = Pair::new();
    let path = write(&pair.source, "log", noise(20, 24 * MIB));
    let mut file = File::options().append(true).open(&path).unwrap();
    let copy = pair.mirror.join("log");
    let mut written = 0u64;
    // Until the mirror has a part of it, or long enough.
    let seen = wait::until(Duration::from_secs(10), || {
        written += 1;
        file.write_all(&noise(written, 10_000)).unwrap();
        copy.metadata().is_ok_and(|stat| stat.len() > 0)
    });
    assert!(seen || !copy.exists());
    drop(file);
    pair.settle();
    pair.stop();
}

#[test]
fn both_sides_end_promptly_in_the_middle_of_an_upload_and_go_on_later() {
    let sandbox = Sandbox::new();
    let mut pair = Pair::of(sandbox);
    let length = 96 * MIB;
    // On a fast disk it may be there already when a busy machine gets round to looking.
    let arrived = |pair: &Pair| {
        let there = pair.mirror.join("big").metadata();
        there.is_ok_and(|file| file.len() == length as u64)
    };
    let begun = |pair: &Pair| {
        let stage = pair.mirror.join(".syncd/stage");
        wait::until(wait::PATIENCE, || {
            let staged = fs::read_dir(&stage).is_ok_and(|files| {
                files
                    .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
                    .any(|length| length > 0)
            });
            staged || arrived(pair)
        })
    };
    let whole_or_absent = |pair: &Pair| arrived(pair) || !pair.mirror.join("big").exists();
    pair.settle();
    // Moved in, so that the source itself never shows a part.
    let made = write(&pair.sandbox.dir("aside"), "big", noise(30, length));
    fs::rename(made, pair.source.join("big")).unwrap();
    assert!(begun(&pair));
    pair.client.stop();
    assert!(whole_or_absent(&pair), "no part is in view");
    pair.restart_client();
    assert!(begun(&pair));
    pair.server.stop();
    assert!(whole_or_absent(&pair), "no part is in view");
    pair.restart_server();
    assert!(begun(&pair));
    pair.server.kill();
    pair.restart_server();
    // A small change does not wait for the large one.
    write(&pair.source, "small", "overtakes");
    pair.settle();
    pair.stop();
}
