//! `syncd list`.

use super::report::Report;
use super::using::{self, UseArguments};
use super::{log, render};
use crate::daemon::user::files::{
    Argument, Difference, Entry, EntryKind, FileError, Seen, Union, joined,
};
use crate::model::{RelPath, escape};
use crate::wire::{WireBytes, WirePath};
use clap::Args;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::time::{Duration, UNIX_EPOCH};

pub(super) const EXAMPLES: &str = "Examples:
  syncd list                          the top of the share
  syncd list --long photos
  syncd list 'photos/2026-*/*.jpg'    quoted, so that the share's names are meant
  syncd list --recursive --json       one object a line, names exact
  syncd list --cached                 what the server has in memory
  syncd list -r --server a:7440 --server b:7440
                                      what any of them has, and where they differ";

/// Arguments of `syncd list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    using: UseArguments,
    /// Files and directories; `*`, `?` and `[…]` match names of the share (default: the top of the share)
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Show modes, sizes and times, too
    #[arg(short, long)]
    long: bool,
    /// Go on in directories
    #[arg(short, long)]
    recursive: bool,
    /// Show what the server keeps in memory of the files that were fetched: size, hits, age, how many are being served
    #[arg(long, conflicts_with_all = ["long", "recursive"])]
    cached: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How it is shown.
#[derive(Clone, Copy)]
struct Style {
    long: bool,
    recursive: bool,
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a path is not there, or the server refuses.
pub fn run(arguments: ListArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let mut paths = arguments.paths;
    if paths.is_empty() {
        paths.push(OsString::new());
    }
    let paths = paths.iter().map(using::argument);
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    let style = Style {
        long: arguments.long,
        recursive: arguments.recursive,
        json: arguments.json,
    };
    let cached = arguments.cached;
    using::run(arguments.using, overrides, |way, _| async move {
        let union = Union::open(&way).await;
        let mut union = union.map_err(|error| using::explain("", &error))?;
        let done = if cached {
            super::cached::show(&union, &paths, style.json).await
        } else {
            list(&mut union, &paths, style).await
        };
        union.close().await;
        done
    })
}

/// A failure of one path, or of the output.
enum Stop {
    Path(FileError),
    Output(Report),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::Path(error)
    }
}

async fn list(union: &mut Union, arguments: &[Argument], style: Style) -> Result<(), Report> {
    let mut lister = Lister {
        union,
        style,
        failures: Vec::new(),
    };
    for argument in arguments {
        if let Err(stop) = lister.argument(argument, arguments.len() > 1).await {
            match stop {
                Stop::Output(report) => return Err(report),
                Stop::Path(error) => {
                    let ends = error.ends_all();
                    lister.failures.push((argument.shown(), error));
                    if ends {
                        break;
                    }
                }
            }
        }
    }
    using::conclude(&lister.failures, 0, "could not be listed")
}

struct Lister<'a> {
    union: &'a mut Union,
    style: Style,
    failures: Vec<(String, FileError)>,
}

impl Lister<'_> {
    async fn argument(&mut self, argument: &Argument, several: bool) -> Result<(), Stop> {
        let paths = self.union.expand(argument).await?;
        let several = several || paths.len() > 1;
        let mut directories = Vec::new();
        for path in paths {
            let Some(seen) = self.union.look(&path).await? else {
                let message = format!("there is no `{path}` in the share");
                return Err(FileError::Other(message).into());
            };
            if seen.entry.is_directory() {
                directories.push(path);
            } else if argument.directory {
                let message = format!("`{path}` is no directory");
                return Err(FileError::Other(message).into());
            } else {
                self.show(&path, path.as_bytes(), &seen)?;
            }
        }
        for path in directories {
            if several && !self.style.json && !self.style.recursive {
                let title = format!("{}:\n", escape(path.as_bytes()));
                render::print(&title).map_err(Stop::Output)?;
            }
            self.directory(&path).await?;
        }
        Ok(())
    }

    /// Shows a directory, with all below it where that is wanted. One that cannot be read stops no other.
    async fn directory(&mut self, top: &RelPath) -> Result<(), Stop> {
        let mut todo = vec![top.clone()];
        while let Some(path) = todo.pop() {
            let mut below = Vec::new();
            match self.one(&path, &mut below).await {
                Err(Stop::Path(error)) if !error.ends_all() => {
                    self.failures.push((path.to_string(), error));
                }
                done => done?,
            }
            below.reverse();
            todo.append(&mut below);
        }
        Ok(())
    }

    /// Shows what one directory holds, a part at a time; collects the directories in it if they are wanted.
    async fn one(&mut self, path: &RelPath, below: &mut Vec<RelPath>) -> Result<(), Stop> {
        let mut merge = self.union.directory(path);
        while let Some(part) = self.union.list(&mut merge).await? {
            for (name, seen) in &part {
                let path = match joined(path, name.as_bytes()) {
                    Ok(path) => path,
                    Err(error) => {
                        self.failures.push((path.to_string(), error));
                        continue;
                    }
                };
                let shown = if self.style.recursive {
                    path.as_bytes()
                } else {
                    name.as_bytes()
                };
                self.show(&path, shown, seen)?;
                if self.style.recursive && seen.entry.is_directory() {
                    below.push(path);
                }
            }
        }
        Ok(())
    }

    fn show(&self, path: &RelPath, shown: &[u8], seen: &Seen) -> Result<(), Stop> {
        let text = if self.style.json {
            object(path, seen)
        } else if self.style.long {
            long(shown, &seen.entry) + &differences(seen)
        } else {
            escape(shown) + &differences(seen)
        };
        render::print(&format!("{text}\n")).map_err(Stop::Output)
    }
}

