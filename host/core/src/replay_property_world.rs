//! The world around the workflow of the random worlds: it keeps what the core asks for, and lets things happen.

use super::super::*;
use crate::activity::AttemptReport;
use crate::event::Lineage;
use crate::ids::{AttemptNumber, Digest};
use crate::instance::{Decision, Effect, Input, InstanceState, Operation, TimerPurpose};
use crate::message::{MessageBody, Outgoing, Parent, ReplyTo};

/// The world.
pub struct World {
    random: Random,
    /// The clock.
    pub now: Timestamp,
    pub state: InstanceState,
    pub history: Vec<Event>,
    pub rows: BTreeSet<(Timestamp, EventId, TimerPurpose)>,
    pub tasks: BTreeMap<EventId, AttemptNumber>,
    pub post: Post,
    pub answers: BTreeSet<String>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut world = World::empty(seed, RunNumber::FIRST);
        let body = EventBody::InstanceStarted {
            instance: "wild".to_owned(),
            workflow: "wild".to_owned(),
            version: "1".to_owned(),
            digest: Digest([0; 32]),
            input: "null".to_owned(),
            seed,
            lineage: seed.is_multiple_of(3).then(|| Box::new(Lineage { parent: Some(parent()), ..Lineage::default() })),
        };
        let first = world.state.next_event(body, world.now);
        world.commit(vec![first]);
        world
    }

    fn empty(seed: u64, run: RunNumber) -> World {
        World {
            random: Random::new(seed),
            now: Timestamp(1_000_000_000),
            state: InstanceState::new(run, 10),
            history: Vec::new(),
            rows: BTreeSet::new(),
            tasks: BTreeMap::new(),
            post: Post::default(),
            answers: BTreeSet::new(),
        }
    }

    /// The world of a run whose history was made from that of the failed run before it.
    pub fn of_made(seed: u64, history: Vec<Event>, now: Timestamp) -> World {
        let mut world = World { now, ..World::empty(!seed, RunNumber(2)) };
        let mut effects = Vec::new();
        for event in &history {
            assert_eq!(event.id, world.state.last.next(), "ids have no gaps");
            world.state.apply(event, &mut effects);
        }
        world.history = history;
        effects.into_iter().for_each(|effect| world.carry_out(effect));
        world.check();
        world
    }

    pub fn commit(&mut self, events: Vec<Event>) {
        let mut effects = Vec::new();
        for event in events {
            assert_eq!(event.id, self.state.last.next(), "ids have no gaps");
            assert!(event.time >= self.state.last_time, "time never goes back: {event:?}");
            self.state.apply(&event, &mut effects);
            self.history.push(event);
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect));
        self.check();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::PutTimer { due, op, purpose } => drop(self.rows.insert((due, op, purpose))),
            Effect::DropTimer { due, op, purpose } => drop(self.rows.remove(&(due, op, purpose))),
            Effect::Dispatch { op, attempt } => drop(self.tasks.insert(op, attempt)),
            Effect::Interrupt { op } => drop(self.tasks.remove(&op)),
            Effect::Send(message) => self.post.send(*message),
        }
    }

    /// Everything that is open has the rows that will end it, and nothing else has any.
    fn check(&self) {
        let has = |due: Timestamp, op: &EventId, purpose| self.rows.contains(&(due, *op, purpose));
        for (op, operation) in &self.state.open {
            match operation {
                Operation::Activity(activity) => {
                    let retry = activity.not_before.is_some_and(|due| has(due, op, TimerPurpose::Retry));
                    let task = self.tasks.get(op) == Some(&activity.attempt);
                    assert!(retry != task, "activity {op} is either dispatched or backs off");
                    let close = activity.options.schedule_to_close.map(|limit| activity.scheduled.after(limit));
                    assert!(close.is_none_or(|due| has(due, op, TimerPurpose::ScheduleToClose)));
                }
                Operation::Timer(timer) => assert!(has(timer.deadline, op, TimerPurpose::Timer)),
                Operation::Callback(callback) => {
                    assert!(callback.expires.is_none_or(|due| has(due, op, TimerPurpose::CallbackExpiry)));
                }
                Operation::Child(child) => {
                    let retry = child.not_before.is_some_and(|(due, _)| has(due, op, TimerPurpose::Retry));
                    let sent = self.post.has_started(*op, child.attempt);
                    assert!(
                        retry != sent,
                        "attempt {:?} of child {op} was started or waits for its time",
                        child.attempt
                    );
                }
                Operation::Remote(_) => assert!(self.post.questions.contains_key(op), "{op} was asked"),
                Operation::Lock(lock) => {
                    let asked = lock.granted + 1;
                    assert_eq!(self.post.held(*op), asked, "{op} asks for one entity after the other");
                }
                Operation::Signal { .. } => {}
            }
        }
        let rows = self.rows.iter().map(|(_, op, _)| op);
        let ended: Vec<_> = rows.chain(self.tasks.keys()).filter(|op| !self.state.open.contains_key(op)).collect();
        assert_eq!(ended, Vec::<&EventId>::new(), "what has ended has rows");
        if self.state.is_closed() {
            assert!(self.state.open.is_empty(), "open operations of an ended instance");
            assert!(self.post.locked().is_empty(), "locks of an ended instance");
        }
        let told = self.state.lineage.parent.is_some() && self.state.outcome().is_some();
        assert_eq!(self.post.replies, usize::from(told), "its parent is told once, at the end");
    }

    fn below(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    fn any_id(&mut self) -> EventId {
        let last = self.state.last.0;
        EventId(self.below(last + 3))
    }

    /// Lets something happen, until something that is recorded has; gives the new events.
    pub fn happen(&mut self) -> Vec<Event> {
        loop {
            self.now = self.now.after(Nanos::from_millis(self.random.next_u64() % 3_000));
            let input = self.any_input();
            let decision = self.state.decide(input, self.now, &Limits::default()).unwrap();
            let Decision { events, effects, answer } = decision;
            self.answers.insert(format!("{answer:?} with {} events", events.len()));
            effects.into_iter().for_each(|effect| self.carry_out(effect));
            let before = self.history.len();
            for body in events {
                let event = self.state.next_event(body, self.now);
                self.commit(vec![event]);
            }
            if self.history.len() > before {
                return self.history[before..].to_vec();
            }
        }
    }

    fn any_input(&mut self) -> Input {
        match self.below(130) {
            100..=119 => self.any_reply(),
            120..=129 => self.any_order(),
            0..=29 => self.any_report(),
            30..=49 => match self.rows.first().copied() {
                Some((due, op, purpose)) => {
                    self.now = self.now.max(due);
                    Input::TimerDue { op, purpose }
                }
                None => self.any_signal(),
            },
            50..=54 => {
                let purposes = [TimerPurpose::Timer, TimerPurpose::Retry, TimerPurpose::ScheduleToClose];
                let purpose = purposes[usize::try_from(self.below(3)).unwrap()];
                Input::TimerDue { op: self.any_id(), purpose }
            }
            55..=79 => {
                let op = self.any_id();
                let body = u8::try_from(self.below(3)).unwrap();
                let rejected = Failure::new(FailureKind::Rejected, "no", "no");
                let outcome = if body == 0 { Err(rejected) } else { Ok(body.to_string()) };
                Input::CallbackPosted { op, outcome, digest: Digest([body; 32]) }
            }
            80..=97 => self.any_signal(),
            98 => Input::Cancel { reason: "enough".to_owned() },
            _ if self.below(4) == 0 => Input::Terminate { reason: "enough".to_owned() },
            _ => self.any_signal(),
        }
    }

    fn any_report(&mut self) -> Input {
        let tasks: Vec<(EventId, AttemptNumber)> = self.tasks.iter().map(|(op, attempt)| (*op, *attempt)).collect();
        if tasks.is_empty() || self.below(10) == 0 {
            let (op, attempt) = (self.any_id(), AttemptNumber(u32::try_from(self.below(4)).unwrap()));
            let late = AttemptReport { op, attempt, started: None, outcome: Ok("late".to_owned()) };
            // A worker reports what it was given, now or before; never what is still to come.
            return match self.state.open.get(&op) {
                Some(Operation::Activity(activity)) if activity.attempt <= attempt => self.any_signal(),
                _ => Input::AttemptEnded(late),
            };
        }
        let count = u64::try_from(tasks.len()).unwrap();
        let (op, attempt) = tasks[usize::try_from(self.below(count)).unwrap()];
        let failure = Failure::new(FailureKind::Application, "x", "it broke");
        let outcome = match self.below(8) {
            0 => Err(failure),
            1..=3 => Err(failure.retryable()),
            _ => Ok(format!("{op}.{}", attempt.0)),
        };
        let started = (self.below(5) > 0).then_some(self.now);
        Input::AttemptEnded(AttemptReport { op, attempt, started, outcome })
    }

    /// A reply to what was asked last, or late, or again, or to a part of a question that was never asked.
    fn any_reply(&mut self) -> Input {
        let questions: Vec<ReplyTo> = self.post.questions.values().flatten().copied().collect();
        if questions.is_empty() {
            return self.any_signal();
        }
        let open = |to: &&ReplyTo| self.state.open.contains_key(&to.op);
        let open: Vec<ReplyTo> = questions.iter().filter(open).copied().collect();
        let from = if open.is_empty() || self.below(4) == 0 { &questions } else { &open };
        let count = u64::try_from(from.len()).unwrap();
        let mut to = from[usize::try_from(self.random.next_u64() % count).unwrap()];
        let is_remote = matches!(self.state.open.get(&to.op), Some(Operation::Remote(_)));
        if !is_remote && self.below(8) == 0 {
            to.part += 1000;
        }
        let failure = Failure::new(FailureKind::Application, "x", "it broke");
        let outcome = match self.below(8) {
            0 => Err(failure),
            1 => Err(Failure::cancelled("no")),
            2 => Err(Failure::new(FailureKind::Rejected, "busy", "not now").retryable()),
            _ => Ok(format!("{}.{}", to.op, to.part)),
        };
        Input::Reply { to, outcome }
    }

    fn any_order(&mut self) -> Input {
        match (self.state.suspended.is_some(), self.below(10)) {
            (true, 0..=5) => Input::Resume { reason: "repaired".to_owned() },
            (_, 6 | 7) => Input::Resume { reason: "by mistake".to_owned() },
            (_, 8 | 9) => Input::Suspend { reason: "repair".to_owned() },
            _ => self.any_signal(),
        }
    }

    fn any_signal(&mut self) -> Input {
        let name = ["go", "stop", "more"][usize::try_from(self.below(3)).unwrap()].to_owned();
        let message_id = (self.below(3) == 0).then(|| self.below(20).to_string());
        Input::Signal { name, payload: self.below(1_000).to_string(), message_id }
    }
}

