//! A history's events as JSON: `type` and the event's own fields beside `id`, `time` and `cause`.
//!
//! This is a contract with readers of the API, so it is spelled out here and not derived from the event format
//! on disk: the two change for different reasons.

use crate::dto::Failure;
use crate::show;
use rehydrate_runtime::core::{self, EventBody};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// One event of a run's history.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// Its place, gapless from 1. An operation is known by the id of the event that began it.
    pub id: u64,
    /// When it was recorded.
    pub time: String,
    /// For what the workflow did: the last event it had seen then. 0 for what came from outside.
    pub cause: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened. `op` is the id of the event that began the operation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type")]
pub enum Body {
    /// The run began.
    InstanceStarted {
        /// The instance's id.
        instance: String,
        /// The deployment's name.
        workflow: String,
        /// The deployment's version.
        version: String,
        /// The SHA-256 of the component, in hex.
        digest: String,
        /// The workflow's input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
        /// The instance whose child it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
        /// The run whose history it was made of, by a rewind.
        #[serde(skip_serializing_if = "Option::is_none")]
        rewound_from: Option<u32>,
    },
    /// The workflow scheduled an activity.
    ActivityScheduled {
        /// The activity's name.
        name: String,
        /// Its input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
        /// Its limits.
        options: Box<ActivityOptions>,
    },
    /// An attempt failed, another follows.
    ActivityAttemptFailed {
        /// The activity.
        op: u64,
        /// The attempt.
        attempt: u32,
        /// When that attempt started.
        started: String,
        /// Why it failed.
        failure: Failure,
        /// When the next attempt may start.
        next_attempt: String,
    },
    /// An attempt succeeded, and the activity with it.
    ActivityCompleted {
        /// The activity.
        op: u64,
        /// The attempt.
        attempt: u32,
        /// When that attempt started.
        started: String,
        /// What it gave.
        #[schema(value_type = Value)]
        output: Box<RawValue>,
    },
    /// The activity failed for good.
    ActivityFailed {
        /// The activity.
        op: u64,
        /// The last attempt.
        attempt: u32,
        /// When that attempt started; none if it never did.
        started: Option<String>,
        /// Why.
        failure: Failure,
    },
    /// The workflow started a durable timer.
    TimerStarted {
        /// It fires not before this.
        deadline: String,
    },
    /// A durable timer fired.
    TimerFired {
        /// The timer.
        op: u64,
    },
    /// The workflow created a callback.
    CallbackCreated {
        /// Its name.
        name: String,
        /// When it expires.
        expires: Option<String>,
        /// The base of its URL; its token is never shown.
        base_url: String,
        /// Which key signed its token.
        key_id: u32,
    },
    /// A callback was completed (`output`) or rejected (`failure`) from outside.
    CallbackSettled {
        /// The callback.
        op: u64,
        /// What it was completed with.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Value>)]
        output: Option<Box<RawValue>>,
        /// What it was rejected with.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// The digest of what was posted, in hex.
        digest: String,
    },
    /// Nobody called back in time.
    CallbackExpired {
        /// The callback.
        op: u64,
    },
    /// The workflow asked for the next signal of a name.
    SignalAwaited {
        /// The signal's name.
        name: String,
    },
    /// A signal arrived.
    SignalReceived {
        /// Its name.
        name: String,
        /// Its payload.
        #[schema(value_type = Value)]
        payload: Box<RawValue>,
        /// The sender's idempotency key.
        message_id: Option<String>,
    },
    /// The workflow cancelled an operation.
    OperationCancelled {
        /// Which.
        op: u64,
    },
    /// The workflow set its custom status.
    StatusSet {
        /// The status.
        #[schema(value_type = Value)]
        status: Box<RawValue>,
    },
    /// The run first reached a place under code that has this change.
    ChangePatched {
        /// The change's id.
        change: String,
    },
    /// The instance was asked to cancel.
    CancelRequested {
        /// Why.
        reason: String,
    },
    /// The last event: the workflow returned.
    InstanceCompleted {
        /// What it returned.
        #[schema(value_type = Value)]
        output: Box<RawValue>,
    },
    /// The last event: the workflow returned a failure.
    InstanceFailed {
        /// The failure.
        failure: Failure,
    },
    /// The last event: the workflow ended because it was asked to.
    InstanceCancelled {
        /// The failure.
        failure: Failure,
    },
    /// The last event: the instance was terminated.
    InstanceTerminated {
        /// Why.
        reason: String,
    },
    /// The last event: the host stopped the instance, which had reached a limit or trapped.
    InstanceStopped {
        /// Which limit, or which trap.
        failure: Failure,
    },
    /// The workflow started a child workflow.
    ChildStarted {
        /// Its instance id.
        instance: String,
        /// Its workflow.
        workflow: String,
        /// Its version; none: the newest.
        version: Option<String>,
        /// Its input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
        /// `terminate`, `request-cancel` or `abandon`: what becomes of it without its parent.
        parent_close: String,
        /// How it is started again if it fails; none: not at all.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry: Option<RetryPolicy>,
    },
    /// An attempt of a child failed, another follows.
    ChildAttemptFailed {
        /// The child.
        op: u64,
        /// The attempt.
        attempt: u32,
        /// Why it failed.
        failure: Failure,
        /// When the next attempt may start.
        next_attempt: String,
    },
    /// The workflow started an instance that belongs to nobody.
    StartSent {
        /// Its instance id.
        instance: String,
        /// Its workflow.
        workflow: String,
        /// Its version; none: the newest.
        version: Option<String>,
        /// Its input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
    },
    /// The workflow sent a signal to another instance.
    SignalSent {
        /// To which.
        instance: String,
        /// The signal's name.
        name: String,
        /// Its payload.
        #[schema(value_type = Value)]
        payload: Box<RawValue>,
    },
    /// The workflow asked another instance to cancel.
    CancelSent {
        /// Which.
        instance: String,
        /// Why.
        reason: String,
    },
    /// The workflow called an entity.
    EntityCalled {
        /// Which, as `@name@key`.
        entity: String,
        /// The operation.
        operation: String,
        /// Its input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
    },
    /// The workflow signalled an entity.
    EntitySignalled {
        /// Which, as `@name@key`.
        entity: String,
        /// The operation.
        operation: String,
        /// Its input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
    },
    /// The workflow asked for a lock over entities.
    LockRequested {
        /// Over which, in the order in which they are asked.
        entities: Vec<String>,
    },
    /// One of the entities granted the lock.
    LockGranted {
        /// The lock.
        op: u64,
        /// How many have still to grant it; 0: it is held.
        left: u32,
    },
    /// The workflow gave the lock back.
    LockReleased {
        /// The lock.
        op: u64,
    },
    /// A child, another instance or an entity answered.
    ReplyReceived {
        /// What it answers.
        op: u64,
        /// What it gave.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Value>)]
        output: Option<Box<RawValue>>,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// The instance was suspended.
    InstanceSuspended {
        /// Why.
        reason: String,
    },
    /// The instance was resumed.
    InstanceResumed {
        /// Why.
        reason: String,
    },
    /// The last event of the run: the workflow goes on in the next one.
    InstanceContinued {
        /// The next run's input.
        #[schema(value_type = Value)]
        input: Box<RawValue>,
        /// With the newest version, or else with its own.
        newest_version: bool,
    },
    /// Stands, after a rewind, for an event that does not count any more.
    EventLeftOut {
        /// The type of that event.
        was: String,
    },
}

/// Limits of one activity; what is not there has no limit of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActivityOptions {
    /// The longest an attempt may wait for a free worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<f64>,
    /// The longest one attempt may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_to_close_ms: Option<f64>,
    /// The longest the activity may take with all attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule_to_close_ms: Option<f64>,
    /// The longest silence between two heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<f64>,
    /// How it is retried; none: one attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// The queue; none: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// How an activity is retried.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetryPolicy {
    /// The delay before the second attempt.
    pub initial_interval_ms: f64,
    /// Growth of the delay in thousandths.
    pub backoff_permille: u32,
    /// The longest delay.
    pub maximum_interval_ms: f64,
    /// Attempts in all, the first counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_attempts: Option<u32>,
    /// No attempt starts later than this after the activity was scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<f64>,
    /// Random share of the delay in thousandths.
    pub jitter_permille: u32,
    /// Failure codes that end the activity at once.
    pub non_retryable: Vec<String>,
}

