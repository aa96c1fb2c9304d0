use super::{Filter, Rolling, weak};
use proptest::prelude::*;

/// The definition: digits to the base.
fn defined(rolling: &Rolling, bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, byte| {
        sum.wrapping_mul(rolling.base)
            .wrapping_add(u64::from(*byte))
    })
}

#[test]
fn the_sum_is_frozen() {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    assert_eq!(Rolling::new(0).sum(&bytes), 4_288_743_713_623_684_380);
    assert_eq!(Rolling::new(u64::MAX).sum(&bytes), 514377597661490780);
}

#[test]
fn thue_morse_words_collide_as_documented() {
    let word: Vec<u8> = (0..2048u32)
        .map(|at| u8::from(at.count_ones() % 2 == 1))
        .collect();
    let other: Vec<u8> = word.iter().map(|byte| 1 - byte).collect();
    let rolling = Rolling::new(1);
    assert_eq!(weak(rolling.sum(&word)), weak(rolling.sum(&other)));
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
        let sums: Vec<u64> = bytes.windows(length).map(|window| rolling.sum(window)).collect();
        if let Some(sum) = sums.get(wanted) {
            filter.insert(weak(*sum));
        }
        let window = rolling.window(u32::try_from(length).unwrap());
        let stop = window.scan(sums[0], (&bytes[..last], &bytes[length..]), &filter);
        let first = sums[1..].iter().position(|sum| filter.passes(*sum));
        prop_assert_eq!(stop.hit, first.is_some());
        prop_assert_eq!(stop.moved, first.map_or(last, |first| first + 1));
        prop_assert_eq!(stop.sum, sums[stop.moved]);
    }
}
