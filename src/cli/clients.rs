//! `syncd clients`.

use super::report::{Kind, Report, printable};
use super::{ask, overview, render, runtime, settings};
use crate::daemon::roster::DeviceStatus;
use crate::host::clock;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `syncd clients`.
#[derive(Debug, Args)]
pub struct ClientsArguments {
    /// The server's directory (default: the only server that runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print a JSON array, one object for each device
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When no server answers, or several could.
pub fn run(arguments: &ClientsArguments) -> Result<(), Report> {
    let directory = arguments.directory.as_deref();
    let directory = directory.map(settings::absolute).transpose()?;
    let devices: Vec<DeviceStatus> =
        runtime::run(|_| ask::server(directory, "clients", json!({})))?;
    if arguments.json {
        let text = serde_json::to_string(&devices).map_err(|error| {
            Report::new(Kind::Unexpected, "the devices cannot be shown").caused_by(&error)
        })?;
        return render::print(&(text + "\n"));
    }
    render::print(&text(&devices, clock::unix_seconds(clock::wall())))
}

/// A line for each device, and one for each of its connections.
fn text(devices: &[DeviceStatus], now: u64) -> String {
    if devices.is_empty() {
        return "no device is enrolled yet: `syncd invite` prints a line for one\n".to_owned();
    }
    let mut lines = Vec::new();
    for device in devices {
        let (name, rights) = (&device.name, rights(device));
        let seen = overview::age(now.saturating_sub(device.last_seen) * 1000);
        let state = match (device.revoked, device.connections.is_empty()) {
            (true, _) => "revoked".to_owned(),
            (false, false) => "connected now".to_owned(),
            (false, true) => format!("last seen {seen} ago"),
        };
        let local = if device.local { ", of this user" } else { "" };
        lines.push(format!("{name}{local}: {rights}; {state}"));
        if device.revoked {
            continue;
        }
        if let Some(until) = device.certificate_until {
            lines.push(if until > now {
                let left = overview::age((until - now) * 1000);
                format!("  certificate good for {left}")
            } else {
                "  certificate has expired: the device has to join again".to_owned()
            });
        }
        for connection in &device.connections {
            let share = overview::share_name(connection.share.as_deref());
            let since = overview::age(connection.since_ms);
            lines.push(format!(
                "  from {}, {share}, for {since}",
                connection.address
            ));
        }
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn rights(device: &DeviceStatus) -> String {
    let mut all: Vec<String> = Vec::new();
    if let Some(access) = device.everywhere {
        all.push(format!("may {} everything", access.word()));
    }
    for share in &device.shares {
        let name = match &share.share {
            Some(name) => format!("share {name}"),
            None => "the directory itself".to_owned(),
        };
        all.push(format!("may {} {name}", share.access.word()));
    }
    if all.is_empty() {
        return "may do nothing".to_owned();
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::daemon::roster::{DeviceConnection, DeviceStatus, ShareAccess};
    use crate::host::rights::Access;

    #[test]
    fn each_device_has_its_line() {
        let device = |name: &str| DeviceStatus {
            id: "0".repeat(64),
            name: name.to_owned(),
            local: false,
            revoked: false,
            everywhere: None,
            shares: vec![ShareAccess {
                share: Some("photos".to_owned()),
                access: Access::Read,
            }],
            enrolled_at: 100,
            last_seen: 940,
            certificate_until: Some(4600),
            connections: Vec::new(),
        };
        let mut online = device("desk");
        online.connections.push(DeviceConnection {
            address: "192.0.2.1:9".to_owned(),
            share: None,
            since_ms: 1500,
        });
        (online.local, online.everywhere) = (true, Some(Access::Write));
        online.shares.clear();
        let mut gone = device("la\u{1b}ptop");
        gone.revoked = true;
        assert_eq!(
            text(&[device("phone"), online, gone], 1000),
            "phone: may read share photos; last seen 1 min 0 s ago\n  certificate good for 1 h 0 min\n\
             desk, of this user: may write everything; connected now\n  certificate good for 1 h 0 min\n  \
             from 192.0.2.1:9, the directory itself, for 1.5 s\n\
             la\\u{1b}ptop: may read share photos; revoked\n"
        );
        assert!(text(&[], 0).contains("syncd invite"));
    }
}
