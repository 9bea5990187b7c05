//! Values of the contract and values of core, and JSON that comes from a guest.

use crate::bindings::workflow::rehydrate::workflow::{children, types};
use crate::log::Level;
use rehydrate_core::{
    ActivityOptions, ChildOptions, Failure, FailureKind, Limits, Nanos, Outcome, ParentClose, RetryPolicy, Timestamp,
};
use std::fmt::Display;

/// Whether a text is JSON.
pub fn check_json(what: impl Display, text: &str) -> Result<(), String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(drop)
        .map_err(|error| format!("{what} is not JSON: {error}; pass UTF-8 JSON text"))
}

/// What an activity or an operation gave, if it is within the limit of a payload and JSON; else a failure, of the code
/// `invalid_json` if it is none.
pub fn checked_outcome(limits: &Limits, what: impl Display + Copy, invalid_json: &str, outcome: Outcome) -> Outcome {
    let bytes = outcome.as_ref().map_or_else(Failure::len_bytes, String::len);
    if let Err(limit) = limits.check_payload(what, bytes) {
        return Err(Failure::new(FailureKind::Rejected, &limit.code(), limit.to_string()));
    }
    if let Ok(output) = &outcome {
        check_json(what, output).map_err(|text| Failure::new(FailureKind::Rejected, invalid_json, text))?;
    }
    outcome
}

pub fn instant(at: Timestamp) -> types::Instant {
    let (seconds, nanoseconds) = at.parts();
    types::Instant { seconds, nanoseconds }
}

pub fn timestamp(at: types::Instant) -> Timestamp {
    Timestamp::from_parts(at.seconds, at.nanoseconds)
}

pub fn level(level: types::LogLevel) -> Level {
    match level {
        types::LogLevel::Trace => Level::Trace,
        types::LogLevel::Debug => Level::Debug,
        types::LogLevel::Info => Level::Info,
        types::LogLevel::Warn => Level::Warn,
        types::LogLevel::Error => Level::Error,
    }
}

pub fn failure_to_guest(failure: Failure) -> types::Failure {
    let kind = match failure.kind {
        FailureKind::Application => types::FailureKind::Application,
        FailureKind::TimedOut => types::FailureKind::TimedOut,
        FailureKind::Cancelled => types::FailureKind::Cancelled,
        FailureKind::Terminated => types::FailureKind::Terminated,
        FailureKind::NotFound => types::FailureKind::NotFound,
        FailureKind::Rejected => types::FailureKind::Rejected,
    };
    types::Failure {
        kind,
        code: failure.code,
        message: failure.message,
        details: failure.details,
        retryable: failure.retryable,
        retry_after: failure.retry_after.map(|length| length.0),
    }
}

/// A failure that a guest gave; details that are not JSON are kept as a JSON string, so that nothing is
/// lost and nothing invalid gets in.
pub fn failure_from_guest(failure: types::Failure) -> Failure {
    let kind = match failure.kind {
        types::FailureKind::Application => FailureKind::Application,
        types::FailureKind::TimedOut => FailureKind::TimedOut,
        types::FailureKind::Cancelled => FailureKind::Cancelled,
        types::FailureKind::Terminated => FailureKind::Terminated,
        types::FailureKind::NotFound => FailureKind::NotFound,
        types::FailureKind::Rejected => FailureKind::Rejected,
    };
    let details = failure.details.map(|details| match check_json("details", &details) {
        Ok(()) => details,
        Err(_) => serde_json::Value::String(details).to_string(),
    });
    Failure {
        kind,
        code: failure.code,
        message: failure.message,
        details,
        retryable: failure.retryable,
        retry_after: failure.retry_after.map(Nanos),
    }
}

pub fn options(options: types::ActivityOptions) -> ActivityOptions {
    ActivityOptions {
        schedule_to_start: options.schedule_to_start.map(Nanos),
        start_to_close: options.start_to_close.map(Nanos),
        schedule_to_close: options.schedule_to_close.map(Nanos),
        heartbeat: options.heartbeat.map(Nanos),
        retry: options.retry.map(retry_policy),
        queue: options.queue,
    }
}

pub fn child_options(options: children::ChildOptions) -> ChildOptions {
    ChildOptions {
        version: options.version,
        parent_close: match options.parent_close {
            children::ParentClose::Terminate => ParentClose::Terminate,
            children::ParentClose::RequestCancel => ParentClose::RequestCancel,
            children::ParentClose::Abandon => ParentClose::Abandon,
        },
        retry: options.retry.map(retry_policy),
    }
}

fn retry_policy(policy: types::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        initial_interval: Nanos(policy.initial_interval),
        backoff_permille: policy.backoff_permille,
        maximum_interval: Nanos(policy.maximum_interval),
        maximum_attempts: policy.maximum_attempts,
        total_timeout: policy.total_timeout.map(Nanos),
        jitter_permille: policy.jitter_permille,
        non_retryable: policy.non_retryable,
    }
}
