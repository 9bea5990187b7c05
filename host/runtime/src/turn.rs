//! One turn's change of one run, gathered until it is committed.

use crate::workers::{Dispatch, Scheduled};
use rehydrate_core::{
    AttemptNumber, Effect, Event, EventBody, EventId, InstanceKey, Message, MessageId, Outgoing, RunNumber, Timestamp,
};
use rehydrate_store::{Batch, DedupRow, InstanceRow, LogLine, RowIndexKeys, TimerRow, UnderWay};
use std::collections::BTreeMap;

/// What a turn has gathered so far. Of several effects on one row the last one counts, so a timer that was
/// started and cancelled in one turn is never written.
pub struct Turn {
    key: InstanceKey,
    run: RunNumber,
    expected_last: EventId,
    previous: Option<RowIndexKeys>,
    events: Vec<Event>,
    timers: BTreeMap<TimerRow, bool>,
    attempts: BTreeMap<EventId, Option<AttemptNumber>>,
    under_way: Option<UnderWay>,
    log: Vec<LogLine>,
    dedup: Option<DedupRow>,
    outgoing: Vec<Outgoing>,
    answers: Vec<Message>,
    received: Vec<MessageId>,
    row_changed: bool,
}

/// What becomes visible once the turn is durable.
#[derive(Debug, Default)]
pub struct Release {
    /// Attempts to hand to workers.
    pub dispatch: Vec<Dispatch>,
    /// Messages to hand to their receivers.
    pub messages: Vec<Message>,
    /// Attempts to interrupt.
    pub interrupt: Vec<(RunNumber, EventId)>,
    /// The earliest timer that was put.
    pub earliest_timer: Option<Timestamp>,
    /// Whether anything was committed that watchers want to know.
    pub notify: bool,
    /// Whether the run has ended.
    pub ended: bool,
}

impl Turn {
    /// A turn of a run whose last stored event is `expected_last`; `previous` is its stored row's index.
    pub fn new(key: InstanceKey, run: RunNumber, expected_last: EventId, previous: Option<RowIndexKeys>) -> Box<Turn> {
        Box::new(Turn {
            key,
            run,
            expected_last,
            previous,
            events: Vec::new(),
            timers: BTreeMap::new(),
            attempts: BTreeMap::new(),
            under_way: None,
            log: Vec::new(),
            dedup: None,
            outgoing: Vec::new(),
            answers: Vec::new(),
            received: Vec::new(),
            row_changed: false,
        })
    }

