//! Loops that join an engine to a host: connections, sessions, threads, shutdown. No decisions about trees are made
//! here; those are in `engine`.

pub mod options;
pub mod pump;
pub mod status;
