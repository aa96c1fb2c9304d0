//! Loops that join an engine to a host: connections, sessions, threads, shutdown. No decisions about trees are made
//! here; those are in `engine`.

mod changes;
pub mod answers;
pub mod client;
pub mod connect;
pub mod control;
pub mod join;
pub mod options;
pub mod pump;
pub mod roster;
pub mod server;
pub mod serving;
pub mod session;
mod severable;
pub mod share;
pub mod status;
#[cfg(test)]
mod testing;
pub mod trust;
