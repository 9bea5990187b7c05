//! Child workflows: started by message, awaited by message.
//!
//! | state | input or event | next | effects |
//! |---|---|---|---|
//! | – | `ChildStarted` | attempt 1 | send `Start` |
//! | attempt n | attempt n completed → `ReplyReceived` | settled | none |
//! | attempt n | failed, retried → `ChildAttemptFailed` | attempt n+1 | put the retry row |
//! | attempt n | failed for good → `ReplyReceived` | settled | none |
//! | attempt n | retry row due | attempt n | drop the row; send `Start` (no event: the number is recorded already) |
//! | attempt n | `OperationCancelled`, `CancelRequested`, end of the run | given up | drop the row; what the parent-close policy says |
//! | any | a reply to another attempt than n | the same | none |

use crate::event::EventBody;
use crate::failure::{Failure, FailureKind, Json, Outcome};
use crate::ids::{AttemptNumber, EventId, RunNumber};
use crate::instance::{Decision, Effect, TimerPurpose};
use crate::message::{MessageBody, Outgoing, Parent, ReplyTo, StartMessage};
use crate::retry::{ActivityOptions, AfterFailure, FailedAttempt, RetryPolicy, after_failure};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What becomes of a child that its parent gives up, or that outlives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParentClose {
    /// It is terminated.
    #[default]
    Terminate,
    /// It is asked to cancel.
    RequestCancel,
    /// It goes on by itself.
    Abandon,
}

/// How a child is started; the fields are those of the WIT `child-options`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ChildOptions {
    /// The version; none: the newest.
    pub version: Option<String>,
    /// What becomes of it without its parent.
    pub parent_close: ParentClose,
    /// How a failed one is started again; none: not at all.
    pub retry: Option<RetryPolicy>,
}

impl ChildOptions {
    /// Bytes of the texts in it.
    pub fn len_bytes(&self) -> usize {
        let retry = ActivityOptions { retry: self.retry.clone(), ..ActivityOptions::default() };
        self.version.as_ref().map_or(0, String::len) + retry.len_bytes()
    }
}

/// A child that has not settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildState {
    /// Its instance id.
    pub id: String,
    /// Its workflow.
    pub workflow: String,
    /// How it is started.
    pub options: ChildOptions,
    /// When it was first started.
    pub since: Timestamp,
    /// The attempt under way or next.
    pub attempt: AttemptNumber,
    /// When that attempt may start, if it had to wait, and the event that says so.
    pub not_before: Option<(Timestamp, EventId)>,
    /// Its input, if it may have to be started again.
    input: Option<Json>,
}

/// Where a child stands: whose it is.
#[derive(Clone, Copy, Debug)]
pub struct ParentPlace<'a> {
    /// The parent's id.
    pub instance: &'a str,
    /// Its run.
    pub run: RunNumber,
    /// How many instances stand above the parent.
    pub depth: u32,
}

impl ChildState {
    /// As it is right after it was started, and the message that starts it.
    pub fn started(
        op: EventId,
        at: Timestamp,
        (id, workflow, input, options): (&str, &str, &Json, &ChildOptions),
        place: ParentPlace<'_>,
    ) -> (ChildState, Outgoing) {
        let state = ChildState {
            id: id.to_owned(),
            workflow: workflow.to_owned(),
            options: options.clone(),
            since: at,
            attempt: AttemptNumber::FIRST,
            not_before: None,
            input: options.retry.is_some().then(|| input.clone()),
        };
        let start = state.start(op, op, input.clone(), place);
        (state, start)
    }

    fn reply_to(&self, op: EventId) -> ReplyTo {
        ReplyTo { op, part: self.attempt.0 }
    }

    fn parent(&self, op: EventId, place: ParentPlace<'_>) -> Parent {
        Parent { instance: place.instance.to_owned(), run: place.run, reply_to: self.reply_to(op) }
    }

    fn start(&self, op: EventId, event: EventId, input: Json, place: ParentPlace<'_>) -> Outgoing {
        let body = MessageBody::Start(StartMessage {
            workflow: self.workflow.clone(),
            version: self.options.version.clone(),
            input,
            parent: Some(self.parent(op, place)),
            depth: place.depth.saturating_add(1),
        });
        Outgoing { event, to: self.id.clone(), reply_to: Some(self.reply_to(op)), body }
    }

    /// What a reply leads to.
    pub fn decide_reply(&self, to: ReplyTo, outcome: Outcome, now: Timestamp, seed: u64) -> Decision {
        let op = to.op;
        if to.part != self.attempt.0 {
            return Decision::nothing();
        }
        let failure = match outcome {
            Ok(output) => return Decision::event(EventBody::ReplyReceived { op, outcome: Ok(output) }),
            Err(failure) => failure,
        };
        let options = ActivityOptions { retry: self.options.retry.clone(), ..ActivityOptions::default() };
        // A workflow says of few of its failures whether it may be tried again; whoever gave a policy says it here.
        let retryable = failure.retryable || matches!(failure.kind, FailureKind::Application | FailureKind::TimedOut);
        let judged = Failure { retryable, ..failure.clone() };
        let at = FailedAttempt { attempt: self.attempt, failure: &judged, scheduled: self.since, now, seed, op };
        match after_failure(&options, &at) {
            AfterFailure::RetryAt(next_attempt) => {
                Decision::event(EventBody::ChildAttemptFailed { op, attempt: self.attempt, failure, next_attempt })
            }
            AfterFailure::GiveUp => Decision::event(EventBody::ReplyReceived { op, outcome: Err(failure) }),
        }
    }

    /// The retry row is due.
    pub fn decide_due(&self, op: EventId, now: Timestamp, place: ParentPlace<'_>) -> Decision {
        match (self.not_before, &self.input) {
            (Some((due, event)), Some(input)) if now >= due => {
                let start = Effect::Send(Box::new(self.start(op, event, input.clone(), place)));
                let row = Effect::DropTimer { due, op, purpose: TimerPurpose::Retry };
                Decision { effects: vec![row, start], ..Decision::nothing() }
            }
            _ => Decision::nothing(),
        }
    }

    /// An attempt failed, another follows.
    pub fn apply_attempt_failed(&mut self, op: EventId, event: EventId, next: Timestamp, effects: &mut Vec<Effect>) {
        self.drop_row(op, effects);
        self.attempt = self.attempt.next();
        self.not_before = Some((next, event));
        effects.push(Effect::PutTimer { due: next, op, purpose: TimerPurpose::Retry });
    }

    fn drop_row(&self, op: EventId, effects: &mut Vec<Effect>) {
        if let Some((due, _)) = self.not_before {
            effects.push(Effect::DropTimer { due, op, purpose: TimerPurpose::Retry });
        }
    }

    /// What must be done when it settles.
    pub fn settle(&self, op: EventId, effects: &mut Vec<Effect>) {
        self.drop_row(op, effects);
    }

    /// What must be done when it is given up because of `event`.
    pub fn close(&self, op: EventId, event: EventId, reason: &str, place: ParentPlace<'_>, effects: &mut Vec<Effect>) {
        self.drop_row(op, effects);
        let (reason, child_of) = (reason.to_owned(), self.parent(op, place));
        let body = match self.options.parent_close {
            ParentClose::Terminate => MessageBody::Terminate { reason, child_of },
            ParentClose::RequestCancel => MessageBody::Cancel { reason, child_of: Some(child_of) },
            ParentClose::Abandon => return,
        };
        effects.push(Effect::Send(Box::new(Outgoing { event, to: self.id.clone(), reply_to: None, body })));
    }
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;
