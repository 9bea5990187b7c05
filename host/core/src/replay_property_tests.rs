//! Random workflows in random worlds: whatever happens and whenever the guest is dropped, the history is
//! the same, and it replays.
//!
//! A [`Guest`] chooses each step by a hash of all it has seen, so that the smallest difference in what it is
//! shown changes what it does next. A [`World`] keeps the rows and tasks that the core asks for, and lets
//! any input happen that can: attempts that succeed and fail, rows that are due, early or of the wrong
//! purpose, posts, signals, requests to cancel. Everything follows from the seed in a test's message.

use super::*;
use crate::activity::AttemptReport;
use crate::ids::{AttemptNumber, Digest};
use crate::instance::{Decision, Effect, Input, InstanceState, Operation, TimerPurpose};
use crate::random::split_mix;
use crate::retry::RetryPolicy;

const SEEDS: u64 = 400;

// ---- the guest -------------------------------------------------------------------------------------

struct Guest {
    mix: u64,
    steps_left: u32,
    ops: Vec<EventId>,
    wait: Option<(WaitMode, Vec<EventId>)>,
    seen: Vec<String>,
}

impl Guest {
    fn new(seed: u64) -> Guest {
        let steps_left = 20 + u32::try_from(seed % 50).unwrap();
        Guest { mix: seed, steps_left, ops: Vec::new(), wait: None, seen: Vec::new() }
    }

    fn observe(&mut self, what: String) {
        for byte in what.bytes() {
            self.mix = (self.mix ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.seen.push(what);
    }

    fn choose(&mut self, below: u64) -> u64 {
        split_mix(&mut self.mix) % below
    }

    fn name(&mut self) -> String {
        ["go", "stop", "more"][usize::try_from(self.choose(3)).unwrap()].to_owned()
    }

    fn some_op(&mut self) -> Option<EventId> {
        let count = u64::try_from(self.ops.len()).unwrap();
        let place = (count > 0).then(|| self.choose(count))?;
        self.ops.get(usize::try_from(place).unwrap()).copied()
    }

    /// Runs until it has returned (true) or waits (false).
    fn run(&mut self, replay: &mut Replay) -> Result<bool, Stop> {
        loop {
            if let Some((_, ops)) = &self.wait {
                if !replay.unblock()? {
                    return Ok(false);
                }
                let settled = replay.settled_among(ops);
                self.wait = None;
                self.observe(format!("woken at {} by {settled:?}", replay.now().0));
            }
            if self.steps_left == 0 {
                replay.finish(self.result())?;
                return Ok(true);
            }
            self.steps_left -= 1;
            self.step(replay)?;
        }
    }

    fn result(&mut self) -> Outcome {
        match self.choose(3) {
            0 => Ok(self.mix.to_string()),
            1 => Err(Failure::cancelled("as asked")),
            _ => Err(Failure::new(FailureKind::Application, "x", self.mix.to_string())),
        }
    }

    fn step(&mut self, replay: &mut Replay) -> Result<(), Stop> {
        match self.choose(20) {
            0..=6 => self.begin(replay)?,
            7 => match self.some_op() {
                Some(op) => replay.cancel(op)?,
                None => replay.set_status(self.mix.to_string())?,
            },
            8 => {
                if let Some(op) = self.some_op() {
                    // What the host does when a pending is dropped.
                    replay.cancel(op)?;
                    replay.release(op);
                    self.ops.retain(|held| *held != op);
                }
            }
            9 | 10 => {
                if let Some(op) = self.some_op() {
                    let outcome = replay.read(op);
                    self.observe(format!("{op} is {outcome:?}"));
                }
            }
            11 => replay.set_status(format!("\"{}\"", self.mix))?,
            12 => {
                let change = self.name();
                let patched = replay.patched(change)?;
                self.observe(format!("patched {patched}"));
            }
            13 => {
                let (number, cancel) = (replay.random().next_u64(), replay.cancel_requested().map(str::to_owned));
                self.observe(format!("{number} at {} cancel {cancel:?}", replay.now().0));
            }
            _ => self.start_waiting(replay),
        }
        Ok(())
    }

    fn begin(&mut self, replay: &mut Replay) -> Result<(), Stop> {
        let length = Nanos::from_secs(self.choose(90) + 1);
        let op = match self.choose(5) {
            0 | 1 => {
                let (input, options) = (self.mix.to_string(), self.options());
                replay.schedule_activity("work".to_owned(), input, options)?
            }
            2 => replay.start_timer(replay.now().after(length))?,
            3 => {
                let expires = (self.choose(2) == 0).then_some(length);
                let op = replay.create_callback("paid".to_owned(), expires)?;
                self.observe(format!("{:?}", replay.callback_origin(op)));
                op
            }
            _ => {
                let name = self.name();
                replay.next_signal(name)?
            }
        };
        self.ops.push(op);
        Ok(())
    }

    fn options(&mut self) -> ActivityOptions {
        let retry = RetryPolicy {
            initial_interval: Nanos::from_secs(self.choose(5)),
            backoff_permille: 1500,
            maximum_interval: Nanos::from_secs(20),
            maximum_attempts: (self.choose(2) == 0).then_some(3),
            total_timeout: Some(Nanos::from_secs(120)),
            jitter_permille: 500,
            non_retryable: vec![],
        };
        ActivityOptions {
            schedule_to_close: (self.choose(2) == 0).then_some(Nanos::from_secs(40)),
            retry: (self.choose(3) > 0).then_some(retry),
            ..ActivityOptions::default()
        }
    }

    fn start_waiting(&mut self, replay: &mut Replay) {
        let ops: Vec<EventId> = (0..=self.choose(3)).filter_map(|_| self.some_op()).collect();
        if ops.is_empty() {
            return;
        }
        let mode = if self.choose(3) == 0 { WaitMode::All } else { WaitMode::Any };
        if replay.wait(mode, &ops) {
            let settled = replay.settled_among(&ops);
            self.observe(format!("not blocked: {settled:?}"));
        } else {
            self.wait = Some((mode, ops));
        }
    }
}

// ---- the world -------------------------------------------------------------------------------------

struct World {
    random: Random,
    now: Timestamp,
    state: InstanceState,
    history: Vec<Event>,
    rows: BTreeSet<(Timestamp, EventId, TimerPurpose)>,
    tasks: BTreeMap<EventId, AttemptNumber>,
    answers: BTreeSet<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            now: Timestamp(1_000_000_000),
            state: InstanceState::new(RunNumber::FIRST, 10),
            history: Vec::new(),
            rows: BTreeSet::new(),
            tasks: BTreeMap::new(),
            answers: BTreeSet::new(),
        };
        let body = EventBody::InstanceStarted {
            instance: "wild".to_owned(),
            workflow: "wild".to_owned(),
            version: "1".to_owned(),
            digest: Digest([0; 32]),
            input: "null".to_owned(),
            seed,
            lineage: None,
        };
        let first = world.state.next_event(body, world.now);
        world.commit(vec![first]);
        world
    }

