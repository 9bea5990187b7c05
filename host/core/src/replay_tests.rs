//! The guest's view of its history: what it sees, when, and what happens if it strays.
//!
//! The tests play the guest by hand. A [`Run`] is the host around it.

use super::*;
use crate::ids::{AttemptNumber, Digest};
use crate::retry::RetryPolicy;
use crate::testing::{Run, check_divergence, decoded, limit_name, origin, secs, started};
use expect_test::expect;

fn completed(op: EventId) -> EventBody {
    let (attempt, started) = (AttemptNumber::FIRST, secs(1));
    EventBody::ActivityCompleted { op, attempt, started, output: format!("{op}") }
}

fn failed(op: EventId) -> EventBody {
    let failure = Failure::new(FailureKind::Application, "card-declined", "no");
    EventBody::ActivityFailed { op, attempt: AttemptNumber::FIRST, started: None, failure }
}

fn fired(op: EventId) -> EventBody {
    EventBody::TimerFired { op }
}

fn sent(name: &str, payload: &str) -> EventBody {
    EventBody::SignalReceived { name: name.to_owned(), payload: payload.to_owned(), message_id: None }
}

fn cancel_requested() -> EventBody {
    EventBody::CancelRequested { reason: "changed my mind".to_owned() }
}

fn ok(text: &str) -> Option<Outcome> {
    Some(Ok(text.to_owned()))
}

fn cancelled(message: &str) -> Option<Outcome> {
    Some(Err(Failure::cancelled(message)))
}

const BY_WORKFLOW: &str = "the workflow cancelled the operation";

// ---- the ordinary way ------------------------------------------------------------------------------

#[test]
fn a_new_command_has_the_next_id_its_cause_and_the_time_of_its_turn() {
    let mut run = Run::start();
    let (a, b) = (run.activity("charge"), run.timer(60));
    assert_eq!((a, b), (EventId(2), EventId(3)));
    let fresh = run.commit();
    assert!(fresh.iter().all(|event| (event.cause, event.time) == (EventId(1), secs(2))), "{fresh:?}");
    assert!(run.take_fresh().is_empty(), "commands are taken once");
    assert!(!run.wait_for(a));
    assert!(run.inbound(completed(a)));
    run.activity("ship");
    let fresh = run.commit();
    assert_eq!((fresh[0].id, fresh[0].cause, fresh[0].time), (EventId(5), EventId(4), secs(4)));
}

#[test]
fn who_is_running_comes_from_the_first_event() {
    let run = Run::start();
    let expected = Started {
        instance: "order-7".to_owned(),
        workflow: "orders".to_owned(),
        version: "1.2.0".to_owned(),
        input: "{\"n\":1}".to_owned(),
        rewound_from: None,
    };
    assert_eq!(*run.started(), expected);
}

/// A workflow with one of everything; it stops early where its wait is not satisfied.
fn order(run: &mut Run) -> Option<()> {
    let wait = |run: &mut Run, mode, ops: &[EventId]| (run.wait(mode, ops) || run.unblock().unwrap()).then_some(());
    let charge = run.activity("charge");
    let deadline = run.now().after(Nanos::from_secs(60));
    let timeout = run.replay.start_timer(deadline).unwrap();
    wait(run, WaitMode::Any, &[charge, timeout])?;
    run.cancel(timeout).unwrap();
    run.release(timeout);
    let paid = run.create_callback("paid".to_owned(), Some(Nanos::from_secs(600))).unwrap();
    let uuid = run.random().uuid();
    run.set_status(format!("\"{uuid}\"")).unwrap();
    let approve = run.signal("approve");
    wait(run, WaitMode::All, &[paid, approve])?;
    let outcome = run.read(approve).unwrap().unwrap();
    assert!(run.patched("new-tax".to_owned()).unwrap());
    let ship = run.replay.schedule_activity("ship".to_owned(), outcome, ActivityOptions::default()).unwrap();
    wait(run, WaitMode::Any, &[ship])?;
    let shipped = run.read(ship).unwrap();
    run.replay.finish(shipped).unwrap();
    Some(())
}

/// What happens to [`order`] from outside: inbound events in order.
fn order_inbound() -> Vec<EventBody> {
    vec![
        EventBody::ActivityAttemptFailed {
            op: EventId(2),
            attempt: AttemptNumber::FIRST,
            started: secs(2),
            failure: Failure::new(FailureKind::Application, "http.status-503", "it broke").retryable(),
            next_attempt: secs(5),
        },
        sent("approve", "{\"by\":\"bo\"}"),
        completed(EventId(2)),
        EventBody::CallbackSettled { op: EventId(8), outcome: Ok("true".to_owned()), digest: Digest([1; 32]) },
        completed(EventId(13)),
    ]
}

/// The history of [`order`], by a guest that is evicted at every wait.
fn order_history() -> Vec<Event> {
    let mut run = Run::start();
    let mut inbound = order_inbound().into_iter();
    while order(&mut run).is_none() {
        run = next_event(run, inbound.next().expect("the workflow waits for something that comes"));
    }
    run.commit();
    run.history
}

/// Commits the turn, records that event, and brings another guest to the start, with the next turn begun.
fn next_event(mut run: Run, body: EventBody) -> Run {
    run.record(body);
    let mut run = run.crashed();
    run.begin_turn();
    run
}

#[test]
fn a_finished_history_replays_to_its_end_with_nothing_new() {
    let history = order_history();
    let last_inbound = history.iter().rev().find(|event| !event.body.is_command()).unwrap().id;
    let mut run = Run::of(history.clone(), last_inbound, Limits::default());
    assert!(order(&mut run).is_some());
    assert!(run.is_replaying());
    assert_eq!(run.take_fresh(), []);
    assert!(run.commands.is_empty() && run.inbound.is_empty(), "all of it was used");
}

