//! Children, messages to other instances and continue-as-new, natively against the test host.

use super::*;
use crate::testing::Reply;
use futures::future::join;
use futures::{FutureExt, select_biased};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn run<O, F>(host: &TestHost, flow: impl FnOnce(Context) -> F) -> Result<O, Failure>
where
    F: Future<Output = Result<O, Failure>>,
{
    host.run(|ctx, ()| flow(ctx), ())
}

fn doubling() -> TestHost {
    let host = TestHost::new();
    host.child("double", |child| Reply::ok(SECOND * 2, &(child.input.as_u64().unwrap() * 2)));
    host
}

#[test]
fn a_child_is_started_with_its_options_and_gives_its_output() {
    let host = doubling();
    let output = run(&host, |ctx| async move {
        let call = ctx.child::<u64>("double", &4).id("child-1").version("2").parent_close(ParentClose::Abandon);
        call.retry(RetryPolicy::attempts(3)).await
    });
    assert_eq!(output, Ok(8));
    let [child] = &host.children()[..] else { panic!("one child") };
    assert_eq!((child.id.as_str(), child.version.as_deref()), ("child-1", Some("2")));
    assert_eq!((child.parent_close, child.retry.clone()), (ParentClose::Abandon, Some(RetryPolicy::attempts(3))));
    assert_eq!((&child.input, child.detached, child.given_up), (&json!(4), false, false));
}

