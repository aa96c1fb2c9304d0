//! The command line: help, version, messages and exit codes.

use crate::support::daemon::Daemon;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::wait;

fn syncd(arguments: &[&str]) -> Finished {
    Sandbox::new().run(arguments)
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = syncd(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for command in [
        "server",
        "client",
        "status",
        "flush",
        "list",
        "get",
        "upload",
        "delete",
        "rename",
        "invite",
        "join",
        "clients",
        "revoke",
        "certs",
        "bench",
        "demo",
        "completions",
        "man",
    ] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}");
        let own = syncd(&[command, "--help"]);
        assert_eq!(own.code, Some(0), "{command}");
        assert!(
            own.out.contains(&format!("Usage: syncd {command}")),
            "{command}"
        );
    }
    let version = syncd(&["--version"]);
    let number = format!("syncd {}", env!("CARGO_PKG_VERSION"));
    assert!(version.out.starts_with(&number), "{}", version.out);
    assert_eq!(version.out.lines().count(), 1);
}

#[test]
fn wrong_arguments_are_usage_errors_that_say_what_was_expected() {
    for (arguments, expected) in [
        (&[][..], "Usage: syncd"),
        (&["serve"], "unrecognized subcommand 'serve'"),
        (&["server"], "--directory <DIR>"),
        (&["client", "--once"], "--directory <DIR>"),
        (
            &["server", "-d", "x", "--listen", "7440"],
            "expected an address HOST:PORT",
        ),
        (
            &["client", "-d", "x", "--server", "h"],
            "expected an address HOST:PORT",
        ),
        (
            &["client", "-d", "x", "--share", "../y"],
            "does not start with a dot",
        ),
        (&["flush", "--timeout", "soon"], "expected a length of time"),
        (&["completions", "ksh88"], "bash"),
        (&["server", "-d", ""], "a value is required"),
    ] {
        let run = syncd(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.err);
        assert_eq!(run.out, "", "{arguments:?}");
        assert!(run.err.contains(expected), "{arguments:?}: {}", run.err);
    }
}

#[test]
fn wrong_settings_name_file_line_key_and_what_was_expected() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("s.toml"), "[limits]\n\twindow = \"1\"\n").unwrap();
    let run = sandbox.run(&["server", "-d", "x", "-c", "s.toml"]);
    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.err,
        "error: s.toml:2: `limits.window`: expected a size from \"2 MiB\" to \"4 GiB\", found `1 B`\n  \
         2 |  window = \"1\"\n    |           ^\n"
    );
    let run = sandbox.run(&["client", "-d", "x", "-c", "absent.toml"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.err
            .starts_with("error: cannot read the settings `absent.toml`\ncaused by: "),
        "{}",
        run.err
    );
    std::fs::write(sandbox.path("binary.toml"), b"\xff\xfe").unwrap();
    let run = sandbox.run(&["client", "-d", "x", "-c", "binary.toml"]);
    assert_eq!(run.code, Some(2), "{}", run.err);
}

#[test]
fn the_environment_is_read_and_arguments_win_over_it() {
    let sandbox = Sandbox::new();
    let with = |name: &str, value: &str, arguments: &[&str]| {
        Finished::of(
            sandbox
                .syncd()
                .env(name, value)
                .args(arguments)
                .output()
                .unwrap(),
        )
    };
    for (name, arguments) in [
        ("SYNCD_LISTEN", &["server", "-d", "x"][..]),
        ("SYNCD_SERVER", &["client", "-d", "x"]),
        ("SYNCD_SHARE", &["client", "-d", "x"]),
    ] {
        let run = with(name, "no/good", arguments);
        assert_eq!(run.code, Some(2), "{name}: {}", run.err);
        assert!(run.err.contains("no/good"), "{name}: {}", run.err);
    }
    // The settings are refused after the arguments: that they are reached shows that the environment was not used.
    let overridden = ["client", "-d", "x", "-c", "absent.toml", "--server", "h:1"];
    let run = with("SYNCD_SERVER", "no/good", &overridden);
    assert!(run.err.contains("absent.toml"), "{}", run.err);
    let run = with("SYNCD_LOG", "syncd=loud", &["server", "-d", "x"]);
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("`SYNCD_LOG` is not a log filter"),
        "{}",
        run.err
    );
}

#[test]
fn a_log_file_that_cannot_be_opened_is_a_storage_failure() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("s.toml"), "[log]\nfile = \"absent/x.log\"\n").unwrap();
    let run = sandbox.run(&["server", "-d", "x", "-c", "s.toml"]);
    assert_eq!(run.code, Some(7), "{}", run.err);
}

#[test]
fn pages_and_completions_are_made() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = sandbox.run(&["completions", shell]);
        assert_eq!(run.code, Some(0));
        assert!(
            run.out.contains("--take-over") || run.out.contains("take-over"),
            "{shell}"
        );
    }
    let run = sandbox.run(&["man"]);
    assert!(run.out.contains(".TH syncd 1"), "{}", run.out);
    assert_eq!(sandbox.run(&["man", "pages"]).code, Some(0));
    let page = std::fs::read_to_string(sandbox.path("pages/syncd-client.1")).unwrap();
    assert!(page.contains("once"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .syncd()
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = Finished::of(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
fn the_demo_runs_where_there_is_no_checkout() {
    let sandbox = Sandbox::new();
    let mut demo = Daemon::start(&sandbox, "demo", sandbox.syncd().arg("demo"));
    let mirror = sandbox.path("home/.local/share/syncd/demo/mirror");
    let there = || mirror.join("nested/notes.md").exists() && mirror.join("hello.txt").exists();
    assert!(
        wait::until(wait::PATIENCE, there),
        "{}{}",
        demo.out(),
        demo.err()
    );
    demo.stop();
}
