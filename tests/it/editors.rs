//! How editors save, with somebody who reads the mirror all the while: the path never vanishes, is never empty or torn,
//! and never goes back.

use crate::support::files::write;
use crate::support::pair::Pair;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const LINES: usize = 400;

fn version(number: u32) -> String {
    format!("version {number:06}\n").repeat(LINES)
}

/// Reads a file of the mirror again and again; how many reads saw a version, or what was wrong.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u32, String>>,
}

impl Reader {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut last, mut reads) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                last = read(&path, last)?;
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

fn read(path: &Path, last: u32) -> Result<u32, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("it vanished".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let Some(number) = text
        .get("version ".len().."version 000000".len())
        .and_then(|number| number.parse::<u32>().ok())
    else {
        return Err(format!("{} bytes after version {last}", text.len()));
    };
    if text != version(number) {
        return Err(format!("version {number} is torn: {} bytes", text.len()));
    }
    if number < last {
        return Err(format!("version {number} after {last}"));
    }
    Ok(number)
}

/// Saves 40 versions one way, each `batch`-th after all before it were mirrored.
fn check(batch: u32, save: impl Fn(&Path, &str)) {
    let pair = Pair::new();
    let doc = write(&pair.source, "project/doc.txt", version(0));
    pair.settle();
    let reader = Reader::start(pair.mirror.join("project/doc.txt"));
    for number in 1..=40 {
        save(&doc, &version(number));
        if number % batch == 0 {
            pair.settle();
        }
    }
    pair.settle();
    reader.end();
    pair.stop();
}

fn beside(doc: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", doc.display()))
}

#[test]
fn vim_renames_and_writes_anew() {
    check(1, |doc, text| {
        fs::rename(doc, beside(doc, "~")).unwrap();
        fs::write(doc, text).unwrap();
        fs::remove_file(beside(doc, "~")).unwrap();
    });
}

#[test]
fn jetbrains_swaps_through_two_names() {
    check(1, |doc, text| {
        fs::write(beside(doc, "___jb_tmp___"), text).unwrap();
        fs::rename(doc, beside(doc, "___jb_old___")).unwrap();
        fs::rename(beside(doc, "___jb_tmp___"), doc).unwrap();
        fs::remove_file(beside(doc, "___jb_old___")).unwrap();
    });
}

#[test]
fn vs_code_truncates_and_writes_in_place() {
    check(1, |doc, text| {
        let mut file = File::options().write(true).open(doc).unwrap();
        file.set_len(0).unwrap();
        for part in text.as_bytes().chunks(1024) {
            file.write_all(part).unwrap();
        }
        file.sync_all().unwrap();
    });
}

#[test]
fn sed_writes_beside_and_renames_over() {
    check(5, |doc, text| {
        let other = doc.with_file_name("sedXb3k2Q");
        fs::write(&other, text).unwrap();
        fs::rename(other, doc).unwrap();
    });
}

#[test]
fn removing_and_writing_at_once_is_one_change() {
    check(1, |doc, text| {
        fs::remove_file(doc).unwrap();
        fs::write(doc, text).unwrap();
    });
}
