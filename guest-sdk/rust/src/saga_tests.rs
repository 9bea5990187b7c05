//! Sagas against the test host: what is undone, in which order, and what is told.

use crate::testing::{Reply, TestHost};
use crate::{Context, Failure, FailureKind, Level};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A host where every activity takes a second; `fails` says which of them fail.
fn host(fails: &'static [&'static str]) -> TestHost {
    let host = TestHost::new();
    for name in ["do-a", "do-b", "do-c", "undo-a", "undo-b", "undo-c"] {
        host.activity(name, move |call| match fails.contains(&name) {
            true => Reply::fail(SECOND, Failure::application(format!("{name}-failed"), "on purpose")),
            false if name.starts_with("undo") => Reply::ok(SECOND, &()),
            false => Reply::ok(SECOND, &format!("{}{}", call.input.as_str().unwrap(), &name[3..])),
        });
    }
    host
}

/// Steps a and b, each undone by its output, then c, whose compensation is registered before it.
async fn three_steps(ctx: Context, order: String) -> Result<String, Failure> {
    ctx.saga(async |saga| {
        let a: String = saga.step("a", ctx.activity("do-a", &order), |a| ctx.activity("undo-a", &a)).await?;
        let b: String = saga.step("b", ctx.activity("do-b", &a), |b| ctx.activity("undo-b", &b)).await?;
        saga.compensate("c", || ctx.activity("undo-c", &order))?;
        ctx.activity("do-c", &b).await
    })
    .await
}

fn run(host: &TestHost) -> Result<String, Failure> {
    host.run(three_steps, "7-".to_owned())
}

/// The activities scheduled, with their inputs.
fn calls(host: &TestHost) -> Vec<(String, Value)> {
    host.calls().into_iter().map(|call| (call.name, call.input)).collect()
}

fn names(host: &TestHost) -> Vec<String> {
    host.calls().into_iter().map(|call| call.name).collect()
}

#[test]
fn a_saga_that_comes_to_its_end_undoes_nothing() {
    let host = host(&[]);
    assert_eq!(run(&host).unwrap(), "7-abc");
    assert_eq!(names(&host), ["do-a", "do-b", "do-c"]);
    assert!(host.log().is_empty(), "{:?}", host.log());
}

#[test]
fn what_was_done_is_undone_in_reverse_order_with_its_own_output() {
    let host = host(&["do-c"]);
    assert_eq!(run(&host).unwrap_err(), Failure::application("do-c-failed", "on purpose"));
    let expected = [("undo-c", "7-"), ("undo-b", "7-ab"), ("undo-a", "7-a")];
    let expected = expected.map(|(name, input)| (name.to_owned(), json!(input)));
    assert_eq!(calls(&host)[3..], expected);
}

#[test]
fn compensations_run_one_after_the_other() {
    let host = host(&["do-c"]);
    let start = host.now();
    run(&host).unwrap_err();
    assert_eq!(host.now(), start + SECOND * 6);
}

#[test]
fn a_step_that_failed_is_not_undone_but_those_before_it_are() {
    let first = host(&["do-a"]);
    assert_eq!(run(&first).unwrap_err().code, "do-a-failed");
    assert_eq!(names(&first), ["do-a"]);
    let second = host(&["do-b"]);
    assert_eq!(run(&second).unwrap_err().code, "do-b-failed");
    assert_eq!(names(&second), ["do-a", "do-b", "undo-a"]);
}

#[test]
fn compensations_that_fail_are_all_told_beside_the_cause() {
    let host = host(&["do-c", "undo-c", "undo-a"]);
    let failure = run(&host).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.kind), ("saga.compensation-failed", FailureKind::Application));
    assert!(failure.message.ends_with("what could not be undone: c, a"), "{failure}");
    let told = |code: &str| json!({"kind": "application", "code": code, "message": "on purpose", "retryable": false});
    let expected = json!({
        "cause": told("do-c-failed"),
        "undone": ["b"],
        "failed": [
            {"step": "c", "failure": told("undo-c-failed")},
            {"step": "a", "failure": told("undo-a-failed")},
        ],
    });
    assert_eq!(failure.details, Some(expected));
}

