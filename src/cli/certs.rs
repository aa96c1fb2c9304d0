//! `syncd certs init`.

use super::report::{Kind, Report};
use super::{render, settings};
use crate::config::Period;
use crate::host::certset::{self, CertSetError, Wanted};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `syncd certs`.
#[derive(Debug, Args)]
pub struct CertsArguments {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make an authority, a server's and clients' certificates with their keys, as far as they are not there
    Init(InitArguments),
}

/// Arguments of `syncd certs init`.
#[derive(Debug, Args)]
struct InitArguments {
    /// Where the files go; README.md among them says how they are used
    #[arg(value_name = "DIR", default_value = "certs")]
    directory: PathBuf,
    /// A name or address by which clients reach the server, besides this machine's; several times for several
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// A client's name, which is the name of its files; several times for several
    #[arg(long, value_name = "NAME", default_value = "client")]
    client: Vec<String>,
    /// How long the certificates are valid, "3s" to "10years"
    #[arg(long, value_name = "TIME", default_value = "2years")]
    valid: Period,
    /// Make the certificates of the server and of these clients anew, for the keys that are there: nobody has to be enrolled again
    #[arg(long)]
    renew: bool,
}

const LONGEST: Duration = Duration::from_secs(315_576_000);

/// Runs the command.
///
/// # Errors
/// When a name is none, a file that is there cannot be used, or one cannot be made.
pub fn run(arguments: &CertsArguments) -> Result<(), Report> {
    let CertsCommand::Init(arguments) = &arguments.command;
    let lifetime = arguments.valid.0;
    if lifetime < Duration::from_secs(3) || lifetime > LONGEST {
        return Err(Report::new(
            Kind::Usage,
            "certificates are valid for 3 s to 10 years",
        ));
    }
    let made = certset::make(&Wanted {
        directory: arguments.directory.clone(),
        hosts: arguments.host.clone(),
        clients: arguments.client.clone(),
        lifetime,
        renew: arguments.renew,
    });
    let made = made.map_err(|error| explain(&error))?;
    for path in &made {
        render::line(&format!("made {}", settings::shown(path)))?;
    }
    let directory = settings::shown(&arguments.directory);
    super::report::note(&[if made.is_empty() {
        format!("all of it is in {directory} already; `--renew` makes the certificates anew")
    } else {
        format!("{directory}/README.md says what goes where")
    }]);
    Ok(())
}

fn explain(error: &CertSetError) -> Report {
    match error {
        CertSetError::There(_) => Report::from_error(Kind::Usage, error).hint(
            "add `--renew` for a certificate with these names, too: its key, and the other names, stay",
        ),
        CertSetError::Host(_) | CertSetError::Client(_) => Report::from_error(Kind::Usage, error),
        _ => Report::from_error(Kind::Storage, error),
    }
}
