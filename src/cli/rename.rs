//! `syncd rename`.

use super::everywhere::{self, Words};
use super::log;
use super::report::Report;
use super::using::{self, UseArguments};
use crate::daemon::user::files::{Argument, FileError, Remote};
use crate::wire::{Given, Op, WirePath};
use clap::Args;
use std::ffi::OsString;
use std::sync::Arc;

pub(super) const EXAMPLES: &str = "Examples:
  syncd rename draft.txt final.txt
  syncd rename final.txt archive/     into a directory of the share, under its own name
  syncd rename --force new.txt old.txt
  syncd rename --server a:7440,b:7440 draft.txt final.txt
                                      on both, as far as they can";

/// Arguments of `syncd rename`.
#[derive(Debug, Args)]
pub struct RenameArguments {
    #[command(flatten)]
    using: UseArguments,
    /// What to move
    #[arg(value_name = "FROM")]
    from: OsString,
    /// Where to: a new path, or a directory that is there
    #[arg(value_name = "TO")]
    to: OsString,
    /// Replace a file, or an empty directory, that is there
    #[arg(short, long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is nothing to move, something is in the way, or the server refuses.
pub fn run(arguments: RenameArguments, overrides: &log::Overrides) -> Result<(), Report> {
    let from = using::argument(&arguments.from)?;
    let to = using::argument(&arguments.to)?;
    let force = arguments.force;
    let words = Words {
        noun: "path",
        what: "could not be renamed",
        not_everywhere: "it could not be renamed on all servers",
        good: "has renamed it",
        hint: None,
    };
    let paths = Arc::new((from, to));
    everywhere::run(arguments.using, overrides, words, move |connection| {
        let paths = Arc::clone(&paths);
        async move {
            let (from, to) = &*paths;
            match rename(Remote(&connection), from, to, force).await {
                Ok(()) => (1, Vec::new()),
                Err(error) => (0, vec![(from.shown(), error)]),
            }
        }
    })
}

async fn rename(
    share: Remote<'_>,
    from: &Argument,
    to: &Argument,
    force: bool,
) -> Result<(), FileError> {
    let other = |message: String| Err(FileError::Other(message));
    let source = from.path();
    let Some((_, name)) = source.split() else {
        return other("the top of a share is not moved".to_owned());
    };
    let Some(entry) = share.look(source).await? else {
        return other(format!("there is no `{source}` in the share"));
    };
    if from.directory && !entry.is_directory() {
        return other(format!("`{}` is no directory in the share", from.shown()));
    }
    let into = to.path().is_root()
        || share
            .look(to.path())
            .await?
            .is_some_and(|there| there.is_directory());
    if to.directory && !into && !entry.is_directory() {
        return other(format!("`{}` is no directory in the share", to.shown()));
    }
    let mut target = to.path().clone();
    if into && target != *source {
        target = target
            .join(&name)
            .map_err(|error| FileError::Other(error.to_string()))?;
    }
    if target == *source {
        return other(format!("`{source}` and `{target}` are the same"));
    }
    if target.is_within(source) {
        return other(format!("`{source}` cannot move into itself"));
    }
    let there = share.look(&target).await?;
    if let Some(there) = &there {
        if !force {
            return other(format!(
                "`{target}` is in the share already: `--force` replaces it"
            ));
        }
        if there.is_directory() != entry.is_directory() {
            let (one, other_one) = if there.is_directory() {
                ("a directory", "a file")
            } else {
                ("no directory", "a directory")
            };
            return other(format!(
                "`{target}` is {one}, which {other_one} does not replace"
            ));
        }
    }
    let path = WirePath::from(&target);
    let given = match (force, entry.is_directory()) {
        (false, _) => Given::Absent { path: path.clone() },
        (true, true) => Given::Bare { path: path.clone() },
        (true, false) => Given::NoDirectory { path: path.clone() },
    };
    let rename = Op::Rename {
        from: WirePath::from(source),
        to: path,
    };
    share.change(vec![rename], vec![given], Vec::new()).await
}
