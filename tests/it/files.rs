//! `list`, `get`, `upload`, `delete` and `rename`: a share that is used without being mirrored.

mod cached;
mod ended;
mod everywhere;
mod full;
mod many;
mod odd;
mod progress;
mod refusals;
mod resumed;
mod several;
mod stalled;
mod trees;

use crate::support::daemon::Daemon;
use crate::support::files::noise;
use crate::support::sandbox::{Finished, Sandbox};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A server, and a directory for those who use it.
struct Used {
    sandbox: Sandbox,
    server: Daemon,
    address: String,
    share: PathBuf,
    work: PathBuf,
}

impl Used {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let (share, work) = (sandbox.dir("share"), sandbox.dir("work"));
        let (server, address) = Daemon::server(&sandbox, &share);
        Self {
            sandbox,
            server,
            address,
            share,
            work,
        }
    }

    /// The program in the directory of those who use the share.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_over(&self.address, arguments)
    }

    fn command_over(&self, address: &str, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.syncd();
        command.env("SYNCD_SERVER", address);
        command.current_dir(&self.work).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.command(arguments).output().unwrap())
    }

    /// What it prints when everything is well.
    fn good(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(
            run.code,
            Some(0),
            "{arguments:?}: {}{}",
            run.err,
            self.server.err()
        );
        run.out
    }

    /// What it says when it is not.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.err);
        run.err
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        crate::support::files::write(&self.work, name, content);
    }

    fn share(&self, name: &str, content: impl AsRef<[u8]>) {
        crate::support::files::write(&self.share, name, content);
    }

    /// Starts the server again where it was.
    fn restart(&mut self) {
        let mut command = self.sandbox.syncd();
        command.args(["server", "-d", "share", "--listen", &self.address]);
        self.server = Daemon::server_with(&self.sandbox, "server", &mut command).0;
    }

    /// `sha256sum -c` of what was printed, in the directory of those who use the share.
    fn check(&self, sums: &str) {
        fs::write(self.work.join(".sums"), sums).unwrap();
        let check = Command::new("sha256sum")
            .args(["-c", "--strict", ".sums"])
            .current_dir(&self.work)
            .output();
        let check = Finished::of(check.unwrap());
        assert_eq!(check.code, Some(0), "{sums}{}{}", check.out, check.err);
        fs::remove_file(self.work.join(".sums")).unwrap();
    }

    /// What is in the work directory, hidden names too.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.work).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_goes_there_and_back_with_its_sum_mode_and_time() {
    let used = Used::new();
    let content = noise(1, 3_000_000);
    used.write("one", &content);
    used.write("empty", "");
    used.write("odd \\ na\nme", "x");
    crate::support::files::chmod(&used.work.join("one"), 0o640);
    crate::support::files::set_mtime(&used.work.join("one"), (1_600_000_000, 123_456_789));
    let sums = used.good(&["upload", "one", "empty", "odd \\ na\nme", "/"]);
    assert_eq!(sums.lines().count(), 3, "{sums}");
    used.check(&sums);
    assert_eq!(fs::read(used.share.join("one")).unwrap(), content);
    used.write("back/.keep", "");
    let sums = used.good(&["get", "one", "empty", "odd*", "back"]);
    used.check(&sums);
    assert!(sums.contains("  back/one\n"), "{sums}");
    let left = crate::support::tree::differences(&used.share.join("one"), &used.work.join("one"));
    assert!(left.is_empty(), "{left:?}");
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(used.work.join("back/one")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o640);
    assert_eq!(
        (found.mtime(), found.mtime_nsec()),
        (1_600_000_000, 123_456_789)
    );
    assert_eq!(fs::read(used.work.join("back/one")).unwrap(), content);
    // Without a place it goes where one is.
    fs::remove_file(used.work.join("one")).unwrap();
    let sums = used.good(&["get", "/one"]);
    assert!(sums.ends_with("  one\n"), "{sums}");
    used.check(&sums);
}