    fn commit(&mut self, events: Vec<Event>) {
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
                Operation::Signal { .. } => {}
            }
        }
        let rows = self.rows.iter().map(|(_, op, _)| op);
        assert!(rows.chain(self.tasks.keys()).all(|op| self.state.open.contains_key(op)), "rows of what has ended");
        assert!(self.state.open.is_empty() || !self.state.is_closed(), "open operations of an ended instance");
    }

    fn below(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    fn any_id(&mut self) -> EventId {
        let last = self.state.last.0;
        EventId(self.below(last + 3))
    }

    /// Lets something happen, until something that is recorded has; gives the new events.
    fn happen(&mut self) -> Vec<Event> {
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
        match self.below(100) {
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

    fn any_signal(&mut self) -> Input {
        let name = ["go", "stop", "more"][usize::try_from(self.below(3)).unwrap()].to_owned();
        let message_id = (self.below(3) == 0).then(|| self.below(20).to_string());
        Input::Signal { name, payload: self.below(1_000).to_string(), message_id }
    }
}

// ---- the host --------------------------------------------------------------------------------------

/// When the guest is dropped.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Evict {
    Never,
    AtEveryEvent,
    Sometimes,
    /// And before that it runs its turn, but the host dies before the commit.
    InTheMiddleOfEveryTurn,
}

/// One thing that happened, and what the guest did then.
struct Batch {
    inbound: Vec<Event>,
    /// When the guest ran; none if it could not.
    turn: Option<Timestamp>,
    commands: Vec<Event>,
    ran_through: EventId,
}

struct Life {
    history: Vec<Event>,
    seen: Vec<String>,
    batches: Vec<Batch>,
    ran_through: EventId,
    world: World,
}

fn origin() -> CallbackOrigin {
    CallbackOrigin { base_url: "https://a.example".to_owned(), key_id: 1 }
}

/// A guest brought to where `ran_through` says, against that history.
fn rehydrated(seed: u64, history: &[Event], ran_through: EventId) -> (Guest, Replay) {
    let replay = Replay::new(history.to_vec(), ran_through, Limits::default(), origin()).unwrap();
    (Guest::new(seed), replay)
}

/// Runs an instance from start to end. With `behind`, the guest can't run after every second event or so.
fn live(seed: u64, evict: Evict, behind: bool) -> Life {
    let mut world = World::new(seed);
    let mut paused = Random::new(seed ^ 1);
    let mut evicted = Random::new(seed ^ 2);
    let (mut guest, mut replay) = rehydrated(seed, &world.history, EventId::NONE);
    let mut ran_through = EventId::NONE;
    let mut batches = Vec::new();
    let mut inbound = world.history.clone();
    loop {
        // After its end from outside there is nothing to run for.
        let can_run =
            !world.state.is_closed() && (!behind || inbound[0].id == EventId(1) || paused.next_u64().is_multiple_of(2));
        let mut batch = Batch { inbound, turn: can_run.then_some(world.now), commands: Vec::new(), ran_through };
        if can_run {
            if evict == Evict::InTheMiddleOfEveryTurn {
                let (mut lost, mut lost_replay) = rehydrated(seed, &world.history, ran_through);
                lost_replay.begin_turn(world.now);
                lost.run(&mut lost_replay).unwrap();
            }
            if evict != Evict::Never && (evict != Evict::Sometimes || evicted.next_u64().is_multiple_of(3)) {
                (guest, replay) = rehydrated(seed, &world.history, ran_through);
            }
            replay.begin_turn(world.now);
            let returned = guest.run(&mut replay).unwrap_or_else(|stop| panic!("seed {seed}, {evict:?}: {stop}"));
            batch.commands = replay.take_fresh();
            ran_through = replay.ran_through();
            batch.ran_through = ran_through;
            world.commit(batch.commands.clone());
            assert!(!returned || world.state.is_closed());
            check_views(seed, &replay, &world.state);
        }
        batches.push(batch);
        if world.state.is_closed() {
            let history = world.history.clone();
            return Life { history, seen: guest.seen, batches, ran_through, world };
        }
        assert!(world.history.len() < 20_000, "seed {seed} does not end");
        inbound = world.happen();
        inbound.iter().for_each(|event| replay.push_inbound(event.clone()));
    }
}

/// What the guest waits for in its own view is what the instance says is open, and no signal is in one
/// place only.
fn check_views(seed: u64, replay: &Replay, state: &InstanceState) {
    if state.is_closed() {
        return;
    }
    let unsettled = replay.views.iter().filter(|(_, view)| view.outcome.is_none()).map(|(op, _)| *op);
    let unsettled: Vec<EventId> = unsettled.collect();
    let open: Vec<EventId> = state.open.keys().copied().collect();
    assert_eq!(unsettled, open, "seed {seed} at event {}", state.last);
    assert_eq!(replay.unsettled, unsettled.len(), "seed {seed}");
    assert_eq!(replay.signals.buffered(), state.buffered_signals(), "seed {seed} at event {}", state.last);
}

// ---- the properties --------------------------------------------------------------------------------

#[test]
fn the_history_is_the_same_however_often_the_guest_is_dropped() {
    for seed in 0..SEEDS {
        for behind in [false, true] {
            let resident = live(seed, Evict::Never, behind);
            for evict in [Evict::AtEveryEvent, Evict::Sometimes, Evict::InTheMiddleOfEveryTurn] {
                let other = live(seed, evict, behind);
                assert_eq!(other.history, resident.history, "seed {seed}, {evict:?}, behind: {behind}");
                assert_eq!(other.seen, resident.seen, "seed {seed}, {evict:?}, behind: {behind}");
            }
        }
    }
}

#[test]
fn a_history_replays_to_its_end_and_shows_the_guest_the_same() {
    for seed in 0..SEEDS {
        let behind = seed % 2 == 0;
        let life = live(seed, Evict::Never, behind);
        let (mut guest, mut replay) = rehydrated(seed, &life.history, life.ran_through);
        let returned = guest.run(&mut replay).unwrap();
        assert_eq!(guest.seen[..life.seen.len()], life.seen, "seed {seed}");
        assert_eq!(replay.commands.len(), 0, "seed {seed}");
        let by_guest = life.history.last().unwrap().body.is_command();
        if by_guest || !behind {
            // Of a guest that was behind when its instance was terminated nothing more is known.
            assert_eq!((returned, replay.take_fresh()), (by_guest, vec![]), "seed {seed}");
        }
    }
}

#[test]
fn from_every_commit_on_another_guest_makes_the_same_history() {
    for seed in 0..SEEDS / 4 {
        let life = live(seed, Evict::Never, seed % 2 == 0);
        let mut length = 0;
        for (at, batch) in life.batches.iter().enumerate() {
            length += batch.inbound.len() + batch.commands.len();
            let (mut guest, mut replay) = rehydrated(seed, &life.history[..length], batch.ran_through);
            if batch.ran_through == EventId::NONE || batch.turn.is_none() {
                // The guest was behind here: it goes on with the next turn.
                continue_with(seed, &mut guest, &mut replay, &life.batches[at + 1..]);
                continue;
            }
            guest.run(&mut replay).unwrap();
            assert_eq!(replay.take_fresh(), [], "seed {seed}: a committed turn is complete");
            continue_with(seed, &mut guest, &mut replay, &life.batches[at + 1..]);
        }
    }
}

fn continue_with(seed: u64, guest: &mut Guest, replay: &mut Replay, rest: &[Batch]) {
    for batch in rest {
        batch.inbound.iter().for_each(|event| replay.push_inbound(event.clone()));
        let Some(now) = batch.turn else { continue };
        replay.begin_turn(now);
        guest.run(replay).unwrap();
        assert_eq!(replay.take_fresh(), batch.commands, "seed {seed}");
        assert_eq!(replay.ran_through(), batch.ran_through, "seed {seed}");
    }
}

#[test]
fn a_command_that_was_changed_in_the_history_is_found_at_its_event() {
    for seed in 0..SEEDS / 8 {
        let life = live(seed, Evict::Never, seed % 2 == 0);
        let commands: Vec<usize> =
            (0..life.history.len()).filter(|place| life.history[*place].body.is_command()).collect();
        for place in commands {
            let mut history = life.history.clone();
            history[place].body = EventBody::StatusSet { status: "another".to_owned() };
            let (mut guest, mut replay) = rehydrated(seed, &history, life.ran_through);
            let stop = guest.run(&mut replay);
            let Err(Stop::Diverged(found)) = &stop else { panic!("seed {seed}, event {}: {stop:?}", place + 1) };
            assert_eq!(found.event, history[place].id, "seed {seed}: {found}");
            assert_eq!(replay.take_fresh(), [], "the history is left as it is");
        }
    }
}

#[test]
fn the_stored_bytes_give_the_state_that_wrote_them() {
    for seed in 0..SEEDS {
        let life = live(seed, Evict::Never, seed % 2 == 0);
        let mut again = InstanceState::new(RunNumber::FIRST, 10);
        for event in &life.history {
            let stored = Event::decode(event.id, &event.encode()).unwrap();
            again.apply(&stored, &mut Vec::new());
        }
        assert_eq!(format!("{again:?}"), format!("{:?}", life.world.state), "seed {seed}");
        assert!(life.world.rows.is_empty() && life.world.tasks.is_empty(), "seed {seed}: rows outlive the instance");
    }
}

/// The properties are worth as much as what happens in them.
#[test]
fn the_random_worlds_show_every_event_and_every_answer() {
    let (mut events, mut answers) = (BTreeSet::new(), BTreeSet::new());
    let (mut late_commands, mut replayed) = (0, 0);
    for seed in 0..SEEDS {
        let life = live(seed, Evict::Never, seed % 2 == 0);
        replayed += life.history.len();
        events.extend(life.history.iter().map(|event| event.body.name()));
        let cancel = life.history.iter().find(|event| matches!(event.body, EventBody::CancelRequested { .. }));
        late_commands += cancel.map_or(0, |cancel| {
            let late = |event: &&Event| event.body.is_command() && event.id > cancel.id && event.cause < cancel.id;
            life.history.iter().filter(late).count()
        });
        answers.extend(life.world.answers);
    }
    let events: Vec<&str> = events.into_iter().collect();
    assert_eq!(events.len(), 20, "all but InstanceStopped, which the runtime makes: {events:?}");
    let answers: Vec<String> = answers.into_iter().collect();
    expect_test::expect![[r#"
        Accepted with 1 events
        Conflict with 0 events
        Duplicate with 0 events
        Gone with 0 events
        Gone with 1 events
        Ignored with 0 events
        NotFound with 0 events
    "#]]
    .assert_eq(&(answers.join("\n") + "\n"));
    assert!(late_commands > 50, "commands issued before the guest saw a request to cancel: {late_commands}");
    assert!(replayed > 10_000, "{replayed} events");
}
