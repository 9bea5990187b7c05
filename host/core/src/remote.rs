//! Questions to other instances: a message, and its answer.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | – | `SignalSent`, `CancelSent`, `StartSent`, `EntityCalled` | asked | send the message |
//! | asked | `ReplyReceived` | settled | none |
//! | asked | `OperationCancelled`, `CancelRequested`, end of the run | given up | none: what was sent was sent |

use crate::event::EventBody;
use crate::ids::EventId;
use crate::message::{MessageBody, Outgoing, ReplyTo, StartMessage};
use crate::time::Timestamp;

/// A question that has not been answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteState {
    /// What was asked: `start`, `signal`, `cancel` or `entity`.
    pub kind: &'static str,
    /// Who was asked.
    pub to: String,
    /// What for, in words.
    pub name: String,
    /// When.
    pub since: Timestamp,
}

impl RemoteState {
    /// What a command asks, and the message that does so; none if it asks nothing.
    pub fn asked(op: EventId, at: Timestamp, command: &EventBody) -> Option<(RemoteState, Outgoing)> {
        let (kind, to, name, body) = match command {
            EventBody::StartSent { id, workflow, version, input } => {
                let start = StartMessage {
                    workflow: workflow.clone(),
                    version: version.clone(),
                    input: input.clone(),
                    parent: None,
                    // It stands by itself: nobody is above it.
                    depth: 0,
                };
                ("start", id.clone(), workflow, MessageBody::Start(start))
            }
            EventBody::SignalSent { instance, name, payload } => {
                let body = MessageBody::Signal { name: name.clone(), payload: payload.clone() };
                ("signal", instance.clone(), name, body)
            }
            EventBody::CancelSent { instance, reason } => {
                let body = MessageBody::Cancel { reason: reason.clone(), child_of: None };
                ("cancel", instance.clone(), reason, body)
            }
            EventBody::EntityCalled { entity, operation, input } => {
                let body = MessageBody::Operation { operation: operation.clone(), input: input.clone() };
                ("entity", entity.to_string(), operation, body)
            }
            _ => return None,
        };
        let state = RemoteState { kind, to: to.clone(), name: name.clone(), since: at };
        Some((state, Outgoing { event: op, to, reply_to: Some(ReplyTo { op, part: 0 }), body }))
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