/// A piece of a history.
#[derive(Debug, Serialize, ToSchema)]
pub struct History {
    /// The run it belongs to.
    pub run: u32,
    /// The events, in order; may be fewer than asked for while there are more.
    pub events: Vec<Event>,
    /// The last event there is: read on from the one after the last you got until you have it.
    pub last: u64,
    /// Whether the run has ended.
    pub closed: bool,
}

impl From<&core::Event> for Event {
    fn from(event: &core::Event) -> Self {
        Event { id: event.id.0, time: show::time(event.time), cause: event.cause.0, body: Body::from(&event.body) }
    }
}

impl From<&EventBody> for Body {
    /// One flat match, long but without a fallback: a new event does not compile until it is spelled out here.
    fn from(body: &EventBody) -> Self {
        use EventBody as E;
        match body {
            E::InstanceStarted { instance, workflow, version, digest, input, lineage, seed: _ } => {
                Body::InstanceStarted {
                    instance: show::text(instance),
                    workflow: workflow.clone(),
                    version: version.clone(),
                    digest: digest.to_string(),
                    input: show::json(input),
                    parent: lineage
                        .as_ref()
                        .and_then(|it| it.parent.as_ref())
                        .map(|parent| show::text(&parent.instance)),
                    rewound_from: lineage.as_ref().and_then(|it| it.rewound_from).map(|run| run.0),
                }
            }
            E::ActivityScheduled { name, input, options } => Body::ActivityScheduled {
                name: show::text(name),
                input: show::json(input),
                options: Box::new(options.into()),
            },
            E::ActivityAttemptFailed { op, attempt, started, failure, next_attempt } => Body::ActivityAttemptFailed {
                op: op.0,
                attempt: attempt.0,
                started: show::time(*started),
                failure: failure.into(),
                next_attempt: show::time(*next_attempt),
            },
            E::ActivityCompleted { op, attempt, started, output } => Body::ActivityCompleted {
                op: op.0,
                attempt: attempt.0,
                started: show::time(*started),
                output: show::json(output),
            },
            E::ActivityFailed { op, attempt, started, failure } => Body::ActivityFailed {
                op: op.0,
                attempt: attempt.0,
                started: started.map(show::time),
                failure: failure.into(),
            },
            E::TimerStarted { deadline } => Body::TimerStarted { deadline: show::time(*deadline) },
            E::TimerFired { op } => Body::TimerFired { op: op.0 },
            E::CallbackCreated { name, expires, base_url, key_id } => Body::CallbackCreated {
                name: show::text(name),
                expires: expires.map(show::time),
                base_url: base_url.clone(),
                key_id: *key_id,
            },
            E::CallbackSettled { op, outcome, digest } => Body::CallbackSettled {
                op: op.0,
                output: outcome.as_deref().ok().map(show::json),
                failure: outcome.as_ref().err().map(Failure::from),
                digest: digest.to_string(),
            },
            E::CallbackExpired { op } => Body::CallbackExpired { op: op.0 },
            E::SignalAwaited { name } => Body::SignalAwaited { name: show::text(name) },
            E::SignalReceived { name, payload, message_id } => Body::SignalReceived {
                name: show::text(name),
                payload: show::json(payload),
                message_id: message_id.as_deref().map(show::text),
            },
            E::OperationCancelled { op } => Body::OperationCancelled { op: op.0 },
            E::StatusSet { status } => Body::StatusSet { status: show::json(status) },
            E::ChangePatched { change } => Body::ChangePatched { change: show::text(change) },
            E::CancelRequested { reason } => Body::CancelRequested { reason: show::text(reason) },
            E::InstanceCompleted { output } => Body::InstanceCompleted { output: show::json(output) },
            E::InstanceFailed { failure } => Body::InstanceFailed { failure: failure.into() },
            E::InstanceCancelled { failure } => Body::InstanceCancelled { failure: failure.into() },
            E::InstanceTerminated { reason } => Body::InstanceTerminated { reason: show::text(reason) },
            E::InstanceStopped { failure } => Body::InstanceStopped { failure: failure.into() },
            E::ChildStarted { id, workflow, input, options } => Body::ChildStarted {
                instance: show::text(id),
                workflow: show::text(workflow),
                version: options.version.as_deref().map(show::text),
                input: show::json(input),
                parent_close: parent_close(options.parent_close).to_owned(),
                retry: options.retry.as_ref().map(RetryPolicy::from),
            },
            E::ChildAttemptFailed { op, attempt, failure, next_attempt } => Body::ChildAttemptFailed {
                op: op.0,
                attempt: attempt.0,
                failure: failure.into(),
                next_attempt: show::time(*next_attempt),
            },
            E::StartSent { id, workflow, version, input } => Body::StartSent {
                instance: show::text(id),
                workflow: show::text(workflow),
                version: version.as_deref().map(show::text),
                input: show::json(input),
            },
            E::SignalSent { instance, name, payload } => Body::SignalSent {
                instance: show::text(instance),
                name: show::text(name),
                payload: show::json(payload),
            },
            E::CancelSent { instance, reason } => {
                Body::CancelSent { instance: show::text(instance), reason: show::text(reason) }
            }
            E::EntityCalled { entity, operation, input } => Body::EntityCalled {
                entity: show::text(&entity.to_string()),
                operation: show::text(operation),
                input: show::json(input),
            },
            E::EntitySignalled { entity, operation, input } => Body::EntitySignalled {
                entity: show::text(&entity.to_string()),
                operation: show::text(operation),
                input: show::json(input),
            },
            E::LockRequested { entities } => {
                Body::LockRequested { entities: entities.iter().map(|it| show::text(&it.to_string())).collect() }
            }
            E::LockGranted { op, left } => Body::LockGranted { op: op.0, left: *left },
            E::LockReleased { op } => Body::LockReleased { op: op.0 },
            E::ReplyReceived { op, outcome } => Body::ReplyReceived {
                op: op.0,
                output: outcome.as_deref().ok().map(show::json),
                failure: outcome.as_ref().err().map(Failure::from),
            },
            E::InstanceSuspended { reason } => Body::InstanceSuspended { reason: show::text(reason) },
            E::InstanceResumed { reason } => Body::InstanceResumed { reason: show::text(reason) },
            E::InstanceContinued { input, newest } => {
                Body::InstanceContinued { input: show::json(input), newest_version: *newest }
            }
            E::EventLeftOut { was } => Body::EventLeftOut { was: was.clone() },
        }
    }
}

