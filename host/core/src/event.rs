//! Events: what happened, in the past tense, and their bytes.
//!
//! An event is either a *command* that the guest issued (a fact since it was recorded) or *inbound*:
//! something that happened outside and was applied while the guest waited. The bytes are a version byte
//! and postcard; the order of the variants and of their fields is the format. New variants go to the end; a
//! new field in a variant needs a new format byte, as old bytes would not have it. The id is not in the
//! bytes: it is the event's place in the store.

use crate::child::ChildOptions;
use crate::entity::EntityId;
use crate::failure::{Failure, Json, Outcome};
use crate::ids::{AttemptNumber, Digest, EventId, RunNumber};
use crate::message::Parent;
use crate::retry::ActivityOptions;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the event format that this build writes.
pub const EVENT_FORMAT: u8 = 2;

/// The format before, whose first event said nothing of where its run comes from.
const FORMAT_WITHOUT_LINEAGE: u8 = 1;

/// One event of a run's history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// Its place, gapless from 1.
    pub id: EventId,
    /// When it was recorded; never before the event in front of it, except that what a rewind runs again counts as
    /// recorded then.
    pub time: Timestamp,
    /// For a command: the last inbound event the guest had seen when it issued it. Zero for inbound ones.
    pub cause: EventId,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// Where a run comes from, if it was not simply started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// Whose child it is.
    pub parent: Option<Parent>,
    /// How many instances stand above it.
    pub depth: u32,
    /// The run whose history it was made of, by a rewind: what the workflow was told of its run and of the URLs of its
    /// callbacks still holds.
    pub rewound_from: Option<RunNumber>,
    /// Idempotency keys of signals that earlier runs have taken, the latest ones.
    pub message_ids: Vec<String>,
}

