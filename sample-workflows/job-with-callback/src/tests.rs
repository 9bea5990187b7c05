//! The workflow against a job service that is a closure, in virtual time.

use super::*;
use rehydrate::testing::{Call, Reply, TestHost};
use rehydrate::{FailureKind, Timestamp};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the service does with the n-th submission; cancellations always succeed.
fn host(mut submit: impl FnMut(u64, &str) -> Reply + 'static) -> TestHost {
    let host = TestHost::new();
    let mut count = 0;
    host.activity("http", move |call| {
        if path(call) != "submit" {
            return Reply::ok(SECOND, &json!({"status": 200, "headers": {}, "json": {}, "text": null}));
        }
        count += 1;
        submit(count, call.input["json"]["callback_url"].as_str().expect("a callback URL"))
    });
    host
}

fn path(call: &Call) -> &str {
    call.input["url"].as_str().and_then(|url| url.rsplit('/').next()).expect("a URL")
}

fn taken(after: Duration, run_id: u64) -> Reply {
    Reply::ok(after, &json!({"status": 200, "headers": {}, "json": {"run_id": run_id}, "text": null}))
}

fn report(run_id: u64, state: &str) -> Value {
    json!({"run_id": run_id, "state": state, "result": {"rows": 7}, "message": format!("it was a {state}")})
}

fn run(host: &TestHost, retry_limit: u32) -> Result<Output, Failure> {
    run_kind(host, retry_limit, None)
}

fn run_kind(host: &TestHost, retry_limit: u32, kind: Option<&str>) -> Result<Output, Failure> {
    let input = json!({
        "job": "nightly", "timeout_seconds": TIMEOUT.as_secs(), "retry_limit": retry_limit,
        "service_url": "http://jobs.test/", "backoff_seconds": 2, "kind": kind,
    });
    host.run(job_with_callback, serde_json::from_value(input).expect("an input"))
}

fn states(attempts: &[Attempt]) -> Vec<State> {
    attempts.iter().map(|attempt| attempt.state).collect()
}

fn attempts_of(failure: &Failure) -> Vec<Attempt> {
    let details = failure.details.clone().expect("details");
    serde_json::from_value(details["attempts"].clone()).expect("attempts")
}

/// The paths and bodies that the service got.
fn requests(host: &TestHost) -> Vec<(String, Value)> {
    host.calls().iter().map(|call| (path(call).to_owned(), call.input["json"].clone())).collect()
}

#[test]
fn a_job_that_calls_back_in_time_succeeds_at_the_first_attempt() {
    let host = host(|n, url| taken(SECOND, n).and_post(SECOND * 5, url, &report(n, "SUCCESS")));
    let start = host.now();
    let output = run(&host, 0).expect("success");
    assert_eq!(output.result, json!({"rows": 7}));
    let expected = Attempt {
        attempt: 1,
        state: State::CallbackSuccess,
        started: start,
        state_set: start + SECOND * 5,
        timeout_due: Some(start + TIMEOUT),
        message: "it was a SUCCESS".to_owned(),
        run_id: Some(1),
    };
    assert_eq!(output.attempts, [expected]);
    let calls = host.calls();
    assert_eq!(calls[0].input["url"], "http://jobs.test/api/2.1/jobs/runs/submit");
    assert_eq!(calls[0].input["json"]["idempotency_token"], "test-1-1");
}