#[test]
fn every_prefix_of_a_history_leads_to_the_same_history() {
    let history = order_history();
    let mut run = Run::start();
    let rest = order_inbound();
    for (done, body) in rest.iter().enumerate() {
        assert!(order(&mut run).is_none());
        run.commit();
        assert_eq!(run.history, history[..run.history.len()]);
        // From this point on with another guest, and all that is still to come.
        let mut other = Run::of(run.history.clone(), run.ran_through, Limits::default());
        other.second = run.second;
        for body in &rest[done..] {
            assert!(order(&mut other).is_none());
            other = next_event(other, body.clone());
        }
        assert!(order(&mut other).is_some());
        other.commit();
        assert_eq!(other.history, history, "continued after {} inbound events", done + 1);
        run = next_event(run, body.clone());
    }
}

// ---- waiting ---------------------------------------------------------------------------------------

#[test]
fn a_guest_that_waits_sees_one_inbound_event_at_a_time() {
    let mut run = Run::start();
    let (a, b) = (run.timer(10), run.timer(10));
    assert!(!run.wait(WaitMode::Any, &[a, b]));
    run.record(fired(b));
    run.record(fired(a));
    assert!(run.unblock().unwrap());
    assert_eq!(run.settled_among(&[a, b]), [1], "the other one has not been applied yet");
    assert_eq!(run.read(a), None);
    assert_eq!(run.read(b), ok("null"));
    assert!(!run.wait_for(a));
    assert!(run.unblock().unwrap());
    assert_eq!(run.settled_among(&[a, b]), [1, 0]);
}

#[test]
fn wait_any_gives_the_order_in_which_they_settled() {
    let mut run = Run::start();
    let ops: Vec<EventId> = (0..4).map(|_| run.activity("a")).collect();
    assert!(!run.wait(WaitMode::All, &ops));
    for op in [2, 0, 3] {
        assert!(!run.inbound(completed(ops[op])));
    }
    assert!(run.inbound(failed(ops[1])));
    assert_eq!(run.settled_among(&ops), [2, 0, 3, 1]);
    assert_eq!(run.settled_among(&[ops[1], ops[0], ops[1]]), [1, 0, 2], "named twice, given twice");
    assert!(run.wait(WaitMode::Any, &ops), "a wait for what has settled does not wait");
    assert!(!run.is_waiting());
}

#[test]
fn a_wait_that_is_made_up_of_several_is_satisfied_by_any_of_them() {
    for first in [0, 1, 2] {
        let mut run = Run::start();
        let ops = [run.timer(10), run.timer(10), run.timer(10)];
        run.clear_wait();
        ops.iter().for_each(|op| run.wait_also(*op));
        assert_eq!(run.waiting_on(), ops);
        assert!(run.inbound(fired(ops[first])), "timer {first} of a poll");
    }
}

#[test]
fn wait_all_wakes_once_when_the_last_has_settled() {
    let mut run = Run::start();
    let ops: Vec<EventId> = (0..100).map(|_| run.activity("a")).collect();
    assert!(!run.wait(WaitMode::All, &ops));
    assert_eq!(run.waiting_on(), ops);
    let wakes = ops.iter().filter(|op| run.inbound(completed(**op))).count();
    assert_eq!(wakes, 1);
    assert!(run.waiting_on().is_empty());
}

#[test]
fn wait_all_wakes_although_an_operation_is_named_twice() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    assert!(!run.wait(WaitMode::All, &[a, b, a, a]));
    assert!(!run.inbound(completed(a)));
    assert!(run.inbound(completed(b)));
}

#[test]
fn wait_all_counts_only_what_has_not_settled() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    assert!(run.inbound(completed(a)));
    assert!(!run.wait(WaitMode::All, &[a, b]));
    assert!(run.inbound(completed(b)));
    assert!(run.wait(WaitMode::All, &[a, b]));
    assert!(run.wait(WaitMode::All, &[]), "nothing to wait for");
}

#[test]
fn what_the_guest_does_not_wait_for_does_not_wake_it() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    assert!(!run.inbound(completed(b)));
    assert!(!run.inbound(sent("go", "1")));
    assert!(run.is_settled(b) && !run.is_settled(a));
    assert!(run.is_waiting());
}

#[test]
fn a_failed_attempt_that_is_retried_shows_the_guest_nothing() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    let failure = Failure::new(FailureKind::Application, "x", "x").retryable();
    let (attempt, started, next_attempt) = (AttemptNumber::FIRST, secs(2), secs(9));
    assert!(!run.inbound(EventBody::ActivityAttemptFailed { op: a, attempt, started, failure, next_attempt }));
    assert_eq!(run.read(a), None);
    assert!(run.inbound(failed(a)));
    assert!(matches!(run.read(a), Some(Err(failure)) if failure.code == "card-declined"));
}

#[test]
fn a_released_operation_settles_without_a_trace() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.release(a);
    run.release(a);
    assert!(run.is_settled(a), "nobody can wait for it");
    run.wait_for(b);
    assert!(!run.inbound(completed(a)));
    assert_eq!(run.read(a), None);
    run.cancel(a).unwrap();
    assert!(run.take_fresh().is_empty(), "what nobody holds can't be cancelled");
    assert!(run.inbound(completed(b)));
}

#[test]
fn events_of_operations_that_do_not_exist_change_nothing() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    let nowhere = EventId(99);
    assert!(!run.inbound(completed(nowhere)));
    assert!(!run.inbound(EventBody::CallbackExpired { op: nowhere }));
    assert!(!run.inbound(fired(EventId(0))));
    run.cancel(nowhere).unwrap();
    run.release(nowhere);
    assert_eq!((run.read(nowhere), run.callback_origin(nowhere)), (None, None));
    assert!(run.inbound(completed(a)));
    assert!(!run.inbound(completed(a)) || !run.is_waiting());
    assert_eq!(run.read(a), ok("2"), "an operation settles once");
}

