//! A running client, as the rest of the program sees it: what its control socket answers from.

use super::mirror::Input;
use super::plan::Plan;
#[cfg(doc)]
use crate::daemon::options::Until;
use crate::daemon::status::{
    ClientStatus, HeldDeletions, PathProblem, PeerState, PeerStatus, SkippedPath,
};
use crate::engine::client::{Activity, Held, Snapshot};
use crate::host::setid::SetIds;
use crate::model::RelPath;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// After how long a marker that was not seen is written again.
const REMIND: Duration = Duration::from_millis(500);

/// So many paths with bits that the server does not keep are listed.
const LISTED: usize = 1000;
const STRIPPED: &str = "its set-user-id or set-group-id bit is not kept for a device that was invited; `allow_setid = true` in the server's settings keeps it";

/// What is known of a connection, for the status.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) refused: bool,
    /// The share that was opened, where the invite decided it.
    pub(super) share: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) retry: Option<std::time::Instant>,
}

pub(super) type SharedLine = Arc<Mutex<Line>>;

pub(super) fn line(shared: &SharedLine) -> std::sync::MutexGuard<'_, Line> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One server's mirror, as the rest of the program sees it.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) address: String,
    pub(super) share: Option<String>,
    pub(super) line: SharedLine,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) markers: PathBuf,
    pub(super) setids: SetIds,
    /// When the client started.
    pub(super) begun: Instant,
    pub(super) plan: Option<Arc<Mutex<Plan>>>,
}

/// A running client: what its control socket answers from.
#[derive(Debug, Clone)]
pub struct ClientHandle {
    pub(super) source: PathBuf,
    pub(super) mirrors: Vec<Mirror>,
}

impl ClientHandle {
    /// The state at one moment.
    pub async fn status(&self) -> ClientStatus {
        let mut status = ClientStatus {
            source: crate::model::escape(self.source.as_os_str().as_encoded_bytes()),
            servers: Vec::new(),
            entries: 0,
            watches: 0,
            polled: 0,
            problems: Vec::new(),
            problems_total: 0,
            skipped: Vec::new(),
            skipped_total: 0,
            ignored_total: 0,
        };
        for mirror in &self.mirrors {
            let (reply, answer) = oneshot::channel();
            let asked = mirror.inputs.send(Input::Status(reply)).await;
            let snapshot = if asked.is_ok() {
                answer.await.ok().flatten()
            } else {
                None
            };
            mirror.report(snapshot, &mut status);
        }
        status
    }

    /// What would be done to each mirror, by the address of its server, once [`Until::Planned`] has ended.
    #[must_use]
    pub fn plans(&self) -> Vec<(String, Plan)> {
        let plan = |mirror: &Mirror| {
            let plan = mirror.plan.as_ref()?;
            let plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
            Some((mirror.address.clone(), plan.clone()))
        };
        self.mirrors.iter().filter_map(plan).collect()
    }

    /// Returns when every change that was made before is durable on every server.
    ///
    /// # Errors
    /// When a marker cannot be written, or the client ends meanwhile.
    pub async fn flush(&self) -> Result<(), String> {
        flush(&self.mirrors).await
    }
}

async fn flush(mirrors: &[Mirror]) -> Result<(), String> {
    let mut waiting = Vec::new();
    for mirror in mirrors {
        let name = crate::host::random::hex::<8>().map_err(|error| error.to_string())?;
        let (reply, answer) = oneshot::channel();
        let stopped = || "the client is stopping".to_owned();
        mirror
            .inputs
            .send(Input::Flush {
                name: name.clone(),
                reply,
            })
            .await
            .map_err(|_| stopped())?;
        waiting.push((Marker::write(mirror.markers.join(&name))?, answer));
    }
    for (marker, mut answer) in waiting {
        loop {
            match timeout(REMIND, &mut answer).await {
                Ok(done) => break done.map_err(|_| "the client is stopping".to_owned())?,
                // The event of the marker may be among those that an overflowing queue has lost.
                Err(_) => marker.touch()?,
            }
        }
    }
    Ok(())
}

impl ClientHandle {
    /// What each mirror holds, by the address of its server. It counts as shown to a person.
    pub async fn held(&self) -> Vec<(String, HeldDeletions)> {
        let mut all = Vec::new();
        for mirror in &self.mirrors {
            let (reply, answer) = oneshot::channel();
            if mirror.inputs.send(Input::Held(reply)).await.is_ok()
                && let Ok(Some(held)) = answer.await
            {
                all.push((mirror.address.clone(), held_deletions(&held)));
            }
        }
        all
    }

    /// Has the deletions done that one mirror holds and that were shown, so many entries at most. How many were deleted,
    /// durably.
    ///
    /// # Errors
    /// Why nothing is deleted.
    pub async fn accept(&self, address: &str, entries: u64) -> Result<u64, String> {
        let mirror = self.mirror(address)?;
        let (reply, answer) = oneshot::channel();
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let stopping = || "the client is stopping, or lost the server".to_owned();
        let asked = mirror.inputs.send(Input::Accept { entries, reply }).await;
        asked.map_err(|_| stopping())?;
        let deleted = answer.await.map_err(|_| stopping())??;
        flush(std::slice::from_ref(mirror)).await?;
        Ok(deleted as u64)
    }
}

