//! Every row of the transition tables of the instance and of its operations, as a sentence each.
//!
//! The operations that reach other instances have files of their own.

use super::*;
use crate::random::Random;
use crate::retry::ActivityOptions;
use crate::testing::{
    Subject, broken, callback_created, cancel, drop_row, due, put, scheduled, secs, terminate, two_attempts,
};
use crate::time::Nanos;

fn at_most(seconds: u64, options: ActivityOptions) -> ActivityOptions {
    ActivityOptions { schedule_to_close: Some(Nanos::from_secs(seconds)), ..options }
}

fn report(op: EventId, attempt: u32, outcome: Outcome) -> Input {
    Input::AttemptEnded(AttemptReport { op, attempt: AttemptNumber(attempt), started: Some(secs(1)), outcome })
}

fn succeeded(op: EventId, attempt: u32) -> Input {
    report(op, attempt, Ok("1".to_owned()))
}

fn failed(op: EventId, attempt: u32) -> Input {
    report(op, attempt, Err(broken()))
}

fn posted(op: EventId, body: u8) -> Input {
    Input::CallbackPosted { op, outcome: Ok(body.to_string()), digest: Digest([body; 32]) }
}

fn signal(name: &str, message_id: Option<&str>) -> Input {
    let message_id = message_id.map(str::to_owned);
    Input::Signal { name: name.to_owned(), payload: "1".to_owned(), message_id }
}

fn dispatch(op: EventId, attempt: u32) -> Effect {
    Effect::Dispatch { op, attempt: AttemptNumber(attempt) }
}

// ---- activities ------------------------------------------------------------------------------------

#[test]
fn a_scheduled_activity_is_dispatched_with_its_close_row() {
    let mut s = Subject::started();
    let effects = s.record(scheduled(at_most(60, two_attempts())));
    let op = s.last();
    assert_eq!(effects, [put(60, op, TimerPurpose::ScheduleToClose), dispatch(op, 1)]);
    let effects = s.record(scheduled(ActivityOptions::default()));
    assert_eq!(effects, [dispatch(s.last(), 1)], "no limit, no row");
}

#[test]
fn an_attempt_that_succeeds_completes_the_activity_and_drops_everything() {
    let mut s = Subject::started();
    let op = s.schedule(at_most(60, two_attempts()));
    let taken = s.input(5, succeeded(op, 1));
    assert_eq!(taken.answer, Answer::Accepted);
    let (attempt, started) = (AttemptNumber(1), secs(1));
    assert_eq!(taken.events, [EventBody::ActivityCompleted { op, attempt, started, output: "1".to_owned() }]);
    assert_eq!(taken.effects, [Effect::Interrupt { op }, drop_row(60, op, TimerPurpose::ScheduleToClose)]);
    assert!(!s.is_open(op));
    assert_eq!(s.ended(op).end, Some(ActivityEnd::Completed));
}

#[test]
fn a_failed_attempt_that_may_be_retried_puts_a_retry_row() {
    let mut s = Subject::started();
    let op = s.schedule(two_attempts());
    let taken = s.input(5, failed(op, 1));
    assert_eq!(taken.answer, Answer::Accepted);
    let body = EventBody::ActivityAttemptFailed {
        op,
        attempt: AttemptNumber(1),
        started: secs(1),
        failure: broken(),
        next_attempt: secs(15),
    };
    assert_eq!(taken.events, [body]);
    assert_eq!(taken.effects, [Effect::Interrupt { op }, put(15, op, TimerPurpose::Retry)]);
    assert_eq!(s.activity(op).attempt, AttemptNumber(2), "the next number is durable before its dispatch");
    assert_eq!(s.activity(op).not_before, Some(secs(15)));
}

#[test]
fn a_failed_attempt_is_the_last_one_once_the_history_is_full() {
    let mut s = Subject::started();
    let mut options = two_attempts();
    options.retry.as_mut().unwrap().maximum_attempts = None;
    let op = s.schedule(options);
    s.limits.history_events = s.last().0 + 1;
    s.input(2, failed(op, 1));
    assert!(matches!(s.history.last().unwrap().body, EventBody::ActivityAttemptFailed { .. }));
    s.input(9, Input::TimerDue { op, purpose: TimerPurpose::Retry });
    s.input(9, failed(op, 2));
    let EventBody::ActivityFailed { failure, .. } = &s.history.last().unwrap().body else { panic!("it is retried") };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "limit.history-events"));
    assert!(failure.message.contains("http.status-503"), "{}", failure.message);
}