// ---- time and random numbers -----------------------------------------------------------------------

#[test]
fn time_stands_still_between_waits() {
    let mut run = Run::start();
    assert_eq!(run.now(), secs(1), "the time of the first event, not of the turn");
    let (a, b) = (run.timer(10), run.timer(20));
    run.wait(WaitMode::Any, &[a, b]);
    run.record(fired(a));
    run.record(fired(b));
    assert_eq!(run.now(), secs(1), "recorded is not applied");
    run.unblock().unwrap();
    let then = run.now();
    assert_eq!(then, run.history[3].time);
    run.activity("a");
    assert!(run.wait_for(a), "settled: no wait");
    assert_eq!(run.now(), then);
    run.wait_for(b);
    run.unblock().unwrap();
    assert!(run.now() > then);
}

#[test]
fn time_is_that_of_the_last_event_applied_even_if_it_did_not_wake_the_guest() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait(WaitMode::All, &[a, b]);
    run.inbound(completed(a));
    run.inbound(completed(b));
    assert_eq!(run.now(), run.history.last().unwrap().time);
    let now = run.now();
    let mut again = run.evicted();
    let (a, b) = (again.activity("a"), again.activity("b"));
    again.wait(WaitMode::All, &[a, b]);
    assert!(again.unblock().unwrap());
    assert_eq!(again.now(), now);
}

#[test]
fn time_in_the_workflow_never_goes_back() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    let now = run.now();
    let b = run.activity("b");
    run.wait_for(b);
    run.second = -100;
    assert!(run.inbound(completed(b)));
    assert_eq!(run.now(), now);
}

#[test]
fn a_command_is_never_earlier_than_the_event_before_it_even_after_the_clock_went_back() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.second = 1_000;
    run.inbound(completed(a));
    let mut again = run.evicted();
    again.activity("a");
    again.replay.begin_turn(secs(3));
    again.wait_for(a);
    again.unblock().unwrap();
    again.complete_through = EventId::NONE;
    again.activity("b");
    assert!(again.take_fresh()[0].time >= secs(1_001));
}

#[test]
fn random_numbers_are_the_same_on_replay() {
    let mut run = Run::start();
    let first = (run.random().next_u64(), run.random().uuid());
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    let second = run.random().next_u64();
    let mut again = run.evicted();
    assert_eq!((again.random().next_u64(), again.random().uuid()), first);
    let a = again.activity("a");
    again.wait_for(a);
    again.unblock().unwrap();
    assert_eq!(again.random().next_u64(), second);
}

// ---- cancelling an operation -----------------------------------------------------------------------

#[test]
fn a_cancelled_operation_settles_at_once_and_for_good() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.cancel(a).unwrap();
    assert_eq!(run.read(a), cancelled(BY_WORKFLOW));
    run.cancel(a).unwrap();
    assert_eq!(run.commit().len(), 2, "cancelled once: schedule, cancel");
    let b = run.activity("b");
    run.wait_for(b);
    assert!(!run.inbound(completed(a)), "an outcome that was under way is not heard");
    assert_eq!(run.read(a), cancelled(BY_WORKFLOW));
}

#[test]
fn cancelling_what_has_settled_does_nothing() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    run.commit();
    run.cancel(a).unwrap();
    assert_eq!(run.read(a), ok("2"));
    assert!(run.take_fresh().is_empty());
}

#[test]
fn a_wait_for_a_cancelled_operation_does_not_block() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.timer(9));
    run.cancel(b).unwrap();
    assert!(run.wait(WaitMode::Any, &[a, b]));
    assert_eq!(run.settled_among(&[a, b]), [1]);
}

// ---- signals ---------------------------------------------------------------------------------------

#[test]
fn signals_come_in_order_of_arrival_and_each_once() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(sent("go", "1"));
    run.inbound(sent("stop", "x"));
    run.inbound(sent("go", "2"));
    run.inbound(completed(a));
    let (first, second, third) = (run.signal("go"), run.signal("go"), run.signal("go"));
    assert_eq!((run.read(first), run.read(second), run.read(third)), (ok("1"), ok("2"), None));
    run.wait_for(third);
    assert!(!run.inbound(sent("stop", "y")));
    assert!(run.inbound(sent("go", "3")));
    assert_eq!(run.read(third), ok("3"));
    let stop = run.signal("stop");
    assert_eq!(run.read(stop), ok("x"));
}

#[test]
fn a_cancelled_wait_for_a_signal_swallows_none() {
    let mut run = Run::start();
    let (first, second) = (run.signal("go"), run.signal("go"));
    run.cancel(first).unwrap();
    run.release(first);
    run.wait_for(second);
    assert!(run.inbound(sent("go", "1")));
    assert_eq!(run.read(second), ok("1"));
}

#[test]
fn an_unread_signal_is_given_back_in_front() {
    let mut run = Run::start();
    let (first, second) = (run.signal("go"), run.signal("stop"));
    run.wait_for(second);
    run.inbound(sent("go", "1"));
    run.inbound(sent("go", "2"));
    run.inbound(sent("stop", "x"));
    run.commit();
    run.cancel(first).unwrap();
    assert_eq!(run.read(first), cancelled(BY_WORKFLOW));
    run.cancel(first).unwrap();
    assert_eq!(run.commit().len(), 1, "given back once");
    let (third, fourth) = (run.signal("go"), run.signal("go"));
    assert_eq!((run.read(third), run.read(fourth)), (ok("1"), ok("2")));
}

#[test]
fn a_signal_given_back_goes_to_the_one_that_waits_for_it() {
    let mut run = Run::start();
    let (first, second, timer) = (run.signal("go"), run.signal("go"), run.timer(9));
    run.wait_for(timer);
    run.inbound(sent("go", "1"));
    run.inbound(fired(timer));
    run.cancel(first).unwrap();
    assert!(run.wait_for(second));
    assert_eq!(run.read(second), ok("1"));
}

