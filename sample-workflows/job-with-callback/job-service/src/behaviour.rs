//! What a job tells the service to do: read from the job object of a submission, decided without I/O.
//!
//! A job names one `behaviour`, or a list of `behaviours`, one per submission of its *series*. The series of
//! a submission is the job's `name` together with its idempotency token without the number at its end: the
//! attempts `order-7-1`, `order-7-2`, … of one caller are one series. A token that does not end with a
//! separator (one of `-/:._`) and a number, or none at all, adds nothing to the name. Submission n of a series
//! takes entry n of the list, and the last entry once the list has run out. A submission that is answered with
//! an error counts; one with a token that already has a run does not.

use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The longest a job may run or be delayed.
pub const SECONDS_MAX: f64 = 7.0 * 86_400.0;

/// How one submission is treated.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Behaviour {
    /// Runs for `run_seconds`, then calls back.
    Success,
    /// Calls back before the submission itself is answered.
    Early,
    /// Calls back `delay_seconds` after the end of the run, even if the run was cancelled meanwhile: the
    /// cancellation and the webhook passed each other.
    Late {
        /// Seconds between the end of the run and the webhook.
        #[serde(default = "late_seconds")]
        delay_seconds: f64,
    },
    /// Calls back twice with an equal body.
    Twice,
    /// Calls back twice with different bodies.
    TwiceDifferent,
    /// Posts a body that is not JSON.
    Malformed {
        /// Whether the right body follows.
        #[serde(default)]
        then_correct: bool,
    },
    /// Calls back with state `FAILED`.
    Failure {
        /// The message of the webhook.
        #[serde(default = "failure_message")]
        message: String,
    },
    /// Posts to `<callback_url>/reject`.
    Reject {
        /// The failure's code.
        #[serde(default = "reject_code")]
        code: String,
        /// The failure's message.
        #[serde(default = "failure_message")]
        message: String,
        /// Whether another attempt may succeed.
        #[serde(default)]
        retryable: bool,
    },
    /// Runs, and never calls back.
    Never,
    /// Answers the submission with 500; there is no run.
    #[serde(rename = "error-500")]
    Error500,
    /// Answers the first submissions of the series with 429 and `Retry-After`, later ones run as `success`.
    #[serde(rename = "error-429")]
    Error429 {
        /// The header's value.
        #[serde(default = "retry_after")]
        retry_after_seconds: u32,
        /// How many submissions are refused.
        #[serde(default = "refusals")]
        times: u32,
    },
    /// Starts the run at once but answers the submission only after `delay_seconds`.
    Slow {
        /// Seconds until the answer.
        #[serde(default = "late_seconds")]
        delay_seconds: f64,
    },
}

fn late_seconds() -> f64 {
    5.0
}

fn failure_message() -> String {
    "the job failed".to_owned()
}

fn reject_code() -> String {
    "job-rejected".to_owned()
}

fn retry_after() -> u32 {
    1
}

fn refusals() -> u32 {
    1
}

/// What is wrong with a job.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidJob {
    /// A number out of range.
    #[error("`{field}` is {found}; give 0 to {SECONDS_MAX} seconds")]
    Seconds {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
    },
    /// Not a behaviour.
    #[error("behaviour {found} is not known ({reason}); see the README of the job service for the list")]
    Behaviour {
        /// What the job says.
        found: String,
        /// What the reader said.
        reason: String,
    },
    /// `behaviours` must have an entry to repeat.
    #[error("`behaviours` must be a list with at least one behaviour")]
    EmptyList,
}

/// What the service reads from a job; everything else in it is the caller's own.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// The job's name, empty if it has none.
    pub name: String,
    /// How long a run takes.
    pub run: Duration,
    /// One per submission of the series, never empty.
    pub behaviours: Vec<Behaviour>,
    /// What a successful run gives.
    pub result: Option<Value>,
}

impl Job {
    /// Reads a job. One that is not an object, or says nothing, runs for no time and succeeds.
    pub fn read(job: &Value) -> Result<Job, InvalidJob> {
        let name = match job.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let run = match job.get("run_seconds") {
            None | Some(Value::Null) => Duration::ZERO,
            Some(given) => seconds("run_seconds", given.as_f64(), given)?,
        };
        Ok(Job { name, run, behaviours: behaviours(job)?, result: job.get("result").cloned() })
    }

    /// The behaviour of submission `index` (from 0) of the series.
    pub fn behaviour(&self, index: usize) -> &Behaviour {
        self.behaviours.get(index).or(self.behaviours.last()).unwrap_or(&Behaviour::Success)
    }
}

