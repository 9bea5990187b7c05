//! The runtime's data as JSON.

use super::*;
use expect_test::{Expect, expect};
use rehydrate_runtime::core::view::{ActivityView, AttemptView, Waiting};
use rehydrate_runtime::core::{self, AttemptNumber, Digest, EventId, FailureKind, Nanos, RunNumber, Timestamp};
use rehydrate_runtime::store::{self, InstanceRow, InstanceStateTag};
use rehydrate_runtime::{InstanceDetail, ReplayVerdict};

const T0: Timestamp = Timestamp(1_700_000_000_000_000_000);

fn check(value: &impl serde::Serialize, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).expect("json"));
}

fn failure() -> core::Failure {
    core::Failure {
        details: Some(r#"{"status": 500}"#.to_owned()),
        retry_after: Some(Nanos::from_millis(1_500)),
        ..core::Failure::new(FailureKind::TimedOut, "timeout.start-to-close", "it took too long").retryable()
    }
}

fn detail() -> InstanceDetail {
    let attempt = |number, state, failure| AttemptView {
        attempt: AttemptNumber(number),
        state,
        started: Some(T0),
        ended: None,
        deadline: Some(Timestamp(T0.0 + 5_000_000_000)),
        failure,
    };
    InstanceDetail {
        row: InstanceRow {
            id: "order/7".to_owned(),
            run: RunNumber(2),
            workflow: "job".to_owned(),
            version: "1.0.0".to_owned(),
            digest: Digest([0xab; 32]),
            state: InstanceStateTag::Paused,
            created: T0,
            updated: Timestamp(T0.0 + 1),
            last_event: EventId(9),
            ran_through: EventId(9),
            custom_status: Some(r#"{"z": 1, "a": 2}"#.to_owned()),
            problem: Some(store::Problem {
                code: "workflow.diverged".to_owned(),
                message: "it does not match; migrate it".to_owned(),
                divergence: Some(core::Divergence {
                    event: EventId(4),
                    expected: "TimerStarted".to_owned(),
                    got: "ActivityScheduled".to_owned(),
                }),
            }),
        },
        input: "[1,2]".to_owned(),
        output: None,
        failure: None,
        cancel_requested: None,
        suspended: None,
        parent: None,
        waiting_for: vec![Waiting {
            event: EventId(5),
            kind: "callback",
            name: Some("done".to_owned()),
            since: T0,
            due: Some(Timestamp(T0.0 + 60_000_000_000)),
            text: "callback `done` to be called".to_owned(),
        }],
        activities: vec![ActivityView {
            event: EventId(6),
            name: "submit".to_owned(),
            state: "executing",
            scheduled: T0,
            deadline: None,
            attempts: vec![attempt(1, "timed-out", Some(failure())), attempt(2, "executing", None)],
        }],
        buffered_signals: 3,
        resident: true,
    }
}

#[test]
fn a_status_has_every_attempt_and_what_it_waits_for_in_words() {
    check(
        &InstanceStatus::from(&detail()),
        &expect![[r#"
            {
              "id": "order/7",
              "run": 2,
              "workflow": "job",
              "version": "1.0.0",
              "digest": "abababababababababababababababababababababababababababababababab",
              "state": "paused",
              "created": "2023-11-14T22:13:20.000000000Z",
              "updated": "2023-11-14T22:13:20.000000001Z",
              "last_event": 9,
              "input": [1,2],
              "output": null,
              "failure": null,
              "custom_status": {"z":1,"a":2},
              "cancel_requested": null,
              "waiting_for": [
                {
                  "event": 5,
                  "kind": "callback",
                  "name": "done",
                  "since": "2023-11-14T22:13:20.000000000Z",
                  "due": "2023-11-14T22:14:20.000000000Z",
                  "text": "callback `done` to be called, due 2023-11-14T22:14:20.000Z"
                }
              ],
              "activities": [
                {
                  "event": 6,
                  "name": "submit",
                  "state": "executing",
                  "scheduled": "2023-11-14T22:13:20.000000000Z",
                  "deadline": null,
                  "attempts": [
                    {
                      "attempt": 1,
                      "state": "timed-out",
                      "started": "2023-11-14T22:13:20.000000000Z",
                      "ended": null,
                      "deadline": "2023-11-14T22:13:25.000000000Z",
                      "failure": {
                        "kind": "timed-out",
                        "code": "timeout.start-to-close",
                        "message": "it took too long",
                        "details": {"status":500},
                        "retryable": true,
                        "retry_after_ms": 1500.0
                      }
                    },
                    {
                      "attempt": 2,
                      "state": "executing",
                      "started": "2023-11-14T22:13:20.000000000Z",
                      "ended": null,
                      "deadline": "2023-11-14T22:13:25.000000000Z",
                      "failure": null
                    }
                  ]
                }
              ],
              "buffered_signals": 3,
              "resident": true,
              "problem": {
                "code": "workflow.diverged",
                "message": "it does not match; migrate it",
                "divergence": {
                  "event": 4,
                  "expected": "TimerStarted",
                  "got": "ActivityScheduled"
                }
              }
            }"#]],
    );
}

#[test]
fn a_status_comes_back_on_the_other_side() {
    let json = serde_json::to_string(&InstanceStatus::from(&detail())).expect("json");
    let back: InstanceStatus = serde_json::from_str(&json).expect("a status");
    assert_eq!(serde_json::to_string(&back).expect("json"), json);
}

#[test]
fn a_start_keeps_the_input_as_it_was_written() {
    let body = r#"{"workflow":"job","input":{"z":1,"a":1e999},"conflict_policy":"use-existing"}"#;
    let start: StartInstance = serde_json::from_str(body).expect("a start");
    let request = start.into_request(Some("key".to_owned()));
    assert_eq!(request.input, r#"{"z":1,"a":1e999}"#);
    assert_eq!(request.conflict, rehydrate_runtime::ConflictPolicy::UseExisting);
    assert_eq!(request.reuse, rehydrate_runtime::ReusePolicy::Allow);
    assert_eq!(request.idempotency_key.as_deref(), Some("key"));
}

#[test]
fn a_start_without_input_is_given_null_and_an_unknown_member_is_refused() {
    let start: StartInstance = serde_json::from_str(r#"{"workflow":"job"}"#).expect("a start");
    assert_eq!(start.into_request(None).input, "null");
    assert!(serde_json::from_str::<StartInstance>(r#"{"workflow":"job","inputs":1}"#).is_err());
    assert!(serde_json::from_str::<StartInstance>(r#"{"workflow":"job","reuse_policy":"never"}"#).is_err());
}

#[test]
fn every_state_has_its_word_both_ways() {
    for tag in InstanceStateTag::ALL {
        let state = State::from(tag);
        assert_eq!(state.tag(), tag);
        assert_eq!(serde_json::to_value(state).expect("json"), state.as_str());
    }
}

#[test]
fn a_replay_says_how_it_went() {
    let report = |verdict| {
        ReplayReport::from(&rehydrate_runtime::ReplayReport {
            id: "a".to_owned(),
            run: RunNumber(1),
            version: "1".to_owned(),
            events: 4,
            verdict,
        })
    };
    let matches = report(ReplayVerdict::Matches { result: Some(Ok("[1]".to_owned())) });
    assert_eq!(
        (matches.verdict.as_str(), matches.output.map(|o| o.get().to_owned())),
        ("matches", Some("[1]".to_owned()))
    );
    let waits = report(ReplayVerdict::Matches { result: None });
    assert!(waits.verdict == "matches" && waits.output.is_none() && waits.failure.is_none());
    let stopped = report(ReplayVerdict::Stopped(failure()));
    assert_eq!(
        (stopped.verdict.as_str(), stopped.failure.map(|f| f.code)),
        ("stopped", Some("timeout.start-to-close".to_owned()))
    );
}