#[test]
fn standard_input_and_output_are_files_too() {
    let used = Used::new();
    let content = noise(2, 700_000);
    used.write("in", &content);
    let input = fs::File::open(used.work.join("in")).unwrap();
    let sent = used
        .command(&["upload", "-", "piped"])
        .stdin(input)
        .output();
    let sent = Finished::of(sent.unwrap());
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    assert!(sent.out.ends_with("  -\n"), "{}", sent.out);
    assert_eq!(fs::read(used.share.join("piped")).unwrap(), content);
    let got = used.command(&["get", "piped", "-"]).output().unwrap();
    assert_eq!(got.status.code(), Some(0));
    assert!(got.stdout == content, "the content alone is the output");
    let sum = String::from_utf8(got.stderr).unwrap();
    assert!(sum.contains(&sent.out), "{sum}");
    // Standard input has no name of its own.
    let unnamed = used.command(&["upload", "-"]).stdin(Stdio::null()).output();
    let unnamed = Finished::of(unnamed.unwrap());
    assert_eq!(unnamed.code, Some(3), "{}", unnamed.err);
    assert!(unnamed.err.contains("has no name"), "{}", unnamed.err);
    used.bad(2, &["get", "--recursive", "piped", "-"]);
}

#[test]
fn a_listing_is_read_from_the_disk_and_names_are_exact_for_machines() {
    let used = Used::new();
    assert_eq!(used.good(&["list"]), "");
    used.share("b", "12345");
    used.share("d/e/f", "1");
    used.share("tab\there", "");
    std::os::unix::fs::symlink("e/f", used.share.join("d/l")).unwrap();
    crate::support::files::mkfifo(&used.share.join("d/pipe"));
    crate::support::files::set_mtime(&used.share.join("b"), (1_600_000_000, 5));
    crate::support::files::chmod(&used.share.join("b"), 0o604);
    assert_eq!(used.good(&["list"]), "b\nd\ntab\\there\n");
    assert_eq!(used.good(&["list", "d"]), "e\nl\n");
    let all = used.good(&["list", "--recursive"]);
    assert_eq!(all, "b\nd\ntab\\there\nd/e\nd/l\nd/e/f\n");
    let long = used.good(&["list", "--long", "b"]);
    assert_eq!(long, "-rw----r--              5 2020-09-13T12:26:40Z b\n");
    let lines = used.good(&["list", "--json"]);
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = serde_json::json!({
        "path": "b", "kind": "file", "size": 5, "mode": "0604", "mtime": [1_600_000_000, 5]
    });
    assert_eq!(lines[0], expected);
    assert_eq!(lines[2]["path"], "tab\there");
    let link = used.good(&["list", "--json", "d/l"]);
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    assert_eq!(
        (&link["kind"], &link["target"]),
        (&"symlink".into(), &"e/f".into())
    );
    // Patterns are about the share's names; a dot in front has to be said.
    used.share(".hidden", "");
    assert_eq!(used.good(&["list", "[bt]*"]), "b\ntab\\there\n");
    assert_eq!(used.good(&["list", "d/*/f"]), "d/e/f\n");
    assert!(
        used.bad(3, &["list", "z*"])
            .contains("nothing in the share matches `z*`")
    );
    assert!(
        used.bad(3, &["list", "b", "nope"])
            .contains("there is no `nope`")
    );
    assert!(
        used.bad(2, &["list", "../x"])
            .contains("no path of a share")
    );
    assert!(
        used.bad(2, &["list", ".syncd"])
            .contains("belongs to syncd")
    );
}

#[test]
fn a_directory_of_many_names_is_listed_whole_and_in_order() {
    let used = Used::new();
    let names: Vec<String> = (0..1500).map(|number| format!("n{number:05}")).collect();
    for name in &names {
        used.share(name, "");
    }
    let listed = used.good(&["list"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), names);
}

#[test]
fn a_link_is_followed_as_cp_follows_it() {
    let used = Used::new();
    used.write("d/in", "in");
    std::os::unix::fs::symlink("d", used.work.join("dir")).unwrap();
    std::os::unix::fs::symlink("d/in", used.work.join("file")).unwrap();
    used.good(&["upload", "file", "plain"]);
    assert!(used.bad(3, &["upload", "dir"]).contains("`--recursive`"));
    used.good(&["upload", "-r", "file", "dir", "/"]);
    let target = |name: &str| fs::read_link(used.share.join(name)).ok();
    assert_eq!(target("plain"), None);
    assert_eq!(target("file"), Some("d/in".into()));
    assert_eq!(target("dir"), Some("d".into()));
    used.good(&["upload", "-r", "dir/", "copy"]);
    assert_eq!(fs::read(used.share.join("copy/in")).unwrap(), b"in");
}

