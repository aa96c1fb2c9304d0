//! Directories, many files, many at a time.

use super::Used;
use crate::support::files::{chmod, noise, set_mtime};
use crate::support::tree;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_tree_goes_there_and_back_as_it_was() {
    let used = Used::new();
    used.write("src/a/deep/er/f", noise(1, 100_000));
    used.write("src/a/.hidden", "h");
    fs::create_dir(used.work.join("src/empty")).unwrap();
    symlink("a/deep", used.work.join("src/link")).unwrap();
    for number in 0..60 {
        used.write(&format!("src/many/{number}"), noise(number, 2000));
    }
    chmod(&used.work.join("src/a/deep"), 0o700);
    set_mtime(&used.work.join("src/a/deep"), (1_500_000_000, 7));
    set_mtime(&used.work.join("src/empty"), (1_500_000_001, 8));
    assert!(
        used.bad(3, &["upload", "src"])
            .contains("`--recursive` sends it")
    );
    let sums = used.good(&["upload", "--recursive", "--jobs", "4", "src"]);
    assert_eq!(sums.lines().count(), 62);
    used.check(&sums);
    tree::assert_converges(&used.work.join("src"), &used.share.join("src"));
    assert!(
        used.bad(3, &["get", "src"])
            .contains("`--recursive` fetches it")
    );
    let sums = used.good(&["get", "--recursive", "--jobs", "3", "src", "back"]);
    used.check(&sums);
    tree::assert_converges(&used.work.join("src"), &used.work.join("back"));
    // Once more loses nothing, so nothing is refused and nothing goes.
    let told = used.good(&["get", "-r", "--json", "src/", "back/.."]);
    drop(told);
    let told = used.good(&["upload", "-r", "--json", "src"]);
    assert!(!told.contains("\"failed\""), "{told}");
    assert!(
        told.lines()
            .filter(|line| line.contains("\"done\""))
            .all(|line| line.contains("\"moved\":0")),
        "{told}"
    );
}

#[test]
fn what_is_there_with_another_content_stays_unless_it_is_said() {
    let used = Used::new();
    used.write("f", "new one");
    used.share("f", "old one");
    used.share("g", "old");
    assert!(
        used.bad(3, &["upload", "f"])
            .contains("`--force` replaces it")
    );
    assert_eq!(fs::read(used.share.join("f")).unwrap(), b"old one");
    assert!(used.bad(3, &["get", "f"]).contains("`--force` replaces it"));
    assert_eq!(fs::read(used.work.join("f")).unwrap(), b"new one");
    // One bad file stops no other.
    used.write("d/.keep", "");
    used.write("d/f", "mine");
    assert!(used.bad(3, &["get", "f", "g", "d"]).contains("`d/f`"));
    assert_eq!(fs::read(used.work.join("d/g")).unwrap(), b"old");
    assert_eq!(fs::read(used.work.join("d/f")).unwrap(), b"mine");
    used.good(&["upload", "--force", "f"]);
    assert_eq!(fs::read(used.share.join("f")).unwrap(), b"new one");
    used.good(&["get", "--force", "g", "d/f"]);
    assert_eq!(fs::read(used.work.join("d/f")).unwrap(), b"old");
    // A directory is never replaced by a file, nor the reverse.
    used.share("dir/x", "");
    used.write("dir", "no directory");
    assert!(
        used.bad(3, &["upload", "--force", "f", "dir/x/y"])
            .contains("`dir/x` is no directory")
    );
    assert!(
        used.bad(3, &["upload", "f", "none/y"])
            .contains("there is no `none`")
    );
    used.bad(3, &["get", "-r", "--force", "dir"]);
    assert_eq!(used.names(), ["d", "dir", "f"], "nothing is left beside");
}

#[test]
fn two_change_one_share_at_once_and_both_are_right() {
    let used = Used::new();
    for number in 0..30 {
        used.write(&format!("one/{number}"), noise(number, 30_000));
        used.write(&format!("two/{number}"), noise(100 + number, 30_000));
    }
    let start = |name| {
        let mut command = used.command(&["upload", "-r", "--jobs", "3", name]);
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [start("one"), start("two")];
    for child in both {
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", used.server.err());
        used.check(&String::from_utf8(done.stdout).unwrap());
    }
    for name in ["one", "two"] {
        tree::assert_converges(&used.work.join(name), &used.share.join(name));
    }
}

#[test]
fn named_shares_are_made_by_the_first_upload_only() {
    let used = Used::new();
    used.write("f", "1");
    assert_eq!(used.good(&["list", "--share", "photos"]), "");
    used.bad(3, &["get", "--share", "photos", "f", "x"]);
    assert!(!used.share.join("photos").exists());
    used.good(&["upload", "--share", "photos", "f"]);
    assert_eq!(used.good(&["list", "--share", "photos"]), "f\n");
    assert_eq!(fs::read(used.share.join("photos/f")).unwrap(), b"1");
    // A directory is one share or holds several.
    assert!(used.bad(5, &["upload", "f"]).contains("holds named shares"));
}