/// Which servers have it otherwise, for a person; nothing when all have the same.
fn differences(seen: &Seen) -> String {
    let words = |differs: &Difference| {
        let words: Vec<&str> = differs.what.iter().map(|it| it.word()).collect();
        format!("{}: {}", differs.server, words.join(", "))
    };
    if seen.differs.is_empty() {
        return String::new();
    }
    let all: Vec<String> = seen.differs.iter().map(words).collect();
    format!("  ({})", all.join("; "))
}

/// One entry for a machine: everything exact.
fn object(path: &RelPath, seen: &Seen) -> String {
    let mut object = fields(&seen.entry);
    object.insert("path".to_owned(), json!(WirePath::from(path)));
    let differs = seen.differs.iter().map(|differs| {
        let mut object = differs.entry.as_ref().map(fields).unwrap_or_default();
        let what: Vec<&str> = differs.what.iter().map(|it| it.word()).collect();
        object.insert("server".to_owned(), json!(differs.server));
        object.insert("differs".to_owned(), json!(what));
        Value::Object(object)
    });
    let differs: Vec<Value> = differs.collect();
    if !differs.is_empty() {
        object.insert("elsewhere".to_owned(), Value::Array(differs));
    }
    Value::Object(object).to_string()
}

fn fields(entry: &Entry) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    let kind = match &entry.kind {
        EntryKind::Directory => "directory",
        EntryKind::File { size } => {
            put("size", json!(size));
            "file"
        }
        EntryKind::Symlink { target } => {
            put("target", json!(WireBytes::new(target)));
            "symlink"
        }
    };
    put("kind", json!(kind));
    put(
        "mtime",
        json!([entry.mtime.secs, i64::from(entry.mtime.nanos)]),
    );
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        put("mode", json!(format!("{:04o}", entry.mode)));
    }
    fields
}

/// One entry for a person, as `ls -l` shows it.
fn long(shown: &[u8], entry: &Entry) -> String {
    let (kind, mode, size, target) = match &entry.kind {
        EntryKind::Directory => ('d', entry.mode, String::from("-"), String::new()),
        EntryKind::File { size } => ('-', entry.mode, size.to_string(), String::new()),
        EntryKind::Symlink { target } => {
            let target = format!(" -> {}", escape(target));
            ('l', 0o777, String::from("-"), target)
        }
    };
    let name = escape(shown);
    let time = time(entry);
    format!("{kind}{} {size:>14} {time} {name}{target}", bits(mode))
}

fn bits(mode: u32) -> String {
    let triple = |shift: u32, special: u32, letters: (char, char)| {
        let bit = |bit: u32, letter| {
            if mode >> shift & bit == 0 {
                '-'
            } else {
                letter
            }
        };
        let last = match (mode & special != 0, mode >> shift & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letters.0,
            (true, false) => letters.1,
        };
        [bit(4, 'r'), bit(2, 'w'), last]
    };
    let user = triple(6, 0o4000, ('s', 'S'));
    let group = triple(3, 0o2000, ('s', 'S'));
    let others = triple(0, 0o1000, ('t', 'T'));
    [user, group, others].concat().into_iter().collect()
}

fn time(entry: &Entry) -> String {
    let secs = u64::try_from(entry.mtime.secs).ok();
    let time = secs.and_then(|secs| UNIX_EPOCH.checked_add(Duration::from_secs(secs)));
    // Later years have no such form.
    let latest = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    match time.filter(|time| *time <= latest) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{:>20}", format!("@{}", entry.mtime.secs)),
    }
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn modes_look_as_in_ls() {
        for (mode, shown) in [
            (0o644, "rw-r--r--"),
            (0o4755, "rwsr-xr-x"),
            (0o2640, "rw-r-S---"),
            (0o1777, "rwxrwxrwt"),
        ] {
            assert_eq!(bits(mode), shown);
        }
    }
}
