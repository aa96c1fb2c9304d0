//! `syncd plan`: what would be done, and why, and nothing is.

use crate::support::files::{noise, write};
use crate::support::pair::Pair;
use crate::support::sandbox::Finished;
use crate::support::tree;
use std::fs;

fn plan(pair: &Pair, more: &[&str]) -> Finished {
    let arguments = ["plan", "-d", "source", "--server", &pair.address];
    pair.sandbox.run(&[&arguments, more].concat())
}

#[test]
fn a_plan_names_each_change_and_does_none() {
    let mut pair = Pair::new();
    for name in [
        "gone/a", "gone/b", "same", "other", "old name", "mode", "large",
    ] {
        write(&pair.source, name, name);
    }
    write(&pair.source, "large", noise(1, 200_000));
    pair.settle();
    assert_eq!(plan(&pair, &[]).code, Some(2), "a client runs");
    pair.client.stop();
    let run = plan(&pair, &[]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    assert_eq!(
        run.out,
        format!("nothing is to be done at {}\n", pair.address)
    );
    fs::remove_dir_all(pair.source.join("gone")).unwrap();
    write(&pair.source, "other", "changed");
    write(&pair.source, "new/deep", "new");
    write(&pair.source, "large", noise(2, 300_000));
    write(&pair.source, "new/large", noise(3, 100_000));
    fs::rename(pair.source.join("old name"), pair.source.join("new name")).unwrap();
    let before = tree::snapshot(&pair.mirror);
    let run = plan(&pair, &[]);
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    for line in [
        "delete     gone (not in the source, with 2 entries below it)",
        "change     other (file of 7 B with another content)",
        "add        new (new directory)",
        "add        new/deep (new file of 3 B)",
        "change     large (file of 293.0 KiB with another content)",
        "add        new/large (new file of 97.7 KiB)",
        "move       old name -> new name (the source has it there)",
    ] {
        assert!(
            run.out.lines().any(|other| other == line),
            "{line}\n{}",
            run.out
        );
    }
    assert!(!run.out.contains("same"), "{}", run.out);
    assert_eq!(tree::snapshot(&pair.mirror), before);
    // It says the same again, and the client then does it.
    let again = plan(&pair, &["--json"]);
    let whole: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    let lines = run.out.lines().count() as u64 - 1;
    assert_eq!(whole["servers"][0]["plan"]["total"], lines, "{whole}");
    pair.restart_client();
    pair.settle();
    pair.stop();
}

#[test]
fn a_plan_says_what_would_be_held() {
    let mut pair = Pair::new();
    for n in 0..5 {
        write(&pair.source, &format!("f{n}"), "x");
    }
    pair.settle();
    pair.client.stop();
    for n in 0..5 {
        fs::remove_file(pair.source.join(format!("f{n}"))).unwrap();
    }
    let run = plan(&pair, &[]);
    assert_eq!(run.code, Some(3), "{}{}", run.out, run.err);
    assert!(run.out.contains("5 deletions held"), "{}", run.out);
    assert!(run.err.contains("the source is empty"), "{}", run.err);
    assert!(pair.mirror.join("f4").exists());
    pair.restart_client();
    pair.stop();
}
