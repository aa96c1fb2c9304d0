//! `syncd delete`.

use super::everywhere::{self, Words};
use super::log;
use super::report::Report;
use super::using::{self, UseArguments};
use crate::daemon::user::files::{FileError, Remote};
use crate::model::RelPath;
use crate::wire::{Given, Op, WirePath};
use clap::Args;
use std::ffi::OsString;
use std::sync::Arc;

pub(super) const EXAMPLES: &str = "Examples:
  syncd delete notes.txt
  syncd delete 'logs/*.log'           quoted, so that the share's names are meant
  syncd delete --recursive old
  syncd delete --server a:7440 --server b:7440 old.iso
                                      on both, as far as they can";

/// Arguments of `syncd delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    using: UseArguments,
    /// What to remove; `*`, `?` and `[…]` match names of the share
    #[arg(value_name = "REMOTE", required = true)]
    remotes: Vec<OsString>,
    /// Remove directories with all below them
    #[arg(short, long)]
    recursive: bool,
}

/// Runs the command.
///
/// # Errors
/// When a path is not there, or the server refuses.
pub fn run(arguments: DeleteArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let remotes = arguments.remotes.iter().map(using::argument);
    let remotes = remotes.collect::<Result<Vec<_>, _>>()?;
    let recursive = arguments.recursive;
    let words = Words {
        noun: "path",
        what: "could not be removed",
        not_everywhere: "not everything could be removed on all servers",
        good: "has removed everything",
        hint: None,
    };
    let remotes = Arc::new(remotes);
    everywhere::run(arguments.using, overrides, words, move |connection| {
        let remotes = Arc::clone(&remotes);
        async move {
            using::each(&connection, &remotes, |share, path, directory| {
                delete(share, path, (recursive, directory))
            })
            .await
        }
    })
}

async fn delete(
    share: Remote<'_>,
    path: RelPath,
    (recursive, directory): (bool, bool),
) -> Result<(), FileError> {
    if path.is_root() {
        return Err(FileError::Other(
            "the top of a share is not removed".to_owned(),
        ));
    }
    let Some(entry) = share.look(&path).await? else {
        return Err(FileError::Other(format!(
            "there is no `{path}` in the share"
        )));
    };
    if directory && !entry.is_directory() {
        return Err(FileError::Other(format!("`{path}` is no directory")));
    }
    if entry.is_directory() && !recursive {
        return Err(FileError::Other(format!(
            "`{path}` is a directory: `--recursive` removes it with all below it"
        )));
    }
    let path = WirePath::from(&path);
    let given = match recursive {
        true => Vec::new(),
        false => vec![Given::NoDirectory { path: path.clone() }],
    };
    share
        .change(vec![Op::Delete { path }], given, Vec::new())
        .await
}
