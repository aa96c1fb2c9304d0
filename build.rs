//! Sets `SYNCD_VERSION`: the version, in release builds with the commit. Works without git and without a checkout: the
//! version then stands alone. Debug builds leave the commit out, so that a commit does not rebuild them.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let head = Path::new(".git/logs/HEAD");
    if release && head.exists() {
        println!("cargo:rerun-if-changed={}", head.display());
    }
    let version = env!("CARGO_PKG_VERSION");
    match release.then(commit).flatten() {
        Some(commit) => println!("cargo:rustc-env=SYNCD_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=SYNCD_VERSION={version}"),
    }
}

fn commit() -> Option<String> {
    // Without this check a copy of the sources inside another checkout would name that one's commit.
    Path::new(".git").exists().then_some(())?;
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let plain = !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (output.status.success() && plain).then_some(hash)
}
