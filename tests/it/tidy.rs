//! The rules that a machine can check: layers, words, sizes, documents, committed files. A finding is `file:line: rule`.

use crate::{bless_or_compare, package};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, and what of the crate it may name besides itself. A longer path allows only what lies below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("delta", &["model"]),
    ("index", &["model"]),
    ("debounce", &["model", "index"]),
    ("config", &["model"]),
    ("wire", &["model", "delta"]),
    ("engine", &["model", "delta", "index", "debounce", "wire"]),
    (
        "host",
        &[
            "model",
            "delta",
            "index",
            "debounce",
            "wire",
            "engine::ports",
            "engine::source",
        ],
    ),
    (
        "daemon",
        &[
            "model", "delta", "index", "debounce", "wire", "engine", "host",
        ],
    ),
    (
        "cli",
        &[
            "model", "delta", "index", "debounce", "config", "wire", "engine", "host", "daemon",
        ],
    ),
];

/// Layers that compute: time, randomness, files, sockets and threads are arguments there.
const PURE: &[&str] = &[
    "model", "delta", "index", "debounce", "config", "wire", "engine",
];
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::net",
    "tokio",
    "Instant::now",
    "SystemTime",
    "thread::",
    "rand::",
];

/// Longest file without its tests, in lines.
const MAX_LINES: usize = 400;
/// Files that were longer when the rule came. A number here only shrinks.
const LONGER: &[(&str, usize)] = &[];

/// Words that may stand only in these files.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("stdout()", &["src/cli/render.rs"]),
    ("stderr()", &["src/cli/report.rs", "src/cli/log.rs"]),
    ("rustls_pemfile", &["src/host/pem.rs"]),
];

fn files_below(directory: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![package().join(directory)];
    while let Some(directory) = queue.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                queue.push(path);
            } else if path.extension().is_some_and(|own| own == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> &str {
    path.strip_prefix(package()).unwrap().to_str().unwrap()
}

/// A source file without its comments and without its tests.
struct Code {
    name: String,
    lines: Vec<String>,
    is_test: bool,
}

impl Code {
    fn all() -> Vec<Self> {
        files_below("src", "rs")
            .iter()
            .map(|path| Self::read(path))
            .collect()
    }

    fn read(path: &Path) -> Self {
        let name = relative(path).to_owned();
        let text = fs::read_to_string(path).unwrap();
        let own = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = own.lines().map(without_comment).collect();
        let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
        Self {
            name,
            lines,
            is_test,
        }
    }

    /// The components of the module's path: `src/cli/report.rs` is `["cli", "report"]`.
    fn module(&self) -> Vec<&str> {
        let inner = self.name.trim_start_matches("src/").trim_end_matches(".rs");
        inner.trim_end_matches("/mod").split('/').collect()
    }

    fn layer(&self) -> Option<&str> {
        let first = self.module()[0];
        LAYERS
            .iter()
            .map(|(layer, _)| *layer)
            .find(|layer| *layer == first)
    }

    fn find<'a>(
        &'a self,
        rule: impl Fn(&str) -> Option<String> + 'a,
    ) -> impl Iterator<Item = String> + 'a {
        self.lines
            .iter()
            .enumerate()
            .filter_map(move |(index, line)| {
                let finding = rule(line)?;
                Some(format!("{}:{}: {finding}", self.name, index + 1))
            })
    }
}

fn without_comment(line: &str) -> String {
    let line = line.trim_start();
    let code = if line.starts_with("//") { "" } else { line };
    // A `//` inside a string belongs to the string when a quote is open before it.
    match code.split_once(" // ") {
        Some((before, _)) if before.matches('"').count().is_multiple_of(2) => before.to_owned(),
        _ => code.to_owned(),
    }
}

