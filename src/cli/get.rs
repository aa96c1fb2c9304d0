//! `syncd get`.

use super::everywhere::Words;
use super::report::{Kind, Report};
use super::transfer::{Show, Sums, TransferArguments};
use super::using::{self, UseArguments};
use super::{log, render};
use crate::daemon::user::files::{self, GetOptions, Target};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "Examples:
  syncd get notes.txt                 into the working directory
  syncd get 'photos/*.jpg' pictures   several into a directory; quoted, so that the share's names are meant
  syncd get --recursive photos .
  syncd get backup.tar - | tar x      to standard output
  syncd get --server a:7440 --server b:7440 big.iso
                                      from both, and from one if the other dies
  syncd get big.iso > sums && sha256sum -c sums";

/// Arguments of `syncd get`.
#[derive(Debug, Args)]
pub struct GetArguments {
    #[command(flatten)]
    using: UseArguments,
    /// What to fetch, and last, if there are several, where to: a path, a directory, or `-` for standard output (default: the
    /// working directory)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    #[command(flatten)]
    how: TransferArguments,
}

/// Runs the command.
///
/// # Errors
/// When a file could not be fetched.
pub fn run(arguments: GetArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let mut paths = arguments.paths;
    let local = match paths.len() {
        0 | 1 => None,
        _ => paths.pop(),
    };
    let remotes = paths.iter().map(using::argument);
    let streams = local.as_ref().is_some_and(|local| local == "-");
    if streams && (arguments.how.json || arguments.how.recursive || paths.len() > 1) {
        let message = "one file goes to standard output, and nothing else";
        return Err(Report::new(Kind::Usage, message));
    }
    let options = GetOptions {
        remotes: remotes.collect::<Result<_, _>>()?,
        local: local.map_or_else(PathBuf::new, PathBuf::from),
        recursive: arguments.how.recursive,
        replace: arguments.how.replace(),
        jobs: arguments.how.jobs(),
    };
    let words = Words {
        noun: "path",
        what: "could not be fetched",
        not_everywhere: "not everything could be fetched",
        good: "has everything",
        hint: None,
    };
    let show = Show {
        json: arguments.how.json,
        sums: if streams { Sums::Aside } else { Sums::Printed },
        words,
        // They bring the files together.
        servers: &[],
    };
    let target = move || streams.then(|| Target::Stream(render::stream()));
    using::run(arguments.using, overrides, |way, stop| async move {
        let way = &way;
        show.watch(&stop, |watcher| async move {
            files::get(way, options, target, &watcher).await
        })
        .await
    })
}
