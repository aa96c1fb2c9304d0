//! Opens database files that are caches: what cannot be used is moved aside and begun anew.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::overlay::Overlay;
use redb::{Builder, Database, Durability, ReadableDatabase, StorageError};
use redb::{TableDefinition, TableError, WriteTransaction};

/// One row, `layout`: the number of the layout of all tables of the file.
const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
const LAYOUT: &str = "layout";

/// Processes that ended while they opened or first wrote a file, after which it is replaced.
const MAX_ATTEMPTS: u64 = 3;
const STRUCTURE: &str = "its structure is damaged";

/// Why a store's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another part of this one, has it open.
    #[error("`{}` is open elsewhere", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It holds what cannot be used, and is not replaced because nothing else has it.
    #[error("`{}` cannot be used: {reason}; put a copy in its place, or move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused something; the store goes on when it does.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Box<redb::Error>,
    },
}

impl StoreError {
    pub(super) fn new(path: &Path, source: impl Into<redb::Error>) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: Box::new(source.into()),
        }
    }
}

/// How an opened file came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It was there and is used.
    Kept,
    /// There was none.
    Created,
    /// There was one that could not be used; it has the suffix `.bad` now.
    Replaced,
}

/// What kind of file to open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The number of the layout of its tables; a file with another one is replaced.
    pub(super) layout: u64,
    /// Memory for its pages at most, in bytes.
    pub(super) cache_bytes: usize,
}

/// An open database. Closing it, too, survives what a damaged file makes of it.
#[derive(Debug)]
pub(super) struct Handle {
    database: Option<Database>,
    attempts: Attempts,
    /// Whether it was written without harm: from then on a crash does not speak against it.
    proven: AtomicBool,
}

impl Handle {
    /// Writes to it; `write` survives what a damaged file makes of it as far as that can be survived.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        if self.proven.load(Ordering::Relaxed) {
            return guarded(|| write(self));
        }
        let before = self.attempts.count();
        self.attempts.add();
        let written = guarded(|| write(self));
        self.attempts.set(before);
        if written.is_ok() {
            self.attempts.forget();
            self.proven.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl Deref for Handle {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.database.as_ref().expect("taken by drop only")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let database = self.database.take();
        match catch_unwind(AssertUnwindSafe(|| drop(database))) {
            Ok(()) => self.attempts.forget(),
            Err(_) => tracing::warn!("a database was not closed in order"),
        }
    }
}

/// A database that is open to be read only: nothing that is done with it reaches the file.
#[derive(Debug)]
pub(super) struct Reading(Option<Database>);

impl Deref for Reading {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("taken by drop only")
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let database = self.0.take();
        let _closed = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// Counts how often a process ended while it opened a file, or wrote to it for the first time: one byte each in a file
/// beside it. A damaged file can make the database end the process (a panic inside a destructor); it must not do so at
/// every start. A process that is killed while it does neither does not count.
#[derive(Debug)]
struct Attempts(PathBuf);

impl Attempts {
    fn of(path: &Path) -> Self {
        Self(with_suffix(path, ".opening"))
    }

    fn count(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |file| file.len())
    }

