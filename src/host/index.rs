//! The file of a tree: its rows and a few named values in a redb database.
//!
//! It is a cache. Nothing waits for it, and what is missing or wrong in it costs a comparison: a file that cannot be
//! used is moved aside (`.bad`) and begun anew. It decides nothing about trees: `index` makes rows and takes them back.
//!
//! ```text
//! table "format"   "layout" -> 1
//! table "rows"     node id: u64 -> packed row (`index/row.rs`)
//! table "meta"     name: str -> bytes
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::host::database::{self, Handle, Kind, Origin, StoreError};
use crate::index::{NodeId, Row};

mod row;

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Pages are read once and written rarely: a small cache is enough.
const KIND: Kind = Kind {
    layout: 1,
    cache_bytes: 16 * 1024 * 1024,
};

/// The open file. Every call blocks; saves are meant for one thread.
#[derive(Debug)]
pub struct IndexStore {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after an error: the next save opens it again.
    database: Option<Handle>,
    /// What a failed save left, at most a row for each node and a value for each name.
    unsaved: Unsaved,
}

#[derive(Debug, Default)]
struct Unsaved {
    rows: BTreeMap<u64, Option<Row>>,
    meta: BTreeMap<String, Option<Vec<u8>>>,
}

/// What a file held when it was opened.
#[derive(Debug)]
pub struct Loaded {
    /// The rows in the order of their ids; damaged ones are left out.
    pub rows: Vec<(NodeId, Row)>,
    /// The named values.
    pub meta: HashMap<String, Vec<u8>>,
    /// How the file came to be: rows and values are empty but for `Kept`.
    pub origin: Origin,
    /// Rows that were damaged.
    pub damaged: u64,
}

impl IndexStore {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// When it is open elsewhere, or the system does not let it be read or made.
    pub fn open(path: &Path) -> Result<(Self, Loaded), StoreError> {
        let (database, origin, mut loaded) = database::open(path, KIND, load)?;
        loaded.origin = origin;
        if loaded.damaged > 0 {
            tracing::warn!(path = %path.display(), rows = loaded.damaged, "damaged rows are left out");
        }
        let store = Self {
            path: path.to_owned(),
            state: Mutex::new(State {
                database: Some(database),
                unsaved: Unsaved::default(),
            }),
        };
        Ok((store, loaded))
    }

    /// Saves changed rows and values in one transaction, durably; `None` removes one. Anything but `Kept` says that the file
    /// was lost since it was opened: it now holds no more than this save, so that all rows should be saved again.
    ///
    /// # Errors
    /// When that failed. The file is then opened again by the next save, which takes what was not saved along.
    pub fn save(
        &self,
        rows: Vec<(NodeId, Option<Row>)>,
        meta: &[(&str, Option<&[u8]>)],
    ) -> Result<Origin, StoreError> {
        let mut state = self.lock();
        let State { database, unsaved } = &mut *state;
        unsaved
            .rows
            .extend(rows.into_iter().map(|(id, row)| (id.0, row)));
        for (name, value) in meta {
            unsaved
                .meta
                .insert((*name).to_owned(), value.map(<[u8]>::to_vec));
        }
        let failed = |error| StoreError::new(&self.path, error);
        let (open, origin) = match database.take() {
            Some(open) => (open, Origin::Kept),
            None => {
                let (open, origin, ()) = database::open(&self.path, KIND, |_| Ok(()))?;
                (open, origin)
            }
        };
        let (open, origin) = match open.write(|database| write(database, unsaved)) {
            Ok(()) => (open, origin),
            Err(error) if database::may_pass(&error) => return Err(failed(error)),
            Err(error) => {
                drop(open);
                let reason = error.to_string();
                let (open, origin, ()) = database::replace(&self.path, KIND, &reason, |_| Ok(()))?;
                open.write(|database| write(database, unsaved))
                    .map_err(failed)?;
                (open, origin)
            }
        };
        *unsaved = Unsaved::default();
        *database = Some(open);
        Ok(origin)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let mut loaded = Loaded {
        rows: Vec::new(),
        meta: HashMap::new(),
        origin: Origin::Kept,
        damaged: 0,
    };
    let reading = database.begin_read()?;
    match reading.open_table(ROWS) {
        Ok(table) => {
            for entry in table.iter()? {
                let (id, packed) = entry?;
                match row::unpack(id.value(), packed.value()) {
                    Ok(row) => loaded.rows.push((NodeId(id.value()), row)),
                    Err(_) => loaded.damaged += 1,
                }
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match reading.open_table(META) {
        Ok(table) => {
            for entry in table.iter()? {
                let (name, value) = entry?;
                let (name, value) = (name.value().to_owned(), value.value().to_vec());
                loaded.meta.insert(name, value);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(loaded)
}

fn write(database: &Database, unsaved: &Unsaved) -> Result<(), redb::Error> {
    let transaction = database::begin(database)?;
    {
        let mut table = transaction.open_table(ROWS)?;
        let mut packed = Vec::new();
        for (id, row) in &unsaved.rows {
            match row {
                Some(row) => {
                    row::pack(*id, row, &mut packed);
                    table.insert(id, packed.as_slice())?;
                }
                None => drop(table.remove(id)?),
            }
        }
        let mut table = transaction.open_table(META)?;
        for (name, value) in &unsaved.meta {
            match value {
                Some(value) => drop(table.insert(name.as_str(), value.as_slice())?),
                None => drop(table.remove(name.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
