//! Locks: every row of the table, as the instance sees it and as the guest does.

use super::*;
use crate::event::EventBody;
use crate::instance::{Answer, Operation};
use crate::replay::Stop;
use crate::testing::{Run, Subject, broken, cancel, check_divergence, limit_name, send};
use crate::{Failure, Limits};
use expect_test::expect;

#[test]
fn an_entity_id_is_written_so_that_no_instance_id_can_be_it() {
    let id = EntityId::new("counter", "a@b").unwrap();
    assert_eq!(id.to_string(), "@counter@a@b");
    assert_eq!(EntityId::parse("@counter@a@b"), Some(id));
    assert!(crate::InstanceId::new("@counter@a").is_err());
    assert_eq!(EntityId::parse("counter@a"), None);
    assert_eq!(EntityId::parse("@@a"), None);
    assert!(EntityId::new("counter", "").is_ok(), "an empty key is a key");
    assert_eq!(EntityId::new("counter", "a/b"), Err(InvalidEntityId::KeyCharacter('/')));
    assert_eq!(EntityId::new("counter", &"x".repeat(201)), Err(InvalidEntityId::KeyTooLong(201)));
    assert_eq!(EntityId::new("a b", ""), Err(InvalidEntityId::Name("a b".to_owned())));
}

fn entity(key: &str) -> EntityId {
    EntityId::new("account", key).unwrap()
}

fn requested(keys: &[&str]) -> EventBody {
    EventBody::LockRequested { entities: keys.iter().map(|key| entity(key)).collect() }
}

fn ask(event: EventId, op: EventId, key: &str, part: u32) -> Effect {
    send(event, &entity(key).to_string(), Some((op, part)), MessageBody::Lock)
}

fn unlock(event: EventId, op: EventId, keys: &[&str]) -> Vec<Effect> {
    keys.iter().map(|key| send(event, &entity(key).to_string(), None, MessageBody::Unlock { op })).collect()
}

fn granted() -> crate::Outcome {
    Ok("null".to_owned())
}

/// An instance that asked for `a`, `b` and `c` and was granted as many.
fn locking(grants: u32) -> (Subject, EventId) {
    let mut s = Subject::started();
    s.record(requested(&["a", "b", "c"]));
    let op = s.last();
    (0..grants).for_each(|part| drop(s.reply(1, op, part, granted())));
    (s, op)
}

/// How a lock ends, and the event that ends it.
type End = (&'static str, fn(EventId) -> EventBody);

fn released() -> [End; 7] {
    [
        ("given back", |op| EventBody::LockReleased { op }),
        ("given up", |op| EventBody::OperationCancelled { op }),
        ("completed", |_| EventBody::InstanceCompleted { output: "1".to_owned() }),
        ("failed", |_| EventBody::InstanceFailed { failure: broken() }),
        ("stopped", |_| EventBody::InstanceStopped { failure: broken() }),
        ("terminated", |_| EventBody::InstanceTerminated { reason: "stuck".to_owned() }),
        ("continued", |_| EventBody::InstanceContinued { input: "1".to_owned(), newest: false }),
    ]
}

// ---- as the instance sees it -----------------------------------------------------------------------

#[test]
fn entities_are_asked_one_after_another() {
    let mut s = Subject::started();
    let effects = s.record(requested(&["a", "b", "c"]));
    let op = s.last();
    assert_eq!(effects, [ask(op, op, "a", 0)]);
    for (part, next, left) in [(0, Some("b"), 2), (1, Some("c"), 1), (2, None, 0)] {
        assert!(s.state.is_asking(ReplyTo { op, part }) && !s.state.is_asking(ReplyTo { op, part: part + 1 }));
        let taken = s.reply(1, op, part, granted());
        assert_eq!((taken.answer, taken.events), (Answer::Accepted, vec![EventBody::LockGranted { op, left }]));
        let expected: Vec<Effect> = next.map(|key| ask(s.last(), op, key, part + 1)).into_iter().collect();
        assert_eq!(taken.effects, expected);
        s.reply(1, op, part, granted()).left_no_trace(Answer::Ignored);
    }
    assert!(!s.is_open(op), "it is held");
}

#[test]
fn an_answer_of_an_entity_that_is_not_asked_is_not_heard() {
    let (mut s, op) = locking(1);
    for part in [0, 2, 3, u32::MAX] {
        s.reply(2, op, part, granted()).left_no_trace(Answer::Ignored);
        s.reply(2, op, part, Err(broken())).left_no_trace(Answer::Ignored);
    }
}

#[test]
fn a_refusal_in_the_middle_unlocks_those_that_were_asked_and_no_others() {
    let (mut s, op) = locking(1);
    let taken = s.reply(2, op, 1, Err(broken()));
    assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: Err(broken()) }]);
    assert_eq!(taken.effects, unlock(s.last(), op, &["a", "b"]));
    assert!(!s.is_open(op));
    s.reply(3, op, 1, granted()).left_no_trace(Answer::Ignored);
    assert_eq!(s.record(EventBody::InstanceCompleted { output: "1".to_owned() }), [], "it is unlocked once");
}