    /// Failures are left alone: the count is a precaution, and opening the file itself will tell.
    fn add(&self) {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&self.0);
        let _written = file.and_then(|mut file| file.write_all(b"."));
    }

    /// Takes the last one back.
    fn set(&self, count: u64) {
        let file = OpenOptions::new().write(true).open(&self.0);
        let _set = file.and_then(|file| file.set_len(count));
        if count == 0 {
            self.forget();
        }
    }

    fn forget(&self) {
        let _removed = fs::remove_file(&self.0);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a file, or replaces it, and reads from it what `load` wants, which may fail for what a damaged file makes of it.
pub(super) fn open<T>(
    path: &Path,
    kind: Kind,
    load: impl Fn(&Database) -> Result<T, redb::Error>,
) -> Result<(Handle, Origin, T), StoreError> {
    let there = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if there && Attempts::of(path).count() >= MAX_ATTEMPTS && !is_locked(path) {
        return replace(
            path,
            kind,
            "the last processes that opened it crashed",
            load,
        );
    }
    let reason = match attempt(path, kind, &load) {
        Ok((database, loaded)) => {
            let origin = if there { Origin::Kept } else { Origin::Created };
            return Ok((database, origin, loaded));
        }
        Err(Failure::Refused(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::Busy { path });
        }
        Err(Failure::Refused(error)) if !there || is_of_system(&error) => {
            return Err(StoreError::new(path, error));
        }
        Err(Failure::Refused(error)) => error.to_string(),
        Err(Failure::Damaged(reason)) => reason.to_owned(),
    };
    replace(path, kind, &reason, load)
}

/// Opens a file that is no cache, or makes it: one that cannot be used is left as it is.
pub(super) fn open_kept<T>(
    path: &Path,
    kind: Kind,
    load: impl Fn(&Database) -> Result<T, redb::Error>,
) -> Result<(Handle, T), StoreError> {
    let damaged = |reason: &str| StoreError::Damaged {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let there = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if there && Attempts::of(path).count() >= MAX_ATTEMPTS && !is_locked(path) {
        return Err(damaged(
            "the last processes that opened it crashed (removing the file beside it that ends with `.opening` has it tried again)",
        ));
    }
    attempt(path, kind, &load).map_err(|failure| match failure {
        Failure::Refused(redb::Error::DatabaseAlreadyOpen) => StoreError::Busy {
            path: path.to_owned(),
        },
        Failure::Refused(error) if is_of_system(&error) || may_pass(&error) => {
            StoreError::new(path, error)
        }
        Failure::Refused(error) => damaged(&error.to_string()),
        Failure::Damaged(reason) => damaged(reason),
    })
}

/// Opens a file that cannot be written at present, and reads from it what `load` wants. The file stays as it is.
pub(super) fn open_to_read<T>(
    path: &Path,
    kind: Kind,
    load: impl Fn(&Database) -> Result<T, redb::Error>,
) -> Result<(Reading, T), redb::Error> {
    guarded(|| {
        let mut builder = Builder::new();
        let builder = builder.set_cache_size(kind.cache_bytes);
        let opened = builder.create_with_backend(Overlay::open(path)?)?;
        let database = Reading(Some(opened));
        let table = database.begin_read()?.open_table(FORMAT)?;
        if table.get(LAYOUT)?.map(|found| found.value()) != Some(kind.layout) {
            return Err(damaged("it has another layout").into());
        }
        let loaded = load(&database)?;
        Ok((database, loaded))
    })
}

/// Moves a file aside that cannot be used, and begins it anew. It must be closed.
pub(super) fn replace<T>(
    path: &Path,
    kind: Kind,
    reason: &str,
    load: impl Fn(&Database) -> Result<T, redb::Error>,
) -> Result<(Handle, Origin, T), StoreError> {
    let aside = with_suffix(path, ".bad");
    tracing::warn!(path = %path.display(), reason, "a database cannot be used; it is moved aside and begun anew");
    fs::rename(path, &aside).map_err(|error| StoreError::new(path, error))?;
    Attempts::of(path).forget();
    match attempt(path, kind, &load) {
        Ok((database, loaded)) => Ok((database, Origin::Replaced, loaded)),
        Err(Failure::Refused(error)) => Err(StoreError::new(path, error)),
        Err(Failure::Damaged(reason)) => Err(StoreError::new(path, damaged(reason))),
    }
}

/// Works on an open database. The database asserts what a damaged file can break; it must be dropped after an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(STRUCTURE).into()))
}

/// Whether a failure is of the disk or the system, so that the same file may be good later.
pub(super) fn may_pass(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
}

/// A write transaction that is on the disk when it is committed, and after which a killed process costs no repair.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

enum Failure {
    Refused(redb::Error),
    Damaged(&'static str),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

fn attempt<T>(
    path: &Path,
    kind: Kind,
    load: &impl Fn(&Database) -> Result<T, redb::Error>,
) -> Result<(Handle, T), Failure> {
    // The database asserts what a damaged file can break; nothing outlives the attempt but the file itself.
    catch_unwind(AssertUnwindSafe(|| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut builder = Builder::new();
        let attempts = Attempts::of(path);
        let before = attempts.count();
        attempts.add();
        let opened = builder.set_cache_size(kind.cache_bytes).create_file(file);
        let database = Handle {
            database: Some(opened.inspect_err(|_| attempts.set(before))?),
            attempts,
            proven: AtomicBool::new(false),
        };
        check_layout(&database, kind.layout)?;
        let loaded = load(&database)?;
        database.attempts.set(before);
        Ok((database, loaded))
    }))
    .unwrap_or(Err(Failure::Damaged(STRUCTURE)))
}

/// Whether another opener holds the file.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn damaged(reason: &str) -> StorageError {
    StorageError::Corrupted(reason.to_owned())
}

fn check_layout(database: &Database, layout: u64) -> Result<(), Failure> {
    let reading = database.begin_read()?;
    let found = match reading.open_table(FORMAT) {
        Ok(table) => table.get(LAYOUT)?.map(|found| found.value()),
        Err(TableError::TableDoesNotExist(_)) if reading.list_tables()?.next().is_none() => {
            let transaction = begin(database)?;
            transaction.open_table(FORMAT)?.insert(LAYOUT, layout)?;
            transaction.commit()?;
            return Ok(());
        }
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if found == Some(layout) {
        Ok(())
    } else {
        Err(Failure::Damaged("it has another layout"))
    }
}

/// Whether the system refused (no rights, no space, no descriptors), which a new file would not change; a disk that
/// cannot be read is not such a refusal.
fn is_of_system(error: &redb::Error) -> bool {
    let redb::Error::Io(error) = error else {
        return false;
    };
    error
        .raw_os_error()
        .is_some_and(|code| code != rustix::io::Errno::IO.raw_os_error())
}
