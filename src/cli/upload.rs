//! `syncd upload`.

use super::log;
use super::report::Report;
use super::transfer::{Show, Sums, TransferArguments};
use super::using::{self, UseArguments};
use crate::daemon::user::files::{self, SendOptions, Source};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  syncd upload notes.txt              to the top of the share
  syncd upload a.jpg b.jpg photos/    several into a directory of the share
  syncd upload --recursive photos /
  tar c src | syncd upload - src.tar  from standard input";

/// Arguments of `syncd upload`.
#[derive(Debug, Args)]
pub struct UploadArguments {
    #[command(flatten)]
    using: UseArguments,
    /// What to send (`-` is standard input), and last, if there are several, where to: a path or a directory of the share
    /// (default: its top)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    how: TransferArguments,
}

/// Runs the command.
///
/// # Errors
/// When a file could not be sent.
pub fn run(arguments: UploadArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let mut paths = arguments.paths;
    let remote = match paths.len() {
        0 | 1 => None,
        _ => paths.pop(),
    };
    let source = |path: OsString| {
        if path == "-" {
            return Source::Stream(Box::new(std::io::stdin()));
        }
        let path = PathBuf::from(path);
        Source::Path { path, size: None }
    };
    let options = SendOptions {
        sources: paths.into_iter().map(source).collect(),
        remote: using::argument(&remote.unwrap_or_default())?,
        recursive: arguments.how.recursive,
        replace: arguments.how.replace(),
        jobs: arguments.how.jobs(),
    };
    let show = Show {
        json: arguments.how.json,
        sums: Sums::Printed,
        what: "could not be sent",
    };
    using::run(arguments.using, overrides, |way, stop| async move {
        let (way, server) = (&way, using::only(&way)?);
        show.watch(&stop, |watcher| async move {
            files::upload((way, server), options, &watcher).await
        })
        .await
    })
}
