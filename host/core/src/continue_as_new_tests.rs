//! What a run leaves to the next, and how the next one begins with it.

use super::*;
use crate::failure::Outcome;
use crate::ids::{Digest, RunNumber};
use crate::instance::{Answer, Input};
use crate::message::{Parent, ReplyTo};
use crate::testing::{Run, Subject, secs};
use crate::time::Timestamp;
use crate::{Failure, Limits};

fn folded(bodies: Vec<(EventId, EventBody)>) -> (InstanceState, Event) {
    let mut state = InstanceState::new(RunNumber::FIRST, 0);
    let mut last = None;
    for (cause, body) in bodies {
        let event = Event { cause, ..state.next_event(body, Timestamp(1)) };
        state.apply(&event, &mut Vec::new());
        last = Some(event);
    }
    (state, last.unwrap())
}

fn descending(lineage: Option<Lineage>) -> (EventId, EventBody) {
    let text = |s: &str| s.to_owned();
    let body = EventBody::InstanceStarted {
        instance: text("a"),
        workflow: text("w"),
        version: text("1"),
        digest: Digest([0; 32]),
        input: text("null"),
        seed: 1,
        lineage: lineage.map(Box::new),
    };
    (EventId::NONE, body)
}

fn started() -> (EventId, EventBody) {
    descending(None)
}

fn signal(name: &str, id: &str) -> (EventId, EventBody) {
    let (name, payload) = (name.to_owned(), "1".to_owned());
    (EventId::NONE, EventBody::SignalReceived { name, payload, message_id: Some(id.to_owned()) })
}

fn cancel() -> (EventId, EventBody) {
    (EventId::NONE, EventBody::CancelRequested { reason: "stop".to_owned() })
}

fn continued(cause: u64) -> (EventId, EventBody) {
    (EventId(cause), EventBody::InstanceContinued { input: "2".to_owned(), newest: true })
}

fn carried(history: Vec<(EventId, EventBody)>) -> Carried {
    let (state, last) = folded(history);
    state.carried(&last).unwrap()
}

#[test]
fn signals_that_nobody_took_are_carried_in_order_of_arrival_and_all_keys_are_known() {
    let awaited = (EventId(1), EventBody::SignalAwaited { name: "b".to_owned() });
    let history = vec![started(), signal("b", "m1"), awaited, signal("b", "m2"), signal("a", "m3"), continued(5)];
    let (state, last) = folded(history);
    let carried = state.carried(&last).unwrap();
    assert_eq!(carried.signals, [EventId(4), EventId(5)]);
    assert_eq!(carried.lineage.message_ids, ["m1", "m2", "m3"]);
    assert!(state.is_closed() && state.outcome().is_none());
}

#[test]
fn a_signal_that_was_given_back_unread_is_carried_in_its_place() {
    let awaited = (EventId(1), EventBody::SignalAwaited { name: "b".to_owned() });
    let given_back = (EventId(3), EventBody::OperationCancelled { op: EventId(2) });
    let history = vec![started(), awaited, signal("b", "m1"), signal("b", "m2"), given_back, continued(4)];
    assert_eq!(carried(history).signals, [EventId(3), EventId(4)]);
}

#[test]
fn a_request_to_cancel_is_carried_only_if_the_guest_had_not_seen_it() {
    for (cause, wanted) in [(1, Some("stop".to_owned())), (2, None)] {
        assert_eq!(carried(vec![started(), cancel(), continued(cause)]).cancel, wanted);
    }
}

#[test]
fn only_a_run_that_continued_carries_anything() {
    let (state, last) = folded(vec![started()]);
    assert_eq!(state.carried(&last), None);
    let completed = (EventId(1), EventBody::InstanceCompleted { output: "1".to_owned() });
    let (state, last) = folded(vec![started(), signal("a", "m"), completed]);
    assert_eq!(state.carried(&last), None);
}

#[test]
fn parent_and_depth_are_the_same_in_the_next_run_and_that_it_was_rewound_is_not() {
    let parent = Parent { instance: "p".to_owned(), run: RunNumber(4), reply_to: ReplyTo { op: EventId(7), part: 2 } };
    let lineage =
        Lineage { parent: Some(parent), depth: 3, rewound_from: Some(RunNumber(2)), message_ids: vec!["m".to_owned()] };
    let carried = carried(vec![descending(Some(lineage.clone())), continued(1)]);
    assert_eq!(carried.lineage, Lineage { rewound_from: None, ..lineage });
}

#[test]
fn keys_are_carried_from_run_to_run_in_the_order_in_which_they_were_taken() {
    let first = carried(vec![started(), signal("a", "z"), signal("a", "b"), continued(3)]);
    assert_eq!(first.lineage.message_ids, ["z", "b"]);
    // The next run takes the signals over under new events, and then another one.
    let second = vec![descending(Some(first.lineage.clone())), signal("a", "a"), continued(2)];
    assert_eq!(carried(second).lineage.message_ids, ["z", "b", "a"], "not by the alphabet");
    let again = vec![descending(Some(first.lineage)), signal("a", "z"), continued(2)];
    assert_eq!(carried(again).lineage.message_ids, ["b", "z"], "a signal that was taken over is new again");
}

