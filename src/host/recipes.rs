//! Recipes kept by content digest: a cache in memory in front of one in a redb file.
//!
//! Both are bounded and forget what was used longest ago. A recipe that is put is in memory at once; a thread writes it
//! later, many in one transaction, and leaves out what comes faster than it can write. A lost or damaged file is an
//! empty store, and a recipe that is not here is asked for or made again.
//!
//! ```text
//! table "format"    "layout" -> 1
//! table "parts"     (digest [32], number u32) -> the parts, of 60 KiB each, of: check [16] || packed recipe (`delta::Recipe`)
//! table "uses"      digest [32] -> (time of the last use: u64, bytes of the recipe: u64)
//! ```
//!
//! The check is the start of the BLAKE3 hash of the digest and the packed recipe. The database holds a row in memory, more than
//! once, while it is read or written: hence the parts. Times count uses. A file does not
//! shrink: it has at most about twice the size of the recipes that it may keep.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::delta::Recipe;
use crate::host::database::{self, Handle, Kind, StoreError, guarded};
use crate::model::Digest;

const PARTS: TableDefinition<'_, PartKey, &[u8]> = TableDefinition::new("parts");
const USES: TableDefinition<'_, [u8; 32], (u64, u64)> = TableDefinition::new("uses");

const KIND: Kind = Kind {
    layout: 2,
    cache_bytes: 1024 * 1024,
};

/// A digest, and the number of a part.
type PartKey = ([u8; 32], u32);
/// Bytes of a part: with its key it fills a page of 64 KiB.
const PART: usize = 60 * 1024;

/// Memory for recipes at most, in bytes as they would be packed; one that alone is larger is not kept.
const MEMORY_BYTES: u64 = 12 * 1024 * 1024;
/// Puts and uses that wait for the thread at most; further ones are left out.
const MAX_WAITING: usize = 256;
/// Bytes of recipes after which a transaction is written.
const TRANSACTION_BYTES: u64 = 4 * 1024 * 1024;
/// Things to do after which a transaction is written.
const TRANSACTION_ITEMS: usize = 256;
/// How long the thread waits for more before it writes.
const QUIET: Duration = Duration::from_millis(500);
const CHECK: usize = 16;