fn parent_close(policy: core::ParentClose) -> &'static str {
    match policy {
        core::ParentClose::Terminate => "terminate",
        core::ParentClose::RequestCancel => "request-cancel",
        core::ParentClose::Abandon => "abandon",
    }
}

impl From<&core::ActivityOptions> for ActivityOptions {
    fn from(options: &core::ActivityOptions) -> Self {
        ActivityOptions {
            schedule_to_start_ms: options.schedule_to_start.map(show::millis),
            start_to_close_ms: options.start_to_close.map(show::millis),
            schedule_to_close_ms: options.schedule_to_close.map(show::millis),
            heartbeat_ms: options.heartbeat.map(show::millis),
            retry: options.retry.as_ref().map(RetryPolicy::from),
            queue: options.queue.clone(),
        }
    }
}

impl From<&core::RetryPolicy> for RetryPolicy {
    fn from(policy: &core::RetryPolicy) -> Self {
        RetryPolicy {
            initial_interval_ms: show::millis(policy.initial_interval),
            backoff_permille: policy.backoff_permille,
            maximum_interval_ms: show::millis(policy.maximum_interval),
            maximum_attempts: policy.maximum_attempts,
            total_timeout_ms: policy.total_timeout.map(show::millis),
            jitter_permille: policy.jitter_permille,
            non_retryable: policy.non_retryable.iter().map(|code| show::text(code)).collect(),
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
