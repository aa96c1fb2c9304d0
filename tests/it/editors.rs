//! How editors save, with somebody who reads the mirror all the while: the path never vanishes, is never empty or torn,
//! and never goes back. Some saves follow each other at once, some are a few moments apart: those are where a hold ends.

use crate::support::files::write;
use crate::support::pair::Pair;
use crate::support::wait;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many lines even and odd versions have, of 15 bytes each. What has more than 64 KiB is an upload of its own.
type Lines = [usize; 2];
const SMALL: Lines = [400, 403];
const LARGE: Lines = [3 << 16, (3 << 16) + 1];
const BOTH: Lines = [400, 100_000];

/// A content that shows its number everywhere.
fn version(number: u32, lines: Lines) -> String {
    format!("version {number:06}\n").repeat(lines[number as usize % 2])
}

/// Reads a file of the mirror again and again; how many reads saw a version, or what was wrong.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32, String>>,
}

impl Reader {
    fn start(path: PathBuf, lines: Lines) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut last, mut reads) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                last = read(&path, last, lines)?;
                reads += 1;
                // Two cores are also needed by those that are watched.
                std::thread::yield_now();
            }
            Ok(reads)
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let reads = self.thread.join().unwrap().unwrap();
        assert!(reads > 20, "only {reads} reads");
    }
}

fn read(path: &Path, last: u32, lines: Lines) -> Result<u32, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("it vanished after version {last}"));
        }
        Err(error) => return Err(error.to_string()),
    };
    let Some(number) = text
        .get("version ".len().."version 000000".len())
        .and_then(|number| number.parse::<u32>().ok())
    else {
        return Err(format!("{} bytes after version {last}", text.len()));
    };
    if text != version(number, lines) {
        return Err(format!("version {number} is torn: {} bytes", text.len()));
    }
    if number < last {
        return Err(format!("version {number} after {last}"));
    }
    Ok(number)
}

/// Saves small versions, four in a row without a flush between them, closer together or further apart; then large ones, and
/// small and large in turn.
fn check(save: impl Fn(&Path, &str)) {
    let pair = Pair::new();
    saves(&pair, "small.txt", &save, SMALL, &[0, 3, 0, 25, 48, 53]);
    saves(&pair, "large.txt", &save, LARGE, &[0]);
    saves(&pair, "both.txt", &save, BOTH, &[0, 10]);
    pair.stop();
}

fn saves(pair: &Pair, name: &str, save: &impl Fn(&Path, &str), lines: Lines, pauses: &[u64]) {
    let name = format!("project/{name}");
    let doc = write(&pair.source, &name, version(0, lines));
    pair.settle();
    let reader = Reader::start(pair.mirror.join(&name), lines);
    let mut number = 0;
    for pause in pauses {
        for _ in 0..4 {
            number += 1;
            save(&doc, &version(number, lines));
            // Not for anything to happen: so that saves meet all that follows from the one before.
            let _never = wait::until(Duration::from_millis(*pause), || false);
        }
        if *pause == 0 {
            pair.settle();
        }
    }
    pair.settle();
    reader.end();
}

fn beside(doc: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", doc.display()))
}

fn write_in_pieces(file: &mut File, text: &str) {
    for part in text.as_bytes().chunks(256 << 10) {
        file.write_all(part).unwrap();
    }
}

fn write_in_place(doc: &Path, text: &str) {
    let mut file = File::options()
        .write(true)
        .truncate(true)
        .open(doc)
        .unwrap();
    write_in_pieces(&mut file, text);
    file.sync_all().unwrap();
}

fn write_anew(doc: &Path, text: &str) {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(doc)
        .unwrap();
    write_in_pieces(&mut file, text);
    file.sync_all().unwrap();
}

#[test]
fn vim_renames_and_writes_anew() {
    check(|doc, text| {
        // A name that it tries out whether it may write here at all.
        let trial = doc.with_file_name("4913");
        write_anew(&trial, "");
        fs::remove_file(trial).unwrap();
        fs::rename(doc, beside(doc, "~")).unwrap();
        write_anew(doc, text);
        fs::remove_file(beside(doc, "~")).unwrap();
    });
}

#[test]
fn vim_copies_and_writes_in_place() {
    check(|doc, text| {
        fs::copy(doc, beside(doc, "~")).unwrap();
        write_in_place(doc, text);
        fs::remove_file(beside(doc, "~")).unwrap();
    });
}

#[test]
fn emacs_keeps_the_old_version_as_a_backup() {
    check(|doc, text| {
        fs::rename(doc, beside(doc, "~")).unwrap();
        write_anew(doc, text);
    });
}

#[test]
fn jetbrains_swaps_through_two_names() {
    check(|doc, text| {
        fs::write(beside(doc, "___jb_tmp___"), text).unwrap();
        fs::rename(doc, beside(doc, "___jb_old___")).unwrap();
        fs::rename(beside(doc, "___jb_tmp___"), doc).unwrap();
        fs::remove_file(beside(doc, "___jb_old___")).unwrap();
    });
}

#[test]
fn vs_code_truncates_and_writes_in_place() {
    check(write_in_place);
}

#[test]
fn writing_beside_and_renaming_over() {
    check(|doc, text| {
        let other = doc.with_file_name("sedXb3k2Q");
        fs::write(&other, text).unwrap();
        fs::rename(other, doc).unwrap();
    });
}

#[test]
fn removing_and_writing_at_once_is_one_change() {
    check(|doc, text| {
        fs::remove_file(doc).unwrap();
        write_anew(doc, text);
    });
}

#[test]
fn sed_in_place() {
    // Its own way, whatever that is; the size stays as it was.
    let pair = Pair::new();
    let doc = write(&pair.source, "project/doc.txt", version(0, SMALL));
    pair.settle();
    let reader = Reader::start(pair.mirror.join("project/doc.txt"), SMALL);
    for number in (2..40).step_by(2) {
        let done = Command::new("sed")
            .arg("-i")
            .arg(format!("s/[0-9]*$/{number:06}/"))
            .arg(&doc)
            .status()
            .unwrap();
        assert!(done.success());
    }
    pair.settle();
    reader.end();
    pair.stop();
}
