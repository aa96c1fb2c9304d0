//! `syncd revoke`.

use super::report::Report;
use super::{ask, overview, render, runtime, settings};
use crate::daemon::roster::DeviceStatus;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `syncd revoke`.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The device's name or id; `syncd clients` lists them
    #[arg(value_name = "NAME", required_unless_present = "invites")]
    name: Option<String>,
    /// Instead of a device: take back all invites that were not used yet
    #[arg(long, conflicts_with = "name")]
    invites: bool,
    /// The server's directory (default: the only server that runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When no server answers or several could, there is no such device, or the list cannot be written.
pub fn run(arguments: &RevokeArguments) -> Result<(), Report> {
    let directory = arguments.directory.as_deref();
    let directory = directory.map(settings::absolute).transpose()?;
    let Some(name) = &arguments.name else {
        return withdraw(directory);
    };
    let question = json!({ "name": name });
    let device: DeviceStatus = runtime::run(|_| ask::server(directory, "revoke", question))?;
    let name = &device.name;
    render::line(&format!(
        "revoked `{name}`: its connections end, and nothing is answered to it"
    ))?;
    if device.local {
        super::report::note(&[
            "it was of this user, so clients of this home cannot enrol themselves until the next `syncd invite`".to_owned(),
        ]);
    }
    Ok(())
}

fn withdraw(directory: Option<PathBuf>) -> Result<(), Report> {
    let answer: Value = runtime::run(|_| ask::server(directory, "withdraw", json!({})))?;
    let withdrawn = answer.get("withdrawn").and_then(Value::as_u64);
    render::line(&match withdrawn.unwrap_or(0) {
        0 => "there was no invite that could still be used".to_owned(),
        several => format!("withdrew {}", overview::count(several, "invite")),
    })
}
