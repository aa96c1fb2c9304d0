//! File systems of a test's own, which only root may mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounts as the program `mount` does; whether it could.
pub fn mount(arguments: &[&str]) -> bool {
    let run = Command::new("mount").args(arguments).output();
    run.is_ok_and(|run| run.status.success())
}

/// Ends a mount, whatever becomes of the test.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// That nothing could be mounted is right here.
pub fn assert_cannot_mount() {
    assert!(
        !rustix::process::geteuid().is_root() || !Path::new("/bin/mount").exists() || !can_mount()
    );
}

fn can_mount() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    line.and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .is_some_and(|set| set & (1 << 21) != 0)
}
