//! How the file is opened, and what readers see while it cannot be.

use super::{KIND, RETRY, Writer, chain, load};
use crate::host::database::{self, Reading, StoreError};
use crate::host::keys::apply::Ledger;
use crate::host::keys::snapshot::Snapshot;
use crate::host::keys::sweep::Sweep;
use crate::host::keys::{KeyError, Shown};
use std::sync::Arc;

impl Writer {
    /// Makes sure that the file is open.
    pub(super) fn ready(&mut self) -> Result<(), KeyError> {
        if self.database.is_some() {
            return Ok(());
        }
        let now = crate::host::clock::monotonic();
        if let Some((at, reason)) = &self.refused
            && now.saturating_duration_since(*at) < RETRY
        {
            return Err(KeyError::Unavailable(Arc::clone(reason)));
        }
        let mut opened = self.open();
        if opened.is_err() && self.reserve.give_up() {
            opened = self.open();
        }
        match opened {
            Ok(()) => {
                if self.refused.take().is_some() {
                    tracing::info!(path = %self.path.display(), "the keys can be used again");
                }
                Ok(())
            }
            Err(error) => {
                let reason: Arc<str> = chain(&error).into();
                if self.refused.as_ref().map(|(_, before)| before) != Some(&reason) {
                    tracing::error!(error = %reason, "the keys are unavailable");
                }
                self.read_on(&error, &reason);
                self.refused = Some((now, Arc::clone(&reason)));
                Err(KeyError::Unavailable(reason))
            }
        }
    }

    fn open(&mut self) -> Result<(), StoreError> {
        let (handle, ledger) = database::open_kept(&self.path, KIND, load)?;
        let snapshot = Snapshot::take(&handle, ledger.spaces.clone());
        let snapshot = snapshot.map_err(|error| StoreError::new(&self.path, error))?;
        if self.is_known {
            // What is shown from here on must be durable, also what a sync that failed had to do with.
            let synced = std::fs::File::open(&self.path).and_then(|file| file.sync_data());
            if let Err(error) = synced {
                drop((snapshot, handle));
                self.forget_cached();
                return Err(StoreError::new(&self.path, redb::Error::Io(error)));
            }
        }
        (self.ledger, self.is_known) = (ledger, true);
        self.sweep = Sweep::default();
        self.database = Some(handle);
        self.show(Ok(Arc::new(snapshot)));
        self.reading = None;
        Ok(())
    }

    /// Lets readers go on with what is in a file that cannot be opened to be written.
    fn read_on(&mut self, error: &StoreError, reason: &Arc<str>) {
        if self.reading.is_some() {
            return;
        }
        let shown = match error {
            StoreError::Io { .. } => self.read_only(reason),
            _ => None,
        };
        let Some((reading, snapshot)) = shown else {
            return self.show(Err(Some(Arc::clone(reason))));
        };
        self.show(Ok(Arc::new(snapshot)));
        self.reading = Some(reading);
    }

    fn read_only(&self, reason: &Arc<str>) -> Option<(Reading, Snapshot)> {
        let (reading, ledger) = database::open_to_read(&self.path, KIND, Ledger::read).ok()?;
        // A change that was refused is not shown, though it may have come as far as the file.
        if self.is_known && ledger.commits != self.ledger.commits {
            return None;
        }
        let mut snapshot = Snapshot::take(&reading, ledger.spaces).ok()?;
        snapshot.only_read = Some(Arc::clone(reason));
        Some((reading, snapshot))
    }

    /// A reader has met an error: a handle that has seen one is of no use any more.
    pub(super) fn look_after(&mut self, seen: &Shown) {
        let same = match (&*self.show.borrow(), seen) {
            (Ok(now), Ok(seen)) => Arc::ptr_eq(now, seen),
            (Err(_), Err(_)) => true,
            _ => false,
        };
        if !same {
            return;
        }
        if self.reading.take().is_some() {
            let reason = self.refused.as_ref().map(|(_, reason)| Arc::clone(reason));
            self.show(Err(reason));
        } else {
            self.close_failed();
            let _told = self.ready();
        }
    }
}
