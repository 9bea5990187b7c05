//! Rewind: an instance that failed goes on from where it was before something failed in it.
//!
//! A history only grows, so a rewind makes the history of a new run out of that of the failed one. Every event keeps
//! its id, because what the workflow was told (the URL of a callback, say) may depend on it; in the place of an event
//! that does not count any more stands `EventLeftOut`, which does nothing.
//!
//! | event of the failed run | in the new run |
//! |---|---|
//! | a failure of an activity, a child, a call | left out: the operation is open and runs again, from its first attempt |
//! | a request to cancel | left out |
//! | the grant of a lock that was not given back | left out: it is asked for again, as it was released at the end |
//! | a command that the guest issued before it could know of the first of these | kept |
//! | a later command | left out: the guest issues it again, or another |
//! | what else came in for a command that is kept, and signals | kept |
//! | the end | left out |
//!
//! If the host had stopped the guest (a limit, a trap) and nothing else failed, only that end is left out.

use crate::event::{Event, EventBody};
use crate::ids::{EventId, RunNumber};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Why a history can't be rewound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRewound {
    /// The run has not failed.
    #[error("only an instance that has failed can be rewound")]
    NotFailed,
    /// Nothing failed that the workflow had seen; it failed by itself.
    #[error(
        "no activity, child or call of it failed, so the workflow would fail again in the same way; restart it instead"
    )]
    NothingFailed,
}

/// The history of the new run, made of that of the failed run `run`, at `now`.
pub fn rewound(history: &[Event], run: RunNumber, now: Timestamp) -> Result<Vec<Event>, NotRewound> {
    let last = history.last().ok_or(NotRewound::NotFailed)?;
    let failures: BTreeMap<EventId, EventId> = history.iter().filter_map(failure).collect();
    match &last.body {
        EventBody::InstanceStopped { .. } => {}
        // What failed after the last thing that the workflow had seen is not why it failed.
        EventBody::InstanceFailed { .. } if failures.keys().any(|failed| *failed <= last.cause) => {}
        EventBody::InstanceFailed { .. } => return Err(NotRewound::NothingFailed),
        _ => return Err(NotRewound::NotFailed),
    }
    let undone = Undone::new(history, failures);
    let mut made: Vec<Event> = history.iter().map(|event| undone.event(event, run, now)).collect();
    let kept = made.iter().rposition(|event| !matches!(event.body, EventBody::EventLeftOut { .. }));
    made.truncate(kept.map_or(0, |last| last + 1));
    Ok(made)
}

/// The event of a failure, and the operation that failed.
fn failure(event: &Event) -> Option<(EventId, EventId)> {
    match &event.body {
        EventBody::ActivityFailed { op, .. } | EventBody::ReplyReceived { op, outcome: Err(_) } => {
            Some((event.id, *op))
        }
        _ => None,
    }
}

/// What does not count any more.
struct Undone {
    /// Inbound events that are left out, and the operations that run again because of them; none for a request to
    /// cancel.
    inbound: BTreeMap<EventId, Option<EventId>>,
    /// The first of them: commands that were issued later are left out; beyond all events if there is none.
    first: EventId,
    /// Operations that run again.
    again: BTreeSet<EventId>,
    /// Operations whose commands are kept.
    kept: BTreeSet<EventId>,
}

impl Undone {
    fn new(history: &[Event], failures: BTreeMap<EventId, EventId>) -> Undone {
        let mut inbound: BTreeMap<EventId, Option<EventId>> =
            failures.into_iter().map(|(event, op)| (event, Some(op))).collect();
        let cancels = history.iter().filter(|event| matches!(event.body, EventBody::CancelRequested { .. }));
        inbound.extend(cancels.map(|event| (event.id, None)));
        let first_of = |inbound: &BTreeMap<EventId, Option<EventId>>| {
            inbound.first_key_value().map_or(EventId(u64::MAX), |(event, _)| *event)
        };
        let mut first = first_of(&inbound);
        // A lock whose release is left out is not held, which may leave out more.
        loop {
            inbound.extend(lost_grants(history, first).map(|(event, lock)| (event, Some(lock))));
            let earlier = first_of(&inbound);
            if earlier == first {
                break;
            }
            first = earlier;
        }
        let again = inbound.values().copied().flatten().collect();
        let kept = history.iter().filter(|event| event.body.is_command() && event.cause < first);
        let kept = kept.map(|event| event.id).collect();
        Undone { inbound, first, again, kept }
    }

    fn keeps(&self, event: &Event) -> bool {
        match &event.body {
            body if body.is_terminal() => false,
            body if body.is_command() => event.cause < self.first,
            EventBody::ActivityAttemptFailed { op, .. } | EventBody::ChildAttemptFailed { op, .. } => {
                self.kept.contains(op) && !self.again.contains(op)
            }
            body => !self.inbound.contains_key(&event.id) && about(body).is_none_or(|op| self.kept.contains(&op)),
        }
    }

    /// What stands in the event's place.
    fn event(&self, event: &Event, run: RunNumber, now: Timestamp) -> Event {
        if !self.keeps(event) {
            let body = EventBody::EventLeftOut { was: event.body.name().to_owned() };
            return Event { body, cause: EventId::NONE, ..event.clone() };
        }
        let mut event = event.clone();
        if let EventBody::InstanceStarted { lineage, .. } = &mut event.body {
            lineage.get_or_insert_default().rewound_from.get_or_insert(run);
        }
        // Its limits of time begin anew.
        if self.again.contains(&event.id) {
            event.time = now;
        }
        event
    }
}

/// The grants of locks that the kept part of the history does not give back, and their locks.
fn lost_grants(history: &[Event], first: EventId) -> impl Iterator<Item = (EventId, EventId)> {
    let released = history.iter().filter(|event| event.cause < first).filter_map(|event| match event.body {
        EventBody::LockReleased { op } | EventBody::OperationCancelled { op } => Some(op),
        _ => None,
    });
    let released: BTreeSet<EventId> = released.collect();
    history.iter().filter_map(move |event| match event.body {
        EventBody::LockGranted { op, .. } if !released.contains(&op) => Some((event.id, op)),
        _ => None,
    })
}

/// The operation that an inbound event is about.
fn about(body: &EventBody) -> Option<EventId> {
    match body {
        EventBody::ActivityCompleted { op, .. }
        | EventBody::ActivityFailed { op, .. }
        | EventBody::TimerFired { op }
        | EventBody::CallbackSettled { op, .. }
        | EventBody::CallbackExpired { op }
        | EventBody::LockGranted { op, .. }
        | EventBody::ReplyReceived { op, .. } => Some(*op),
        _ => None,
    }
}

#[cfg(test)]
#[path = "rewind_tests.rs"]
mod tests;
