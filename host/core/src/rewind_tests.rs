//! What a rewind makes of histories that real guests left, and that the same guests go on from there.
//!
//! A guest is a function that is run from its start at every turn, as after an eviction; it gives none while it waits.

use super::*;
use crate::activity::ActivityEnd;
use crate::entity::EntityId;
use crate::failure::{Failure, FailureKind, Json, Outcome};
use crate::ids::{AttemptNumber, Digest};
use crate::instance::{Effect, InstanceState, Lifecycle, Operation, TimerPurpose};
use crate::message::ReplyTo;
use crate::replay::WaitMode;
use crate::retry::ActivityOptions;
use crate::testing::{Run, Subject, broken, put, secs, two_attempts};
use crate::time::Nanos;
use crate::{ChildOptions, Limits};

type Guest = fn(&mut Run) -> Option<Outcome>;

/// Lets the guest take its turn, and return if it is at its end.
fn turn(guest: Guest, run: &mut Run) {
    if let Some(result) = guest(run) {
        run.replay.finish(result).unwrap();
    }
}

/// The guest meets these inbound events one by one, each in a turn of its own.
fn go_on(guest: Guest, mut run: Run, inbound: Vec<EventBody>) -> Run {
    turn(guest, &mut run);
    for body in inbound {
        run.record(body);
        run = run.crashed();
        run.begin_turn();
        turn(guest, &mut run);
    }
    run.commit();
    run
}

/// The history that the guest leaves.
fn history(guest: Guest, inbound: Vec<EventBody>) -> Vec<Event> {
    go_on(guest, Run::start(), inbound).history
}

/// When the tests rewind.
fn later() -> Timestamp {
    secs(1_000)
}

fn made(history: &[Event]) -> Vec<Event> {
    let made = rewound(history, RunNumber::FIRST, later()).unwrap();
    for (event, before) in made.iter().zip(history) {
        assert_eq!(event.id, before.id, "every event keeps its id");
        let was = before.body.name();
        match &event.body {
            EventBody::EventLeftOut { was: name } if before.body != event.body => assert_eq!(name, was),
            body => assert_eq!(body.name(), was),
        }
    }
    made
}

/// A run of the made history, its first turn under way: as the runtime does it.
fn rewind(history: &[Event]) -> Run {
    let made = made(history);
    let ran_through = made.iter().map(|event| event.cause).max().unwrap();
    let mut run = Run::of(made, ran_through, Limits::default());
    run.second = later().0 / 1_000_000_000;
    run.begin_turn();
    run
}

/// The instance as the run's events make it.
fn folded(run: &Run) -> InstanceState {
    let mut state = InstanceState::new(RunNumber(2), 10);
    run.history.iter().for_each(|event| state.apply(event, &mut Vec::new()));
    state
}

fn open(run: &Run) -> Vec<EventId> {
    folded(run).open.keys().copied().collect()
}

/// The guest takes its first turn in the rewound run, and waits for exactly these operations.
fn waits_for(guest: Guest, history: &[Event], ops: &[u64]) -> Run {
    let run = go_on(guest, rewind(history), vec![]);
    let ops: Vec<EventId> = ops.iter().copied().map(EventId).collect();
    assert_eq!(open(&run), ops, "{:#?}", run.history);
    assert!(run.is_waiting() && ops.iter().all(|op| !run.is_settled(*op)));
    run
}

fn completed(op: u64) -> EventBody {
    let (attempt, started) = (AttemptNumber::FIRST, secs(1));
    EventBody::ActivityCompleted { op: EventId(op), attempt, started, output: format!("{op}") }
}

fn failed(op: u64) -> EventBody {
    EventBody::ActivityFailed { op: EventId(op), attempt: AttemptNumber::FIRST, started: None, failure: broken() }
}

fn attempt_failed(op: u64) -> EventBody {
    let (op, attempt, started, next_attempt) = (EventId(op), AttemptNumber::FIRST, secs(1), secs(15));
    EventBody::ActivityAttemptFailed { op, attempt, started, failure: broken(), next_attempt }
}