#[test]
fn only_the_latest_keys_are_carried() {
    let key = |n: usize| format!("{:04}", 9_999 - n);
    let signals = |from: usize, to: usize| (from..to).map(|n| signal("a", &key(n))).collect::<Vec<_>>();
    let most = MESSAGE_IDS_CARRIED_MAX;
    let mut history = vec![started()];
    history.extend(signals(0, most + 5));
    history.push(continued(1));
    let first = carried(history).lineage;
    assert_eq!(first.message_ids, (5..most + 5).map(key).collect::<Vec<_>>());
    let mut history = vec![descending(Some(first))];
    history.extend(signals(most + 5, most + 15));
    history.push(continued(1));
    let second = carried(history).lineage;
    assert_eq!(second.message_ids, (15..most + 15).map(key).collect::<Vec<_>>(), "the oldest are forgotten");
}

#[test]
fn a_key_of_an_earlier_run_is_a_duplicate_in_the_next() {
    let lineage = carried(vec![started(), signal("a", "m1"), continued(2)]).lineage;
    let mut s = Subject::descending(Some(lineage));
    let signal =
        |id: &str| Input::Signal { name: "a".to_owned(), payload: "1".to_owned(), message_id: Some(id.to_owned()) };
    s.input(1, signal("m1")).left_no_trace(Answer::Duplicate);
    assert_eq!(s.input(1, signal("m2")).answer, Answer::Accepted);
}

// ---- with a guest ----------------------------------------------------------------------------------

/// Takes signals until it has two or has been asked to cancel; then it goes on in the next run.
fn collector(run: &mut Run) -> Option<Outcome> {
    for _ in 0..2 {
        let signal = run.signal("go");
        if !run.wait_for(signal) && !run.unblock().unwrap() {
            return None;
        }
        if run.read(signal).unwrap().is_err() {
            return Some(Err(Failure::cancelled("as asked")));
        }
    }
    run.continue_as_new("2".to_owned(), false).unwrap();
    Some(Ok("null".to_owned()))
}

fn turn(run: &mut Run) {
    if let Some(result) = collector(run) {
        run.replay.finish(result).unwrap();
    }
    run.commit();
}

/// The next run, as the runtime begins it.
fn next_run(ended: &Run) -> Run {
    let mut state = InstanceState::new(RunNumber::FIRST, 0);
    ended.history.iter().for_each(|event| state.apply(event, &mut Vec::new()));
    let carried = state.carried(ended.history.last().unwrap()).unwrap();
    let mut bodies = vec![descending(Some(carried.lineage)).1];
    let body = |id: &EventId| ended.history.iter().find(|event| event.id == *id).unwrap().body.clone();
    bodies.extend(carried.signals.iter().map(body));
    bodies.extend(carried.cancel.map(|reason| EventBody::CancelRequested { reason }));
    let event = |(id, body): (u64, EventBody)| Event { id: EventId(id), time: secs(100), cause: EventId::NONE, body };
    let history = (1..).zip(bodies).map(event).collect();
    let mut run = Run::of(history, EventId::NONE, Limits::default());
    run.begin_turn();
    run
}

#[test]
fn the_next_run_takes_the_signals_that_were_left_and_sees_the_request_to_cancel_behind_them() {
    let mut run = Run::start();
    turn(&mut run);
    // While the guest can't run, three signals and a request to cancel come in.
    let sent = |payload: &str| EventBody::SignalReceived {
        name: "go".to_owned(),
        payload: payload.to_owned(),
        message_id: Some(payload.to_owned()),
    };
    let inbound = [sent("1"), sent("2"), sent("3"), EventBody::CancelRequested { reason: "stop".to_owned() }];
    inbound.into_iter().for_each(|body| _ = run.record(body));
    let mut run = run.crashed();
    run.begin_turn();
    turn(&mut run);
    let last = run.history.last().unwrap();
    assert_eq!((last.body.name(), last.cause), ("InstanceContinued", EventId(4)), "after the second signal");
    let mut next = next_run(&run);
    let names: Vec<&str> = next.history.iter().map(|event| event.body.name()).collect();
    assert_eq!(names, ["InstanceStarted", "SignalReceived", "CancelRequested"]);
    turn(&mut next);
    let last = next.history.last().unwrap();
    assert_eq!((last.body.name(), last.cause), ("InstanceCancelled", EventId(3)));
    // And it replays.
    let mut again = next.evicted();
    let result = collector(&mut again).unwrap();
    assert_eq!(again.replay.finish(result), Ok(()));
    assert_eq!(again.take_fresh(), []);
}

#[test]
fn a_request_to_cancel_that_the_guest_saw_does_not_follow_it() {
    let mut run = Run::start();
    let timer = run.timer(10);
    run.wait_for(timer);
    assert!(run.inbound(EventBody::CancelRequested { reason: "stop".to_owned() }));
    run.continue_as_new("2".to_owned(), false).unwrap();
    run.finish();
    let next = next_run(&run);
    assert_eq!((next.history.len(), next.cancel_requested()), (1, None));
}
