//! Entities, natively: real ones and closures, calls, signals and locks.

use super::*;
use crate::{Context, Elapsed};
use futures::future::join;
use serde::Deserialize;
use serde_json::json;
use std::future::Future;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default, Serialize, Deserialize)]
struct Account {
    cents: i64,
}

#[rehydrate::entity]
impl Account {
    fn deposit(&mut self, cents: i64) -> Result<i64, Failure> {
        self.cents += cents;
        Ok(self.cents)
    }

    fn withdraw(&mut self, ctx: EntityContext, cents: i64) -> Result<i64, Failure> {
        ctx.set("last", &cents)?;
        ctx.signal_entity(&EntityId::new("account", "fees"), "deposit", &1)?;
        self.cents -= cents + 1;
        if self.cents < 0 {
            return Err(Failure::application("insufficient", "that is too much"));
        }
        Ok(self.cents)
    }

    fn get(&self) -> Result<i64, Failure> {
        Ok(self.cents)
    }

    fn who(&self, ctx: EntityContext) -> Result<OperationInfo, Failure> {
        Ok(ctx.info())
    }

    fn tell(&self, ctx: EntityContext, instance: String) -> Result<(), Failure> {
        ctx.signal_instance(&instance, "balance", &self.cents)?;
        ctx.start("audit", "audit-1", &self.cents)
    }

    fn close(self) -> Result<i64, Failure> {
        Ok(self.cents)
    }

    fn r#loop(&self) -> Result<&'static str, Failure> {
        Ok("a keyword is a name too")
    }

    fn keys(&self, ctx: EntityContext) -> Result<Vec<String>, Failure> {
        Ok(ctx.keys())
    }
}

fn host() -> TestHost {
    let host = TestHost::new();
    host.entity::<Account>("account");
    host
}

fn run<O, F>(host: &TestHost, flow: impl FnOnce(Context) -> F) -> Result<O, Failure>
where
    F: Future<Output = Result<O, Failure>>,
{
    host.run(|ctx, ()| flow(ctx), ())
}

#[test]
fn operations_change_the_state_in_order() {
    let host = host();
    let balance = run(&host, |ctx| async move {
        let ann = ctx.entity("account", "ann");
        ann.signal("deposit", &10)?;
        let (a, b) = join(ann.call::<i64>("deposit", &5), ann.call::<i64>("get", &())).await;
        assert_eq!((a?, b?), (15, 15));
        ctx.entity("account", "bob").call::<i64>("get", &()).await
    });
    assert_eq!(balance, Ok(0));
    assert_eq!(host.entity_state("account", "ann"), Some(json!({"cents": 15})));
    assert_eq!(host.entity_state("account", "bob"), None, "it was only read");
}

#[test]
fn what_an_operation_does_counts_as_a_whole_or_not_at_all() {
    let host = host();
    assert_eq!(host.call_entity::<i64>("account", "ann", "deposit", &10), Ok(10));
    assert_eq!(host.call_entity::<i64>("account", "ann", "withdraw", &10).unwrap_err().code, "insufficient");
    assert_eq!(host.call_entity::<i64>("account", "fees", "get", &()), Ok(0));
    assert_eq!(host.entity_values("account", "ann"), BTreeMap::from([("state".to_owned(), json!({"cents": 10}))]));
    assert_eq!(host.call_entity::<i64>("account", "ann", "withdraw", &4), Ok(5));
    assert_eq!(host.call_entity::<i64>("account", "fees", "get", &()), Ok(1));
    assert_eq!(host.call_entity::<Vec<String>>("account", "ann", "keys", &()).unwrap(), ["last", "state"]);
}

#[test]
fn an_operation_knows_who_asked() {
    let host = host();
    let info = host.call_entity::<OperationInfo>("account", "ann", "who", &()).unwrap();
    assert_eq!(info, OperationInfo { entity: EntityId::new("account", "ann"), caller: None, is_call: true });
    let own = run(&host, |ctx| async move { ctx.entity("account", "ann").call::<OperationInfo>("who", &()).await });
    assert_eq!(own.unwrap().caller.as_deref(), Some("test"));
}

#[test]
fn an_operation_that_takes_self_and_the_built_in_delete_remove_the_state() {
    let host = host();
    host.call_entity::<i64>("account", "ann", "deposit", &10).unwrap();
    host.call_entity::<i64>("account", "ann", "withdraw", &1).unwrap();
    assert_eq!(host.call_entity::<i64>("account", "ann", "close", &()), Ok(8));
    assert_eq!(host.entity_values("account", "ann"), BTreeMap::from([("last".to_owned(), json!(1))]));
    assert_eq!(host.call_entity::<()>("account", "ann", "delete", &()), Ok(()));
    assert_eq!(host.entity_values("account", "ann"), BTreeMap::new());
}