#[test]
fn a_due_retry_row_dispatches_the_next_attempt_without_an_event() {
    let mut s = Subject::started();
    let op = s.schedule(two_attempts());
    s.input(5, failed(op, 1));
    s.input(14, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
    let taken = s.input(15, due(op, TimerPurpose::Retry));
    assert_eq!(taken.events, []);
    assert_eq!(taken.effects, [drop_row(15, op, TimerPurpose::Retry), dispatch(op, 2)]);
}

#[test]
fn the_last_attempt_that_fails_fails_the_activity() {
    let mut s = Subject::started();
    let op = s.schedule(two_attempts());
    s.input(5, failed(op, 1));
    s.input(15, due(op, TimerPurpose::Retry));
    let taken = s.input(20, failed(op, 2));
    let (attempt, started) = (AttemptNumber(2), Some(secs(1)));
    assert_eq!(taken.events, [EventBody::ActivityFailed { op, attempt, started, failure: broken() }]);
    assert_eq!(taken.effects, [Effect::Interrupt { op }, drop_row(15, op, TimerPurpose::Retry)]);
    assert_eq!(s.ended(op).end, Some(ActivityEnd::Failed));
    assert_eq!(s.ended(op).ended.len(), 2);
}

#[test]
fn an_activity_without_a_policy_fails_with_its_first_attempt() {
    let mut s = Subject::started();
    let op = s.schedule(ActivityOptions::default());
    let taken = s.input(5, failed(op, 1));
    assert!(matches!(taken.events[..], [EventBody::ActivityFailed { attempt: AttemptNumber(1), .. }]));
}

#[test]
fn a_retry_that_would_start_after_schedule_to_close_is_not_made() {
    let mut s = Subject::started();
    let op = s.schedule(at_most(12, two_attempts()));
    let taken = s.input(5, failed(op, 1));
    assert!(matches!(taken.events[..], [EventBody::ActivityFailed { .. }]));
}

#[test]
fn schedule_to_close_fails_the_activity_and_interrupts_its_attempt() {
    let mut s = Subject::started();
    let op = s.schedule(at_most(60, two_attempts()));
    s.input(59, due(op, TimerPurpose::ScheduleToClose)).left_no_trace(Answer::Ignored);
    let taken = s.input(60, due(op, TimerPurpose::ScheduleToClose));
    let [EventBody::ActivityFailed { attempt: AttemptNumber(1), started: None, failure, .. }] = &taken.events[..]
    else {
        panic!("{taken:?}");
    };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::TimedOut, "timeout.schedule-to-close"));
    assert_eq!(failure.message, "activity `charge` took longer than its schedule-to-close limit of 60s");
    assert_eq!(taken.effects, [Effect::Interrupt { op }, drop_row(60, op, TimerPurpose::ScheduleToClose)]);
    s.input(61, succeeded(op, 1)).left_no_trace(Answer::Ignored);
}