fn behaviours(job: &Value) -> Result<Vec<Behaviour>, InvalidJob> {
    let list = match (job.get("behaviours"), job.get("behaviour")) {
        (Some(Value::Array(list)), _) | (None, Some(Value::Array(list))) => list.as_slice(),
        (Some(_), _) => return Err(InvalidJob::EmptyList),
        (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => return Ok(vec![Behaviour::Success]),
    };
    if list.is_empty() {
        return Err(InvalidJob::EmptyList);
    }
    list.iter().map(behaviour).collect()
}

/// A behaviour is written as its name, or as an object `{"kind": name, ...}` with its settings.
fn behaviour(given: &Value) -> Result<Behaviour, InvalidJob> {
    let object = match given {
        Value::String(kind) => serde_json::json!({ "kind": kind }),
        other => other.clone(),
    };
    let behaviour: Behaviour = serde_json::from_value(object)
        .map_err(|e| InvalidJob::Behaviour { found: given.to_string(), reason: e.to_string() })?;
    if let Behaviour::Late { delay_seconds } | Behaviour::Slow { delay_seconds } = &behaviour {
        seconds("delay_seconds", Some(*delay_seconds), given)?;
    }
    Ok(behaviour)
}

fn seconds(field: &'static str, given: Option<f64>, shown: &Value) -> Result<Duration, InvalidJob> {
    given
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| InvalidJob::Seconds { field, found: shown.to_string() })
}

/// A delay that was checked when the job was read.
pub fn delay(delay_seconds: f64) -> Duration {
    Duration::try_from_secs_f64(delay_seconds).unwrap_or_default()
}

/// The series of a submission: see the head of this file.
pub fn series(job_name: &str, token: Option<&str>) -> String {
    let caller = token.and_then(without_number).unwrap_or_default();
    format!("{job_name}\n{caller}")
}

fn without_number(token: &str) -> Option<&str> {
    // Long ones are no attempt numbers: a UUID may end with twelve digits.
    const DIGITS_MAX: usize = 9;
    let end = token.rfind(['-', '/', ':', '.', '_'])?;
    let number = &token[end + 1..];
    let is_number = (1..=DIGITS_MAX).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(&token[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(job: Value) -> Job {
        Job::read(&job).unwrap()
    }

    #[test]
    fn a_job_that_says_nothing_succeeds_at_once() {
        for job in [json!(null), json!({}), json!("report"), json!([1])] {
            let job = read(job);
            assert_eq!((job.run, job.behaviour(0)), (Duration::ZERO, &Behaviour::Success));
        }
    }

    #[test]
    fn a_list_gives_one_behaviour_per_submission_and_repeats_the_last() {
        let job = read(json!({"name": "report", "behaviours": ["never", {"kind": "late", "delay_seconds": 0.5}]}));
        assert_eq!(job.behaviour(0), &Behaviour::Never);
        assert_eq!(job.behaviour(1), &Behaviour::Late { delay_seconds: 0.5 });
        assert_eq!(job.behaviour(9), &Behaviour::Late { delay_seconds: 0.5 });
        assert_eq!(read(json!({"behaviour": ["never", "twice"]})).behaviour(1), &Behaviour::Twice);
    }

    #[test]
    fn every_behaviour_is_known_by_its_name_alone() {
        let names = "success early late twice twice-different malformed failure reject never error-500 error-429 slow";
        for name in names.split(' ') {
            let job = read(json!({ "behaviour": name }));
            assert_eq!(job.behaviours.len(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        let reason = |job| Job::read(&job).unwrap_err().to_string();
        assert!(reason(json!({"behaviour": "sometimes"})).contains("\"sometimes\" is not known"));
        assert!(reason(json!({"behaviour": {"kind": "late", "delay": 3}})).contains("unknown field `delay`"));
        assert!(reason(json!({"behaviour": {"kind": "slow", "delay_seconds": -1}})).contains("`delay_seconds`"));
        assert!(reason(json!({"run_seconds": 1e300})).contains("`run_seconds`"));
        assert!(reason(json!({"run_seconds": "long"})).contains("`run_seconds` is \"long\""));
        assert_eq!(Job::read(&json!({"behaviours": []})), Err(InvalidJob::EmptyList));
    }

    #[test]
    fn the_attempts_of_one_caller_are_one_series() {
        assert_eq!(series("report", Some("order-7-1")), series("report", Some("order-7-12")));
        assert_eq!(series("report", Some("order/7/1")), series("report", Some("order/7/2")));
        assert_ne!(series("report", Some("order-7-1")), series("report", Some("order-8-1")));
        assert_ne!(series("report", Some("order-7-1")), series("export", Some("order-7-1")));
        assert_eq!(series("report", Some("0b9e-123456789012")), series("report", None));
        assert_eq!(series("report", Some("order-")), series("report", None));
        assert_eq!(series("report", Some("a1b2")), series("report", None));
    }
}
