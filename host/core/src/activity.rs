//! Activities: attempts, retries and their limits.
//!
//! | state | input or event | next | effects |
//! |---|---|---|---|
//! | – | `ActivityScheduled` | attempt 1 | dispatch; put the schedule-to-close row |
//! | attempt n | attempt n succeeded → `ActivityCompleted` | completed | interrupt, drop the rows |
//! | attempt n | failed, retried → `ActivityAttemptFailed` | attempt n+1 | interrupt; put the retry row |
//! | attempt n | attempt n failed for good → `ActivityFailed` | failed | interrupt, drop the rows |
//! | attempt n | retry row due | attempt n | drop the row; dispatch (no event: the number is recorded already) |
//! | attempt n | schedule-to-close due → `ActivityFailed` | failed | interrupt, drop the rows |
//! | attempt n | `OperationCancelled`, `CancelRequested`, end of the run | cancelled | interrupt, drop the rows |
//! | any | a report of another attempt than n | the same | none: an attempt that was given up on is not heard |

use crate::event::EventBody;
use crate::failure::{Failure, FailureKind, Outcome};
use crate::ids::{AttemptNumber, EventId};
use crate::instance::{Decision, Effect, TimerPurpose};
use crate::retry::{ActivityOptions, AfterFailure, FailedAttempt, after_failure};
use crate::time::{Nanos, Timestamp};
use std::collections::VecDeque;

/// How many ended attempts of one activity are kept for the status; the history keeps all.
pub const ATTEMPTS_SHOWN_MAX: usize = 100;

/// An activity and its attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivityState {
    /// Its name.
    pub name: String,
    /// Its limits.
    pub options: ActivityOptions,
    /// When it was scheduled.
    pub scheduled: Timestamp,
    /// The attempt under way or next.
    pub attempt: AttemptNumber,
    /// When that attempt may start, if it had to wait.
    pub not_before: Option<Timestamp>,
    /// The latest attempts that ended, oldest first.
    pub ended: VecDeque<EndedAttempt>,
    /// How the activity ended.
    pub end: Option<ActivityEnd>,
}

/// How an activity ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ActivityEnd {
    /// With an output.
    Completed,
    /// With a failure.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// An attempt that ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedAttempt {
    /// Its number.
    pub attempt: AttemptNumber,
    /// When it started; none if it never did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// Its failure; none if it succeeded.
    pub failure: Option<Failure>,
}

/// What a worker says about an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptReport {
    /// The activity.
    pub op: EventId,
    /// The attempt.
    pub attempt: AttemptNumber,
    /// When it started; none if it never did.
    pub started: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
}

impl ActivityState {
    /// As it is right after it was scheduled.
    pub fn scheduled(name: &str, options: &ActivityOptions, at: Timestamp) -> ActivityState {
        ActivityState {
            name: name.to_owned(),
            options: options.clone(),
            scheduled: at,
            attempt: AttemptNumber::FIRST,
            not_before: None,
            ended: VecDeque::new(),
            end: None,
        }
    }

    fn close_row(&self, op: EventId) -> Option<(Timestamp, EventId, TimerPurpose)> {
        let limit: Nanos = self.options.schedule_to_close?;
        Some((self.scheduled.after(limit), op, TimerPurpose::ScheduleToClose))
    }

    /// What must be done when it is scheduled.
    pub fn open(&self, op: EventId, effects: &mut Vec<Effect>) {
        if let Some((due, op, purpose)) = self.close_row(op) {
            effects.push(Effect::PutTimer { due, op, purpose });
        }
        effects.push(Effect::Dispatch { op, attempt: self.attempt });
    }

    /// What must be done so that it goes on after a restart of the host.
    pub fn recover(&self, op: EventId, now: Timestamp) -> Effect {
        match self.not_before {
            Some(due) if due > now => Effect::PutTimer { due, op, purpose: TimerPurpose::Retry },
            _ => Effect::Dispatch { op, attempt: self.attempt },
        }
    }

    /// What must be done when it ends, in whatever way.
    pub fn close(&self, op: EventId, effects: &mut Vec<Effect>) {
        effects.push(Effect::Interrupt { op });
        if let Some((due, op, purpose)) = self.close_row(op) {
            effects.push(Effect::DropTimer { due, op, purpose });
        }
        self.drop_retry_row(op, effects);
    }

    /// The row is gone already if it was due. But no event says so: from the events alone, as after a rewind, it is not.
    fn drop_retry_row(&self, op: EventId, effects: &mut Vec<Effect>) {
        if let Some(due) = self.not_before {
            effects.push(Effect::DropTimer { due, op, purpose: TimerPurpose::Retry });
        }
    }

    /// What a worker's report leads to.
    pub fn decide_report(&self, report: AttemptReport, now: Timestamp, seed: u64) -> Decision {
        let AttemptReport { op, attempt, started, outcome } = report;
        if attempt != self.attempt {
            return Decision::nothing();
        }
        let failure = match outcome {
            Ok(output) => {
                let started = started.unwrap_or(now);
                return Decision::event(EventBody::ActivityCompleted { op, attempt, started, output });
            }
            Err(failure) => failure,
        };
        let at = FailedAttempt { attempt, failure: &failure, scheduled: self.scheduled, now, seed, op };
        match after_failure(&self.options, &at) {
            AfterFailure::RetryAt(next_attempt) => {
                let started = started.unwrap_or(now);
                Decision::event(EventBody::ActivityAttemptFailed { op, attempt, started, failure, next_attempt })
            }
            AfterFailure::GiveUp => Decision::event(EventBody::ActivityFailed { op, attempt, started, failure }),
        }
    }

    /// What a due row of this activity leads to.
    pub fn decide_due(&self, op: EventId, purpose: TimerPurpose, now: Timestamp) -> Decision {
        match purpose {
            TimerPurpose::Retry if self.not_before.is_some_and(|at| now >= at) => {
                let due = self.not_before.unwrap_or(now);
                let effects =
                    vec![Effect::DropTimer { due, op, purpose }, Effect::Dispatch { op, attempt: self.attempt }];
                Decision { effects, ..Decision::nothing() }
            }
            TimerPurpose::ScheduleToClose if self.close_row(op).is_some_and(|(due, ..)| now >= due) => {
                let limit = self.options.schedule_to_close.unwrap_or_default();
                let failure = Failure::new(
                    FailureKind::TimedOut,
                    "timeout.schedule-to-close",
                    format!("activity `{}` took longer than its schedule-to-close limit of {limit}", self.name),
                );
                Decision::event(EventBody::ActivityFailed { op, attempt: self.attempt, started: None, failure })
            }
            _ => Decision::nothing(),
        }
    }

    /// Records an ended attempt, and the next one if there is one.
    pub fn apply_attempt_failed(
        &mut self,
        op: EventId,
        ended: EndedAttempt,
        next: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Interrupt { op });
        self.drop_retry_row(op, effects);
        self.remember(ended);
        self.attempt = self.attempt.next();
        self.not_before = Some(next);
        effects.push(Effect::PutTimer { due: next, op, purpose: TimerPurpose::Retry });
    }

    /// Records how it ended; the rows are dropped by [`ActivityState::close`].
    pub fn apply_end(&mut self, end: ActivityEnd, last: Option<EndedAttempt>) {
        if let Some(last) = last {
            self.remember(last);
        }
        self.end = Some(end);
    }

    fn remember(&mut self, ended: EndedAttempt) {
        if self.ended.len() == ATTEMPTS_SHOWN_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(ended);
    }
}
