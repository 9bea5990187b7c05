//! What people are shown, at each point in the life of an operation.

use super::*;
use crate::activity::ATTEMPTS_SHOWN_MAX;
use crate::event::EventBody;
use crate::failure::FailureKind;
use crate::retry::ActivityOptions;
use crate::time::Nanos;
use expect_test::{Expect, expect};

fn secs(secs: i64) -> Timestamp {
    Timestamp(secs * 1_000_000_000)
}

/// An instance after these events, each recorded at that second.
fn after(events: Vec<(i64, EventBody)>) -> InstanceState {
    let mut state = InstanceState::new(crate::ids::RunNumber::FIRST, 10);
    for (at, body) in events {
        let event = state.next_event(body, secs(at));
        state.apply(&event, &mut Vec::new());
    }
    state
}

fn charge(seconds: u64) -> EventBody {
    let limit = |seconds| Some(Nanos::from_secs(seconds));
    let options = ActivityOptions {
        start_to_close: limit(30),
        schedule_to_close: (seconds > 0).then_some(Nanos::from_secs(seconds)),
        ..ActivityOptions::default()
    };
    EventBody::ActivityScheduled { name: "charge".to_owned(), input: "1".to_owned(), options }
}

fn attempt_failed(op: u64, attempt: u32, next_attempt: i64) -> EventBody {
    EventBody::ActivityAttemptFailed {
        op: EventId(op),
        attempt: AttemptNumber(attempt),
        started: secs(1),
        failure: Failure::new(FailureKind::Application, "http.status-503", "it broke"),
        next_attempt: secs(next_attempt),
    }
}

fn completed(op: u64, attempt: u32) -> EventBody {
    let (op, attempt) = (EventId(op), AttemptNumber(attempt));
    EventBody::ActivityCompleted { op, attempt, started: secs(2), output: "1".to_owned() }
}

fn failed(op: u64, started: Option<i64>, kind: FailureKind) -> EventBody {
    let failure = Failure::new(kind, "code", "message");
    let (op, attempt) = (EventId(op), AttemptNumber(1));
    EventBody::ActivityFailed { op, attempt, started: started.map(secs), failure }
}

fn at(time: Option<Timestamp>) -> String {
    time.map_or("-".to_owned(), |time| format!("{}s", time.0 / 1_000_000_000))
}

fn check_waiting(events: Vec<(i64, EventBody)>, now: i64, expected: Expect) {
    let waiting = waiting_for(&after(events), secs(now));
    let lines = waiting.iter().map(|w| {
        let name = w.name.as_deref().unwrap_or("-");
        format!("{} {} {name} since {} due {}: {}\n", w.event, w.kind, at(Some(w.since)), at(w.due), w.text)
    });
    expected.assert_eq(&lines.collect::<String>());
}

