//! The two sides as deterministic cores: messages, hints and the time go in, messages and jobs come out.
//!
//! Everything that decides what happens to a tree is here or below. The outside (a source tree, a share's store) is a
//! port: a trait that `host` implements on a disk and the simulation in memory. Nothing here reads a clock, opens a
//! file or waits.

pub mod brake;
pub mod client;
pub mod ignore;
pub mod ports;
pub mod server;
pub mod sim;
pub mod source;
