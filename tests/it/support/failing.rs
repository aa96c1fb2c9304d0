//! A disk that fails below one file of a process, by a library that is loaded into it.

use super::sandbox::Sandbox;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Stands before the C library: while the file `$FAILING` is there, what its text names fails with EIO for files with
/// `$FAILING_NAME` in their path. `w` writes, `s` syncs, `2` the second sync alone, `r` reads.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int syncs;
static int fails(int fd, char what) {
    char link[64], path[4096], text[16] = {0};
    const char *file = getenv("FAILING");
    FILE *order = file ? fopen(file, "r") : 0;
    if (!order) { syncs = 0; return 0; }
    fread(text, 1, sizeof text - 1, order);
    fclose(order);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, getenv("FAILING_NAME"))) return 0;
    if (what == 's' && strchr(text, '2')) return ++syncs == 2;
    return strchr(text, what) != 0;
}
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name);
#define FAIL { errno = EIO; return -1; }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64) if (fails(fd, 'w')) FAIL return real(fd, bytes, count, at);
}
ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    REAL(pread64) if (fails(fd, 'r')) FAIL return real(fd, bytes, count, at);
}
int fdatasync(int fd) { REAL(fdatasync) if (fails(fd, 's')) FAIL return real(fd); }
"#;

/// How a disk is made to fail.
pub struct Failing {
    library: PathBuf,
    order: PathBuf,
}

impl Failing {
    /// Builds it; none where there is no C compiler, which is said.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub fn new(sandbox: &Sandbox) -> Option<Self> {
        let (source, library) = (sandbox.path("failing.c"), sandbox.path("failing.so"));
        fs::write(&source, LIBRARY).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-w", "-o"]);
        let compiled = compile.arg(&library).arg(&source).arg("-ldl").status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("skipped: `cc` does not build a library here");
            return None;
        }
        let order = sandbox.path("failing");
        Some(Self { library, order })
    }

    /// Has a command's process fail for the files with `name` in their path.
    pub fn below(&self, command: &mut Command, name: &str) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAILING", &self.order)
            .env("FAILING_NAME", name);
    }

    /// Lets something fail from now on.
    pub fn fail(&self, what: &str) {
        let new = self.order.with_extension("new");
        fs::write(&new, what).unwrap();
        fs::rename(new, &self.order).unwrap();
    }

    /// The disk works again.
    pub fn mend(&self) {
        fs::remove_file(&self.order).unwrap();
    }
}