fn parent() -> Parent {
    Parent { instance: "parent".to_owned(), run: RunNumber(7), reply_to: ReplyTo { op: EventId(9), part: 2 } }
}

/// The messages that were sent, and what must hold of them.
#[derive(Default)]
pub struct Post {
    /// The questions of each operation.
    questions: BTreeMap<EventId, Vec<ReplyTo>>,
    /// The event of the last message to each receiver.
    last_to: BTreeMap<String, EventId>,
    starts: BTreeMap<(EventId, u32), Outgoing>,
    closed_children: BTreeSet<EventId>,
    /// Entities that were asked for a lock, and whether they were told that it is given back.
    locks: BTreeMap<(EventId, String), bool>,
    replies: usize,
    /// The kinds of messages that were sent.
    pub kinds: BTreeSet<&'static str>,
}

impl Post {
    fn send(&mut self, message: Outgoing) {
        let started = message.reply_to.and_then(|to| self.starts.get(&(to.op, to.part)));
        if let Some(first) = started {
            assert_eq!(&message, first, "an attempt is started once, or with the same message");
            return;
        }
        let last = self.last_to.insert(message.to.clone(), message.event);
        assert!(last.is_none_or(|last| last < message.event), "messages to one receiver keep their order: {message:?}");
        if let Some(to) = message.reply_to {
            self.questions.entry(to.op).or_default().push(to);
        }
        let kind = match &message.body {
            MessageBody::Start(start) => self.check_start(&message, start.parent.as_ref()),
            MessageBody::Signal { .. } => "signal",
            MessageBody::Cancel { child_of: None, .. } => "cancel",
            MessageBody::Cancel { child_of: Some(parent), .. } => self.check_close(&message, parent, "cancel child"),
            MessageBody::Terminate { child_of, .. } => self.check_close(&message, child_of, "terminate child"),
            MessageBody::Reply { run, to, .. } => {
                self.replies += 1;
                assert_eq!((&*message.to, *run, *to), ("parent", parent().run, parent().reply_to));
                "reply"
            }
            MessageBody::Operation { .. } if message.reply_to.is_some() => "call",
            MessageBody::Operation { .. } => "operation",
            MessageBody::Lock => {
                let asked = self.locks.insert((message.reply_to.unwrap().op, message.to.clone()), false);
                assert_eq!(asked, None, "an entity is asked for a lock once");
                "lock"
            }
            MessageBody::Unlock { op } => {
                let told = self.locks.insert((*op, message.to.clone()), true);
                assert_eq!(told, Some(false), "an entity that was asked is told once");
                "unlock"
            }
        };
        self.kinds.insert(kind);
    }