#[test]
fn delete_and_rename_are_what_rm_and_mv_are() {
    let used = Used::new();
    for name in ["a", "b", "x.log", "y.log", "d/f", "full/f", "e/f"] {
        used.share(name, name);
    }
    used.good(&["delete", "*.log"]);
    assert!(
        used.bad(3, &["delete", "d"])
            .contains("is a directory: `--recursive`")
    );
    assert!(
        used.bad(3, &["delete", "nope", "a"])
            .contains("there is no `nope`")
    );
    assert!(!used.share.join("a").exists(), "the others go");
    used.good(&["delete", "--recursive", "d/"]);
    assert!(
        used.bad(3, &["delete", "-r", "/"])
            .contains("is not removed")
    );
    assert_eq!(used.good(&["list"]), "b\ne\nfull\n");
    // What ends in a slash is a directory.
    for wrong in [
        &["rename", "b/", "x"][..],
        &["get", "b/", "-"],
        &["get", "b/", "x"],
    ] {
        assert!(used.bad(3, wrong).contains("is no directory"), "{wrong:?}");
    }
    // Into a directory, and under another name.
    used.good(&["rename", "b", "e"]);
    used.good(&["rename", "e/b", "c"]);
    assert_eq!(fs::read(used.share.join("c")).unwrap(), b"b");
    assert!(used.bad(3, &["rename", "c", "e/f"]).contains("`--force`"));
    assert_eq!(fs::read(used.share.join("e/f")).unwrap(), b"e/f");
    used.good(&["rename", "--force", "c", "e/f"]);
    assert_eq!(fs::read(used.share.join("e/f")).unwrap(), b"b");
    assert!(
        used.bad(3, &["rename", "full", "full/f"])
            .contains("into itself")
    );
    assert!(
        used.bad(3, &["rename", "nope", "x"])
            .contains("there is no `nope`")
    );
    fs::create_dir_all(used.share.join("e/full")).unwrap();
    used.good(&["rename", "--force", "full", "e"]);
    assert_eq!(used.good(&["list", "-r"]), "e\ne/f\ne/full\ne/full/f\n");
    fs::create_dir_all(used.share.join("p/e")).unwrap();
    used.share("p/e/in", "the way");
    assert!(
        used.bad(3, &["rename", "-f", "e", "p"])
            .contains("is not empty")
    );
    assert_eq!(fs::read(used.share.join("p/e/in")).unwrap(), b"the way");
}

#[test]
fn what_happens_is_told_to_machines_one_object_a_line() {
    let used = Used::new();
    used.write("f", "content");
    let told = used.good(&["upload", "--json", "f"]);
    let told: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        told[0],
        serde_json::json!({"event": "begun", "remote": "f", "size": 7})
    );
    assert_eq!(told[1]["event"], "done");
    assert_eq!(told[1]["local"], "f");
    let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(told[1]["sha256"], sum);
    let run = used.run(&["get", "--json", "nope", "."]);
    assert_eq!(run.code, Some(3));
    let told: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told["event"], "failed");
}

#[test]
fn the_lines_of_the_readme_work_as_they_stand() {
    let used = Used::new();
    fs::copy(
        crate::package().join("README.md"),
        used.work.join("README.md"),
    )
    .unwrap();
    let readme = fs::read_to_string(used.work.join("README.md")).unwrap();
    let section = readme
        .split("## Files and keys without a mirror")
        .nth(1)
        .unwrap();
    let lines = section.split("\n##").next().unwrap().lines();
    let lines = lines.filter_map(|line| line.strip_prefix("    syncd "));
    let lines: Vec<&str> = lines
        .flat_map(|line| line.split(" #").next().unwrap().split("&& syncd "))
        .map(str::trim)
        .filter(|line| !line.starts_with("server "))
        .collect();
    assert_eq!(lines.len(), 8, "{lines:?}");
    for line in lines {
        used.good(&line.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(
        fs::read_to_string(used.work.join("copy.md")).unwrap(),
        readme
    );
    assert_eq!(used.good(&["list"]), "");
}