impl ClientHandle {
    /// Has paths put right in one mirror that were found to differ from the source. Returns once that is begun.
    ///
    /// # Errors
    /// When there is no such mirror, or the client ends.
    pub async fn repair(&self, address: &str, paths: Vec<RelPath>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let inputs = &self.mirror(address)?.inputs;
        let stopping = "the client is stopping";
        let asked = inputs.send(Input::Repair { paths, reply }).await;
        asked.map_err(|_| stopping)?;
        Ok(answer.await.map_err(|_| stopping)?)
    }

    /// The same for a client that has only just started: it does so first.
    ///
    /// # Errors
    /// When there is no such mirror, or the client ends.
    pub fn repair_first(&self, address: &str, paths: Vec<RelPath>) -> Result<(), String> {
        let (reply, _) = oneshot::channel();
        let asked = self
            .mirror(address)?
            .inputs
            .try_send(Input::Repair { paths, reply });
        asked.map_err(|_| "the client is stopping".to_owned())
    }

    fn mirror(&self, address: &str) -> Result<&Mirror, String> {
        let mirror = self.mirrors.iter().find(|mirror| mirror.address == address);
        mirror.ok_or_else(|| format!("there is no mirror at `{address}`"))
    }
}

/// A file that travels through the watcher's queue behind everything that was changed before. Removed when dropped.
struct Marker(PathBuf);

impl Marker {
    fn write(path: PathBuf) -> Result<Self, String> {
        let marker = Self(path);
        marker.touch()?;
        Ok(marker)
    }

    fn touch(&self) -> Result<(), String> {
        match std::fs::write(&self.0, "") {
            // There is no watcher before the first connection; it is written again.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("cannot write `{}`: {error}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

impl Mirror {
    /// The line, and nothing of what goes over it yet.
    fn peer(&self) -> PeerStatus {
        let line = line(&self.line).clone();
        PeerStatus {
            address: self.address.clone(),
            share: self.share.clone().or(line.share),
            state: if line.refused {
                PeerState::Refused
            } else {
                PeerState::Connecting
            },
            // Until the server was reached once, everything is as old as the client.
            lag_ms: milliseconds(self.begun.elapsed()),
            pending: 0,
            in_flight_bytes: 0,
            sent_bytes: self.sent.load(Ordering::Relaxed),
            sent_files: 0,
            held: None,
            last_error: line.last_error,
            reconnect_in_ms: line.retry.map(|at| {
                let left = at.saturating_duration_since(crate::host::clock::monotonic());
                milliseconds(left)
            }),
        }
    }

    pub(super) fn report(&self, snapshot: Option<(Snapshot, usize)>, status: &mut ClientStatus) {
        let mut peer = self.peer();
        if let Some((snapshot, watches)) = snapshot {
            peer.state = match snapshot.activity {
                Activity::Offline => peer.state,
                Activity::Comparing => PeerState::Comparing,
                Activity::Mirroring => PeerState::Mirroring,
                Activity::Idle => PeerState::Idle,
            };
            peer.lag_ms = milliseconds(snapshot.lag);
            peer.pending = snapshot.pending as u64;
            peer.in_flight_bytes = snapshot.inflight_bytes;
            peer.sent_files = snapshot.sent_files;
            let stopped = snapshot.away.clone().or(snapshot.paused);
            peer.last_error = stopped.or(peer.last_error);
            let held = snapshot.held.map(|held| held_deletions(&held));
            let brake = snapshot.away.or_else(|| held.as_ref().map(told));
            peer.held = held;
            status.entries = status.entries.max(snapshot.entries as u64);
            status.watches += watches as u64;
            status.polled += snapshot.polled as u64;
            status.problems_total += snapshot.problems_total as u64 + u64::from(brake.is_some());
            status.skipped_total = status.skipped_total.max(snapshot.skipped_total as u64);
            let problems = snapshot
                .problems
                .into_iter()
                .map(|(problem, age)| PathProblem {
                    path: problem.path.to_string(),
                    message: problem.message,
                    since_ms: Some(milliseconds(age)),
                });
            status.problems.extend(problems);
            let stripped = self.setids.list();
            status.problems_total += stripped.len() as u64;
            let stripped = stripped.iter().take(LISTED).map(|path| PathProblem {
                path: path.to_string(),
                message: STRIPPED.to_owned(),
                since_ms: None,
            });
            status.problems.extend(stripped);
            status.problems.extend(brake.map(|message| PathProblem {
                path: ".".to_owned(),
                message,
                since_ms: None,
            }));
            status.ignored_total = status.ignored_total.max(snapshot.ignored_total as u64);
            if status.skipped.is_empty() {
                let skipped = snapshot.skipped.into_iter().map(|skipped| SkippedPath {
                    path: skipped.path.to_string(),
                    reason: skipped.reason.to_owned(),
                });
                status.skipped.extend(skipped);
            }
        }
        status.servers.push(peer);
    }
}

pub(super) fn held_deletions(held: &Held) -> HeldDeletions {
    HeldDeletions {
        reason: held.hold.reason().to_owned(),
        advice: held.hold.advice().to_owned(),
        entries: held.entries as u64,
        total: held.total as u64,
        examples: held.examples.clone(),
    }
}

fn told(held: &HeldDeletions) -> String {
    let HeldDeletions {
        reason,
        advice,
        entries,
        total,
        ..
    } = held;
    format!("{reason}: {entries} of {total} entries are missing and not deleted; {advice}")
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
