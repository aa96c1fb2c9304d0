//! One session with the server: its begin and end, its messages, and what is said when nothing is left to do.

use super::{ClientEngine, Output, Phase};
use crate::model::{LeftoverKey, Sum};
use crate::wire::{BodyReader, Request, Response};
use std::time::Duration;

/// What the server said of the session.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Sum of the share's tree.
    pub sum: Sum,
    /// The share's version.
    pub version: u64,
    /// Whether the share was filled by somebody else so far.
    pub first_contact: bool,
    /// The keys of paths of which the server keeps what an upload has left.
    pub leftovers: Vec<LeftoverKey>,
}

impl ClientEngine {
    /// A session is open. The first one starts a scan of the whole source.
    pub fn connected(&mut self, welcome: &Welcome, out: &mut Vec<Output>) {
        self.version = welcome.version;
        self.settled = false;
        self.told = false;
        self.paused = None;
        self.resync = false;
        self.known.leftovers = welcome.leftovers.iter().copied().collect();
        if welcome.sum == self.view.root_sum() {
            self.go_live();
        } else {
            self.start_compare(out);
        }
    }

    pub(super) fn go_live(&mut self) {
        self.phase = Phase::Live;
        self.unheard.clear();
        if !self.scanned {
            self.scanned = true;
            self.rescan();
        }
    }

    /// The session is over. What was under way is looked at again, after a comparison.
    pub fn disconnected(&mut self, now: Duration) {
        self.phase = Phase::Offline;
        self.lists.clear();
        self.guard.refuse("the connection was lost meanwhile");
        let batch = std::mem::take(&mut self.batch);
        let inflight = std::mem::take(&mut self.inflight);
        self.inflight_bytes = 0;
        for sent in inflight.into_values().chain([batch.sent]) {
            for (key, wait) in sent.keys.into_iter().chain(sent.vacated) {
                self.lost(&key, &wait);
                self.queue.wait(key, now, wait);
            }
        }
        self.busy.clear();
        for (key, wait) in self.again.drain().chain(self.large.drain()) {
            self.queue.wait(key, now, wait);
        }
        self.ready.clear();
        for upload in std::mem::take(&mut self.uploads).into_values() {
            self.queue.wait(upload.key, now, upload.wait);
        }
    }

    /// A message of the server.
    ///
    /// # Errors
    /// When it does not follow the protocol; the session has to end.
    pub fn response(
        &mut self,
        response: Response,
        body: &[u8],
        now: Duration,
        out: &mut Vec<Output>,
    ) -> Result<(), ProtocolError> {
        match response {
            Response::Applied {
                id,
                version,
                failed,
            } => self.applied(id, version, &failed, now),
            Response::Staged { upload, failed } => {
                self.staged(upload, failed, now);
                Ok(())
            }
            Response::Listing {
                id,
                entries,
                more,
                found,
            } => self.listed(
                id,
                &entries,
                more.as_ref(),
                found,
                &mut BodyReader::new(body),
                now,
                out,
            ),
            Response::Drifted {} => {
                self.resync = true;
                Ok(())
            }
            Response::Pong {} | Response::Received { .. } | Response::Recipe { .. } => Ok(()),
            Response::Welcome { .. }
            | Response::Refused { .. }
            | Response::Renewed { .. }
            | Response::Inspected(_)
            | Response::File(_)
            | Response::Key(_) => Err(ProtocolError("out of place")),
        }
    }

    pub(super) fn report(&mut self, out: &mut Vec<Output>) {
        self.answer_flushes(out);
        out.extend(self.accepted());
        let idle = self.is_idle();
        self.settled |= idle;
        // What is held at the first contact is still to be kept when a person has it deleted.
        if idle && !self.told && self.guard.hold().is_none() {
            self.told = true;
            out.push(Output::Send(Request::Settled {}, Vec::new()));
        }
    }
}

/// The server said something that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the protocol: {0}")]
pub struct ProtocolError(pub(crate) &'static str);
