use super::{CAPACITY, CHUNK, DirectWrites, Job, MOST};
use crate::engine::ports::{Attributes, Origin, Removal, Store, StoreError, Upload};
use crate::host::disk::{DiskStore, DiskUpload, Durability, Private};
use crate::host::root::Root;
use crate::model::{Fault, Mtime, RelPath};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};

const USUAL: Attributes = Attributes {
    mode: 0o644,
    mtime: Mtime { secs: 7, nanos: 9 },
};

fn open(dir: &Path) -> DiskStore {
    let root = Root::open(dir).unwrap();
    let private = Private::open(&root).unwrap();
    DiskStore::open(root, &private, Durability::Full).unwrap()
}

/// Writes, and a thread that carries them out.
fn writes() -> DirectWrites {
    let (jobs, queue) = sync_channel::<Job>(1);
    std::thread::spawn(move || queue.iter().for_each(|job| job()));
    DirectWrites::by(jobs)
}

fn at() -> RelPath {
    RelPath::new(b"f").unwrap()
}

fn begin(store: &DiskStore, writes: &DirectWrites) -> DiskUpload {
    let path = at();
    let origin = Origin {
        path: Some(&path),
        ..Origin::default()
    };
    let mut upload = store.open_upload(&origin).unwrap();
    upload.directly(writes);
    upload
}

/// Bytes that differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| u8::try_from((at ^ (at >> 9)) & 255).unwrap())
        .collect()
}

fn place(store: &DiskStore, upload: DiskUpload) -> Result<(), StoreError> {
    let staged = store.finish_upload(upload)?;
    store.dress(&staged, USUAL)?;
    store.sync_staged(&[&staged])?;
    store.place(staged, &at(), &Removal::Now).map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What comes in any pieces, and is shown at any times or never, is what is stored in the end, or left.
    #[test]
    fn what_is_written_is_shown_and_stored(
        pieces in prop::collection::vec((1usize..300_000, any::<bool>()), 1..12),
        large in prop::option::of(0usize..3 * CAPACITY),
        supported in prop::bool::weighted(0.8),
        ends in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.area.direct.store(supported, Ordering::Relaxed);
        let writes = writes();
        let mut upload = begin(&store, &writes);
        let lengths = pieces.iter().copied().chain(large.map(|large| (large, true)));
        let all = content(lengths.clone().map(|(length, _)| length).sum());
        let (mut done, mut shown) = (0, Vec::new());
        for (length, show) in lengths {
            upload.write(&all[done..done + length]).unwrap();
            done += length;
            if show {
                let from = shown.len();
                let mut sink = |bytes: &[u8]| shown.extend_from_slice(bytes);
                upload.read_back(from as u64, (done - from) as u64, &mut sink).unwrap();
                prop_assert!(shown == all[..done]);
            }
        }
        if ends {
            place(&store, upload).unwrap();
            prop_assert!(fs::read(dir.path().join("f")).unwrap() == all);
        } else {
            drop(upload);
            let Some(left) = store.leftover(&at()) else {
                prop_assert!(all.len() < 1024 * 1024);
                return Ok(());
            };
            let mut bytes = Vec::new();
            let mut sink = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                true
            };
            store.read_leftover(&at(), left, &mut sink).unwrap();
            prop_assert!(bytes == all);
        }
    }
}

#[test]
fn what_nobody_writes_is_an_error_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (jobs, queue): (_, Receiver<Job>) = sync_channel(1);
    drop(queue);
    let mut upload = begin(&store, &DirectWrites::by(jobs));
    let bytes = content(CHUNK);
    let failed = (0..8).find_map(|_| upload.write(&bytes).err());
    assert_eq!(failed.unwrap().fault, Fault::Io);
    drop(upload);
    assert_eq!(store.leftover(&at()), None);
    assert_eq!(
        fs::read_dir(dir.path().join(".syncd/stage"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn what_came_before_the_first_failure_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writes = writes();
    let mut upload = begin(&store, &writes);
    let all = content(6 * CHUNK);
    for piece in all.chunks(CHUNK) {
        upload.write(piece).unwrap();
    }
    let direct = upload.direct.as_ref().unwrap();
    for place in [5, 3, 4] {
        let full = StoreError::new(Fault::Full, "no room");
        direct.progress.note((place * CHUNK) as u64, Err(full));
    }
    assert_eq!(place(&store, upload).unwrap_err().fault, Fault::Full);
    assert_eq!(store.leftover(&at()).unwrap().size, 3 * CHUNK as u64);
}

#[test]
fn more_files_than_there_is_memory_for_are_written_as_usual() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writes = writes();
    let direct = |upload: &DiskUpload| upload.direct.is_some();
    let mut uploads: Vec<DiskUpload> = (0..=MOST).map(|_| begin(&store, &writes)).collect();
    if !store.area.direct.load(Ordering::Relaxed) {
        return;
    }
    assert!(uploads[..MOST].iter().all(direct) && !direct(&uploads[MOST]));
    uploads.truncate(MOST - 1);
    assert!(direct(&begin(&store, &writes)));
}

#[test]
fn without_durability_the_cache_is_faster() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let private = Private::open(&root).unwrap();
    let store = DiskStore::open(root, &private, Durability::None).unwrap();
    assert!(begin(&store, &writes()).direct.is_none());
}