#[test]
fn every_state_was_published() {
    let host = host(|n, url| taken(SECOND, n).and_post(SECOND * 5, url, &report(n, "SUCCESS")));
    run(&host, 0).expect("success");
    let start = host.statuses()[0].0;
    let seen = host.statuses();
    let seen: Vec<(Timestamp, &str)> =
        seen.iter().map(|(at, status)| (*at, status["attempts"][0]["state"].as_str().expect("a state"))).collect();
    let expected = [
        (start, "new"),
        (start, "executing"),
        (start + SECOND, "waiting-for-callback"),
        (start + SECOND * 5, "callback-success"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_timed_out_job_is_cancelled_by_its_run_and_tried_again_after_the_backoff() {
    let host = host(|n, url| match n {
        1 => taken(SECOND, 41),
        _ => taken(SECOND, 42).and_post(SECOND * 3, url, &report(42, "SUCCESS")),
    });
    let start = host.now();
    let output = run(&host, 1).expect("success at the second attempt");
    assert_eq!(states(&output.attempts), [State::TimedOut, State::CallbackSuccess]);
    assert_eq!(output.attempts[0].state_set, start + TIMEOUT);
    // 1 s for the cancellation, 2 s of backoff.
    assert_eq!(output.attempts[1].started, start + TIMEOUT + SECOND * 3);
    let requests = requests(&host);
    assert_eq!(requests[1], ("cancel".to_owned(), json!({"run_id": 41})));
    assert_eq!(requests[2].1["idempotency_token"], "test-1-2");
    assert_ne!(requests[0].1["callback_url"], requests[2].1["callback_url"]);
}

#[test]
fn the_timeout_counts_from_dispatch_even_if_the_service_does_not_answer() {
    let host = host(|_, _| Reply::never());
    let start = host.now();
    let failure = run(&host, 0).expect_err("no answer");
    assert_eq!(attempts_of(&failure)[0].state_set, start + TIMEOUT);
    assert_eq!(requests(&host)[1], ("cancel".to_owned(), json!({"idempotency_token": "test-1-1"})));
}

#[test]
fn a_callback_before_the_services_own_answer_counts() {
    let host = host(|n, url| taken(SECOND * 5, n).and_post(SECOND, url, &report(n, "SUCCESS")));
    let output = run(&host, 0).expect("success");
    assert_eq!((output.attempts[0].state, output.attempts[0].run_id), (State::CallbackSuccess, Some(1)));
}

#[test]
fn a_late_callback_never_completes_a_later_attempt() {
    let host = host(|n, url| taken(SECOND, n).and_post(SECOND * 14, url, &report(n, "SUCCESS")));
    let failure = run(&host, 1).expect_err("both are late");
    assert_eq!(failure.code, "job.attempts-exhausted");
    assert_eq!(states(&attempts_of(&failure)), [State::TimedOut, State::TimedOut]);
    assert_eq!(host.refused_posts().len(), 1, "the first came during the second attempt");
}

#[test]
fn an_error_of_the_service_fails_the_attempt_at_once() {
    let host = host(|_, _| Reply::fail(SECOND, Failure::application("http.status-500", "the service said 500")));
    let start = host.now();
    let failure = run(&host, 1).expect_err("exhausted");
    let attempts = attempts_of(&failure);
    assert_eq!(states(&attempts), [State::ExecutionFailed, State::ExecutionFailed]);
    assert_eq!(attempts[0].state_set, start + SECOND);
    assert_eq!(attempts[0].message, "http.status-500: the service said 500");
    assert!(requests(&host).iter().all(|(path, _)| path == "submit"), "there is nothing to cancel");
    let retry = host.calls()[0].options.retry.clone().expect("a policy");
    assert_eq!(retry.non_retryable, ["http.status-500"]);
}

#[test]
fn a_submission_without_an_answer_is_cancelled_by_its_token() {
    let host = host(|_, _| Reply::fail(SECOND, Failure::timed_out("no answer")));
    run(&host, 0).expect_err("exhausted");
    assert_eq!(requests(&host)[1], ("cancel".to_owned(), json!({"idempotency_token": "test-1-1"})));
}

#[test]
fn a_job_that_reports_failure_is_tried_again() {
    let host = host(|n, url| {
        let state = if n == 3 { "SUCCESS" } else { "FAILED" };
        taken(SECOND, n).and_post(SECOND * 2, url, &report(n, state))
    });
    let output = run(&host, 2).expect("success at the third attempt");
    use State::{CallbackFailure, CallbackSuccess};
    assert_eq!(states(&output.attempts), [CallbackFailure, CallbackFailure, CallbackSuccess]);
    assert_eq!(output.attempts[0].message, "it was a FAILED");
}

#[test]
fn a_rejected_callback_and_a_body_that_is_no_report_are_failures() {
    let host = host(|n, url| match n {
        1 => taken(SECOND, n).and_reject(SECOND * 2, url, Failure::application("out-of-disk", "no space")),
        _ => taken(SECOND, n).and_post(SECOND * 2, url, &json!([1, 2])),
    });
    let attempts = attempts_of(&run(&host, 1).expect_err("exhausted"));
    assert_eq!(states(&attempts), [State::CallbackFailure, State::CallbackFailure]);
    assert_eq!(attempts[0].message, "out-of-disk: no space");
    assert!(attempts[1].message.contains("no job report"), "{}", attempts[1].message);
}

#[test]
fn a_cancellation_that_fails_is_only_logged() {
    let host = TestHost::new();
    host.activity("http", |call| match path(call) {
        "submit" => taken(SECOND, 1),
        _ => Reply::fail(SECOND, Failure::application("http.status-500", "down")),
    });
    let failure = run(&host, 1).expect_err("exhausted");
    assert_eq!(failure.code, "job.attempts-exhausted");
    assert_eq!(host.log().len(), 2);
}

#[test]
fn an_instance_asked_to_cancel_cancels_its_job() {
    let host = host(|n, _| taken(SECOND, n));
    host.cancel(SECOND * 3, "no longer needed");
    let failure = run(&host, 5).expect_err("cancelled");
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(requests(&host)[1], ("cancel".to_owned(), json!({"run_id": 1})));
    assert_eq!(states(&attempts_of(&failure)), [State::WaitingForCallback]);
}

/// The first submission gets no callback, the second one does.
fn late_once() -> TestHost {
    host(|n, url| match n {
        1 => taken(SECOND, 1),
        n => taken(SECOND, n).and_post(SECOND * 3, url, &report(n, "SUCCESS")),
    })
}

#[test]
fn the_attempts_of_a_kind_are_at_one_place() {
    let host = late_once();
    host.entity::<job_attempts::Attempts>("attempts");
    let output = run_kind(&host, 1, Some("reports")).expect("success at the second attempt");
    let kept: Vec<job_attempts::Attempt> = host.call_entity("attempts", "reports", "of", "test").expect("attempts");
    let mut seen = serde_json::to_value(&kept).expect("JSON");
    for attempt in seen.as_array_mut().expect("a list") {
        assert_eq!((attempt["instance"].take(), attempt["run"].take()), (json!("test"), json!(1)));
        attempt.as_object_mut().expect("an object").retain(|name, _| name != "instance" && name != "run");
    }
    assert_eq!(seen, serde_json::to_value(&output.attempts).expect("JSON"), "the same as in the output");
}

#[test]
fn a_job_runs_as_ever_where_nobody_collects_attempts() {
    let expected = run(&late_once(), 1).expect("success").attempts;
    let host = late_once();
    assert_eq!(run_kind(&host, 1, Some("reports")).expect("success").attempts, expected);
    assert_eq!(host.sent().len(), 8, "every change of both attempts was signalled");
}

#[test]
fn a_kind_that_no_entity_can_have_is_refused() {
    for kind in ["a/b".to_owned(), "a#b".to_owned(), "x".repeat(201)] {
        assert_eq!(run_kind(&TestHost::new(), 0, Some(&kind)).expect_err("refused").code, "job.input");
    }
}

#[test]
fn the_backoff_doubles_up_to_five_minutes() {
    let input = json!({"job": 1, "timeout_seconds": 0.5, "retry_limit": 9, "service_url": "x", "backoff_seconds": 2});
    let plan = serde_json::from_value::<Input>(input).expect("an input").check().expect("a plan");
    assert_eq!([2, 3, 4, 1001].map(|n| plan.backoff_before(n).as_secs()), [2, 4, 8, 300]);
}

#[test]
fn an_input_that_can_not_be_meant_is_refused() {
    for (timeout, retries) in [(0.0, 1), (-1.0, 1), (1e30, 1), (1.0, 1001)] {
        let input = json!({"job": 1, "timeout_seconds": timeout, "retry_limit": retries, "service_url": "x"});
        let failure = serde_json::from_value::<Input>(input).expect("an input").check().expect_err("refused");
        assert_eq!(failure.code, "job.input");
    }
}
