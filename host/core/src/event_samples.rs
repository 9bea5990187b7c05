//! Samples of every event, for the tests of the format.

use super::super::*;
use crate::child::ParentClose;
use crate::failure::FailureKind;
use crate::message::ReplyTo;
use crate::retry::RetryPolicy;
use crate::time::Nanos;

pub fn failure() -> Failure {
    Failure {
        kind: FailureKind::TimedOut,
        code: "http.status-503".to_owned(),
        message: "späte Antwort".to_owned(),
        details: Some("{\"try\":1}".to_owned()),
        retryable: true,
        retry_after: Some(Nanos::from_secs(30)),
    }
}

pub fn options() -> ActivityOptions {
    ActivityOptions {
        schedule_to_start: Some(Nanos(1)),
        start_to_close: Some(Nanos::from_secs(60)),
        schedule_to_close: None,
        heartbeat: Some(Nanos::from_millis(1500)),
        retry: Some(RetryPolicy {
            initial_interval: Nanos::from_secs(1),
            backoff_permille: 2000,
            maximum_interval: Nanos::from_secs(100),
            maximum_attempts: Some(5),
            total_timeout: None,
            jitter_permille: 100,
            non_retryable: vec!["card-declined".to_owned(), String::new()],
        }),
        queue: Some("gpu".to_owned()),
    }
}

/// At least one event of every variant; of those with options inside, one with and one without.
pub fn samples() -> Vec<Event> {
    let event = |(number, body): (u64, EventBody)| {
        let cause = if body.is_command() { EventId(number / 2) } else { EventId::NONE };
        Event { id: EventId(number), time: Timestamp(1_000 * i64::try_from(number).unwrap()), cause, body }
    };
    (1..).zip(bodies_of_format_1().into_iter().chain(bodies_since_format_2())).map(event).collect()
}

/// What format 1 could say, in the order of its stored bytes.
fn bodies_of_format_1() -> Vec<EventBody> {
    let op = EventId(300);
    let attempt = AttemptNumber(2);
    let started = Timestamp(1_700_000_000_000_000_000);
    let text = |s: &str| s.to_owned();
    vec![
        EventBody::InstanceStarted {
            instance: text("order-7"),
            workflow: text("orders"),
            version: text("1.2.0"),
            digest: Digest([0xab; 32]),
            input: text("{\"n\":1}"),
            seed: u64::MAX,
            lineage: None,
        },
        EventBody::ActivityScheduled { name: text("charge"), input: text("[1]"), options: options() },
        EventBody::ActivityScheduled { name: text("charge"), input: text(""), options: ActivityOptions::default() },
        EventBody::ActivityAttemptFailed { op, attempt, started, failure: failure(), next_attempt: Timestamp::MAX },
        EventBody::ActivityCompleted { op, attempt, started, output: text("{}") },
        EventBody::ActivityFailed { op, attempt, started: Some(started), failure: failure() },
        EventBody::ActivityFailed { op, attempt, started: None, failure: Failure::cancelled("no") },
        EventBody::TimerStarted { deadline: Timestamp(-1) },
        EventBody::TimerFired { op },
        EventBody::CallbackCreated {
            name: text("paid"),
            expires: Some(started),
            base_url: text("https://a.example"),
            key_id: 3,
        },
        EventBody::CallbackCreated { name: text("paid"), expires: None, base_url: text(""), key_id: 0 },
        EventBody::CallbackSettled { op, outcome: Ok(text("true")), digest: Digest([1; 32]) },
        EventBody::CallbackSettled { op, outcome: Err(failure()), digest: Digest([2; 32]) },
        EventBody::CallbackExpired { op },
        EventBody::SignalAwaited { name: text("approve") },
        EventBody::SignalReceived { name: text("approve"), payload: text("1"), message_id: Some(text("m-1")) },
        EventBody::SignalReceived { name: text("approve"), payload: text("1"), message_id: None },
        EventBody::OperationCancelled { op },
        EventBody::StatusSet { status: text("\"halfway\"") },
        EventBody::ChangePatched { change: text("new-tax") },
        EventBody::CancelRequested { reason: text("changed my mind") },
        EventBody::InstanceCompleted { output: text("null") },
        EventBody::InstanceFailed { failure: failure() },
        EventBody::InstanceCancelled { failure: Failure::cancelled("asked to") },
        EventBody::InstanceTerminated { reason: text("stuck") },
        EventBody::InstanceStopped { failure: Failure::new(FailureKind::Rejected, "limit.turn-bytes", "too much") },
    ]
}

/// The number of the first sample that format 1 did not have.
pub fn samples_of_format_1() -> usize {
    bodies_of_format_1().len()
}

