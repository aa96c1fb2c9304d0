//! The outside world: disks, watches, sockets, certificates, clocks, signals. The only place that touches them.
//!
//! It offers narrow functions over the system and decides nothing about trees. The next layer (`daemon`) joins it to the
//! engine.

pub mod certificate;
pub mod certset;
pub mod clock;
pub mod control;
pub mod database;
pub mod devices;
pub mod dirs;
pub mod disk;
pub mod enrolment;
pub mod index;
pub mod invite;
pub mod joined;
pub mod keys;
pub mod local;
pub mod memory;
pub mod mounts;
pub mod names;
pub mod net;
mod overlay;
pub mod own;
pub mod pem;
pub mod pending;
pub mod pki;
pub mod place;
pub mod private;
pub mod process;
pub mod random;
pub mod recipes;
pub mod rights;
pub mod root;
pub mod setid;
pub mod source;
pub mod thread;
pub mod tls;
pub mod watch;
