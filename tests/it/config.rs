//! Files of settings: valid and invalid ones, and the two that list every key.

use crate::{bless_or_compare, package};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use syncd::config::{
    BlockSize, ClientConfig, ConfigError, Durability, Level, LogFormat, Period, ServerConfig, Size,
    Source,
};

fn cases(kind: &str) -> Vec<(String, String, PathBuf)> {
    let directory = package().join("tests/data/config").join(kind);
    let mut cases: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap(), path)
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn parse(name: &str, text: &str) -> Result<(), ConfigError> {
    let source = Source { name, text };
    if name.starts_with("server") {
        ServerConfig::parse(source).map(drop)
    } else {
        ClientConfig::parse(source).map(drop)
    }
}

#[test]
fn valid_files_are_accepted() {
    for (name, text, _) in cases("valid") {
        assert_eq!(parse(&name, &text), Ok(()), "{name}");
    }
}

#[test]
fn invalid_files_are_refused_with_line_key_and_what_was_expected() {
    for (name, text, path) in cases("invalid") {
        let error = parse(&name, &text).expect_err(&name);
        let shown = format!("{error}\n{}\n", error.picture());
        bless_or_compare(&path.with_extension("expected"), &shown);
    }
}

#[test]
fn values_arrive() {
    let read = |name: &str| {
        let path = package().join("tests/data/config/valid").join(name);
        fs::read_to_string(path).unwrap()
    };
    let text = read("server-all.toml");
    let server = ServerConfig::parse(Source {
        name: "",
        text: &text,
    })
    .unwrap();
    assert_eq!(server.durability, Durability::None);
    assert_eq!(server.limits.max_clients, 1);
    assert_eq!(server.limits.max_frame, Size(3 << 20));
    assert_eq!(server.log.format, LogFormat::Json);
    assert_eq!(server.shares[1].name.as_str(), "notes-2026");
    let text = read("client-all.toml");
    let client = ClientConfig::parse(Source {
        name: "",
        text: &text,
    })
    .unwrap();
    assert_eq!(client.servers.len(), 2);
    assert_eq!(client.share.unwrap().as_str(), "laptop");
    assert_eq!(client.block_size, BlockSize::Fixed(16 << 10));
    assert_eq!(client.watch.rescan, Period(Duration::from_secs(1800)));
    assert_eq!(client.limits.window, Size(64_000_000));
    assert_eq!(client.limits.upload_rate.bytes(), Some(1_500_000));
    assert_eq!(client.log.level, Level::Error);
}

/// The file as it is, and with every key that is commented out set.
fn with_keys_set(text: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split('=').next().unwrap_or_default().trim();
        line.starts_with('[')
            || (line.contains('=') && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    text.lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// The keys that the code knows in a table: those that it names when it meets one that it does not know.
fn known_keys(name: &str, table: &str) -> BTreeSet<String> {
    let text = format!("{table}\nno_such_key = 1\n");
    let message = parse(name, &text).unwrap_err().message;
    message
        .split('`')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_committed_files_are_the_defaults_and_hold_every_key() {
    let files = [
        (
            "server.toml",
            &[
                "",
                "[limits]",
                "[tls]",
                "[cache]",
                "[kv]",
                "[log]",
                "[[share]]",
            ][..],
        ),
        (
            "client.toml",
            &["", "[watch]", "[tls]", "[limits]", "[log]"],
        ),
    ];
    for (name, tables) in files {
        let text = fs::read_to_string(package().join("config").join(name)).unwrap();
        let all = with_keys_set(&text);
        parse(name, &all).unwrap();
        for table in tables {
            let known = known_keys(name, table);
            assert!(!known.is_empty(), "{name} {table}");
            let body = match *table {
                "" => all.as_str(),
                header => all.split_once(&format!("\n{header}\n")).expect(header).1,
            };
            let body = body.split("\n[").next().unwrap();
            for key in known
                .iter()
                .filter(|key| !tables.contains(&&*format!("[{key}]")))
            {
                let listed =
                    body.contains(&format!("\n{key} = ")) || body.starts_with(&format!("{key} = "));
                assert!(
                    listed || key == "share" && name == "server.toml",
                    "{name}: {table} {key}"
                );
            }
        }
        let source = Source { name, text: &text };
        if name == "server.toml" {
            assert_eq!(
                ServerConfig::parse(source).unwrap(),
                ServerConfig::default()
            );
        } else {
            assert_eq!(
                ClientConfig::parse(source).unwrap(),
                ClientConfig::default()
            );
        }
    }
}
