//! Large files between the first look and their commit.

use crate::debounce::{Key, Wait};
use crate::engine::source::Found;
use crate::model::{Digest, LeftoverKey};
use std::time::Duration;

/// A large file under way.
#[derive(Debug)]
pub(in crate::engine::client) struct Upload {
    pub(in crate::engine::client) key: Key,
    pub(in crate::engine::client) wait: Wait,
    pub(super) begun: Duration,
    pub(super) inode: (u64, i64),
    /// By what the server finds what is left of it.
    pub(super) leftover: LeftoverKey,
    pub(super) read: Option<(Found, Digest)>,
    /// The server has it complete.
    pub(super) staged: bool,
    /// Something else was sent for the path since the upload began: its content is older than that.
    pub(in crate::engine::client) outdated: bool,
}

impl Upload {
    pub(super) fn new(
        key: Key,
        wait: Wait,
        inode: (u64, i64),
        leftover: LeftoverKey,
        begun: Duration,
    ) -> Self {
        Self {
            key,
            wait,
            begun,
            inode,
            leftover,
            read: None,
            staged: false,
            outdated: false,
        }
    }
}
