//! Every row of the transition table of children, and what becomes of them without their parent.

use super::*;
use crate::event::Lineage;
use crate::instance::{Answer, Input, Operation};
use crate::testing::{
    Subject, broken, cancel, drop_row, due, put, scheduled, secs, send, terminate,
    two_attempts as two_activity_attempts,
};

fn two_attempts() -> ChildOptions {
    ChildOptions { retry: two_activity_attempts().retry, ..ChildOptions::default() }
}

fn closing(parent_close: ParentClose) -> ChildOptions {
    ChildOptions { parent_close, ..ChildOptions::default() }
}

fn child_started(options: ChildOptions) -> EventBody {
    EventBody::ChildStarted {
        id: "parcel-7".to_owned(),
        workflow: "parcels".to_owned(),
        input: "[1]".to_owned(),
        options,
    }
}

fn start_child(s: &mut Subject, options: ChildOptions) -> EventId {
    s.record(child_started(options));
    s.last()
}

fn parent(op: EventId, attempt: u32) -> Parent {
    Parent { instance: "order-7".to_owned(), run: RunNumber::FIRST, reply_to: ReplyTo { op, part: attempt } }
}

fn start(event: EventId, op: EventId, attempt: u32, options: &ChildOptions) -> Effect {
    let body = StartMessage {
        workflow: "parcels".to_owned(),
        version: options.version.clone(),
        input: "[1]".to_owned(),
        parent: Some(parent(op, attempt)),
        depth: 1,
    };
    send(event, "parcel-7", Some((op, attempt)), MessageBody::Start(body))
}

fn terminated(event: EventId, op: EventId, attempt: u32, reason: &str) -> Effect {
    let body = MessageBody::Terminate { reason: reason.to_owned(), child_of: parent(op, attempt) };
    send(event, "parcel-7", None, body)
}

fn asked_to_cancel(event: EventId, op: EventId, reason: &str) -> Effect {
    let body = MessageBody::Cancel { reason: reason.to_owned(), child_of: Some(parent(op, 1)) };
    send(event, "parcel-7", None, body)
}

fn child(s: &Subject, op: EventId) -> &ChildState {
    match s.state.open.get(&op) {
        Some(Operation::Child(child)) => child,
        other => panic!("event {op} is no open child: {other:?}"),
    }
}

const NOT_NEEDED: &str = "the workflow that started it does not need it any more";

// ---- the table -------------------------------------------------------------------------------------

#[test]
fn a_child_is_started_by_a_message_that_says_whose_it_is() {
    let mut s = Subject::started();
    let options = ChildOptions { version: Some("2".to_owned()), ..ChildOptions::default() };
    let effects = s.record(child_started(options.clone()));
    assert_eq!(effects, [start(s.last(), s.last(), 1, &options)]);
    assert!(s.state.is_asking(ReplyTo { op: s.last(), part: 1 }));
}

#[test]
fn a_child_stands_one_deeper_than_its_parent() {
    let mut s = Subject::descending(Some(Lineage { depth: 4, ..Lineage::default() }));
    let effects = s.record(child_started(ChildOptions::default()));
    let [Effect::Send(message)] = &effects[..] else { panic!("{effects:?}") };
    let MessageBody::Start(start) = &message.body else { panic!("{message:?}") };
    assert_eq!(start.depth, 5);
}

#[test]
fn a_child_that_completes_settles() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    let taken = s.reply(5, op, 1, Ok("7".to_owned()));
    assert_eq!(taken.answer, Answer::Accepted);
    assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: Ok("7".to_owned()) }]);
    assert_eq!(taken.effects, []);
    assert!(!s.is_open(op) && !s.state.is_asking(ReplyTo { op, part: 1 }));
    s.reply(6, op, 1, Ok("7".to_owned())).left_no_trace(Answer::Ignored);
}

#[test]
fn a_child_that_fails_without_a_policy_settles_with_the_failure() {
    let mut s = Subject::started();
    let op = start_child(&mut s, ChildOptions::default());
    let taken = s.reply(5, op, 1, Err(broken()));
    assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: Err(broken()) }]);
    assert!(!s.is_open(op));
}

