//! Whether what is sent is worth packing: only while the line is what holds the sender up and is much slower than packing, and
//! only data that yields. What is decided follows from what was measured, which comes in.

use crate::host::clock;
use crate::model::limits::MAX_PIECE;
use crate::wire::{Effort, pack};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bodies that are shorter say nothing and are not worth it, in bytes.
const SMALLEST: usize = 4096;
/// What packing costs until it was measured, in nanoseconds for a KiB.
const FIRST_COST: u64 = 4096;
/// After so many plain bytes half of what is known of the cost is forgotten.
const FORGET: u64 = 16 * 1024 * 1024;
/// How many times its cost packing has to gain. Packing takes processors from whoever else needs them.
const MARGIN: u64 = 3;
/// What a body is taken to pack to until one was packed, in 1024ths of its length.
const FIRST_RATIO: u64 = 512;
/// Above this ratio, twice in succession, data does not yield.
const POOR_RATIO: u64 = 960;
/// How many bodies of data that does not yield go plain before one is tried again, at first and at most.
const REST: (u32, u32) = (16, 512);

/// Writing is looked at in windows that are at least so long.
const WINDOW: Duration = Duration::from_millis(50);
/// The line holds the sender up in a window of which writing takes so many hundredths.
const BUSY: u32 = 60;
/// A line is slow after so many windows in succession: a thread that gets no turn, or a disk that hesitates, is no line.
const WINDOWS: usize = 4;
/// A line that carries more is fast whatever packing costs, in bytes a second. A machine that has nothing to spare passes this
/// to itself, too.
const FAST: u64 = 30_000_000;
/// A line that carries less is very slow, in bytes a second.
const SLOWEST: u64 = 4_000_000;
/// After a rest that is longer a window begins anew.
const PAUSE: Duration = Duration::from_millis(200);
/// How many bytes may go packed, as long as they were before, without the line holding anybody up until it is tried without
/// packing, at first and at most.
const RUN: (u64, u64) = (8 * 1024 * 1024, 128 * 1024 * 1024);

/// How long the line may take for a piece of an upload: what is urgent waits for so much.
const PIECE_TIME: Duration = Duration::from_millis(20);
/// Shortest piece of an upload, in bytes.
const MIN_PIECE: usize = 32 * 1024;
/// Length of a piece while the line is not known, in bytes.
const CAREFUL: usize = 64 * 1024;

/// What one body took to pack, or to be tried.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// Its length before packing, in bytes.
    length: usize,
    /// How long it took.
    packing: Duration,
}

/// What was written since a window began.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    bytes: u64,
    writing: Duration,
    resting: Duration,
}

/// What is known of a connection's line, by all that goes over it.
#[derive(Debug)]
pub struct Line {
    /// The peer takes what is packed.
    enabled: bool,
    window: Window,
    /// What the line carried in the last windows in which it held the sender up, in bytes a second.
    held: VecDeque<u64>,
    /// What it carries, in bytes a second, if it is slow.
    rate: Option<u64>,
    /// Whether it was found not to be slow.
    fast: bool,
    /// What packing costs, in nanoseconds for a KiB.
    cost: u64,
    /// Bytes that went packed since the line held the sender up last.
    relieved: u64,
    /// How many of these there may be.
    run: u64,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            enabled: false,
            window: Window::default(),
            held: VecDeque::with_capacity(WINDOWS),
            rate: None,
            fast: false,
            cost: FIRST_COST,
            relieved: 0,
            run: RUN.0,
        }
    }
}

impl Line {
    /// The peer takes what is packed.
    pub fn enable(&mut self) {
        self.enabled = true;
    }

    /// So many bytes were written, which took so long, after a rest in which there was nothing to write.
    pub fn wrote(&mut self, bytes: usize, writing: Duration, resting: Duration) {
        if resting >= PAUSE {
            self.window = Window::default();
        } else {
            self.window.resting += resting;
        }
        self.window.bytes += bytes as u64;
        self.window.writing += writing;
        if self.window.writing + self.window.resting >= WINDOW {
            let window = std::mem::take(&mut self.window);
            self.judge(&window);
        }
    }

    fn judge(&mut self, window: &Window) {
        let whole = window.writing + window.resting;
        if window.writing * 100 < whole * BUSY {
            // Somebody else is slower than the line, or packing is what helps.
            self.held.clear();
            self.fast |= self.rate.is_none();
            return;
        }
        let nanos = window.writing.as_nanos().max(1);
        let rate = u128::from(window.bytes) * 1_000_000_000 / nanos;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
        self.relieved = 0;
        if self.held.len() == WINDOWS {
            self.held.pop_front();
        }
        self.held.push_back(rate);
        // A stall makes a window slow, and nothing makes one fast that the line does not carry.
        let best = self.held.iter().copied().max().unwrap_or(rate);
        if best >= FAST {
            self.rate = None;
            self.fast = true;
            self.run = RUN.0;
        } else if self.held.len() == WINDOWS {
            self.rate = Some(best);
            self.fast = false;
        }
    }