#[test]
fn a_signal_that_was_read_is_not_given_back() {
    let mut run = Run::start();
    let first = run.signal("go");
    run.wait_for(first);
    run.inbound(sent("go", "1"));
    assert_eq!(run.read(first), ok("1"));
    run.commit();
    run.cancel(first).unwrap();
    assert!(run.take_fresh().is_empty());
    assert_eq!(run.read(first), ok("1"), "reading again gives the same");
    let second = run.signal("go");
    assert_eq!(run.read(second), None);
}

// ---- callbacks -------------------------------------------------------------------------------------

#[test]
fn a_callback_keeps_the_origin_it_was_created_with() {
    let mut run = Run::start();
    let paid = run.create_callback("paid".to_owned(), None).unwrap();
    assert_eq!(run.callback_origin(paid), Some(&origin()));
    run.wait_for(paid);
    let settled = EventBody::CallbackSettled { op: paid, outcome: Ok("1".to_owned()), digest: Digest([1; 32]) };
    run.inbound(settled);
    run.commit();
    let moved = CallbackOrigin { base_url: "https://b.example".to_owned(), key_id: 2 };
    let mut again = Replay::new(run.history, EventId(1), Limits::default(), moved.clone()).unwrap();
    let paid = again.create_callback("paid".to_owned(), None).unwrap();
    assert_eq!(again.callback_origin(paid), Some(&origin()), "its URL is out in the world");
    assert!(!again.wait(WaitMode::Any, &[paid]) && again.unblock().unwrap());
    let next = again.create_callback("refunded".to_owned(), None).unwrap();
    assert_eq!(again.callback_origin(next), Some(&moved));
    let activity = again.schedule_activity("a".to_owned(), String::new(), ActivityOptions::default()).unwrap();
    assert_eq!(again.callback_origin(activity), None, "no callback, no URL");
}

#[test]
fn a_callback_expires_counted_from_the_time_in_the_workflow() {
    let mut run = Run::start();
    run.replay.begin_turn(secs(500));
    let paid = run.create_callback("paid".to_owned(), Some(Nanos::from_secs(60))).unwrap();
    let fresh = run.commit();
    assert!(matches!(fresh[0].body, EventBody::CallbackCreated { expires: Some(at), .. } if at == secs(61)));
    run.wait_for(paid);
    assert!(run.inbound(EventBody::CallbackExpired { op: paid }));
    let Some(Err(failure)) = run.read(paid) else { panic!("it expired") };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::TimedOut, "timeout.callback"));
    let never = run.create_callback("never".to_owned(), Some(Nanos(u64::MAX))).unwrap();
    assert!(run.callback_origin(never).is_some(), "any length of time is allowed");
}

// ---- a request to cancel ---------------------------------------------------------------------------

#[test]
fn a_request_to_cancel_settles_everything_open_in_order() {
    let mut run = Run::start();
    let (a, b, c, d) = (run.activity("a"), run.timer(9), run.signal("go"), run.activity("d"));
    run.cancel(b).unwrap();
    let ops = [d, c, a];
    run.wait(WaitMode::All, &ops);
    assert_eq!(run.cancel_requested(), None);
    assert!(run.inbound(cancel_requested()), "one wake, also of a wait for all");
    assert_eq!(run.cancel_requested(), Some("changed my mind"));
    assert_eq!(run.settled_among(&ops), [2, 1, 0], "in the order in which they began");
    assert_eq!(run.read(a), cancelled("changed my mind"));
    assert_eq!(run.read(b), cancelled(BY_WORKFLOW), "it was cancelled before");
    let (e, timer) = (run.activity("undo"), run.timer(99));
    assert_eq!(run.read(e), None, "what begins afterwards works as ever");
    run.wait_for(e);
    assert!(!run.inbound(sent("go", "1")), "the cancelled wait swallows no signal");
    assert!(run.inbound(completed(e)));
    let go = run.signal("go");
    assert_eq!(run.read(go), ok("1"));
    assert!(!run.is_settled(timer));
}

#[test]
fn the_guest_learns_of_a_request_to_cancel_only_while_it_waits() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.record(completed(a));
    run.record(cancel_requested());
    run.begin_turn();
    assert!(run.unblock().unwrap());
    assert_eq!(run.cancel_requested(), None);
    let b = run.activity("b");
    let fresh = run.commit();
    assert!(fresh[0].cause < EventId(4) && fresh[0].id > EventId(4), "issued before the request was seen");
    run.wait_for(b);
    assert!(run.unblock().unwrap());
    assert_eq!(run.read(b), cancelled("changed my mind"));
}

#[test]
fn how_a_workflow_ends_says_whether_it_was_asked_to_cancel() {
    let failure = Failure::cancelled("as asked");
    let end = |asked: bool, result: Outcome| {
        let mut run = Run::start();
        let a = run.activity("a");
        run.wait_for(a);
        run.inbound(if asked { cancel_requested() } else { completed(a) });
        run.replay.finish(result).unwrap();
        run.commit().pop().unwrap().body
    };
    assert_eq!(end(true, Err(failure.clone())), EventBody::InstanceCancelled { failure: failure.clone() });
    assert_eq!(end(false, Err(failure.clone())), EventBody::InstanceFailed { failure });
    let other = Failure::new(FailureKind::Application, "x", "x");
    assert_eq!(end(true, Err(other.clone())), EventBody::InstanceFailed { failure: other });
    assert_eq!(end(true, Ok("1".to_owned())), EventBody::InstanceCompleted { output: "1".to_owned() });
}

// ---- divergence ------------------------------------------------------------------------------------

