//! A run's events as the clients know them.
//!
//! What began an operation is left out once it has ended; its end says when that was scheduled, and by which name.

use super::reply::{as_string, micros};
use crate::show;
use rehydrate_runtime::core::failure::Outcome;
use rehydrate_runtime::core::{Event, EventBody, EventId, Failure, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An event: its members by name, payloads exactly as they were given.
type Members = BTreeMap<&'static str, Box<RawValue>>;

/// A history as it is shown, which is cheap to show twice.
#[derive(Clone)]
pub struct Shown(Arc<[Members]>);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

/// What an operation was begun as.
struct Begun<'a> {
    at: Timestamp,
    body: &'a EventBody,
}

/// All events; with results and inputs only if they are wanted.
pub fn events(events: &[Event], with_results: bool, with_inputs: bool) -> Shown {
    let begun: BTreeMap<EventId, Begun<'_>> = events
        .iter()
        .filter(|event| event.body.begins_operation())
        .map(|event| (event.id, Begun { at: event.time, body: &event.body }))
        .collect();
    let ended: BTreeSet<EventId> = events.iter().filter_map(|event| ends(&event.body)).collect();
    let reader = Reader { begun, ended, with_results, with_inputs };
    Shown(events.iter().filter_map(|event| reader.event(event)).collect())
}

/// The operation that an event ends.
fn ends(body: &EventBody) -> Option<EventId> {
    match body {
        EventBody::ActivityCompleted { op, .. }
        | EventBody::ActivityFailed { op, .. }
        | EventBody::TimerFired { op }
        | EventBody::ReplyReceived { op, .. } => Some(*op),
        _ => None,
    }
}

struct Reader<'a> {
    begun: BTreeMap<EventId, Begun<'a>>,
    ended: BTreeSet<EventId>,
    with_results: bool,
    with_inputs: bool,
}