fn bodies_since_format_2() -> Vec<EventBody> {
    let mut bodies = starts_and_children();
    bodies.extend(messages_and_locks());
    bodies.extend(ends_and_stops());
    bodies
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn entity(key: &str) -> EntityId {
    EntityId::new("counter", key).unwrap()
}

const OP: EventId = EventId(300);

fn starts_and_children() -> Vec<EventBody> {
    let parent = Parent { instance: text("order-7"), run: RunNumber(3), reply_to: ReplyTo { op: OP, part: 2 } };
    let lineage = Lineage {
        parent: Some(parent),
        depth: 4,
        rewound_from: Some(RunNumber(1)),
        message_ids: vec![text("m-1"), String::new()],
    };
    let started = |lineage: Lineage| EventBody::InstanceStarted {
        instance: text("parcel-7"),
        workflow: text("parcels"),
        version: text("2"),
        digest: Digest([0xcd; 32]),
        input: text("null"),
        seed: 1,
        lineage: Some(Box::new(lineage)),
    };
    let child = |options: ChildOptions| EventBody::ChildStarted {
        id: text("parcel-7"),
        workflow: text("parcels"),
        input: text("[1]"),
        options,
    };
    let options =
        ChildOptions { version: Some(text("2")), parent_close: ParentClose::RequestCancel, retry: options().retry };
    vec![
        started(lineage),
        started(Lineage::default()),
        child(options),
        child(ChildOptions { parent_close: ParentClose::Abandon, ..ChildOptions::default() }),
        child(ChildOptions::default()),
        EventBody::ChildAttemptFailed {
            op: OP,
            attempt: AttemptNumber(2),
            failure: failure(),
            next_attempt: Timestamp::MAX,
        },
        EventBody::StartSent {
            id: text("later"),
            workflow: text("reports"),
            version: Some(text("1")),
            input: text("{}"),
        },
        EventBody::StartSent { id: text("later"), workflow: text("reports"), version: None, input: text("") },
    ]
}

fn messages_and_locks() -> Vec<EventBody> {
    let operation = || (entity("a"), text("add"), text("1"));
    let ((entity_called, called, with), (entity_told, told, that)) = (operation(), operation());
    vec![
        EventBody::SignalSent { instance: text("order-8"), name: text("go"), payload: text("1") },
        EventBody::CancelSent { instance: text("order-8"), reason: text("enough") },
        EventBody::EntityCalled { entity: entity_called, operation: called, input: with },
        EventBody::EntitySignalled { entity: entity_told, operation: told, input: that },
        EventBody::LockRequested { entities: vec![entity(""), entity("a")] },
        EventBody::LockGranted { op: OP, left: 1 },
        EventBody::LockReleased { op: OP },
        EventBody::ReplyReceived { op: OP, outcome: Ok(text("[2]")) },
        EventBody::ReplyReceived { op: OP, outcome: Err(failure()) },
    ]
}

fn ends_and_stops() -> Vec<EventBody> {
    vec![
        EventBody::InstanceSuspended { reason: text("repair") },
        EventBody::InstanceResumed { reason: text("repaired") },
        EventBody::InstanceContinued { input: text("{\"n\":2}"), newest: true },
        EventBody::InstanceContinued { input: text("0"), newest: false },
        EventBody::EventLeftOut { was: text("ActivityFailed") },
    ]
}

/// Place of each variant in the format. The match has no `_`: a new variant must be added here, to the
/// samples and to [`VARIANTS`].
pub fn tag(body: &EventBody) -> u8 {
    match body {
        EventBody::InstanceStarted { .. } => 0,
        EventBody::ActivityScheduled { .. } => 1,
        EventBody::ActivityAttemptFailed { .. } => 2,
        EventBody::ActivityCompleted { .. } => 3,
        EventBody::ActivityFailed { .. } => 4,
        EventBody::TimerStarted { .. } => 5,
        EventBody::TimerFired { .. } => 6,
        EventBody::CallbackCreated { .. } => 7,
        EventBody::CallbackSettled { .. } => 8,
        EventBody::CallbackExpired { .. } => 9,
        EventBody::SignalAwaited { .. } => 10,
        EventBody::SignalReceived { .. } => 11,
        EventBody::OperationCancelled { .. } => 12,
        EventBody::StatusSet { .. } => 13,
        EventBody::ChangePatched { .. } => 14,
        EventBody::CancelRequested { .. } => 15,
        EventBody::InstanceCompleted { .. } => 16,
        EventBody::InstanceFailed { .. } => 17,
        EventBody::InstanceCancelled { .. } => 18,
        EventBody::InstanceTerminated { .. } => 19,
        EventBody::InstanceStopped { .. } => 20,
        EventBody::ChildStarted { .. } => 21,
        EventBody::ChildAttemptFailed { .. } => 22,
        EventBody::StartSent { .. } => 23,
        EventBody::SignalSent { .. } => 24,
        EventBody::CancelSent { .. } => 25,
        EventBody::EntityCalled { .. } => 26,
        EventBody::EntitySignalled { .. } => 27,
        EventBody::LockRequested { .. } => 28,
        EventBody::LockGranted { .. } => 29,
        EventBody::LockReleased { .. } => 30,
        EventBody::ReplyReceived { .. } => 31,
        EventBody::InstanceSuspended { .. } => 32,
        EventBody::InstanceResumed { .. } => 33,
        EventBody::InstanceContinued { .. } => 34,
        EventBody::EventLeftOut { .. } => 35,
    }
}

pub const VARIANTS: u8 = 36;
