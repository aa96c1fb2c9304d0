//! `syncd flush`.

use super::report::Report;
use super::{ask, runtime, settings};
use crate::config::Period;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `syncd flush`.
#[derive(Debug, Args)]
pub struct FlushArguments {
    /// A path in the client's directory (default: the only client that runs)
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// The client's directory
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: Period,
}

/// Runs the command.
///
/// # Errors
/// When no client answers, the time is over, or paths could not be mirrored.
pub fn run(arguments: &FlushArguments) -> Result<(), Report> {
    let path = |path: &Option<PathBuf>| path.as_deref().map(settings::absolute).transpose();
    let options = ask::FlushOptions {
        path: path(&arguments.path)?,
        directory: path(&arguments.directory)?,
        timeout: arguments.timeout.0,
    };
    runtime::run(|stop| async move {
        tokio::select! {
            done = ask::flush(options) => done,
            () = stop.cancelled() => Err(super::report::Report::new(
                super::report::Kind::Unexpected,
                "stopped before everything was durable",
            )),
        }
    })
}
