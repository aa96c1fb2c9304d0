//! The first message of a session, and what its answer holds.

use super::connection::Dial;
use super::mirror::Link;
use crate::engine::client::Welcome;
use crate::host::net;
use crate::host::place::Above;
use crate::model::limits::{MAX_ABOVE, MAX_LEFTOVERS};
use crate::model::{LeftoverKey, Sum, escape};
use crate::wire::{Code, MINOR, MINOR_LEFTOVER, Request, Visit};
use std::path::Path;

/// What a server is told that has no visits.
const OLDER: &str = "it is older than this program and lets nobody only look; upgrade it first";

/// As the writer of a share, or as somebody who only looks.
pub(super) fn first(dial: &Dial, device: &str, share: Option<String>) -> Request {
    if dial.visits {
        return visit(device, &dial.directory, share);
    }
    Request::Hello {
        minor: MINOR,
        share,
        source: source_id(device, &dial.directory),
        source_name: format!("{}:{}", net::host_name(), dial.directory.display()),
        take_over: dial.take_over,
    }
}

/// As somebody who only looks.
pub(super) fn visit(device: &str, directory: &Path, share: Option<String>) -> Request {
    Request::Visit(Visit {
        minor: MINOR,
        share,
        source: source_id(device, directory),
    })
}

/// What a refusal means: a server that does not know the first message of a visit does not know the version.
pub(super) fn understood(first_of_visit: bool, code: Code, message: String) -> (Code, String) {
    if first_of_visit && code == Code::Protocol {
        (Code::Version, OLDER.to_owned())
    } else {
        (code, message)
    }
}

/// What a welcome says in its header (minor version, version of the share, whether it is the first contact) and in its
/// body: the sum of the share's tree, and the keys of its leftovers. With the way that is open now.
pub(super) fn greeting(
    link: &mut Option<Link>,
    (minor, version, first_contact): (u16, u64, bool),
    body: &[u8],
) -> Option<(Link, Welcome)> {
    let (sum, keys) = body.split_first_chunk()?;
    let (keys, []) = keys.as_chunks() else {
        return None;
    };
    let keys = keys.iter().take(MAX_LEFTOVERS).copied();
    let mut link = link.take()?;
    link.resumes = minor >= MINOR_LEFTOVER;
    let welcome = Welcome {
        sum: Sum::of(*sum),
        version,
        first_contact,
        leftovers: keys.map(LeftoverKey).collect(),
    };
    Some((link, welcome))
}

/// Why a source cannot be mirrored to a share that lies in it, or that it lies in: each change would be one more.
pub(super) fn overlap(source: &Path, server: &str, share: &[String]) -> Option<String> {
    let source = Above::of(source);
    let (path, name) = source.own()?;
    let outer = share.first()?;
    let shown = |path: &Path| escape(path.as_os_str().as_encoded_bytes());
    if outer == name {
        return Some(format!(
            "`{}` is itself the mirror that `{server}` keeps",
            shown(path)
        ));
    }
    if let Some(mirror) = source.named(outer) {
        let (path, mirror) = (shown(path), shown(mirror));
        return Some(format!(
            "`{path}` lies in `{mirror}`, which is the mirror that `{server}` keeps of it"
        ));
    }
    let contains = share.iter().take(MAX_ABOVE).any(|above| above == name);
    contains.then(|| {
        format!(
            "`{}` contains the mirror that `{server}` keeps of it",
            shown(path)
        )
    })
}

/// The same source of the same device is the same writer, also when its state was lost.
fn source_id(device: &str, directory: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let path = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(device.as_bytes())
        .update(b"\n")
        .update(path.as_os_str().as_bytes());
    hasher.finalize().to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::understood;
    use crate::wire::Code;

    #[test]
    fn a_server_without_visits_is_told_apart() {
        let refused = |first, code| understood(first, code, "text".to_owned()).0;
        assert_eq!(refused(true, Code::Protocol), Code::Version);
        assert_eq!(refused(true, Code::Held), Code::Held);
        assert_eq!(refused(false, Code::Protocol), Code::Protocol);
    }
}
