//! Translation between the SDK's types and those that wit-bindgen made. Nothing else happens here.

use crate::bindings::workflow::rehydrate::workflow::{children, control, types};
use crate::child_call::{ChildOptions, ParentClose};
use crate::entity_ref::EntityId;
use crate::failure::{Failure, FailureKind};
use crate::host::Level;
use crate::retry::{ActivityOptions, RetryPolicy, nanos};
use std::time::Duration;

impl From<types::Failure> for Failure {
    fn from(failure: types::Failure) -> Self {
        Failure {
            kind: kind_from(failure.kind),
            code: failure.code,
            message: failure.message,
            // The host checks details before they get here; text that is not JSON is shown as it is.
            details: failure.details.map(|text| serde_json::from_str(&text).unwrap_or(text.into())),
            retryable: failure.retryable,
            retry_after: failure.retry_after.map(Duration::from_nanos),
        }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> Self {
        types::Failure {
            kind: kind_to(failure.kind),
            code: failure.code,
            message: failure.message,
            details: failure.details.map(|details| details.to_string()),
            retryable: failure.retryable,
            retry_after: failure.retry_after.map(nanos),
        }
    }
}

fn kind_from(kind: types::FailureKind) -> FailureKind {
    match kind {
        types::FailureKind::Application => FailureKind::Application,
        types::FailureKind::TimedOut => FailureKind::TimedOut,
        types::FailureKind::Cancelled => FailureKind::Cancelled,
        types::FailureKind::Terminated => FailureKind::Terminated,
        types::FailureKind::NotFound => FailureKind::NotFound,
        types::FailureKind::Rejected => FailureKind::Rejected,
    }
}

fn kind_to(kind: FailureKind) -> types::FailureKind {
    match kind {
        FailureKind::Application => types::FailureKind::Application,
        FailureKind::TimedOut => types::FailureKind::TimedOut,
        FailureKind::Cancelled => types::FailureKind::Cancelled,
        FailureKind::Terminated => types::FailureKind::Terminated,
        FailureKind::NotFound => types::FailureKind::NotFound,
        FailureKind::Rejected => types::FailureKind::Rejected,
    }
}

pub(crate) fn activity_options(options: &ActivityOptions) -> types::ActivityOptions {
    types::ActivityOptions {
        schedule_to_start: options.schedule_to_start.map(nanos),
        start_to_close: options.start_to_close.map(nanos),
        schedule_to_close: options.schedule_to_close.map(nanos),
        heartbeat: options.heartbeat.map(nanos),
        retry: options.retry.as_ref().map(retry_policy),
        queue: options.queue.clone(),
    }
}

fn retry_policy(policy: &RetryPolicy) -> types::RetryPolicy {
    types::RetryPolicy {
        initial_interval: nanos(policy.initial_interval),
        backoff_permille: policy.backoff_permille,
        maximum_interval: nanos(policy.maximum_interval),
        maximum_attempts: policy.maximum_attempts,
        total_timeout: policy.total_timeout.map(nanos),
        jitter_permille: policy.jitter_permille,
        non_retryable: policy.non_retryable.clone(),
    }
}

pub(crate) fn child_options(options: &ChildOptions) -> children::ChildOptions {
    children::ChildOptions {
        version: options.version.clone(),
        parent_close: match options.parent_close {
            ParentClose::Terminate => children::ParentClose::Terminate,
            ParentClose::RequestCancel => children::ParentClose::RequestCancel,
            ParentClose::Abandon => children::ParentClose::Abandon,
        },
        retry: options.retry.as_ref().map(retry_policy),
    }
}

pub(crate) fn entity_id(id: &EntityId) -> types::EntityId {
    types::EntityId { name: id.name.clone(), key: id.key.clone() }
}

pub(crate) fn level(level: Level) -> control::LogLevel {
    match level {
        Level::Trace => control::LogLevel::Trace,
        Level::Debug => control::LogLevel::Debug,
        Level::Info => control::LogLevel::Info,
        Level::Warn => control::LogLevel::Warn,
        Level::Error => control::LogLevel::Error,
    }
}