/// A run whose guest scheduled `a` and `b`, saw `a` complete, started a timer at 60 s, saw `b` complete,
/// asked for a signal, and now waits for it; given back at its start.
///
/// History: 1 started, 2 a, 3 b, 4 a completed, 5 timer, 6 b completed, 7 signal awaited.
fn recorded() -> Run {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    run.inbound(completed(a));
    run.timer(60);
    run.wait_for(b);
    run.inbound(completed(b));
    let go = run.signal("go");
    run.wait_for(go);
    run.evicted()
}

/// The guest of [`recorded`] up to where it has seen `a` complete.
fn recorded_until_a() -> (Run, EventId) {
    let mut run = recorded();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    assert!(run.unblock().unwrap());
    (run, b)
}

#[test]
fn another_input_diverges() {
    let mut run = recorded();
    let other = run.schedule_activity("a".to_owned(), "2".to_owned(), ActivityOptions::default());
    check_divergence(
        other,
        expect![[r#"
            event 2
            expected ActivityScheduled `a` with input 1 and no options
            got ActivityScheduled `a` with input 2 and no options
        "#]],
    );
    assert!(run.take_fresh().is_empty(), "a divergence leaves the history as it is");
}

#[test]
fn a_difference_that_is_not_shown_is_said_to_be_there() {
    let mut run = Run::start();
    run.set_status("x".repeat(500) + "1").unwrap();
    let mut again = run.evicted();
    let Err(Stop::Diverged(found)) = again.set_status("x".repeat(500) + "2") else { panic!("it differs") };
    assert_eq!(found.got, found.expected + ", different further on than is shown here");
}

#[test]
fn another_name_another_option_another_deadline_and_another_kind_diverge() {
    let diverges = |result: Result<EventId, Stop>| assert!(matches!(result, Err(Stop::Diverged(_))), "{result:?}");
    let options = ActivityOptions { queue: Some("gpu".to_owned()), ..ActivityOptions::default() };
    diverges(recorded().schedule_activity("b".to_owned(), "1".to_owned(), ActivityOptions::default()));
    diverges(recorded().schedule_activity("a".to_owned(), "1".to_owned(), options));
    diverges(recorded().next_signal("a".to_owned()));
    diverges(recorded().create_callback("a".to_owned(), None));
    let (mut run, _) = recorded_until_a();
    check_divergence(
        run.start_timer(secs(61)),
        expect![[r#"
        event 5
        expected TimerStarted with deadline 60000000000 ns
        got TimerStarted with deadline 61000000000 ns
    "#]],
    );
}

#[test]
fn a_command_left_out_diverges_when_the_guest_waits() {
    let mut run = recorded();
    let a = run.activity("a");
    run.wait_for(a);
    check_divergence(
        run.unblock(),
        expect![[r#"
            event 3
            expected ActivityScheduled `b` with input 1 and no options
            got the workflow waits
        "#]],
    );
}

#[test]
fn a_command_left_out_diverges_when_the_guest_goes_on_with_the_next() {
    let mut run = recorded();
    check_divergence(
        run.schedule_activity("b".to_owned(), "1".to_owned(), ActivityOptions::default()),
        expect![[r#"
            event 2
            expected ActivityScheduled `a` with input 1 and no options
            got ActivityScheduled `b` with input 1 and no options
        "#]],
    );
}

#[test]
fn a_command_too_many_diverges_where_the_guest_waited() {
    let mut run = recorded();
    run.activity("a");
    run.activity("b");
    check_divergence(
        run.start_timer(secs(60)),
        expect![[r#"
        event 4
        expected the workflow to wait for ActivityCompleted
        got TimerStarted with deadline 60000000000 ns
    "#]],
    );
}

#[test]
fn a_command_too_many_in_the_last_turn_that_was_finished_diverges() {
    let (mut run, b) = recorded_until_a();
    run.timer(60);
    run.wait_for(b);
    assert!(run.unblock().unwrap());
    run.signal("go");
    assert!(run.is_replaying());
    check_divergence(
        run.set_status("1".to_owned()),
        expect![[r#"
        event 8
        expected the workflow to wait
        got StatusSet to 1
    "#]],
    );
}

#[test]
fn a_command_issued_later_than_recorded_diverges() {
    let (mut run, b) = recorded_until_a();
    run.wait_for(b);
    check_divergence(
        run.unblock(),
        expect![[r#"
        event 5
        expected TimerStarted with deadline 60000000000 ns
        got the workflow waits
    "#]],
    );
}

#[test]
fn a_workflow_that_returns_early_diverges() {
    let (mut run, _) = recorded_until_a();
    check_divergence(
        run.replay.finish(Ok("1".to_owned())),
        expect![[r#"
        event 5
        expected TimerStarted with deadline 60000000000 ns
        got InstanceCompleted with output 1
    "#]],
    );
    let (mut run, _) = recorded_until_a();
    run.timer(60);
    check_divergence(
        run.replay.finish(Ok("1".to_owned())),
        expect![[r#"
        event 6
        expected the workflow to wait for ActivityCompleted
        got InstanceCompleted with output 1
    "#]],
    );
}

#[test]
fn a_workflow_that_goes_on_where_it_returned_diverges() {
    let mut run = Run::start();
    run.finish();
    let mut again = run.evicted();
    let scheduled = again.schedule_activity("a".to_owned(), "1".to_owned(), ActivityOptions::default());
    check_divergence(
        scheduled,
        expect![[r#"
            event 2
            expected InstanceCompleted with output null
            got ActivityScheduled `a` with input 1 and no options
        "#]],
    );
}

#[test]
fn a_workflow_that_returns_something_else_diverges() {
    let mut run = Run::start();
    run.finish();
    let mut again = run.evicted();
    check_divergence(
        again.replay.finish(Err(Failure::cancelled("no"))),
        expect![[r#"
        event 2
        expected InstanceCompleted with output null
        got InstanceFailed: cancelled (cancelled): no
    "#]],
    );
}

#[test]
fn a_command_after_the_last_one_of_the_history_is_new_once_the_guest_is_further_than_ever() {
    let (mut run, b) = recorded_until_a();
    run.timer(60);
    run.wait_for(b);
    run.unblock().unwrap();
    let go = run.signal("go");
    run.wait_for(go);
    assert!(!run.unblock().unwrap());
    assert!(run.inbound(sent("go", "1")));
    assert!(!run.is_replaying());
    run.activity("c");
    assert_eq!(run.take_fresh().len(), 1);
}

#[test]
fn a_command_with_a_cause_that_is_no_inbound_event_is_a_divergence_not_a_hang() {
    let mut history = recorded().history;
    history[4].cause = EventId(2);
    let mut run = Run::of(history, EventId(6), Limits::default());
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    run.unblock().unwrap();
    run.wait_for(b);
    assert!(matches!(run.unblock(), Err(Stop::Diverged(_))));
}

#[test]
fn a_command_after_the_end_is_a_divergence() {
    let mut run = Run::start();
    run.finish();
    let body = EventBody::StatusSet { status: "1".to_owned() };
    run.history.push(Event { id: EventId(3), time: secs(9), cause: EventId(1), body });
    let mut again = run.evicted();
    check_divergence(
        again.replay.finish(Ok("null".to_owned())),
        expect![[r#"
        event 3
        expected StatusSet to 1
        got the workflow returned
    "#]],
    );
}

#[test]
fn a_history_without_its_start_is_none() {
    let new = |history| Replay::new(history, EventId::NONE, Limits::default(), origin()).map(drop);
    assert_eq!(new(vec![]), Err(NotAHistory));
    let fired = Event { body: fired(EventId(2)), ..started() };
    assert_eq!(new(vec![fired]), Err(NotAHistory));
    let command = Event { body: EventBody::TimerStarted { deadline: secs(1) }, ..started() };
    assert_eq!(new(vec![command]), Err(NotAHistory));
}

// ---- patched ---------------------------------------------------------------------------------------

#[test]
fn a_new_run_has_every_change_and_keeps_it_on_replay() {
    let mut run = Run::start();
    assert!(run.patched("tax".to_owned()).unwrap());
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    assert!(run.patched("tax".to_owned()).unwrap());
    assert!(run.patched("fee".to_owned()).unwrap());
    let mut again = run.evicted();
    assert!(again.patched("tax".to_owned()).unwrap());
    let a = again.activity("a");
    again.wait_for(a);
    again.unblock().unwrap();
    assert!(again.patched("tax".to_owned()).unwrap());
    assert!(again.patched("fee".to_owned()).unwrap());
    assert!(again.take_fresh().is_empty());
}

#[test]
fn a_run_that_passed_the_place_before_the_change_does_not_have_it_there() {
    let (mut run, b) = recorded_until_a();
    assert!(!run.patched("tax".to_owned()).unwrap(), "passed without the change");
    run.timer(60);
    assert!(!run.patched("tax".to_owned()).unwrap());
    run.wait_for(b);
    run.unblock().unwrap();
    let go = run.signal("go");
    assert!(!run.patched("tax".to_owned()).unwrap(), "the last turn was finished without it, too");
    run.wait_for(go);
    assert!(!run.unblock().unwrap());
    assert!(run.inbound(sent("go", "1")));
    assert!(run.patched("tax".to_owned()).unwrap(), "a place never reached before");
    run.activity("new");
    // And so again, every time.
    let mut again = run.evicted();
    assert!(!again.patched("tax".to_owned()).unwrap());
    let (a, b) = (again.activity("a"), again.activity("b"));
    again.wait_for(a);
    again.unblock().unwrap();
    assert!(!again.patched("tax".to_owned()).unwrap());
    again.timer(60);
    again.wait_for(b);
    again.unblock().unwrap();
    let go = again.signal("go");
    again.wait_for(go);
    again.unblock().unwrap();
    assert!(again.patched("tax".to_owned()).unwrap());
    again.activity("new");
    assert!(again.take_fresh().is_empty());
}

#[test]
fn another_change_at_the_place_of_a_recorded_one_is_not_in_force() {
    let mut run = Run::start();
    assert!(run.patched("tax".to_owned()).unwrap());
    let mut again = run.evicted();
    assert!(!again.patched("fee".to_owned()).unwrap());
    assert!(again.patched("tax".to_owned()).unwrap());
}

#[test]
fn a_change_recorded_for_a_later_place_is_not_in_force_at_an_earlier_one() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    assert!(run.patched("tax".to_owned()).unwrap());
    let mut again = run.evicted();
    let a = again.activity("a");
    assert!(!again.patched("tax".to_owned()).unwrap(), "the run passed here without asking");
    again.wait_for(a);
    again.unblock().unwrap();
    assert!(again.patched("tax".to_owned()).unwrap());
}

#[test]
fn a_change_taken_out_of_the_code_diverges() {
    let mut run = Run::start();
    run.patched("tax".to_owned()).unwrap();
    run.activity("a");
    let mut again = run.evicted();
    let scheduled = again.schedule_activity("a".to_owned(), "1".to_owned(), ActivityOptions::default());
    check_divergence(
        scheduled,
        expect![[r#"
            event 2
            expected ChangePatched `tax`
            got ActivityScheduled `a` with input 1 and no options
        "#]],
    );
}

// ---- the guest behind its history ------------------------------------------------------------------

#[test]
fn events_recorded_while_the_guest_could_not_run_are_applied_at_their_waits() {
    let mut run = Run::start();
    let (a, b) = (run.activity("a"), run.activity("b"));
    run.wait_for(a);
    run.record(completed(a));
    run.record(sent("go", "1"));
    run.record(completed(b));
    run.begin_turn();
    assert!(run.unblock().unwrap());
    let go = run.signal("go");
    assert_eq!(run.read(go), None, "the signal is recorded, but the guest has only seen `a` complete");
    run.wait_for(b);
    assert!(run.unblock().unwrap());
    assert_eq!(run.read(go), ok("1"));
    run.activity("c");
    let fresh = run.commit();
    let causes: Vec<(u64, u64)> = fresh.iter().map(|event| (event.id.0, event.cause.0)).collect();
    assert_eq!(causes, [(7, 4), (8, 6)], "recorded after all three, each with what the guest had seen");
    let mut again = run.evicted();
    let (a, b) = (again.activity("a"), again.activity("b"));
    again.wait_for(a);
    again.unblock().unwrap();
    let go = again.signal("go");
    assert_eq!(again.read(go), None);
    again.wait_for(b);
    again.unblock().unwrap();
    assert_eq!(again.read(go), ok("1"));
    again.activity("c");
    assert!(again.is_replaying() && again.take_fresh().is_empty());
}

#[test]
fn a_turn_that_was_not_finished_is_run_again_as_new() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    run.inbound(completed(a));
    run.activity("lost");
    let mut again = run.crashed();
    let a = again.activity("a");
    assert!(again.is_replaying());
    again.wait_for(a);
    again.begin_turn();
    assert!(again.unblock().unwrap());
    assert!(!again.is_replaying(), "nothing is known of this turn");
    again.activity("another");
    assert_eq!(again.commit().len(), 1);
}

#[test]
fn the_very_first_turn_may_be_run_again_too() {
    let mut run = Run::start();
    run.activity("lost");
    let mut again = run.crashed();
    assert!(!again.is_replaying());
    again.activity("a");
    assert_eq!(again.commit()[0].id, EventId(2));
}

#[test]
fn an_end_by_the_host_is_seen_at_the_end_of_the_replay() {
    let mut run = Run::start();
    let a = run.activity("a");
    run.wait_for(a);
    assert!(!run.ended_by_host());
    assert!(!run.inbound(EventBody::InstanceTerminated { reason: "stuck".to_owned() }));
    assert!(run.ended_by_host());
    let mut again = run.evicted();
    let a = again.activity("a");
    again.wait_for(a);
    assert!(!again.unblock().unwrap());
    assert!(again.ended_by_host());
}

// ---- limits ----------------------------------------------------------------------------------------

fn tight() -> Limits {
    Limits {
        payload_bytes: 100,
        name_bytes: 8,
        history_events: 20,
        open_operations: 4,
        commands_per_turn: 6,
        turn_bytes: 250,
        ..Limits::default()
    }
}

#[test]
fn every_limit_of_a_guest_is_enforced_by_name() {
    let new = || Run::with(tight());
    let (name, payload) = ("x".repeat(9), "x".repeat(101));
    let default = ActivityOptions::default;
    assert_eq!(limit_name(new().schedule_activity(name.clone(), String::new(), default())), "name-bytes");
    assert_eq!(limit_name(new().schedule_activity("a".to_owned(), payload.clone(), default())), "payload-bytes");
    assert_eq!(limit_name(new().create_callback(name.clone(), None)), "name-bytes");
    assert_eq!(limit_name(new().next_signal(name.clone())), "name-bytes");
    assert_eq!(limit_name(new().patched(name)), "name-bytes");
    assert_eq!(limit_name(new().set_status(payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().replay.finish(Ok(payload.clone()))), "payload-bytes");
    assert_eq!(limit_name(new().replay.finish(Err(Failure::cancelled(&payload)))), "payload-bytes");
    let mut many = new();
    for _ in 0..4 {
        many.timer(9);
    }
    assert_eq!(limit_name(many.start_timer(secs(9))), "open-operations");
    let mut busy = new();
    (0..6).for_each(|_| busy.set_status(String::new()).unwrap());
    assert_eq!(limit_name(busy.set_status(String::new())), "commands-per-turn");
    let mut large = new();
    (0..2).for_each(|_| large.set_status("x".repeat(100)).unwrap());
    assert_eq!(limit_name(large.set_status("x".repeat(100))), "turn-bytes");
}

#[test]
fn the_text_of_the_options_is_limited_too() {
    let codes = |count: usize| RetryPolicy {
        initial_interval: Nanos(1),
        backoff_permille: 1000,
        maximum_interval: Nanos(1),
        maximum_attempts: None,
        total_timeout: None,
        jitter_permille: 0,
        non_retryable: vec!["x".to_owned(); count],
    };
    let schedule = |options| Run::with(tight()).schedule_activity("a".to_owned(), String::new(), options);
    let options = |count| ActivityOptions { retry: Some(codes(count)), ..ActivityOptions::default() };
    assert!(schedule(options(11)).is_ok());
    assert_eq!(limit_name(schedule(options(12))), "payload-bytes");
    let queue = ActivityOptions { queue: Some("x".repeat(101)), ..ActivityOptions::default() };
    assert_eq!(limit_name(schedule(queue)), "payload-bytes");
}

#[test]
fn settled_cancelled_and_released_operations_make_room_for_others() {
    let mut run = Run::with(tight());
    let (a, b, c) = (run.activity("a"), run.activity("b"), run.activity("c"));
    run.wait_for(a);
    run.inbound(completed(a));
    run.cancel(b).unwrap();
    run.cancel(b).unwrap();
    run.release(b);
    run.release(c);
    run.release(c);
    for _ in 0..4 {
        run.timer(9);
    }
    assert_eq!(limit_name(run.start_timer(secs(9))), "open-operations");
}

#[test]
fn a_history_that_is_full_takes_only_the_end() {
    let mut run = Run::with(Limits { history_events: 3, ..tight() });
    run.set_status("1".to_owned()).unwrap();
    run.set_status("2".to_owned()).unwrap();
    let full = run.set_status("3".to_owned()).unwrap_err();
    let Stop::Limit(limit) = &full else { panic!("{full:?}") };
    assert_eq!((limit.name.as_str(), limit.found, limit.limit), ("history-events", 4, 3));
    assert_eq!(run.finish().last().unwrap().id, EventId(4), "the end is always recorded");
}

#[test]
fn a_limit_reached_records_nothing() {
    let mut run = Run::with(tight());
    run.set_status("1".to_owned()).unwrap();
    let payload = "x".repeat(101);
    assert_eq!(limit_name(run.set_status(payload)), "payload-bytes");
    assert_eq!(run.commit().len(), 1);
}

#[test]
fn no_limit_is_enforced_in_replay() {
    let mut run = Run::start();
    let name = "a-long-name-of-many-characters".to_owned();
    let (payload, options) = ("x".repeat(5_000), ActivityOptions { queue: Some(name.clone()), ..Default::default() });
    let script = |run: &mut Run| {
        let a = run.schedule_activity(name.clone(), payload.clone(), options.clone()).unwrap();
        let callback = run.create_callback(name.clone(), None).unwrap();
        let signal = run.next_signal(name.clone()).unwrap();
        assert!(run.patched(name.clone()).unwrap());
        (0..10).for_each(|_| run.set_status(payload.clone()).unwrap());
        let timers: Vec<EventId> = (0..10).map(|_| run.timer(9)).collect();
        run.wait_for(a);
        (a, callback, signal, timers)
    };
    let (a, ..) = script(&mut run);
    assert!(run.inbound(completed(a)));
    run.replay.finish(Ok(payload.clone())).unwrap();
    run.limits = tight();
    let mut again = run.evicted();
    script(&mut again);
    assert!(again.unblock().unwrap());
    again.replay.finish(Ok(payload.clone())).unwrap();
    assert!(again.take_fresh().is_empty());
}

#[test]
fn limits_are_enforced_again_once_the_guest_is_past_its_history() {
    let mut run = Run::start();
    let ops: Vec<EventId> = (0..10).map(|_| run.timer(9)).collect();
    run.wait_for(ops[0]);
    run.limits = tight();
    let mut again = run.evicted();
    for _ in 0..10 {
        again.timer(9);
    }
    again.wait_for(ops[0]);
    assert!(again.inbound(fired(ops[0])));
    assert_eq!(limit_name(again.start_timer(secs(9))), "open-operations");
    assert_eq!(limit_name(again.set_status("x".repeat(101))), "payload-bytes");
}

#[test]
fn a_guest_that_catches_up_reaches_no_limit_that_it_would_not_have_reached_event_by_event() {
    let mut run = Run::with(Limits { history_events: 1_000, ..tight() });
    let mut ops = vec![run.signal("go")];
    run.wait_for(ops[0]);
    for n in 0..50 {
        run.record(sent("go", &format!("{n}")));
    }
    run.begin_turn();
    for n in 0..50 {
        assert!(run.unblock().unwrap());
        assert_eq!(run.read(ops[n]), ok(&format!("{n}")));
        ops.push(run.signal("go"));
        run.wait_for(ops[n + 1]);
    }
    assert!(!run.unblock().unwrap());
    assert_eq!(run.commit().len(), 50);
}

#[test]
fn waiting_for_what_has_settled_does_not_renew_the_limits_of_a_turn() {
    let mut run = Run::with(tight());
    let timer = run.timer(9);
    run.cancel(timer).unwrap();
    (0..4).for_each(|_| {
        run.set_status(String::new()).unwrap();
        assert!(run.wait_for(timer) && run.unblock().unwrap());
    });
    assert_eq!(limit_name(run.set_status(String::new())), "commands-per-turn");
}

#[test]
fn a_stop_reads_as_a_sentence() {
    let text = |stop: Stop| stop.to_string() + "\n";
    let limit = Run::with(tight()).patched("x".repeat(9)).unwrap_err();
    let diverged = recorded().next_signal("go".to_owned()).unwrap_err();
    let misuse = Stop::Misuse("wait-any was called with nothing to wait for".to_owned());
    expect![[r#"
        limit `name-bytes` reached: the change id is too long in bytes (9, at most 8);
        raise `limits.name-bytes` in the configuration or make the workflow smaller
        the workflow does not match its history at event 2:
        expected ActivityScheduled `a` with input 1 and no options, got SignalAwaited `go`
        wait-any was called with nothing to wait for
    "#]]
    .assert_eq(&(text(limit) + &text(diverged) + &text(misuse)).replace("; ", ";\n").replace(": exp", ":\nexp"));
}

// ---- stored histories ------------------------------------------------------------------------------

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The history of [`order`] as format 1 stored it: one event a line. It never changes. A build that can't
/// replay it has lost the instances of its users; a new format gets a file of its own beside it.
const ORDER_V1: &str = include_str!("../tests/corpus/order-v1.txt");

/// The same history as format 2 stores it.
const ORDER_V2: &str = include_str!("../tests/corpus/order-v2.txt");

#[test]
fn a_history_that_an_earlier_build_stored_replays_to_its_end() {
    let history = decoded(ORDER_V1);
    assert_eq!(history.len(), 15);
    assert_eq!(decoded(ORDER_V2), history, "another format says the same");
    for through in history.iter().filter(|event| !event.body.is_command()).map(|event| event.id) {
        // Stopped at any commit, and at its end.
        let known = |event: &Event| if event.body.is_command() { event.cause <= through } else { event.id <= through };
        let length = history.iter().take_while(|event| known(event)).count();
        let mut run = Run::of(history[..length].to_vec(), through, Limits::default());
        assert_eq!(order(&mut run).is_some(), length == history.len());
        assert_eq!((run.take_fresh(), run.commands.len(), run.inbound.len()), (vec![], 0, 0), "through {through}");
    }
}

#[test]
fn the_history_of_today_is_the_stored_one() {
    let lines: String = order_history().iter().map(|event| hex(&event.encode()) + "\n").collect();
    assert_eq!(lines, ORDER_V2, "commands or bytes changed: stored instances would diverge");
}
