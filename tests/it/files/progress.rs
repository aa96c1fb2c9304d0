//! What a person sees who waits.

use super::Used;
use crate::support::files::noise;
use crate::support::proxy::Proxy;
use crate::support::wait;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A command under `script`, which gives it a terminal: what it shows, and whether it ended well.
struct Shown {
    text: Arc<Mutex<String>>,
    program: std::process::Child,
}

fn on_a_terminal(inner: &Command) -> Shown {
    let mut line = vec![inner.get_program().to_str().unwrap()];
    line.extend(inner.get_args().map(|argument| argument.to_str().unwrap()));
    let mut script = Command::new("script");
    let changed = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
        Some((name.to_owned(), value?.to_owned()))
    };
    script
        .args(["-qec", &line.join(" "), "/dev/null"])
        .env_clear()
        .envs(inner.get_envs().filter_map(changed))
        .env("TERM", "xterm")
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut program = script.spawn().unwrap();
    let mut out = program.stdout.take().unwrap();
    let text = Arc::<Mutex<String>>::default();
    let collected = Arc::clone(&text);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            let part = String::from_utf8_lossy(&buffer[..count]);
            collected.lock().unwrap().push_str(&part);
        }
    });
    Shown { text, program }
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` here, which makes terminals");
        return;
    }
    let used = Used::new();
    used.share("f", noise(1, 6_000_000));
    let line = Proxy::to(&used.address);
    line.allow_back(2_000_000);
    let mut shown = on_a_terminal(&used.command_over(&line.address, &["get", "f"]));
    let says = |shown: &Shown, wanted: &[&str]| {
        let text = shown.text.lock().unwrap();
        wanted.iter().all(|wanted| text.contains(wanted))
    };
    let wanted = ["0 of 1 file", "/5.72 MiB", "MiB/s", " left "];
    let seen = wait::until(wait::PATIENCE, || says(&shown, &wanted));
    assert!(seen, "{:?}", shown.text.lock().unwrap());
    line.mend();
    assert!(shown.program.wait().unwrap().success());
    assert!(wait::until(wait::PATIENCE, || says(&shown, &["  f\r\n"])));
    assert_eq!(used.run(&["get", "--force", "f"]).err, "");
}
