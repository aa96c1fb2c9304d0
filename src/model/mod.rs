//! The vocabulary of the program: values that every other layer speaks of.
//!
//! It owns validated paths, entries, digests, problems and every named bound. It never touches a file,
//! a socket or a clock. The next layer (`delta`, `index`, `debounce`, `config`) computes with these values.

mod digest;
mod entry;
mod leftover;
pub mod limits;
mod path;
mod problem;

pub use digest::{Digest, ParseDigestError, Sum};
pub use entry::{Entry, Kind, Mtime, PERMISSION_BITS};
pub use leftover::LeftoverKey;
pub use path::{Name, PathError, RelPath, escape};
pub use problem::{Fault, Problem, Skipped};