impl Reader<'_> {
    fn event(&self, event: &Event) -> Option<Members> {
        let mut members = Members::new();
        let kind = self.members(event, &mut members)?;
        put(&mut members, "EventType", kind);
        put(&mut members, "Timestamp", &micros(event.time));
        Some(members)
    }

    /// The event's type, and its members; none for one that the clients do not know, or that is left out.
    fn members(&self, event: &Event, to: &mut Members) -> Option<&'static str> {
        match &event.body {
            EventBody::InstanceStarted { workflow, input, .. } => {
                put(to, "FunctionName", workflow);
                self.input(to, input);
                Some("ExecutionStarted")
            }
            body if body.begins_operation() => self.begun(event, body, to),
            EventBody::ActivityCompleted { op, output, .. } => {
                self.origin(to, *op);
                self.result(to, output);
                Some("TaskCompleted")
            }
            EventBody::ActivityFailed { op, failure, .. } => {
                self.origin(to, *op);
                reason(to, failure);
                Some("TaskFailed")
            }
            EventBody::TimerFired { op } => {
                self.origin(to, *op);
                Some("TimerFired")
            }
            EventBody::ReplyReceived { op, outcome } => Some(self.reply(to, *op, outcome)),
            EventBody::SignalReceived { name, payload, .. } => {
                put(to, "Name", name);
                self.input(to, payload);
                Some("EventRaised")
            }
            EventBody::CallbackSettled { op, outcome, .. } => {
                if let Some(EventBody::CallbackCreated { name, .. }) = self.begun.get(op).map(|begun| begun.body) {
                    put(to, "Name", name);
                }
                match outcome {
                    Ok(payload) => self.input(to, payload),
                    Err(failure) => reason(to, failure),
                }
                Some("EventRaised")
            }
            EventBody::InstanceSuspended { reason } => {
                put(to, "Reason", reason);
                Some("ExecutionSuspended")
            }
            EventBody::InstanceResumed { reason } => {
                put(to, "Reason", reason);
                Some("ExecutionResumed")
            }
            EventBody::EntitySignalled { entity, operation, .. } => {
                put(to, "InstanceId", &entity.to_string());
                put(to, "Name", operation);
                Some("EventSent")
            }
            body => self.end(body, to),
        }
    }

    /// What has not ended yet.
    fn begun(&self, event: &Event, body: &EventBody, to: &mut Members) -> Option<&'static str> {
        if self.ended.contains(&event.id) {
            return None;
        }
        match body {
            EventBody::ActivityScheduled { name, .. } => {
                put(to, "Name", name);
                Some("TaskScheduled")
            }
            EventBody::TimerStarted { deadline } => {
                put(to, "FireAt", &micros(*deadline));
                Some("TimerCreated")
            }
            EventBody::ChildStarted { id, workflow, .. } => {
                put(to, "Name", workflow);
                put(to, "InstanceId", id);
                Some("SubOrchestrationInstanceCreated")
            }
            EventBody::EntityCalled { entity, operation, .. } => {
                put(to, "InstanceId", &entity.to_string());
                put(to, "Name", operation);
                Some("EventSent")
            }
            EventBody::SignalSent { instance, name, .. } => {
                put(to, "InstanceId", instance);
                put(to, "Name", name);
                Some("EventSent")
            }
            _ => None,
        }
    }

    fn end(&self, body: &EventBody, to: &mut Members) -> Option<&'static str> {
        let (status, failure) = match body {
            EventBody::InstanceCompleted { output } => {
                self.result(to, output);
                ("Completed", None)
            }
            EventBody::InstanceFailed { failure } | EventBody::InstanceStopped { failure } => ("Failed", Some(failure)),
            EventBody::InstanceCancelled { failure } => ("Canceled", Some(failure)),
            EventBody::InstanceTerminated { reason } => {
                put(to, "Input", reason);
                return Some("ExecutionTerminated");
            }
            EventBody::InstanceContinued { input, .. } => {
                self.result(to, input);
                put(to, "OrchestrationStatus", "ContinuedAsNew");
                return Some("ContinueAsNew");
            }
            _ => return None,
        };
        put(to, "OrchestrationStatus", status);
        if let Some(failure) = failure {
            put(to, "Result", &failure.message);
        }
        Some("ExecutionCompleted")
    }

    fn reply(&self, to: &mut Members, op: EventId, outcome: &Outcome) -> &'static str {
        self.origin(to, op);
        let is_child = matches!(self.begun.get(&op).map(|begun| begun.body), Some(EventBody::ChildStarted { .. }));
        match outcome {
            Ok(output) => self.result(to, output),
            Err(failure) => reason(to, failure),
        }
        match (is_child, outcome) {
            (true, Ok(_)) => "SubOrchestrationInstanceCompleted",
            (true, Err(_)) => "SubOrchestrationInstanceFailed",
            (false, Ok(_)) => "TaskCompleted",
            (false, Err(_)) => "TaskFailed",
        }
    }

    /// When what ends here was scheduled, and by which name.
    fn origin(&self, to: &mut Members, op: EventId) {
        let Some(Begun { at, body }) = self.begun.get(&op) else { return };
        put(to, "ScheduledTime", &micros(*at));
        match body {
            EventBody::ActivityScheduled { name, .. } => put(to, "FunctionName", name),
            EventBody::ChildStarted { id, workflow, .. } => {
                put(to, "FunctionName", workflow);
                put(to, "InstanceId", id);
            }
            EventBody::TimerStarted { deadline } => put(to, "FireAt", &micros(*deadline)),
            EventBody::EntityCalled { entity, operation, .. } => {
                put(to, "InstanceId", &entity.to_string());
                put(to, "FunctionName", operation);
            }
            _ => {}
        }
    }

    fn result(&self, to: &mut Members, output: &str) {
        if self.with_results {
            to.insert("Result", show::json(output));
        }
    }

    fn input(&self, to: &mut Members, input: &str) {
        if self.with_inputs {
            to.insert("Input", show::json(input));
        }
    }
}

fn put(to: &mut Members, name: &'static str, text: &str) {
    to.insert(name, as_string(text));
}

fn reason(to: &mut Members, failure: &Failure) {
    put(to, "Reason", &failure.message);
    let details = failure.details.as_deref().map_or_else(|| RawValue::NULL.to_owned(), show::json);
    let details = format!(r#"{{"code":{},"details":{details}}}"#, as_string(&failure.code));
    to.insert("Details", RawValue::from_string(details).unwrap_or_else(|_| RawValue::NULL.to_owned()));
}
