//! Rewind: an instance that failed goes on from where it was before something failed in it.
//!
//! A history only grows, so a rewind makes the history of a new run out of that of the failed one:
//!
//! | event of the failed run | in the new run |
//! |---|---|
//! | a failure of an activity, a child, a call | left out: the operation is open and runs again, from its first attempt |
//! | a lock that was not given back | asked for again, as it was released at the end |
//! | a command the guest issued before it could know of the first of them | kept |
//! | a later command | left out: the guest issues it again, or another |
//! | what else came in for a command that is kept, and signals | kept |
//! | the end; requests to cancel, suspend, resume | left out |
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
    /// Nothing failed but the workflow itself.
    #[error(
        "no activity, child or call of it failed, so the workflow would fail again in the same way; restart it instead"
    )]
    NothingFailed,
}

/// The history of the new run, made of that of the failed run `run`, at `now`.
pub fn rewound(history: &[Event], run: RunNumber, now: Timestamp) -> Result<Vec<Event>, NotRewound> {
    let stopped = match history.last().map(|event| &event.body) {
        Some(EventBody::InstanceFailed { .. }) => false,
        Some(EventBody::InstanceStopped { .. }) => true,
        _ => return Err(NotRewound::NotFailed),
    };
    let mut failures: BTreeMap<EventId, EventId> = history.iter().filter_map(failure).collect();
    if failures.is_empty() && !stopped {
        return Err(NotRewound::NothingFailed);
    }
    let mut first = first_of(&failures);
    loop {
        failures.extend(lost_grants(history, first));
        let earlier = first_of(&failures);
        if earlier == first {
            break;
        }
        first = earlier;
    }
    let again: BTreeSet<EventId> = failures.values().copied().collect();
    let mut made = Made::default();
    for event in history {
        if made.keeps(event, first, &failures, &again) {
            made.push(event, run, again.contains(&event.id).then_some(now));
        }
    }
    Ok(made.events)
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

/// The first thing that is to run again; beyond all events if there is none.
fn first_of(failures: &BTreeMap<EventId, EventId>) -> EventId {
    failures.keys().next().copied().unwrap_or(EventId(u64::MAX))
}

/// The grants of locks that the kept part of the history does not give back, and their locks.
fn lost_grants(history: &[Event], first: EventId) -> impl Iterator<Item = (EventId, EventId)> {
    let released: BTreeSet<EventId> = history
        .iter()
        .filter(|event| event.cause < first)
        .filter_map(|event| match event.body {
            EventBody::LockReleased { op } | EventBody::OperationCancelled { op } => Some(op),
            _ => None,
        })
        .collect();
    history.iter().filter_map(move |event| match event.body {
        EventBody::LockGranted { op, .. } if !released.contains(&op) => Some((event.id, op)),
        _ => None,
    })
}

/// The operation that an inbound event is about.
fn about(body: &EventBody) -> Option<EventId> {
    body.clone().op_mut().map(|op| *op)
}

#[derive(Default)]
struct Made {
    events: Vec<Event>,
    /// Old ids of what is kept, and the new ones.
    ids: BTreeMap<EventId, EventId>,
}

impl Made {
    fn keeps(
        &self,
        event: &Event,
        first: EventId,
        failures: &BTreeMap<EventId, EventId>,
        again: &BTreeSet<EventId>,
    ) -> bool {
        match &event.body {
            body if body.is_terminal() => false,
            body if body.is_command() => event.cause < first,
            EventBody::CancelRequested { .. }
            | EventBody::InstanceSuspended { .. }
            | EventBody::InstanceResumed { .. } => false,
            EventBody::ActivityAttemptFailed { op, .. } | EventBody::ChildAttemptFailed { op, .. } => {
                self.ids.contains_key(op) && !again.contains(op)
            }
            body => !failures.contains_key(&event.id) && about(body).is_none_or(|op| self.ids.contains_key(&op)),
        }
    }

    /// Adds an event under its new id. `at`: it counts as recorded then, because its limits of time begin anew.
    fn push(&mut self, event: &Event, run: RunNumber, at: Option<Timestamp>) {
        let last = self.events.last().map_or(EventId::NONE, |event| event.id);
        let id = last.next();
        self.ids.insert(event.id, id);
        let mut body = event.body.clone();
        if let Some(op) = body.op_mut() {
            *op = self.new_id(*op);
        }
        if let EventBody::InstanceStarted { lineage, .. } = &mut body {
            lineage.get_or_insert_default().rewound_from.get_or_insert(run);
        }
        let cause = if event.cause == EventId::NONE { EventId::NONE } else { self.new_id(event.cause) };
        self.events.push(Event { id, time: at.unwrap_or(event.time), cause, body });
    }

    /// The new id of an event, or of the last one kept before it.
    fn new_id(&self, old: EventId) -> EventId {
        self.ids.range(..=old).next_back().map_or(EventId::NONE, |(_, new)| *new)
    }
}