/// What happened. `op` is the id of the event that began the operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EventBody {
    /// Inbound, always the first: the run began.
    InstanceStarted {
        /// The instance's id.
        instance: String,
        /// The deployment's name.
        workflow: String,
        /// The deployment's version.
        version: String,
        /// The component that runs it.
        digest: Digest,
        /// The workflow's input.
        input: Json,
        /// The seed of all random numbers of the run.
        seed: u64,
        /// Where the run comes from; none: from an ordinary start.
        lineage: Option<Box<Lineage>>,
    },
    /// Command: an activity was scheduled; its first attempt may start.
    ActivityScheduled {
        /// The activity's name.
        name: String,
        /// Its input.
        input: Json,
        /// Its limits.
        options: ActivityOptions,
    },
    /// Inbound: an attempt failed, another follows.
    ActivityAttemptFailed {
        /// The activity.
        op: EventId,
        /// The attempt that failed.
        attempt: AttemptNumber,
        /// When that attempt started.
        started: Timestamp,
        /// Why it failed.
        failure: Failure,
        /// When the next attempt may start.
        next_attempt: Timestamp,
    },
    /// Inbound: an attempt succeeded, and the activity with it.
    ActivityCompleted {
        /// The activity.
        op: EventId,
        /// The attempt that succeeded.
        attempt: AttemptNumber,
        /// When that attempt started.
        started: Timestamp,
        /// What it gave.
        output: Json,
    },
    /// Inbound: the activity failed for good.
    ActivityFailed {
        /// The activity.
        op: EventId,
        /// The last attempt.
        attempt: AttemptNumber,
        /// When that attempt started; none if it never did.
        started: Option<Timestamp>,
        /// Why.
        failure: Failure,
    },
    /// Command: a timer was started.
    TimerStarted {
        /// It fires not before this.
        deadline: Timestamp,
    },
    /// Inbound: a timer fired.
    TimerFired {
        /// The timer.
        op: EventId,
    },
    /// Command: a callback was created.
    CallbackCreated {
        /// Its name, for people.
        name: String,
        /// When it expires.
        expires: Option<Timestamp>,
        /// The public base URL at that time: part of its URL for ever.
        base_url: String,
        /// Which key signed its token.
        key_id: u32,
    },
    /// Inbound: a callback was completed or rejected from outside.
    CallbackSettled {
        /// The callback.
        op: EventId,
        /// With what.
        outcome: Result<Json, Failure>,
        /// The digest of what was posted, to tell a repetition from a contradiction.
        digest: Digest,
    },
    /// Inbound: nobody called back in time.
    CallbackExpired {
        /// The callback.
        op: EventId,
    },
    /// Command: the guest asked for the next signal of a name.
    SignalAwaited {
        /// The signal's name.
        name: String,
    },
    /// Inbound: a signal arrived.
    SignalReceived {
        /// Its name.
        name: String,
        /// Its payload.
        payload: Json,
        /// The sender's idempotency key.
        message_id: Option<String>,
    },
    /// Command: the guest cancelled an operation.
    OperationCancelled {
        /// Which.
        op: EventId,
    },
    /// Command: the guest set the custom status.
    StatusSet {
        /// The status.
        status: Json,
    },
    /// Command: the run first reached a place under code that has this change.
    ChangePatched {
        /// The change's id.
        change: String,
    },
    /// Inbound: the instance was asked to cancel.
    CancelRequested {
        /// Why.
        reason: String,
    },
    /// Command, the last: the workflow returned.
    InstanceCompleted {
        /// What it returned.
        output: Json,
    },
    /// Command, the last: the workflow returned a failure.
    InstanceFailed {
        /// The failure.
        failure: Failure,
    },
    /// Command, the last: the workflow returned a failure of kind `cancelled` after it was asked to cancel.
    InstanceCancelled {
        /// The failure.
        failure: Failure,
    },
    /// Inbound, the last: the instance was terminated.
    InstanceTerminated {
        /// Why.
        reason: String,
    },
    /// Inbound, the last: the host stopped the instance, which had reached a limit or trapped.
    InstanceStopped {
        /// Which limit, or which trap.
        failure: Failure,
    },
    /// Command: a child workflow was started.
    ChildStarted {
        /// Its instance id.
        id: String,
        /// Its workflow.
        workflow: String,
        /// Its input.
        input: Json,
        /// Its options.
        options: ChildOptions,
    },
    /// Inbound: an attempt of a child failed, another follows.
    ChildAttemptFailed {
        /// The child.
        op: EventId,
        /// The attempt that failed.
        attempt: AttemptNumber,
        /// Why it failed.
        failure: Failure,
        /// When the next attempt may start.
        next_attempt: Timestamp,
    },
    /// Command: an instance was started that belongs to nobody.
    StartSent {
        /// Its instance id.
        id: String,
        /// Its workflow.
        workflow: String,
        /// Its version; none: the newest.
        version: Option<String>,
        /// Its input.
        input: Json,
    },
    /// Command: a signal was sent to another instance.
    SignalSent {
        /// To which.
        instance: String,
        /// Its name.
        name: String,
        /// Its payload.
        payload: Json,
    },
    /// Command: another instance was asked to cancel.
    CancelSent {
        /// Which.
        instance: String,
        /// Why.
        reason: String,
    },
    /// Command: an entity was asked to do something.
    EntityCalled {
        /// Which.
        entity: EntityId,
        /// What.
        operation: String,
        /// With what.
        input: Json,
    },
    /// Command: an entity was told to do something.
    EntitySignalled {
        /// Which.
        entity: EntityId,
        /// What.
        operation: String,
        /// With what.
        input: Json,
    },
    /// Command: a lock over entities was asked for.
    LockRequested {
        /// Over which, in order of their ids.
        entities: Vec<EntityId>,
    },
    /// Inbound: one of the entities granted the lock.
    LockGranted {
        /// The lock.
        op: EventId,
        /// How many have still to grant it; zero: it is held.
        left: u32,
    },
    /// Command: the lock was given back.
    LockReleased {
        /// The lock.
        op: EventId,
    },
    /// Inbound: the answer to a child, a start, a signal, a request to cancel, a call or a lock.
    ReplyReceived {
        /// What it answers.
        op: EventId,
        /// The answer.
        outcome: Outcome,
    },
    /// Inbound: the instance was suspended: what comes in is recorded, and the workflow does not run.
    InstanceSuspended {
        /// Why.
        reason: String,
    },
    /// Inbound: the workflow runs again.
    InstanceResumed {
        /// Why.
        reason: String,
    },
    /// Command, the last: the workflow goes on in a new run.
    InstanceContinued {
        /// The new run's input.
        input: Json,
        /// With the newest version, or else with its own.
        newest: bool,
    },
    /// Inbound: stands, in a run that was made by a rewind, for an event that does not count any more.
    EventLeftOut {
        /// The name of that event.
        was: String,
    },
}

