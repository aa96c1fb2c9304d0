//! `syncd upload`.

use super::everywhere::Words;
use super::log;
use super::report::Report;
use super::transfer::{Show, Sums, TransferArguments};
use super::using::{self, UseArguments};
use crate::daemon::user::files::{self, SendOptions, Source, Stream};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  syncd upload notes.txt              to the top of the share
  syncd upload a.jpg b.jpg photos/    several into a directory of the share
  syncd upload --recursive photos /
  tar c src | syncd upload - src.tar  from standard input
  syncd upload --server a:7440 --server b:7440 big.iso
                                      to both, also when one of them is away";

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
            return Source::Stream(Stream::new(Box::new(std::io::stdin())));
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
    let streams = |source: &Source| matches!(source, Source::Stream(_));
    let hint = "the same command goes on: what a server has already is not sent to it again";
    let words = Words {
        noun: "file",
        what: "could not be sent",
        not_everywhere: "not everything could be sent to all servers",
        good: "has everything",
        hint: (!options.sources.iter().any(streams)).then_some(hint),
    };
    let json = arguments.how.json;
    using::run(arguments.using, overrides, |way, stop| async move {
        let show = Show {
            json,
            sums: Sums::Printed,
            words,
            servers: way.servers(),
        };
        show.watch(&stop, |watcher| async {
            files::upload_everywhere(&way, options, watcher).await;
            Ok(())
        })
        .await
    })
}
