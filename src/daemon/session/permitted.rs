//! What a request asks of the rights of its device.

use crate::daemon::share::Refusal;
use crate::host::devices::DeviceInfo;
use crate::host::rights::Access;
use crate::model::escape;
use crate::wire::{Code, FileAsk, KeyAsk, Request};

/// What a device must be allowed to do with the share of its session for a request to be looked at; none for those that
/// are not about the share. A new kind of request has to decide.
fn needs(request: &Request) -> Option<Access> {
    match request {
        Request::Hello { .. }
        | Request::Visit(_)
        | Request::Use(_)
        | Request::Ping {}
        | Request::Renew { .. } => None,
        Request::File(request) => Some(of_files(&request.ask)),
        Request::Key(request) => Some(of_keys(&request.ask)),
        Request::List { .. } | Request::Recipe { .. } | Request::Inspect(_) => Some(Access::Read),
        Request::Mutate { .. }
        | Request::UploadOpen { .. }
        | Request::UploadData { .. }
        | Request::UploadClose { .. }
        | Request::UploadAbort { .. }
        | Request::Settled {} => Some(Access::Write),
    }
}

fn of_files(ask: &FileAsk) -> Access {
    match ask {
        FileAsk::Look { .. }
        | FileAsk::List { .. }
        | FileAsk::Read { .. }
        | FileAsk::Sum { .. }
        | FileAsk::Cached { .. } => Access::Read,
        FileAsk::Change { .. } => Access::Write,
    }
}

fn of_keys(ask: &KeyAsk) -> Access {
    match ask {
        KeyAsk::Get { .. } | KeyAsk::List { .. } => Access::Read,
        KeyAsk::Piece { .. } | KeyAsk::Set { .. } | KeyAsk::Delete { .. } => Access::Write,
    }
}

/// Looks at the rights of a device for one request in a session of a share.
///
/// # Errors
/// When it may not: the session ends.
pub(super) fn check(
    device: &DeviceInfo,
    share: Option<&str>,
    request: &Request,
) -> Result<(), Refusal> {
    if device.revoked.is_cancelled() {
        return Err(revoked());
    }
    match needs(request) {
        Some(wanted) if !device.rights.allow(share, wanted) => {
            let what = share.map_or_else(
                || "the directory itself".to_owned(),
                |name| format!("the share `{}`", escape(name.as_bytes())),
            );
            let verb = wanted.word();
            let message = format!(
                "this device may not {verb} {what} (any more); more takes a new `syncd invite` on the server"
            );
            Err(Refusal::new(Code::Forbidden, message))
        }
        _ => Ok(()),
    }
}

