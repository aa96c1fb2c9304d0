//! `syncd bench`: data sets that a seed decides, and a benchmark that leaves nothing behind.

use crate::support::daemon::Daemon;
use crate::support::sandbox::Sandbox;
use crate::support::wait;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What a directory holds, by name.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap();
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(&path).unwrap())
    };
    entries.map(entry).collect()
}

/// What is run, and what it prints when all is well.
fn good(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let run = sandbox.run(arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
    run.out
}

fn data(sandbox: &Sandbox, seed: &str, directory: &str) -> String {
    let sizes = ["--files", "5", "--size", "1KB..2KB", "--seed", seed];
    good(
        sandbox,
        &[&["bench", "data"], &sizes[..], &[directory]].concat(),
    )
}

/// Whether a process runs that has the sandbox's path among its arguments.
fn is_somebody_there(sandbox: &Sandbox) -> bool {
    let own = sandbox.root().as_os_str().as_bytes().to_vec();
    fs::read_dir("/proc").unwrap().any(|entry| {
        // A process may end while it is looked at.
        let line = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        line.windows(own.len()).any(|part| part == own)
    })
}

#[test]
fn a_seed_gives_the_same_files() {
    let sandbox = Sandbox::new();
    let said = data(&sandbox, "7", "a");
    assert!(
        said.starts_with("5 files, 0.0 MB, in `a` (seed 7)"),
        "{said}"
    );
    data(&sandbox, "7", "b");
    data(&sandbox, "8", "c");
    let (a, c) = (content(&sandbox.path("a")), content(&sandbox.path("c")));
    assert_eq!(a, content(&sandbox.path("b")));
    assert_eq!((a.len(), c.len()), (5, 5));
    assert!(a.keys().all(|name| !c.contains_key(name)));
    let sizes: Vec<usize> = a.values().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| (1000..=2000).contains(size)));
    assert!(sizes.iter().any(|size| *size != sizes[0]));
}

#[test]
fn a_directory_that_holds_something_is_left_alone() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.dir("full").join("mine"), "mine").unwrap();
    let refused = sandbox.run(&["bench", "data", "--files", "1", "--size", "1KB", "full"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    assert!(refused.err.contains("`full` is not empty") || refused.err.contains("is not empty"));
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(content(&sandbox.path("full")).len(), 1);
    let forced = [
        "bench", "data", "--files", "1", "--size", "1KB", "--force", "full",
    ];
    good(&sandbox, &forced);
    let full = content(&sandbox.path("full"));
    assert_eq!((full.len(), full["mine"].as_slice()), (2, &b"mine"[..]));
    // The same files again are the same files.
    good(&sandbox, &forced);
    assert_eq!(content(&sandbox.path("full")), full);
}

#[test]
fn samples_are_copied() {
    let sandbox = Sandbox::new();
    let samples = sandbox.dir("samples");
    let from = [
        "bench", "data", "--files", "20", "--from", "samples", "copies",
    ];
    let empty = sandbox.run(&from);
    assert_eq!(empty.code, Some(2), "{}", empty.err);
    assert!(!sandbox.path("copies").exists());
    fs::create_dir(samples.join("below")).unwrap();
    fs::write(samples.join("below/a.txt"), "text").unwrap();
    fs::write(samples.join("b.bin"), vec![7; 3000]).unwrap();
    let said = good(&sandbox, &from);
    assert!(said.contains("copies from `samples`"), "{said}");
    let copies = content(&sandbox.path("copies"));
    assert_eq!(copies.len(), 20);
    let texts = copies.iter().filter(|(name, _)| name.ends_with(".txt"));
    let texts: Vec<_> = texts.map(|(_, bytes)| bytes).collect();
    assert!(!texts.is_empty() && texts.len() < 20);
    assert!(texts.iter().all(|bytes| bytes.as_slice() == b"text"));
}

#[test]
fn each_number_of_jobs_is_measured_and_nothing_is_left() {
    let sandbox = Sandbox::new();
    good(
        &sandbox,
        &[
            "bench",
            "data",
            "--files",
            "6",
            "--size",
            "100KB..200KB",
            "set/files",
        ],
    );
    fs::create_dir(sandbox.path("set/files/below")).unwrap();
    fs::write(sandbox.path("set/files/below/small"), "small").unwrap();
    let run = [
        "bench",
        "concurrency",
        "--jobs",
        "1,3",
        "--rounds",
        "2",
        "--json",
        "out.json",
        "set/files",
    ];
    let table = good(&sandbox, &run);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!((rows[0][0], rows[1][0], rows[2][0]), ("jobs", "1", "3"));
    let json = fs::read(sandbox.path("out.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["files"], 7);
    let runs = json["runs"].as_array().unwrap();
    let order = runs.iter().map(|run| run["jobs"].as_u64().unwrap());
    assert_eq!(order.collect::<Vec<_>>(), [1, 3, 3, 1]);
    for run in runs {
        let of = |key: &str| run[key].as_f64().unwrap();
        assert!(of("seconds") > 0.0 && of("mb_per_second") > 0.0);
        assert!(of("file_p50_seconds") > 0.0);
        assert!(of("file_p99_seconds") >= of("file_p50_seconds"));
        assert!(of("file_p99_seconds") <= of("seconds"));
        assert!(of("client_cpu_seconds") + of("server_cpu_seconds") > 0.0);
    }
    let left = fs::read_dir(sandbox.path("set")).unwrap().count();
    assert_eq!(left, 1, "only the data set");
    // Neither keys nor state of the person who measures.
    assert!(!sandbox.path("home/.local").exists());
}

#[test]
fn what_is_no_data_set_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.dir("empty");
    for (code, arguments) in [
        (2, &["bench", "concurrency", "empty"][..]),
        (7, &["bench", "concurrency", "absent"]),
        (2, &["bench", "concurrency", "--jobs", "0", "empty"]),
        (2, &["bench", "data", "--size", "2MB..1MB", "new"]),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.err);
    }
    assert!(!sandbox.path("new").exists());
}

/// A benchmark in its middle.
fn under_way(sandbox: &Sandbox) -> Daemon {
    let sizes = ["--files", "4", "--size", "10KB", "set/files"];
    good(sandbox, &[&["bench", "data"], &sizes[..]].concat());
    let mut command = sandbox.syncd();
    command.args(["bench", "concurrency", "--rounds", "1000"]);
    command.arg(sandbox.path("set/files"));
    let mut bench = Daemon::start(sandbox, "bench", &mut command);
    let begun = wait::until(wait::PATIENCE, || {
        bench.err().contains("round 1 of 1000") || !bench.runs()
    });
    assert!(begun && bench.runs(), "{}", bench.err());
    bench
}

#[test]
fn what_is_interrupted_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut bench = under_way(&sandbox);
    bench.signal(Signal::INT);
    let status = bench.end(Duration::from_secs(15));
    assert_eq!(status.code(), Some(1), "{}", bench.err());
    assert!(bench.err().contains("stopped before"), "{}", bench.err());
    assert_eq!(fs::read_dir(sandbox.path("set")).unwrap().count(), 1);
    assert!(!is_somebody_there(&sandbox));
}

#[test]
fn the_server_ends_with_a_benchmark_that_is_killed() {
    let sandbox = Sandbox::new();
    let mut bench = under_way(&sandbox);
    assert!(is_somebody_there(&sandbox));
    bench.kill();
    assert!(
        wait::until(wait::PATIENCE, || !is_somebody_there(&sandbox)),
        "a server goes on"
    );
}
