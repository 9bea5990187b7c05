//! The workflow with approvers that are closures, in virtual time.

use super::*;
use rehydrate::testing::{Reply, TestHost};

const SECOND: Duration = Duration::from_secs(1);

fn host() -> TestHost {
    let host = TestHost::new();
    host.activity("http", |call| match call.input["json"]["approver"].as_str() {
        Some("bob") => Reply::fail(SECOND, Failure::application("http.status-500", "bob's inbox is full")),
        _ => Reply::ok(SECOND, &json!({ "status": 200 })),
    });
    host
}

/// Asks ann for 10 seconds, bob for 20, and zoe, who is told nothing, for 30.
fn run(host: &TestHost) -> Result<Decision, Failure> {
    let input = json!({
        "request": { "cents": 120_000 },
        "approvers": [
            { "name": "ann", "notify_url": "http://inbox.test/ann", "wait_seconds": 10 },
            { "name": "bob", "notify_url": "http://inbox.test/bob", "wait_seconds": 20 },
            { "name": "zoe", "wait_seconds": 30 },
        ],
    });
    host.run(human_interaction, serde_json::from_value(input).expect("an input"))
}

fn decides(by: &str, approved: bool) -> Decision {
    Decision { by: by.to_owned(), approved, comment: String::new() }
}

fn told(host: &TestHost) -> Vec<Value> {
    host.calls().iter().map(|call| call.input["json"]["approver"].clone()).collect()
}

#[test]
fn the_decision_of_the_first_approver_ends_it() {
    let host = host();
    host.signal(SECOND * 5, "decision", &decides("ann", false));
    assert_eq!(run(&host).unwrap(), decides("ann", false));
    assert_eq!(told(&host), ["ann"]);
    let body = &host.calls()[0].input["json"];
    assert_eq!((&body["instance"], &body["request"]), (&json!("test"), &json!({ "cents": 120_000 })));
    assert_eq!(host.statuses()[0].1["asked"], json!(["ann"]));
}

#[test]
fn a_decision_that_comes_before_the_wait_counts() {
    let host = host();
    host.signal(Duration::ZERO, "decision", &decides("ann", true));
    let start = host.now();
    assert_eq!(run(&host).unwrap(), decides("ann", true));
    assert_eq!(host.now(), start + SECOND);
}

#[test]
fn who_does_not_decide_in_time_is_passed_over_but_may_still_decide() {
    let host = host();
    let start = host.now();
    host.signal(SECOND * 40, "decision", &decides("ann", true));
    assert_eq!(run(&host).unwrap(), decides("ann", true));
    assert_eq!(told(&host), ["ann", "bob"]);
    let asked: Vec<_> = host.statuses().iter().map(|(at, status)| (at.since(start), status["asked"].clone())).collect();
    let expected = [(0, json!(["ann"])), (10, json!(["ann", "bob"])), (30, json!(["ann", "bob", "zoe"]))];
    assert_eq!(asked, expected.map(|(seconds, asked)| (SECOND * seconds, asked)));
}

#[test]
fn only_decisions_of_those_who_were_asked_count() {
    let host = host();
    host.signal(SECOND * 2, "decision", &json!("yes!"));
    host.signal(SECOND * 3, "decision", &decides("zoe", true));
    host.signal(SECOND * 4, "decision", &decides("ann", false));
    assert_eq!(run(&host).unwrap(), decides("ann", false));
    let log: Vec<String> = host.log().into_iter().map(|(_, line)| line).collect();
    assert!(log[0].starts_with("a signal is no decision") && log[1] == "`zoe` was not asked to decide", "{log:?}");
}

#[test]
fn an_approver_who_could_not_be_told_may_decide_all_the_same() {
    let host = host();
    host.signal(SECOND * 12, "decision", &decides("bob", true));
    assert_eq!(run(&host).unwrap(), decides("bob", true));
    assert!(host.log().iter().any(|(_, line)| line.contains("bob could not be told")), "{:?}", host.log());
}

#[test]
fn if_nobody_decides_it_has_timed_out() {
    let host = host();
    let start = host.now();
    let failure = run(&host).unwrap_err();
    assert!(failure.is_timed_out() && failure.message.contains("ann, bob, zoe"), "{failure}");
    assert_eq!(host.now(), start + SECOND * 60);
}

#[test]
fn a_request_to_cancel_ends_the_wait() {
    let host = host();
    host.cancel(SECOND * 15, "withdrawn");
    assert_eq!(run(&host).unwrap_err(), Failure::cancelled("withdrawn"));
}
