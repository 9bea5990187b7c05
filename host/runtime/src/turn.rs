//! One turn's change of one run, gathered until it is committed.

use rehydrate_core::{AttemptNumber, Effect, Event, EventId, InstanceKey, RunNumber, Timestamp};
use rehydrate_store::{Batch, DedupRow, InstanceRow, LogLine, RowIndexKeys, TaskRow, TimerRow};
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
    tasks: BTreeMap<EventId, Option<AttemptNumber>>,
    log: Vec<LogLine>,
    dedup: Option<DedupRow>,
    row_changed: bool,
}

/// What becomes visible once the turn is durable.
#[derive(Debug, Default)]
pub struct Release {
    /// Attempts to hand to workers.
    pub dispatch: Vec<TaskRow>,
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
    pub fn new(key: InstanceKey, run: RunNumber, expected_last: EventId, previous: Option<RowIndexKeys>) -> Turn {
        Turn {
            key,
            run,
            expected_last,
            previous,
            events: Vec::new(),
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            log: Vec::new(),
            dedup: None,
            row_changed: false,
        }
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
                    self.tasks.insert(op, Some(attempt));
                }
                Effect::DropTask { op } => {
                    self.tasks.insert(op, None);
                }
            }
        }
    }

    fn timer(&self, due: Timestamp, op: EventId, purpose: rehydrate_core::TimerPurpose) -> TimerRow {
        TimerRow { due, key: self.key, run: self.run, op, purpose }
    }

    /// Marks that the guest has a turn to take: a task of no operation.
    pub fn mark_guest(&mut self) {
        self.tasks.insert(EventId::NONE, Some(AttemptNumber::FIRST));
    }

    /// The guest has taken its turn.
    pub fn unmark_guest(&mut self) {
        self.tasks.insert(EventId::NONE, None);
    }

    /// Drops a timer row that nothing wants any more.
    pub fn drop_timer(&mut self, row: TimerRow) {
        self.timers.insert(row, false);
    }

    /// Adds log lines.
    pub fn log(&mut self, lines: impl IntoIterator<Item = LogLine>) {
        self.log.extend(lines);
    }

    /// Keeps an idempotency key with what it created.
    pub fn dedup(&mut self, row: DedupRow) {
        self.dedup = Some(row);
    }

    /// The row must be written even without an event.
    pub fn row_changed(&mut self) {
        self.row_changed = true;
    }

    /// Whether there is anything to commit.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.timers.is_empty()
            && self.tasks.is_empty()
            && self.log.is_empty()
            && !self.row_changed
    }

    /// The batch, with the row as it is after the turn, and what to release once it is durable.
    pub fn finish(self, row: Option<&InstanceRow>) -> (Batch, Release) {
        let mut batch = Batch::new(self.key, self.run, self.expected_last);
        let mut release = Release {
            notify: !self.events.is_empty() || self.row_changed,
            ended: row.is_some_and(|row| row.state.is_closed()),
            ..Release::default()
        };
        if !self.events.is_empty() || self.row_changed {
            batch.row = row.cloned();
            batch.previous = self.previous;
        }
        for (timer, kept) in self.timers {
            if kept {
                release.earliest_timer = Some(release.earliest_timer.map_or(timer.due, |due| due.min(timer.due)));
                batch.put_timers.push(timer);
            } else {
                batch.drop_timers.push(timer);
            }
        }
        for (op, attempt) in self.tasks {
            match attempt {
                Some(attempt) => {
                    let task = TaskRow { key: self.key, run: self.run, op, attempt };
                    batch.put_tasks.push(task);
                    if op != EventId::NONE {
                        release.dispatch.push(task);
                    }
                }
                None => {
                    batch.drop_tasks.push((self.run, op));
                    release.interrupt.push((self.run, op));
                }
            }
        }
        batch.events = self.events.into_iter().map(|event| (event.id, event.encode())).collect();
        batch.log = self.log;
        batch.dedup = self.dedup;
        (batch, release)
    }
}
