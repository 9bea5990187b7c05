//! Suspension: what is decided while an instance is suspended, and that nothing that comes in is lost.

use super::*;
use crate::child::ChildOptions;
use crate::retry::ActivityOptions;
use crate::testing::{
    Subject, broken, callback_created, cancel, drop_row, due, put, scheduled, secs, terminate, two_attempts,
};

fn suspend() -> Input {
    Input::Suspend { reason: "repair".to_owned() }
}

fn resume() -> Input {
    Input::Resume { reason: "repaired".to_owned() }
}

fn suspended() -> Subject {
    let mut s = Subject::started();
    s.input(1, suspend());
    s
}

#[test]
fn an_instance_is_suspended_once_and_resumed_once() {
    let mut s = Subject::started();
    s.input(1, resume()).left_no_trace(Answer::Conflict);
    let taken = s.input(2, suspend());
    let event = EventBody::InstanceSuspended { reason: "repair".to_owned() };
    assert_eq!((taken.answer, taken.events, taken.effects), (Answer::Accepted, vec![event], vec![]));
    assert_eq!(s.state.suspended, Some((secs(2), "repair".to_owned())));
    assert!(!s.state.is_closed());
    s.input(3, suspend()).left_no_trace(Answer::Duplicate);
    assert_eq!(s.state.suspended, Some((secs(2), "repair".to_owned())), "since the first order");
    let taken = s.input(4, resume());
    let event = EventBody::InstanceResumed { reason: "repaired".to_owned() };
    assert_eq!((taken.answer, taken.events, taken.effects), (Answer::Accepted, vec![event], vec![]));
    assert_eq!(s.state.suspended, None);
    s.input(5, resume()).left_no_trace(Answer::Conflict);
    assert_eq!(s.input(6, suspend()).answer, Answer::Accepted, "as often as one likes");
}

#[test]
fn the_reasons_have_a_limit() {
    let mut s = Subject::started();
    s.limits.payload_bytes = 5;
    assert_eq!(s.refused(suspend()).name, "payload-bytes");
    s.limits.payload_bytes = 6;
    s.input(1, suspend());
    assert_eq!(s.refused(resume()).name, "payload-bytes");
}

#[test]
fn whatever_comes_in_is_recorded_while_the_instance_is_suspended() {
    let mut s = Subject::started();
    let activity = s.schedule(two_attempts());
    let (timer, callback) = (s.timer(10), s.callback(None));
    let text = str::to_owned;
    let child = EventBody::ChildStarted {
        id: text("c"),
        workflow: text("w"),
        input: text("1"),
        options: ChildOptions { retry: two_attempts().retry, ..ChildOptions::default() },
    };
    s.record(child);
    let child = s.last();
    s.input(1, suspend());
    let failed = |attempt| {
        let attempt = AttemptNumber(attempt);
        Input::AttemptEnded(AttemptReport { op: activity, attempt, started: None, outcome: Err(broken()) })
    };
    let taken = s.input(2, failed(1));
    assert_eq!(taken.effects, [Effect::Interrupt { op: activity }, put(12, activity, TimerPurpose::Retry)]);
    assert_eq!(s.reply(2, child, 1, Err(broken())).effects, [put(12, child, TimerPurpose::Retry)]);
    let inputs = [
        Input::TimerDue { op: timer, purpose: TimerPurpose::Timer },
        Input::CallbackPosted { op: callback, outcome: Ok(text("1")), digest: Digest([1; 32]) },
        Input::Signal { name: text("go"), payload: text("1"), message_id: Some(text("m")) },
    ];
    for input in inputs {
        assert_eq!(s.input(11, input).answer, Answer::Accepted);
    }
    let dispatched = Effect::Dispatch { op: activity, attempt: AttemptNumber(2) };
    let taken = s.input(12, due(activity, TimerPurpose::Retry));
    assert_eq!(taken.effects, [drop_row(12, activity, TimerPurpose::Retry), dispatched], "attempts go on");
    assert!(matches!(s.input(12, due(child, TimerPurpose::Retry)).effects[..], [_, Effect::Send(_)]));
    assert!(matches!(s.input(13, failed(2)).events[..], [EventBody::ActivityFailed { .. }]));
    assert!(s.state.suspended.is_some());
    let open: Vec<EventId> = s.state.open.keys().copied().collect();
    assert_eq!(open, [child]);
}

#[test]
fn a_suspended_instance_can_be_asked_to_cancel_and_stays_suspended() {
    let mut s = suspended();
    let taken = s.input(2, cancel());
    assert_eq!(taken.answer, Answer::Accepted);
    assert!(s.state.suspended.is_some() && s.state.cancel_requested.is_some());
}

#[test]
fn a_suspended_instance_can_be_terminated_and_is_suspended_no_more() {
    let mut s = suspended();
    s.input(2, terminate());
    assert_eq!((s.state.suspended.clone(), s.state.is_closed()), (None, true));
    for input in [suspend(), resume()] {
        s.input(3, input).left_no_trace(Answer::Gone);
    }
}

/// The guest's turn was under way when the order came: its commands follow, and count.
#[test]
fn the_commands_of_a_turn_that_was_under_way_are_carried_out() {
    let mut s = suspended();
    let effects = s.record_caused(scheduled(ActivityOptions::default()), EventId(1));
    assert_eq!(effects, [Effect::Dispatch { op: s.last(), attempt: AttemptNumber(1) }]);
    let effects = s.record_caused(callback_created(Some(9)), EventId(1));
    assert_eq!(effects, [put(9, s.last(), TimerPurpose::CallbackExpiry)]);
    s.record_caused(EventBody::InstanceCompleted { output: "1".to_owned() }, EventId(1));
    assert_eq!((s.state.suspended.clone(), s.state.is_closed()), (None, true));
}
