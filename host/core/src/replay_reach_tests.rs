//! The guest's view of what reaches beyond its instance: children, questions, suspension, the next run.

use super::*;
use crate::child::ParentClose;
use crate::event::Lineage;
use crate::testing::{Run, broken, check_divergence, decoded, limit_name, secs, started, two_attempts};
use expect_test::expect;

fn text(text: &str) -> String {
    text.to_owned()
}

fn entity() -> EntityId {
    EntityId::new("counter", "a").unwrap()
}

fn replied(op: EventId, outcome: Outcome) -> EventBody {
    EventBody::ReplyReceived { op, outcome }
}

fn fired(op: EventId) -> EventBody {
    EventBody::TimerFired { op }
}

/// A first turn of an instance that stands that deep.
fn deep(depth: u32, limits: Limits) -> Run {
    let mut first = started();
    if let EventBody::InstanceStarted { lineage, .. } = &mut first.body {
        *lineage = Some(Box::new(Lineage { depth, ..Lineage::default() }));
    }
    let mut run = Run::of(vec![first], EventId::NONE, limits);
    run.begin_turn();
    run
}

fn child(run: &mut Run, id: &str) -> Result<EventId, Stop> {
    run.start_child(text(id), text("parcels"), text("1"), ChildOptions::default())
}

type Ask = fn(&mut Run) -> Result<EventId, Stop>;

/// Each way to ask another instance or an entity.
fn questions() -> Vec<Ask> {
    vec![
        |run| child(run, "parcel-7"),
        |run| run.start_detached(text("later"), text("reports"), None, text("1")),
        |run| run.send_signal(text("order-8"), text("go"), text("1")),
        |run| run.send_cancel(text("order-8"), text("enough")),
        |run| run.call_entity(entity(), text("add"), text("1")),
    ]
}

// ---- questions -------------------------------------------------------------------------------------

#[test]
fn a_question_settles_with_its_answer() {
    for ask in questions() {
        for outcome in [Ok(text("7")), Err(broken())] {
            let mut run = Run::start();
            let op = ask(&mut run).unwrap();
            assert!(!run.wait_for(op));
            assert!(run.inbound(replied(op, outcome.clone())));
            assert_eq!(run.read(op), Some(outcome));
            run.inbound(replied(op, Ok(text("another"))));
            assert_ne!(run.read(op), Some(Ok(text("another"))), "the first answer holds");
        }
    }
}

#[test]
fn a_question_that_is_given_up_is_a_cancelled_operation() {
    for ask in questions() {
        let mut run = Run::start();
        let op = ask(&mut run).unwrap();
        run.cancel(op).unwrap();
        let commands = run.commit();
        assert_eq!(commands.last().unwrap().body, EventBody::OperationCancelled { op });
        run.inbound(replied(op, Ok(text("7"))));
        assert_eq!(run.read(op), Some(Err(Failure::cancelled("the workflow cancelled the operation"))));
    }
}

#[test]
fn a_request_to_cancel_settles_every_question() {
    let mut run = Run::start();
    let ops: Vec<EventId> = questions().iter().map(|ask| ask(&mut run).unwrap()).collect();
    run.wait(WaitMode::All, &ops);
    assert!(run.inbound(EventBody::CancelRequested { reason: text("enough") }));
    for op in ops {
        assert_eq!(run.read(op), Some(Err(Failure::cancelled("enough"))));
    }
}

#[test]
fn a_failed_attempt_of_a_child_that_is_retried_shows_the_guest_nothing() {
    let mut run = Run::start();
    let op = child(&mut run, "parcel-7").unwrap();
    run.wait_for(op);
    let (attempt, next_attempt) = (crate::AttemptNumber::FIRST, secs(9));
    assert!(!run.inbound(EventBody::ChildAttemptFailed { op, attempt, failure: broken(), next_attempt }));
    assert_eq!(run.read(op), None);
    assert!(run.inbound(replied(op, Ok(text("7")))));
}