#[test]
fn however_a_lock_ends_all_that_were_asked_are_told_once() {
    for (how, end) in released() {
        for (grants, told) in [(0, &["a"][..]), (1, &["a", "b"]), (2, &["a", "b", "c"]), (3, &["a", "b", "c"])] {
            // The guest knows whether it gives a lock back or a request up.
            if how == "given back" && grants < 3 {
                continue;
            }
            let (mut s, op) = locking(grants);
            assert_eq!(s.record(end(op)), unlock(s.last(), op, told), "{how} after {grants} grants");
            if !s.state.is_closed() {
                s.reply(5, op, grants, granted()).left_no_trace(Answer::Ignored);
                assert_eq!(s.record(EventBody::InstanceCompleted { output: "1".to_owned() }), []);
            }
        }
    }
}

#[test]
fn a_request_to_cancel_gives_up_a_lock_that_is_asked_for_but_not_one_that_is_held() {
    for (grants, told) in [(0, &["a"][..]), (2, &["a", "b", "c"]), (3, &[])] {
        let (mut s, op) = locking(grants);
        assert_eq!(s.input(2, cancel()).effects, unlock(s.last(), op, told), "after {grants} grants");
    }
    let (mut s, op) = locking(3);
    s.input(2, cancel());
    assert_eq!(s.record(EventBody::LockReleased { op }), unlock(s.last(), op, &["a", "b", "c"]));
}

#[test]
fn a_lock_asked_for_before_the_guest_saw_the_request_to_cancel_is_never_asked_for() {
    let mut s = Subject::started();
    let seen = s.last();
    s.input(1, cancel());
    assert_eq!(s.record_caused(requested(&["a"]), seen), []);
    assert!(s.state.open.is_empty());
    assert_eq!(s.record(EventBody::InstanceCompleted { output: "1".to_owned() }), []);
}

#[test]
fn a_lock_given_up_by_a_guest_that_had_not_seen_the_last_grant_is_given_back() {
    let (mut s, op) = locking(3);
    assert!(!s.is_open(op));
    let effects = s.record_caused(EventBody::OperationCancelled { op }, EventId(1));
    assert_eq!(effects, unlock(s.last(), op, &["a", "b", "c"]));
}

#[test]
fn the_status_names_the_entity_that_has_not_granted_the_lock() {
    let (s, op) = locking(1);
    let Some(Operation::Lock(lock)) = s.state.open.get(&op) else { panic!("{:?}", s.state.open) };
    assert_eq!((lock.granted, lock.entities.len()), (1, 3));
    let waiting = crate::view::waiting_for(&s.state, s.now);
    assert_eq!(waiting[0].text, "the lock of entity `@account@b`, 1 of 3 held");
}

// ---- as the guest sees it --------------------------------------------------------------------------

fn lock(run: &mut Run, keys: &[&str]) -> Result<EventId, Stop> {
    run.lock(keys.iter().map(|key| entity(key)).collect())
}

fn grant(op: EventId, left: u32) -> EventBody {
    EventBody::LockGranted { op, left }
}

#[test]
fn entities_are_locked_in_the_order_of_their_ids_each_once() {
    let mut run = Run::start();
    lock(&mut run, &["c", "a", "b", "a"]).unwrap();
    assert_eq!(run.commit()[0].body, requested(&["a", "b", "c"]));
}

#[test]
fn a_lock_is_held_with_the_last_grant() {
    let mut run = Run::start();
    let op = lock(&mut run, &["a", "b"]).unwrap();
    assert!(!run.wait_for(op));
    assert!(!run.inbound(grant(op, 1)), "the first grant shows the guest nothing");
    assert!(run.inbound(grant(op, 0)));
    assert_eq!(run.read(op), Some(granted()));
    run.release_lock(op).unwrap();
    run.release_lock(op).unwrap();
    let given_back: Vec<EventBody> = run.commit().into_iter().map(|event| event.body).collect();
    assert_eq!(given_back, [EventBody::LockReleased { op }], "once");
}

