//! An instance as all its recorded events make it, and what an input leads to.
//!
//! | lifecycle | event | next |
//! |---|---|---|
//! | – | `InstanceStarted` | running |
//! | running | `InstanceCompleted` / `InstanceFailed` / `InstanceCancelled` | completed / failed / cancelled |
//! | running | `InstanceTerminated` / `InstanceStopped` | terminated / failed |
//! | running | `InstanceContinued` | continued: the next run goes on |
//! | running | `InstanceSuspended`, `InstanceResumed` | running; between the two the guest does not run |
//! | any end | any input but a repeated callback | the same, answer `Gone` |
//!
//! Deciding and applying are apart: [`InstanceState::decide`] reads, [`InstanceState::apply`] changes, and
//! only events change anything. So a state folded from a stored history is the state that wrote it.

use crate::activity::{ActivityEnd, ActivityState, AttemptReport, EndedAttempt};
use crate::callback::{CallbackState, ClosedCallback};
use crate::child::{ChildState, ParentPlace};
use crate::entity::LockState;
use crate::event::{Event, EventBody, Lineage};
use crate::failure::{Failure, FailureKind, Json, Outcome};
use crate::ids::{AttemptNumber, Digest, EventId, RunNumber};
use crate::limits::{LimitExceeded, Limits, check};
use crate::message::{MessageBody, Outgoing, ReplyTo};
use crate::remote::RemoteState;
use crate::signal::SignalQueues;
use crate::time::Timestamp;
use crate::timer::TimerState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Something from outside that the instance must take a position on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A worker reports an attempt.
    AttemptEnded(AttemptReport),
    /// A timer row is due.
    TimerDue {
        /// Whose.
        op: EventId,
        /// What for.
        purpose: TimerPurpose,
    },
    /// Somebody posted to a callback's URL.
    CallbackPosted {
        /// The callback.
        op: EventId,
        /// What was posted.
        outcome: Outcome,
        /// The digest of what was posted.
        digest: Digest,
    },
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// Its payload.
        payload: Json,
        /// The sender's idempotency key.
        message_id: Option<String>,
    },
    /// A request to cancel.
    Cancel {
        /// Why.
        reason: String,
    },
    /// An order to end at once.
    Terminate {
        /// Why.
        reason: String,
    },
    /// An order not to run until it is resumed.
    Suspend {
        /// Why.
        reason: String,
    },
    /// An order to run again.
    Resume {
        /// Why.
        reason: String,
    },
    /// The answer to a message.
    Reply {
        /// What it answers.
        to: ReplyTo,
        /// The answer.
        outcome: Outcome,
    },
}

/// What a timer row is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TimerPurpose {
    /// A durable timer of the guest.
    Timer,
    /// The next attempt of an activity or a child.
    Retry,
    /// The limit of an activity over all attempts.
    ScheduleToClose,
    /// The expiry of a callback.
    CallbackExpiry,
}

/// Something to do. Rows are written in the same batch as the events; a dispatch is released only after
/// that batch is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Keep a timer row.
    PutTimer {
        /// When it is due.
        due: Timestamp,
        /// Whose.
        op: EventId,
        /// What for.
        purpose: TimerPurpose,
    },
    /// Drop a timer row.
    DropTimer {
        /// When it is due.
        due: Timestamp,
        /// Whose.
        op: EventId,
        /// What for.
        purpose: TimerPurpose,
    },
    /// Hand the attempt to a worker, once what led to it is durable.
    Dispatch {
        /// The activity.
        op: EventId,
        /// The attempt.
        attempt: AttemptNumber,
    },
    /// Interrupt the attempt if it runs.
    Interrupt {
        /// The activity.
        op: EventId,
    },
    /// Send a message, once what led to it is durable.
    Send(Box<Outgoing>),
}

/// What the sender of an input is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Taken.
    Accepted,
    /// The same was taken before.
    Duplicate,
    /// Something else was taken before.
    Conflict,
    /// Too late.
    Gone,
    /// There is no such operation.
    NotFound,
    /// Nothing to do: early, or about something given up on.
    Ignored,
}

