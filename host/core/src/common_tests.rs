//! What tests of more than one file need: an instance with its history, and a guest with its host.
//!
//! A [`Subject`] is an instance with its history. Whatever it did, at the end of each test the state folded again from
//! the bytes of that history must be the state that wrote it. In a [`Run`] the test plays the guest by hand, and the run
//! is the host around it: it records inbound events, commits turns, and evicts.

use crate::activity::ActivityState;
use crate::event::{Event, EventBody, Lineage};
use crate::failure::{Failure, FailureKind, Outcome};
use crate::ids::{Digest, EventId, RunNumber};
use crate::instance::{Answer, Decision, Effect, Input, InstanceState, Operation, TimerPurpose};
use crate::limits::{LimitExceeded, Limits};
use crate::message::{MessageBody, Outgoing, ReplyTo};
use crate::replay::{CallbackOrigin, Divergence, Replay, Stop, WaitMode};
use crate::retry::{ActivityOptions, RetryPolicy};
use crate::time::{Nanos, Timestamp};
use expect_test::Expect;
use std::ops::{Deref, DerefMut};

pub const SECOND: i64 = 1_000_000_000;

pub fn secs(secs: i64) -> Timestamp {
    Timestamp(secs * SECOND)
}

pub struct Subject {
    pub state: InstanceState,
    pub history: Vec<Event>,
    pub limits: Limits,
    pub now: Timestamp,
}

impl Subject {
    pub fn started() -> Subject {
        Subject::descending(None)
    }

    /// An instance that comes from there.
    pub fn descending(lineage: Option<Lineage>) -> Subject {
        let (state, limits) = (InstanceState::new(RunNumber::FIRST, 10), Limits::default());
        let mut subject = Subject { state, history: Vec::new(), limits, now: secs(0) };
        subject.record(EventBody::InstanceStarted {
            instance: "order-7".to_owned(),
            workflow: "orders".to_owned(),
            version: "1".to_owned(),
            digest: Digest([7; 32]),
            input: "{}".to_owned(),
            seed: 42,
            lineage: lineage.map(Box::new),
        });
        subject
    }

    /// Folds in an event that the guest or the runtime made, and gives what follows.
    pub fn record(&mut self, body: EventBody) -> Vec<Effect> {
        let cause = self.history.iter().rev().find(|e| !e.body.is_command()).map_or(EventId::NONE, |e| e.id);
        self.record_caused(body, cause)
    }

    /// The same for a command that the guest issued when it had seen no more than `cause`.
    pub fn record_caused(&mut self, body: EventBody, cause: EventId) -> Vec<Effect> {
        let mut event = self.state.next_event(body, self.now);
        if event.body.is_command() {
            event.cause = cause;
        }
        let mut effects = Vec::new();
        self.state.apply(&event, &mut effects);
        self.history.push(event);
        effects
    }

    pub fn last(&self) -> EventId {
        self.state.last
    }

    /// Decides an input at that second and folds its events in.
    pub fn input(&mut self, at: i64, input: Input) -> Taken {
        self.now = secs(at);
        let Decision { events, mut effects, answer } = self.state.decide(input, self.now, &self.limits).unwrap();
        for body in &events {
            effects.extend(self.record(body.clone()));
        }
        Taken { answer, events, effects }
    }

    pub fn refused(&self, input: Input) -> LimitExceeded {
        self.state.decide(input, self.now, &self.limits).unwrap_err()
    }

    pub fn schedule(&mut self, options: ActivityOptions) -> EventId {
        self.record(scheduled(options));
        self.last()
    }

    pub fn timer(&mut self, deadline: i64) -> EventId {
        self.record(EventBody::TimerStarted { deadline: secs(deadline) });
        self.last()
    }

    pub fn callback(&mut self, expires: Option<i64>) -> EventId {
        self.record(callback_created(expires));
        self.last()
    }

    pub fn await_signal(&mut self, name: &str) -> EventId {
        self.record(EventBody::SignalAwaited { name: name.to_owned() });
        self.last()
    }

    pub fn cancel_operation(&mut self, op: EventId) -> Vec<Effect> {
        self.record(EventBody::OperationCancelled { op })
    }

