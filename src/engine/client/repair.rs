//! Paths that were found to be other than in the mirror, by somebody who read both sides.

use super::ClientEngine;
use crate::debounce::Key;
use crate::model::RelPath;
use std::time::Duration;

impl ClientEngine {
    /// Has paths looked at and read, whatever is known of them, after the view was compared with the server. Deletions go
    /// past the brake, like those of a scan.
    pub fn repair(&mut self, paths: &[RelPath], now: Duration) {
        self.resync = true;
        for path in paths {
            let Some((parent, name)) = path.split() else {
                continue;
            };
            // What is in a directory that the view lacks is found with that directory.
            if let Some(dir) = self.view.lookup(&parent) {
                self.owe(Key { dir, name }, now, now);
            }
        }
    }
}
