//! One path on both sides: whether it is the same, and what is said of those that are not.

use crate::engine::source::{Found, FoundKind};
use crate::model::{Digest, Entry, Fault, Kind, Name, RelPath};
use crate::wire::Code;
use serde::Serialize;

/// How a path of the mirror stands to the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is on both sides, and not the same.
    Differs,
    /// The server lacks it.
    Missing,
    /// The source lacks it.
    Extra,
    /// The server has it and cannot read it.
    Unreadable,
    /// It was another each time that it was looked at.
    Changing,
}

impl Status {
    /// One word for a person.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Unreadable => "unreadable",
            Self::Changing => "changing",
        }
    }
}

/// A path that is not the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// How it stands.
    pub status: Status,
    /// The path, escaped.
    pub path: String,
    /// What differs: `kind`, `content`, `mode`, `mtime`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// More about it, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the source has under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Local {
    pub(super) found: Found,
    /// Of a file that had to be read.
    pub(super) digest: Option<Digest>,
}

/// What the server has under a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Remote {
    Entry(Entry),
    Unread { code: Code, message: String },
}

impl Remote {
    pub(super) fn is_dir(&self) -> bool {
        matches!(self, Self::Entry(entry) if entry.is_dir())
    }

    /// Whether only its content can tell that it is another than a file of so many bytes.
    pub(super) fn may_be(&self, found: &Found) -> bool {
        match (self, &found.kind) {
            (Self::Entry(entry), FoundKind::File { size: here }) => {
                matches!(entry.kind, Kind::File { size, .. } if size == *here)
            }
            _ => false,
        }
    }
}

/// A path that was found not to be the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    pub(super) dir: RelPath,
    pub(super) name: Name,
    pub(super) status: Status,
    pub(super) what: Vec<&'static str>,
    pub(super) why: Option<String>,
    /// What both sides had.
    pub(super) seen: (Option<Local>, Option<Remote>),
    /// It was so twice, or nobody is there who changes it.
    pub(super) certain: bool,
}

impl Finding {
    /// Its path; none when that is too long for one.
    pub(super) fn path(&self) -> Option<RelPath> {
        self.dir.join(&self.name).ok()
    }

    pub(super) fn told(&self) -> Difference {
        let path = self.path().map(|path| path.to_string());
        Difference {
            status: self.status,
            path: path.unwrap_or_else(|| format!("{}/{}", self.dir, self.name)),
            what: self.what.clone(),
            why: self.why.clone(),
        }
    }
}

/// Compares a path. Nothing when it is the same on both sides.
pub(super) fn judge(
    (dir, name): (&RelPath, &Name),
    local: Option<Local>,
    remote: Option<Remote>,
) -> Option<Finding> {
    let (status, what, why) = match (&local, &remote) {
        (None, None) => return None,
        (Some(_), None) => (Status::Missing, Vec::new(), None),
        (None, Some(Remote::Entry(_))) => (Status::Extra, Vec::new(), None),
        (_, Some(Remote::Unread { code, message })) => {
            let status = match code {
                Code::Fault(Fault::Changed) => Status::Changing,
                _ => Status::Unreadable,
            };
            (status, Vec::new(), Some(message.clone()))
        }
        (Some(local), Some(Remote::Entry(entry))) => {
            let what = differing(local, entry);
            if what.is_empty() {
                return None;
            }
            (Status::Differs, what, None)
        }
    };
    Some(Finding {
        dir: dir.clone(),
        name: name.clone(),
        status,
        what,
        why,
        seen: (local, remote),
        certain: false,
    })
}

fn differing(local: &Local, entry: &Entry) -> Vec<&'static str> {
    let same = match (&local.found.kind, &entry.kind) {
        (FoundKind::Directory, Kind::Directory) => true,
        (FoundKind::Symlink { target }, Kind::Symlink { target: there }) => target == there,
        (
            FoundKind::File { size },
            Kind::File {
                size: there,
                digest,
            },
        ) => size == there && local.digest == Some(*digest),
        _ => return vec!["kind"],
    };
    let link = matches!(entry.kind, Kind::Symlink { .. });
    let rows = [
        ("content", !same),
        ("mode", !link && local.found.mode != entry.mode),
        ("mtime", local.found.mtime != entry.mtime),
    ];
    let differing = rows.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(what, _)| what).collect()
}

#[cfg(test)]
mod tests {
    use super::{Local, Remote, Status, judge};
    use crate::engine::source::{Found, FoundKind};
    use crate::index::Stat;
    use crate::model::{Digest, Entry, Fault, Kind, Mtime, Name, RelPath};
    use crate::wire::Code;

    fn local(kind: FoundKind, mode: u32, secs: i64) -> Option<Local> {
        let stat = Stat {
            inode: 1,
            birth: 0,
            ctime: 0,
            links: 1,
            mount: false,
        };
        let found = Found {
            kind,
            mode,
            mtime: Mtime { secs, nanos: 0 },
            stat,
        };
        let digest = Some(Digest([1; 32]));
        Some(Local { found, digest })
    }

    fn remote(kind: Kind, mode: u32, secs: i64) -> Option<Remote> {
        let mtime = Mtime { secs, nanos: 0 };
        Some(Remote::Entry(Entry { kind, mode, mtime }))
    }

    #[test]
    fn what_differs_is_named() {
        let file = |size| FoundKind::File { size };
        let there = |size, byte| Kind::File {
            size,
            digest: Digest([byte; 32]),
        };
        let link = |target: &[u8]| Kind::Symlink {
            target: target.into(),
        };
        let here = || FoundKind::Symlink {
            target: b"a"[..].into(),
        };
        let unread = |fault| {
            let message = String::new();
            let code = Code::Fault(fault);
            Some(Remote::Unread { code, message })
        };
        let differs = |what: &[&'static str]| Some((Status::Differs, what.to_vec()));
        let plain = |status| Some((status, Vec::new()));
        let rows = [
            (local(file(2), 6, 0), remote(there(2, 1), 6, 0), None),
            (
                local(file(2), 6, 0),
                remote(there(2, 2), 6, 0),
                differs(&["content"]),
            ),
            (
                local(file(2), 6, 0),
                remote(there(3, 1), 7, 1),
                differs(&["content", "mode", "mtime"]),
            ),
            (
                local(file(2), 6, 0),
                remote(Kind::Directory, 6, 0),
                differs(&["kind"]),
            ),
            (
                local(FoundKind::Directory, 6, 0),
                remote(Kind::Directory, 7, 0),
                differs(&["mode"]),
            ),
            (local(here(), 0, 0), remote(link(b"a"), 7, 0), None),
            (
                local(here(), 0, 0),
                remote(link(b"b"), 0, 0),
                differs(&["content"]),
            ),
            (local(file(2), 6, 0), None, plain(Status::Missing)),
            (None, remote(link(b"a"), 0, 0), plain(Status::Extra)),
            (
                local(file(2), 6, 0),
                unread(Fault::Io),
                plain(Status::Unreadable),
            ),
            (
                local(file(2), 6, 0),
                unread(Fault::Changed),
                plain(Status::Changing),
            ),
            (None, None, None),
        ];
        let (dir, name) = (RelPath::root(), Name::new(b"a").unwrap());
        for (here, there, expected) in rows {
            let found = judge((&dir, &name), here.clone(), there.clone());
            let found = found.map(|finding| (finding.status, finding.what));
            assert_eq!(found, expected, "{here:?} {there:?}");
        }
    }
}
