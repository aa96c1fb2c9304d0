//! The thread that sweeps a share for what somebody else did to it: slowly, and only while there is a writer to put it
//! right. In between it sees to it that the share's path still leads to the directory that changes are made in. (Whoever comes as a writer finds the share compared anyway.)

use super::{Refusal, Share, lock};
use crate::engine::server::{Sweep, SweepStep};
use crate::host::{clock, thread};
use crate::model::Fault;
use crate::wire::Code;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// After a step the thread rests so many times as long as it took.
const REST: u32 = 10;
/// Rest after a step, at least and at most.
const RESTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));
/// How long to wait for a change to end.
const BUSY: Duration = Duration::from_millis(20);
/// How often the place of the share is looked at, unless it is swept more often.
const PLACE: Duration = Duration::from_secs(10);
/// What is said when something else is there.
const DISPLACED: &str = "the share's directory was moved away or removed: put it back if it was not meant to go, or start the \
                         server again if what is at its path now is to be used";

/// Sweeps every `period`, until the other end of `life` is dropped.
pub(super) fn start(share: &Arc<Share>, period: Duration, life: Receiver<()>) -> io::Result<()> {
    let share = Arc::downgrade(share);
    let _ended = thread::spawn("syncd-drift", move || {
        let mut swept = clock::monotonic();
        while rest(&life, period.min(PLACE)) {
            if look(&share).is_none() {
                break;
            }
            if swept.elapsed() < period {
                continue;
            }
            if sweep(&share, &life).is_none() {
                break;
            }
            swept = clock::monotonic();
        }
    })?;
    Ok(())
}

/// Whether the share still lives after a while.
fn rest(life: &Receiver<()>, pause: Duration) -> bool {
    life.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

/// Looks whether the share is in its place, and has the session find out that it is not. Nothing when the share has ended.
fn look(share: &Weak<Share>) -> Option<()> {
    let share = share.upgrade()?;
    if share.in_place().is_err() && lock(&share.lease).session.is_some() {
        share.drifted.send_modify(|sweeps| *sweeps += 1);
    }
    Some(())
}

/// Sweeps once, if anybody writes. Nothing when the share has ended.
fn sweep(share: &Weak<Share>, life: &Receiver<()>) -> Option<()> {
    let mut sweep = {
        let share = share.upgrade()?;
        if lock(&share.lease).session.is_none() {
            return Some(());
        }
        lock(&share.core).begin_sweep()
    };
    let mut drift = false;
    loop {
        let pause = {
            let share = share.upgrade()?;
            let began = clock::monotonic();
            match share.sweep_on(&mut sweep) {
                Next::Rest(found) => {
                    drift |= found;
                    (began.elapsed() * REST).clamp(RESTS.0, RESTS.1)
                }
                Next::Busy => BUSY,
                Next::Over => {
                    if drift {
                        share.drifted.send_modify(|sweeps| *sweeps += 1);
                    }
                    return Some(());
                }
            }
        };
        if !rest(life, pause) {
            return None;
        }
    }
}

/// How a sweep goes on.
enum Next {
    /// After a rest. Whether somebody changed anything here.
    Rest(bool),
    /// When a change has ended.
    Busy,
    Over,
}

impl Share {
    /// What is done in a directory that was moved away, or that another one was put in the place of (a backup), is not done
    /// to the share: nobody would find it there.
    ///
    /// # Errors
    /// When the share's path leads elsewhere, or nowhere.
    pub(super) fn in_place(&self) -> Result<(), Refusal> {
        if self.store.is_at(&self.path) {
            return Ok(());
        }
        if lock(&self.seen)
            .paused
            .replace(DISPLACED.to_owned())
            .as_deref()
            != Some(DISPLACED)
        {
            tracing::error!(share = %self.title(), path = %self.path.display(), "{DISPLACED}");
        }
        Err(Refusal::new(Code::Fault(Fault::ReadOnly), DISPLACED))
    }

    fn sweep_on(&self, sweep: &mut Sweep) -> Next {
        let mut core = lock(&self.core);
        let (look, unread) = match core.sweep(sweep) {
            SweepStep::Looked(look) => (look, Vec::new()),
            SweepStep::Unread(look, unread) => (look, unread),
            SweepStep::Busy => return Next::Busy,
            SweepStep::Over => return Next::Over,
        };
        if look.drift {
            self.tell(&mut core, &look);
            self.note(&core, None);
        }
        drop(core);
        sweep.read(&*self.store, unread);
        Next::Rest(look.drift)
    }
}
