//! Retry arithmetic: when, and whether, the next attempt of an activity starts. Integers only.

use crate::failure::Failure;
use crate::ids::{AttemptNumber, EventId};
use crate::random::split_mix;
use crate::time::{Nanos, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the host retries an activity; the fields are those of the WIT `retry-policy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The delay before the second attempt.
    pub initial_interval: Nanos,
    /// Growth of the delay in thousandths; below 1000 counts as 1000.
    pub backoff_permille: u32,
    /// The longest delay.
    pub maximum_interval: Nanos,
    /// Attempts in all, the first counted.
    pub maximum_attempts: Option<u32>,
    /// No attempt starts later than this after the activity was scheduled.
    pub total_timeout: Option<Nanos>,
    /// Random share of the delay in thousandths, at most 1000.
    pub jitter_permille: u32,
    /// Failure codes that end the activity at once.
    pub non_retryable: Vec<String>,
}

/// Limits of one activity; the fields are those of the WIT `activity-options`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ActivityOptions {
    /// The longest an attempt may wait for a free worker.
    pub schedule_to_start: Option<Nanos>,
    /// The longest one attempt may run.
    pub start_to_close: Option<Nanos>,
    /// The longest the activity may take with all attempts.
    pub schedule_to_close: Option<Nanos>,
    /// The longest silence between two heartbeats.
    pub heartbeat: Option<Nanos>,
    /// None: one attempt.
    pub retry: Option<RetryPolicy>,
    /// None: the queue `default`.
    pub queue: Option<String>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterFailure {
    /// Another attempt, not before this time.
    RetryAt(Timestamp),
    /// None; the activity has failed.
    GiveUp,
}

/// The facts of a failed attempt that retrying depends on.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    /// Which attempt failed.
    pub attempt: AttemptNumber,
    /// What it failed with.
    pub failure: &'a Failure,
    /// When the activity was scheduled.
    pub scheduled: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// The run's seed and the activity's event: together with the attempt they give the jitter.
    pub seed: u64,
    /// The activity.
    pub op: EventId,
}

impl ActivityOptions {
    /// Bytes of the texts in it: with them a guest decides how large its options are.
    pub fn len_bytes(&self) -> usize {
        let queue = self.queue.as_ref().map_or(0, String::len);
        let codes = self.retry.iter().flat_map(|policy| &policy.non_retryable);
        queue + codes.map(|code| code.len() + size_of::<u64>()).sum::<usize>()
    }
}

/// What is set, by the names of the WIT record; all of it, so that a difference shows.
impl fmt::Display for ActivityOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = [
            ("schedule-to-start", self.schedule_to_start),
            ("start-to-close", self.start_to_close),
            ("schedule-to-close", self.schedule_to_close),
            ("heartbeat", self.heartbeat),
        ];
        let lengths = lengths.iter().filter_map(|(name, length)| length.map(|length| format!("{name} {length}")));
        let retry = self.retry.iter().map(|policy| format!("retry ({policy})"));
        let queue = self.queue.iter().map(|queue| format!("queue `{queue}`"));
        let set: Vec<String> = lengths.chain(retry).chain(queue).collect();
        f.write_str(if set.is_empty() { "no options" } else { "options " })?;
        f.write_str(&set.join(", "))
    }
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "initial-interval {}, backoff-permille {}, ", self.initial_interval, self.backoff_permille)?;
        write!(f, "maximum-interval {}, ", self.maximum_interval)?;
        if let Some(attempts) = self.maximum_attempts {
            write!(f, "maximum-attempts {attempts}, ")?;
        }
        if let Some(total) = self.total_timeout {
            write!(f, "total-timeout {total}, ")?;
        }
        write!(f, "jitter-permille {}, non-retryable {:?}", self.jitter_permille, self.non_retryable)
    }
}

impl RetryPolicy {
    /// The delay after attempt `attempt`, without jitter and without the failure's own wish.
    pub fn interval_after(&self, attempt: AttemptNumber) -> Nanos {
        let maximum = u128::from(self.maximum_interval.0);
        let growth = u128::from(self.backoff_permille.max(1000));
        let mut interval = u128::from(self.initial_interval.0).min(maximum);
        if growth > 1000 {
            for _ in 1..attempt.0 {
                let grown = interval * growth / 1000;
                if grown >= maximum || grown == interval {
                    interval = grown.min(maximum);
                    break;
                }
                interval = grown;
            }
        }
        Nanos(u64::try_from(interval).unwrap_or(u64::MAX))
    }

    fn with_jitter(&self, interval: Nanos, at: &FailedAttempt<'_>) -> Nanos {
        let share = u128::from(self.jitter_permille.min(1000));
        let spread = u128::from(interval.0) * share / 1000;
        if spread == 0 {
            return interval;
        }
        let mut mix = at.seed ^ at.op.0.rotate_left(32) ^ u64::from(at.attempt.0);
        let offset = u128::from(split_mix(&mut mix)) % (2 * spread + 1);
        let moved = u128::from(interval.0) + offset - spread;
        Nanos(u64::try_from(moved).unwrap_or(u64::MAX))
    }
}

/// Decides what follows a failed attempt under `options`.
pub fn after_failure(options: &ActivityOptions, at: &FailedAttempt<'_>) -> AfterFailure {
    let Some(policy) = &options.retry else { return AfterFailure::GiveUp };
    let exhausted = policy.maximum_attempts.is_some_and(|most| at.attempt.0 >= most);
    let excluded = policy.non_retryable.contains(&at.failure.code);
    if exhausted || excluded || !at.failure.retryable {
        return AfterFailure::GiveUp;
    }
    let delay = policy.with_jitter(policy.interval_after(at.attempt), at);
    let delay = delay.max(at.failure.retry_after.unwrap_or_default());
    let next = at.now.after(delay);
    let too_late = |limit: Option<Nanos>| limit.is_some_and(|limit| next > at.scheduled.after(limit));
    if too_late(policy.total_timeout) || too_late(options.schedule_to_close) {
        return AfterFailure::GiveUp;
    }
    AfterFailure::RetryAt(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            initial_interval: Nanos::from_secs(1),
            backoff_permille: 2000,
            maximum_interval: Nanos::from_secs(5),
            maximum_attempts: Some(4),
            total_timeout: None,
            jitter_permille: 0,
            non_retryable: vec!["card-declined".into()],
        }
    }

    fn decide(policy: RetryPolicy, attempt: u32, failure: &Failure, now: Timestamp) -> AfterFailure {
        let options = ActivityOptions { retry: Some(policy), ..ActivityOptions::default() };
        let at = FailedAttempt {
            attempt: AttemptNumber(attempt),
            failure,
            scheduled: Timestamp(0),
            now,
            seed: 42,
            op: EventId(3),
        };
        after_failure(&options, &at)
    }

    fn failure(code: &str) -> Failure {
        Failure::new(FailureKind::Application, code, "it broke").retryable()
    }

    #[test]
    fn the_interval_grows_and_stops_at_the_maximum() {
        let seconds = |attempt| policy().interval_after(AttemptNumber(attempt)).0 / 1_000_000_000;
        assert_eq!([1, 2, 3, 4, 5, 4_000_000_000].map(seconds), [1, 2, 4, 5, 5, 5]);
    }

    #[test]
    fn an_interval_that_can_not_grow_ends_the_loop() {
        let flat = RetryPolicy { backoff_permille: 1000, ..policy() };
        assert_eq!(flat.interval_after(AttemptNumber(u32::MAX)), Nanos::from_secs(1));
        let zero = RetryPolicy { initial_interval: Nanos(0), ..policy() };
        assert_eq!(zero.interval_after(AttemptNumber(u32::MAX)), Nanos(0));
        let huge = RetryPolicy {
            initial_interval: Nanos(u64::MAX),
            maximum_interval: Nanos(u64::MAX),
            backoff_permille: u32::MAX,
            ..policy()
        };
        assert_eq!(huge.interval_after(AttemptNumber(u32::MAX)), Nanos(u64::MAX));
    }

    #[test]
    fn the_attempts_are_counted_with_the_first() {
        let retry = AfterFailure::RetryAt(Timestamp::default().after(Nanos::from_secs(4)));
        assert_eq!(decide(policy(), 3, &failure("x"), Timestamp(0)), retry);
        assert_eq!(decide(policy(), 4, &failure("x"), Timestamp(0)), AfterFailure::GiveUp);
    }

    #[test]
    fn excluded_codes_and_final_failures_end_it_at_once() {
        assert_eq!(decide(policy(), 1, &failure("card-declined"), Timestamp(0)), AfterFailure::GiveUp);
        let last = Failure { retryable: false, ..failure("x") };
        assert_eq!(decide(policy(), 1, &last, Timestamp(0)), AfterFailure::GiveUp);
    }

    #[test]
    fn no_attempt_starts_after_the_total_timeout() {
        let limited = RetryPolicy { total_timeout: Some(Nanos::from_secs(10)), ..policy() };
        let at = |secs| Timestamp(0).after(Nanos::from_secs(secs));
        assert_eq!(decide(limited.clone(), 1, &failure("x"), at(9)), AfterFailure::RetryAt(at(10)));
        assert_eq!(decide(limited, 2, &failure("x"), at(9)), AfterFailure::GiveUp);
    }

    #[test]
    fn retry_after_lengthens_but_never_shortens() {
        let wish = |secs| Failure { retry_after: Some(Nanos::from_secs(secs)), ..failure("x") };
        let at = |secs| AfterFailure::RetryAt(Timestamp(0).after(Nanos::from_secs(secs)));
        assert_eq!(decide(policy(), 1, &wish(30), Timestamp(0)), at(30));
        assert_eq!(decide(policy(), 3, &wish(1), Timestamp(0)), at(4));
    }

    #[test]
    fn jitter_stays_within_its_share_and_differs_between_attempts() {
        let shaky = RetryPolicy { jitter_permille: 500, backoff_permille: 1000, maximum_attempts: None, ..policy() };
        let mut seen = std::collections::BTreeSet::new();
        for attempt in 1..200 {
            let AfterFailure::RetryAt(at) = decide(shaky.clone(), attempt, &failure("x"), Timestamp(0)) else {
                panic!("attempt {attempt} should be retried");
            };
            assert!((500_000_000..=1_500_000_000).contains(&at.0), "{at:?}");
            seen.insert(at);
        }
        assert!(seen.len() > 190, "jitter should differ: {} values", seen.len());
    }
}
