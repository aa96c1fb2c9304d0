//! People: arguments, settings, reports, the log. One file a command.
//!
//! It merges defaults, file, environment and arguments into plain options, starts the log and a runtime, and turns every
//! failure into a [`report::Report`] with an exit code. It decides nothing about trees; `daemon` does the work.

mod accept;
mod ask;
mod bench;
mod cached;
mod certs;
mod clients;
mod delete;
mod demo;
mod everywhere;
mod flush;
mod get;
mod invite;
mod join;
mod kv;
mod list;
mod log;
mod overview;
mod plan;
mod rename;
pub mod render;
pub mod report;
mod revoke;
mod runtime;
mod serve;
mod settings;
mod shell;
mod status;
mod sync;
mod transfer;
mod upload;
mod using;
mod verify;

use clap::{ArgAction, Args, Parser, Subcommand};
use report::Report;
use std::process::ExitCode;

/// Keeps directories mirrored over TLS, milliseconds behind
#[derive(Debug, Parser)]
#[command(name = "syncd", version = env!("SYNCD_VERSION"), max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Log more: once for each change, twice for each message
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Log less: once for warnings and errors only, twice for errors only
    #[arg(short, long, global = true, action = ArgAction::Count)]
    quiet: u8,
    /// How much is logged: a level (error, warn, info, debug, trace) or filter directives
    #[arg(long, global = true, env = "SYNCD_LOG", value_name = "FILTER")]
    log: Option<String>,
}

impl Global {
    fn overrides(&self) -> log::Overrides {
        let step = |count: u8| i8::try_from(count).unwrap_or(i8::MAX);
        log::Overrides {
            verbosity: step(self.verbose).saturating_sub(step(self.quiet)),
            filter: self.log.clone().filter(|text| !text.is_empty()),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive the trees of clients into a directory
    Server(serve::ServerArguments),
    /// Keep a server's copy of a directory equal to it
    Client(sync::ClientArguments),
    /// Say what the running servers and clients do
    Status(status::StatusArguments),
    /// Show the deletions that a client holds, and have them done
    Accept(accept::AcceptArguments),
    /// Show what a client would do to its server, and why, and do nothing
    ///
    /// The server is only looked at: its share keeps its writer, and none is made.
    Plan(plan::PlanArguments),
    /// Compare both sides by content, reading every file again
    ///
    /// Works beside the client that runs for the directory, if one does, over a connection of its own that changes nothing. What
    /// is merely on its way is looked at again. Which side is right is not known: `--repair` makes the mirror what the source is.
    Verify(verify::VerifyArguments),
    /// Store, read, remove and list small values by their keys
    #[command(after_help = kv::EXAMPLES)]
    Kv(kv::KvArguments),
    /// Wait until every change made so far is durable on the server
    Flush(flush::FlushArguments),
    /// List files of a share
    #[command(after_help = list::EXAMPLES)]
    List(list::ListArguments),
    /// Fetch files from a share
    ///
    /// A file that was cut goes on from what is there. Prints the SHA-256 of each file, as both sides have it, for `sha256sum -c`.
    #[command(override_usage = "syncd get [OPTIONS] REMOTE... [LOCAL]", after_help = get::EXAMPLES)]
    Get(get::GetArguments),
    /// Send files to a share that no client mirrors
    ///
    /// A file that was cut goes on from what the server has. Prints the SHA-256 of each file, as both sides have it, for `sha256sum
    /// -c`.
    #[command(override_usage = "syncd upload [OPTIONS] LOCAL... [REMOTE]", after_help = upload::EXAMPLES)]
    Upload(upload::UploadArguments),
    /// Remove files from a share that no client mirrors
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::DeleteArguments),
    /// Move or rename a file or directory within a share that no client mirrors
    #[command(after_help = rename::EXAMPLES)]
    Rename(rename::RenameArguments),
    /// Print a line that lets one device of another machine join a running server
    Invite(invite::InviteArguments),
    /// Enrol this machine with a server by the line of an invite
    Join(join::JoinArguments),
    /// List the devices of a running server
    Clients(clients::ClientsArguments),
    /// Take a device's rights away, at once and for good
    Revoke(revoke::RevokeArguments),
    /// Make certificates of your own, for `[tls]` in the settings
    Certs(certs::CertsArguments),
    /// Make data sets, and measure with them
    Bench(bench::BenchArguments),
    /// Mirror a small tree with a real server and a real client in this terminal
    Demo,
    /// Print the completions of a shell
    Completions(shell::CompletionsArguments),
    /// Print the manual page, or write all pages to a directory
    Man(shell::ManArguments),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected, 2 usage or settings, 3 finished with problems, \
    4 peer not reached, 5 refused, 6 version mismatch, 7 local storage failed";

/// Runs the program of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    match run(arguments) {
        Ok(()) => ExitCode::from(report::EXIT_DONE),
        Err(report) => report.print(),
    }
}

/// Help and version go to standard output, wrong arguments to standard error.
fn explain(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the stream is closed.
    drop(error.print());
    ExitCode::from(match error.exit_code() {
        0 => report::EXIT_DONE,
        _ => report::EXIT_USAGE,
    })
}

fn run(arguments: Arguments) -> Result<(), Report> {
    let overrides = arguments.global.overrides();
    match arguments.command {
        Command::Server(arguments) => serve::run(arguments, &overrides),
        Command::Client(arguments) => sync::run(arguments, &overrides),
        Command::Status(arguments) => status::run(&arguments, &overrides),
        Command::Accept(arguments) => accept::run(&arguments),
        Command::Plan(arguments) => plan::run(arguments, &overrides),
        Command::Verify(arguments) => verify::run(arguments, &overrides),
        Command::Kv(arguments) => kv::run(arguments, &overrides),
        Command::Flush(arguments) => flush::run(&arguments),
        Command::List(arguments) => list::run(arguments, &overrides),
        Command::Get(arguments) => get::run(arguments, &overrides),
        Command::Upload(arguments) => upload::run(arguments, &overrides),
        Command::Delete(arguments) => delete::run(arguments, &overrides),
        Command::Rename(arguments) => rename::run(arguments, &overrides),
        Command::Invite(arguments) => invite::run(&arguments),
        Command::Join(arguments) => join::run(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Revoke(arguments) => revoke::run(&arguments),
        Command::Certs(arguments) => certs::run(&arguments),
        Command::Bench(arguments) => bench::run(arguments, &overrides),
        Command::Demo => demo::run(&overrides),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }
}
