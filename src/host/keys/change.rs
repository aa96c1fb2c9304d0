//! What a store is told, and what it says.

use super::Found;
use bytes::Bytes;
use std::sync::Arc;

/// What bounds a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Longest value, in bytes.
    pub max_value: u32,
    /// Bytes of all keys and values.
    pub max_total: u64,
}

/// Why a change was not made, or a look not answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk is full, or the store as large as it may be.
    #[error("there is no room: {0}")]
    Full(&'static str),
    /// The file cannot be used at present.
    #[error("the keys are unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The server ends.
    #[error("the server ends")]
    Ended,
}

/// A change of the keys of a share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The name of the share; empty for the directory itself.
    pub space: Arc<str>,
    /// Which key; without meaning for a flush.
    pub key: Bytes,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Store a value.
    Store {
        /// On which condition, and where.
        mode: Mode,
        /// Remembered with it; not changed by `Append` and `Prepend`.
        flags: u32,
        /// When it ends, in milliseconds since 1970; 0 for never. Not changed by `Append` and `Prepend`.
        expires: u64,
        /// The bytes.
        value: Bytes,
    },
    /// Remove the value.
    Delete,
    /// Count a decimal number up (wraps around) or down (ends at 0).
    Count {
        /// Whether it grows.
        up: bool,
        /// By how much.
        by: u64,
    },
    /// Set when it ends.
    Touch {
        /// In milliseconds since 1970; 0 for never.
        expires: u64,
    },
    /// Remove all values of the share.
    Flush {
        /// When, in milliseconds since 1970; what is past for at once.
        at: u64,
    },
}

/// How a value is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In any case.
    Set,
    /// If there is none.
    Add,
    /// If there is one.
    Replace,
    /// Behind the one that is there.
    Append,
    /// Before the one that is there.
    Prepend,
    /// If the one that is there has this unique number.
    Cas(u64),
}

/// What came of a change. It is durable.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value has this unique number now.
    Stored(u64),
    /// The condition does not hold.
    NotStored,
    /// The value has another unique number.
    Exists,
    /// There is no value.
    NotFound,
    /// It is gone.
    Deleted,
    /// It ends then; this is it.
    Touched(Found),
    /// The number it is now.
    Counted(u64),
    /// It is no decimal number of 64 bits.
    NotNumeric,
    /// The value would be longer than the bound.
    TooLarge,
    /// All values are gone, or will be.
    Flushed,
}

/// What a store holds, and whether it can be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyStatus {
    /// The name, keys and bytes of each share that has or had any.
    pub spaces: Vec<(Arc<str>, u64, u64)>,
    /// Why nothing can be stored or read at present.
    pub unavailable: Option<String>,
}