fn replied(op: u64, outcome: Outcome) -> EventBody {
    EventBody::ReplyReceived { op: EventId(op), outcome }
}

fn granted(op: u64) -> EventBody {
    EventBody::LockGranted { op: EventId(op), left: 0 }
}

fn left_out(run: &Run) -> Vec<(u64, String)> {
    let left_out = run.history.iter().filter_map(|event| match &event.body {
        EventBody::EventLeftOut { was } => Some((event.id.0, was.clone())),
        _ => None,
    });
    left_out.collect()
}

fn ended(run: &Run) -> Lifecycle {
    folded(run).lifecycle
}

/// Waits for an operation; gives none while it has not settled.
fn outcome(run: &mut Run, op: EventId) -> Option<Outcome> {
    if run.wait_for(op) || run.unblock().unwrap() { run.read(op) } else { None }
}

/// Runs an activity to its end.
fn perform(run: &mut Run, name: &str) -> Option<Outcome> {
    let op = run.activity(name);
    outcome(run, op)
}

/// Goes on with an output, or gives the failure back as the result of the workflow.
macro_rules! or_fail {
    ($outcome:expr) => {
        match $outcome? {
            Ok(output) => output,
            Err(failure) => return Some(Err(failure)),
        }
    };
}

// ---- what fails ------------------------------------------------------------------------------------

/// Five activities at once; it fails if one of them has.
fn fan_out(run: &mut Run) -> Option<Outcome> {
    let ops: Vec<EventId> = ["a", "b", "c", "d", "e"].iter().map(|name| run.activity(name)).collect();
    if !run.wait(WaitMode::All, &ops) && !run.unblock().unwrap() {
        return None;
    }
    let outputs: Result<Vec<Json>, Failure> = ops.iter().map(|op| run.read(*op).unwrap()).collect();
    Some(outputs.map(|outputs| outputs.join(",")))
}