/// What an input leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Events to append, in order.
    pub events: Vec<EventBody>,
    /// Effects that follow from no event.
    pub effects: Vec<Effect>,
    /// What the sender is told, once the events are durable.
    pub answer: Answer,
}

impl Decision {
    /// One event, accepted.
    pub fn event(body: EventBody) -> Decision {
        Decision { events: vec![body], effects: Vec::new(), answer: Answer::Accepted }
    }

    /// No event, ignored.
    pub fn nothing() -> Decision {
        Decision { events: Vec::new(), effects: Vec::new(), answer: Answer::Ignored }
    }

    fn answer(answer: Answer) -> Decision {
        Decision { answer, ..Decision::nothing() }
    }
}

/// Where the instance stands in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lifecycle {
    /// It has not ended.
    Running,
    /// The workflow returned an output.
    Completed(Json),
    /// The workflow returned a failure, or the host stopped it.
    Failed(Failure),
    /// The workflow ended because it was asked to.
    Cancelled(Failure),
    /// It was ended from outside, for this reason.
    Terminated(String),
    /// It goes on in the next run.
    Continued,
}

/// An operation that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// An activity.
    Activity(ActivityState),
    /// A durable timer.
    Timer(TimerState),
    /// A callback.
    Callback(CallbackState),
    /// Waiting for a signal of that name since then.
    Signal {
        /// The signal's name.
        name: String,
        /// Since when.
        since: Timestamp,
    },
    /// A child workflow.
    Child(ChildState),
    /// A question to another instance.
    Remote(RemoteState),
    /// A lock that is not held yet.
    Lock(LockState),
}

/// Why operations are given up: the event, and the reason in words.
#[derive(Clone, Copy)]
struct GivenUp<'a> {
    event: EventId,
    reason: &'a str,
}

/// The fold of one run's history.
#[derive(Clone, Debug)]
pub struct InstanceState {
    /// The last event folded in.
    pub last: EventId,
    /// Its time.
    pub last_time: Timestamp,
    /// Where it stands.
    pub lifecycle: Lifecycle,
    /// The custom status.
    pub custom_status: Option<Json>,
    /// The reason of a request to cancel, and its event.
    pub cancel_requested: Option<(EventId, String)>,
    /// Since when it is suspended, and why.
    pub suspended: Option<(Timestamp, String)>,
    /// Where the run comes from.
    pub lineage: Lineage,
    /// Operations under way, oldest first.
    pub open: BTreeMap<EventId, Operation>,
    /// The latest activities that ended, oldest first, as many as were asked for.
    pub ended_activities: VecDeque<(EventId, ActivityState)>,
    ended_activities_kept: usize,
    open_activities: usize,
    callbacks: BTreeMap<EventId, ClosedCallback>,
    signals: SignalQueues<()>,
    signal_waits: BTreeMap<EventId, (String, Timestamp)>,
    /// Idempotency keys of signals, with the events that brought them.
    message_ids: BTreeMap<String, EventId>,
    held_locks: BTreeMap<EventId, LockState>,
    seed: u64,
    id: String,
    run: RunNumber,
}

impl InstanceState {
    /// Before the first event of that run. Keeps that many ended activities for the status.
    pub fn new(run: RunNumber, ended_activities_kept: usize) -> InstanceState {
        InstanceState {
            last: EventId::NONE,
            last_time: Timestamp::default(),
            lifecycle: Lifecycle::Running,
            custom_status: None,
            cancel_requested: None,
            suspended: None,
            lineage: Lineage::default(),
            open: BTreeMap::new(),
            ended_activities: VecDeque::new(),
            ended_activities_kept,
            open_activities: 0,
            callbacks: BTreeMap::new(),
            signals: SignalQueues::default(),
            signal_waits: BTreeMap::new(),
            message_ids: BTreeMap::new(),
            held_locks: BTreeMap::new(),
            seed: 0,
            id: String::new(),
            run,
        }
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.lifecycle != Lifecycle::Running
    }

