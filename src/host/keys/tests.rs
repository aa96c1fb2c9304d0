mod bounds;

use super::row::{MAX_INLINE, PIECE};
use super::{Action, Bounds, Change, KeyError, KeyStore, Mode, Outcome};
use bytes::Bytes;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

const BOUNDS: Bounds = Bounds {
    max_value: 600_000,
    max_total: 4_000_000,
};

/// A store with a clock that the test turns.
struct Bench {
    runtime: Runtime,
    clock: Arc<AtomicU64>,
    store: KeyStore,
    directory: tempfile::TempDir,
}

fn open(path: &Path, clock: &Arc<AtomicU64>) -> KeyStore {
    let clock = Arc::clone(clock);
    let now = Arc::new(move || clock.load(Ordering::SeqCst));
    KeyStore::open(&path.join("keys.redb"), BOUNDS, now).unwrap()
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000_000));
        Self {
            store: open(directory.path(), &clock),
            runtime,
            clock,
            directory,
        }
    }

    fn reopen(&mut self) {
        self.runtime.block_on(self.store.close());
        self.store = open(self.directory.path(), &self.clock);
    }

    fn apply(&self, space: &str, key: &str, action: Action) -> Result<Outcome, KeyError> {
        self.runtime
            .block_on(self.store.change(change(space, key, action)))
    }

    fn get(&self, space: &str, key: &str) -> Option<(Bytes, u32, u64)> {
        self.runtime.block_on(async {
            let found = self.store.find(space, key.as_bytes()).await.unwrap()?;
            let value = self.store.read(&found, 0, usize::MAX).await.unwrap();
            Some((value?, found.head.flags, found.head.unique))
        })
    }

    fn listed(&self, space: &str, prefix: &str) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), None::<Bytes>);
        loop {
            let list = self.store.list(space, prefix.as_bytes(), after.as_deref());
            let listing = self.runtime.block_on(list).unwrap();
            let keys = listing.keys.iter();
            names.extend(keys.map(|listed| String::from_utf8(listed.key.to_vec()).unwrap()));
            match listing.next {
                Some(next) => after = Some(next),
                None => return names,
            }
        }
    }

    /// Keys and bytes of all shares as the store counts them.
    fn counts(&self) -> (u64, u64) {
        let spaces = self.store.status().spaces;
        let sum = |counts: (u64, u64), space: &(Arc<str>, u64, u64)| {
            (counts.0 + space.1, counts.1 + space.2)
        };
        spaces.iter().fold((0, 0), sum)
    }

    fn wait_until(&self, mut holds: impl FnMut() -> bool) -> bool {
        let wait = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            while !holds() {
                ticks.tick().await;
            }
        };
        let limit = Duration::from_secs(20);
        self.runtime
            .block_on(async { tokio::time::timeout(limit, wait).await })
            .is_ok()
    }
}

fn change(space: &str, key: &str, action: Action) -> Change {
    Change {
        space: Arc::from(space),
        key: Bytes::copy_from_slice(key.as_bytes()),
        action,
    }
}

fn set(value: impl Into<Bytes>) -> Action {
    Action::Store {
        mode: Mode::Set,
        flags: 0,
        expires: 0,
        value: value.into(),
    }
}

