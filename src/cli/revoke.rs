//! `syncd revoke`.

use super::report::Report;
use super::{ask, render, runtime, settings};
use crate::daemon::roster::DeviceStatus;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `syncd revoke`.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The device's name or id; `syncd clients` lists them
    #[arg(value_name = "NAME")]
    name: String,
    /// The server's directory (default: the only server that runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When no server answers or several could, or there is no such device.
pub fn run(arguments: &RevokeArguments) -> Result<(), Report> {
    let directory = arguments.directory.as_deref();
    let directory = directory.map(settings::absolute).transpose()?;
    let question = json!({ "name": arguments.name });
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
