//! Changes while both sides run: after each step a flush, and the mirror is equal at once.

use crate::support::files::{chmod, noise, set_mtime, write};
use crate::support::pair::Pair;
use crate::support::sandbox::Sandbox;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

fn append(path: &Path, content: &[u8]) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(content).unwrap();
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn files_are_made_edited_moved_and_deleted() {
    let pair = Pair::new();
    let root = &pair.source;
    let at = |name: &str| root.join(name);
    write(root, "a", "first");
    write(root, "b", "second");
    write(root, "d/c", "third");
    pair.settle();
    write(root, "a", "edited, and longer than before");
    append(&at("b"), b" and appended");
    pair.settle();
    // By path, without ever opening it for writing: no event of a close follows.
    let file = File::options().write(true).open(at("a")).unwrap();
    file.set_len(3).unwrap();
    pair.settle();
    drop(file);
    chmod(&at("b"), 0o640);
    set_mtime(&at("d/c"), (1_111_111_111, 222_222_222));
    pair.settle();
    fs::rename(at("a"), at("d/a2")).unwrap();
    pair.settle();
    fs::rename(at("d/a2"), at("b")).unwrap();
    pair.settle();
    fs::remove_file(at("d/c")).unwrap();
    pair.settle();

    // A swap through a third name, a swap in one step, and a chain.
    for name in ["p", "q", "r", "s"] {
        write(root, name, format!("I was {name}"));
    }
    pair.settle();
    for (from, to) in [("p", "x"), ("q", "p"), ("x", "q")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    pair.settle();
    exchange(&at("p"), &at("s"));
    pair.settle();
    for (from, to) in [("s", "t"), ("r", "s"), ("q", "r"), ("p", "q")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    pair.settle();
    // Made and gone before anybody looked.
    write(root, "short-lived", "x");
    fs::remove_file(at("short-lived")).unwrap();
    fs::hard_link(at("q"), at("linked")).unwrap();
    append(&at("linked"), b" through the other name");
    pair.settle();
    pair.stop();
}

#[test]
fn directories_are_made_moved_swapped_and_deleted() {
    let sandbox = Sandbox::new();
    let (source, outside) = (sandbox.dir("source"), sandbox.dir("outside"));
    // Fewer than what the brake holds when a scan misses it.
    for n in 0..80 {
        write(&source, &format!("tree/d{}/f{n}", n % 10), format!("{n}"));
    }
    for n in 0..30 {
        write(&outside, &format!("populated/e{}/g{n}", n % 3), "come in");
    }
    let pair = Pair::of(sandbox);
    let root = &pair.source;
    let at = |name: &str| root.join(name);
    pair.settle();
    let before = pair.sent();
    fs::rename(at("tree"), at("moved tree")).unwrap();
    pair.settle();
    let sent = pair.sent() - before;
    assert!(sent < 10_000, "{sent} bytes were sent for a rename");
    // What is below a moved directory is still followed.
    write(root, "moved tree/d3/new", "new");
    fs::rename(at("moved tree/d4"), at("moved tree/d3/d4")).unwrap();
    write(root, "moved tree/d3/d4/newer", "newer");
    pair.settle();
    exchange(&at("moved tree/d1"), &at("moved tree/d2"));
    pair.settle();
    // Out, changed there, in again.
    fs::rename(at("moved tree"), outside.join("tree")).unwrap();
    pair.settle();
    write(&outside, "tree/d5/changed", "outside");
    fs::rename(outside.join("tree"), at("tree again")).unwrap();
    fs::rename(outside.join("populated"), at("populated")).unwrap();
    pair.settle();
    write(root, "populated/e1/g1", "edited");
    write(root, "1/2/3/4/5/6/7/8/9/10/file", "deep");
    pair.settle();
    // A directory into its own former child, and names that change owners.
    fs::rename(at("1/2"), at("two")).unwrap();
    fs::rename(at("1"), at("two/one")).unwrap();
    fs::create_dir(at("1")).unwrap();
    write(root, "1/fresh", "fresh");
    pair.settle();
    fs::remove_dir_all(at("tree again")).unwrap();
    write(root, "tree again/only", "this");
    pair.settle();
    fs::remove_dir_all(at("populated")).unwrap();
    pair.settle();
    pair.stop();
}

#[test]
fn a_name_changes_its_kind_both_ways() {
    let pair = Pair::new();
    let root = &pair.source;
    let path = root.join("x");
    let clear = || {
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).unwrap();
        }
    };
    let kinds = ["file", "directory", "link", "large"];
    let make = |kind: &str| match kind {
        "file" => fs::write(&path, "a file").unwrap(),
        "directory" => {
            write(root, "x/inside/f", "f");
            symlink("f", path.join("inside/l")).unwrap();
        }
        "link" => symlink("to/nowhere", &path).unwrap(),
        _ => fs::write(&path, noise(9, 300_000)).unwrap(),
    };
    for from in kinds {
        for to in kinds {
            clear();
            make(from);
            pair.settle();
            clear();
            make(to);
            pair.settle();
        }
    }
    symlink("elsewhere", root.join("fresh link")).unwrap();
    fs::rename(root.join("fresh link"), &path).unwrap();
    pair.settle();
    pair.stop();
}

#[test]
fn a_checkout_like_burst_is_followed() {
    let pair = Pair::new();
    let root = &pair.source;
    let branch = |number: u64| {
        for n in 0..60u64 {
            let name = format!("src/m{}/f{n}", n % 20);
            match (n + number) % 5 {
                0 => drop(fs::remove_file(root.join(&name))),
                1 => drop(write(root, &name, format!("{number} {n}"))),
                _ => {
                    write(root, "src/tmp", format!("{number} {n}"));
                    fs::create_dir_all(root.join(&name).parent().unwrap()).unwrap();
                    fs::rename(root.join("src/tmp"), root.join(&name)).unwrap();
                }
            }
        }
        let from = root.join(format!("src/m{}", number % 20));
        if from.is_dir() {
            fs::rename(from, root.join(format!("src/away{number}"))).unwrap();
        }
    };
    for number in 0..12 {
        branch(number);
        if number % 3 == 2 {
            pair.settle();
        }
    }
    fs::remove_dir_all(root.join("src")).unwrap();
    branch(99);
    pair.settle();
    pair.stop();
}