#[test]
fn what_an_entity_is_told_is_a_command_that_nobody_waits_for() {
    let mut run = Run::start();
    run.signal_entity(entity(), text("add"), text("1")).unwrap();
    let told = EventBody::EntitySignalled { entity: entity(), operation: text("add"), input: text("1") };
    assert_eq!(run.commit()[0].body, told);
    let mut run = run.evicted();
    check_divergence(
        run.signal_entity(entity(), text("add"), text("2")),
        expect![[r#"
            event 2
            expected EntitySignalled `add` of `@counter@a` with input 1
            got EntitySignalled `add` of `@counter@a` with input 2
        "#]],
    );
}

#[test]
fn a_question_asked_otherwise_than_recorded_diverges() {
    for (ask, place) in questions().into_iter().zip(0..) {
        let mut run = Run::start();
        ask(&mut run).unwrap();
        run.record(EventBody::SignalReceived { name: text("go"), payload: text("1"), message_id: None });
        for (other, at) in questions().into_iter().zip(0..) {
            let history = run.history.clone();
            let mut again = Run::of(history, EventId(1), Limits::default());
            let asked = other(&mut again);
            assert_eq!(asked.is_ok(), at == place, "{asked:?}");
        }
    }
    let mut run = Run::start();
    child(&mut run, "parcel-7").unwrap();
    let mut run = run.evicted();
    let options = ChildOptions { parent_close: ParentClose::Abandon, ..ChildOptions::default() };
    let asked = run.start_child(text("parcel-7"), text("parcels"), text("1"), options);
    assert!(matches!(asked, Err(Stop::Diverged(_))), "{asked:?}");
}

// ---- limits ----------------------------------------------------------------------------------------

#[test]
fn children_stand_as_deep_as_the_limit_says_and_the_history_is_still_read_when_it_sinks() {
    let limits = |child_depth| Limits { child_depth, ..Limits::default() };
    assert!(child(&mut deep(4, limits(5)), "c").is_ok());
    assert_eq!(limit_name(child(&mut deep(5, limits(5)), "c")), "child-depth");
    assert_eq!(limit_name(child(&mut deep(u32::MAX, limits(5)), "c")), "child-depth");
    assert!(deep(5, limits(5)).start_detached(text("d"), text("w"), None, text("1")).is_ok(), "it has no parent");
    let mut run = deep(4, limits(5));
    child(&mut run, "c").unwrap();
    run.limits.child_depth = 1;
    assert!(child(&mut run.evicted(), "c").is_ok(), "no limit is enforced in replay");
}

#[test]
fn an_instance_id_that_can_not_be_is_misuse_but_a_recorded_one_is_read() {
    for id in ["", "@counter@a", "a/b", ".."] {
        for start in [
            |run: &mut Run, id: &str| child(run, id),
            |run: &mut Run, id: &str| run.start_detached(text(id), text("w"), None, text("1")),
        ] {
            let mut run = Run::start();
            let stop = start(&mut run, id);
            assert!(matches!(stop, Err(Stop::Misuse(_))), "{id}: {stop:?}");
            assert_eq!(run.take_fresh(), [], "nothing is recorded");
        }
    }
    let (id, workflow, input) = (text("a/b"), text("parcels"), text("1"));
    let body = EventBody::ChildStarted { id, workflow, input, options: ChildOptions::default() };
    let recorded = Event { id: EventId(2), time: secs(2), cause: EventId(1), body };
    let mut run = Run::of(vec![started(), recorded], EventId(1), Limits::default());
    assert_eq!(child(&mut run, "a/b"), Ok(EventId(2)), "from a build that allowed it");
}

#[test]
fn every_text_that_leaves_the_instance_has_a_limit() {
    let limits = || Limits { payload_bytes: 100, name_bytes: 8, ..Limits::default() };
    let new = || Run::with(limits());
    let (name, payload) = ("x".repeat(9), "x".repeat(101));
    let none = ChildOptions::default;
    let id = || text("c");
    assert_eq!(limit_name(new().start_child(id(), name.clone(), text("1"), none())), "name-bytes");
    assert_eq!(limit_name(new().start_child(id(), text("w"), payload.clone(), none())), "payload-bytes");
    let version = ChildOptions { version: Some(payload.clone()), ..none() };
    assert_eq!(limit_name(new().start_child(id(), text("w"), text("1"), version)), "payload-bytes");
    let mut retry = two_attempts().retry.unwrap();
    retry.non_retryable = vec![payload.clone()];
    let retry = ChildOptions { retry: Some(retry), ..none() };
    assert_eq!(limit_name(new().start_child(id(), text("w"), text("1"), retry)), "payload-bytes");
    assert_eq!(limit_name(new().start_detached(id(), name.clone(), None, text("1"))), "name-bytes");
    assert_eq!(limit_name(new().start_detached(id(), text("w"), Some(name.clone()), text("1"))), "name-bytes");
    assert_eq!(limit_name(new().start_detached(id(), text("w"), None, payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().send_signal(name.clone(), text("go"), text("1"))), "name-bytes");
    assert_eq!(limit_name(new().send_signal(text("a"), name.clone(), text("1"))), "name-bytes");
    assert_eq!(limit_name(new().send_signal(text("a"), text("go"), payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().send_cancel(name.clone(), text("1"))), "name-bytes");
    assert_eq!(limit_name(new().send_cancel(text("a"), payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().call_entity(entity(), name.clone(), text("1"))), "name-bytes");
    assert_eq!(limit_name(new().call_entity(entity(), text("add"), payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().signal_entity(entity(), name, text("1"))), "name-bytes");
    assert_eq!(limit_name(new().signal_entity(entity(), text("add"), payload.clone())), "payload-bytes");
    assert_eq!(limit_name(new().continue_as_new(payload, false)), "payload-bytes");
}

#[test]
fn questions_and_locks_count_as_open_operations() {
    for ask in questions() {
        let mut run = Run::with(Limits { open_operations: 1, ..Limits::default() });
        ask(&mut run).unwrap();
        assert_eq!(limit_name(ask(&mut run)), "open-operations");
        assert_eq!(limit_name(run.lock(vec![entity()])), "open-operations");
    }
}

// ---- suspension ------------------------------------------------------------------------------------

#[test]
fn what_came_in_while_the_instance_was_suspended_is_applied_one_wait_at_a_time() {
    let mut run = Run::start();
    let (a, b) = (run.timer(10), run.timer(10));
    assert!(!run.wait(WaitMode::Any, &[a, b]));
    run.record(EventBody::InstanceSuspended { reason: text("repair") });
    run.record(fired(b));
    run.record(fired(a));
    run.record(EventBody::InstanceResumed { reason: text("repaired") });
    run.begin_turn();
    assert!(run.unblock().unwrap());
    assert_eq!(run.settled_among(&[a, b]), [1]);
    run.set_status(text("1")).unwrap();
    assert_eq!(run.commit()[0].cause, EventId(5), "the first of the two");
    assert!(!run.wait_for(a));
    assert!(run.unblock().unwrap());
    assert_eq!(run.settled_among(&[a, b]), [1, 0]);
}

#[test]
fn suspension_wakes_no_guest_and_shows_it_nothing() {
    let mut run = Run::start();
    let op = run.timer(10);
    run.wait_for(op);
    assert!(!run.inbound(EventBody::InstanceSuspended { reason: text("repair") }));
    assert!(!run.inbound(EventBody::InstanceResumed { reason: text("repaired") }));
    assert!(!run.ended_by_host() && run.cancel_requested().is_none());
    assert!(!run.inbound(EventBody::EventLeftOut { was: text("ActivityFailed") }), "nor does what is left out");
}

// ---- the next run ----------------------------------------------------------------------------------

#[test]
fn a_workflow_that_continues_ends_its_run_with_the_input_of_the_next() {
    let mut run = Run::start();
    run.continue_as_new(text("1"), false).unwrap();
    run.continue_as_new(text("2"), true).unwrap();
    assert_eq!(run.take_fresh(), [], "it goes on until it returns");
    run.activity("last");
    let commands = run.finish();
    let ended = EventBody::InstanceContinued { input: text("2"), newest: true };
    assert_eq!((&commands[1].body, commands[1].cause), (&ended, EventId(1)), "as it said last");
}

#[test]
fn a_continued_history_replays_and_another_end_diverges() {
    let mut run = Run::start();
    let timer = run.timer(10);
    run.wait_for(timer);
    run.inbound(fired(timer));
    run.continue_as_new(text("2"), true).unwrap();
    run.finish();
    let again = || {
        let mut again = Run::of(run.history.clone(), EventId(3), Limits::default());
        let timer = again.timer(10);
        assert!(!again.wait_for(timer) && again.unblock().unwrap());
        again
    };
    let mut same = again();
    same.continue_as_new(text("2"), true).unwrap();
    assert_eq!(same.replay.finish(Ok(text("null"))), Ok(()));
    assert_eq!(same.take_fresh(), []);
    let mut input = again();
    input.continue_as_new(text("3"), true).unwrap();
    check_divergence(
        input.replay.finish(Ok(text("null"))),
        expect![[r#"
            event 4
            expected InstanceContinued with input 2 and the newest version
            got InstanceContinued with input 3 and the newest version
        "#]],
    );
    let mut version = again();
    version.continue_as_new(text("2"), false).unwrap();
    check_divergence(
        version.replay.finish(Ok(text("null"))),
        expect![[r#"
            event 4
            expected InstanceContinued with input 2 and the newest version
            got InstanceContinued with input 2 and its own version
        "#]],
    );
    check_divergence(
        again().replay.finish(Ok(text("null"))),
        expect![[r#"
            event 4
            expected InstanceContinued with input 2 and the newest version
            got InstanceCompleted with output null
        "#]],
    );
}

#[test]
fn a_guest_that_had_said_that_it_continues_and_was_evicted_says_it_again() {
    let guest = |run: &mut Run| {
        run.continue_as_new(text("2"), false).unwrap();
        let timer = run.timer(10);
        run.wait_for(timer) || run.unblock().unwrap()
    };
    let mut run = Run::start();
    assert!(!guest(&mut run));
    let timer = run.commit()[0].id;
    run.record(fired(timer));
    let mut run = run.crashed();
    run.begin_turn();
    assert!(guest(&mut run));
    assert_eq!(run.finish()[0].body.name(), "InstanceContinued");
}

// ---- stored histories ------------------------------------------------------------------------------

/// One of everything that reaches another instance, from start to the next run.
fn errand(run: &mut Run) -> Option<()> {
    let wait = |run: &mut Run, mode, ops: &[EventId]| (run.wait(mode, ops) || run.unblock().unwrap()).then_some(());
    let options = ChildOptions {
        version: Some(text("2")),
        parent_close: ParentClose::RequestCancel,
        retry: two_attempts().retry,
    };
    let child = run.start_child(text("parcel-7"), text("parcels"), text("1"), options).unwrap();
    let lock = run.lock(vec![EntityId::new("counter", "b").unwrap(), entity()]).unwrap();
    wait(run, WaitMode::All, &[child, lock])?;
    run.signal_entity(entity(), text("add"), text("1")).unwrap();
    let call = run.call_entity(entity(), text("get"), text("null")).unwrap();
    wait(run, WaitMode::Any, &[call])?;
    let got = run.read(call).unwrap().unwrap();
    run.release_lock(lock).unwrap();
    let started = run.start_detached(text("later"), text("reports"), Some(text("1")), got).unwrap();
    let signal = run.send_signal(text("order-8"), text("go"), text("1")).unwrap();
    let cancel = run.send_cancel(text("order-9"), text("enough")).unwrap();
    wait(run, WaitMode::All, &[started, signal, cancel])?;
    assert_eq!(run.read(cancel), Some(Err(broken())));
    run.continue_as_new(text("2"), true).unwrap();
    run.replay.finish(Ok(text("null"))).unwrap();
    Some(())
}

fn errand_inbound() -> Vec<EventBody> {
    let (op, attempt, next_attempt) = (EventId(2), crate::AttemptNumber::FIRST, secs(5));
    vec![
        EventBody::ChildAttemptFailed { op, attempt, failure: broken(), next_attempt },
        EventBody::LockGranted { op: EventId(3), left: 1 },
        EventBody::InstanceSuspended { reason: text("repair") },
        EventBody::InstanceResumed { reason: text("repaired") },
        EventBody::LockGranted { op: EventId(3), left: 0 },
        replied(op, Ok(text("7"))),
        replied(EventId(11), Ok(text("3"))),
        replied(EventId(15), Ok(text("null"))),
        replied(EventId(14), Ok(text("null"))),
        replied(EventId(16), Err(broken())),
    ]
}

/// The history of [`errand`] as format 2 stores it: one event a line. It never changes.
const ERRAND_V2: &str = include_str!("../tests/corpus/errand-v2.txt");

#[test]
fn the_stored_history_of_an_errand_replays_to_its_end_from_wherever_it_was_left() {
    let history = decoded(ERRAND_V2);
    for through in history.iter().filter(|event| !event.body.is_command()).map(|event| event.id) {
        let known = |event: &Event| if event.body.is_command() { event.cause <= through } else { event.id <= through };
        let length = history.iter().take_while(|event| known(event)).count();
        let mut run = Run::of(history[..length].to_vec(), through, Limits::default());
        assert_eq!(errand(&mut run).is_some(), length == history.len());
        assert_eq!((run.take_fresh(), run.commands.len(), run.inbound.len()), (vec![], 0, 0), "through {through}");
    }
}

#[test]
fn an_errand_of_today_leaves_the_stored_history() {
    let mut run = Run::start();
    for body in errand_inbound() {
        assert_eq!(errand(&mut run), None);
        run.record(body);
        run = run.crashed();
        run.begin_turn();
    }
    assert_eq!(errand(&mut run), Some(()));
    run.commit();
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = run.history.iter().map(|event| hex(event.encode()) + "\n").collect();
    assert_eq!(lines, ERRAND_V2, "commands or bytes changed: stored instances would diverge");
}
