//! Numbered records of some keys, and the check that all of them were read in the order of their keys.

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const KEYS: usize = 40;

/// Records as lines of JSON.
pub(crate) fn lines(numbers: Range<usize>) -> String {
    numbers.map(|number| format!("{{\"user\": \"user-{}\", \"n\": {number}}}\n", number % KEYS)).collect()
}

/// The number of a record that was printed as JSON.
pub(crate) fn number(line: &str) -> usize {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap() as usize
}

/// Asserts that the records 0 to `count` were read once each, in the order of their keys.
pub(crate) fn assert_in_order_per_key(read: impl IntoIterator<Item = usize>, count: usize, case: &str) {
    let mut numbers_of_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for number in read {
        numbers_of_key.entry(number % KEYS).or_default().push(number);
    }
    for key in 0..KEYS {
        let numbers = numbers_of_key.remove(&key).unwrap_or_default();
        assert_eq!(numbers, (key..count).step_by(KEYS).collect::<Vec<_>>(), "key {key}, {case}");
    }
}
