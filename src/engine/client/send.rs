//! Operations into messages, and what becomes of them.

use super::{Batch, ClientEngine, Output, Phase, ProtocolError, Sent, Trouble};
use crate::debounce::{Key, Wait};
use crate::model::{Fault, LeftoverKey};
use crate::wire::{Code, Failed, Op, Request};
use std::time::Duration;

/// Bytes that an operation is counted with beside its content.
const OP_BYTES: u64 = 200;
/// A path whose change did not fit the server's tree so many times in a row counts as failed.
const MAX_MISFITS: u32 = 3;
/// How long a share whose disk is full, or read-only, rests before it is tried again.
const PAUSE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl ClientEngine {
    /// Queues an operation. `key` is the path that it is about: it is not looked at again before the acknowledgement.
    pub(super) fn emit(&mut self, op: Op, body: &[&[u8]], key: Key, mut wait: Wait) {
        for part in body {
            self.batch.body.extend_from_slice(part);
        }
        if matches!(op, Op::Put { .. }) {
            self.busy.insert(key.clone());
            self.counters.files += 1;
        }
        // What it overtakes is done with it, and not before.
        for upload in self.uploads.values_mut().filter(|it| it.key == key) {
            upload.outdated = true;
            wait.stamp = wait.stamp.min(upload.wait.stamp);
        }
        if let Some(large) = self.large.get(&key) {
            wait.stamp = wait.stamp.min(large.stamp);
        }
        let sent = &mut self.batch.sent;
        sent.oldest = sent
            .oldest
            .into_iter()
            .chain([(wait.stamp, wait.since)])
            .min();
        sent.keys.push((key, wait));
        self.batch.ops.push(op);
    }

    pub(super) fn send_batch(&mut self, out: &mut Vec<Output>) {
        if self.batch.ops.is_empty() {
            return;
        }
        let Batch {
            ops,
            body,
            mut sent,
        } = std::mem::take(&mut self.batch);
        let id = self.next_id;
        self.next_id += 1;
        sent.bytes = body.len() as u64 + ops.len() as u64 * OP_BYTES;
        self.inflight_bytes += sent.bytes;
        self.counters.bytes += body.len() as u64;
        self.inflight.insert(id, sent);
        out.push(Output::Send(
            Request::Mutate {
                id,
                based_on: self.version,
                ops,
                zstd: None,
            },
            body,
        ));
    }

    /// A message was applied and is durable.
    pub(super) fn applied(
        &mut self,
        id: u64,
        version: u64,
        failed: &[Failed],
        now: Duration,
    ) -> Result<(), ProtocolError> {
        let Sent {
            keys,
            vacated,
            bytes,
            ..
        } = self
            .inflight
            .remove(&id)
            .ok_or(ProtocolError("an answer to a message that was not sent"))?;
        self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes);
        self.version = version;
        if !failed.is_empty() {
            for (key, wait) in vacated {
                self.lost(&key, &wait);
                self.queue.wait(key, now, wait);
            }
        }
        for (index, (key, wait)) in keys.into_iter().enumerate() {
            self.busy.remove(&key);
            if let Some(again) = self.again.remove(&key) {
                // What came later knows better when to look.
                let due = self.queue.get(&key).map_or(now, |wait| wait.due);
                self.queue.wait(key.clone(), due, again);
            }
            match failed.iter().find(|failed| failed.index as usize == index) {
                Some(failure) => self.refused(key, wait, failure, now),
                // What has failed since (a directory whose mode was sent, but which cannot be listed) stays in trouble.
                None if self.queue.get(&key).is_some_and(|wait| wait.failures > 0) => {}
                None => {
                    self.troubles.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// A change did not get to the server, or may not have: what went is perhaps still there.
    pub(super) fn lost(&mut self, key: &Key, wait: &Wait) {
        if wait.left {
            self.unheard.insert(key.clone());
        }
    }

    /// The server could not apply a change: the view is wrong about it, and is compared.
    fn refused(&mut self, key: Key, mut wait: Wait, failure: &Failed, now: Duration) {
        self.resync = true;
        self.lost(&key, &wait);
        self.rests.forget(&key);
        if let Some(dir) = self.view.path(key.dir)
            && let Ok(path) = dir.join(&key.name)
        {
            // It may have been a large file, which the server still has.
            self.left(LeftoverKey::of(&path));
        }
        match (failure.code.fault(), &failure.code) {
            (Fault::Full | Fault::ReadOnly, Code::Fault(_)) => {
                self.paused = Some((failure.message.clone(), now + PAUSE));
                self.queue.wait(key, now, wait);
            }
            (Fault::Changed, _) if wait.misfits < MAX_MISFITS => {
                wait.misfits += 1;
                self.queue.wait(key, now, wait);
            }
            _ => self.fail(
                key,
                wait,
                format!("the server could not apply it: {}", failure.message),
                now,
            ),
        }
    }

    /// Notes that a path cannot be mirrored now, and when it is tried again.
    pub(super) fn fail(&mut self, key: Key, wait: Wait, message: String, now: Duration) {
        self.fail_for(key, wait, message, LONGEST_RETRY, now);
    }

    /// The same, with the longest time until it is tried again.
    pub(super) fn fail_for(
        &mut self,
        key: Key,
        mut wait: Wait,
        message: String,
        longest: Duration,
        now: Duration,
    ) {
        wait.misfits = 0;
        // As long again as it has failed so far: the pauses double.
        let since = self.troubles.get(&key).map_or(now, |trouble| trouble.since);
        let pause = now.saturating_sub(since).clamp(FIRST_RETRY, longest);
        self.troubles
            .insert(key.clone(), Trouble { message, since });
        if !self.join_later(&key, &wait) {
            wait.failures += 1;
            self.queue.wait(key, now + pause, wait);
        }
    }

    /// What came of a path since it was looked at says when it is looked at again, for both. Whether anything came.
    pub(super) fn join_later(&mut self, key: &Key, wait: &Wait) -> bool {
        let later = self.queue.get(key).filter(|later| later.failures == 0);
        let Some(mut later) = later.cloned() else {
            return false;
        };
        later.join(wait);
        self.queue.wait(key.clone(), later.due, later);
        true
    }

    /// After a failure: once nothing is under way, the view is compared with the server.
    pub(super) fn begin_resync(&mut self, now: Duration, out: &mut Vec<Output>) {
        if let Some((_, until)) = &self.paused {
            if now < *until {
                return;
            }
            self.paused = None;
            self.resync = true;
        }
        if self.resync
            && self.phase == Phase::Live
            && self.inflight.is_empty()
            && self.batch.ops.is_empty()
        {
            self.resync = false;
            self.start_compare(out);
        }
    }
}