#[test]
fn a_request_to_cancel_undoes_what_was_done_and_ends_as_cancelled() {
    let host = host(&[]);
    host.cancel(SECOND * 3 / 2, "not wanted any more");
    let failure = run(&host).unwrap_err();
    assert_eq!(failure, Failure::cancelled("not wanted any more"));
    assert_eq!(names(&host), ["do-a", "do-b", "undo-a"]);
}

#[test]
fn a_step_cancelled_under_way_is_undone_if_it_was_registered_before() {
    let host = host(&[]);
    host.cancel(SECOND * 5 / 2, "not wanted any more");
    assert!(run(&host).unwrap_err().is_cancelled());
    assert_eq!(names(&host)[2..], ["do-c", "undo-c", "undo-b", "undo-a"]);
}

#[test]
fn a_compensation_ended_by_a_request_to_cancel_runs_again() {
    let host = host(&["do-b"]);
    host.cancel(SECOND * 5 / 2, "too late");
    assert_eq!(run(&host).unwrap_err().code, "do-b-failed");
    assert_eq!(names(&host), ["do-a", "do-b", "undo-a", "undo-a"]);
}

#[test]
fn a_compensation_that_fails_after_a_request_to_cancel_does_not_run_again() {
    let host = host(&["undo-a"]);
    host.cancel(SECOND * 3 / 2, "not wanted any more");
    let failure = run(&host).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Application);
    assert_eq!(failure.details.unwrap()["cause"]["kind"], "cancelled");
    assert_eq!(names(&host), ["do-a", "do-b", "undo-a"]);
}

#[test]
fn no_step_begins_after_a_request_to_cancel_even_if_the_body_goes_on() {
    let host = host(&[]);
    host.cancel(SECOND, "stop");
    let flow = |ctx: Context, ()| async move {
        ctx.saga(async |saga| {
            saga.compensate("c", || ctx.activity("undo-c", &"c"))?;
            // A body that does not look at how its wait ended.
            let _ = ctx.sleep(SECOND * 10).await;
            let refused = saga.compensate("b", || ctx.activity("undo-b", &"b"));
            assert_eq!(refused, Err(Failure::cancelled("stop")));
            saga.step("a", ctx.activity::<String>("do-a", &"x"), async |_| Ok(())).await
        })
        .await
    };
    assert_eq!(host.run(flow, ()).unwrap_err(), Failure::cancelled("stop"));
    assert_eq!(names(&host), ["undo-c"]);
}

#[test]
fn steps_may_run_at_once_and_are_undone_as_they_ended() {
    let host = host(&["do-c"]);
    host.activity("do-a", |_| Reply::ok(SECOND * 3, &"slow"));
    let flow = |ctx: Context, ()| async move {
        ctx.saga(async |saga| {
            let a = saga.step("a", ctx.activity::<String>("do-a", &"1"), |a| ctx.activity("undo-a", &a));
            let b = saga.step("b", ctx.activity::<String>("do-b", &"1"), |b| ctx.activity("undo-b", &b));
            let (a, b) = futures::join!(a, b);
            ctx.activity::<String>("do-c", &(a?, b?)).await
        })
        .await
    };
    host.run(flow, ()).unwrap_err();
    assert_eq!(names(&host), ["do-a", "do-b", "do-c", "undo-a", "undo-b"]);
}

#[test]
fn a_saga_that_is_dropped_says_what_it_leaves_behind() {
    let host = host(&[]);
    let flow = |ctx: Context, ()| async move {
        let endless = ctx.saga(async |saga| {
            saga.step("a", ctx.activity::<String>("do-a", &"1"), |a| ctx.activity("undo-a", &a)).await?;
            ctx.sleep(SECOND * 100).await
        });
        ctx.timeout(SECOND * 2, endless).await?
    };
    assert!(host.run(flow, ()).unwrap_err().is_timed_out());
    let expected = "a saga was dropped before its end; not undone: a";
    assert_eq!(host.log(), [(Level::Error, expected.to_owned())]);
    assert_eq!(names(&host), ["do-a"]);
}
