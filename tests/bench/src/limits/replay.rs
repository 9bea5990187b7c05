//! Bare replay: the guest and its view of a history, with no store and no runtime.

use crate::host::Places;
use crate::numbers::{float, per_second};
use anyhow::{Context as _, bail};
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{AttemptNumber, Event, EventBody, EventId, Limits, Replay, RunNumber, Timestamp};
use rehydrate_guest::{CallbackUrls, Component, Step, WorkflowComponent, WorkflowGuest};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How fast a history was replayed.
#[derive(Clone, Copy, Debug)]
pub struct BareReplay {
    /// Events in the history.
    pub events: u64,
    /// The time of one replay of it, the mean of some.
    pub time: Duration,
}

impl BareReplay {
    /// Events replayed in a second.
    pub fn events_per_second(&self) -> f64 {
        per_second(self.events, self.time)
    }

    /// The time for that many events, in milliseconds.
    pub fn millis_for(&self, events: u64) -> f64 {
        float(events) / self.events_per_second() * 1e3
    }
}

/// Replays histories of W5 with the workflow's own component.
pub struct Replayer {
    component: WorkflowComponent,
    limits: Limits,
    now: Timestamp,
}

impl Replayer {
    /// Compiles the component; what was compiled is kept in `directory`.
    pub fn new(places: &Places, directory: &Path) -> anyhow::Result<Replayer> {
        let limits = Limits::default();
        let component = super::load(&places.workflow, directory, &limits)?;
        let Component::Workflow(component) = component else { bail!("the workflow's component is no workflow") };
        Ok(Replayer { component, limits, now: Timestamp(1_700_000_000_000_000_000) })
    }

    /// Replays a history of that many steps again and again for `length`, at least once.
    pub fn measure(&self, steps: u64, length: Duration) -> anyhow::Result<BareReplay> {
        let history = self.history(steps)?;
        let events = crate::numbers::count(history.len());
        self.replay(&history)?;
        let (mut times, mut done) = (Duration::ZERO, 0);
        while done == 0 || times < length {
            times += self.replay(&history)?;
            done += 1;
        }
        Ok(BareReplay { events, time: times / done })
    }

    /// Replays a history of that many steps again and again for `length`; how often.
    pub fn replay_for(&self, steps: u64, length: Duration) -> anyhow::Result<u64> {
        let history = self.history(steps)?;
        let (begun, mut replays) = (Instant::now(), 0);
        while begun.elapsed() < length {
            self.replay(&history)?;
            replays += 1;
        }
        Ok(replays)
    }

    /// Makes a history of that many steps and replays it so often.
    pub fn repeat(&self, steps: u64, times: usize) -> anyhow::Result<()> {
        let history = self.history(steps)?;
        (0..times).try_for_each(|_| self.replay(&history).map(drop))
    }

    /// The time of one replay, the copy of the history not counted.
    fn replay(&self, history: &[Event]) -> anyhow::Result<Duration> {
        let (copy, through) = (history.to_vec(), last_inbound(history));
        let begun = Instant::now();
        let mut guest = self.guest(copy, through)?;
        step(&mut guest)?;
        Ok(begun.elapsed())
    }

    fn guest(&self, history: Vec<Event>, ran_through: EventId) -> anyhow::Result<WorkflowGuest> {
        let replay = Replay::new(history, ran_through, self.limits.clone(), CallbackOrigin::default());
        Ok(WorkflowGuest::new(&self.component, replay.context("a history begins with a start")?, Arc::new(NoUrls)))
    }

    /// The history of a run that has taken that many steps and waits for the next: made by running it.
    fn history(&self, steps: u64) -> anyhow::Result<Vec<Event>> {
        let mut history = vec![self.inbound(
            EventId(1),
            EventBody::InstanceStarted {
                instance: "bare".to_owned(),
                workflow: "bench".to_owned(),
                version: "1".to_owned(),
                digest: self.component.digest(),
                input: format!(r#"{{"steps":{}}}"#, steps + 1),
                seed: 1,
                lineage: None,
            },
        )];
        let mut guest = self.guest(history.clone(), EventId::NONE)?;
        for output in 1..=steps {
            let op = self.turn(&mut guest, &mut history)?;
            let completed = EventBody::ActivityCompleted {
                op,
                attempt: AttemptNumber::FIRST,
                started: self.now,
                output: output.to_string(),
            };
            let event = self.inbound(op.next(), completed);
            guest.with_replay(|replay| replay.push_inbound(event.clone()));
            history.push(event);
        }
        self.turn(&mut guest, &mut history)?;
        Ok(history)
    }

    /// Lets the guest run until it waits for the activity that it schedules, which is given.
    fn turn(&self, guest: &mut WorkflowGuest, history: &mut Vec<Event>) -> anyhow::Result<EventId> {
        guest.begin_turn(self.now);
        step(guest)?;
        history.extend(guest.with_replay(Replay::take_fresh));
        history.last().map(|event| event.id).context("the guest did something")
    }

    fn inbound(&self, id: EventId, body: EventBody) -> Event {
        Event { id, time: self.now, cause: EventId::NONE, body }
    }
}

/// Runs the guest until it waits.
fn step(guest: &mut WorkflowGuest) -> anyhow::Result<()> {
    loop {
        match guest.step() {
            Step::Yielded => {}
            Step::Waiting => return Ok(()),
            other => bail!("the guest should wait, but: {other:?}"),
        }
    }
}

fn last_inbound(history: &[Event]) -> EventId {
    history.iter().rfind(|event| !event.body.is_command()).map_or(EventId::NONE, |event| event.id)
}

/// There are no callbacks in these histories.
struct NoUrls;

impl CallbackUrls for NoUrls {
    fn url(&self, _origin: &CallbackOrigin, _op: EventId) -> String {
        String::new()
    }

    fn run(&self) -> RunNumber {
        RunNumber::FIRST
    }
}
