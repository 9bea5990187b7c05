//! Arithmetic on what was measured. Percentiles are exact: they are taken from all samples.

use std::time::Duration;

/// Samples in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sorted<T>(Vec<T>);

impl<T: Ord + Copy> Sorted<T> {
    /// Sorts.
    pub fn new(mut samples: Vec<T>) -> Sorted<T> {
        samples.sort_unstable();
        Sorted(samples)
    }

    /// The smallest sample that at least that share, in percent, of all samples does not exceed; none if there
    /// are no samples.
    pub fn percentile(&self, percent: u8) -> Option<T> {
        let rank = (self.0.len() * usize::from(percent)).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// The samples, smallest first.
    pub fn samples(&self) -> &[T] {
        &self.0
    }
}

/// A count as a number to calculate with.
pub fn float(count: u64) -> f64 {
    // Exact up to 2^53, far beyond any count here.
    count as f64
}

/// A number of things as a count.
pub fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}

/// How many in a second.
pub fn per_second(count: u64, length: Duration) -> f64 {
    float(count) / length.as_secs_f64()
}

/// How much of a total falls to one; zero if there is none.
pub fn per_one(total: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total / float(count) }
}

/// A length of time in microseconds.
pub fn micros(length: Duration) -> f64 {
    length.as_secs_f64() * 1e6
}

/// A length of time in milliseconds.
pub fn millis(length: Duration) -> f64 {
    length.as_secs_f64() * 1e3
}

/// The mean of two measurements of one thing.
pub fn mean(one: f64, other: f64) -> f64 {
    f64::midpoint(one, other)
}

/// A number with as many digits as one can take in at a glance.
pub fn shown(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m >= 1000.0 || m == m.trunc() => 0,
        m if m >= 100.0 => 1,
        m if m >= 1.0 => 2,
        _ => 4,
    };
    grouped(&format!("{value:.decimals$}"))
}

/// A comma after every three digits in front of the point.
fn grouped(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut out = String::with_capacity(number.len() + number.len() / 3);
    for (at, c) in number.char_indices() {
        if at > 0 && at < whole && (whole - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let sorted = Sorted::new((1..=100).rev().collect());
        let at = |percent| sorted.percentile(percent);
        assert_eq!((at(1), at(50), at(99), at(100)), (Some(1), Some(50), Some(99), Some(100)));
    }

    #[test]
    fn few_samples_have_percentiles_and_none_have_none() {
        let three = Sorted::new(vec![30, 10, 20]);
        assert_eq!((three.percentile(50), three.percentile(99)), (Some(20), Some(30)));
        assert_eq!(Sorted::new(vec![7]).percentile(1), Some(7));
        assert_eq!(Sorted::<u64>::new(Vec::new()).percentile(50), None);
    }

    #[test]
    fn rates_and_shares() {
        assert!((per_second(500, Duration::from_millis(250)) - 2000.0).abs() < 1e-9);
        assert!((per_one(10.0, 4) - 2.5).abs() < 1e-9);
        assert!(per_one(10.0, 0).abs() < 1e-9);
        assert!((mean(1.0, 4.0) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_shown_short() {
        let cases = [
            (0.0, "0"),
            (12.0, "12"),
            (0.123_456, "0.1235"),
            (12.345, "12.35"),
            (345.67, "345.7"),
            (123_456.7, "123,457"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (-123_456.0, "-123,456"),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected);
        }
    }
}