impl EventBody {
    /// Whether the guest issued it (as opposed to: it came from outside).
    pub fn is_command(&self) -> bool {
        matches!(
            self,
            EventBody::ActivityScheduled { .. }
                | EventBody::TimerStarted { .. }
                | EventBody::CallbackCreated { .. }
                | EventBody::SignalAwaited { .. }
                | EventBody::OperationCancelled { .. }
                | EventBody::StatusSet { .. }
                | EventBody::ChangePatched { .. }
                | EventBody::InstanceCompleted { .. }
                | EventBody::InstanceFailed { .. }
                | EventBody::InstanceCancelled { .. }
                | EventBody::ChildStarted { .. }
                | EventBody::StartSent { .. }
                | EventBody::SignalSent { .. }
                | EventBody::CancelSent { .. }
                | EventBody::EntityCalled { .. }
                | EventBody::EntitySignalled { .. }
                | EventBody::LockRequested { .. }
                | EventBody::LockReleased { .. }
                | EventBody::InstanceContinued { .. }
        )
    }

    /// Whether it is a command that begins an operation, which is known by this event's id.
    pub fn begins_operation(&self) -> bool {
        matches!(
            self,
            EventBody::ActivityScheduled { .. }
                | EventBody::TimerStarted { .. }
                | EventBody::CallbackCreated { .. }
                | EventBody::SignalAwaited { .. }
                | EventBody::ChildStarted { .. }
                | EventBody::StartSent { .. }
                | EventBody::SignalSent { .. }
                | EventBody::CancelSent { .. }
                | EventBody::EntityCalled { .. }
                | EventBody::LockRequested { .. }
        )
    }