#[test]
fn a_failed_attempt_that_may_be_retried_puts_a_retry_row() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    let taken = s.reply(5, op, 1, Err(broken()));
    let (attempt, failure, next_attempt) = (AttemptNumber(1), broken(), secs(15));
    assert_eq!(taken.events, [EventBody::ChildAttemptFailed { op, attempt, failure, next_attempt }]);
    assert_eq!(taken.effects, [put(15, op, TimerPurpose::Retry)]);
    assert_eq!(child(&s, op).attempt, AttemptNumber(2));
    assert_eq!(child(&s, op).not_before, Some((secs(15), s.last())));
}

#[test]
fn a_due_retry_row_is_dropped_and_starts_the_next_attempt_without_an_event() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    s.reply(5, op, 1, Err(broken()));
    let failed = s.last();
    s.input(14, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
    for wrong in [TimerPurpose::Timer, TimerPurpose::ScheduleToClose, TimerPurpose::CallbackExpiry] {
        s.input(15, due(op, wrong)).left_no_trace(Answer::Ignored);
    }
    let taken = s.input(15, due(op, TimerPurpose::Retry));
    assert_eq!(taken.events, []);
    assert_eq!(taken.effects, [drop_row(15, op, TimerPurpose::Retry), start(failed, op, 2, &two_attempts())]);
    assert!(s.state.is_asking(ReplyTo { op, part: 2 }), "it is under way");
}

#[test]
fn the_last_attempt_that_fails_settles_the_child() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    s.reply(5, op, 1, Err(broken()));
    s.input(15, due(op, TimerPurpose::Retry));
    let taken = s.reply(20, op, 2, Err(broken()));
    assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: Err(broken()) }]);
    assert_eq!(taken.effects, [drop_row(15, op, TimerPurpose::Retry)]);
    s.input(21, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_retry_row_is_not_due_without_a_failed_attempt() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    s.input(100, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_reply_to_another_attempt_is_not_heard() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    for part in [0, 2, u32::MAX] {
        s.reply(5, op, part, Ok("1".to_owned())).left_no_trace(Answer::Ignored);
    }
    s.reply(5, op, 1, Err(broken()));
    s.reply(6, op, 1, Ok("late".to_owned())).left_no_trace(Answer::Ignored);
    s.input(15, due(op, TimerPurpose::Retry));
    s.reply(16, op, 1, Ok("late".to_owned())).left_no_trace(Answer::Ignored);
    assert_eq!(s.reply(17, op, 2, Ok("1".to_owned())).answer, Answer::Accepted);
}

#[test]
fn a_reply_to_what_asked_nothing_is_not_heard() {
    let mut s = Subject::started();
    let (timer, activity) = (s.timer(10), s.schedule(two_activity_attempts()));
    for op in [timer, activity, EventId(1), EventId(0), EventId(99)] {
        s.reply(5, op, 1, Ok("1".to_owned())).left_no_trace(Answer::Ignored);
    }
}

#[test]
fn which_failures_of_a_child_are_retried() {
    let failed = |kind| Failure::new(kind, "x", "it broke");
    let table = [
        (failed(FailureKind::Application), true),
        (failed(FailureKind::TimedOut), true),
        (failed(FailureKind::Cancelled), false),
        (failed(FailureKind::Terminated), false),
        (failed(FailureKind::NotFound), false),
        (failed(FailureKind::Rejected), false),
        (failed(FailureKind::Rejected).retryable(), true),
        (Failure { code: "excluded".to_owned(), ..failed(FailureKind::Application) }, false),
    ];
    for (failure, retried) in table {
        let mut s = Subject::started();
        let mut options = two_attempts();
        options.retry.as_mut().unwrap().non_retryable = vec!["excluded".to_owned()];
        let op = start_child(&mut s, options);
        let taken = s.reply(5, op, 1, Err(failure.clone()));
        assert_eq!(matches!(taken.events[..], [EventBody::ChildAttemptFailed { .. }]), retried, "{failure}");
        let recorded = match &taken.events[0] {
            EventBody::ChildAttemptFailed { failure, .. } => failure.clone(),
            EventBody::ReplyReceived { outcome, .. } => outcome.clone().unwrap_err(),
            other => panic!("{other:?}"),
        };
        assert_eq!(recorded, failure, "what is recorded is what the child said");
    }
}

#[test]
fn no_attempt_of_a_child_starts_after_the_total_timeout() {
    let mut s = Subject::started();
    let mut options = two_attempts();
    options.retry.as_mut().unwrap().total_timeout = Some(crate::time::Nanos::from_secs(14));
    let op = start_child(&mut s, options);
    let taken = s.reply(5, op, 1, Err(broken()));
    assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: Err(broken()) }]);
}

