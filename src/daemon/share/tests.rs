//! A share that is opened again and again, on a real directory.

use super::{Claim, Held, Shares, Upkeep};
use crate::delta::digest;
use crate::engine::server::{Change, Range, Source, Stager};
use crate::host::clock;
use crate::host::devices::DeviceInfo;
use crate::host::disk::Durability;
use crate::host::rights::Rights;
use crate::model::{Entry, Kind, Mtime, Name, RelPath};
use crate::wire::Response;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const UPKEEP: Upkeep = Upkeep {
    durability: Durability::None,
    sweep: Duration::from_secs(3600),
};

const TIME: Mtime = Mtime { secs: 5, nanos: 7 };

struct Place(tempfile::TempDir);

/// A server on the directory, with its one session.
struct Open {
    shares: Arc<Shares>,
    held: Held,
    generation: String,
    version: u64,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.root()).unwrap();
        fs::create_dir(place.state("state")).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("share")
    }

    fn state(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, state: &str) -> Open {
        let state = self.state(state);
        let placed = BTreeMap::new();
        let shares = Shares::open(&self.root(), placed, UPKEEP, Some(&state)).unwrap();
        let claim = Claim {
            device: device(),
            source: "a".repeat(32),
            source_name: "a".to_owned(),
            take_over: false,
        };
        let held = shares.attach(None, &claim).unwrap();
        let (welcome, _) = held.welcome(0).unwrap();
        let Response::Welcome {
            generation,
            version,
            ..
        } = welcome
        else {
            panic!("{welcome:?}");
        };
        held.settle().unwrap();
        Open {
            shares,
            held,
            generation,
            version,
        }
    }

    /// What a killed process would have left of its state.
    fn copy_state(&self, to: &str) {
        fs::create_dir(self.state(to)).unwrap();
        for entry in fs::read_dir(self.state("state")).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().ends_with(".opening") {
                fs::copy(entry.path(), self.state(to).join(entry.file_name())).unwrap();
            }
        }
    }
}

impl Open {
    fn commit(&self, changes: Vec<Change>) {
        let mut stager = Stager::new(Arc::clone(self.held.share.store()));
        let changes = changes.into_iter().map(Ok).collect();
        stager.add((1, 0), changes, &mut |_| None, &mut |_| panic!("a copy"));
        for answer in self.held.commit(stager.finish()).unwrap() {
            assert!(
                matches!(&answer, Response::Applied { failed, .. } if failed.is_empty()),
                "{answer:?}"
            );
        }
    }

    fn fill(&self, dirs: usize, files: usize) {
        for dir in 0..dirs {
            let mut changes = vec![Change::Mkdir {
                path: path(&format!("d{dir}")),
                mode: 0o755,
                mtime: TIME,
            }];
            changes.extend((0..files).map(|file| put(&format!("d{dir}/f{file}"), "old")));
            self.commit(changes);
        }
    }

    fn read(&self) -> u64 {
        self.held.share.files_read()
    }

    fn drift(&self) -> u64 {
        self.shares.status()[0].drift
    }

