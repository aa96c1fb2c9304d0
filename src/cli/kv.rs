//! `syncd kv`: the keys of a share.

use super::report::{Kind, Report};
use super::using::{self, UseArguments};
use super::{log, overview, render, sync};
use crate::config::Period;
use crate::daemon::user::Connection;
use crate::daemon::user::keys::{KeyFailure, RemoteKeys, Storing, Value};
use crate::host::keys::MAX_KEY;
use crate::model::escape;
use crate::model::limits::MAX_VALUE;
use crate::wire::{Code, KeyEntry, KeyMode, WireBytes};
use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

pub(super) const EXAMPLES: &str = "Examples:
  syncd kv set greeting hello
  syncd kv get greeting
  syncd kv set session/42 --expires 10m < token
  syncd kv get session/42 > token
  syncd kv list session/
  syncd kv set lock mine --if-absent     exits with 3 and NOT_STORED when it is taken
  syncd kv delete greeting --share photos

A key has 1 to 250 bytes. Values are any bytes; what is answered is durable.";

/// Arguments of `syncd kv`.
#[derive(Debug, Args)]
pub struct KvArguments {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    /// Store a value durably
    Set(SetArguments),
    /// Print a value, byte for byte
    Get(KeyArguments),
    /// Remove a key
    Delete(KeyArguments),
    /// List keys in the order of their bytes
    List(ListArguments),
}

/// Arguments of those that name a key.
#[derive(Debug, Args)]
struct KeyArguments {
    #[command(flatten)]
    using: UseArguments,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// The key
    #[arg(value_name = "KEY", value_parser = OsStringValueParser::new().try_map(key))]
    key: OsString,
}

fn key(key: OsString) -> Result<OsString, String> {
    match key.len() {
        1..=MAX_KEY => Ok(key),
        length => Err(format!("a key has 1 to {MAX_KEY} bytes, not {length}")),
    }
}