#[test]
fn a_failed_attempt_of_a_child_is_the_last_one_once_the_history_is_full() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    s.limits.history_events = s.last().0;
    let taken = s.reply(5, op, 1, Err(broken()));
    let [EventBody::ReplyReceived { outcome: Err(failure), .. }] = &taken.events[..] else { panic!("{taken:?}") };
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Rejected, "limit.history-events"));
    assert!(!s.is_open(op));
}

// ---- given up --------------------------------------------------------------------------------------

#[test]
fn a_child_that_is_dropped_goes_the_way_its_parent_close_policy_says() {
    let policies = [ParentClose::Terminate, ParentClose::RequestCancel, ParentClose::Abandon];
    for policy in policies {
        let mut s = Subject::started();
        let op = start_child(&mut s, closing(policy));
        let effects = s.cancel_operation(op);
        let expected = match policy {
            ParentClose::Terminate => vec![terminated(s.last(), op, 1, NOT_NEEDED)],
            ParentClose::RequestCancel => vec![asked_to_cancel(s.last(), op, NOT_NEEDED)],
            ParentClose::Abandon => vec![],
        };
        assert_eq!(effects, expected, "{policy:?}");
        s.reply(5, op, 1, Ok("1".to_owned())).left_no_trace(Answer::Ignored);
        assert_eq!(s.cancel_operation(op), [], "it is given up once");
    }
}

#[test]
fn the_policy_is_followed_when_the_parent_is_asked_to_cancel_is_terminated_or_ends() {
    let ended = "the workflow that started it has ended";
    let stopped = EventBody::InstanceStopped { failure: broken() };
    let ends = [
        (EventBody::CancelRequested { reason: "enough".to_owned() }, "enough"),
        (
            EventBody::InstanceTerminated { reason: "stuck".to_owned() },
            "the workflow that started it was terminated: stuck",
        ),
        (EventBody::InstanceCompleted { output: "1".to_owned() }, ended),
        (EventBody::InstanceFailed { failure: broken() }, ended),
        (EventBody::InstanceCancelled { failure: broken() }, ended),
        (EventBody::InstanceContinued { input: "1".to_owned(), newest: false }, ended),
        (stopped, ended),
    ];
    for (end, reason) in ends {
        let mut s = Subject::started();
        let terminate = start_child(&mut s, closing(ParentClose::Terminate));
        let cancel = start_child(&mut s, closing(ParentClose::RequestCancel));
        start_child(&mut s, closing(ParentClose::Abandon));
        let settled = start_child(&mut s, ChildOptions::default());
        s.reply(1, settled, 1, Ok("1".to_owned()));
        let name = end.name();
        let effects = s.record(end);
        let at = s.last();
        assert_eq!(effects, [terminated(at, terminate, 1, reason), asked_to_cancel(at, cancel, reason)], "{name}");
    }
}

#[test]
fn a_child_that_waits_to_be_started_again_loses_its_row_when_it_is_given_up() {
    let mut s = Subject::started();
    let op = start_child(&mut s, two_attempts());
    s.reply(5, op, 1, Err(broken()));
    let effects = s.cancel_operation(op);
    assert_eq!(effects, [drop_row(15, op, TimerPurpose::Retry), terminated(s.last(), op, 2, NOT_NEEDED)]);
    s.input(15, due(op, TimerPurpose::Retry)).left_no_trace(Answer::Ignored);
}