fn assert_none(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

/// What follows each `crate::` of a line, and each chain of `super::` that climbs out of its layer.
fn named_paths(line: &str, depth: usize) -> Vec<String> {
    let mut paths: Vec<String> = line.split("crate::").skip(1).map(str::to_owned).collect();
    let climb = "super::".repeat(depth);
    if let Some((before, rest)) = line.split_once(&climb)
        && !before.ends_with("super::")
        && !rest.is_empty()
    {
        paths.push(rest.trim_start_matches("super::").to_owned());
    }
    paths
}

#[test]
fn a_layer_names_only_what_is_below_it() {
    let mut findings = Vec::new();
    for file in Code::all() {
        let Some(layer) = file.layer() else { continue };
        let allowed = LAYERS.iter().find(|(name, _)| *name == layer).unwrap().1;
        let depth = file.module().len();
        let found = file.find(|line| {
            named_paths(line, depth).into_iter().find_map(|path| {
                let fits = |allowed: &&str| {
                    path.strip_prefix(*allowed).is_some_and(|rest| {
                        !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                };
                if path.starts_with('{') || path.starts_with('*') {
                    return Some("name one layer in each `use`".to_owned());
                }
                let good = fits(&layer) || allowed.iter().any(fits);
                (!good).then(|| format!("`{layer}` must not name `{}`", path.trim_end_matches(';')))
            })
        });
        findings.extend(found);
    }
    assert_none(&findings);
}

#[test]
fn pure_layers_have_no_clock_file_socket_or_thread() {
    let mut findings = Vec::new();
    for file in Code::all() {
        if file.is_test || !file.layer().is_some_and(|layer| PURE.contains(&layer)) {
            continue;
        }
        findings.extend(file.find(|line| {
            let word = IMPURE_WORDS.iter().find(|word| line.contains(**word))?;
            Some(format!("`{word}` in a pure layer"))
        }));
    }
    assert_none(&findings);
}

#[test]
fn words_stay_where_they_belong() {
    let unfinished = concat!("TO", "DO");
    let mut findings = Vec::new();
    for file in Code::all() {
        findings.extend(file.find(|line| {
            let placed = ONLY_IN.iter().find(|(word, places)| {
                !file.is_test && line.contains(word) && !places.contains(&&*file.name)
            });
            placed.map(|(word, places)| format!("`{word}` belongs to {places:?}"))
        }));
        findings.extend(file.find(|line| {
            (line.contains("::*;") && line.starts_with("use crate"))
                .then(|| "no glob of the crate".to_owned())
        }));
        if file.name == "src/lib.rs" || file.name.ends_with("/mod.rs") {
            findings.extend(file.find(|line| {
                let outward = ["pub use crate::", "pub use super::"]
                    .iter()
                    .any(|word| line.starts_with(word));
                (outward || file.name == "src/lib.rs" && line.starts_with("pub use"))
                    .then(|| "re-exports only of a module's own children".to_owned())
            }));
        }
    }
    for directory in ["src", "tests/it", "docs"] {
        let paths = ["rs", "md"]
            .iter()
            .flat_map(|ending| files_below(directory, ending));
        for path in paths {
            for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                if line.contains(unfinished) {
                    findings.push(format!("{}:{}: unfinished", relative(&path), index + 1));
                }
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn no_file_grows_without_end() {
    let mut findings = Vec::new();
    for file in Code::all().iter().filter(|file| !file.is_test) {
        let limit = LONGER
            .iter()
            .find(|(name, _)| *name == file.name)
            .map_or(MAX_LINES, |(_, lines)| *lines);
        if file.lines.len() > limit {
            findings.push(format!(
                "{}:{}: longer than {limit} lines without tests",
                file.name,
                file.lines.len()
            ));
        }
    }
    for (name, lines) in LONGER {
        let path = package().join(name);
        if !path.exists() || Code::read(&path).lines.len() <= MAX_LINES {
            findings.push(format!(
                "{name}:{lines}: is short enough now, take it off the list"
            ));
        }
    }
    assert_none(&findings);
    let documents = [("README.md", 150), ("ARCHITECTURE.md", 250)];
    for (name, limit) in documents {
        let lines = fs::read_to_string(package().join(name))
            .unwrap()
            .lines()
            .count();
        assert!(
            lines <= limit,
            "{name} has {lines} lines, at most {limit} are read"
        );
    }
}

#[test]
fn each_test_file_is_declared_and_holds_a_test() {
    let holds_test = |text: &str| {
        ["#[test]", "#[tokio::test", "proptest!"]
            .iter()
            .any(|mark| text.contains(mark))
    };
    let mut findings = Vec::new();
    let declared = fs::read_to_string(package().join("tests/it/main.rs")).unwrap();
    for entry in fs::read_dir(package().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name != "main" && !declared.contains(&format!("\nmod {name};\n")) {
            findings.push(format!("{}:1: not declared in main.rs", relative(&path)));
        }
        if path.is_file() && name != "main" && !holds_test(&fs::read_to_string(&path).unwrap()) {
            findings.push(format!("{}:1: no test", relative(&path)));
        }
    }
    for path in files_below("src", "rs") {
        let text = fs::read_to_string(&path).unwrap();
        if path.ends_with("tests.rs") && !holds_test(&text) {
            findings.push(format!("{}:1: no test", relative(&path)));
        }
    }
    let binaries = fs::read_dir(package().join("tests")).unwrap();
    for path in binaries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
    {
        findings.push(format!(
            "{}:1: tests/it is the only integration binary",
            relative(&path)
        ));
    }
    assert_none(&findings);
}

#[test]
fn tests_wait_for_events_and_take_free_ports() {
    let sleep = concat!("sle", "ep(");
    let banned = [
        (sleep, "wait with support/wait.rs"),
        (concat!("#[ign", "ore"), "a test that is not run is no test"),
        (concat!("#[should_", "panic"), "assert the failure itself"),
    ];
    let mut findings = Vec::new();
    let unit_tests = files_below("src", "rs")
        .into_iter()
        .filter(|path| path.ends_with("tests.rs"));
    for path in files_below("tests/it", "rs").into_iter().chain(unit_tests) {
        let name = relative(&path).to_owned();
        for (index, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            for (word, rule) in banned {
                if line.contains(word) && !(word == sleep && name == "tests/it/support/wait.rs") {
                    findings.push(format!("{name}:{}: {rule}", index + 1));
                }
            }
            let fixed = line
                .split("127.0.0.1:")
                .skip(1)
                .any(|rest| rest.starts_with(|c: char| ('1'..='9').contains(&c)));
            if fixed && name.starts_with("tests/it") {
                findings.push(format!(
                    "{name}:{}: port 0, and the port of the ready line",
                    index + 1
                ));
            }
        }
    }
    assert_none(&findings);
}

/// What a document names in backticks, as the target of a link, or in an indented block, and what looks like a path of the
/// repository.
fn named_files(text: &str) -> BTreeSet<String> {
    const TOP: &[&str] = &[
        "src/", "tests/", "docs/", "config/", "certs/", ".ci/", ".github/", ".cargo/",
    ];
    let by_backtick = text.split('`').skip(1).step_by(2);
    let by_link = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    by_backtick
        .chain(by_link)
        .flat_map(str::split_whitespace)
        .filter(|word| TOP.iter().any(|top| word.starts_with(top)))
        .filter(|word| !word.contains(['*', '<', '{', '$']))
        .map(|word| {
            word.split(['#', ':'])
                .next()
                .unwrap()
                .trim_end_matches([',', '.', ';'])
                .to_owned()
        })
        .collect()
}

#[test]
fn documents_name_what_exists() {
    let mut documents = files_below("docs", "md");
    let top = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "certs/README.md",
    ];
    documents.extend(top.iter().map(|name| package().join(name)));
    let mut findings = Vec::new();
    for path in documents {
        for named in named_files(&fs::read_to_string(&path).unwrap()) {
            if !package().join(&named).exists() {
                findings.push(format!("{}:1: `{named}` does not exist", relative(&path)));
            }
        }
    }
    assert_none(&findings);
    let map = fs::read_to_string(package().join("ARCHITECTURE.md")).unwrap();
    for (layer, _) in LAYERS {
        assert!(
            map.contains(&format!("`src/{layer}/`")),
            "ARCHITECTURE.md does not name src/{layer}/"
        );
    }
}

#[test]
fn the_schemas_are_those_of_the_code() {
    let directory = package().join("docs/protocol");
    let mut expected = BTreeSet::new();
    for (name, schema) in syncd::wire::schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        bless_or_compare(&directory.join(name), &text);
        expected.insert(name.to_owned());
    }
    let committed: BTreeSet<String> = files_below("docs/protocol", "json")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(committed, expected);
}

#[test]
fn the_rules_find_what_they_forbid() {
    let paths = named_paths("use crate::host::root; use super::super::cli;", 2);
    assert_eq!(paths, ["host::root; use super::super::cli;", "cli;"]);
    assert!(named_paths("use super::report::Report;", 2).is_empty());
    assert_eq!(without_comment("let a = 1; // std::fs"), "let a = 1;");
    assert_eq!(without_comment("/// std::fs"), "");
    let named = named_files("see `src/none.rs:3` and [x](docs/x.md#y), not `a/b` or `tests/*.rs`");
    assert_eq!(
        named.into_iter().collect::<Vec<_>>(),
        ["docs/x.md", "src/none.rs"]
    );
}
