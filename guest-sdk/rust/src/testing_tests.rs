//! The whole SDK, natively: contexts, typed operations, timeouts and cancellation against the test host.

use super::*;
use futures::FutureExt;
use futures::future::join;
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn run<O, F>(host: &TestHost, flow: impl FnOnce(Context) -> F) -> Result<O, Failure>
where
    F: Future<Output = Result<O, Failure>>,
{
    host.run(|ctx, ()| flow(ctx), ())
}

#[test]
fn two_activities_run_at_once() {
    let host = TestHost::new();
    host.activity("wait", |call| Reply::ok(SECOND * u32::try_from(call.input.as_u64().unwrap()).unwrap(), &call.input));
    let start = host.now();
    let both = run(&host, |ctx| async move {
        let (a, b) = join(ctx.activity::<u64>("wait", &3), ctx.activity::<u64>("wait", &5)).await;
        Ok((a?, b?))
    });
    assert_eq!(both.unwrap(), (3, 5));
    assert_eq!(host.now(), start + SECOND * 5);
}

#[test]
fn all_gives_failures_beside_successes_in_order() {
    let host = TestHost::new();
    host.activity("even", |call| match call.input.as_u64().unwrap() {
        n if n % 2 == 0 => Reply::ok(SECOND, &n),
        n => Reply::fail(SECOND, Failure::application("odd", n.to_string())),
    });
    let outcomes = run(&host, |ctx| async move { Ok(ctx.all((0..4).map(|n| ctx.activity::<u64>("even", &n))).await) });
    let seen: Vec<Result<u64, String>> = outcomes.unwrap().into_iter().map(|o| o.map_err(|f| f.message)).collect();
    assert_eq!(seen, [Ok(0), Err("1".to_owned()), Ok(2), Err("3".to_owned())]);
}

#[test]
fn an_output_of_another_shape_is_a_failure_that_names_it() {
    let host = TestHost::new();
    host.activity("name", |_| Reply::ok(SECOND, &7));
    let failure = run(&host, |ctx| async move { ctx.activity::<String>("name", &()).await }).unwrap_err();
    assert_eq!(failure.code, "sdk.decode");
    assert!(failure.message.contains("the output of activity `name`"), "{failure}");
}

#[test]
fn a_callback_is_kept_when_it_comes_before_the_wait() {
    let host = TestHost::new();
    host.activity("submit", |call| Reply::ok(SECOND * 2, &()).and_post(SECOND, call.input.as_str().unwrap(), &"early"));
    let body = run(&host, |ctx| async move {
        let callback = ctx.callback::<String>("job");
        ctx.activity::<()>("submit", callback.url()).await?;
        callback.await
    });
    assert_eq!(body.unwrap(), "early");
}

#[test]
fn a_callback_expires_and_a_late_post_is_refused() {
    let host = TestHost::new();
    host.activity("submit", |call| Reply::ok(SECOND, &()).and_post(SECOND * 9, call.input.as_str().unwrap(), &1));
    let failure = run(&host, |ctx| async move {
        let callback = ctx.callback_within::<u64>("job", SECOND * 5);
        ctx.activity::<()>("submit", callback.url()).await?;
        let outcome = callback.await;
        ctx.sleep(SECOND * 10).await?;
        outcome
    });
    assert!(failure.unwrap_err().is_timed_out());
    assert_eq!(host.refused_posts().len(), 1);
}

#[test]
fn a_timeout_drops_what_is_late() {
    let host = TestHost::new();
    host.activity("slow", |_| Reply::never());
    let start = host.now();
    let outcome = run(&host, |ctx| async move { Ok(ctx.timeout(SECOND * 7, ctx.activity::<()>("slow", &())).await) });
    assert_eq!(outcome.unwrap(), Err(crate::Elapsed));
    assert_eq!(host.now(), start + SECOND * 7);
}

#[test]
fn a_signal_that_lost_a_race_is_given_back() {
    let host = TestHost::new();
    host.signal(SECOND, "word", "a");
    host.signal(SECOND * 2, "word", "b");
    let words = run(&host, |ctx| async move {
        let unread = ctx.signal::<String>("word");
        ctx.sleep(SECOND * 3).await?;
        drop(unread);
        Ok(ctx.signal::<String>("word").await? + &ctx.signal::<String>("word").await?)
    });
    assert_eq!(words.unwrap(), "ab");
}

#[test]
fn select_of_the_futures_crate_works() {
    let host = TestHost::new();
    host.signal(SECOND * 3, "stop", &true);
    let ticks = run(&host, |ctx| async move {
        let (mut ticks, mut stop) = (0, ctx.signal::<bool>("stop"));
        loop {
            futures::select_biased! {
                stopped = stop => { stopped?; return Ok(ticks); }
                tick = ctx.sleep(SECOND * 2).fuse() => { tick?; ticks += 1; }
            }
        }
    });
    assert_eq!(ticks.unwrap(), 1);
}

#[test]
fn an_instance_asked_to_cancel_can_undo_its_work() {
    let host = TestHost::new();
    host.activity("undo", |_| Reply::ok(SECOND, &json!(null)));
    host.cancel(SECOND, "no longer needed");
    let failure = run(&host, |ctx| async move {
        let waited = ctx.timeout(SECOND * 60, async {
            let cancelled = ctx.signal::<()>("never").await.unwrap_err();
            ctx.activity::<()>("undo", &()).await?;
            Err::<(), _>(cancelled)
        });
        waited.await?.map(|()| assert_eq!(ctx.cancel_requested(), None))
    });
    assert!(failure.unwrap_err().is_cancelled());
    assert_eq!(host.calls().len(), 1);
}

#[test]
fn a_timeout_still_holds_after_the_instance_was_asked_to_cancel() {
    let host = TestHost::new();
    host.activity("undo", |_| Reply::never());
    host.cancel(SECOND, "no longer needed");
    let start = host.now();
    let failure = run(&host, |ctx| async move {
        let undo = async {
            let _ = ctx.signal::<()>("never").await;
            ctx.activity::<()>("undo", &()).await
        };
        ctx.timeout(SECOND * 60, undo).await?
    });
    assert!(failure.unwrap_err().is_timed_out());
    assert_eq!(host.now(), start + SECOND * 60);
}

#[test]
fn a_started_activity_can_be_cancelled() {
    let host = TestHost::new();
    host.activity("slow", |_| Reply::never());
    let failure = run(&host, |ctx| async move {
        let slow = ctx.activity::<()>("slow", &()).start();
        slow.cancel();
        slow.await
    });
    assert!(failure.unwrap_err().is_cancelled());
}

#[test]
fn waiting_for_anything_else_is_a_clear_failure() {
    let failure = run(&TestHost::new(), |_| std::future::pending::<Result<(), Failure>>()).unwrap_err();
    assert_eq!(failure.code, "sdk.deadlock");
}

#[test]
fn random_and_status_and_log_reach_the_host() {
    let host = TestHost::new();
    run(&host, |ctx| async move {
        assert_ne!(ctx.random_u64(), ctx.random_u64());
        assert_eq!(ctx.uuid().len(), 36);
        ctx.log(Level::Warn, "odd");
        ctx.set_status(&json!({"step": 1}))
    })
    .unwrap();
    assert_eq!(host.log(), [(Level::Warn, "odd".to_owned())]);
    assert_eq!(host.statuses(), [(host.now(), json!({"step": 1}))]);
}