#[test]
fn a_fan_out_with_one_failure_in_the_middle_waits_for_exactly_that_one() {
    let history = history(fan_out, vec![completed(2), completed(3), failed(4), completed(5), completed(6)]);
    assert!(matches!(history.last().unwrap().body, EventBody::InstanceFailed { .. }));
    let run = waits_for(fan_out, &history, &[4]);
    assert_eq!(left_out(&run), [(9, "ActivityFailed".to_owned())], "the end is cut off");
    assert_eq!(run.history.len(), 11);
    let run = go_on(fan_out, run.crashed(), vec![completed(4)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,3,4,5,6".to_owned()));
    assert_eq!(run.last_id(), EventId(13));
}

#[test]
fn a_fan_out_of_which_several_failed_waits_for_all_of_these() {
    let history = history(fan_out, vec![failed(2), completed(3), failed(6), completed(5), failed(4)]);
    let run = waits_for(fan_out, &history, &[2, 4, 6]);
    let run = go_on(fan_out, run.crashed(), vec![completed(4), completed(2), completed(6)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,3,4,5,6".to_owned()));
}

/// One after another.
fn chain(run: &mut Run) -> Option<Outcome> {
    let a = or_fail!(perform(run, "a"));
    let b = or_fail!(perform(run, "b"));
    let c = or_fail!(perform(run, "c"));
    Some(Ok(format!("{a},{b},{c}")))
}

#[test]
fn a_chain_goes_on_with_its_link_that_failed() {
    let history = history(chain, vec![completed(2), failed(4)]);
    let run = waits_for(chain, &history, &[4]);
    assert_eq!(run.history.len(), 4, "failure and end stood last");
    let run = go_on(chain, run.crashed(), vec![completed(4), completed(6)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,4,6".to_owned()));
}

#[test]
fn rewinding_twice_goes_on_twice_and_remembers_the_first_run() {
    let first = history(chain, vec![completed(2), failed(4)]);
    let run = go_on(chain, rewind(&first), vec![failed(4)]);
    assert!(matches!(ended(&run), Lifecycle::Failed(_)));
    let again = waits_for(chain, &run.history, &[4]);
    assert_eq!(left_out(&again), []);
    let run = go_on(chain, again.crashed(), vec![completed(4), failed(6)]);
    let made = rewound(&run.history, RunNumber(3), later()).unwrap();
    let EventBody::InstanceStarted { lineage: Some(lineage), .. } = &made[0].body else { panic!("{:?}", made[0]) };
    assert_eq!(lineage.rewound_from, Some(RunNumber::FIRST), "what the workflow was told of its run still holds");
    let run = waits_for(chain, &run.history, &[6]);
    assert_eq!(run.started().rewound_from, Some(RunNumber::FIRST));
    assert_eq!(folded(&run).told_run(), RunNumber::FIRST);
    let run = go_on(chain, run.crashed(), vec![completed(6)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,4,6".to_owned()));
}

#[test]
fn what_was_left_out_stays_left_out_in_the_next_rewind() {
    let first = history(fan_out, vec![failed(2), completed(3), completed(4), completed(5), completed(6)]);
    let run = go_on(fan_out, rewind(&first), vec![failed(2)]);
    let again = waits_for(fan_out, &run.history, &[2]);
    assert_eq!(left_out(&again), [(7, "ActivityFailed".to_owned())]);
}

/// Takes back what it did when something failed, and fails.
fn saga(run: &mut Run) -> Option<Outcome> {
    let a = or_fail!(perform(run, "a"));
    match perform(run, "b")? {
        Ok(b) => Some(Ok(format!("{a},{b}"))),
        Err(failure) => {
            run.set_status("\"undoing\"".to_owned()).unwrap();
            or_fail!(perform(run, "undo a"));
            Some(Err(failure))
        }
    }
}

#[test]
fn a_compensation_after_the_failure_is_left_out() {
    let history = history(saga, vec![completed(2), failed(4), completed(7)]);
    let run = waits_for(saga, &history, &[4]);
    assert_eq!((run.history.len(), folded(&run).custom_status), (4, None));
    let run = go_on(saga, run.crashed(), vec![completed(4)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,4".to_owned()));
}

#[test]
fn a_compensation_that_failed_goes_back_to_the_first_failure() {
    let history = history(saga, vec![completed(2), failed(4), failed(7)]);
    waits_for(saga, &history, &[4]);
}

/// Two branches, one of two steps; it waits for whatever comes next.
fn branches(run: &mut Run) -> Option<Outcome> {
    let (a, b) = (run.activity("a"), run.activity("b"));
    let first = outcome(run, b)?.unwrap();
    let second = run.activity("second");
    let ops = [a, second];
    if !run.wait(WaitMode::All, &ops) && !run.unblock().unwrap() {
        return None;
    }
    let a = or_fail!(run.read(a));
    Some(run.read(second).unwrap().map(|second| format!("{a},{first},{second}")))
}

#[test]
fn what_came_in_for_a_kept_command_after_the_failure_is_kept_but_not_what_the_guest_then_began() {
    let history = history(branches, vec![failed(2), completed(3), completed(6)]);
    assert!(matches!(history.last().unwrap().body, EventBody::InstanceFailed { .. }));
    let run = waits_for(branches, &history, &[2, 6]);
    assert_eq!(run.history.len(), 6, "started, two activities, one left out, one completed, the new second step");
    assert_eq!((run.history[5].cause, run.history[5].time > later()), (EventId(5), true));
    let run = go_on(branches, run.crashed(), vec![completed(6), completed(2)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,3,6".to_owned()));
}

// ---- attempts and time -----------------------------------------------------------------------------

/// Two activities that are retried and limited.
fn retried(run: &mut Run) -> Option<Outcome> {
    let options = || ActivityOptions { schedule_to_close: Some(Nanos::from_secs(60)), ..two_attempts() };
    let mut schedule = |name: &str| run.schedule_activity(name.to_owned(), "1".to_owned(), options()).unwrap();
    let ops = [schedule("a"), schedule("b")];
    if !run.wait(WaitMode::All, &ops) && !run.unblock().unwrap() {
        return None;
    }
    or_fail!(run.read(ops[0]));
    run.read(ops[1])
}

#[test]
fn what_runs_again_begins_with_its_first_attempt_and_its_limits_of_time_anew() {
    let inbound = vec![attempt_failed(2), attempt_failed(3), failed(2), completed(3)];
    let run = waits_for(retried, &history(retried, inbound), &[2]);
    assert_eq!(left_out(&run).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 6], "but not the other's attempt");
    let state = folded(&run);
    let Some(Operation::Activity(activity)) = state.open.get(&EventId(2)) else { panic!("{:?}", state.open) };
    assert_eq!((activity.attempt, activity.not_before), (AttemptNumber::FIRST, None));
    assert_eq!(activity.scheduled, later());
    assert_eq!(state.ended_activities[0].1.end, Some(ActivityEnd::Completed));
    assert_eq!(state.ended_activities[0].1.ended.len(), 2);
}

#[test]
fn the_events_alone_say_which_rows_and_attempts_a_rewound_run_has() {
    let inbound = vec![attempt_failed(2), attempt_failed(3), failed(2), completed(3)];
    let made = made(&history(retried, inbound));
    let (mut state, mut effects) = (InstanceState::new(RunNumber(2), 0), Vec::new());
    made.iter().for_each(|event| state.apply(event, &mut effects));
    let (mut rows, mut dispatched) = (BTreeSet::new(), BTreeSet::new());
    for effect in effects {
        match effect {
            Effect::PutTimer { due, op, purpose } => drop(rows.insert((due, op, purpose))),
            Effect::DropTimer { due, op, purpose } => drop(rows.remove(&(due, op, purpose))),
            Effect::Dispatch { op, .. } => drop(dispatched.insert(op)),
            Effect::Interrupt { op } => drop(dispatched.remove(&op)),
            Effect::Send(message) => panic!("{message:?}"),
        }
    }
    let close = (later().after(Nanos::from_secs(60)), EventId(2), TimerPurpose::ScheduleToClose);
    assert_eq!((rows, dispatched), (BTreeSet::from([close]), BTreeSet::from([EventId(2)])));
}

/// An activity against a timer; it fails if the timer was first.
fn in_time(run: &mut Run) -> Option<Outcome> {
    let (a, timer) = (run.activity("a"), run.timer(60));
    if !run.wait(WaitMode::Any, &[a, timer]) && !run.unblock().unwrap() {
        return None;
    }
    run.read(a).or_else(|| Some(Err(Failure::new(FailureKind::TimedOut, "late", "it took too long"))))
}

#[test]
fn a_kept_timer_keeps_its_deadline_even_if_it_has_passed() {
    let run = waits_for(in_time, &history(in_time, vec![failed(2)]), &[2, 3]);
    let mut s = Subject::started();
    let effects = s.record(run.history[2].body.clone());
    assert_eq!(effects, [put(60, EventId(2), TimerPurpose::Timer)], "long before the rewind: it fires at once");
    let run = go_on(in_time, run.crashed(), vec![EventBody::TimerFired { op: EventId(3) }]);
    assert!(matches!(ended(&run), Lifecycle::Failed(failure) if failure.code == "late"));
}

// ---- children, calls, signals ----------------------------------------------------------------------

/// A child, then an operation of an entity, then a signal to another instance.
fn reaching(run: &mut Run) -> Option<Outcome> {
    let text = str::to_owned;
    let child = run.start_child(text("parcel"), text("parcels"), text("1"), ChildOptions::default()).unwrap();
    let child = or_fail!(outcome(run, child));
    let entity = EntityId::new("counter", "a").unwrap();
    let call = run.call_entity(entity, text("add"), text("1")).unwrap();
    let call = or_fail!(outcome(run, call));
    let signal = run.send_signal(text("order-8"), text("go"), text("1")).unwrap();
    let signal = or_fail!(outcome(run, signal));
    Some(Ok(format!("{child},{call},{signal}")))
}

#[test]
fn a_child_a_call_or_a_signal_that_failed_is_asked_again() {
    let ok = |text: &str| Ok(text.to_owned());
    let steps = [(2, "a"), (4, "b"), (6, "c")];
    for failing in 0..3 {
        let mut inbound: Vec<EventBody> = steps[..failing].iter().map(|(op, text)| replied(*op, ok(text))).collect();
        inbound.push(replied(steps[failing].0, Err(broken())));
        let run = waits_for(reaching, &history(reaching, inbound), &[steps[failing].0]);
        let state = folded(&run);
        let part = u32::from(failing == 0);
        assert!(state.is_asking(ReplyTo { op: EventId(steps[failing].0), part }));
        let rest = steps[failing..].iter().map(|(op, text)| replied(*op, ok(text))).collect();
        let run = go_on(reaching, run.crashed(), rest);
        assert_eq!(ended(&run), Lifecycle::Completed("a,b,c".to_owned()));
    }
}

/// An activity, then a signal.
fn signalled(run: &mut Run) -> Option<Outcome> {
    let a = or_fail!(perform(run, "a").map(|outcome| outcome.or_else(|_| Ok::<Json, Failure>("undone".to_owned()))));
    let signal = run.signal("go");
    let signal = or_fail!(outcome(run, signal));
    if a == "undone" {
        return Some(Err(broken()));
    }
    Some(Ok(format!("{a},{signal}")))
}

#[test]
fn a_signal_that_a_later_command_had_taken_is_there_to_be_taken_again() {
    let go =
        EventBody::SignalReceived { name: "go".to_owned(), payload: "7".to_owned(), message_id: Some("m".to_owned()) };
    let history = history(signalled, vec![failed(2), go]);
    let run = waits_for(signalled, &history, &[2]);
    let state = folded(&run);
    assert_eq!((state.buffered_signals(), state.known_message_ids().count()), (1, 1));
    let run = go_on(signalled, run.crashed(), vec![completed(2)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,7".to_owned()));
}

// ---- locks -----------------------------------------------------------------------------------------

fn lock(run: &mut Run, keys: &[&str]) -> EventId {
    run.lock(keys.iter().map(|key| EntityId::new("account", key).unwrap()).collect()).unwrap()
}

/// An activity before the lock, two under it, one after it.
fn locking(run: &mut Run) -> Option<Outcome> {
    let before = or_fail!(perform(run, "before"));
    let lock = lock(run, &["a", "b"]);
    or_fail!(outcome(run, lock));
    let under = or_fail!(perform(run, "under"));
    run.release_lock(lock).unwrap();
    let after = or_fail!(perform(run, "after"));
    Some(Ok(format!("{before},{under},{after}")))
}

fn first_grant() -> EventBody {
    EventBody::LockGranted { op: EventId(4), left: 1 }
}

#[test]
fn a_lock_held_at_the_end_is_asked_for_again_and_what_was_done_under_it_is_done_again() {
    let history = history(locking, vec![completed(2), first_grant(), granted(4), failed(7)]);
    let run = waits_for(locking, &history, &[4]);
    let state = folded(&run);
    assert!(state.is_asking(ReplyTo { op: EventId(4), part: 0 }), "from the first entity on");
    assert_eq!(run.history.len(), 4);
    let run = go_on(locking, run.crashed(), vec![first_grant(), granted(4), completed(7), completed(10)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,7,10".to_owned()));
}

#[test]
fn a_lock_given_back_before_the_failure_is_not_asked_for_again() {
    let inbound = vec![completed(2), first_grant(), granted(4), completed(7), failed(10)];
    let run = waits_for(locking, &history(locking, inbound), &[10]);
    let run = go_on(locking, run.crashed(), vec![completed(10)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,7,10".to_owned()));
}

#[test]
fn a_lock_that_was_refused_is_asked_for_again_from_its_first_entity_on() {
    let history = history(locking, vec![completed(2), first_grant(), replied(4, Err(broken()))]);
    let run = waits_for(locking, &history, &[4]);
    assert!(folded(&run).is_asking(ReplyTo { op: EventId(4), part: 0 }));
}

/// A lock given back only after the failure.
fn lock_around_a_failure(run: &mut Run) -> Option<Outcome> {
    let lock = lock(run, &["a"]);
    or_fail!(outcome(run, lock));
    let result = perform(run, "under")?;
    run.release_lock(lock).unwrap();
    or_fail!(perform(run, "after"));
    Some(result)
}

#[test]
fn a_lock_whose_release_is_left_out_is_asked_for_again() {
    let history = history(lock_around_a_failure, vec![granted(2), failed(4), completed(7)]);
    waits_for(lock_around_a_failure, &history, &[2]);
}

/// One lock after the other, of which the second is held when something fails.
fn two_locks(run: &mut Run) -> Option<Outcome> {
    let first = lock(run, &["a"]);
    or_fail!(outcome(run, first));
    run.release_lock(first).unwrap();
    let second = lock(run, &["a"]);
    or_fail!(outcome(run, second));
    or_fail!(perform(run, "under"));
    Some(Ok("1".to_owned()))
}

#[test]
fn only_the_lock_that_was_held_is_asked_for_again() {
    let history = history(two_locks, vec![granted(2), granted(5), failed(7)]);
    let run = waits_for(two_locks, &history, &[5]);
    let run = go_on(two_locks, run.crashed(), vec![granted(5), completed(7)]);
    assert_eq!(ended(&run), Lifecycle::Completed("1".to_owned()));
}

// ---- stopped, cancelled, suspended -----------------------------------------------------------------

#[test]
fn a_run_that_the_host_stopped_goes_on_where_it_was() {
    let stopped = || EventBody::InstanceStopped { failure: Failure::new(FailureKind::Rejected, "trap", "it trapped") };
    let mut run = go_on(chain, Run::start(), vec![completed(2), completed(4)]);
    run.record(stopped());
    let run = waits_for(chain, &run.history, &[6]);
    assert_eq!(left_out(&run), []);
    let run = go_on(chain, run.crashed(), vec![completed(6)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,4,6".to_owned()));
}

#[test]
fn a_turn_that_trapped_is_taken_again() {
    let mut run = go_on(chain, Run::start(), vec![completed(2)]);
    run.record(completed(4));
    run.record(EventBody::InstanceStopped { failure: broken() });
    waits_for(chain, &run.history, &[6]);
}

#[test]
fn a_stopped_run_loses_its_lock_too_and_runs_what_failed_again() {
    let mut run = go_on(locking, Run::start(), vec![completed(2), first_grant(), granted(4)]);
    run.record(EventBody::InstanceStopped { failure: broken() });
    waits_for(locking, &run.history, &[4]);
    let mut run = go_on(saga, Run::start(), vec![completed(2), failed(4)]);
    run.record(EventBody::InstanceStopped { failure: broken() });
    waits_for(saga, &run.history, &[4]);
}

/// Undoes what it did when it is asked to cancel; a failure of that is the workflow's.
fn undoing(run: &mut Run) -> Option<Outcome> {
    let a = or_fail!(perform(run, "a"));
    match perform(run, "b")? {
        Ok(b) => Some(Ok(format!("{a},{b}"))),
        Err(_) => perform(run, "undo a"),
    }
}

#[test]
fn a_request_to_cancel_is_left_out_with_all_that_followed_from_it() {
    let cancel = EventBody::CancelRequested { reason: "enough".to_owned() };
    let history = history(undoing, vec![completed(2), cancel, failed(6)]);
    let run = waits_for(undoing, &history, &[4]);
    assert_eq!((folded(&run).cancel_requested, run.cancel_requested()), (None, None));
    let run = go_on(undoing, run.crashed(), vec![completed(4)]);
    assert_eq!(ended(&run), Lifecycle::Completed("2,4".to_owned()));
}

#[test]
fn that_a_run_was_suspended_and_resumed_stays_in_its_history() {
    let reason = || "repair".to_owned();
    let suspended = EventBody::InstanceSuspended { reason: reason() };
    let resumed = EventBody::InstanceResumed { reason: reason() };
    let mut run = go_on(chain, Run::start(), vec![]);
    [suspended, completed(2), resumed].into_iter().for_each(|body| _ = run.record(body));
    let run = go_on(chain, run.crashed(), vec![failed(6)]);
    let run = waits_for(chain, &run.history, &[6]);
    assert_eq!((folded(&run).suspended, left_out(&run)), (None, vec![]));
}

// ---- what can't be rewound -------------------------------------------------------------------------

/// Fails by itself, whatever came back.
fn hopeless(run: &mut Run) -> Option<Outcome> {
    let (a, timer) = (run.activity("a"), run.timer(60));
    let paid = run.create_callback("paid".to_owned(), None).unwrap();
    if !run.wait(WaitMode::Any, &[a, timer, paid]) && !run.unblock().unwrap() {
        return None;
    }
    Some(Err(broken()))
}

#[test]
fn a_workflow_that_failed_by_itself_is_not_rewound() {
    let rejected = EventBody::CallbackSettled { op: EventId(4), outcome: Err(broken()), digest: Digest([1; 32]) };
    for inbound in [completed(2), EventBody::TimerFired { op: EventId(3) }, rejected] {
        let history = history(hopeless, vec![inbound]);
        let refused = rewound(&history, RunNumber::FIRST, later());
        assert_eq!(refused, Err(NotRewound::NothingFailed));
    }
    expect_test::expect![[r#"
        no activity, child or call of it failed, so the workflow would fail again in the same way;
        restart it instead"#]]
    .assert_eq(&NotRewound::NothingFailed.to_string().replace("; ", ";\n"));
}

#[test]
fn a_failure_that_the_workflow_had_not_seen_is_not_why_it_failed() {
    let mut run = Run::start();
    turn(hopeless, &mut run);
    // The guest can't run for a while: two events come in, and its end follows from the first.
    run.record(EventBody::TimerFired { op: EventId(3) });
    run.record(failed(2));
    let mut run = run.crashed();
    run.begin_turn();
    turn(hopeless, &mut run);
    run.commit();
    assert_eq!(run.history.last().unwrap().cause, EventId(5));
    assert_eq!(rewound(&run.history, RunNumber::FIRST, later()), Err(NotRewound::NothingFailed));
}

#[test]
fn only_a_run_that_failed_is_rewound() {
    let running = go_on(fan_out, Run::start(), vec![failed(2)]).history;
    let ends = [
        EventBody::InstanceCompleted { output: "1".to_owned() },
        EventBody::InstanceCancelled { failure: broken() },
        EventBody::InstanceTerminated { reason: "stuck".to_owned() },
        EventBody::InstanceContinued { input: "1".to_owned(), newest: true },
    ];
    for end in ends {
        let mut history = running.clone();
        history.push(Event { id: EventId(8), time: secs(9), cause: EventId(7), body: end });
        assert_eq!(rewound(&history, RunNumber::FIRST, later()), Err(NotRewound::NotFailed));
    }
    assert_eq!(rewound(&running, RunNumber::FIRST, later()), Err(NotRewound::NotFailed));
    assert_eq!(rewound(&[], RunNumber::FIRST, later()), Err(NotRewound::NotFailed));
}
