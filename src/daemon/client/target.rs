//! Which server is meant when nobody named one, and which share when this home was invited to one.

use super::ClientError;
use crate::daemon::connect::Connector;
use crate::daemon::options::{ClientOptions, ServerChoice, UseOptions};
use crate::host::invite::LocalInvite;
use crate::host::joined::JoinedServer;
use std::path::Path;

/// Fills in what the options leave open: servers that this home has joined, or that left a local invite.
///
/// # Errors
/// When several could be meant.
pub(super) fn choose(
    options: &mut ClientOptions,
    connector: &Connector,
) -> Result<(), ClientError> {
    // Who has certificates of one's own has joined nobody.
    if options.choice == ServerChoice::Named || options.own.is_some() {
        return Ok(());
    }
    fill(&mut options.servers, &mut options.share, connector)
}

/// The same for those who use a share without mirroring it.
///
/// # Errors
/// When several could be meant.
pub(in crate::daemon) fn choose_to_use(
    options: &mut UseOptions,
    connector: &Connector,
) -> Result<(), ClientError> {
    if options.choice == ServerChoice::Named || options.own.is_some() {
        return Ok(());
    }
    fill(&mut options.servers, &mut options.share, connector)
}

fn fill(
    servers: &mut Vec<String>,
    wanted: &mut Option<String>,
    connector: &Connector,
) -> Result<(), ClientError> {
    let mut joined = connector.joined_servers();
    let mut local = connector.local_servers();
    local.retain(|invite| {
        // One of a directory that is gone is nobody's.
        Path::new(&invite.directory).exists()
            && !joined.iter().any(|it| it.server_id == invite.server_id)
    });
    if let Some(share) = wanted.as_ref()
        && joined.iter().any(|server| server.has(share))
    {
        joined.retain(|server| server.has(share));
        local.clear();
    }
    match (joined.as_slice(), local.as_slice()) {
        ([], []) => Ok(()),
        ([server], []) => {
            *servers = vec![server.addresses.join(",")];
            if wanted.is_none() {
                *wanted = only_share(server)?;
            }
            Ok(())
        }
        ([], [invite]) => {
            let default = servers.iter();
            let new = default.filter(|address| !invite.addresses.contains(*address));
            let addresses: Vec<&str> = invite
                .addresses
                .iter()
                .chain(new)
                .map(String::as_str)
                .collect();
            *servers = vec![addresses.join(",")];
            Ok(())
        }
        _ => Err(ambiguous(&joined, &local)),
    }
}

/// The share that a home has joined a server for; none for the server's directory itself.
///
/// # Errors
/// When there are several.
pub(super) fn only_share(server: &JoinedServer) -> Result<Option<String>, ClientError> {
    match server.shares.as_slice() {
        [] => Ok(None),
        [share] => Ok(share.name.clone()),
        several => {
            let names = several.iter().map(|share| match &share.name {
                Some(name) => name.clone(),
                None => "the directory itself".to_owned(),
            });
            Err(ClientError::ManyShares {
                shares: names.collect(),
            })
        }
    }
}

fn ambiguous(joined: &[JoinedServer], local: &[LocalInvite]) -> ClientError {
    let joined = joined.iter().map(|server| server.addresses.join(" "));
    let local = local.iter().map(|invite| {
        let directory = crate::model::escape(invite.directory.as_bytes());
        format!("{} (for `{directory}`)", invite.addresses.join(" "))
    });
    ClientError::Ambiguous {
        servers: joined.chain(local).collect(),
    }
}