    /// How it has ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.lifecycle {
            Lifecycle::Running | Lifecycle::Continued => None,
            Lifecycle::Completed(output) => Some(Ok(output.clone())),
            Lifecycle::Failed(failure) | Lifecycle::Cancelled(failure) => Some(Err(failure.clone())),
            Lifecycle::Terminated(reason) => Some(Err(Failure::terminated(reason))),
        }
    }

    /// Signals that arrived and were not taken yet.
    pub fn buffered_signals(&self) -> usize {
        self.signals.buffered()
    }

    /// Whether the answer to this question is waited for.
    pub fn is_asking(&self, to: ReplyTo) -> bool {
        match self.open.get(&to.op) {
            Some(Operation::Child(child)) => child.attempt.0 == to.part && child.not_before.is_none(),
            Some(Operation::Lock(lock)) => lock.is_asking(to),
            Some(Operation::Remote(_)) => true,
            _ => false,
        }
    }

    /// The run whose URLs of callbacks, and number, the workflow was told.
    pub fn told_run(&self) -> RunNumber {
        self.lineage.rewound_from.unwrap_or(self.run)
    }

    /// The events of the signals that nobody has taken, in order of arrival.
    pub fn buffered_signal_events(&self) -> Vec<EventId> {
        self.signals.buffered_events()
    }

    /// The idempotency keys of signals that are known, with the events that brought them.
    pub fn known_message_ids(&self) -> impl Iterator<Item = (EventId, String)> {
        self.message_ids.iter().map(|(id, event)| (*event, id.clone()))
    }

    /// Whether an activity has been scheduled and has not ended.
    pub fn has_open_activities(&self) -> bool {
        self.open_activities > 0
    }

    /// What a restart of the host must do so that every open activity goes on: its attempt may have been lost
    /// with the process. The row of a retry that is still to come may be gone, if the clock was set back.
    pub fn recover_activities(&self, now: Timestamp) -> Vec<Effect> {
        let recover = |(op, operation): (&EventId, &Operation)| match operation {
            Operation::Activity(activity) => Some(activity.recover(*op, now)),
            _ => None,
        };
        self.open.iter().filter_map(recover).collect()
    }

    /// The event with that body that would come next. Its time never goes back.
    pub fn next_event(&self, body: EventBody, now: Timestamp) -> Event {
        Event { id: self.last.next(), time: now.max(self.last_time), cause: EventId::NONE, body }
    }

    /// What an input leads to at this point.
    pub fn decide(&self, input: Input, now: Timestamp, limits: &Limits) -> Result<Decision, LimitExceeded> {
        let decision = match input {
            Input::CallbackPosted { op, outcome, digest } => self.decide_posted(op, outcome, digest, now),
            // A sender that lost our answer gets it again, even if the signal was what ended the instance.
            Input::Signal { message_id: Some(id), .. } if self.message_ids.contains_key(&id) => {
                Decision::answer(Answer::Duplicate)
            }
            _ if self.is_closed() => Decision::answer(Answer::Gone),
            Input::AttemptEnded(report) => match self.open.get(&report.op) {
                Some(Operation::Activity(activity)) => {
                    self.within_history(activity.decide_report(report, now, self.seed), limits)
                }
                _ => Decision::nothing(),
            },
            Input::TimerDue { op, purpose } => self.decide_due(op, purpose, now),
            Input::Signal { name, payload, message_id } => self.decide_signal(name, payload, message_id, limits)?,
            Input::Cancel { .. } if self.cancel_requested.is_some() => Decision::answer(Answer::Duplicate),
            Input::Cancel { reason } => {
                limits.check_payload("the reason to cancel", reason.len())?;
                Decision::event(EventBody::CancelRequested { reason })
            }
            Input::Terminate { reason } => {
                limits.check_payload("the reason to terminate", reason.len())?;
                Decision::event(EventBody::InstanceTerminated { reason })
            }
            Input::Suspend { .. } if self.suspended.is_some() => Decision::answer(Answer::Duplicate),
            Input::Suspend { reason } => {
                limits.check_payload("the reason to suspend", reason.len())?;
                Decision::event(EventBody::InstanceSuspended { reason })
            }
            Input::Resume { .. } if self.suspended.is_none() => Decision::answer(Answer::Conflict),
            Input::Resume { reason } => {
                limits.check_payload("the reason to resume", reason.len())?;
                Decision::event(EventBody::InstanceResumed { reason })
            }
            Input::Reply { to, outcome } => self.within_history(self.decide_reply(to, outcome, now), limits),
        };
        Ok(decision)
    }

    fn decide_reply(&self, to: ReplyTo, outcome: Outcome, now: Timestamp) -> Decision {
        let op = to.op;
        match (self.open.get(&op), outcome) {
            (Some(Operation::Child(child)), outcome) => child.decide_reply(to, outcome, now, self.seed),
            (Some(Operation::Remote(_)), outcome) => Decision::event(EventBody::ReplyReceived { op, outcome }),
            (Some(Operation::Lock(lock)), Ok(_)) if lock.is_asking(to) => {
                Decision::event(EventBody::LockGranted { op, left: lock.left_after_next() })
            }
            (Some(Operation::Lock(lock)), outcome @ Err(_)) if lock.is_asking(to) => {
                Decision::event(EventBody::ReplyReceived { op, outcome })
            }
            _ => Decision::nothing(),
        }
    }

    /// Where the children of this run stand.
    fn place(&self) -> ParentPlace<'_> {
        ParentPlace { instance: &self.id, run: self.run, depth: self.lineage.depth }
    }

    /// A failed attempt is the last one if the history is as long as it may be: retries come without the guest,
    /// so nothing else would ever end them.
    fn within_history(&self, mut decision: Decision, limits: &Limits) -> Decision {
        if self.last.0 < limits.history_events {
            return decision;
        }
        for body in &mut decision.events {
            let (EventBody::ActivityAttemptFailed { failure, .. } | EventBody::ChildAttemptFailed { failure, .. }) =
                &*body
            else {
                continue;
            };
            let reached = LimitExceeded {
                name: "history-events".to_owned(),
                what: format!(
                    "no room for another attempt after `{}`, the history of this run is too long",
                    failure.code
                ),
                found: self.last.next().0,
                limit: limits.history_events,
            };
            let failure = Failure::new(FailureKind::Rejected, &reached.code(), reached.to_string());
            *body = match &*body {
                EventBody::ActivityAttemptFailed { op, attempt, started, .. } => {
                    EventBody::ActivityFailed { op: *op, attempt: *attempt, started: Some(*started), failure }
                }
                EventBody::ChildAttemptFailed { op, .. } => EventBody::ReplyReceived { op: *op, outcome: Err(failure) },
                _ => continue,
            };
        }
        decision
    }

    fn decide_posted(&self, op: EventId, outcome: Outcome, digest: Digest, now: Timestamp) -> Decision {
        match (self.open.get(&op), self.callbacks.get(&op)) {
            (Some(Operation::Callback(callback)), _) => callback.decide_posted(op, outcome, digest, now),
            (_, Some(closed)) => Decision::answer(closed.answer(digest)),
            _ => Decision::answer(Answer::NotFound),
        }
    }

    fn decide_due(&self, op: EventId, purpose: TimerPurpose, now: Timestamp) -> Decision {
        let event = match (self.open.get(&op), purpose) {
            (Some(Operation::Timer(timer)), TimerPurpose::Timer) => timer.decide_due(op, now),
            (Some(Operation::Callback(callback)), TimerPurpose::CallbackExpiry) => callback.decide_due(op, now),
            (Some(Operation::Activity(activity)), _) => return activity.decide_due(op, purpose, now),
            (Some(Operation::Child(child)), TimerPurpose::Retry) => return child.decide_due(op, now, self.place()),
            _ => None,
        };
        event.map_or_else(Decision::nothing, Decision::event)
    }

    fn decide_signal(
        &self,
        name: String,
        payload: Json,
        message_id: Option<String>,
        limits: &Limits,
    ) -> Result<Decision, LimitExceeded> {
        limits.check_name("the signal's name", name.len())?;
        limits.check_payload("the signal's payload", payload.len())?;
        if let Some(id) = &message_id {
            limits.check_name("the signal's message id", id.len())?;
        }
        if !self.signals.is_awaited(&name) {
            let buffered = self.signals.buffered() + 1;
            check("buffered-signals", "too many signals wait to be taken", buffered, limits.buffered_signals)?;
        }
        Ok(Decision::event(EventBody::SignalReceived { name, payload, message_id }))
    }

    /// Folds one event in, which must be the next one, and says what follows from it.
    pub fn apply(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        debug_assert_eq!(event.id, self.last.next(), "events are folded in order, none left out");
        self.last = event.id;
        self.last_time = self.last_time.max(event.time);
        match &event.body {
            EventBody::InstanceStarted { instance, seed, lineage, .. } => {
                self.seed = *seed;
                self.id.clone_from(instance);
                self.lineage = lineage.as_deref().cloned().unwrap_or_default();
                let carried = self.lineage.message_ids.iter().map(|id| (id.clone(), EventId::NONE));
                self.message_ids = carried.collect();
            }
            EventBody::InstanceSuspended { reason } => self.suspended = Some((event.time, reason.clone())),
            EventBody::InstanceResumed { .. } => self.suspended = None,
            EventBody::StatusSet { status } => self.custom_status = Some(status.clone()),
            EventBody::ChangePatched { .. } => {}
            EventBody::CancelRequested { reason } => {
                self.cancel_requested = Some((event.id, reason.clone()));
                self.close_all(GivenUp { event: event.id, reason }, effects);
            }
            body if body.is_terminal() => self.apply_terminal(event, effects),
            EventBody::OperationCancelled { op } => self.apply_cancelled(*op, event.id, effects),
            EventBody::LockReleased { op } => {
                if let Some(lock) = self.held_locks.remove(op) {
                    lock.release(*op, event.id, effects);
                }
            }
            EventBody::EntitySignalled { entity, operation, input } => {
                let body = MessageBody::Operation { operation: operation.clone(), input: input.clone() };
                let to = entity.to_string();
                effects.push(Effect::Send(Box::new(Outgoing { event: event.id, to, reply_to: None, body })));
            }
            body if body.begins_operation() => self.apply_begun(event, effects),
            _ => self.apply_settled(event, effects),
        }
    }

    /// An operation began. The guest may have issued it before it saw a request to cancel that is already
    /// recorded (it was paused meanwhile): then the request covers it, and it never starts.
    fn apply_begun(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        let operation = match &event.body {
            EventBody::ActivityScheduled { name, options, .. } => {
                Operation::Activity(ActivityState::scheduled(name, options, event.time))
            }
            EventBody::TimerStarted { deadline } => {
                Operation::Timer(TimerState { started: event.time, deadline: *deadline })
            }
            EventBody::CallbackCreated { name, expires, .. } => {
                Operation::Callback(CallbackState { name: name.clone(), created: event.time, expires: *expires })
            }
            EventBody::SignalAwaited { name } => return self.apply_signal_awaited(event, name),
            EventBody::LockRequested { entities } => Operation::Lock(LockState::requested(entities, event.time)),
            body => return self.apply_asked(event, body, effects),
        };
        if self.cancel_not_seen(event).is_some() {
            if let Operation::Callback(_) = operation {
                self.callbacks.insert(event.id, ClosedCallback::Gone);
            }
            return;
        }
        match &operation {
            Operation::Activity(activity) => {
                self.open_activities += 1;
                activity.open(event.id, effects);
            }
            Operation::Timer(timer) => timer.open(event.id, effects),
            Operation::Callback(callback) => callback.open(event.id, effects),
            Operation::Lock(lock) => effects.extend(lock.ask_next(event.id, event.id)),
            Operation::Signal { .. } | Operation::Child(_) | Operation::Remote(_) => {}
        }
        self.open.insert(event.id, operation);
    }

    /// A child was started, or another instance asked something.
    fn apply_asked(&mut self, event: &Event, body: &EventBody, effects: &mut Vec<Effect>) {
        if self.cancel_not_seen(event).is_some() {
            return;
        }
        let (operation, message) = match body {
            EventBody::ChildStarted { id, workflow, input, options } => {
                let what = (&**id, &**workflow, input, options);
                let (child, start) = ChildState::started(event.id, event.time, what, self.place());
                (Operation::Child(child), start)
            }
            _ => match RemoteState::asked(event.id, event.time, body, self.lineage.depth) {
                Some((remote, message)) => (Operation::Remote(remote), message),
                None => return,
            },
        };
        effects.push(Effect::Send(Box::new(message)));
        self.open.insert(event.id, operation);
    }

    /// Like every operation, a wait for a signal is covered by a request to cancel that the guest had not
    /// seen; but a signal that was recorded before the request reaches it first.
    fn apply_signal_awaited(&mut self, event: &Event, name: &str) {
        if let Some(cancel) = self.cancel_not_seen(event)
            && self.signals.oldest(name).is_none_or(|signal| signal > cancel)
        {
            return;
        }
        self.signal_waits.insert(event.id, (name.to_owned(), event.time));
        self.open.insert(event.id, Operation::Signal { name: name.to_owned(), since: event.time });
        if let Some(handed) = self.signals.await_next(name, event.id) {
            self.open.remove(&handed.waiter);
        }
    }

    /// The request to cancel, if it was recorded before this command but the guest had not seen it.
    fn cancel_not_seen(&self, command: &Event) -> Option<EventId> {
        self.cancel_requested.as_ref().map(|(cancel, _)| *cancel).filter(|cancel| command.cause < *cancel)
    }

    fn apply_settled(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        let ended = |attempt: &AttemptNumber, started: Option<Timestamp>, failure: Option<&Failure>| EndedAttempt {
            attempt: *attempt,
            started,
            ended: event.time,
            failure: failure.cloned(),
        };
        match &event.body {
            EventBody::ActivityAttemptFailed { op, attempt, started, failure, next_attempt } => {
                if let Some(Operation::Activity(activity)) = self.open.get_mut(op) {
                    let ended = ended(attempt, Some(*started), Some(failure));
                    activity.apply_attempt_failed(*op, ended, *next_attempt, effects);
                }
            }
            EventBody::ActivityCompleted { op, attempt, started, .. } => {
                self.end_activity(*op, ActivityEnd::Completed, Some(ended(attempt, Some(*started), None)), effects);
            }
            EventBody::ActivityFailed { op, attempt, started, failure } => {
                self.end_activity(*op, ActivityEnd::Failed, Some(ended(attempt, *started, Some(failure))), effects);
            }
            EventBody::TimerFired { op } | EventBody::CallbackExpired { op } => {
                self.close(*op, GivenUp { event: event.id, reason: "" }, effects);
            }
            EventBody::CallbackSettled { op, digest, .. } => {
                self.close(*op, GivenUp { event: event.id, reason: "" }, effects);
                self.callbacks.insert(*op, ClosedCallback::Settled(*digest));
            }
            EventBody::ChildAttemptFailed { op, next_attempt, .. } => {
                if let Some(Operation::Child(child)) = self.open.get_mut(op) {
                    child.apply_attempt_failed(*op, event.id, *next_attempt, effects);
                }
            }
            EventBody::ReplyReceived { op, .. } => match self.open.remove(op) {
                Some(Operation::Child(child)) => child.settle(*op, effects),
                Some(Operation::Lock(lock)) => lock.release(*op, event.id, effects),
                _ => {}
            },
            EventBody::LockGranted { op, .. } => self.apply_lock_granted(*op, event.id, effects),
            EventBody::SignalReceived { name, message_id, .. } => {
                self.message_ids.extend(message_id.clone().map(|id| (id, event.id)));
                if let Some(handed) = self.signals.receive(name, event.id, ()) {
                    self.open.remove(&handed.waiter);
                }
            }
            _ => {}
        }
    }

    fn apply_lock_granted(&mut self, op: EventId, event: EventId, effects: &mut Vec<Effect>) {
        let Some(Operation::Lock(lock)) = self.open.get_mut(&op) else { return };
        lock.granted += 1;
        match lock.ask_next(op, event) {
            Some(next) => effects.push(next),
            None => {
                if let Some(Operation::Lock(lock)) = self.open.remove(&op) {
                    self.held_locks.insert(op, lock);
                }
            }
        }
    }

    /// Closes an operation without a result of its own; a callback answers "gone" from then on.
    fn close(&mut self, op: EventId, why: GivenUp<'_>, effects: &mut Vec<Effect>) {
        match self.open.remove(&op) {
            Some(Operation::Child(child)) => child.close(op, why.event, why.reason, self.place(), effects),
            Some(Operation::Lock(lock)) => lock.release(op, why.event, effects),
            Some(Operation::Remote(_)) => {}
            Some(Operation::Timer(timer)) => timer.close(op, effects),
            Some(Operation::Callback(callback)) => {
                callback.close(op, effects);
                self.callbacks.insert(op, ClosedCallback::Gone);
            }
            Some(Operation::Activity(activity)) => {
                self.open.insert(op, Operation::Activity(activity));
                self.end_activity(op, ActivityEnd::Cancelled, None, effects);
            }
            Some(Operation::Signal { name, .. }) => {
                self.signals.forget_waiter(&name, op);
                self.signal_waits.remove(&op);
            }
            None => {}
        }
    }

    fn end_activity(&mut self, op: EventId, end: ActivityEnd, last: Option<EndedAttempt>, effects: &mut Vec<Effect>) {
        let Some(Operation::Activity(mut activity)) = self.open.remove(&op) else { return };
        self.open_activities -= 1;
        activity.close(op, effects);
        activity.apply_end(end, last);
        if self.ended_activities_kept == 0 {
            return;
        }
        if self.ended_activities.len() == self.ended_activities_kept {
            self.ended_activities.pop_front();
        }
        self.ended_activities.push_back((op, activity));
    }

    fn apply_cancelled(&mut self, op: EventId, event: EventId, effects: &mut Vec<Effect>) {
        if self.open.contains_key(&op) {
            let reason = "the workflow that started it does not need it any more";
            return self.close(op, GivenUp { event, reason }, effects);
        }
        // A lock that was granted before the guest could know.
        if let Some(lock) = self.held_locks.remove(&op) {
            return lock.release(op, event, effects);
        }
        // A wait that had been handed a signal and never read it: the signal goes to the next waiter.
        if self.signal_waits.remove(&op).is_some()
            && let Some(handed) = self.signals.give_back(op, ())
        {
            self.open.remove(&handed.waiter);
        }
    }

    fn close_all(&mut self, why: GivenUp<'_>, effects: &mut Vec<Effect>) {
        let open: Vec<EventId> = self.open.keys().copied().collect();
        open.into_iter().for_each(|op| self.close(op, why, effects));
    }

    fn apply_terminal(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        self.lifecycle = match &event.body {
            EventBody::InstanceCompleted { output } => Lifecycle::Completed(output.clone()),
            EventBody::InstanceFailed { failure } | EventBody::InstanceStopped { failure } => {
                Lifecycle::Failed(failure.clone())
            }
            EventBody::InstanceCancelled { failure } => Lifecycle::Cancelled(failure.clone()),
            EventBody::InstanceTerminated { reason } => Lifecycle::Terminated(reason.clone()),
            EventBody::InstanceContinued { .. } => Lifecycle::Continued,
            _ => return,
        };
        self.suspended = None;
        let reason = match &self.lifecycle {
            Lifecycle::Terminated(reason) => format!("the workflow that started it was terminated: {reason}"),
            _ => "the workflow that started it has ended".to_owned(),
        };
        self.close_all(GivenUp { event: event.id, reason: &reason }, effects);
        for (op, lock) in std::mem::take(&mut self.held_locks) {
            lock.release(op, event.id, effects);
        }
        if let (Some(outcome), Some(parent)) = (self.outcome(), &self.lineage.parent) {
            let body = MessageBody::Reply { run: parent.run, to: parent.reply_to, outcome };
            let to = parent.instance.clone();
            effects.push(Effect::Send(Box::new(Outgoing { event: event.id, to, reply_to: None, body })));
        }
    }
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
