//! What the end-to-end tests stand on: homes, processes, trees, waiting.

#![allow(dead_code, reason = "a helper may be there before its first test")]

pub mod daemon;
pub mod failing;
pub mod files;
pub mod liar;
pub mod memcached;
pub mod mounted;
pub mod pair;
pub mod proxy;
pub mod raw;
pub mod sandbox;
pub mod slow;
pub mod tree;
pub mod wait;
