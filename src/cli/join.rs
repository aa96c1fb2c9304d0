//! `syncd join`.

use super::report::{Kind, Report};
use super::{render, runtime};
use crate::daemon::connect::{ConnectError, ConnectKind, Connector, Joined};
use crate::host::dirs::Dirs;
use crate::wire::Invite;
use clap::Args;
use std::io::{BufRead, Read};

/// Arguments of `syncd join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The line that `syncd invite` printed on the server's machine; `-` reads it from standard input, where no other user of this machine sees it
    #[arg(value_name = "INVITE", required = true)]
    invite: Vec<String>,
    /// A name for this device (default: the name of this machine)
    #[arg(long)]
    name: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the line is damaged, used, or expired, or the server cannot be reached or does not want this device.
pub fn run(arguments: &JoinArguments) -> Result<(), Report> {
    let line = match arguments.invite.as_slice() {
        [only] if only == "-" => read_line()?,
        parts => parts.concat(),
    };
    let invite: Invite = line.parse().map_err(|error| {
        Report::from_error(Kind::Usage, &error)
            .hint("give the whole line that `syncd invite` printed, in one piece")
    })?;
    let dirs = Dirs::platform().map_err(|error| Report::from_error(Kind::Storage, &error))?;
    let connector = Connector::new(dirs);
    let (connector, name) = (&connector, arguments.name.as_deref());
    let joined = runtime::run(|stop| async move {
        tokio::select! {
            joined = connector.join_by(&invite, name) => {
                joined.map_err(|error| explain(&error))
            }
            () = stop.cancelled() => Err(Report::new(Kind::Unexpected, "stopped before it had joined")),
        }
    })?;
    render::line(&told(&joined, connector))
}

/// Longest line of an invite, in bytes, and more.
const MAX_LINE: u64 = 64 * 1024;

fn read_line() -> Result<String, Report> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_LINE).read_line(&mut line);
    read.map_err(|error| {
        Report::new(Kind::Usage, "cannot read the invite from standard input").caused_by(&error)
    })?;
    Ok(line.trim().to_owned())
}

/// What this device may do now, and the command for it.
fn told(joined: &Joined, connector: &Connector) -> String {
    let device = &joined.device;
    let share = match &joined.share {
        Some(name) => format!("the share `{name}`"),
        None => "the server's directory".to_owned(),
    };
    let address = &joined.address;
    if !joined.write {
        return format!("joined {address} as `{device}`, which may read {share}");
    }
    let known = connector.joined_servers().len() + connector.local_servers().len();
    let mut command = "syncd client -d DIR".to_owned();
    if known > 1 {
        command += &format!(" --server {address}");
    }
    if let (true, Some(name)) = (joined.server.shares.len() > 1, &joined.share) {
        command += &format!(" --share {name}");
    }
    format!(
        "joined {address} as `{device}`, which may write {share}: `{command}` mirrors DIR there"
    )
}

fn explain(error: &ConnectError) -> Report {
    let kind = match (error, error.kind()) {
        (ConnectError::NotEnrolled { .. }, _)
        | (_, ConnectKind::Refused | ConnectKind::NoInvite) => Kind::Refused,
        (_, ConnectKind::Version) => Kind::Version,
        (_, ConnectKind::Local) => Kind::Storage,
        (_, ConnectKind::Unreachable) => Kind::Unreachable,
    };
    Report::from_error(kind, error).hint(error.hint())
}
