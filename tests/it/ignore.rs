//! Rules that leave paths out: at the start, while running, and for what was mirrored before.

use crate::support::files::write;
use crate::support::pair::Pair;
use crate::support::sandbox::Sandbox;
use crate::support::{tree, wait};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The paths of a tree, as text.
fn paths(root: &Path) -> BTreeSet<String> {
    let tree = tree::snapshot(root).into_keys();
    tree.map(|path| String::from_utf8_lossy(&path).into_owned())
        .collect()
}

/// A difference of two trees is one of these paths, or below one.
fn differ_only_in(source: &Path, mirror: &Path, left_out: &[&str]) {
    let (source, mirror) = (paths(source), paths(mirror));
    let known = |path: &&String| {
        let below = |out: &&str| {
            path.strip_prefix(*out)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        left_out.iter().any(below)
    };
    let other: Vec<_> = source
        .symmetric_difference(&mirror)
        .filter(|path| !known(path))
        .collect();
    assert!(other.is_empty(), "{other:?}");
    for out in left_out {
        assert_ne!(source.contains(*out), mirror.contains(*out), "{out}");
    }
}

#[test]
fn rules_of_any_level_and_of_the_settings_leave_paths_out() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    fs::write(
        sandbox.path("client.toml"),
        "ignore = [\"*.tmp\", \"/target/\", \"*.log\"]\n",
    )
    .unwrap();
    write(
        &source,
        ".syncdignore",
        "# of the whole tree\n*.o\n!keep.o\n/only-here\n!important.log\n",
    );
    for name in [
        "a.o",
        "keep.o",
        "sub/b.o",
        "sub/keep.o",
        "sub/only-here",
        "only-here",
        "x.tmp",
    ] {
        write(&source, name, name);
    }
    for name in [
        "target/deep/x",
        "sub/target/x",
        "a.log",
        "important.log",
        "sub/build/keep.o",
        "sub/lib/z.o",
    ] {
        write(&source, name, name);
    }
    write(&source, "sub/.syncdignore", "build/\n!z.o\n");
    write(&source, "sub/not a directory/build", "a file");
    fs::write(source.join(OsStr::from_bytes(b"odd \xff\xfe.o")), "odd").unwrap();
    let pair = Pair::of(sandbox);
    pair.flush();
    let odd = String::from_utf8_lossy(b"odd \xff\xfe.o").into_owned();
    let out = [
        "a.o",
        "sub/b.o",
        "only-here",
        "x.tmp",
        "target",
        "a.log",
        "sub/build",
        &odd,
    ];
    differ_only_in(&pair.source, &pair.mirror, &out);
    let status = pair.status();
    assert_eq!(status["ignored_total"], 8, "{status}");
    // Nothing of what is ignored is watched: the root, `sub`, three directories in it.
    assert_eq!(status["watches"], 5, "{status}");
    pair.stop();
}

#[test]
fn rules_hold_for_what_comes_later_and_for_what_is_moved() {
    let pair = Pair::new();
    write(&pair.source, ".syncdignore", "*.o\ntarget/\n");
    write(&pair.source, "sub/.syncdignore", "!z.o\n");
    write(&pair.source, "sub/lib/z.o", "z");
    pair.settle();
    write(&pair.source, "sub/new/c.o", "c");
    write(&pair.source, "sub/new/c.c", "c");
    write(&pair.source, "target/deep/y", "y");
    fs::rename(pair.source.join("sub/lib"), pair.source.join("lib")).unwrap();
    pair.flush();
    let out = ["target", "sub/new/c.o"];
    differ_only_in(&pair.source, &pair.mirror, &out);
    // Where it is now it is ignored: no longer sent, and not deleted.
    write(&pair.source, "lib/z.o", "changed");
    pair.flush();
    assert_eq!(fs::read(pair.mirror.join("lib/z.o")).unwrap(), b"z");
    pair.stop();
}

#[test]
fn rules_that_change_take_effect_and_keep_what_was_mirrored() {
    let mut pair = Pair::new();
    for name in ["a.o", "a.c", "dir/b.o", "dir/c/d.o", "build/x", "build/y/z"] {
        write(&pair.source, name, name);
    }
    pair.settle();
    write(&pair.source, ".syncdignore", "*.o\nbuild/\n");
    pair.flush();
    pair.settle();
    // From now on they are neither sent nor deleted, not after a restart or a comparison either.
    write(&pair.source, "a.o", "changed");
    fs::remove_file(pair.source.join("dir/b.o")).unwrap();
    fs::remove_dir_all(pair.source.join("build/y")).unwrap();
    write(&pair.source, "build/new", "new");
    write(&pair.source, "dir/new.o", "new");
    pair.flush();
    let out = ["dir/b.o", "build/y", "build/new", "dir/new.o"];
    differ_only_in(&pair.source, &pair.mirror, &out);
    assert_eq!(fs::read(pair.mirror.join("a.o")).unwrap(), b"a.o");
    pair.client.stop();
    pair.restart_client();
    pair.flush();
    differ_only_in(&pair.source, &pair.mirror, &out);
    pair.server.stop();
    write(&pair.mirror, "dir/b.o", "somebody else's");
    pair.restart_server();
    pair.flush();
    differ_only_in(&pair.source, &pair.mirror, &out);
    assert_eq!(pair.status()["problems_total"], 0);
    // Without the rules everything is as it should be, though it was changed meanwhile.
    fs::remove_file(pair.source.join(".syncdignore")).unwrap();
    pair.settle();
    assert_eq!(pair.status()["ignored_total"], 0);
    pair.stop();
}

#[test]
fn what_is_ignored_from_now_on_is_deleted_if_so_configured() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("client.toml"), "ignored = \"delete\"\n").unwrap();
    let pair = Pair::of(sandbox);
    for n in 0..120 {
        write(&pair.source, &format!("many/{n}"), "many");
    }
    for name in ["a.o", "a.c", "dir/b.o", "build/x"] {
        write(&pair.source, name, name);
    }
    pair.settle();
    write(&pair.source, ".syncdignore", "*.o\nbuild/\n");
    pair.flush();
    let gone = || {
        !["a.o", "dir/b.o", "build"]
            .iter()
            .any(|name| pair.mirror.join(name).exists())
    };
    assert!(gone());
    differ_only_in(&pair.source, &pair.mirror, &["a.o", "dir/b.o", "build"]);
    // Much at once needs a person's word.
    write(&pair.source, "dir/.syncdignore", "");
    write(&pair.source, ".syncdignore", "*.o\nbuild/\nmany/\n");
    let held = || pair.status()["servers"][0]["held"]["entries"] == 121;
    assert!(wait::until(wait::PATIENCE, held), "{}", pair.status());
    assert!(pair.mirror.join("many/7").exists());
    let run = pair.sandbox.run(&["accept", "-d", "source", "--yes"]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert!(!pair.mirror.join("many").exists() && gone());
    pair.stop();
}

#[test]
fn a_line_that_is_no_pattern_is_named() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    write(&source, ".syncdignore", b"*.o\n[\xff\n*.tmp\n");
    write(&source, "a.tmp", "a");
    let pair = Pair::of(sandbox);
    let run = pair.sandbox.run(&["flush", "-d", "source"]);
    assert_eq!(run.code, Some(3));
    assert!(
        run.err.contains("`.syncdignore`: line 2 is no pattern"),
        "{}",
        run.err
    );
    differ_only_in(&pair.source, &pair.mirror, &["a.tmp"]);
    pair.stop();
}
