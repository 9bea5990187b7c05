//! What a person or a program is shown of an instance: plain data made from its state.

use crate::activity::{ActivityEnd, ActivityState, EndedAttempt};
use crate::failure::Failure;
use crate::ids::{AttemptNumber, EventId};
use crate::instance::{InstanceState, Operation};
use crate::remote::RemoteState;
use crate::time::Timestamp;

/// Something the instance waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The event that began the operation.
    pub event: EventId,
    /// `activity`, `timer`, `callback`, `signal`, `child`, `start`, `cancel`, `entity` or `lock`.
    pub kind: &'static str,
    /// The name of the activity, callback or signal; the id of the instance or entity; none for a timer or a lock.
    pub name: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When it fires, expires, times out or is tried again.
    pub due: Option<Timestamp>,
    /// The same in words, without times.
    pub text: String,
}

/// An activity with its attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivityView {
    /// The event that scheduled it.
    pub event: EventId,
    /// Its name.
    pub name: String,
    /// `executing`, `backing-off`, `completed`, `failed` or `cancelled`.
    pub state: &'static str,
    /// When it was scheduled.
    pub scheduled: Timestamp,
    /// The latest point at which it ends, if it has one.
    pub deadline: Option<Timestamp>,
    /// Its attempts, oldest first; of very many only the latest.
    pub attempts: Vec<AttemptView>,
}

/// An attempt of an activity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: AttemptNumber,
    /// `scheduled`, `executing`, `backing-off`, `completed`, `failed`, `timed-out` or `cancelled`.
    pub state: &'static str,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When it is timed out, or for one that backs off: when it starts.
    pub deadline: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// What the instance waits for, oldest first.
pub fn waiting_for(state: &InstanceState, now: Timestamp) -> Vec<Waiting> {
    state.open.iter().map(|(event, operation)| waiting(*event, operation, now)).collect()
}

fn waiting(event: EventId, operation: &Operation, now: Timestamp) -> Waiting {
    let (kind, name, since, due, text) = match operation {
        Operation::Activity(activity) => {
            let backing_off = activity.not_before.filter(|at| *at > now);
            let text = match backing_off {
                Some(_) => format!("activity `{}` to be tried again, attempt {}", activity.name, activity.attempt.0),
                None => format!("activity `{}` to end, attempt {}", activity.name, activity.attempt.0),
            };
            let due = backing_off.or(close_deadline(activity));
            ("activity", Some(activity.name.clone()), activity.scheduled, due, text)
        }
        Operation::Timer(timer) => {
            ("timer", None, timer.started, Some(timer.deadline), "a durable timer to fire".to_owned())
        }
        Operation::Callback(callback) => {
            let text = format!("callback `{}` to be called", callback.name);
            ("callback", Some(callback.name.clone()), callback.created, callback.expires, text)
        }
        Operation::Signal { name, since } => {
            ("signal", Some(name.clone()), *since, None, format!("signal `{name}` to arrive"))
        }
        Operation::Child(child) => {
            let backing_off = child.not_before.map(|(at, _)| at).filter(|at| *at > now);
            let (id, workflow, attempt) = (&child.id, &child.workflow, child.attempt.0);
            let text = match backing_off {
                Some(_) => format!("child `{id}` of workflow `{workflow}` to be started again, attempt {attempt}"),
                None => format!("child `{id}` of workflow `{workflow}` to end, attempt {attempt}"),
            };
            ("child", Some(id.clone()), child.since, backing_off, text)
        }
        Operation::Remote(RemoteState { kind, to, name, since }) => {
            let text = match *kind {
                "start" => format!("instance `{to}` of workflow `{name}` to be started"),
                "entity" => format!("operation `{name}` of entity `{to}` to end"),
                kind => format!("instance `{to}` to take the {kind} `{name}`"),
            };
            (*kind, Some(to.clone()), *since, None, text)
        }
        Operation::Lock(lock) => {
            let of = lock.entities.len();
            let text = match lock.entities.get(lock.granted) {
                Some(entity) => format!("the lock of entity `{entity}`, {} of {of} held", lock.granted),
                None => "a lock".to_owned(),
            };
            ("lock", None, lock.since, None, text)
        }
    };
    Waiting { event, kind, name, since, due, text }
}

fn close_deadline(activity: &ActivityState) -> Option<Timestamp> {
    activity.options.schedule_to_close.map(|limit| activity.scheduled.after(limit))
}

/// Open activities and the recent ones that ended, oldest first. `executing` says since when an attempt
/// runs, if it does: that is known to the worker only.
pub fn activities(
    state: &InstanceState,
    now: Timestamp,
    executing: impl Fn(EventId, AttemptNumber) -> Option<Timestamp>,
) -> Vec<ActivityView> {
    let ended = state.ended_activities.iter().map(|(event, activity)| (*event, activity));
    let open = state.open.iter().filter_map(|(event, operation)| match operation {
        Operation::Activity(activity) => Some((*event, activity)),
        _ => None,
    });
    let mut all: Vec<(EventId, &ActivityState)> = ended.chain(open).collect();
    all.sort_unstable_by_key(|(event, _)| *event);
    all.into_iter().map(|(event, activity)| activity_view(event, activity, now, &executing)).collect()
}

fn activity_view(
    event: EventId,
    activity: &ActivityState,
    now: Timestamp,
    executing: &impl Fn(EventId, AttemptNumber) -> Option<Timestamp>,
) -> ActivityView {
    let mut attempts: Vec<AttemptView> = activity.ended.iter().map(ended_attempt).collect();
    let backing_off = activity.not_before.is_some_and(|at| at > now);
    let state = match activity.end {
        Some(ActivityEnd::Completed) => "completed",
        Some(ActivityEnd::Failed) => "failed",
        Some(ActivityEnd::Cancelled) => "cancelled",
        None if backing_off => "backing-off",
        None => "executing",
    };
    let reported = activity.ended.back().is_some_and(|last| last.attempt == activity.attempt);
    if !reported {
        attempts.push(current_attempt(activity, backing_off, executing(event, activity.attempt)));
    }
    ActivityView {
        event,
        name: activity.name.clone(),
        state,
        scheduled: activity.scheduled,
        deadline: close_deadline(activity),
        attempts,
    }
}

fn ended_attempt(ended: &EndedAttempt) -> AttemptView {
    let state = match &ended.failure {
        None => "completed",
        Some(failure) if failure.kind == crate::FailureKind::TimedOut => "timed-out",
        Some(_) => "failed",
    };
    AttemptView {
        attempt: ended.attempt,
        state,
        started: ended.started,
        ended: Some(ended.ended),
        deadline: None,
        failure: ended.failure.clone(),
    }
}

fn current_attempt(activity: &ActivityState, backing_off: bool, executing_since: Option<Timestamp>) -> AttemptView {
    let (state, deadline) = match (activity.end, backing_off, executing_since) {
        (Some(_), _, _) => ("cancelled", None),
        (None, true, _) => ("backing-off", activity.not_before),
        (None, false, Some(since)) => ("executing", activity.options.start_to_close.map(|limit| since.after(limit))),
        (None, false, None) => ("scheduled", None),
    };
    AttemptView { attempt: activity.attempt, state, started: executing_since, ended: None, deadline, failure: None }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