/// What a device is told that was revoked.
pub(super) fn revoked() -> Refusal {
    Refusal::new(
        Code::Revoked,
        "this device was revoked on the server; a new `syncd invite` there and `syncd join` here bring it back",
    )
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::host::devices::DeviceInfo;
    use crate::host::rights::{Access, Rights};
    use crate::wire::{
        Code, FileAsk, FileRequest, Inspect, KeyAsk, KeyMode, KeyRequest, Request, Use, Visit,
        WireBytes,
    };
    use tokio_util::sync::CancellationToken;

    /// One request of each kind, and the least that it takes.
    fn all() -> Vec<(Request, Option<Access>)> {
        let path = || WireBytes::new(b"a");
        let hello = Request::Hello {
            minor: 0,
            share: None,
            source: String::new(),
            source_name: String::new(),
            take_over: true,
        };
        let mutate = Request::Mutate {
            id: 1,
            based_on: 0,
            zstd: None,
            ops: Vec::new(),
        };
        let open = Request::UploadOpen {
            upload: 1,
            base: Some(path()),
            path: None,
            leftover: None,
        };
        let list = Request::List {
            id: 1,
            path: path(),
            after: None,
        };
        let recipe = Request::Recipe {
            id: 1,
            path: path(),
            block: 4096,
            seed: 0,
            leftover: false,
        };
        let csr = String::new();
        let visit = Visit {
            minor: 0,
            share: None,
            source: String::new(),
        };
        let inspect = Inspect {
            id: 1,
            path: path(),
            first: None,
            last: None,
        };
        let (read, write) = (Some(Access::Read), Some(Access::Write));
        let mut all = vec![
            (hello, None),
            (mutate, write),
            (open, write),
            (
                Request::UploadData {
                    upload: 1,
                    zstd: None,
                },
                write,
            ),
            (Request::UploadClose { upload: 1, size: 0 }, write),
            (Request::UploadAbort { upload: 1 }, write),
            (Request::Visit(visit), None),
            (Request::Inspect(inspect), read),
            (list, read),
            (recipe, read),
            (Request::Settled {}, write),
            (Request::Ping {}, None),
            (Request::Renew { csr }, None),
        ];
        all.extend(of_using());
        all
    }

    /// What those ask for who use a share without mirroring it.
    fn of_using() -> Vec<(Request, Option<Access>)> {
        let path = || WireBytes::new(b"a");
        let usage = Use {
            minor: 6,
            share: None,
        };
        let file = |ask| Request::File(FileRequest { id: 1, ask });
        let key = |ask| Request::Key(KeyRequest { id: 1, ask });
        let list = FileAsk::List {
            path: path(),
            first: None,
        };
        let content = FileAsk::Read {
            path: path(),
            offset: 0,
            length: None,
            version: None,
        };
        let sum = FileAsk::Sum {
            path: path(),
            block: 4096,
            seed: 0,
        };
        let change = FileAsk::Change {
            ops: Vec::new(),
            given: Vec::new(),
        };
        let (read, write) = (Some(Access::Read), Some(Access::Write));
        let mut all = vec![
            (Request::Use(usage), None),
            (file(FileAsk::Look { path: path() }), read),
            (file(list), read),
            (file(content), read),
            (file(sum), read),
            (file(FileAsk::Cached { first: None }), read),
            (file(change), write),
        ];
        let get = KeyAsk::Get {
            key: path(),
            start: 0,
            unique: None,
        };
        let set = KeyAsk::Set {
            key: path(),
            mode: KeyMode::Always,
            unique: 0,
            flags: 0,
            lasts_ms: None,
            pieces: None,
        };
        let list = KeyAsk::List {
            prefix: path(),
            after: None,
        };
        all.extend([
            (key(get), read),
            (key(list), read),
            (key(KeyAsk::Piece { value: 1 }), write),
            (key(set), write),
            (key(KeyAsk::Delete { key: path() }), write),
        ]);
        all
    }

    /// How many kinds of questions about files and keys there are beside one of each.
    fn more() -> usize {
        let schema = crate::wire::schemas();
        let (_, request) = schema
            .iter()
            .find(|(name, _)| name.starts_with("request"))
            .unwrap();
        let kinds = |name: &str| {
            let ask = request.get("$defs").and_then(|defs| defs.get(name));
            ask.unwrap()["oneOf"].as_array().unwrap().len() - 1
        };
        kinds("FileAsk") + kinds("KeyAsk")
    }

    #[test]
    fn every_request_is_held_against_the_rights_of_its_device() {
        let schema = crate::wire::schemas();
        let (_, request) = schema
            .iter()
            .find(|(name, _)| name.starts_with("request"))
            .unwrap();
        let kinds = request.get("oneOf").and_then(|kinds| kinds.as_array());
        assert_eq!(kinds.unwrap().len() + more(), all().len());
        let names = [None, Some("photos"), Some("music")];
        for (share, other) in names.iter().zip(names.iter().cycle().skip(1)) {
            for granted in [None, Some(Access::Read), Some(Access::Write)] {
                let rights = granted.map_or_else(Rights::default, |a| Rights::of(*share, a));
                let device = DeviceInfo {
                    id: "a".to_owned(),
                    name: "a".to_owned(),
                    local: false,
                    certificate_until: 0,
                    rights: rights.into(),
                    revoked: CancellationToken::new(),
                };
                for (request, needed) in all() {
                    let may = needed.is_none() || granted >= needed;
                    assert_eq!(check(&device, *share, &request).is_ok(), may, "{request:?}");
                    // A right to one share is none to another.
                    let elsewhere = check(&device, *other, &request);
                    assert_eq!(elsewhere.is_ok(), needed.is_none(), "{request:?}");
                }
                device.revoked.cancel();
                for (request, _) in all() {
                    let refusal = check(&device, *share, &request).unwrap_err();
                    assert_eq!(refusal.code, Code::Revoked);
                }
            }
        }
    }
}
