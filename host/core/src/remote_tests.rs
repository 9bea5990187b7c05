//! Questions to other instances and to entities: each row of the table, for each kind of question.

use super::*;
use crate::event::Lineage;
use crate::instance::{Answer, Effect, Operation};
use crate::testing::{Subject, broken, cancel, send};
use crate::view::waiting_for;

/// Each question, and the message it makes of an instance that stands two deep.
fn questions() -> Vec<(EventBody, &'static str, MessageBody)> {
    let text = str::to_owned;
    let start =
        StartMessage { workflow: text("reports"), version: Some(text("1")), input: text("{}"), parent: None, depth: 0 };
    let sent = EventBody::StartSent {
        id: text("later"),
        workflow: text("reports"),
        version: Some(text("1")),
        input: text("{}"),
    };
    let signal = EventBody::SignalSent { instance: text("order-8"), name: text("go"), payload: text("1") };
    let cancel = EventBody::CancelSent { instance: text("order-8"), reason: text("enough") };
    let entity = crate::EntityId::new("counter", "a").unwrap();
    let call = EventBody::EntityCalled { entity, operation: text("add"), input: text("2") };
    vec![
        (sent, "later", MessageBody::Start(start)),
        (signal, "order-8", MessageBody::Signal { name: text("go"), payload: text("1") }),
        (cancel, "order-8", MessageBody::Cancel { reason: text("enough"), child_of: None }),
        (call, "@counter@a", MessageBody::Operation { operation: text("add"), input: text("2") }),
    ]
}

fn subject() -> Subject {
    Subject::descending(Some(Lineage { depth: 2, ..Lineage::default() }))
}

#[test]
fn each_question_sends_its_message_and_waits_for_the_answer() {
    for (command, to, body) in questions() {
        let mut s = subject();
        let effects = s.record(command);
        let op = s.last();
        assert_eq!(effects, [send(op, to, Some((op, 0)), body)]);
        assert!(matches!(s.state.open.get(&op), Some(Operation::Remote(remote)) if remote.to == to));
        assert!(s.state.is_asking(ReplyTo { op, part: 0 }));
    }
}

#[test]
fn an_answer_settles_a_question_once() {
    for (command, ..) in questions() {
        for outcome in [Ok("1".to_owned()), Err(broken())] {
            let mut s = subject();
            s.record(command.clone());
            let op = s.last();
            let taken = s.reply(5, op, 0, outcome.clone());
            assert_eq!(taken.answer, Answer::Accepted);
            assert_eq!(taken.events, [EventBody::ReplyReceived { op, outcome: outcome.clone() }]);
            assert_eq!((taken.effects, s.is_open(op)), (vec![], false));
            s.reply(6, op, 0, outcome).left_no_trace(Answer::Ignored);
            assert!(!s.state.is_asking(ReplyTo { op, part: 0 }));
        }
    }
}

#[test]
fn a_question_that_is_given_up_takes_nothing_back_and_hears_no_answer() {
    for (command, ..) in questions() {
        for given_up in ["dropped", "cancelled", "ended"] {
            let mut s = subject();
            s.record(command.clone());
            let op = s.last();
            let effects = match given_up {
                "dropped" => s.cancel_operation(op),
                "cancelled" => s.input(1, cancel()).effects,
                _ => s.record(EventBody::InstanceCompleted { output: "1".to_owned() }),
            };
            assert_eq!((effects, s.is_open(op)), (Vec::<Effect>::new(), false), "{given_up}");
            let answer = if given_up == "ended" { Answer::Gone } else { Answer::Ignored };
            s.reply(6, op, 0, Ok("1".to_owned())).left_no_trace(answer);
        }
    }
}

#[test]
fn a_question_asked_before_the_guest_saw_the_request_to_cancel_is_never_sent() {
    for (command, ..) in questions() {
        let mut s = subject();
        let seen = s.last();
        s.input(1, cancel());
        assert_eq!(s.record_caused(command, seen), []);
        assert!(s.state.open.is_empty());
    }
}

#[test]
fn what_an_entity_is_told_is_sent_even_then_and_nobody_waits() {
    let mut s = subject();
    let seen = s.last();
    s.input(1, cancel());
    let entity = crate::EntityId::new("counter", "a").unwrap();
    let (operation, input) = ("add".to_owned(), "2".to_owned());
    let told = EventBody::EntitySignalled { entity, operation: operation.clone(), input: input.clone() };
    let effects = s.record_caused(told, seen);
    assert_eq!(effects, [send(s.last(), "@counter@a", None, MessageBody::Operation { operation, input })]);
    assert!(s.state.open.is_empty());
}

#[test]
fn the_status_says_who_is_asked_what() {
    let mut s = subject();
    questions().into_iter().for_each(|(command, ..)| drop(s.record(command)));
    let lines: String =
        waiting_for(&s.state, s.now).iter().map(|it| format!("{}: waits for {}\n", it.kind, it.text)).collect();
    expect_test::expect![[r#"
        start: waits for instance `later` of workflow `reports` to be started
        signal: waits for instance `order-8` to take the signal `go`
        cancel: waits for instance `order-8` to take the cancel `enough`
        entity: waits for operation `add` of entity `@counter@a` to end
    "#]]
    .assert_eq(&lines);
}
