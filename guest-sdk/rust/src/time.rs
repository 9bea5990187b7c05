//! Points in time. A workflow's clock is the time of the event being applied: it stands still between waits
//! and is the same on replay.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// A point in time, UTC, to the nanosecond. As text and in JSON: RFC 3339, such as `2026-01-31T08:00:00.5Z`.
///
/// ```
/// use rehydrate::Timestamp;
/// use std::time::Duration;
///
/// let start: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
/// assert_eq!((start + Duration::from_millis(1500)).to_string(), "2026-01-31T08:00:01.5Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(jiff::Timestamp);

/// Text that is no RFC 3339 point in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidTimestamp(String);

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no RFC 3339 time such as 2026-01-31T08:00:00Z", self.0)
    }
}

impl std::error::Error for InvalidTimestamp {}

impl Timestamp {
    /// From seconds since 1970-01-01T00:00:00Z and the nanoseconds within that second. Saturates at the
    /// years -9999 and 9999.
    pub fn from_parts(seconds: i64, nanoseconds: u32) -> Timestamp {
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or(999_999_999).min(999_999_999);
        let end = if seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let second = jiff::Timestamp::from_second(seconds).unwrap_or(end);
        let whole = second.checked_add(jiff::SignedDuration::from_nanos(nanoseconds.into()));
        Timestamp(whole.unwrap_or(end))
    }

    /// Seconds since 1970-01-01T00:00:00Z (rounded down) and the nanoseconds within that second.
    pub fn parts(self) -> (i64, u32) {
        let nanos = self.0.as_nanosecond();
        let second = 1_000_000_000;
        let (whole, rest) = (nanos.div_euclid(second), nanos.rem_euclid(second));
        (i64::try_from(whole).unwrap_or_default(), u32::try_from(rest).unwrap_or_default())
    }

    /// How much later than `earlier` this is; zero if it is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or(Duration::ZERO)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the year 9999.
    fn add(self, length: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(length).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    /// Saturates at the year -9999.
    fn sub(self, length: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(length).unwrap_or(jiff::Timestamp::MIN))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Timestamp).map_err(|_| InvalidTimestamp(text.to_owned()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips_and_is_utc() {
        assert_eq!(at("2026-01-31T09:00:00.25+01:00").to_string(), "2026-01-31T08:00:00.25Z");
        assert_eq!(at("1969-12-31T23:59:59.999999999Z").parts(), (-1, 999_999_999));
        let json = serde_json::to_string(&at("2026-02-28T00:00:00Z")).unwrap();
        assert_eq!(json, r#""2026-02-28T00:00:00Z""#);
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at("2026-02-28T00:00:00Z"));
    }

    #[test]
    fn parts_round_trip_before_and_after_the_epoch() {
        for (seconds, nanos) in [(0, 0), (-1, 1), (-2, 999_999_999), (1_800_000_000, 500_000_000)] {
            assert_eq!(Timestamp::from_parts(seconds, nanos).parts(), (seconds, nanos));
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_parts(i64::MAX, u32::MAX);
        assert_eq!(end + Duration::MAX, end);
        let start = Timestamp::from_parts(i64::MIN, 0);
        assert_eq!(start - Duration::MAX, start);
        assert_eq!(start.since(end), Duration::ZERO);
        assert_eq!((start + Duration::from_secs(3)).since(start), Duration::from_secs(3));
    }

    #[test]
    fn other_text_is_refused() {
        let error = "tomorrow".parse::<Timestamp>().unwrap_err().to_string();
        assert_eq!(error, "`tomorrow` is no RFC 3339 time such as 2026-01-31T08:00:00Z");
        assert!(serde_json::from_str::<Timestamp>("17").is_err());
    }
}