    pub fn activity(&self, op: EventId) -> &ActivityState {
        match self.state.open.get(&op) {
            Some(Operation::Activity(activity)) => activity,
            other => panic!("event {op} is no open activity: {other:?}"),
        }
    }

    pub fn ended(&self, op: EventId) -> &ActivityState {
        &self.state.ended_activities.iter().find(|(event, _)| *event == op).expect("it ended").1
    }

    /// An answer to a question of that operation.
    pub fn reply(&mut self, at: i64, op: EventId, part: u32, outcome: Outcome) -> Taken {
        self.input(at, Input::Reply { to: ReplyTo { op, part }, outcome })
    }

    pub fn is_open(&self, op: EventId) -> bool {
        self.state.open.contains_key(&op)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut again = InstanceState::new(RunNumber::FIRST, 10);
        for event in &self.history {
            let stored = Event::decode(event.id, &event.encode()).unwrap();
            again.apply(&stored, &mut Vec::new());
        }
        assert_eq!(format!("{again:?}"), format!("{:?}", self.state), "the fold gives the state that wrote it");
    }
}

#[derive(Debug)]
pub struct Taken {
    pub answer: Answer,
    pub events: Vec<EventBody>,
    pub effects: Vec<Effect>,
}

impl Taken {
    pub fn left_no_trace(&self, answer: Answer) {
        assert_eq!(self.answer, answer);
        assert_eq!((&self.events, &self.effects), (&vec![], &vec![]), "{answer:?} records and does nothing");
    }
}

pub fn broken() -> Failure {
    Failure::new(FailureKind::Application, "http.status-503", "it broke").retryable()
}

pub fn two_attempts() -> ActivityOptions {
    let retry = RetryPolicy {
        initial_interval: Nanos::from_secs(10),
        backoff_permille: 1000,
        maximum_interval: Nanos::from_secs(10),
        maximum_attempts: Some(2),
        total_timeout: None,
        jitter_permille: 0,
        non_retryable: vec![],
    };
    ActivityOptions { retry: Some(retry), ..ActivityOptions::default() }
}

pub fn scheduled(options: ActivityOptions) -> EventBody {
    EventBody::ActivityScheduled { name: "charge".to_owned(), input: "{}".to_owned(), options }
}

pub fn callback_created(expires: Option<i64>) -> EventBody {
    let base_url = "https://a.example".to_owned();
    EventBody::CallbackCreated { name: "paid".to_owned(), expires: expires.map(secs), base_url, key_id: 1 }
}

pub fn due(op: EventId, purpose: TimerPurpose) -> Input {
    Input::TimerDue { op, purpose }
}

pub fn cancel() -> Input {
    Input::Cancel { reason: "changed my mind".to_owned() }
}

pub fn terminate() -> Input {
    Input::Terminate { reason: "stuck".to_owned() }
}

/// The message that `event` leads to; `asked`: the operation and part that an answer settles.
pub fn send(event: EventId, to: &str, asked: Option<(EventId, u32)>, body: MessageBody) -> Effect {
    let reply_to = asked.map(|(op, part)| ReplyTo { op, part });
    Effect::Send(Box::new(Outgoing { event, to: to.to_owned(), reply_to, body }))
}

pub fn put(due: i64, op: EventId, purpose: TimerPurpose) -> Effect {
    Effect::PutTimer { due: secs(due), op, purpose }
}

pub fn drop_row(due: i64, op: EventId, purpose: TimerPurpose) -> Effect {
    Effect::DropTimer { due: secs(due), op, purpose }
}

pub struct Run {
    pub replay: Replay,
    pub history: Vec<Event>,
    pub ran_through: EventId,
    pub limits: Limits,
    pub second: i64,
}

impl Deref for Run {
    type Target = Replay;
    fn deref(&self) -> &Replay {
        &self.replay
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }
}

pub fn origin() -> CallbackOrigin {
    CallbackOrigin { base_url: "https://a.example".to_owned(), key_id: 1 }
}

