//! The outside world: disks, watches, sockets, certificates, clocks, signals. The only place that touches them.

pub mod source;
pub mod watch;