#[test]
fn an_unknown_operation_names_those_there_are_and_a_keyword_can_be_one() {
    let host = host();
    let failure = host.call_entity::<()>("account", "ann", "Deposit", &1).unwrap_err();
    assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::NotFound, "sdk.no-such-operation"));
    assert!(
        failure.message.contains("@account@ann") && failure.message.contains("deposit, withdraw, get"),
        "{failure}"
    );
    assert_eq!(host.call_entity::<String>("account", "ann", "loop", &()).unwrap(), "a keyword is a name too");
    assert_eq!(host.call_entity::<()>("account", "ann", "deposit", "much").unwrap_err().code, "sdk.decode");
}

#[test]
fn a_name_that_has_no_entity_fails_calls_and_drops_signals() {
    let host = TestHost::new();
    let failure = run(&host, |ctx| async move {
        ctx.entity("account", "ann").signal("deposit", &1)?;
        ctx.entity("account", "ann").call::<i64>("get", &()).await
    });
    assert_eq!(failure.unwrap_err().kind, FailureKind::NotFound);
    let sent = |operation: &str, input: Value, is_call| {
        let (entity, operation) = (EntityId::new("account", "ann"), operation.to_owned());
        Sent::Operation { entity, operation, input, is_call }
    };
    assert_eq!(host.sent(), [sent("deposit", json!(1), false), sent("get", json!(null), true)]);
}

#[test]
fn an_entity_can_signal_the_workflow_and_start_another() {
    let host = host();
    let balance = run(&host, |ctx| async move {
        let ann = ctx.entity("account", "ann");
        ann.signal("deposit", &7)?;
        ann.signal("tell", &ctx.info().instance_id)?;
        ctx.signal::<i64>("balance").await
    });
    assert_eq!(balance, Ok(7));
    assert_eq!((host.children()[0].id.as_str(), host.children()[0].detached), ("audit-1", true));
}

#[test]
fn a_closure_can_be_an_entity_and_use_the_host() {
    let host = TestHost::new();
    let outside = host.clone();
    host.entity_with("clock", move |ctx, operation, input| match operation {
        "now" => Ok(json!(outside.now())),
        "keep" => ctx.set("kept", &input).map(|()| Value::Null),
        _ => Err(Failure::rejected("other", "no")),
    });
    assert_eq!(host.call_entity::<String>("clock", "", "now", &()).unwrap(), "2026-01-01T00:00:00Z");
    host.call_entity::<()>("clock", "", "keep", &"x").unwrap();
    assert_eq!(host.entity_values("clock", "")["kept"], "x");
}

#[test]
fn while_the_lock_is_held_others_wait() {
    let host = host();
    host.signal_entity(SECOND, "account", "ann", "deposit", &100);
    let seen = run(&host, |ctx| async move {
        let (ann, bob) = (ctx.entity("account", "ann"), ctx.entity("account", "bob"));
        let lock = ctx.lock([&bob, &ann]).await?;
        ann.call::<i64>("deposit", &10).await?;
        ctx.sleep(SECOND * 2).await?;
        let inside = ann.call::<i64>("get", &()).await?;
        drop(lock);
        Ok((inside, ann.call::<i64>("get", &()).await?))
    });
    assert_eq!(seen, Ok((10, 110)));
}

#[test]
fn a_lock_waits_for_another_workflows_lock_and_can_be_given_up() {
    let host = host();
    host.hold_entity("account", "bob", SECOND * 5);
    let start = host.now();
    let waited = run(&host, |ctx| async move {
        let both = [ctx.entity("account", "ann"), ctx.entity("account", "bob")];
        let timed_out = ctx.timeout(SECOND, ctx.lock(&both)).await;
        assert_eq!(timed_out.err(), Some(Elapsed));
        assert_eq!(both[0].call::<i64>("deposit", &1).await, Ok(1));
        ctx.lock(&both).await?.release();
        Ok(ctx.now())
    });
    assert_eq!(waited, Ok(start + SECOND * 5));
    assert_eq!(host.call_entity::<i64>("account", "bob", "deposit", &2), Ok(2), "the lock was released");
}

#[test]
fn the_end_of_the_run_releases_the_lock() {
    let host = host();
    let failure = run(&host, |ctx| async move {
        let _lock = ctx.lock([ctx.entity("account", "ann")]).await?;
        Err::<(), _>(Failure::application("x", "failed inside the lock"))
    });
    assert_eq!(failure.unwrap_err().code, "x");
    assert_eq!(host.call_entity::<i64>("account", "ann", "deposit", &2), Ok(2));
}

#[test]
fn a_lock_asked_for_when_the_instance_is_asked_to_cancel_is_given_up() {
    let host = host();
    host.hold_entity("account", "ann", SECOND * 5);
    host.cancel(SECOND, "no longer needed");
    let outcome = run(&host, |ctx| async move {
        let ann = ctx.entity("account", "ann");
        assert!(ctx.lock([&ann]).await.unwrap_err().is_cancelled());
        ctx.lock([&ann]).await.map(drop)
    });
    assert_eq!(outcome, Ok(()));
}

#[test]
#[should_panic(expected = "a second lock")]
fn a_second_lock_stops_the_workflow() {
    let _ = run(&host(), |ctx| async move {
        let _first = ctx.lock([ctx.entity("account", "ann")]).await?;
        ctx.lock([ctx.entity("account", "bob")]).await.map(drop)
    });
}
