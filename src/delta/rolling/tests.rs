use super::{Filter, PRIME, Rolling, fold, reduce};
use proptest::prelude::*;

/// The definition: digits to the base, modulo the prime.
fn defined(rolling: &Rolling, bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(0u128, |sum, byte| {
        (sum * u128::from(rolling.base) + u128::from(*byte)) % u128::from(PRIME)
    });
    u32::try_from(sum).unwrap()
}

#[test]
fn remainders_are_right_at_the_edges() {
    for number in [
        0,
        1,
        PRIME - 1,
        PRIME,
        PRIME + 1,
        2 * PRIME,
        PRIME * PRIME,
        u64::MAX,
    ] {
        assert_eq!(reduce(number), number % PRIME, "{number}");
        assert_eq!(fold(number) % PRIME, number % PRIME, "{number}");
    }
}

#[test]
fn the_sum_is_frozen() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    assert_eq!(Rolling::new(0).sum(&bytes), 1_650_890_916);
    assert_eq!(Rolling::new(u64::MAX).sum(&bytes), 12272925);
}

proptest! {
    #[test]
    fn sums_are_as_defined_and_extend(
        seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300,
    ) {
        let rolling = Rolling::new(seed);
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(rolling.sum(&bytes), defined(&rolling, &bytes));
        prop_assert_eq!(rolling.extend(rolling.sum(head), tail), rolling.sum(&bytes));
    }

    #[test]
    fn a_scan_stops_at_the_first_window_of_the_filter(
        seed: u64, bytes in prop::collection::vec(0u8..3, 20..200), length in 1usize..20, wanted in 0usize..200,
    ) {
        let rolling = Rolling::new(seed);
        let mut filter = Filter::new(1);
        let last = bytes.len() - length;
        let sums: Vec<u32> = bytes.windows(length).map(|window| rolling.sum(window)).collect();
        if let Some(sum) = sums.get(wanted) {
            filter.insert(*sum);
        }
        let window = rolling.window(u32::try_from(length).unwrap());
        let stop = window.scan(sums[0], (&bytes[..last], &bytes[length..]), &filter);
        let first = sums[1..].iter().position(|sum| filter.passes(u64::from(*sum)));
        prop_assert_eq!(stop.hit, first.is_some());
        prop_assert_eq!(stop.moved, first.map_or(last, |first| first + 1));
        prop_assert_eq!(stop.sum, sums[stop.moved]);
    }
}
