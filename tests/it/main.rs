//! The only integration binary: each file beside this one is a module of it, and a test fails when one is not declared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and clippy exempts only functions marked as tests"
)]

mod asking;
mod bench;
mod brake;
mod cli;
mod config;
mod drift;
mod editors;
mod faults;
mod files;
mod full_state;
mod ignore;
mod keys;
mod large;
mod live;
mod logs;
mod memcached;
mod overlap;
mod own;
mod packing;
mod plan;
mod restart;
mod resume;
mod settings;
mod shares;
mod sim;
mod stopping;
mod support;
mod tidy;
mod trees;
mod trust;
mod verify;
mod wire_compat;

/// Files that are compared with what the code gives: `SYNCD_BLESS=1 cargo test` writes them anew.
fn bless_or_compare(path: &std::path::Path, now: &str) {
    if std::env::var_os("SYNCD_BLESS").is_some() {
        std::fs::write(path, now).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == now,
        "`{}` differs from the code (SYNCD_BLESS=1 writes it anew); the code gives:\n{now}",
        path.display()
    );
}

/// The directory of the package.
fn package() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}