    /// Whether nothing can follow it.
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            EventBody::InstanceCompleted { .. }
                | EventBody::InstanceFailed { .. }
                | EventBody::InstanceCancelled { .. }
                | EventBody::InstanceTerminated { .. }
                | EventBody::InstanceStopped { .. }
                | EventBody::InstanceContinued { .. }
        )
    }

    /// How the run ended; none if something can follow this event.
    pub fn result(self) -> Option<Outcome> {
        match self {
            EventBody::InstanceCompleted { output } => Some(Ok(output)),
            EventBody::InstanceFailed { failure }
            | EventBody::InstanceCancelled { failure }
            | EventBody::InstanceStopped { failure } => Some(Err(failure)),
            EventBody::InstanceTerminated { reason } => Some(Err(Failure::terminated(&reason))),
            _ => None,
        }
    }

    /// The variant's name, as in the HTTP API.
    pub fn name(&self) -> &'static str {
        match self {
            EventBody::InstanceStarted { .. } => "InstanceStarted",
            EventBody::ActivityScheduled { .. } => "ActivityScheduled",
            EventBody::ActivityAttemptFailed { .. } => "ActivityAttemptFailed",
            EventBody::ActivityCompleted { .. } => "ActivityCompleted",
            EventBody::ActivityFailed { .. } => "ActivityFailed",
            EventBody::TimerStarted { .. } => "TimerStarted",
            EventBody::TimerFired { .. } => "TimerFired",
            EventBody::CallbackCreated { .. } => "CallbackCreated",
            EventBody::CallbackSettled { .. } => "CallbackSettled",
            EventBody::CallbackExpired { .. } => "CallbackExpired",
            EventBody::SignalAwaited { .. } => "SignalAwaited",
            EventBody::SignalReceived { .. } => "SignalReceived",
            EventBody::OperationCancelled { .. } => "OperationCancelled",
            EventBody::StatusSet { .. } => "StatusSet",
            EventBody::ChangePatched { .. } => "ChangePatched",
            EventBody::CancelRequested { .. } => "CancelRequested",
            EventBody::InstanceCompleted { .. } => "InstanceCompleted",
            EventBody::InstanceFailed { .. } => "InstanceFailed",
            EventBody::InstanceCancelled { .. } => "InstanceCancelled",
            EventBody::InstanceTerminated { .. } => "InstanceTerminated",
            EventBody::InstanceStopped { .. } => "InstanceStopped",
            EventBody::ChildStarted { .. } => "ChildStarted",
            EventBody::ChildAttemptFailed { .. } => "ChildAttemptFailed",
            EventBody::StartSent { .. } => "StartSent",
            EventBody::SignalSent { .. } => "SignalSent",
            EventBody::CancelSent { .. } => "CancelSent",
            EventBody::EntityCalled { .. } => "EntityCalled",
            EventBody::EntitySignalled { .. } => "EntitySignalled",
            EventBody::LockRequested { .. } => "LockRequested",
            EventBody::LockGranted { .. } => "LockGranted",
            EventBody::LockReleased { .. } => "LockReleased",
            EventBody::ReplyReceived { .. } => "ReplyReceived",
            EventBody::InstanceSuspended { .. } => "InstanceSuspended",
            EventBody::InstanceResumed { .. } => "InstanceResumed",
            EventBody::InstanceContinued { .. } => "InstanceContinued",
            EventBody::EventLeftOut { .. } => "EventLeftOut",
        }
    }

    /// One line that tells it from others, for the diff of a divergence.
    pub fn describe(&self) -> String {
        let name = self.name();
        match self {
            EventBody::ActivityScheduled { name: activity, input, options } => {
                format!("{name} `{activity}` with input {} and {options}", shortened(input))
            }
            EventBody::TimerStarted { deadline } => format!("{name} with deadline {} ns", deadline.0),
            EventBody::CallbackCreated { name: callback, expires: Some(at), .. } => {
                format!("{name} `{callback}` expiring at {} ns", at.0)
            }
            EventBody::CallbackCreated { name: callback, .. } => format!("{name} `{callback}` that never expires"),
            EventBody::SignalAwaited { name: signal } => format!("{name} `{signal}`"),
            EventBody::OperationCancelled { op } | EventBody::LockReleased { op } => format!("{name} of event {op}"),
            EventBody::ChildStarted { id, workflow, input, options } => {
                format!("{name} `{id}` of workflow `{workflow}` with input {} and {options:?}", shortened(input))
            }
            EventBody::StartSent { id, workflow, version, input } => {
                let version = version.as_deref().unwrap_or("newest");
                format!("{name} `{id}` of workflow `{workflow}` ({version}) with input {}", shortened(input))
            }
            EventBody::SignalSent { instance, name: signal, payload } => {
                format!("{name} `{signal}` to `{instance}` with {}", shortened(payload))
            }
            EventBody::CancelSent { instance, reason } => format!("{name} to `{instance}`: {}", shortened(reason)),
            EventBody::EntityCalled { entity, operation, input }
            | EventBody::EntitySignalled { entity, operation, input } => {
                format!("{name} `{operation}` of `{entity}` with input {}", shortened(input))
            }
            EventBody::LockRequested { entities } => {
                let entities: Vec<String> = entities.iter().map(ToString::to_string).collect();
                format!("{name} over {}", shortened(&entities.join(", ")))
            }
            EventBody::InstanceContinued { input, newest } => {
                let version = if *newest { "the newest" } else { "its own" };
                format!("{name} with input {} and {version} version", shortened(input))
            }
            EventBody::StatusSet { status } => format!("{name} to {}", shortened(status)),
            EventBody::ChangePatched { change } => format!("{name} `{change}`"),
            EventBody::InstanceCompleted { output } => format!("{name} with output {}", shortened(output)),
            EventBody::InstanceFailed { failure } | EventBody::InstanceCancelled { failure } => {
                format!("{name}: {failure}")
            }
            _ => name.to_owned(),
        }
    }

    /// Roughly the bytes of its payloads: what the limits count.
    pub fn len_bytes(&self) -> usize {
        const OVERHEAD: usize = 16;
        let payload = match self {
            EventBody::ActivityScheduled { name, input, options } => name.len() + input.len() + options.len_bytes(),
            EventBody::CallbackCreated { name, base_url, .. } => name.len() + base_url.len(),
            EventBody::SignalAwaited { name } => name.len(),
            EventBody::ChangePatched { change } => change.len(),
            EventBody::SignalReceived { name, payload, .. } => name.len() + payload.len(),
            EventBody::StatusSet { status } => status.len(),
            EventBody::ChildStarted { id, workflow, input, options } => {
                id.len() + workflow.len() + input.len() + options.len_bytes()
            }
            EventBody::StartSent { id, workflow, version, input } => {
                id.len() + workflow.len() + input.len() + version.as_ref().map_or(0, String::len)
            }
            EventBody::SignalSent { instance, name, payload } => instance.len() + name.len() + payload.len(),
            EventBody::CancelSent { instance, reason } => instance.len() + reason.len(),
            EventBody::EntityCalled { entity, operation, input }
            | EventBody::EntitySignalled { entity, operation, input } => {
                entity.name.len() + entity.key.len() + operation.len() + input.len()
            }
            EventBody::LockRequested { entities } => entities.iter().map(|it| it.name.len() + it.key.len()).sum(),
            EventBody::InstanceContinued { input, .. } => input.len(),
            EventBody::InstanceCompleted { output } => output.len(),
            EventBody::InstanceFailed { failure } | EventBody::InstanceCancelled { failure } => failure.len_bytes(),
            _ => 0,
        };
        OVERHEAD + payload
    }
}

fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Why bytes are not an event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer build.
    #[error(
        "event {id} has format {found}, this build reads up to {EVENT_FORMAT}; start the newer build that wrote it"
    )]
    NewerFormat {
        /// Which event.
        id: EventId,
        /// Its version byte.
        found: u8,
    },
    /// Not the bytes of an event.
    #[error("event {id} can't be read: {reason}; the store is damaged, restore it from a backup")]
    Damaged {
        /// Which event.
        id: EventId,
        /// What the decoder said.
        reason: String,
    },
}

impl Event {
    /// The event's bytes, without its id.
    pub fn encode(&self) -> Vec<u8> {
        let start = vec![EVENT_FORMAT];
        postcard::to_extend(&(self.time, self.cause, &self.body), start)
            .expect("an event holds nothing that postcard can't write, and a Vec grows")
    }

    /// The event with that id from its bytes.
    pub fn decode(id: EventId, bytes: &[u8]) -> Result<Event, DecodeError> {
        let damaged = |reason: &str| DecodeError::Damaged { id, reason: reason.to_owned() };
        let (format, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
        match *format {
            EVENT_FORMAT => {}
            FORMAT_WITHOUT_LINEAGE => return decode_without_lineage(id, rest),
            newer if newer > EVENT_FORMAT => return Err(DecodeError::NewerFormat { id, found: newer }),
            _ => return Err(damaged("no build has written its format")),
        }
        let ((time, cause, body), left) = postcard::take_from_bytes(rest).map_err(|e| damaged(&e.to_string()))?;
        if !left.is_empty() {
            return Err(damaged("bytes are left over"));
        }
        Ok(Event { id, time, cause, body })
    }
}

/// An event of the format before: only the first event of a run, variant 0, has other fields.
fn decode_without_lineage(id: EventId, bytes: &[u8]) -> Result<Event, DecodeError> {
    type Started = (String, String, String, Digest, Json, u64);
    let damaged = |reason: String| DecodeError::Damaged { id, reason };
    let head = postcard::take_from_bytes::<(Timestamp, EventId, u32)>(bytes);
    let ((time, cause, variant), fields) = head.map_err(|e| damaged(e.to_string()))?;
    let (body, left) = if variant == 0 {
        let started = postcard::take_from_bytes::<Started>(fields);
        let ((instance, workflow, version, digest, input, seed), left) = started.map_err(|e| damaged(e.to_string()))?;
        (EventBody::InstanceStarted { instance, workflow, version, digest, input, seed, lineage: None }, left)
    } else {
        let ((_, _, body), left) =
            postcard::take_from_bytes::<(Timestamp, EventId, EventBody)>(bytes).map_err(|e| damaged(e.to_string()))?;
        (body, left)
    };
    if !left.is_empty() {
        return Err(damaged("bytes are left over".to_owned()));
    }
    Ok(Event { id, time, cause, body })
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