/// A store of recipes. It can be shared by threads; dropping it writes what waits.
#[derive(Debug)]
pub struct RecipeStore {
    memory: Mutex<Memory>,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    /// `None` when the file failed: then only memory is used.
    database: Arc<Mutex<Option<Arc<Handle>>>>,
    /// `None` only while the store is dropped.
    waiting: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Task {
    Put(Digest, Arc<Recipe>),
    Use(Digest),
}

impl RecipeStore {
    /// Opens the file at `path`, or makes it, for at most `limit` bytes of recipes. When that fails, which is logged, and
    /// with a limit of 0, recipes are kept in memory only.
    #[must_use]
    pub fn open(path: &Path, limit: u64) -> Self {
        let disk = if limit == 0 {
            None
        } else {
            Disk::open(path, limit)
                .inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(path = %path.display(), error, "recipes are kept in memory only");
                })
                .ok()
        };
        Self {
            memory: Mutex::default(),
            disk,
        }
    }

    /// The recipe of a content, if it is here. It may read from the disk.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Arc<Recipe>> {
        let found = self.memory().get(digest);
        let recipe = match found {
            Some(recipe) => recipe,
            None => {
                let recipe = Arc::new(self.disk.as_ref()?.read(digest)?);
                self.memory().put(*digest, Arc::clone(&recipe));
                recipe
            }
        };
        self.later(Task::Use(*digest));
        Some(recipe)
    }

    /// Keeps the recipe of a content. It does not wait for the disk.
    pub fn put(&self, digest: Digest, recipe: Arc<Recipe>) {
        self.memory().put(digest, Arc::clone(&recipe));
        self.later(Task::Put(digest, recipe));
    }

    fn later(&self, task: Task) {
        if let Some(waiting) = self.disk.as_ref().and_then(|disk| disk.waiting.as_ref()) {
            // What finds the queue full is left out: the store is a cache.
            let _left_out = waiting.try_send(task);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

/// Which keys were used when, and how much they hold in all.
#[derive(Debug, Default)]
struct Uses {
    by_key: HashMap<Digest, (u64, u64)>,
    by_time: BTreeSet<(u64, Digest)>,
    bytes: u64,
    now: u64,
}

impl Uses {
    /// Notes a use of a key that holds `bytes`; returns its time.
    fn note(&mut self, key: Digest, bytes: u64) -> u64 {
        let now = self.now;
        self.set(key, now, bytes);
        now
    }

    fn set(&mut self, key: Digest, time: u64, bytes: u64) {
        self.forget(&key);
        self.now = self.now.max(time.saturating_add(1));
        self.by_key.insert(key, (time, bytes));
        self.by_time.insert((time, key));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn bytes_of(&self, key: &Digest) -> Option<u64> {
        self.by_key.get(key).map(|(_, bytes)| *bytes)
    }

    fn forget(&mut self, key: &Digest) {
        if let Some((time, bytes)) = self.by_key.remove(key) {
            self.by_time.remove(&(time, *key));
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// Forgets the key that was used longest ago while more than `limit` bytes are held.
    fn evict(&mut self, limit: u64) -> Option<Digest> {
        if self.bytes <= limit {
            return None;
        }
        let (_, key) = *self.by_time.first()?;
        self.forget(&key);
        Some(key)
    }
}

#[derive(Debug, Default)]
struct Memory {
    recipes: HashMap<Digest, Arc<Recipe>>,
    uses: Uses,
}

impl Memory {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Recipe>> {
        let recipe = self.recipes.get(digest).cloned()?;
        self.uses.note(*digest, bytes(&recipe));
        Some(recipe)
    }

    fn put(&mut self, digest: Digest, recipe: Arc<Recipe>) {
        self.uses.note(digest, bytes(&recipe));
        self.recipes.insert(digest, recipe);
        while let Some(gone) = self.uses.evict(MEMORY_BYTES) {
            self.recipes.remove(&gone);
        }
    }
}

impl Disk {
    fn open(path: &Path, limit: u64) -> Result<Self, StoreError> {
        let (handle, _, uses) = database::open(path, KIND, load)?;
        let database = Arc::new(Mutex::new(Some(Arc::new(handle))));
        let (waiting, tasks) = sync_channel(MAX_WAITING);
        let mut writer = Writer {
            path: path.to_owned(),
            limit,
            uses,
            database: Arc::clone(&database),
        };
        let thread = std::thread::Builder::new()
            .name("recipes".to_owned())
            .spawn(move || writer.run(&tasks))
            .map_err(|error| StoreError::new(path, error))?;
        Ok(Self {
            database,
            waiting: Some(waiting),
            thread: Some(thread),
        })
    }

    fn read(&self, digest: &Digest) -> Option<Recipe> {
        let database = lock(&self.database).clone()?;
        guarded(|| {
            let reading = database.begin_read()?;
            let table = reading.open_table(PARTS)?;
            let mut packed = Vec::new();
            for part in table.range(parts(digest))? {
                packed.extend_from_slice(part?.1.value());
            }
            Ok(unpack(digest, &packed))
        })
        .inspect_err(|error| match error {
            redb::Error::TableDoesNotExist(_) => {}
            error => tracing::debug!(%error, "a recipe cannot be read"),
        })
        .ok()
        .flatten()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.waiting.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::warn!("the thread that writes recipes ended early");
        }
    }
}

/// The thread's own: what the file holds, and what is to be done.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    limit: u64,
    uses: Uses,
    database: Arc<Mutex<Option<Arc<Handle>>>>,
}

impl Writer {
    fn run(&mut self, tasks: &Receiver<Task>) {
        while let Ok(first) = tasks.recv() {
            let mut batch = vec![first];
            let mut size = 0;
            while size < TRANSACTION_BYTES
                && batch.len() < TRANSACTION_ITEMS
                && let Ok(task) = tasks.recv_timeout(QUIET)
            {
                if let Task::Put(_, recipe) = &task {
                    size += bytes(recipe);
                }
                batch.push(task);
            }
            self.write(&batch);
        }
    }

    fn write(&mut self, batch: &[Task]) {
        let Some(database) = lock(&self.database).clone() else {
            return;
        };
        let applied = database.write(|database| apply(database, batch, &mut self.uses, self.limit));
        let Err(error) = applied else {
            return;
        };
        tracing::warn!(path = %self.path.display(), %error, "recipes cannot be written");
        *lock(&self.database) = None;
        drop(database);
        self.uses = Uses::default();
        let reopened = if database::may_pass(&error) {
            database::open(&self.path, KIND, load)
        } else {
            database::replace(&self.path, KIND, &error.to_string(), load)
        };
        if let Ok((handle, _, uses)) = reopened {
            self.uses = uses;
            *lock(&self.database) = Some(Arc::new(handle));
        }
    }
}

fn load(database: &redb::Database) -> Result<Uses, redb::Error> {
    let mut uses = Uses::default();
    match database.begin_read()?.open_table(USES) {
        Ok(table) => {
            for entry in table.iter()? {
                let (key, value) = entry?;
                let (time, bytes) = value.value();
                uses.set(Digest(key.value()), time, bytes);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(uses)
}

fn apply(
    database: &redb::Database,
    batch: &[Task],
    uses: &mut Uses,
    limit: u64,
) -> Result<(), redb::Error> {
    let transaction = database::begin(database)?;
    {
        let mut recipes = transaction.open_table(PARTS)?;
        let mut times = transaction.open_table(USES)?;
        for task in batch {
            let (digest, bytes) = match task {
                Task::Put(digest, recipe) if bytes(recipe) <= limit => {
                    recipes.retain_in(parts(digest), |_, _| false)?;
                    for (number, part) in (0u32..).zip(pack(digest, recipe).chunks(PART)) {
                        recipes.insert((digest.0, number), part)?;
                    }
                    (digest, bytes(recipe))
                }
                Task::Put(..) => continue,
                Task::Use(digest) => match uses.bytes_of(digest) {
                    Some(bytes) => (digest, bytes),
                    None => continue,
                },
            };
            let time = uses.note(*digest, bytes);
            times.insert(digest.0, (time, bytes))?;
            while let Some(gone) = uses.evict(limit) {
                recipes.retain_in(parts(&gone), |_, _| false)?;
                times.remove(gone.0)?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn bytes(recipe: &Recipe) -> u64 {
    recipe.packed_length() as u64
}

/// The keys of all parts of a recipe.
fn parts(digest: &Digest) -> RangeInclusive<PartKey> {
    (digest.0, 0)..=(digest.0, u32::MAX)
}

fn pack(digest: &Digest, recipe: &Recipe) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHECK + recipe.packed_length());
    out.extend_from_slice(&[0; CHECK]);
    recipe.pack(&mut out);
    if let Some((place, packed)) = out.split_first_chunk_mut::<CHECK>() {
        *place = check(digest, packed);
    }
    out
}

fn unpack(digest: &Digest, stored: &[u8]) -> Option<Recipe> {
    let (found, packed) = stored.split_first_chunk::<CHECK>()?;
    if *found != check(digest, packed) {
        return None;
    }
    Recipe::unpack(packed).ok()
}

fn check(digest: &Digest, packed: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&digest.0);
    hasher.update(packed);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
