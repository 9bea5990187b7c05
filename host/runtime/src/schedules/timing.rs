//! When a schedule is due: cron expressions in a time zone, and intervals. No clock is read here.
//!
//! Where the clocks of a zone are set forward, an expression with one fixed time of day (one second, minute and hour)
//! whose time is left out that day is due at the first moment after the gap; any other expression leaves the gap out.
//! Where they are set back, a fixed time that comes twice is due once, the first time; any other expression is due both
//! times. An interval is elapsed time and knows nothing of this.
//!
//! If both day of month and day of week are restricted, either is enough, unless the day of week begins with `+`.

use crate::error::{ErrorKind, RuntimeError};
use crate::identity;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use rehydrate_core::Timestamp;
use rehydrate_store::ScheduleSpec;

/// The longest expression, in bytes.
const CRON_BYTES_MAX: usize = 256;

/// What an interval begins with.
const EVERY: &str = "every ";

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// When a schedule is due.
#[derive(Clone, Debug)]
pub struct Timing {
    when: When,
    zone: TimeZone,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    jitter_nanos: u64,
}

#[derive(Clone, Debug)]
enum When {
    Cron(Box<Cron>),
    /// Nanoseconds, counted from the start or, if there is none, from the epoch.
    Every(i128),
}

impl Timing {
    /// Reads the parts of a specification that say when.
    pub fn parse(spec: &ScheduleSpec) -> Result<Timing, RuntimeError> {
        let zone = TimeZone::get(&spec.time_zone).map_err(|_| {
            let message = format!(
                "the time zone `{}` is not known; give a name of the IANA database such as `Europe/Stockholm` or `UTC`",
                spec.time_zone
            );
            RuntimeError::new(ErrorKind::Invalid, "schedule.invalid-time-zone", message)
        })?;
        let when = when(spec.cron.trim()).map_err(|reason| {
            let shown: String = spec.cron.chars().take(80).collect();
            let message = format!(
                "the cron expression `{shown}` is wrong: {reason}; give 5 fields (minute, hour, day of month, month, day of week) \
                 such as `0 2 * * mon-fri`, 6 with seconds in front, one of @hourly, @daily, @weekly, @monthly and @yearly, or an \
                 interval such as `every 90s`"
            );
            RuntimeError::new(ErrorKind::Invalid, "schedule.invalid-cron", message)
        })?;
        Ok(Timing { when, zone, start: spec.start, end: spec.end, jitter_nanos: spec.jitter.0 })
    }

    /// The first due time later than `after`; none if there is none any more.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.start.map_or(after, |start| after.max(Timestamp(start.0.saturating_sub(1))));
        let next = match &self.when {
            When::Every(step) => {
                let anchor = i128::from(self.start.unwrap_or_default().0);
                let passed = (i128::from(after.0) - anchor).div_euclid(*step);
                timestamp(anchor + (passed + 1) * step)?
            }
            When::Cron(cron) => {
                let after = jiff::Timestamp::from_nanosecond(i128::from(after.0)).ok()?.to_zoned(self.zone.clone());
                timestamp(cron.find_next_occurrence(&after, false).ok()?.timestamp().as_nanosecond())?
            }
        };
        (next > after && self.end.is_none_or(|end| next <= end)).then_some(next)
    }

    /// The due times later than `after`, in order.
    pub fn following(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(after), |due| self.next_after(*due))
    }

    /// When what is due at `due` is made: later by the jitter, which depends on the schedule and the due time only, so
    /// that a restart does not change it.
    pub fn made_at(&self, name: &str, due: Timestamp) -> Timestamp {
        let Some(range) = self.jitter_nanos.checked_add(1).filter(|range| *range > 1) else { return due };
        let digest = identity::digest(&[name.as_bytes(), &due.0.to_be_bytes()]);
        let number = digest.0.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Timestamp(due.0.saturating_add_unsigned(number % range))
    }
}

fn when(text: &str) -> Result<When, String> {
    if text.len() > CRON_BYTES_MAX {
        return Err(format!("it has {} bytes and the limit is {CRON_BYTES_MAX}", text.len()));
    }
    if let Some(interval) = text.strip_prefix(EVERY) {
        return every(interval.trim()).map(When::Every);
    }
    // An empty item would be taken for none, and a time of day that never comes is searched for in every minute of
    // three thousand years.
    if text.split_whitespace().any(|field| field.trim_start_matches('+').split(',').any(str::is_empty)) {
        return Err("a list has an empty item".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text).map(|cron| When::Cron(Box::new(cron))).map_err(|error| {
        // A sentence of its own becomes a part of ours.
        error.to_string().trim_end_matches('.').to_owned()
    })
}

fn every(text: &str) -> Result<i128, String> {
    let length: SignedDuration = text.parse().map_err(|error| format!("`{text}` is no length of time ({error})"))?;
    let nanos = length.as_nanos();
    if nanos < NANOS_PER_SECOND || nanos % NANOS_PER_SECOND != 0 {
        return Err(format!("`{text}` is not a whole number of seconds, 1 or more"));
    }
    Ok(nanos)
}

fn timestamp(nanos: i128) -> Option<Timestamp> {
    i64::try_from(nanos).ok().map(Timestamp)
}

/// A due time as it stands in an instance's id: RFC 3339 in UTC, with a fraction only if it has one.
pub fn in_id(at: Timestamp) -> String {
    // Every i64 of nanoseconds lies between the years 1677 and 2262, which jiff covers.
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

#[cfg(test)]
#[path = "timing_tests.rs"]
pub mod tests;
