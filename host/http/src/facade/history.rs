//! A run's events as the clients know them.
//!
//! What began an operation is left out once it has ended; its end says when that was scheduled, and by which name.

use super::reply::micros;
use crate::show;
use rehydrate_runtime::core::failure::Outcome;
use rehydrate_runtime::core::{Event, EventBody, EventId, Failure, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What an operation was begun as.
struct Begun<'a> {
    at: Timestamp,
    body: &'a EventBody,
}

/// All events; with results and inputs only if they are wanted.
pub fn events(events: &[Event], with_results: bool, with_inputs: bool) -> Vec<Value> {
    let begun: BTreeMap<EventId, Begun<'_>> = events
        .iter()
        .filter(|event| event.body.begins_operation())
        .map(|event| (event.id, Begun { at: event.time, body: &event.body }))
        .collect();
    let ended: BTreeSet<EventId> = events.iter().filter_map(|event| ends(&event.body)).collect();
    let shown = Shown { begun, ended, with_results, with_inputs };
    events.iter().filter_map(|event| shown.event(event)).collect()
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

struct Shown<'a> {
    begun: BTreeMap<EventId, Begun<'a>>,
    ended: BTreeSet<EventId>,
    with_results: bool,
    with_inputs: bool,
}

fn value(json: &str) -> Value {
    serde_json::from_str(show::json(json).get()).unwrap_or(Value::Null)
}

impl Shown<'_> {
    fn event(&self, event: &Event) -> Option<Value> {
        let mut members = Map::new();
        let kind = self.members(event, &mut members)?;
        members.insert("EventType".to_owned(), kind.into());
        members.insert("Timestamp".to_owned(), micros(event.time).into());
        Some(Value::Object(members))
    }

    /// The event's type, and its members; none for one that the clients do not know, or that is left out.
    fn members(&self, event: &Event, to: &mut Map<String, Value>) -> Option<&'static str> {
        match &event.body {
            EventBody::InstanceStarted { workflow, input, .. } => {
                put(to, "FunctionName", show::text(workflow));
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
                put(to, "Name", show::text(name));
                self.input(to, payload);
                Some("EventRaised")
            }
            EventBody::CallbackSettled { op, outcome, .. } => {
                if let Some(EventBody::CallbackCreated { name, .. }) = self.begun.get(op).map(|begun| begun.body) {
                    put(to, "Name", show::text(name));
                }
                match outcome {
                    Ok(payload) => self.input(to, payload),
                    Err(failure) => reason(to, failure),
                }
                Some("EventRaised")
            }
            EventBody::InstanceSuspended { reason } => {
                put(to, "Reason", show::text(reason));
                Some("ExecutionSuspended")
            }
            EventBody::InstanceResumed { reason } => {
                put(to, "Reason", show::text(reason));
                Some("ExecutionResumed")
            }
            EventBody::EntitySignalled { entity, operation, .. } => {
                put(to, "InstanceId", show::text(&entity.to_string()));
                put(to, "Name", show::text(operation));
                Some("EventSent")
            }
            body => self.end(body, to),
        }
    }

    /// What has not ended yet.
    fn begun(&self, event: &Event, body: &EventBody, to: &mut Map<String, Value>) -> Option<&'static str> {
        if self.ended.contains(&event.id) {
            return None;
        }
        match body {
            EventBody::ActivityScheduled { name, .. } => {
                put(to, "Name", show::text(name));
                Some("TaskScheduled")
            }
            EventBody::TimerStarted { deadline } => {
                put(to, "FireAt", micros(*deadline));
                Some("TimerCreated")
            }
            EventBody::ChildStarted { id, workflow, .. } => {
                put(to, "Name", show::text(workflow));
                put(to, "InstanceId", show::text(id));
                Some("SubOrchestrationInstanceCreated")
            }
            EventBody::EntityCalled { entity, operation, .. } => {
                put(to, "InstanceId", show::text(&entity.to_string()));
                put(to, "Name", show::text(operation));
                Some("EventSent")
            }
            EventBody::SignalSent { instance, name, .. } => {
                put(to, "InstanceId", show::text(instance));
                put(to, "Name", show::text(name));
                Some("EventSent")
            }
            _ => None,
        }
    }

    fn end(&self, body: &EventBody, to: &mut Map<String, Value>) -> Option<&'static str> {
        let (status, failure) = match body {
            EventBody::InstanceCompleted { output } => {
                self.result(to, output);
                ("Completed", None)
            }
            EventBody::InstanceFailed { failure } | EventBody::InstanceStopped { failure } => ("Failed", Some(failure)),
            EventBody::InstanceCancelled { failure } => ("Canceled", Some(failure)),
            EventBody::InstanceTerminated { reason } => {
                put(to, "Input", show::text(reason));
                return Some("ExecutionTerminated");
            }
            EventBody::InstanceContinued { input, .. } => {
                self.result(to, input);
                put(to, "OrchestrationStatus", "ContinuedAsNew".to_owned());
                return Some("ContinueAsNew");
            }
            _ => return None,
        };
        put(to, "OrchestrationStatus", status.to_owned());
        if let Some(failure) = failure {
            put(to, "Result", show::text(&failure.message));
        }
        Some("ExecutionCompleted")
    }

    fn reply(&self, to: &mut Map<String, Value>, op: EventId, outcome: &Outcome) -> &'static str {
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
    fn origin(&self, to: &mut Map<String, Value>, op: EventId) {
        let Some(Begun { at, body }) = self.begun.get(&op) else { return };
        put(to, "ScheduledTime", micros(*at));
        match body {
            EventBody::ActivityScheduled { name, .. } => put(to, "FunctionName", show::text(name)),
            EventBody::ChildStarted { id, workflow, .. } => {
                put(to, "FunctionName", show::text(workflow));
                put(to, "InstanceId", show::text(id));
            }
            EventBody::TimerStarted { deadline } => put(to, "FireAt", micros(*deadline)),
            EventBody::EntityCalled { entity, operation, .. } => {
                put(to, "InstanceId", show::text(&entity.to_string()));
                put(to, "FunctionName", show::text(operation));
            }
            _ => {}
        }
    }

    fn result(&self, to: &mut Map<String, Value>, output: &str) {
        if self.with_results {
            to.insert("Result".to_owned(), value(output));
        }
    }

    fn input(&self, to: &mut Map<String, Value>, input: &str) {
        if self.with_inputs {
            to.insert("Input".to_owned(), value(input));
        }
    }
}

fn put(to: &mut Map<String, Value>, name: &str, text: String) {
    to.insert(name.to_owned(), Value::String(text));
}

fn reason(to: &mut Map<String, Value>, failure: &Failure) {
    put(to, "Reason", show::text(&failure.message));
    let details = failure.details.as_deref().map_or(Value::Null, value);
    to.insert("Details".to_owned(), json!({ "code": show::text(&failure.code), "details": details }));
}
