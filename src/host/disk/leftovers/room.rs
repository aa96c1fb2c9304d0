//! Room on a full disk: what unfinished uploads have left goes first.

use super::super::Area;
use crate::engine::ports::StoreError;
use crate::model::Fault;
use std::sync::PoisonError;

impl Area {
    /// Gives all leftovers up for what needs their room. Whether there were any.
    pub(in crate::host::disk) fn make_room(&self) -> bool {
        let giving_up = self.leftovers.giving_up.lock();
        let mut given_up = giving_up.unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut self.leftovers.lock().all);
        let names: Vec<String> = all.into_values().map(|kept| kept.name).collect();
        if !names.is_empty() {
            tracing::warn!(
                leftovers = names.len(),
                "the disk is full: what unfinished uploads have left is given up"
            );
        }
        self.remove_all(&names);
        *given_up += u64::from(!names.is_empty());
        !names.is_empty()
    }

    /// Makes room for the next attempt at something that found the disk full.
    pub(in crate::host::disk) fn relieve(&self, error: &StoreError) {
        if error.fault == Fault::Full {
            self.make_room();
        }
    }

    /// Does something once more where only leftovers are in its way.
    pub(in crate::host::disk) fn with_room<T>(
        &self,
        go: impl Fn() -> std::result::Result<T, StoreError>,
    ) -> std::result::Result<T, StoreError> {
        let count = || {
            let given_up = self.leftovers.giving_up.lock();
            *given_up.unwrap_or_else(PoisonError::into_inner)
        };
        let before = count();
        match go() {
            // Or somebody else has made room meanwhile.
            Err(error) if error.fault == Fault::Full && (self.make_room() || count() != before) => {
                go()
            }
            other => other,
        }
    }
}
