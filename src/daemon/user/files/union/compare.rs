//! Where two servers differ about a path.

use crate::daemon::user::files::{Entry, EntryKind};

/// What any of the servers has at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// As the first server has it that has something.
    pub entry: Entry,
    /// Those that have it otherwise.
    pub differs: Vec<Difference>,
}

/// What is different on a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The server.
    pub server: String,
    /// In which regards; at least one.
    pub what: Vec<Aspect>,
    /// What it has instead, if that is known.
    pub entry: Option<Entry>,
}

/// In what regard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aspect {
    /// It has nothing there.
    Missing,
    /// It cannot say what it has.
    Unreadable,
    /// Another kind of thing.
    Kind,
    /// Other bytes.
    Content,
    /// Another length.
    Size,
    /// A link to something else.
    Target,
    /// Other permission bits.
    Mode,
    /// Another modification time.
    Time,
}

impl Aspect {
    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Size => "size",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Time => "time",
        }
    }
}

/// What one server has at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    Missing,
    Unknown,
    There(Entry),
}

/// In what regards something is not what another server has.
pub(super) fn aspects(entry: &Entry, state: &State) -> Vec<Aspect> {
    let other = match state {
        State::Missing => return vec![Aspect::Missing],
        State::Unknown => return vec![Aspect::Unreadable],
        State::There(other) => other,
    };
    let mut found = Vec::new();
    let mut differs = |is_so: bool, aspect| found.extend(is_so.then_some(aspect));
    match (&entry.kind, &other.kind) {
        // When something was last put into a directory says nothing of what is in it.
        (EntryKind::Directory, EntryKind::Directory) => {
            differs(entry.mode != other.mode, Aspect::Mode);
        }
        (EntryKind::File { size: one }, EntryKind::File { size: two }) => {
            differs(one != two, Aspect::Size);
            differs(entry.mode != other.mode, Aspect::Mode);
            differs(entry.mtime != other.mtime, Aspect::Time);
        }
        (EntryKind::Symlink { target: one }, EntryKind::Symlink { target: two }) => {
            differs(one != two, Aspect::Target);
            differs(entry.mtime != other.mtime, Aspect::Time);
        }
        _ => differs(true, Aspect::Kind),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Aspect, State, aspects};
    use crate::daemon::user::files::{Entry, EntryKind};
    use crate::model::Mtime;

    #[test]
    fn what_differs_is_named() {
        let entry = |kind, mode, secs| Entry {
            kind,
            mode,
            mtime: Mtime { secs, nanos: 0 },
        };
        let file = |size, mode, secs| entry(EntryKind::File { size }, mode, secs);
        let link = |target: &[u8], mode, secs| {
            let target = target.to_vec();
            entry(EntryKind::Symlink { target }, mode, secs)
        };
        let directory = |mode, secs| entry(EntryKind::Directory, mode, secs);
        use Aspect::{Kind, Missing, Mode, Size, Target, Time, Unreadable};
        for (one, other, expected) in [
            (file(1, 0o644, 5), file(1, 0o644, 5), vec![]),
            (file(1, 0o644, 5), file(2, 0o600, 6), vec![Size, Mode, Time]),
            (directory(0o755, 5), directory(0o755, 6), vec![]),
            (directory(0o755, 5), directory(0o700, 5), vec![Mode]),
            (directory(0o755, 5), file(1, 0o755, 5), vec![Kind]),
            (link(b"a", 0o777, 5), link(b"a", 0o755, 5), vec![]),
            (link(b"a", 0, 5), link(b"b", 0, 6), vec![Target, Time]),
        ] {
            let state = State::There(other);
            assert_eq!(aspects(&one, &state), expected, "{one:?} {state:?}");
        }
        let one = file(1, 0, 0);
        assert_eq!(aspects(&one, &State::Missing), [Missing]);
        assert_eq!(aspects(&one, &State::Unknown), [Unreadable]);
    }
}