#[test]
fn schedule_to_close_ends_an_activity_that_backs_off_and_drops_its_retry_row() {
    let mut s = Subject::started();
    let op = s.schedule(at_most(60, two_attempts()));
    s.input(50, failed(op, 1));
    let taken = s.input(60, due(op, TimerPurpose::ScheduleToClose));
    let rows = [drop_row(60, op, TimerPurpose::ScheduleToClose), drop_row(60, op, TimerPurpose::Retry)];
    assert_eq!(taken.effects[1..], rows);
    s.input(60, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_cancelled_activity_drops_its_task_and_rows_and_hears_nothing_more() {
    let mut s = Subject::started();
    let op = s.schedule(at_most(60, two_attempts()));
    s.input(5, failed(op, 1));
    let close = drop_row(60, op, TimerPurpose::ScheduleToClose);
    let effects = s.cancel_operation(op);
    assert_eq!(effects, [Effect::Interrupt { op }, close, drop_row(15, op, TimerPurpose::Retry)]);
    assert_eq!(s.ended(op).end, Some(ActivityEnd::Cancelled));
    s.input(15, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
    s.input(60, due(op, TimerPurpose::ScheduleToClose)).left_no_trace(Answer::Ignored);
    s.input(61, succeeded(op, 2)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_late_report_of_an_attempt_given_up_on_is_ignored() {
    let mut s = Subject::started();
    let op = s.schedule(two_attempts());
    s.input(5, failed(op, 1));
    s.input(6, failed(op, 1)).left_no_trace(Answer::Ignored);
    s.input(6, succeeded(op, 1)).left_no_trace(Answer::Ignored);
    s.input(15, due(op, TimerPurpose::Retry));
    s.input(16, succeeded(op, 1)).left_no_trace(Answer::Ignored);
    assert_eq!(s.input(17, succeeded(op, 2)).answer, Answer::Accepted);
    s.input(18, succeeded(op, 2)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_report_of_an_attempt_that_does_not_exist_is_ignored() {
    let mut s = Subject::started();
    let (op, timer) = (s.schedule(two_attempts()), s.timer(10));
    for input in [succeeded(op, 2), succeeded(op, 0), succeeded(timer, 1), succeeded(EventId(99), 1)] {
        s.input(5, input).left_no_trace(Answer::Ignored);
    }
}

#[test]
fn an_attempt_that_never_started_fails_without_a_start() {
    let mut s = Subject::started();
    let op = s.schedule(ActivityOptions::default());
    let never = AttemptReport { op, attempt: AttemptNumber(1), started: None, outcome: Err(broken()) };
    s.input(5, Input::AttemptEnded(never));
    assert_eq!(s.ended(op).ended[0].started, None);
}

#[test]
fn only_the_latest_attempts_are_kept_for_the_status() {
    let mut s = Subject::started();
    let mut options = two_attempts();
    options.retry.as_mut().unwrap().maximum_attempts = None;
    let op = s.schedule(options);
    for attempt in 1..=150 {
        s.input(i64::from(attempt) * 10, failed(op, attempt));
    }
    let kept = &s.activity(op).ended;
    assert_eq!(kept.len(), crate::activity::ATTEMPTS_SHOWN_MAX);
    assert_eq!((kept[0].attempt, kept[99].attempt), (AttemptNumber(51), AttemptNumber(150)));
}

#[test]
fn only_as_many_ended_activities_are_kept_as_were_asked_for() {
    let mut s = Subject::started();
    let ops: Vec<EventId> = (0..12).map(|_| s.schedule(ActivityOptions::default())).collect();
    ops.iter().for_each(|op| drop(s.input(5, succeeded(*op, 1))));
    let kept: Vec<EventId> = s.state.ended_activities.iter().map(|(op, _)| *op).collect();
    assert_eq!(kept, ops[2..]);
    let mut none = InstanceState::new(RunNumber::FIRST, 0);
    s.history.iter().for_each(|event| none.apply(event, &mut Vec::new()));
    assert!(none.ended_activities.is_empty());
}

// ---- durable timers --------------------------------------------------------------------------------

#[test]
fn a_timer_fires_once_and_not_before_its_deadline() {
    let mut s = Subject::started();
    let effects = s.record(EventBody::TimerStarted { deadline: secs(10) });
    let op = s.last();
    assert_eq!(effects, [put(10, op, TimerPurpose::Timer)]);
    s.now = Timestamp(secs(10).0 - 1);
    let early = s.state.decide(due(op, TimerPurpose::Timer), s.now, &s.limits).unwrap();
    assert_eq!(early, Decision::nothing());
    let taken = s.input(10, due(op, TimerPurpose::Timer));
    assert_eq!((taken.answer, taken.events), (Answer::Accepted, vec![EventBody::TimerFired { op }]));
    assert_eq!(taken.effects, [drop_row(10, op, TimerPurpose::Timer)]);
    s.input(11, due(op, TimerPurpose::Timer)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_timer_due_after_it_was_cancelled_is_ignored() {
    let mut s = Subject::started();
    let op = s.timer(10);
    assert_eq!(s.cancel_operation(op), [drop_row(10, op, TimerPurpose::Timer)]);
    s.input(11, due(op, TimerPurpose::Timer)).left_no_trace(Answer::Ignored);
    assert_eq!(s.cancel_operation(op), [], "cancelling twice does nothing");
}

#[test]
fn a_row_of_another_purpose_is_ignored() {
    let mut s = Subject::started();
    let (timer, activity, callback) = (s.timer(1), s.schedule(at_most(1, two_attempts())), s.callback(Some(1)));
    let (fire, retry, close) = (TimerPurpose::Timer, TimerPurpose::Retry, TimerPurpose::ScheduleToClose);
    let expire = TimerPurpose::CallbackExpiry;
    let wrong = [
        (timer, [retry, close, expire]),
        (activity, [fire, retry, expire]),
        (callback, [fire, retry, close]),
        (EventId(99), [fire, retry, close]),
    ];
    for (op, purposes) in wrong {
        for purpose in purposes {
            s.input(100, due(op, purpose)).left_no_trace(Answer::Ignored);
        }
    }
}

// ---- callbacks -------------------------------------------------------------------------------------

#[test]
fn a_callback_is_settled_by_the_first_post() {
    let mut s = Subject::started();
    let effects = s.record(callback_created(Some(60)));
    let op = s.last();
    assert_eq!(effects, [put(60, op, TimerPurpose::CallbackExpiry)]);
    let taken = s.input(5, posted(op, 1));
    assert_eq!(taken.answer, Answer::Accepted);
    let settled = EventBody::CallbackSettled { op, outcome: Ok("1".to_owned()), digest: Digest([1; 32]) };
    assert_eq!(taken.events, [settled]);
    assert_eq!(taken.effects, [drop_row(60, op, TimerPurpose::CallbackExpiry)]);
}

#[test]
fn the_same_post_again_is_a_duplicate_and_another_one_a_conflict() {
    let mut s = Subject::started();
    let op = s.callback(None);
    s.input(5, posted(op, 1));
    s.input(6, posted(op, 1)).left_no_trace(Answer::Duplicate);
    s.input(7, posted(op, 2)).left_no_trace(Answer::Conflict);
    s.input(8, posted(op, 1)).left_no_trace(Answer::Duplicate);
}

#[test]
fn a_callback_may_be_rejected_with_a_failure() {
    let mut s = Subject::started();
    let op = s.callback(None);
    let reject = Input::CallbackPosted { op, outcome: Err(broken()), digest: Digest([3; 32]) };
    let taken = s.input(5, reject.clone());
    let settled = EventBody::CallbackSettled { op, outcome: Err(broken()), digest: Digest([3; 32]) };
    assert_eq!((taken.answer, taken.events), (Answer::Accepted, vec![settled]));
    s.input(6, reject).left_no_trace(Answer::Duplicate);
    s.input(7, posted(op, 1)).left_no_trace(Answer::Conflict);
}

#[test]
fn a_callback_that_expired_is_gone() {
    let mut s = Subject::started();
    let op = s.callback(Some(60));
    s.input(59, due(op, TimerPurpose::CallbackExpiry)).left_no_trace(Answer::Ignored);
    let taken = s.input(60, due(op, TimerPurpose::CallbackExpiry));
    assert_eq!(taken.events, [EventBody::CallbackExpired { op }]);
    assert_eq!(taken.effects, [drop_row(60, op, TimerPurpose::CallbackExpiry)]);
    s.input(61, posted(op, 1)).left_no_trace(Answer::Gone);
    s.input(62, due(op, TimerPurpose::CallbackExpiry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_post_after_the_expiry_is_gone_even_when_the_expiry_was_not_recorded_yet() {
    let mut s = Subject::started();
    let op = s.callback(Some(60));
    let taken = s.input(60, posted(op, 1));
    assert_eq!((taken.answer, taken.events), (Answer::Gone, vec![EventBody::CallbackExpired { op }]));
    assert_eq!(taken.effects, [drop_row(60, op, TimerPurpose::CallbackExpiry)]);
    s.input(61, posted(op, 1)).left_no_trace(Answer::Gone);
    s.input(62, due(op, TimerPurpose::CallbackExpiry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_post_just_before_the_expiry_is_accepted() {
    let mut s = Subject::started();
    let op = s.callback(Some(60));
    assert_eq!(s.input(59, posted(op, 1)).answer, Answer::Accepted);
    s.input(60, due(op, TimerPurpose::CallbackExpiry)).left_no_trace(Answer::Ignored);
    s.input(99, posted(op, 1)).left_no_trace(Answer::Duplicate);
}

#[test]
fn a_callback_that_was_cancelled_is_gone() {
    let mut s = Subject::started();
    let op = s.callback(Some(60));
    assert_eq!(s.cancel_operation(op), [drop_row(60, op, TimerPurpose::CallbackExpiry)]);
    s.input(5, posted(op, 1)).left_no_trace(Answer::Gone);
}

#[test]
fn a_post_to_what_is_no_callback_is_not_found() {
    let mut s = Subject::started();
    let (timer, activity) = (s.timer(10), s.schedule(ActivityOptions::default()));
    let waiter = s.await_signal("go");
    for op in [timer, activity, waiter, EventId(1), EventId(0), EventId(99)] {
        s.input(5, posted(op, 1)).left_no_trace(Answer::NotFound);
    }
}

#[test]
fn a_settled_callback_goes_on_answering_after_the_end_and_an_open_one_is_gone() {
    for end in [
        EventBody::InstanceCompleted { output: "1".to_owned() },
        EventBody::InstanceTerminated { reason: "stuck".to_owned() },
    ] {
        let mut s = Subject::started();
        let (settled, open, expired) = (s.callback(None), s.callback(Some(60)), s.callback(Some(1)));
        s.input(5, posted(settled, 1));
        s.input(5, posted(expired, 1));
        assert_eq!(s.record(end), [drop_row(60, open, TimerPurpose::CallbackExpiry)]);
        s.input(6, posted(settled, 1)).left_no_trace(Answer::Duplicate);
        s.input(6, posted(settled, 2)).left_no_trace(Answer::Conflict);
        s.input(6, posted(open, 1)).left_no_trace(Answer::Gone);
        s.input(6, posted(expired, 1)).left_no_trace(Answer::Gone);
        s.input(6, posted(EventId(99), 1)).left_no_trace(Answer::NotFound);
    }
}

// ---- signals ---------------------------------------------------------------------------------------

#[test]
fn a_signal_that_nobody_waits_for_is_buffered_until_it_is_asked_for() {
    let mut s = Subject::started();
    let taken = s.input(5, signal("go", None));
    assert_eq!(taken.answer, Answer::Accepted);
    assert!(matches!(taken.events[..], [EventBody::SignalReceived { .. }]));
    assert_eq!((taken.effects, s.state.buffered_signals()), (vec![], 1));
    let other = s.await_signal("stop");
    assert!(s.is_open(other), "another name waits on");
    let waiter = s.await_signal("go");
    assert!(!s.is_open(waiter), "it has its signal");
    assert_eq!(s.state.buffered_signals(), 0);
}

#[test]
fn a_signal_goes_to_the_oldest_waiter() {
    let mut s = Subject::started();
    let (first, second) = (s.await_signal("go"), s.await_signal("go"));
    s.input(5, signal("go", None));
    assert_eq!((s.is_open(first), s.is_open(second)), (false, true));
    s.input(6, signal("go", None));
    assert_eq!((s.is_open(second), s.state.buffered_signals()), (false, 0));
}

#[test]
fn a_cancelled_waiter_swallows_no_signal() {
    let mut s = Subject::started();
    let (first, second) = (s.await_signal("go"), s.await_signal("go"));
    assert_eq!(s.cancel_operation(first), []);
    s.input(5, signal("go", None));
    assert_eq!((s.is_open(second), s.state.buffered_signals()), (false, 0));
}

#[test]
fn a_signal_that_was_not_read_goes_back_when_its_waiter_is_cancelled() {
    let mut s = Subject::started();
    let waiter = s.await_signal("go");
    s.input(5, signal("go", None));
    s.cancel_operation(waiter);
    assert_eq!(s.state.buffered_signals(), 1);
    s.cancel_operation(waiter);
    assert_eq!(s.state.buffered_signals(), 1, "it goes back once");
    let next = s.await_signal("go");
    assert_eq!((s.is_open(next), s.state.buffered_signals()), (false, 0));
}

#[test]
fn a_signal_given_back_goes_to_a_waiter_at_once() {
    let mut s = Subject::started();
    let (first, second) = (s.await_signal("go"), s.await_signal("go"));
    s.input(5, signal("go", None));
    s.cancel_operation(first);
    assert_eq!((s.is_open(second), s.state.buffered_signals()), (false, 0));
}

#[test]
fn a_message_id_is_taken_once() {
    let mut s = Subject::started();
    assert_eq!(s.input(5, signal("go", Some("m-1"))).answer, Answer::Accepted);
    s.input(6, signal("go", Some("m-1"))).left_no_trace(Answer::Duplicate);
    s.input(6, signal("stop", Some("m-1"))).left_no_trace(Answer::Duplicate);
    assert_eq!(s.input(7, signal("go", Some("m-2"))).answer, Answer::Accepted);
    assert_eq!(s.input(8, signal("go", None)).answer, Answer::Accepted);
    assert_eq!(s.input(9, signal("go", None)).answer, Answer::Accepted, "no id, no deduplication");
}

#[test]
fn a_message_id_stays_taken_after_its_signal_was() {
    let mut s = Subject::started();
    s.await_signal("go");
    s.input(5, signal("go", Some("m-1")));
    s.input(6, signal("go", Some("m-1"))).left_no_trace(Answer::Duplicate);
}

// ---- limits of what comes from outside -------------------------------------------------------------

#[test]
fn a_limit_names_itself_what_was_found_and_the_next_step() {
    let mut s = Subject::started();
    s.limits.payload_bytes = 8;
    let refused = s.refused(Input::Signal { name: "go".to_owned(), payload: "x".repeat(9), message_id: None });
    expect_test::expect![[r#"
        limit `payload-bytes` reached: the signal's payload is too large in bytes (9, at most 8); raise
        `limits.payload-bytes` in the configuration or make the workflow smaller"#]]
    .assert_eq(&refused.to_string().replace("raise ", "raise\n"));
    assert_eq!(refused.code(), "limit.payload-bytes");
}

#[test]
fn a_limit_is_reached_only_above_it() {
    let limits = Limits { payload_bytes: 8, name_bytes: 3, ..Limits::default() };
    assert_eq!(limits.check_payload("it", 8), Ok(()));
    assert_eq!(limits.check_name("it", 3), Ok(()));
    let over = limits.check_name("the change id", 4).unwrap_err();
    assert_eq!((over.name.as_str(), over.found, over.limit), ("name-bytes", 4, 3));
    assert_eq!(over.what, "the change id is too long in bytes");
    assert_eq!(check("n", "w", usize::MAX, 0).unwrap_err().found, u64::MAX);
}

#[test]
fn buffered_signals_are_limited_but_one_that_is_waited_for_always_passes() {
    let mut s = Subject::started();
    s.limits.buffered_signals = 2;
    s.input(1, signal("go", None));
    s.input(1, signal("go", Some("m-2")));
    let refused = s.refused(signal("go", None));
    assert_eq!((refused.name.as_str(), refused.found, refused.limit), ("buffered-signals", 3, 2));
    s.input(2, signal("go", Some("m-2"))).left_no_trace(Answer::Duplicate);
    let waiter = s.await_signal("stop");
    assert_eq!(s.input(3, signal("stop", None)).answer, Answer::Accepted);
    assert!(!s.is_open(waiter));
    s.await_signal("go");
    assert_eq!(s.input(4, signal("go", None)).answer, Answer::Accepted, "one was taken, so there is room");
}

#[test]
fn every_text_from_outside_has_a_limit() {
    let mut s = Subject::started();
    s.limits = Limits { payload_bytes: 20, name_bytes: 5, ..Limits::default() };
    let long = "x".repeat(21);
    assert_eq!(s.refused(signal("longer", None)).name, "name-bytes");
    assert_eq!(s.refused(signal("go", Some("longer"))).name, "name-bytes");
    assert_eq!(s.refused(Input::Cancel { reason: long.clone() }).name, "payload-bytes");
    assert_eq!(s.refused(Input::Terminate { reason: long }).name, "payload-bytes");
}

// ---- cancel ----------------------------------------------------------------------------------------

/// Opens one operation of each kind: activity, backing-off activity, timer, callback, waiter.
fn open_one_of_each(s: &mut Subject) -> [EventId; 5] {
    let activity = s.schedule(at_most(100, ActivityOptions::default()));
    let backing_off = s.schedule(two_attempts());
    let (timer, callback, waiter) = (s.timer(200), s.callback(Some(300)), s.await_signal("go"));
    s.input(1, failed(backing_off, 1));
    [activity, backing_off, timer, callback, waiter]
}

fn everything_dropped([activity, backing_off, timer, callback, _]: [EventId; 5]) -> Vec<Effect> {
    vec![
        Effect::Interrupt { op: activity },
        drop_row(100, activity, TimerPurpose::ScheduleToClose),
        Effect::Interrupt { op: backing_off },
        drop_row(11, backing_off, TimerPurpose::Retry),
        drop_row(200, timer, TimerPurpose::Timer),
        drop_row(300, callback, TimerPurpose::CallbackExpiry),
    ]
}

#[test]
fn a_request_to_cancel_closes_everything_that_is_open() {
    let mut s = Subject::started();
    let ops = open_one_of_each(&mut s);
    let taken = s.input(2, cancel());
    let event = EventBody::CancelRequested { reason: "changed my mind".to_owned() };
    assert_eq!((taken.answer, taken.events), (Answer::Accepted, vec![event]));
    assert_eq!(taken.effects, everything_dropped(ops));
    assert!(s.state.open.is_empty() && !s.state.is_closed(), "the guest may still undo what it did");
    assert_eq!(s.state.cancel_requested, Some((s.last(), "changed my mind".to_owned())));
    let [activity, _, timer, callback, _] = ops;
    s.input(3, succeeded(activity, 1)).left_no_trace(Answer::Ignored);
    s.input(200, due(timer, TimerPurpose::Timer)).left_no_trace(Answer::Ignored);
    s.input(3, posted(callback, 1)).left_no_trace(Answer::Gone);
    s.input(4, signal("go", None));
    assert_eq!(s.state.buffered_signals(), 1, "the cancelled waiter swallows nothing");
}

#[test]
fn a_second_request_to_cancel_is_a_duplicate() {
    let mut s = Subject::started();
    s.input(1, cancel());
    s.input(2, cancel()).left_no_trace(Answer::Duplicate);
}

#[test]
fn what_begins_after_the_guest_saw_the_request_to_cancel_works_as_ever() {
    let mut s = Subject::started();
    s.input(1, cancel());
    let op = s.schedule(ActivityOptions::default());
    assert_eq!(s.activity(op).attempt, AttemptNumber(1));
    assert_eq!(s.input(2, succeeded(op, 1)).answer, Answer::Accepted);
    let callback = s.callback(None);
    assert_eq!(s.input(3, posted(callback, 1)).answer, Answer::Accepted);
}

#[test]
fn what_the_guest_began_before_it_saw_the_request_to_cancel_never_starts() {
    let mut s = Subject::started();
    let seen = s.last();
    s.input(1, cancel());
    assert_eq!(s.record_caused(scheduled(at_most(60, two_attempts())), seen), [], "no dispatch, no row");
    let activity = s.last();
    assert_eq!(s.record_caused(EventBody::TimerStarted { deadline: secs(9) }, seen), []);
    assert_eq!(s.record_caused(callback_created(Some(60)), seen), []);
    let callback = s.last();
    assert_eq!(s.record_caused(EventBody::SignalAwaited { name: "go".to_owned() }, seen), []);
    assert!(s.state.open.is_empty());
    s.input(2, posted(callback, 1)).left_no_trace(Answer::Gone);
    s.input(2, succeeded(activity, 1)).left_no_trace(Answer::Ignored);
    s.input(3, signal("go", None));
    assert_eq!(s.state.buffered_signals(), 1, "the waiter was cancelled before the signal came");
}

#[test]
fn a_waiter_recorded_late_gets_a_signal_from_before_the_request_to_cancel_but_none_from_after() {
    let mut s = Subject::started();
    let seen = s.last();
    s.input(1, signal("go", None));
    s.input(1, cancel());
    s.input(2, signal("go", None));
    s.record_caused(EventBody::SignalAwaited { name: "go".to_owned() }, seen);
    assert_eq!(s.state.buffered_signals(), 1, "the first signal came before the request");
    s.record_caused(EventBody::SignalAwaited { name: "go".to_owned() }, seen);
    assert_eq!(s.state.buffered_signals(), 1, "the second one came after it");
    assert!(s.state.open.is_empty());
}

#[test]
fn cancelling_an_operation_that_settled_meanwhile_changes_nothing() {
    let mut s = Subject::started();
    let (timer, callback, seen) = (s.timer(10), s.callback(None), s.last());
    s.input(10, due(timer, TimerPurpose::Timer));
    s.input(11, posted(callback, 1));
    // The guest was behind: it cancels what it has not seen settle.
    assert_eq!(s.record_caused(EventBody::OperationCancelled { op: timer }, seen), []);
    assert_eq!(s.record_caused(EventBody::OperationCancelled { op: callback }, seen), []);
    s.input(12, posted(callback, 1)).left_no_trace(Answer::Duplicate);
}

// ---- the end ---------------------------------------------------------------------------------------

fn ends() -> Vec<(EventBody, Lifecycle)> {
    let (output, reason) = ("[1]".to_owned(), "stuck".to_owned());
    vec![
        (EventBody::InstanceCompleted { output: output.clone() }, Lifecycle::Completed(output)),
        (EventBody::InstanceFailed { failure: broken() }, Lifecycle::Failed(broken())),
        (EventBody::InstanceCancelled { failure: broken() }, Lifecycle::Cancelled(broken())),
        (EventBody::InstanceTerminated { reason: reason.clone() }, Lifecycle::Terminated(reason)),
        (EventBody::InstanceStopped { failure: broken() }, Lifecycle::Failed(broken())),
    ]
}

#[test]
fn every_end_closes_everything_that_is_open() {
    for (end, lifecycle) in ends() {
        let mut s = Subject::started();
        let ops = open_one_of_each(&mut s);
        assert_eq!(s.state.lifecycle, Lifecycle::Running);
        assert_eq!(s.record(end), everything_dropped(ops));
        assert_eq!(s.state.lifecycle, lifecycle);
        assert!(s.state.is_closed() && s.state.open.is_empty());
    }
}

#[test]
fn after_every_end_any_new_input_is_answered_gone() {
    for (end, _) in ends() {
        let mut s = Subject::started();
        let ops = open_one_of_each(&mut s);
        s.input(1, signal("stop", Some("m-1")));
        s.record(end);
        let inputs = [
            succeeded(ops[0], 1),
            due(ops[1], TimerPurpose::Retry),
            due(ops[2], TimerPurpose::Timer),
            posted(ops[3], 1),
            signal("go", None),
            signal("stop", Some("m-2")),
            cancel(),
            terminate(),
        ];
        for input in inputs {
            s.input(999, input).left_no_trace(Answer::Gone);
        }
        // Whoever lost the answer to a signal gets it again, even if that signal was the last thing needed.
        s.input(999, signal("stop", Some("m-1"))).left_no_trace(Answer::Duplicate);
    }
}

#[test]
fn an_order_to_terminate_ends_the_instance_even_after_a_request_to_cancel() {
    let mut s = Subject::started();
    s.input(1, cancel());
    let taken = s.input(2, terminate());
    assert_eq!(taken.events, [EventBody::InstanceTerminated { reason: "stuck".to_owned() }]);
    assert_eq!(s.state.lifecycle, Lifecycle::Terminated("stuck".to_owned()));
}

#[test]
fn the_custom_status_is_the_last_one_set_and_outlives_the_end() {
    let mut s = Subject::started();
    assert_eq!(s.state.custom_status, None);
    s.record(EventBody::StatusSet { status: "1".to_owned() });
    s.record(EventBody::StatusSet { status: "2".to_owned() });
    s.record(EventBody::InstanceCompleted { output: "null".to_owned() });
    assert_eq!(s.state.custom_status.as_deref(), Some("2"));
}

#[test]
fn recorded_time_never_goes_back() {
    let mut s = Subject::started();
    s.input(50, signal("go", None));
    s.input(40, signal("go", None));
    assert_eq!(s.history.last().unwrap().time, secs(50));
    assert_eq!(s.state.last_time, secs(50));
}

// ---- any order of anything -------------------------------------------------------------------------

/// Events that were never decided here (another build, a damaged store) fold without a panic.
#[test]
fn events_about_operations_that_do_not_exist_are_folded_without_harm() {
    let mut random = Random::new(5);
    for _ in 0..300 {
        let mut state = InstanceState::new(RunNumber::FIRST, 3);
        for _ in 0..60 {
            let op = EventId(random.next_u64() % 40);
            let body = any_body(&mut random, op);
            let mut event = state.next_event(body, Timestamp(i64::try_from(random.next_u64() >> 1).unwrap()));
            event.cause = EventId(random.next_u64() % 40);
            let mut effects = Vec::new();
            state.apply(&event, &mut effects);
            let purpose = TimerPurpose::Retry;
            state.decide(due(op, purpose), Timestamp(0), &Limits::default()).unwrap();
            state.decide(posted(op, 1), Timestamp(0), &Limits::default()).unwrap();
            state.decide(failed(op, 1), Timestamp(0), &Limits::default()).unwrap();
            let reply = Input::Reply { to: ReplyTo { op, part: 1 }, outcome: Err(broken()) };
            state.decide(reply, Timestamp(i64::MAX), &Limits::default()).unwrap();
            crate::view::waiting_for(&state, Timestamp(0));
        }
    }
}

fn any_body(random: &mut Random, op: EventId) -> EventBody {
    let (attempt, started) = (AttemptNumber::FIRST, secs(1));
    match random.next_u64() % 26 {
        15..=25 => any_body_beyond(random, op),
        0 => scheduled(at_most(5, two_attempts())),
        1 => EventBody::TimerStarted { deadline: Timestamp::MAX },
        2 => callback_created(Some(5)),
        3 | 4 => EventBody::SignalAwaited { name: "go".to_owned() },
        5 | 6 => EventBody::SignalReceived { name: "go".to_owned(), payload: String::new(), message_id: None },
        7 => EventBody::ActivityAttemptFailed { op, attempt, started, failure: broken(), next_attempt: secs(9) },
        8 => EventBody::ActivityCompleted { op, attempt, started, output: String::new() },
        9 => EventBody::ActivityFailed { op, attempt, started: None, failure: broken() },
        10 => EventBody::TimerFired { op },
        11 => EventBody::CallbackSettled { op, outcome: Err(broken()), digest: Digest([0; 32]) },
        12 => EventBody::CallbackExpired { op },
        13 if random.next_u64().is_multiple_of(8) => EventBody::CancelRequested { reason: String::new() },
        _ => EventBody::OperationCancelled { op },
    }
}

/// The same for what reaches beyond the instance.
fn any_body_beyond(random: &mut Random, op: EventId) -> EventBody {
    let text = str::to_owned;
    let entity = |key: &str| crate::EntityId::new("counter", key).unwrap();
    match random.next_u64() % 12 {
        0 => {
            let options = crate::ChildOptions { retry: two_attempts().retry, ..crate::ChildOptions::default() };
            EventBody::ChildStarted { id: text("c"), workflow: text("w"), input: String::new(), options }
        }
        1 => {
            let (attempt, next_attempt) = (AttemptNumber(u32::MAX), secs(9));
            EventBody::ChildAttemptFailed { op, attempt, failure: broken(), next_attempt }
        }
        2 => EventBody::SignalSent { instance: text("a"), name: text("go"), payload: String::new() },
        3 => EventBody::EntityCalled { entity: entity("a"), operation: text("add"), input: String::new() },
        4 => EventBody::LockRequested { entities: vec![] },
        5 => EventBody::LockRequested { entities: vec![entity("b"), entity("a"), entity("a")] },
        6 | 7 => EventBody::LockGranted { op, left: u32::MAX },
        8 => EventBody::LockReleased { op },
        9 => EventBody::InstanceSuspended { reason: String::new() },
        10 => EventBody::InstanceResumed { reason: String::new() },
        _ => EventBody::ReplyReceived { op, outcome: Err(broken()) },
    }
}