    /// Whether packing to `ratio` 1024ths gains more than it costs.
    fn pays(&self, ratio: u64) -> bool {
        let saved = 1024u64.saturating_sub(ratio).saturating_mul(1_000_000_000);
        let gain = self.rate.map_or(0, |rate| saved / rate.max(1));
        self.enabled && gain >= self.cost.saturating_mul(MARGIN)
    }

    /// How thoroughly to pack: thoroughly costs twice as much, and is worth it on a very slow line.
    fn effort(&self) -> Effort {
        match self.rate {
            Some(rate) if rate < SLOWEST => Effort::Thorough,
            _ => Effort::Quick,
        }
    }

    /// What packing cost this time. A body during which the machine was busy with something else does not count in full.
    fn cost(&mut self, took: &Took) {
        let nanos = u64::try_from(took.packing.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos.saturating_mul(1024) / (took.length as u64).max(1);
        self.cost = ((self.cost * 3 + now.min(self.cost * 4)) / 4).max(1);
    }

    /// A body went as it is.
    fn plain(&mut self, length: usize) {
        // Slowly back to what is usual, so that a machine that was busy is tried again.
        let part = (length as u64).min(FORGET) * self.cost.saturating_sub(FIRST_COST) / FORGET;
        self.cost -= part / 2;
    }

    /// A body went packed.
    fn packed(&mut self, length: usize) {
        self.relieved += length as u64;
        if self.relieved >= self.run {
            // Either packing is what helps, or the line has become faster: only what is plain can tell.
            self.rate = None;
            self.held.clear();
            self.relieved = 0;
            self.run = (self.run * 2).min(RUN.1);
        }
    }
}

/// What is known of the data of one transfer.
#[derive(Debug)]
pub struct Transfer {
    /// What the last bodies packed to, in 1024ths.
    ratio: u64,
    /// Whether the last body that was tried did not yield.
    poor: bool,
    /// How many bodies go plain before one is tried again.
    rest: u32,
    /// How many the next time.
    next_rest: u32,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            ratio: FIRST_RATIO,
            poor: false,
            rest: 0,
            next_rest: REST.0,
        }
    }
}

impl Transfer {
    /// Whether the next body, of so many bytes, is to be packed.
    fn packs(&mut self, line: &Line, length: usize) -> bool {
        if length < SMALLEST || !line.pays(self.ratio) {
            return false;
        }
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        !rests
    }

    /// How long the next piece of an upload is to be, in bytes.
    pub fn piece(&self, line: &Line) -> usize {
        let Some(rate) = line.rate else {
            return if line.fast { MAX_PIECE } else { CAREFUL };
        };
        let packs = line.pays(self.ratio) && self.rest == 0;
        let ratio = if packs { self.ratio.max(1) } else { 1024 };
        let millis = u64::try_from(PIECE_TIME.as_millis()).unwrap_or(1);
        let carried = rate.saturating_mul(millis) / 1000 * 1024 / ratio;
        let carried = usize::try_from(carried).unwrap_or(MAX_PIECE);
        carried.clamp(MIN_PIECE, MAX_PIECE)
    }

    /// A body was sent: plain and untried, or tried and packed to so many bytes, or tried in vain.
    fn sent(&mut self, line: &mut Line, took: &Took, tried: Tried) {
        if took.length < SMALLEST {
            return;
        }
        match tried {
            Tried::Not => line.plain(took.length),
            Tried::InVain => {
                line.cost(took);
                self.yielded(1024);
            }
            Tried::Packed(length) => {
                line.cost(took);
                line.packed(took.length);
                self.yielded(length as u64 * 1024 / took.length as u64);
            }
        }
    }

    /// Packs a body if that pays and helps; no body may be longer than `limit` bytes. Gives with it the length that it has when
    /// it is unpacked.
    pub fn pack(
        &mut self,
        line: &Mutex<Line>,
        body: &[u8],
        limit: usize,
    ) -> Option<(Vec<u8>, u32)> {
        let line = || line.lock().unwrap_or_else(PoisonError::into_inner);
        let length = body.len();
        let (tries, effort) = {
            let line = line();
            (self.packs(&line, length), line.effort())
        };
        let begun = clock::monotonic();
        let packed = if tries {
            pack(body, limit, effort)
        } else {
            None
        };
        let packing = begun.elapsed();
        let tried = match &packed {
            None if tries => Tried::InVain,
            None => Tried::Not,
            Some((packed, _)) => Tried::Packed(packed.len()),
        };
        self.sent(&mut line(), &Took { length, packing }, tried);
        packed
    }

    fn yielded(&mut self, ratio: u64) {
        let poor = ratio > POOR_RATIO;
        self.ratio = self.ratio.midpoint(ratio);
        if poor && self.poor {
            *self = Self {
                ratio: FIRST_RATIO,
                // After the rest one body in vain is enough.
                poor: true,
                rest: self.next_rest,
                next_rest: (self.next_rest * 2).min(REST.1),
            };
        } else {
            self.poor = poor;
            if !poor {
                self.next_rest = REST.0;
            }
        }
    }
}

/// What became of a body.
#[derive(Clone, Copy, Debug)]
enum Tried {
    /// It was not to be packed.
    Not,
    /// It did not become smaller, and went as it is.
    InVain,
    /// It went packed, as so many bytes.
    Packed(usize),
}

#[cfg(test)]
mod tests;