fn lasting(text: &str) -> Result<Period, String> {
    match text.parse::<Period>() {
        Ok(Period(Duration::ZERO)) => Err("it would be gone at once".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Arguments of `syncd kv set`.
#[derive(Debug, Args)]
struct SetArguments {
    #[command(flatten)]
    key: KeyArguments,
    /// The value; `-`, or none, for what comes from standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<OsString>,
    /// For how long it is there, such as "10m" or "30days" (default: for ever)
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    expires: Option<Period>,
    /// Only if there is no such key
    #[arg(long, conflicts_with_all = ["if_exists", "if_unique"])]
    if_absent: bool,
    /// Only if there is such a key
    #[arg(long, conflicts_with = "if_unique")]
    if_exists: bool,
    /// Only if the value that is there has this unique number (`get --json` shows it)
    #[arg(long, value_name = "NUMBER")]
    if_unique: Option<u64>,
}

/// Arguments of `syncd kv list`.
#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    using: UseArguments,
    /// Answer as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show size and expiry
    #[arg(short, long)]
    long: bool,
    /// What the keys begin with (default: all keys)
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: OsString,
}

/// Runs the command.
///
/// # Errors
/// When there is no such key, a condition does not hold, or the server cannot or does not want to.
pub fn run(arguments: KvArguments, overrides: &log::Overrides) -> Result<(), Report> {
    match arguments.command {
        KvCommand::Set(arguments) => set(arguments, overrides),
        KvCommand::Get(arguments) => one(arguments, overrides, get),
        KvCommand::Delete(arguments) => one(arguments, overrides, delete),
        KvCommand::List(arguments) => {
            let ListArguments {
                using,
                json,
                long,
                prefix,
            } = arguments;
            using::run(using, overrides, |way, _| async move {
                let connection = using::connect(&way).await?;
                let style = match (json, long) {
                    (true, _) => Style::Json,
                    (false, true) => Style::Long,
                    (false, false) => Style::Plain,
                };
                let done = list(&connection, prefix.as_bytes(), style).await;
                connection.close().await;
                done
            })
        }
    }
}

fn one(
    arguments: KeyArguments,
    overrides: &log::Overrides,
    act: impl AsyncFnOnce(&Connection, &OsStr) -> Result<Done, KeyFailure>,
) -> Result<(), Report> {
    let KeyArguments { using, json, key } = arguments;
    using::run(using, overrides, |way, _| async move {
        let connection = using::connect(&way).await?;
        let done = act(&connection, &key).await;
        connection.close().await;
        say(&key, done, json)
    })
}

/// What was done with a key.
enum Done {
    Stored(u64),
    Got(Value),
    Deleted,
}

fn set(arguments: SetArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let mode = match (
        arguments.if_absent,
        arguments.if_exists,
        arguments.if_unique,
    ) {
        (true, ..) => KeyMode::IfAbsent,
        (_, true, _) => KeyMode::IfPresent,
        (.., Some(_)) => KeyMode::IfUnique,
        _ => KeyMode::Always,
    };
    let how = Storing {
        mode,
        unique: arguments.if_unique.unwrap_or_default(),
        flags: 0,
        lasts: arguments.expires.map(|period| period.0),
    };
    let value = match arguments.value {
        Some(text) if text != "-" => Bytes::copy_from_slice(text.as_bytes()),
        _ => read_value()?,
    };
    one(arguments.key, overrides, async move |connection, key| {
        let keys = RemoteKeys(connection);
        let unique = keys.set(key.as_bytes(), value, how).await?;
        Ok(Done::Stored(unique))
    })
}

async fn get(connection: &Connection, key: &OsStr) -> Result<Done, KeyFailure> {
    let value = RemoteKeys(connection).get(key.as_bytes()).await?;
    Ok(Done::Got(value))
}

async fn delete(connection: &Connection, key: &OsStr) -> Result<Done, KeyFailure> {
    RemoteKeys(connection).delete(key.as_bytes()).await?;
    Ok(Done::Deleted)
}

/// All of standard input, as far as any server would take it.
fn read_value() -> Result<Bytes, Report> {
    let mut value = Vec::new();
    let limit = MAX_VALUE;
    let read = std::io::stdin().take(limit + 1).read_to_end(&mut value);
    let length = read.map_err(|error| {
        Report::new(Kind::Storage, "cannot read the value from standard input").caused_by(&error)
    })?;
    if length as u64 > limit {
        let most = overview::bytes(limit);
        let message = format!("the value is too large: no server takes more than {most}");
        return Err(Report::new(Kind::Usage, message));
    }
    Ok(value.into())
}

fn say(key: &OsStr, done: Result<Done, KeyFailure>, json: bool) -> Result<(), Report> {
    let done = done.map_err(|error| explain(Some(key), &error))?;
    let named = || json_key(&WireBytes::new(key.as_bytes()));
    let text = match (done, json) {
        (Done::Got(value), false) => return render::write(&value.bytes),
        (Done::Stored(_), false) => "STORED".to_owned(),
        (Done::Deleted, false) => "DELETED".to_owned(),
        (Done::Stored(unique), true) => {
            json!({ "key": named(), "stored": true, "unique": unique }).to_string()
        }
        (Done::Deleted, true) => json!({ "key": named(), "deleted": true }).to_string(),
        (Done::Got(value), true) => {
            let mut object = json_entry(&WireBytes::new(key.as_bytes()), &value.entry);
            if let Some(object) = object.as_object_mut() {
                let value = json_key(&WireBytes::new(&value.bytes));
                object.insert("value".to_owned(), value);
            }
            object.to_string()
        }
    };
    render::print(&format!("{text}\n"))
}

/// A key as JSON: text, or `{"hex": "…"}`.
fn json_key(key: &WireBytes) -> serde_json::Value {
    serde_json::to_value(key).unwrap_or_default()
}

fn json_entry(key: &WireBytes, entry: &KeyEntry) -> serde_json::Value {
    json!({
        "key": json_key(key), "size": entry.size, "flags": entry.flags, "unique": entry.unique,
        "expires_in_ms": entry.lasts_ms,
    })
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Long,
    Json,
}

/// Prints keys as they come: a batch at a time is in memory.
async fn list(connection: &Connection, prefix: &[u8], style: Style) -> Result<(), Report> {
    let mut after = None;
    loop {
        let keys = RemoteKeys(connection).list(prefix, after.clone()).await;
        let keys = keys.map_err(|error| explain(None, &error))?;
        let mut text = String::new();
        for listed in &keys.entries {
            let entry = &listed.entry;
            let line = match style {
                Style::Json => json_entry(&listed.key, entry).to_string(),
                Style::Plain => shown(&listed.key),
                Style::Long => {
                    let lasts = entry.lasts_ms.map_or_else(|| "-".to_owned(), overview::age);
                    format!("{:>12} {lasts:>14} {}", entry.size, shown(&listed.key))
                }
            };
            text.push_str(&line);
            text.push('\n');
        }
        render::print(&text)?;
        match keys.next {
            Some(next) if after_is_new(after.as_ref(), &next) => after = Some(next),
            _ => return Ok(()),
        }
    }
}

/// A server that says the same again would keep the list going for ever.
fn after_is_new(before: Option<&WireBytes>, next: &WireBytes) -> bool {
    before.and_then(WireBytes::bytes) < next.bytes()
}

/// A key for a person: no key can forge a line.
fn shown(key: &WireBytes) -> String {
    escape(&key.bytes().unwrap_or_default())
}

fn explain(key: Option<&OsStr>, error: &KeyFailure) -> Report {
    let of = key.map(|key| format!(" `{}`", escape(key.as_bytes())));
    let of = of.unwrap_or_default();
    match error {
        KeyFailure::Line(error) => sync::explain(error),
        KeyFailure::NotFound => {
            Report::new(Kind::Problems, format!("NOT_FOUND: there is no key{of}"))
        }
        KeyFailure::NotStored => Report::new(
            Kind::Problems,
            format!("NOT_STORED: the condition does not hold for the key{of}"),
        ),
        KeyFailure::Exists => Report::new(
            Kind::Problems,
            format!("EXISTS: the value of the key{of} has another unique number"),
        ),
        KeyFailure::Remote { code, message } => {
            let kind = match code {
                Code::Forbidden | Code::Revoked => Kind::Refused,
                Code::Stopping | Code::Busy => Kind::Unreachable,
                _ => Kind::Problems,
            };
            Report::new(kind, message.clone())
        }
        KeyFailure::Unfit(_) => Report::from_error(Kind::Unreachable, error),
    }
}
