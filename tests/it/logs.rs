//! The log: lines that machines can read, names that forge nothing, and who decides how much is said.

use crate::support::daemon::Daemon;
use crate::support::files::write;
use crate::support::pair::{Pair, once};
use crate::support::sandbox::{Finished, Sandbox};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const FORGED: &str = "a\nERROR all is lost \u{1b}[2J\r\u{202e}b";

/// The lines of a log file, each of which is an object with a time, a level and a message.
fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("`{line}`"));
        let time = object["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        let level = object["level"].as_str().unwrap();
        assert!(
            ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level),
            "{level}"
        );
        assert!(!object["message"].as_str().unwrap().is_empty(), "{line}");
        object
    });
    lines.collect()
}

fn is_plain(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() && c != '\n' || c == '\u{202e}')
}

#[test]
fn json_lines_go_to_a_file_and_name_each_change() {
    let sandbox = Sandbox::new();
    let log =
        |name: &str| format!("[log]\nlevel = \"debug\"\nformat = \"json\"\nfile = \"{name}\"\n");
    write(sandbox.root(), "server.toml", log("server.log"));
    write(sandbox.root(), "client.toml", log("client.log"));
    write(&sandbox.dir("source"), FORGED, "content");
    let pair = Pair::of(sandbox);
    pair.settle();
    let (server, client) = (
        pair.sandbox.path("server.log"),
        pair.sandbox.path("client.log"),
    );
    for path in [&server, &client] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(is_plain(&fs::read_to_string(path).unwrap()));
        let put = |object: &Value| {
            let path = object["path"].as_str().unwrap_or_default();
            object["message"] == "put" && path.contains(r"a\nERROR all is lost")
        };
        let objects = objects(path);
        assert!(objects.iter().any(put), "{objects:?}");
        assert!(objects.iter().all(|object| object["level"] != "TRACE"));
    }
    assert_eq!((pair.server.err(), pair.client.err()), Default::default());
    // It is appended to.
    let before = fs::read_to_string(&client).unwrap();
    let mut pair = pair;
    pair.client.stop();
    pair.restart_client();
    pair.settle();
    let after = fs::read_to_string(&client).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len());
    pair.stop();
}

#[test]
fn a_name_cannot_forge_a_line_of_text() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let source = sandbox.dir("source");
    write(&source, FORGED, "content");
    let run = once(&sandbox, &source, &address, &["-vv"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(is_plain(&run.err), "{}", run.err);
    assert!(
        run.err.contains(r"put path=a\nERROR all is lost"),
        "{}",
        run.err
    );
    assert!(
        !run.err.lines().any(|line| line.starts_with("ERROR")),
        "{}",
        run.err
    );
    // Each message, too.
    assert!(run.err.contains("\"op\":\"mutate\""), "{}", run.err);
    server.stop();
}

/// A device that enrols itself meets a server that it does not know yet, which is nothing to warn of.
#[test]
fn a_first_contact_turns_nobody_away() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let run = once(&sandbox, &sandbox.dir("source"), &address, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(server.err().contains("device enrolled"), "{}", server.err());
    assert!(!server.err().contains("WARN"), "{}", server.err());
    server.stop();
}

/// As on a full disk.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let source = sandbox.dir("source");
    write(&source, "f", "content");
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.syncd();
    command.args([
        "client", "--once", "-vv", "-d", "source", "--server", &address,
    ]);
    let status = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(fs::read(sandbox.path("mirror/f")).unwrap(), b"content");
    assert!(status.code().is_some_and(|code| code != 101), "{status}");
    server.stop();
}

#[test]
fn file_environment_and_arguments_set_the_level_in_that_order() {
    let sandbox = Sandbox::new();
    let (mut server, address) = Daemon::server(&sandbox, &sandbox.dir("mirror"));
    let source = sandbox.dir("source");
    let mut n = 0;
    // The most talkative level that is heard, when each run has a change to make.
    let mut heard = |file: Option<&str>, environment: Option<&str>, arguments: &[&str]| {
        n += 1;
        write(&source, "f", format!("{n}"));
        let mut command = sandbox.syncd();
        command.args(["client", "--once", "-d", "source", "--server", &address]);
        if let Some(level) = file {
            write(
                sandbox.root(),
                "c.toml",
                format!("[log]\nlevel = \"{level}\"\n"),
            );
            command.args(["-c", "c.toml"]);
        }
        if let Some(level) = environment {
            command.env("SYNCD_LOG", level);
        }
        let run = Finished::of(command.args(arguments).output().unwrap());
        assert_eq!(run.code, Some(0), "{}", run.err);
        ["TRACE", "DEBUG", "INFO"]
            .into_iter()
            .find(|level| run.err.contains(&format!(" {level} ")))
    };
    assert_eq!(heard(None, None, &[]), Some("INFO"));
    assert_eq!(heard(Some("warn"), None, &[]), None);
    assert_eq!(heard(Some("debug"), None, &[]), Some("DEBUG"));
    assert_eq!(heard(Some("debug"), Some("error"), &[]), None);
    assert_eq!(heard(Some("error"), Some("trace"), &[]), Some("TRACE"));
    assert_eq!(heard(Some("trace"), Some("trace"), &["-q"]), None);
    assert_eq!(heard(Some("error"), Some("error"), &["-v"]), Some("DEBUG"));
    assert_eq!(heard(None, Some("error"), &["-vv"]), Some("TRACE"));
    server.stop();
}
