//! A tree of entries with stable ids, incremental directory sums and O(1) renames.
//!
//! Both sides keep one: the server of what its directory holds, the client of what the server has acknowledged.
//! It never touches a disk: `host::index` stores its rows, `engine` decides what changes.

mod tree;

pub use tree::{Node, NodeId, Row, Stat, Tree};
