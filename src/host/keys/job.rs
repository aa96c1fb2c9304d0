//! A change that waits for the writer.

use super::{Action, Change, KeyError, Outcome, row};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A change, and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    answer: oneshot::Sender<Result<Outcome, KeyError>>,
    _place: OwnedSemaphorePermit,
}

impl Job {
    /// With its place among those that wait.
    pub(super) fn new(
        change: Change,
        answer: oneshot::Sender<Result<Outcome, KeyError>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            change,
            answer,
            _place: place,
        }
    }

    /// Bytes of its value.
    pub(super) fn weight(&self) -> usize {
        match &self.change.action {
            Action::Store { value, .. } => value.len(),
            _ => 0,
        }
    }

    /// Whether its value lies in its row.
    pub(super) fn is_small(&self) -> bool {
        self.weight() <= row::MAX_INLINE
    }

    /// Whether more may be stored after it than before.
    pub(super) fn takes_room(&self) -> bool {
        matches!(
            self.change.action,
            Action::Store { .. } | Action::Count { .. }
        )
    }

    pub(super) fn answer(self, outcome: Result<Outcome, KeyError>) {
        // Whoever asked may have gone.
        let _unheard = self.answer.send(outcome);
    }
}