/// `executing` is the second since when the current attempt of every activity runs.
fn check_activities(events: Vec<(i64, EventBody)>, now: i64, executing: Option<i64>, expected: Expect) {
    let shown = activities(&after(events), secs(now), |_, _| executing.map(secs));
    let mut text = String::new();
    for activity in &shown {
        let (scheduled, deadline) = (at(Some(activity.scheduled)), at(activity.deadline));
        text += &format!("{} {} {}, {scheduled} to {deadline}\n", activity.event, activity.name, activity.state);
        for a in &activity.attempts {
            let code = a.failure.as_ref().map_or("", |failure| &failure.code);
            let (started, ended, deadline) = (at(a.started), at(a.ended), at(a.deadline));
            text += &format!("  {} {}, {started} to {ended}, deadline {deadline} {code}", a.attempt.0, a.state);
            text = text.trim_end().to_owned() + "\n";
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn an_instance_says_what_it_waits_for_oldest_first() {
    let callback = |expires: Option<i64>| EventBody::CallbackCreated {
        name: "paid".to_owned(),
        expires: expires.map(secs),
        base_url: String::new(),
        key_id: 0,
    };
    let events = vec![
        (1, EventBody::SignalAwaited { name: "approve".to_owned() }),
        (2, callback(Some(60))),
        (3, callback(None)),
        (4, EventBody::TimerStarted { deadline: secs(70) }),
        (5, charge(80)),
        (6, charge(0)),
    ];
    check_waiting(
        events,
        7,
        expect![[r#"
            1 signal approve since 1s due -: signal `approve` to arrive
            2 callback paid since 2s due 60s: callback `paid` to be called
            3 callback paid since 3s due -: callback `paid` to be called
            4 timer - since 4s due 70s: a durable timer to fire
            5 activity charge since 5s due 85s: activity `charge` to end, attempt 1
            6 activity charge since 6s due -: activity `charge` to end, attempt 1
        "#]],
    );
}

#[test]
fn nothing_is_waited_for_once_it_settled() {
    let events = vec![
        (1, EventBody::SignalAwaited { name: "approve".to_owned() }),
        (2, EventBody::TimerStarted { deadline: secs(70) }),
        (3, charge(0)),
        (4, EventBody::SignalReceived { name: "approve".to_owned(), payload: "1".to_owned(), message_id: None }),
        (5, EventBody::TimerFired { op: EventId(2) }),
        (6, completed(3, 1)),
    ];
    check_waiting(events, 7, expect![[""]]);
}

#[test]
fn an_activity_that_backs_off_says_when_it_is_tried_again() {
    let events = vec![(1, charge(80)), (2, attempt_failed(1, 1, 20))];
    check_waiting(
        events.clone(),
        19,
        expect![[r#"
        1 activity charge since 1s due 20s: activity `charge` to be tried again, attempt 2
    "#]],
    );
    check_waiting(
        events,
        20,
        expect![[r#"
        1 activity charge since 1s due 81s: activity `charge` to end, attempt 2
    "#]],
    );
}

#[test]
fn an_attempt_is_scheduled_until_a_worker_runs_it() {
    let events = vec![(1, charge(80))];
    check_activities(
        events.clone(),
        2,
        None,
        expect![[r#"
        1 charge executing, 1s to 81s
          1 scheduled, - to -, deadline -
    "#]],
    );
    check_activities(
        events,
        7,
        Some(6),
        expect![[r#"
        1 charge executing, 1s to 81s
          1 executing, 6s to -, deadline 36s
    "#]],
    );
}

#[test]
fn a_retried_activity_shows_all_its_attempts() {
    let events = vec![(1, charge(0)), (5, attempt_failed(1, 1, 20)), (25, attempt_failed(1, 2, 40))];
    check_activities(
        events.clone(),
        30,
        None,
        expect![[r#"
        1 charge backing-off, 1s to -
          1 failed, 1s to 5s, deadline - http.status-503
          2 failed, 1s to 25s, deadline - http.status-503
          3 backing-off, - to -, deadline 40s
    "#]],
    );
    check_activities(
        events,
        41,
        Some(41),
        expect![[r#"
        1 charge executing, 1s to -
          1 failed, 1s to 5s, deadline - http.status-503
          2 failed, 1s to 25s, deadline - http.status-503
          3 executing, 41s to -, deadline 71s
    "#]],
    );
}

#[test]
fn ended_activities_stay_in_view_with_how_they_ended() {
    let events = vec![
        (1, charge(0)),
        (1, charge(0)),
        (1, charge(60)),
        (1, charge(0)),
        (1, charge(0)),
        (1, charge(0)),
        (2, attempt_failed(1, 1, 3)),
        (9, failed(2, Some(4), FailureKind::Application)),
        (9, failed(3, None, FailureKind::TimedOut)),
        (9, EventBody::OperationCancelled { op: EventId(4) }),
        (10, attempt_failed(5, 1, 20)),
        (11, EventBody::OperationCancelled { op: EventId(5) }),
        (12, completed(1, 2)),
    ];
    check_activities(
        events,
        13,
        None,
        expect![[r#"
        1 charge completed, 1s to -
          1 failed, 1s to 2s, deadline - http.status-503
          2 completed, 2s to 12s, deadline -
        2 charge failed, 1s to -
          1 failed, 4s to 9s, deadline - code
        3 charge failed, 1s to 61s
          1 timed-out, - to 9s, deadline - code
        4 charge cancelled, 1s to -
          1 cancelled, - to -, deadline -
        5 charge cancelled, 1s to -
          1 failed, 1s to 10s, deadline - http.status-503
          2 cancelled, - to -, deadline -
        6 charge executing, 1s to -
          1 scheduled, - to -, deadline -
    "#]],
    );
}

#[test]
fn of_very_many_attempts_the_latest_are_shown() {
    let failures = (1..=150).map(|attempt| (i64::from(attempt), attempt_failed(1, attempt, i64::from(attempt) + 1)));
    let state = after(std::iter::once((0, charge(0))).chain(failures).collect());
    let shown = activities(&state, secs(999), |_, _| None);
    let numbers: Vec<u32> = shown[0].attempts.iter().map(|attempt| attempt.attempt.0).collect();
    assert_eq!(numbers, (51..=151).collect::<Vec<u32>>());
    assert_eq!(numbers.len(), ATTEMPTS_SHOWN_MAX + 1, "and the one under way");
}

#[test]
fn the_worker_is_asked_about_the_current_attempt_of_open_activities() {
    let state = after(vec![(1, charge(0)), (2, attempt_failed(1, 1, 3)), (4, charge(0)), (5, completed(3, 1))]);
    let asked = std::cell::RefCell::new(Vec::new());
    activities(&state, secs(9), |op, attempt| {
        asked.borrow_mut().push((op.0, attempt.0));
        None
    });
    assert_eq!(*asked.borrow(), [(1, 2)]);
}
