//! `syncd bench`: data sets, and what a machine makes of them.

mod concurrency;
mod data;
mod figures;
mod place;
mod samples;

use super::log;
use super::report::Report;
use clap::{Args, Subcommand};

const EXAMPLES: &str = "Examples:
  syncd bench data --files 100 --size 8MB..10MB --seed 1 files
  syncd bench data --files 100 --from photos files    copies of what is in `photos`
  syncd bench concurrency files                       uploads them at 1, 2, 4 and 8 jobs
  syncd bench concurrency --rounds 3 --json concurrency.json files";

/// Arguments of `syncd bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Make a data set: files of random bytes under random names, or copies of samples
    ///
    /// The same seed gives the same names and bytes everywhere.
    #[command(after_help = EXAMPLES)]
    Data(data::DataArguments),
    /// Upload a data set at several numbers of jobs, to a server of its own, and compare
    ///
    /// Nothing that is there is changed: the server, its state and what it receives are below a new directory, which is removed
    /// in the end. Each run has an empty share, and a new server, over TLS, that is durable as any other. The order of the runs turns
    /// round with each round, so that what drifts meets all alike. All files were just read, so that each run reads them from
    /// memory; and what earlier runs wrote is removed and the disk has come to rest before the next begins.
    #[command(after_help = EXAMPLES)]
    Concurrency(concurrency::ConcurrencyArguments),
    /// The server of `syncd bench concurrency`, until standard input ends
    #[command(hide = true)]
    Serve(place::ServeArguments),
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments; a disk that does not do; a run that failed.
pub fn run(arguments: BenchArguments, overrides: &log::Overrides) -> Result<(), Report> {
    match arguments.command {
        BenchCommand::Data(arguments) => data::run(arguments, overrides),
        BenchCommand::Concurrency(arguments) => concurrency::run(arguments, overrides),
        BenchCommand::Serve(arguments) => place::serve(arguments, overrides),
    }
}