#[test]
fn a_lock_that_is_given_back_while_it_is_asked_for_is_a_cancelled_operation() {
    let mut run = Run::start();
    let op = lock(&mut run, &["a", "b"]).unwrap();
    let timer = run.timer(60);
    run.wait_for(timer);
    run.inbound(grant(op, 1));
    run.inbound(EventBody::TimerFired { op: timer });
    run.release_lock(op).unwrap();
    run.release(op);
    let given_up: Vec<EventBody> = run.commit().into_iter().map(|event| event.body).collect();
    assert_eq!(given_up, [EventBody::OperationCancelled { op }]);
    let again = lock(&mut run, &["a"]).unwrap();
    run.inbound(grant(op, 0));
    assert!(!run.is_settled(again), "what comes too late settles nothing");
}

#[test]
fn a_second_lock_is_misuse_until_the_first_is_given_back_refused_or_cancelled() {
    let misuse = |run: &mut Run| {
        let Err(Stop::Misuse(text)) = lock(run, &["b"]) else { panic!("two locks") };
        expect!["a second lock was asked for while the first is asked for or held; lock all entities at once"]
            .assert_eq(&text);
    };
    let mut run = Run::start();
    let first = lock(&mut run, &["a"]).unwrap();
    misuse(&mut run);
    run.wait_for(first);
    run.inbound(grant(first, 0));
    misuse(&mut run);
    run.release_lock(first).unwrap();
    let second = lock(&mut run, &["a"]).unwrap();
    run.wait_for(second);
    run.inbound(EventBody::ReplyReceived { op: second, outcome: Err(broken()) });
    let third = lock(&mut run, &["a"]).unwrap();
    run.cancel(third).unwrap();
    let fourth = lock(&mut run, &["a"]).unwrap();
    run.wait_for(fourth);
    run.inbound(EventBody::CancelRequested { reason: "enough".to_owned() });
    assert_eq!(run.read(fourth), Some(Err(Failure::cancelled("enough"))));
    lock(&mut run, &["a"]).unwrap();
}

#[test]
fn a_lock_over_nothing_is_misuse_and_one_over_too_many_reaches_a_limit() {
    let mut run = Run::with(Limits { locked_entities: 2, ..Limits::default() });
    let Err(Stop::Misuse(text)) = lock(&mut run, &[]) else { panic!("a lock over nothing") };
    assert_eq!(text, "a lock over no entities was asked for; name at least one");
    assert_eq!(limit_name(lock(&mut run, &["a", "b", "c"])), "locked-entities");
    lock(&mut run, &["a", "b", "a"]).unwrap();
}

#[test]
fn locks_replay_and_another_order_of_giving_back_diverges() {
    let guest = |run: &mut Run, give_back_first: bool| -> Result<(), Stop> {
        let op = lock(run, &["b", "a"])?;
        if !run.wait_for(op) && !run.unblock()? {
            return Ok(());
        }
        if give_back_first {
            run.release_lock(op)?;
        }
        run.set_status("1".to_owned())?;
        run.release_lock(op)
    };
    let mut run = Run::start();
    guest(&mut run, true).unwrap();
    run.record(grant(EventId(2), 1));
    run.record(grant(EventId(2), 0));
    let mut run = run.crashed();
    run.begin_turn();
    guest(&mut run, true).unwrap();
    let mut again = run.evicted();
    guest(&mut again, true).unwrap();
    assert_eq!(again.take_fresh(), [], "it replays");
    let mut other = again.crashed();
    let diverged = guest(&mut other, false);
    check_divergence(
        diverged,
        expect![[r#"
            event 5
            expected LockReleased of event 2
            got StatusSet to 1
        "#]],
    );
}

#[test]
fn other_entities_diverge() {
    let mut run = Run::start();
    lock(&mut run, &["a", "b"]).unwrap();
    run.record(EventBody::SignalReceived { name: "go".to_owned(), payload: "1".to_owned(), message_id: None });
    let mut run = run.crashed();
    let diverged = lock(&mut run, &["a"]);
    check_divergence(
        diverged,
        expect![[r#"
            event 2
            expected LockRequested over @account@a, @account@b
            got LockRequested over @account@a
        "#]],
    );
}
