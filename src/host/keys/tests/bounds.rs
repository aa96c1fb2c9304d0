//! Large values that are answered and replaced at the same time, and room that is taken by what can be seen no more.

use super::*;

#[test]
fn a_large_value_that_was_touched_is_read_whole_whatever_follows() {
    let bench = Bench::new();
    let (old, new) = (vec![1; 500_000], vec![2; 500_000]);
    for what_follows in [
        set(new.clone()),
        Action::Delete,
        Action::Flush { at: 0 },
        Action::Touch { expires: 1 },
    ] {
        let all = bench.runtime.block_on(async {
            let store = &bench.store;
            let mut pending = Vec::new();
            // The first one keeps the writer busy, so that the others come together.
            for action in [
                set(vec![0; 500_000]),
                set(old.clone()),
                Action::Touch { expires: 0 },
                what_follows,
                set(new.clone()),
            ] {
                pending.push(store.submit(change("", "n", action)).await.unwrap());
            }
            let mut outcomes = Vec::new();
            for one in pending {
                outcomes.push(one.done().await.unwrap());
            }
            let Outcome::Touched(found) = &outcomes[2] else {
                panic!("{outcomes:?}");
            };
            let (mut all, mut part) = (Vec::new(), Bytes::new());
            while all.is_empty() || !part.is_empty() {
                part = store
                    .read(found, all.len(), 100_000)
                    .await
                    .unwrap()
                    .unwrap();
                all.extend_from_slice(&part);
            }
            all
        });
        assert!(all == old, "{} bytes", all.len());
        assert_eq!(bench.get("", "n").unwrap().0, new);
    }
}

#[test]
fn what_can_be_seen_no_more_keeps_nothing_from_being_stored() {
    let bench = Bench::new();
    let fill = |expires| {
        for n in 0..6 {
            let value = vec![0; 600_000].into();
            let store = Action::Store {
                mode: Mode::Set,
                flags: 0,
                expires,
                value,
            };
            bench.apply("", &format!("{n}"), store).unwrap();
        }
        let more = bench.apply("", "more", set(vec![0; 600_000]));
        assert!(matches!(more, Err(KeyError::Full(_))), "{more:?}");
    };
    fill(0);
    bench.apply("", "", Action::Flush { at: 0 }).unwrap();
    bench.apply("", "new", set(vec![0; 600_000])).unwrap();
    assert_eq!(bench.counts(), (1, 600_003), "the rest is swept");
    bench.apply("", "new", Action::Delete).unwrap();
    let now = bench.clock.load(Ordering::SeqCst);
    fill(now + 1);
    bench.clock.store(now + 1, Ordering::SeqCst);
    bench.apply("", "new", set(vec![0; 600_000])).unwrap();
    assert_eq!(bench.counts(), (1, 600_003), "the rest is swept");
}