#[test]
fn a_child_that_the_guest_began_before_it_saw_the_request_to_cancel_is_never_started() {
    let mut s = Subject::started();
    let seen = s.last();
    s.input(1, cancel());
    assert_eq!(s.record_caused(child_started(two_attempts()), seen), []);
    assert!(s.state.open.is_empty());
    let effects = s.record(child_started(two_attempts()));
    assert_eq!(effects, [start(s.last(), s.last(), 1, &two_attempts())], "a later one works as ever");
}

#[test]
fn a_child_dropped_by_a_guest_that_had_not_seen_it_settle_is_left_alone() {
    let mut s = Subject::started();
    let op = start_child(&mut s, ChildOptions::default());
    let seen = EventId(1);
    s.reply(5, op, 1, Ok("1".to_owned()));
    assert_eq!(s.record_caused(EventBody::OperationCancelled { op }, seen), []);
}

// ---- the child's side ------------------------------------------------------------------------------

fn is_child() -> Lineage {
    let parent =
        Parent { instance: "order-7".to_owned(), run: RunNumber(3), reply_to: ReplyTo { op: EventId(9), part: 2 } };
    Lineage { parent: Some(parent), depth: 1, ..Lineage::default() }
}

#[test]
fn an_instance_tells_its_parent_once_how_it_ended_and_not_that_it_goes_on() {
    let failed = || Err(broken());
    let ends = [
        (EventBody::InstanceCompleted { output: "1".to_owned() }, Some(Ok("1".to_owned()))),
        (EventBody::InstanceFailed { failure: broken() }, Some(failed())),
        (EventBody::InstanceCancelled { failure: broken() }, Some(failed())),
        (EventBody::InstanceStopped { failure: broken() }, Some(failed())),
        (EventBody::InstanceTerminated { reason: "stuck".to_owned() }, Some(Err(Failure::terminated("stuck")))),
        (EventBody::InstanceContinued { input: "1".to_owned(), newest: true }, None),
    ];
    for (end, outcome) in ends {
        let mut s = Subject::descending(Some(is_child()));
        s.timer(10);
        let mut orphan = Subject::started();
        assert_eq!(orphan.record(end.clone()), [], "nobody waits for {}", end.name());
        let effects = s.record(end);
        let reply = outcome.map(|outcome| {
            let to = ReplyTo { op: EventId(9), part: 2 };
            send(s.last(), "order-7", None, MessageBody::Reply { run: RunNumber(3), to, outcome })
        });
        let expected: Vec<Effect> = [drop_row(10, EventId(2), TimerPurpose::Timer)].into_iter().chain(reply).collect();
        assert_eq!(effects, expected);
        for input in [cancel(), terminate(), Input::Resume { reason: String::new() }] {
            s.input(20, input).left_no_trace(Answer::Gone);
        }
    }
}

#[test]
fn a_run_that_goes_on_keeps_its_parent_and_tells_it_at_its_end() {
    let mut s = Subject::descending(Some(is_child()));
    s.record(EventBody::InstanceContinued { input: "1".to_owned(), newest: true });
    let carried = s.state.carried(s.history.last().unwrap()).unwrap();
    let mut next = Subject::descending(Some(carried.lineage));
    let effects = next.record(EventBody::InstanceCompleted { output: "2".to_owned() });
    let to = ReplyTo { op: EventId(9), part: 2 };
    let body = MessageBody::Reply { run: RunNumber(3), to, outcome: Ok("2".to_owned()) };
    assert_eq!(effects, [send(next.last(), "order-7", None, body)]);
}

#[test]
fn children_and_activities_close_in_the_order_in_which_they_began() {
    let mut s = Subject::started();
    let first = start_child(&mut s, ChildOptions::default());
    s.record(scheduled(crate::retry::ActivityOptions::default()));
    let activity = s.last();
    let second = start_child(&mut s, ChildOptions::default());
    let taken = s.input(5, cancel());
    let (at, reason) = (s.last(), "changed my mind");
    let interrupted = Effect::Interrupt { op: activity };
    assert_eq!(taken.effects, [terminated(at, first, 1, reason), interrupted, terminated(at, second, 1, reason)]);
}