pub fn started() -> Event {
    let body = EventBody::InstanceStarted {
        instance: "order-7".to_owned(),
        workflow: "orders".to_owned(),
        version: "1.2.0".to_owned(),
        digest: Digest([7; 32]),
        input: "{\"n\":1}".to_owned(),
        seed: 42,
        lineage: None,
    };
    Event { id: EventId(1), time: secs(1), cause: EventId::NONE, body }
}

impl Run {
    /// A new instance, its first turn under way in the second after it was started.
    pub fn start() -> Run {
        Run::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Run {
        let mut run = Run::of(vec![started()], EventId::NONE, limits);
        run.begin_turn();
        run
    }

    pub fn of(history: Vec<Event>, ran_through: EventId, limits: Limits) -> Run {
        let replay = Replay::new(history.clone(), ran_through, limits.clone(), origin()).unwrap();
        let second = history.last().unwrap().time.0 / 1_000_000_000;
        Run { replay, history, ran_through, limits, second }
    }

    pub fn begin_turn(&mut self) {
        self.second += 1;
        self.replay.begin_turn(secs(self.second));
    }

    pub fn commit(&mut self) -> Vec<Event> {
        let fresh = self.replay.take_fresh();
        for event in &fresh {
            assert_eq!(event.id, self.last_id().next(), "ids have no gaps");
            self.history.push(event.clone());
        }
        self.ran_through = self.replay.ran_through();
        fresh
    }

    pub fn last_id(&self) -> EventId {
        self.history.last().map_or(EventId::NONE, |event| event.id)
    }

    /// Commits the turn, then records an inbound event that the guest can't see yet.
    pub fn record(&mut self, body: EventBody) -> EventId {
        self.commit();
        self.second += 1;
        let event = Event { id: self.last_id().next(), time: secs(self.second), cause: EventId::NONE, body };
        self.history.push(event.clone());
        self.replay.push_inbound(event);
        self.last_id()
    }

    /// Records an inbound event and lets the guest go on with it; gives whether its wait is satisfied.
    pub fn inbound(&mut self, body: EventBody) -> bool {
        self.record(body);
        self.begin_turn();
        self.replay.unblock().unwrap()
    }

    /// Drops the guest after its turn was committed and brings another one to the start.
    pub fn evicted(mut self) -> Run {
        self.commit();
        self.crashed()
    }

    /// Drops the guest in the middle of its turn, as when the host dies. The clock goes on.
    pub fn crashed(self) -> Run {
        Run { second: self.second, ..Run::of(self.history, self.ran_through, self.limits) }
    }

    pub fn activity(&mut self, name: &str) -> EventId {
        self.replay.schedule_activity(name.to_owned(), "1".to_owned(), ActivityOptions::default()).unwrap()
    }

    pub fn timer(&mut self, second: i64) -> EventId {
        self.replay.start_timer(secs(second)).unwrap()
    }

    pub fn signal(&mut self, name: &str) -> EventId {
        self.replay.next_signal(name.to_owned()).unwrap()
    }

    pub fn wait_for(&mut self, op: EventId) -> bool {
        self.replay.wait(WaitMode::Any, &[op])
    }

    pub fn finish(&mut self) -> Vec<Event> {
        self.replay.finish(Ok("null".to_owned())).unwrap();
        self.commit()
    }
}

pub fn check_divergence(stop: Result<impl std::fmt::Debug, Stop>, expected: Expect) {
    match stop {
        Err(Stop::Diverged(found)) => {
            let Divergence { event, expected: wanted, got } = *found;
            expected.assert_eq(&format!("event {event}\nexpected {wanted}\ngot {got}\n"));
        }
        other => panic!("no divergence: {other:?}"),
    }
}

pub fn limit_name<T: std::fmt::Debug>(result: Result<T, Stop>) -> String {
    match result {
        Err(Stop::Limit(limit)) => limit.name,
        other => panic!("no limit was reached: {other:?}"),
    }
}

/// The events that a stored history holds, one a line.
pub fn decoded(text: &str) -> Vec<Event> {
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    let bytes = |line: &str| line.chars().collect::<Vec<_>>().chunks(2).map(byte).collect::<Vec<u8>>();
    (1..).map(EventId).zip(text.lines()).map(|(id, line)| Event::decode(id, &bytes(line)).unwrap()).collect()
}
