//! Files that the server keeps in memory.

use super::Used;
use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::sandbox::Finished;
use crate::support::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

impl Used {
    /// What is in memory: size, hits, and how many are being served.
    fn cached(&self) -> BTreeMap<String, (u64, u64, u64)> {
        let out = self.good(&["list", "--cached", "--json"]);
        let lines = out.lines().map(|line| {
            let file: Value = serde_json::from_str(line).unwrap();
            assert!(file["age_ms"].is_u64(), "{file}");
            let number = |name: &str| file[name].as_u64().unwrap();
            let path = file["path"].as_str().unwrap().to_owned();
            (path, (number("size"), number("hits"), number("in_use")))
        });
        lines.collect()
    }

    /// A file that has rested long enough to be kept.
    fn rested(&self, name: &str, content: impl AsRef<[u8]>) {
        self.share(name, content);
        let kept = || {
            drop(self.good(&["get", name, "-"]));
            self.cached().contains_key(name)
        };
        assert!(wait::until(wait::PATIENCE, kept), "`{name}` is kept");
    }

    fn status(&self) -> Value {
        let run = self.sandbox.run(&["status", "--json", "-d", "share"]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let all: Value = serde_json::from_str(&run.out).unwrap();
        all[0]["cache"].clone()
    }

    /// Starts the server again with other settings.
    fn with_settings(&mut self, text: &str) {
        self.server.stop();
        fs::write(self.sandbox.path("server.toml"), text).unwrap();
        let mut command = self.sandbox.syncd();
        command.args(["server", "-d", "share", "-c", "server.toml"]);
        command.args(["--listen", &self.address]);
        self.server = Daemon::server_with(&self.sandbox, "server", &mut command).0;
    }
}

#[test]
fn what_is_fetched_is_kept_and_shown_until_it_changes() {
    let used = Used::new();
    used.rested("d/a", "first");
    let (size, hits, users) = used.cached()["d/a"];
    assert_eq!((size, users), (5, 0));
    used.good(&["get", "d/a", "-"]);
    assert_eq!(used.cached()["d/a"].1, hits + 1);
    let shown = used.good(&["list", "--cached", "d"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("HITS"), "{shown}");
    assert!(lines[1].ends_with("  d/a"), "{shown}");
    assert_eq!(used.good(&["list", "--cached", "other"]), "");
    let status = used.status();
    assert_eq!(status["entries"], 1);
    assert!(status["hits"].as_u64().unwrap() > 0, "{status}");
    let text = used.sandbox.run(&["status", "-d", "share"]).out;
    assert!(text.contains("cache of 64.0 MiB: 1 file"), "{text}");
    // Somebody changes it behind the server's back, with the same length.
    used.share("d/a", "other");
    assert!(used.cached().is_empty());
    assert_eq!(used.good(&["get", "d/a", "-"]), "other");
    used.rested("d/a", "third");
    // Somebody changes it through the server.
    used.write("a", "newer");
    used.good(&["upload", "--force", "a", "d/a"]);
    assert_eq!(used.status()["entries"], 0);
    assert_eq!(used.good(&["get", "d/a", "-"]), "newer");
}

#[test]
fn a_writers_changes_go_out_of_memory() {
    let used = Used::new();
    let source = used.sandbox.dir("source");
    fs::write(source.join("f"), "before").unwrap();
    let _client = Daemon::client(&used.sandbox, &source, &used.address);
    crate::support::tree::assert_converges(&source, &used.share);
    let kept = || {
        drop(used.good(&["get", "f", "-"]));
        used.status()["entries"] == 1
    };
    assert!(wait::until(wait::PATIENCE, kept));
    fs::write(source.join("f"), "after").unwrap();
    let dropped = || used.status()["entries"] == 0;
    assert!(wait::until(wait::PATIENCE, dropped));
    assert_eq!(used.good(&["get", "f", "-"]), "after");
}

#[test]
fn the_bounds_are_settings() {
    let mut used = Used::new();
    used.share("long", noise(1, 300_000));
    used.with_settings("[cache]\nmax_bytes = \"1 MiB\"\nmax_entry = \"200 KiB\"\n");
    for number in 0..8 {
        used.rested(&format!("f{number}"), noise(number, 150_000));
        used.good(&["get", "long", "-"]);
        let cached = used.cached();
        assert!(!cached.contains_key("long"), "{cached:?}");
        assert!(used.status()["bytes"].as_u64().unwrap() <= 1024 * 1024);
    }
    used.with_settings("[cache]\nmax_bytes = 0\n");
    used.good(&["get", "f0", "-"]);
    assert!(used.cached().is_empty());
}

/// The scenario that the cache was asked for.
#[test]
fn two_clients_at_once_get_files_that_do_not_fit_together() {
    let used = Used::new();
    let sizes = [
        5_200_000, 10_500_000, 15_700_000, 21_000_000, 52_400_000, 68_000_000,
    ];
    for (number, size) in (1..).zip(sizes) {
        // As much as two pages of each MiB differ: to make them is quick, and no piece is like another.
        let mut content = vec![0; size];
        for (index, part) in content.chunks_mut(512 * 1024).enumerate() {
            let some = noise(number * 1000 + index as u64, 4096.min(part.len()));
            part[..some.len()].copy_from_slice(&some);
        }
        used.share(&number.to_string(), &content);
    }
    let script = [
        "5", "4", "list", "1", "5", "list", "4", "2", "list", "3", "5", "list", "6", "2", "list",
        "4",
    ];
    std::thread::scope(|scope| {
        for client in ["one", "two"] {
            let used = &used;
            scope.spawn(move || {
                for step in script {
                    if step == "list" {
                        let cached = used.cached();
                        let bytes: u64 = cached.values().map(|file| file.0).sum();
                        assert!(bytes <= 64 * 1024 * 1024, "{cached:?}");
                        assert!(!cached.contains_key("6"), "{cached:?}");
                        continue;
                    }
                    let target = format!("{client}-{step}");
                    used.good(&["get", "--force", step, &target]);
                    let same = same(&used.share.join(step), &used.work.join(&target));
                    assert!(same, "{client} has wrong bytes of {step}");
                    fs::remove_file(used.work.join(&target)).unwrap();
                }
            });
        }
    });
    let cached = used.cached();
    assert!(
        !cached.is_empty() && !cached.contains_key("6"),
        "{cached:?}"
    );
    assert!(cached.values().all(|file| file.2 == 0), "{cached:?}");
}

fn same(one: &std::path::Path, other: &std::path::Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

#[test]
fn many_who_ask_for_a_cold_file_cause_one_read() {
    let used = Used::new();
    let content = noise(3, 4_000_000);
    used.rested("other", "to enrol");
    used.share("cold", &content);
    let settled = std::time::SystemTime::now() + std::time::Duration::from_millis(200);
    assert!(wait::until(wait::PATIENCE, || std::time::SystemTime::now() > settled));
    let before = used.status();
    let gets: Vec<_> = (0..6)
        .map(|_| {
            let mut command = used.command(&["get", "cold", "-"]);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for get in gets {
        let output = get.wait_with_output().unwrap();
        assert!(output.stdout == content, "{}", Finished::of(output).err);
    }
    let after = used.status();
    let misses = |status: &Value| status["misses"].as_u64().unwrap();
    assert_eq!(misses(&after) - misses(&before), 1, "{before} {after}");
}
