//! The workflow's input, and what is made of it before anything is done.

use rehydrate::Failure;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Retries that are accepted; every attempt is a line in the instance's status, which is limited.
const RETRY_LIMIT_MAX: u32 = 1000;
/// The longest key that an entity can have.
const KIND_CHARS_MAX: usize = 200;
/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// The input, as JSON.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The job: a name or any JSON the service understands.
    pub job: Value,
    /// The longest one attempt may take, counted from its dispatch, in seconds; may have a fraction.
    pub timeout_seconds: f64,
    /// Attempts after the first one.
    pub retry_limit: u32,
    /// Where the job service is, such as `http://127.0.0.1:9000`.
    pub service_url: String,
    /// The wait before the second attempt, in seconds; it doubles each time. Default: 1.
    #[serde(default = "one")]
    pub backoff_seconds: f64,
    /// The kind of job: the key of the entity `attempts` that is told of every change of an attempt. None: nobody is.
    pub kind: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// The input, checked.
#[derive(Debug)]
pub struct Plan {
    pub job: Value,
    pub timeout: Duration,
    pub attempts: u32,
    pub service_url: String,
    pub backoff: Duration,
    pub kind: Option<String>,
}

impl Input {
    /// Fails, with code `job.input`, for what can not be meant.
    pub fn check(self) -> Result<Plan, Failure> {
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|error| Failure::rejected("job.input", format!("{name} is {value}: {error}")))
        };
        let timeout = seconds("timeout_seconds", self.timeout_seconds)?;
        if timeout.is_zero() {
            return Err(Failure::rejected("job.input", "timeout_seconds is 0; it must be more"));
        }
        if self.retry_limit > RETRY_LIMIT_MAX {
            let message = format!("retry_limit is {}, at most {RETRY_LIMIT_MAX} is accepted", self.retry_limit);
            return Err(Failure::rejected("job.input", message));
        }
        if let Some(kind) = &self.kind
            && (kind.chars().count() > KIND_CHARS_MAX || kind.contains(|c: char| "/\\#?".contains(c) || c.is_control()))
        {
            let message = format!("kind must have at most {KIND_CHARS_MAX} characters, and none of / \\ # ?");
            return Err(Failure::rejected("job.input", message));
        }
        Ok(Plan {
            job: self.job,
            timeout,
            attempts: self.retry_limit + 1,
            service_url: self.service_url.trim_end_matches('/').to_owned(),
            backoff: seconds("backoff_seconds", self.backoff_seconds)?,
            kind: self.kind,
        })
    }
}

impl Plan {
    /// How long to wait before that attempt, from the second one on.
    pub fn backoff_before(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(2).min(31);
        self.backoff.saturating_mul(1 << doublings).min(BACKOFF_MAX)
    }
}