    fn wait_until_saved(&self) {
        let end = clock::monotonic() + Duration::from_secs(30);
        while !self.held.share.is_saved() {
            assert!(clock::monotonic() < end, "the index is not saved");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn close(self) {
        self.held.detach();
        self.shares.close();
    }
}

fn device() -> DeviceInfo {
    DeviceInfo {
        id: "a".to_owned(),
        name: "a".to_owned(),
        local: true,
        certificate_until: 0,
        rights: Rights::all().into(),
        revoked: CancellationToken::new(),
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn put(at: &str, content: &str) -> Change {
    let bytes = content.as_bytes();
    Change::Put {
        path: path(at),
        mode: 0o644,
        mtime: TIME,
        size: bytes.len() as u64,
        digest: digest(bytes),
        source: Source::Inline(Bytes::copy_from_slice(bytes)),
    }
}

fn rename(from: &str, to: &str) -> Change {
    Change::Rename {
        from: path(from),
        to: path(to),
    }
}

fn attributes(at: &str) -> Change {
    Change::Attributes {
        path: path(at),
        mode: 0o600,
        mtime: Mtime { secs: 9, nanos: 9 },
    }
}

/// Every kind of change that leaves a file with another change time.
fn various() -> Vec<Change> {
    vec![
        rename("d0/f0", "d1/moved"),
        rename("d2/f1", "d2/f2"),
        rename("d3", "d4/inside"),
        put("d1/f1", "new"),
        attributes("d1/f2"),
        attributes("d5"),
        Change::Exchange {
            a: path("d1/f3"),
            b: path("d2/f3"),
        },
        Change::Delete {
            path: path("d1/f4"),
        },
        Change::Symlink {
            path: path("link"),
            target: b"d1"[..].into(),
            mtime: TIME,
        },
    ]
}

#[test]
fn a_server_that_starts_again_reads_no_file() {
    let place = Place::new();
    let first = place.open("state");
    first.fill(20, 100);
    first.commit(various());
    let sum = first.held.welcome(0).unwrap().1;
    let before = first.shares.status()[0].clone();
    assert_eq!(first.read(), 0, "what was committed is known");
    first.close();
    let second = place.open("state");
    assert_eq!(second.read(), 0);
    assert_eq!(second.held.welcome(0).unwrap().1, sum);
    assert_eq!(second.generation, before.generation);
    assert_eq!((second.version, second.drift()), (before.version, 0));
    second.close();
}

#[test]
fn a_killed_server_reads_only_what_was_not_saved() {
    let place = Place::new();
    let first = place.open("state");
    first.fill(20, 100);
    first.wait_until_saved();
    place.copy_state("killed");
    let last = ["d1/new", "d1/f9"].map(|name| put(name, "last"));
    first.commit(last.into());
    first.commit(vec![rename("d7", "d8/d7")]);
    let (sum, generation) = (first.held.welcome(0).unwrap().1, first.generation.clone());
    first.close();
    let second = place.open("killed");
    assert_eq!(second.read(), 2);
    assert_eq!(second.held.welcome(0).unwrap().1, sum);
    assert_ne!(second.generation, generation);
    assert_eq!(
        second.drift(),
        0,
        "the server's own last changes are no drift"
    );
    second.close();
}

#[test]
fn what_somebody_else_changed_is_read_and_is_drift() {
    let place = Place::new();
    let first = place.open("state");
    assert_eq!(first.drift(), 0);
    first.fill(3, 3);
    let generation = first.generation.clone();
    first.close();
    fs::write(place.root().join("d1/f1"), "own").unwrap();
    fs::remove_file(place.root().join("d1/f2")).unwrap();
    let second = place.open("state");
    assert_eq!(second.read(), 1);
    // The directory's time changed, too.
    assert_eq!(second.drift(), 3);
    assert_ne!(second.generation, generation);
    second.close();
}

#[test]
fn files_that_were_there_before_the_index_are_no_drift() {
    let place = Place::new();
    fs::write(place.root().join("f"), "own").unwrap();
    let first = place.open("state");
    assert_eq!((first.read(), first.drift()), (1, 0));
    first.close();
}

#[test]
fn a_lost_or_foreign_index_is_begun_anew() {
    let place = Place::new();
    let first = place.open("state");
    first.fill(2, 2);
    let generation = first.generation.clone();
    first.close();
    let files: Vec<PathBuf> = list(&place.state("state"));
    for file in files {
        fs::write(file, "no database").unwrap();
    }
    let second = place.open("state");
    assert_eq!(second.read(), 4);
    assert_ne!(second.generation, generation);
    second.close();
    let third = place.open("state");
    assert_eq!(third.read(), 0);
    third.close();
}

#[test]
fn nothing_is_committed_after_the_end() {
    let place = Place::new();
    let first = place.open("state");
    first.shares.close();
    let mut stager = Stager::new(Arc::clone(first.held.share.store()));
    let changes = vec![Ok(put("f", "late"))];
    stager.add((1, 0), changes, &mut |_| None, &mut |_| ());
    assert!(first.held.commit(stager.finish()).is_err());
    assert!(!place.root().join("f").exists());
}

/// Reads the top of the share as a visitor does, with something done between the look and the correction.
fn inspect(open: &Open, meanwhile: impl FnOnce()) -> Response {
    let device = device();
    let visitor = open.shares.visit(None, &device, &"a".repeat(32)).unwrap();
    let range = Range::default();
    let part = visitor
        .inspector()
        .unwrap()
        .look(&RelPath::root(), &range, &|| false);
    meanwhile();
    visitor.correct(&RelPath::root(), &range, &part);
    part.answer(1).0
}

#[test]
fn an_index_that_is_wrong_though_nothing_shows_is_put_right_by_reading() {
    let place = Place::new();
    let open = place.open("state");
    open.commit(vec![put("f", "good"), put("g", "good")]);
    let entry = |name: &[u8]| {
        let core = super::lock(&open.held.share.core);
        let id = core.tree().child(core.tree().root(), name);
        id.and_then(|id| Some(core.tree().get(id)?.entry.clone()))
    };
    let right = entry(b"f").unwrap();
    {
        // As if the bytes had rotted on the disk: times and sizes are as they were.
        let mut core = super::lock(&open.held.share.core);
        let tree = core.tree_mut();
        let root = tree.root();
        let stat = tree.get(tree.child(root, b"f").unwrap()).unwrap().stat;
        let wrong = Entry {
            kind: Kind::File {
                size: 4,
                digest: digest(b"lost"),
            },
            ..right.clone()
        };
        tree.put(root, &Name::new(b"f").unwrap(), wrong.clone(), stat);
        let ghost = Name::new(b"ghost").unwrap();
        tree.put(root, &ghost, wrong, None);
    }
    open.held.welcome(0).unwrap();
    assert_ne!(
        entry(b"f").unwrap(),
        right,
        "a look by `lstat` sees nothing"
    );
    let drift = open.drift();
    inspect(&open, || ());
    assert_eq!(entry(b"f").unwrap(), right);
    assert_eq!(entry(b"ghost"), None);
    assert_eq!(open.drift(), drift + 1);
    // What is committed after the look is not taken back.
    fs::write(place.root().join("g"), "someone's").unwrap();
    inspect(&open, || open.commit(vec![put("g", "newer")]));
    let newer = Kind::File {
        size: 5,
        digest: digest(b"newer"),
    };
    assert_eq!(entry(b"g").unwrap().kind, newer);
    open.close();
}

#[test]
fn a_large_directory_is_told_in_parts() {
    let place = Place::new();
    let open = place.open("state");
    let names: Vec<String> = (0..1200).map(|number| format!("{number:04}")).collect();
    open.commit(names.iter().map(|name| put(name, name)).collect());
    let visitor = open.shares.visit(None, &device(), &"a".repeat(32)).unwrap();
    let mut inspector = visitor.inspector().unwrap();
    let (mut range, mut seen, mut parts) = (Range::default(), Vec::new(), 0);
    loop {
        let part = inspector.look(&RelPath::root(), &range, &|| false);
        visitor.correct(&RelPath::root(), &range, &part);
        let (Response::Inspected(told), body) = part.answer(1) else {
            panic!("another answer");
        };
        assert_eq!(body.len(), 32 * told.entries.len());
        assert!(told.found && told.failed.is_empty());
        seen.extend(told.entries.iter().filter_map(|entry| entry.name.bytes()));
        parts += 1;
        let Some(next) = told.next else { break };
        range.first = Some(Name::new(&next.bytes().unwrap()).unwrap());
        if parts == 2 {
            // One that knows nothing of the parts before goes on all the same.
            inspector = visitor.inspector().unwrap();
        }
    }
    let names: Vec<Vec<u8>> = names.into_iter().map(String::into_bytes).collect();
    assert_eq!((seen, parts), (names, 3));
    assert_eq!(open.drift(), 0);
    assert_eq!(super::lock(&open.held.share.core).tree().len(), 1200);
    open.close();
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