    /// The index of the row that is stored by now.
    pub fn replaces(&mut self, previous: Option<RowIndexKeys>) {
        self.previous = previous;
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The stored events of the run and, on top of them, the new ones.
    pub fn with_new_events(&self, mut stored: Vec<Event>) -> Vec<Event> {
        stored.extend(self.events.iter().cloned());
        stored
    }

    /// Adds effects, in order.
    pub fn effects(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::PutTimer { due, op, purpose } => {
                    self.timers.insert(self.timer(due, op, purpose), true);
                }
                Effect::DropTimer { due, op, purpose } => {
                    self.timers.insert(self.timer(due, op, purpose), false);
                }
                Effect::Dispatch { op, attempt } => {
                    self.attempts.insert(op, Some(attempt));
                }
                Effect::Interrupt { op } => {
                    self.attempts.insert(op, None);
                }
                Effect::Send(outgoing) => self.outgoing.push(*outgoing),
            }
        }
    }

    fn timer(&self, due: Timestamp, op: EventId, purpose: rehydrate_core::TimerPurpose) -> TimerRow {
        TimerRow { due, key: self.key, run: self.run, op, purpose }
    }

    /// What the run has under way after this turn, if that is not what is stored.
    pub fn under_way(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    /// Drops a timer row that nothing wants any more.
    pub fn drop_timer(&mut self, row: TimerRow) {
        self.timers.insert(row, false);
    }

    /// Answers a message, if an answer is wanted.
    pub fn answer(&mut self, answer: Option<Message>) {
        self.answers.extend(answer);
    }

    /// This turn takes a message.
    pub fn received(&mut self, id: MessageId) {
        self.received.push(id);
    }

    /// The last of the new events.
    pub fn last_event(&self) -> Option<&Event> {
        self.events.last()
    }

    /// The new event of that id, if it is one of this turn's.
    pub fn event_of_id(&self, id: EventId) -> Option<&Event> {
        self.events.binary_search_by_key(&id, |event| event.id).ok().and_then(|at| self.events.get(at))
    }

    /// Adds log lines.
    pub fn log(&mut self, lines: impl IntoIterator<Item = LogLine>) {
        self.log.extend(lines);
    }

    /// Keeps an idempotency key with what it created.
    pub fn dedup(&mut self, row: DedupRow) {
        self.dedup = Some(row);
    }

    /// The row says something that the events don't.
    pub fn row_changed(&mut self) {
        self.row_changed = true;
    }

    /// Whether there is nothing to make durable.
    pub fn writes_nothing(&self) -> bool {
        self.events.is_empty()
            && self.timers.is_empty()
            && self.under_way.is_none()
            && self.log.is_empty()
            && self.outgoing.is_empty()
            && self.answers.is_empty()
            && self.received.is_empty()
            && !self.row_changed
    }

    /// The batch, with the row as it is after the turn, and what to release once it is durable.
    pub fn finish(mut self: Box<Self>, row: Option<&InstanceRow>) -> (Box<Batch>, Release) {
        let mut batch = Box::new(Batch::new(self.key, self.run, self.expected_last));
        let mut release = Release {
            notify: !self.events.is_empty() || self.row_changed,
            ended: row.is_some_and(|row| row.state.is_closed()),
            ..Release::default()
        };
        if self.row_changed {
            batch.row = row.cloned();
            batch.previous = self.previous;
        }
        for (timer, kept) in std::mem::take(&mut self.timers) {
            if kept {
                release.earliest_timer = Some(release.earliest_timer.map_or(timer.due, |due| due.min(timer.due)));
                batch.put_timers.push(timer);
            } else {
                batch.drop_timers.push(timer);
            }
        }
        batch.events = self.events.iter().map(|event| (event.id, event.encode())).collect();
        for (op, attempt) in std::mem::take(&mut self.attempts) {
            match (attempt, row) {
                (Some(attempt), Some(row)) => release.dispatch.push(self.dispatch(op, attempt, row)),
                _ => release.interrupt.push((self.run, op)),
            }
        }
        batch.send = self.messages(row);
        release.messages.clone_from(&batch.send);
        batch.received = self.received;
        batch.under_way = self.under_way;
        batch.log = self.log;
        batch.dedup = self.dedup;
        (batch, release)
    }

    /// What is sent, with ids: each event counts its messages.
    fn messages(&mut self, row: Option<&InstanceRow>) -> Vec<Message> {
        let mut messages = std::mem::take(&mut self.answers);
        let mut counts: BTreeMap<EventId, u32> = BTreeMap::new();
        for Outgoing { event, to, reply_to, body } in std::mem::take(&mut self.outgoing) {
            let part = counts.entry(event).and_modify(|part| *part += 1).or_insert(1);
            let id = MessageId { sender: self.key, run: self.run, event, part: *part, is_answer: false };
            let from = row.map_or_else(String::new, |row| row.id.clone());
            messages.push(Message { id, from, to, reply_to, body });
        }
        messages
    }

    /// An attempt to run. What an activity is that was scheduled in this turn need not be read again.
    fn dispatch(&mut self, op: EventId, attempt: AttemptNumber, row: &InstanceRow) -> Dispatch {
        let at = self.events.binary_search_by_key(&op, |event| event.id);
        let scheduled = at.ok().and_then(|at| match &mut self.events[at].body {
            EventBody::ActivityScheduled { name, input, options } => Some(Box::new(Scheduled {
                name: std::mem::take(name),
                input: std::mem::take(input),
                options: std::mem::take(options),
            })),
            _ => None,
        });
        Dispatch { key: self.key, run: self.run, op, attempt, instance: row.id.clone(), scheduled }
    }
}
