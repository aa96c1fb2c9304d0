//! Loops that join an engine to a host: connections, sessions, threads, shutdown. No decisions about trees are made
//! here; those are in `engine`.

pub mod answers;
pub mod cache;
mod changes;
pub mod client;
pub mod connect;
pub mod control;
pub mod join;
pub mod keys;
pub mod options;
mod packing;
pub mod pump;
pub mod responses;
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
mod turned_away;
pub mod user;
mod waiting;