    fn check_start(&mut self, message: &Outgoing, parent: Option<&Parent>) -> &'static str {
        let Some(parent) = parent else { return "start" };
        let to = message.reply_to.unwrap();
        assert_eq!((&*parent.instance, parent.reply_to), ("wild", to));
        assert!(!self.closed_children.contains(&to.op), "a child that was given up is not started");
        self.starts.insert((to.op, to.part), message.clone());
        "start child"
    }

    fn check_close(&mut self, message: &Outgoing, parent: &Parent, kind: &'static str) -> &'static str {
        let op = parent.reply_to.op;
        let first = self.starts.get(&(op, 1)).expect("it was started");
        assert_eq!(first.to, message.to);
        assert!(self.closed_children.insert(op), "a child is given up once");
        kind
    }

    fn has_started(&self, op: EventId, attempt: AttemptNumber) -> bool {
        self.starts.contains_key(&(op, attempt.0))
    }

    /// How many entities were asked by a lock and have not been told that it is given back.
    fn held(&self, op: EventId) -> usize {
        self.locks.iter().filter(|((lock, _), told)| *lock == op && !**told).count()
    }

    /// The locks that were asked for and not given back.
    pub fn locked(&self) -> BTreeSet<EventId> {
        self.locks.iter().filter(|(_, told)| !**told).map(|((lock, _), _)| *lock).collect()
    }
}