/// What a change answers, without unique numbers.
fn word(outcome: &Result<Outcome, KeyError>) -> String {
    match outcome {
        Ok(Outcome::Stored(_)) => "stored".to_owned(),
        Ok(Outcome::Touched(found)) => format!("touched {}", found.length()),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

/// One value of the model.
#[derive(Clone, Debug)]
struct Value {
    bytes: Vec<u8>,
    flags: u32,
    expires: u64,
    unique: u64,
}

/// What a store should do, in the simplest way.
#[derive(Default)]
struct Model {
    values: BTreeMap<(String, String), Value>,
    flush_at: BTreeMap<String, u64>,
}

impl Model {
    fn count(&mut self, at: &(String, String), up: bool, by: u64, unique: u64) -> String {
        let Some(old) = self.values.get_mut(at) else {
            return "NotFound".to_owned();
        };
        let text = String::from_utf8_lossy(&old.bytes).into_owned();
        let Ok(number) = text.trim_matches(' ').parse::<u64>() else {
            return "NotNumeric".to_owned();
        };
        let number = if up {
            number.wrapping_add(by)
        } else {
            number.saturating_sub(by)
        };
        let mut digits = number.to_string();
        while digits.len() < text.len() {
            digits.push(' ');
        }
        (old.bytes, old.unique) = (digits.into_bytes(), unique);
        format!("Counted({number})")
    }

    fn settle(&mut self, now: u64) {
        let due = self.flush_at.iter().filter(|(_, at)| **at <= now);
        let due: Vec<String> = due.map(|(space, _)| space.clone()).collect();
        for space in due {
            self.flush_at.remove(&space);
            self.values.retain(|(own, _), _| *own != space);
        }
        self.values
            .retain(|_, value| value.expires == 0 || value.expires > now);
    }

    fn apply(&mut self, space: &str, key: &str, action: &Action, now: u64, unique: u64) -> String {
        self.settle(now);
        let at = (space.to_owned(), key.to_owned());
        let old = self.values.get(&at).cloned();
        let say = |text: &str| text.to_owned();
        match action {
            Action::Store {
                mode,
                flags,
                expires,
                value,
            } => {
                let mut new = Value {
                    bytes: value.to_vec(),
                    flags: *flags,
                    expires: *expires,
                    unique,
                };
                match (mode, old) {
                    (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => {}
                    (Mode::Append, Some(old)) => {
                        new.bytes = [old.bytes, new.bytes].concat();
                        (new.flags, new.expires) = (old.flags, old.expires);
                    }
                    (Mode::Prepend, Some(old)) => {
                        new.bytes = [new.bytes, old.bytes].concat();
                        (new.flags, new.expires) = (old.flags, old.expires);
                    }
                    (Mode::Cas(wanted), Some(old)) if *wanted == old.unique => {}
                    (Mode::Cas(_), Some(_)) => return say("Exists"),
                    (Mode::Cas(_), None) => return say("NotFound"),
                    _ => return say("NotStored"),
                }
                if new.bytes.len() > BOUNDS.max_value as usize {
                    return say("TooLarge");
                }
                self.values.insert(at, new);
                say("stored")
            }
            Action::Delete => match self.values.remove(&at) {
                Some(_) => say("Deleted"),
                None => say("NotFound"),
            },
            Action::Touch { expires } => match self.values.get_mut(&at) {
                Some(value) => {
                    value.expires = *expires;
                    format!("touched {}", value.bytes.len())
                }
                None => say("NotFound"),
            },
            Action::Count { up, by } => self.count(&at, *up, *by, unique),
            Action::Flush { at } => {
                if *at <= now {
                    self.flush_at.remove(space);
                    self.values.retain(|(own, _), _| own != space);
                } else {
                    self.flush_at.insert(space.to_owned(), *at);
                }
                say("Flushed")
            }
        }
    }
}

/// A step of the property test: a change of a key of a share, with the time that passes before it.
#[derive(Clone, Debug)]
struct Step {
    space: &'static str,
    key: &'static str,
    action: Action,
    passes: u64,
    reopens: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![
        6 => 0..40usize,
        2 => Just(MAX_INLINE),
        2 => Just(MAX_INLINE + 1),
        1 => Just(PIECE),
        1 => Just(PIECE + 1),
        1 => Just(2 * PIECE + 77),
    ];
    let value = prop_oneof![
        3 => length.prop_map(|length| Bytes::from((0..=250u8).cycle().take(length).collect::<Vec<u8>>())),
        1 => (0..300u64).prop_map(|n| Bytes::from(n.to_string())),
    ];
    let mode = prop_oneof![
        4 => Just(Mode::Set),
        1 => Just(Mode::Add),
        1 => Just(Mode::Replace),
        2 => Just(Mode::Append),
        1 => Just(Mode::Prepend),
        // Replaced by the real number of the value half of the time.
        2 => (0..2u64).prop_map(Mode::Cas),
    ];
    let expires = prop_oneof![4 => Just(0), 1 => Just(1), 2 => 1_000_000..1_030_000u64];
    let action = prop_oneof![
        6 => (mode, any::<u32>(), expires.clone(), value)
            .prop_map(|(mode, flags, expires, value)| Action::Store { mode, flags, expires, value }),
        2 => Just(Action::Delete),
        1 => expires.prop_map(|expires| Action::Touch { expires }),
        2 => (any::<bool>(), prop_oneof![0..20u64, Just(u64::MAX)])
            .prop_map(|(up, by)| Action::Count { up, by }),
        1 => prop_oneof![Just(0), 1_000_000..1_030_000u64].prop_map(|at| Action::Flush { at }),
    ];
    let space = prop_oneof![Just(""), Just("photos")];
    let key = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("\u{ff}")];
    let step = (
        space,
        key,
        action,
        0..2000u64,
        proptest::bool::weighted(0.05),
    );
    let step = step.prop_map(|(space, key, action, passes, reopens)| Step {
        space,
        key,
        action,
        passes,
        reopens,
    });
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn a_store_does_what_its_model_does(steps in steps()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for mut step in steps {
            bench.clock.fetch_add(step.passes, Ordering::SeqCst);
            if step.reopens {
                bench.reopen();
            }
            let now = bench.clock.load(Ordering::SeqCst);
            if let Action::Store { mode: Mode::Cas(unique @ 1..), .. } = &mut step.action {
                *unique = bench.get(step.space, step.key).map_or(1, |(_, _, unique)| unique);
            }
            let outcome = bench.apply(step.space, step.key, step.action.clone());
            let unique = bench.get(step.space, step.key).map_or(0, |(_, _, unique)| unique);
            let expected = model.apply(step.space, step.key, &step.action, now, unique);
            prop_assert_eq!(word(&outcome), expected);
            model.settle(now);
            for space in ["", "photos"] {
                for key in ["a", "b", "ab", "\u{ff}"] {
                    let expected = model.values.get(&(space.to_owned(), key.to_owned()));
                    let expected = expected.map(|v| (Bytes::from(v.bytes.clone()), v.flags, v.unique));
                    prop_assert_eq!(bench.get(space, key), expected);
                }
                let names = model.values.keys().filter(|(own, key)| own == space && key.starts_with('a'));
                let names: Vec<String> = names.map(|(_, key)| key.clone()).collect();
                prop_assert_eq!(bench.listed(space, "a"), names);
            }
        }
        bench.runtime.block_on(bench.store.close());
    }
}

#[test]
fn what_has_ended_or_was_flushed_is_swept_without_being_asked_for() {
    let bench = Bench::new();
    for n in 0..600 {
        let mut action = set(vec![b'x'; 10]);
        if let Action::Store { expires, .. } = &mut action {
            *expires = 1_000_100 + n % 2 * 1_000_000;
        }
        let submitted = bench
            .store
            .submit(change("", &format!("key {n:03}"), action));
        let _not_awaited = bench.runtime.block_on(submitted).unwrap();
    }
    bench.apply("", "stays", set("1")).unwrap();
    bench
        .apply("other", "stays", set("large".repeat(10_000)))
        .unwrap();
    assert_eq!(bench.counts().0, 602);
    bench.clock.fetch_add(200, Ordering::SeqCst);
    assert_eq!(bench.listed("", "key").len(), 300, "hidden at once");
    assert!(
        bench.wait_until(|| bench.counts().0 == 302),
        "{:?}",
        bench.counts()
    );
    bench.apply("", "", Action::Flush { at: 0 }).unwrap();
    assert_eq!(bench.listed("", ""), Vec::<String>::new());
    bench.apply("", "new", set("22")).unwrap();
    let left = (2, "new22".len() as u64 + 5 + 50_000);
    assert!(
        bench.wait_until(|| bench.counts() == left),
        "{:?}",
        bench.counts()
    );
    assert_eq!(bench.listed("", ""), ["new"]);
    bench
        .apply("other", "", Action::Flush { at: 2_000_000 })
        .unwrap();
    assert_eq!(bench.listed("other", ""), ["stays"]);
    bench.clock.store(2_000_000, Ordering::SeqCst);
    assert_eq!(bench.listed("other", ""), Vec::<String>::new());
    bench.apply("other", "later", set("1")).unwrap();
    assert!(
        bench.wait_until(|| bench.counts() == (2, 5 + 6)),
        "{:?}",
        bench.counts()
    );
}

#[test]
fn a_store_is_as_large_as_it_may_be_and_no_larger() {
    let bench = Bench::new();
    for n in 0..6 {
        bench
            .apply("", &format!("{n}"), set(vec![0; 600_000]))
            .unwrap();
    }
    let full = bench.apply("", "6", set(vec![0; 600_000]));
    assert!(matches!(full, Err(KeyError::Full(_))), "{full:?}");
    let large = bench.apply("", "0", set(vec![0; 600_001]));
    assert!(matches!(large, Ok(Outcome::TooLarge)), "{large:?}");
    bench.apply("", "0", set(vec![1; 600_000])).unwrap();
    bench.apply("", "1", Action::Delete).unwrap();
    bench.apply("", "6", set(vec![0; 600_000])).unwrap();
}

#[test]
fn a_file_that_is_no_store_is_left_alone_and_said() {
    let mut bench = Bench::new();
    bench.apply("", "a", set("1")).unwrap();
    bench.runtime.block_on(bench.store.close());
    let path = bench.directory.path().join("keys.redb");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"something else").unwrap();
    bench.store = open(bench.directory.path(), &bench.clock);
    let refused = bench.apply("", "a", set("2"));
    assert!(
        matches!(&refused, Err(KeyError::Unavailable(_))),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"something else");
    assert!(bench.store.status().unavailable.is_some());
    // A copy that is put in its place is used without a restart.
    std::fs::write(&path, whole).unwrap();
    assert!(bench.wait_until(|| bench.store.status().unavailable.is_none()));
    assert_eq!(bench.get("", "a").unwrap().0, "1");
}

#[test]
fn changes_of_many_at_once_are_made_in_order_and_seen_when_they_are_answered() {
    let bench = Bench::new();
    bench.apply("", "n", set("0")).unwrap();
    let store = &bench.store;
    bench.runtime.block_on(async {
        let mut pending = Vec::new();
        for _ in 0..500 {
            let up = Action::Count { up: true, by: 1 };
            pending.push(store.submit(change("", "n", up)).await.unwrap());
        }
        for (n, one) in pending.into_iter().enumerate() {
            let Ok(Outcome::Counted(number)) = one.done().await else {
                panic!("not counted");
            };
            assert_eq!(number, n as u64 + 1);
            let found = store.find("", b"n").await.unwrap().unwrap();
            let text = str::from_utf8(found.inline().unwrap()).unwrap();
            assert!(text.parse::<u64>().unwrap() >= number);
        }
    });
}
