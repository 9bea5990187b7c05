//! Limits and retries of activities, as the guest asks for them. The host carries them out; nothing here
//! waits or counts.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the host retries an activity. The delay before attempt n+1 is
/// `initial_interval * (backoff_permille / 1000)^(n-1)`, at most `maximum_interval`, moved at random by up to
/// `jitter_permille` of itself.
///
/// ```
/// use rehydrate::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::attempts(5).initial(Duration::from_millis(200)).never_for("card-declined");
/// assert_eq!(policy.maximum_attempts, Some(5));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// The delay before the second attempt. Default: 1 s.
    pub initial_interval: Duration,
    /// Growth of the delay in thousandths, at least 1000. Default: 2000, which doubles it each time.
    pub backoff_permille: u32,
    /// The longest delay. Default: 60 s.
    pub maximum_interval: Duration,
    /// Attempts in all, the first counted. None: no limit but `total_timeout`.
    pub maximum_attempts: Option<u32>,
    /// No attempt starts later than this after the activity was scheduled.
    pub total_timeout: Option<Duration>,
    /// Random share of the delay in thousandths, at most 1000. Default: 100.
    pub jitter_permille: u32,
    /// Failure codes that end the activity at once.
    pub non_retryable: Vec<String>,
}

impl Default for RetryPolicy {
    /// Doubling delays from one second to one minute, without a limit on attempts.
    fn default() -> Self {
        RetryPolicy {
            initial_interval: Duration::from_secs(1),
            backoff_permille: 2000,
            maximum_interval: Duration::from_secs(60),
            maximum_attempts: None,
            total_timeout: None,
            jitter_permille: 100,
            non_retryable: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The default with at most that many attempts, the first counted.
    pub fn attempts(most: u32) -> RetryPolicy {
        RetryPolicy { maximum_attempts: Some(most), ..RetryPolicy::default() }
    }

    /// The default without a limit on attempts, for at most that long after the activity was scheduled.
    pub fn within(total: Duration) -> RetryPolicy {
        RetryPolicy { total_timeout: Some(total), ..RetryPolicy::default() }
    }

    /// The delay before the second attempt.
    #[must_use]
    pub fn initial(self, interval: Duration) -> Self {
        RetryPolicy { initial_interval: interval, ..self }
    }

    /// The longest delay.
    #[must_use]
    pub fn maximum(self, interval: Duration) -> Self {
        RetryPolicy { maximum_interval: interval, ..self }
    }

    /// The same delay each time.
    #[must_use]
    pub fn constant(self, interval: Duration) -> Self {
        RetryPolicy { initial_interval: interval, maximum_interval: interval, backoff_permille: 1000, ..self }
    }

    /// Growth of the delay in thousandths; below 1000 counts as 1000.
    #[must_use]
    pub fn backoff_permille(self, growth: u32) -> Self {
        RetryPolicy { backoff_permille: growth.max(1000), ..self }
    }

    /// Random share of the delay in thousandths; above 1000 counts as 1000.
    #[must_use]
    pub fn jitter_permille(self, share: u32) -> Self {
        RetryPolicy { jitter_permille: share.min(1000), ..self }
    }

    /// Adds a failure code that ends the activity at once.
    #[must_use]
    pub fn never_for(mut self, code: impl Into<String>) -> Self {
        self.non_retryable.push(code.into());
        self
    }
}

/// Limits of one activity; what is None has no limit, save `start_to_close`, for which the host has a default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActivityOptions {
    /// The longest an attempt may wait for a free worker.
    pub schedule_to_start: Option<Duration>,
    /// The longest one attempt may run.
    pub start_to_close: Option<Duration>,
    /// The longest the activity may take with all its attempts.
    pub schedule_to_close: Option<Duration>,
    /// The longest silence between two heartbeats of an attempt.
    pub heartbeat: Option<Duration>,
    /// None: one attempt.
    pub retry: Option<RetryPolicy>,
    /// None: the queue `default`.
    pub queue: Option<String>,
}

/// A length of time in nanoseconds, at most 584 years.
#[cfg(any(test, target_family = "wasm"))]
pub(crate) fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builder_keeps_values_in_their_range() {
        let policy = RetryPolicy::attempts(3).backoff_permille(10).jitter_permille(9999).never_for("a").never_for("b");
        assert_eq!((policy.backoff_permille, policy.jitter_permille), (1000, 1000));
        assert_eq!(policy.non_retryable, ["a", "b"]);
    }

    #[test]
    fn a_constant_delay_does_not_grow() {
        let policy = RetryPolicy::within(Duration::from_secs(60)).constant(Duration::from_secs(2));
        assert_eq!(policy.initial_interval, policy.maximum_interval);
        assert_eq!((policy.backoff_permille, policy.maximum_attempts), (1000, None));
    }

    #[test]
    fn endless_lengths_saturate() {
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(nanos(Duration::from_micros(3)), 3000);
    }
}
