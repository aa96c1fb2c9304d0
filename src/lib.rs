//! syncd keeps directories mirrored. The layers, each allowed to name those above it here only:
//!
//! ```text
//! model                        values
//! delta  index  debounce  config   pure computations
//! wire                         bytes to values and back
//! engine                       the two sides as deterministic cores; ports of the outside
//! host                         the outside: disks, sockets, certificates, clocks
//! daemon                       loops that join an engine to a host
//! cli                          people
//! ```

pub mod model;

pub mod config;
pub mod debounce;
pub mod delta;
pub mod index;

pub mod wire;

pub mod engine;

pub mod host;

pub mod daemon;

pub mod cli;
