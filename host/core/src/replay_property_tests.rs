//! Random workflows in random worlds: whatever happens and whenever the guest is dropped, the history is
//! the same, and it replays.
//!
//! A [`Guest`] chooses each step by a hash of all it has seen, so that the smallest difference in what it is
//! shown changes what it does next. A [`World`] keeps the rows, tasks and messages that the core asks for, and lets
//! any input happen that can: attempts that succeed and fail, rows that are due, early or of the wrong
//! purpose, posts, replies, signals, orders. Everything follows from the seed in a test's message.

use super::*;
use crate::instance::InstanceState;
use crate::rewind::rewound;
use guest::Guest;
use world::World;

#[path = "replay_property_guest.rs"]
mod guest;

#[path = "replay_property_world.rs"]
mod world;

const SEEDS: u64 = 400;

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
    let world = World::new(seed);
    let inbound = world.history.clone();
    live_on(seed, world, EventId::NONE, inbound, evict, behind)
}

/// The same from a world on whose run is known to be complete through that event.
fn live_on(
    seed: u64,
    mut world: World,
    mut ran_through: EventId,
    mut inbound: Vec<Event>,
    evict: Evict,
    behind: bool,
) -> Life {
    let mut paused = Random::new(seed ^ 1);
    let mut evicted = Random::new(seed ^ 2);
    let (mut guest, mut replay) = rehydrated(seed, &world.history, ran_through);
    let mut batches = Vec::new();
    loop {
        // After its end from outside there is nothing to run for, and a suspended instance does not run.
        let may_run = !world.state.is_closed() && world.state.suspended.is_none();
        let is_first = batches.is_empty();
        let can_run = may_run && (!behind || is_first || paused.next_u64().is_multiple_of(2));
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
            check_views(seed, &replay, &world);
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
fn check_views(seed: u64, replay: &Replay, world: &World) {
    let state = &world.state;
    if state.is_closed() {
        return;
    }
    let unsettled = replay.views.iter().filter(|(_, view)| view.outcome.is_none()).map(|(op, _)| *op);
    let unsettled: Vec<EventId> = unsettled.collect();
    let open: Vec<EventId> = state.open.keys().copied().collect();
    assert_eq!(unsettled, open, "seed {seed} at event {}", state.last);
    assert_eq!(replay.unsettled, unsettled.len(), "seed {seed}");
    assert_eq!(replay.signals.buffered(), state.buffered_signals(), "seed {seed} at event {}", state.last);
    assert_eq!(world.post.locked(), replay.lock.into_iter().collect(), "seed {seed} at event {}", state.last);
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
        if by_guest || !(behind || was_suspended(&life.history)) {
            // Of a guest that was behind when its instance was terminated nothing more is known.
            assert_eq!((returned, replay.take_fresh()), (by_guest, vec![]), "seed {seed}");
        }
    }
}

fn was_suspended(history: &[Event]) -> bool {
    let orders = history.iter().rev().find_map(|event| match event.body {
        EventBody::InstanceSuspended { .. } => Some(true),
        EventBody::InstanceResumed { .. } => Some(false),
        _ => None,
    });
    orders.unwrap_or(false)
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
    let mut messages = BTreeSet::new();
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
        messages.extend(life.world.post.kinds);
    }
    let events: Vec<&str> = events.into_iter().collect();
    assert_eq!(events.len(), 34, "all but InstanceStopped, of the runtime, and EventLeftOut, of a rewind: {events:?}");
    assert_eq!(messages.len(), 11, "all kinds of messages: {messages:?}");
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

/// Rewinds the run, and lets another guest live on from what was made of it.
fn rewind_and_live_on(seed: u64, history: &[Event], now: Timestamp) -> Option<Life> {
    let made = rewound(history, RunNumber::FIRST, now).ok()?;
    // What the runtime knows of a run that nobody has run yet: a turn that left commands was complete.
    let ran_through = made.iter().map(|event| event.cause).max().unwrap();
    let world = World::of_made(seed, made, now);
    let life = live_on(seed, world, ran_through, Vec::new(), Evict::Sometimes, seed % 4 < 2);
    let (mut guest, mut replay) = rehydrated(seed, &life.history, life.ran_through);
    guest.run(&mut replay).unwrap();
    Some(life)
}

#[test]
fn whatever_failed_goes_on_from_its_rewound_history_to_another_end() {
    let (mut rewinds, mut ends) = (0, BTreeSet::new());
    for seed in 0..SEEDS {
        let mut life = live(seed, Evict::Never, seed % 2 == 0);
        for _ in 0..3 {
            let now = life.world.now.after(Nanos::from_secs(1_000));
            let Some(next) = rewind_and_live_on(seed, &life.history, now) else { break };
            life = next;
            rewinds += 1;
            ends.insert(life.history.last().unwrap().body.name());
        }
    }
    assert!(rewinds > 100, "{rewinds}");
    assert_eq!(ends.len(), 5, "{ends:?}");
}

#[test]
fn a_run_that_the_host_stopped_anywhere_goes_on_from_its_rewound_history() {
    let mut rewinds = 0;
    for seed in 0..SEEDS / 4 {
        let life = live(seed, Evict::Never, seed % 2 == 0);
        let mut length = 0;
        for batch in &life.batches[..life.batches.len() - 1] {
            length += batch.inbound.len() + batch.commands.len();
            let mut history = life.history[..length].to_vec();
            let (id, time) = (EventId(history.last().unwrap().id.0 + 1), life.world.now);
            let body =
                EventBody::InstanceStopped { failure: Failure::new(FailureKind::Rejected, "trap", "it trapped") };
            history.push(Event { id, time, cause: EventId::NONE, body });
            let life = rewind_and_live_on(seed, &history, time.after(Nanos::from_secs(1_000)));
            rewinds += usize::from(life.is_some());
        }
    }
    assert!(rewinds > 1_000, "{rewinds}");
}
