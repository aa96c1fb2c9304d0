//! Files that change again and again.

use super::*;

/// Rewrites a large file and sends each version as soon as it may be sent, each in `cost`; gives when each was there.
fn rewritten(gap: Duration, cost: Duration, until: Duration) -> Vec<Duration> {
    let mut bench = Bench::new();
    bench.source.make(1, b"f", Inode::File(vec![0; 100_000]));
    bench.settle();
    let (start, mut next, mut begun, mut version) = (bench.now, bench.now, None, 0);
    let mut came = Vec::new();
    while bench.now < start + until {
        if bench.now >= next {
            version += 1;
            rewrite(&mut bench.source, vec![version; 100_000], Hint::Settled);
            next = bench.now + gap;
        }
        bench.step(true);
        if begun.is_none() && !bench.jobs.is_empty() {
            begun = Some(bench.now);
        }
        if begun.is_some_and(|begun| bench.now >= begun + cost) {
            bench.upload();
            begun = None;
        }
        let before = bench.server.contents;
        while bench.deliver() {}
        came.extend((bench.server.contents > before).then(|| bench.now.saturating_sub(start)));
    }
    came
}

#[test]
fn a_hot_file_rests_ten_times_what_it_costs() {
    let second = Duration::from_secs(1);
    let ms = Duration::from_millis;
    let many = rewritten(ms(150), ms(300), second * 20);
    // 0.3 s to send it, 3 s of rest.
    assert!((5..=7).contains(&many.len()), "{many:?}");
    // What costs little is sent each time.
    assert!(rewritten(ms(150), ms(20), second * 3).len() >= 15);
    // What is saved now and then is sent at once, whatever it costs.
    let lone = rewritten(second * 2, ms(300), second * 20);
    assert_eq!(lone.len(), 10, "{lone:?}");
}

#[test]
fn a_flush_ends_the_rest_of_a_hot_file() {
    let mut bench = Bench::new();
    bench.source.make(1, b"f", Inode::File(vec![0; 100_000]));
    bench.settle();
    for version in 1..4 {
        rewrite(&mut bench.source, vec![version; 100_000], Hint::Settled);
        if version > 1 {
            // While the version before is on its way.
            bench.now += Duration::from_secs(1);
            bench.upload();
            bench.step(true);
            bench.deliver();
        }
        for _ in 0..100 {
            bench.step(true);
        }
        assert_eq!(bench.jobs.is_empty(), version == 3);
    }
    let start = bench.now;
    bench.engine.flush(1, bench.now);
    while bench.flushed.is_empty() {
        bench.step(true);
        bench.upload();
        bench.deliver();
        assert!(bench.now < start + Duration::from_secs(1));
    }
    bench.assert_equal();
}

#[test]
fn a_new_large_file_that_is_written_again_and_again_is_not_kept_waiting_for_ever() {
    let mut bench = Bench::new();
    bench.settle();
    bench.source.make(1, b"f", Inode::File(vec![0; 100_000]));
    let start = bench.now;
    let mut version = 0u8;
    while bench.jobs.is_empty() {
        bench.step(true);
        if bench.now.as_millis().is_multiple_of(10) {
            version = version.wrapping_add(1);
            rewrite(&mut bench.source, vec![version; 100_000], Hint::Settled);
        }
        assert!(bench.now < start + Duration::from_secs(2), "never sent");
    }
}
