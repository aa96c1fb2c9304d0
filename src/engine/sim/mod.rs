//! A simulated outside: a source tree and a share's disk in memory, for tests that drive both engines. No part of the
//! program uses it. Randomness is a seed, so that a run can be repeated.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a simulation that is used wrongly ends its test"
)]

mod crash;
mod ledger;
mod leftovers;
mod look;
mod source;
mod state;
mod store;
mod uploads;

pub use look::root_id;
pub use source::{Act, Inode, MemSource, Meta, name};
pub use store::{Crash, MemStaged, MemStore, MemUpload, Shown};

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below a bound, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap_or_default()
    }

    /// Whether one of `of` cases is met.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