#[test]
fn children_run_at_once_and_have_ids_of_their_own() {
    let host = doubling();
    let start = host.now();
    let outputs = run(&host, |ctx| async move {
        let started = ctx.child::<u64>("double", &1).start();
        assert_eq!(started.id().len(), 36);
        let (one, many) = join(started, ctx.all((2..5).map(|n| ctx.child::<u64>("double", &n)))).await;
        Ok((one?, many.into_iter().collect::<Result<Vec<_>, _>>()?))
    });
    assert_eq!(outputs, Ok((2, vec![4, 6, 8])));
    assert_eq!(host.now(), start + SECOND * 2);
    let ids: std::collections::BTreeSet<String> = host.children().into_iter().map(|child| child.id).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_child_that_loses_a_race_is_given_up() {
    let host = doubling();
    run(&host, |ctx| async move {
        let mut child = ctx.child::<u64>("double", &1);
        select_biased! {
            _ = child => panic!("the timer is earlier"),
            fired = ctx.sleep(SECOND).fuse() => fired?,
        }
        drop(child);
        assert_eq!(ctx.child::<u64>("double", &2).await, Ok(4));
        Ok(())
    })
    .unwrap();
    let given_up: Vec<bool> = host.children().iter().map(|child| child.given_up).collect();
    assert_eq!(given_up, [true, false]);
}

#[test]
fn a_child_that_is_cancelled_settles_at_once() {
    let host = doubling();
    let failure = run(&host, |ctx| async move {
        let child = ctx.child::<u64>("double", &1).start();
        child.cancel();
        child.await
    });
    assert!(failure.unwrap_err().is_cancelled());
    assert!(host.children()[0].given_up);
}

#[test]
fn a_childs_failure_and_a_missing_workflow_are_failures() {
    let host = TestHost::new();
    host.child("fail", |_| Reply::fail(SECOND, Failure::application("broken", "it broke")));
    host.child("text", |_| Reply::ok(SECOND, "no number"));
    let code =
        |workflow: &'static str| run(&host, |ctx| async move { ctx.child::<u64>(workflow, &()).await }).unwrap_err();
    assert_eq!(code("fail").code, "broken");
    assert_eq!(code("other").kind, crate::FailureKind::NotFound);
    let failure = code("text");
    assert_eq!(failure.code, "sdk.decode");
    assert!(failure.message.contains("the output of child workflow `text`"), "{failure}");
}

#[test]
fn a_child_can_be_the_real_workflow_on_a_host_of_its_own() {
    async fn inner(ctx: Context, n: u64) -> Result<u64, Failure> {
        ctx.sleep(SECOND * 3).await?;
        Ok(n + 1)
    }
    let host = TestHost::new();
    host.child("inner", |child| {
        let own = TestHost::new();
        let start = own.now();
        match own.run(inner, child.input.as_u64().unwrap()) {
            Ok(output) => Reply::ok(own.now().since(start), &output),
            Err(failure) => Reply::fail(own.now().since(start), failure),
        }
    });
    let start = host.now();
    assert_eq!(run(&host, |ctx| async move { ctx.child::<u64>("inner", &6).await }), Ok(7));
    assert_eq!(host.now(), start + SECOND * 3);
}

#[test]
fn a_detached_instance_is_started_and_not_waited_for() {
    let host = TestHost::new();
    run(&host, |ctx| async move {
        ctx.start_detached("report", "report-1", &json!({"day": 1}));
        ctx.child::<()>("report", &2).version("7").detach().await
    })
    .unwrap();
    let [first, second] = &host.children()[..] else { panic!("two instances") };
    assert_eq!((first.id.as_str(), first.detached, first.given_up), ("report-1", true, false));
    assert_eq!((second.version.as_deref(), second.id.len()), (Some("7"), 36));
}

#[test]
fn messages_to_others_are_sent_whether_or_not_they_are_awaited() {
    let host = TestHost::new();
    host.no_instance("gone");
    run(&host, |ctx| async move {
        ctx.instance("a").signal("paid", &125);
        ctx.instance("b").cancel("too late").await?;
        let failure = ctx.instance("gone").signal("paid", &1).await.unwrap_err();
        assert_eq!(failure.kind, crate::FailureKind::NotFound);
        Ok(())
    })
    .unwrap();
    let signal = |instance: &str, payload: u32| {
        let (instance, name) = (instance.to_owned(), "paid".to_owned());
        Sent::Signal { instance, name, payload: payload.into() }
    };
    let cancel = Sent::Cancel { instance: "b".to_owned(), reason: "too late".to_owned() };
    assert_eq!(host.sent(), [signal("a", 125), cancel, signal("gone", 1)]);
}

#[test]
fn a_payload_that_is_no_json_is_not_sent_and_leaves_a_line_in_the_log() {
    let host = TestHost::new();
    let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let failure = run(&host, |ctx| async move { ctx.instance("a").signal("paid", &unwritable).await }).unwrap_err();
    assert_eq!(failure.code, "sdk.encode");
    assert_eq!(host.sent(), []);
    assert!(host.log()[0].1.contains("nothing was sent to instance `a`"));
}

async fn count_down(ctx: Context, left: u32) -> Result<u32, Failure> {
    ctx.signal::<()>("tick").await?;
    match left.checked_sub(1) {
        Some(left) => ctx.continue_as_new(&left),
        None => Ok(ctx.info().run),
    }
}

#[test]
fn a_workflow_that_continues_says_so_with_the_next_input() {
    let host = TestHost::new();
    host.signal(SECOND, "tick", &());
    let failure = host.run(count_down, 1).unwrap_err();
    assert!(failure.is_continue_as_new());
    assert_eq!(host.continued(), Some(Continued { input: json!(0), newest_version: true }));
}

#[test]
fn signals_that_were_not_taken_go_with_the_next_run() {
    let host = TestHost::new();
    for _ in 0..4 {
        host.signal(SECOND, "tick", &());
    }
    assert_eq!(host.run_all(count_down, 3), Ok(4));
    assert_eq!(host.continued(), None);
}

#[test]
fn what_is_returned_beside_continuing_is_not_used() {
    let host = TestHost::new();
    let outcome = run(&host, |ctx| async move {
        let _: Result<(), Failure> = ctx.continue_as_new_same_version(&"next");
        Ok(7)
    });
    assert!(outcome.unwrap_err().is_continue_as_new());
    assert_eq!(host.continued(), Some(Continued { input: json!("next"), newest_version: false }));
}

#[test]
fn an_input_that_is_no_json_does_not_continue() {
    let host = TestHost::new();
    let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
    let outcome = run(&host, |ctx| async move { ctx.continue_as_new::<()>(&unwritable) });
    assert_eq!(outcome.unwrap_err().code, "sdk.encode");
    assert_eq!(host.continued(), None);
}
