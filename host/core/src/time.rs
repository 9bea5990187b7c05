//! Points and lengths of time, as whole nanoseconds. Arithmetic saturates: a guest may ask for any length.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A length of time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// That many milliseconds.
    pub const fn from_millis(millis: u64) -> Nanos {
        Nanos(millis.saturating_mul(1_000_000))
    }

    /// That many seconds.
    pub const fn from_secs(secs: u64) -> Nanos {
        Nanos(secs.saturating_mul(1_000_000_000))
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl From<Nanos> for std::time::Duration {
    fn from(nanos: Nanos) -> Self {
        std::time::Duration::from_nanos(nanos.0)
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", std::time::Duration::from_nanos(self.0))
    }
}

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z (1677 to 2262).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The furthest point that can be named; stands for "never" in practice (the year 2262).
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// This point and that much later.
    pub fn after(self, length: Nanos) -> Timestamp {
        Timestamp(self.0.saturating_add_unsigned(length.0))
    }

    /// How much later than `earlier` this is; zero if it is not later.
    pub fn since(self, earlier: Timestamp) -> Nanos {
        Nanos(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }

    /// Seconds since the epoch (rounded down) and the nanoseconds within that second.
    pub fn parts(self) -> (i64, u32) {
        let nanos = self.0.rem_euclid(1_000_000_000);
        (self.0.div_euclid(1_000_000_000), u32::try_from(nanos).unwrap_or(0))
    }

    /// From seconds and nanoseconds; saturates at the ends of the range.
    pub fn from_parts(seconds: i64, nanoseconds: u32) -> Timestamp {
        let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Timestamp(i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp(i64::MAX - 1).after(Nanos(u64::MAX)), Timestamp::MAX);
        assert_eq!(Timestamp(5).since(Timestamp(9)), Nanos(0));
        assert_eq!(Timestamp(i64::MAX).since(Timestamp(i64::MIN)), Nanos(u64::MAX));
        assert_eq!(Timestamp::from_parts(i64::MAX, 0), Timestamp::MAX);
    }

    #[test]
    fn parts_round_trip_before_and_after_the_epoch() {
        for nanos in [-1_500_000_000, -1, 0, 1, 1_999_999_999] {
            let (s, n) = Timestamp(nanos).parts();
            assert_eq!(Timestamp::from_parts(s, n), Timestamp(nanos));
        }
    }
}
