//! A database file that is only read: what the database writes when it opens the file stays in memory.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page in memory.
const PAGE: usize = 4096;
/// Pages in memory at most: opening a file writes a few.
const MAX_PAGES: usize = 4096;

/// A file, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    /// Its length when it was opened, in bytes.
    length: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    length: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Opens a file that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let state = State {
            length,
            ..State::default()
        };
        Ok(Self {
            file,
            length,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has there; zeros behind its end.
    fn below(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.length.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (from_file, behind) = out.split_at_mut(there);
        behind.fill(0);
        self.file.read_exact_at(from_file, offset)
    }
}

/// The parts of a range in pages: the number of the page, where in it, and how long.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, mut left) = (offset, length);
    std::iter::from_fn(move || {
        let within = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let count = left.min(PAGE - within);
        let part = (at / PAGE as u64, within, count);
        at += count as u64;
        left -= count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        if offset.saturating_add(out.len() as u64) > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.pages.is_empty() {
            drop(state);
            return self.below(offset, out);
        }
        self.below(offset, out)?;
        let mut rest = out;
        for (page, within, count) in parts(offset, rest.len()) {
            let (part, behind) = rest.split_at_mut(count);
            let written = state.pages.get(&page);
            if let Some(written) = written.and_then(|page| page.get(within..within + count)) {
                part.copy_from_slice(written);
            }
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let mut rest = data;
        for (page, within, count) in parts(offset, data.len()) {
            let (part, behind) = rest.split_at(count);
            if !state.pages.contains_key(&page) {
                if state.pages.len() >= MAX_PAGES {
                    return Err(io::Error::other("opening it changes too much of it"));
                }
                let mut below = vec![0; PAGE].into_boxed_slice();
                self.below(page * PAGE as u64, &mut below)?;
                state.pages.insert(page, below);
            }
            let there = state.pages.get_mut(&page);
            if let Some(there) = there.and_then(|page| page.get_mut(within..within + count)) {
                there.copy_from_slice(part);
            }
            rest = behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Overlay, PAGE};
    use redb::StorageBackend;

    #[test]
    fn what_is_written_is_read_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut model: Vec<u8> = (0..3 * PAGE + 100)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        std::fs::write(&path, &model).unwrap();
        let before = model.clone();
        let overlay = Overlay::open(&path).unwrap();
        model.resize(6 * PAGE, 0);
        overlay.set_len(model.len() as u64).unwrap();
        for (offset, length) in [
            (10, 5),
            (PAGE - 3, 6),
            (2 * PAGE, 2 * PAGE),
            (5 * PAGE + 1, 9),
        ] {
            let data = vec![u8::MAX; length];
            overlay.write(offset as u64, &data).unwrap();
            model[offset..offset + length].copy_from_slice(&data);
        }
        for (offset, length) in [(0, model.len()), (PAGE - 5, 20), (3 * PAGE + 90, 50)] {
            let mut found = vec![7; length];
            overlay.read(offset as u64, &mut found).unwrap();
            assert!(found == model[offset..offset + length], "{offset} {length}");
        }
        let behind = overlay.read(model.len() as u64 - 1, &mut [0; 2]);
        behind.unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
