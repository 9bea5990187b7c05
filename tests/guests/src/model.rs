//! What a workflow does with others: children, instances, entities, and the next run of itself.

use crate::Retry;
use futures::future::join_all;
use rehydrate::{ChildCall, Context, Failure, HttpRequest, ParentClose};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The deployment's name of the entities of these tests.
const ENTITIES: &str = "entities";

/// The timer that a run leaves open when it goes on in the next one.
const LEFT_OPEN: Duration = Duration::from_millis(200);

fn outcome(outcome: Result<impl Serialize, Failure>) -> Result<Value, Failure> {
    Ok(match outcome {
        Ok(output) => json!({ "ok": output }),
        Err(failure) => json!({ "err": failure }),
    })
}

fn all(outcomes: Vec<Result<Value, Failure>>) -> Result<Value, Failure> {
    Ok(Value::Array(outcomes.into_iter().collect::<Result<_, _>>()?))
}

/// Starts a child and awaits it; gives `{"ok": output}` or `{"err": failure}`.
#[derive(Deserialize, Debug)]
pub(crate) struct Child {
    workflow: String,
    id: Option<String>,
    #[serde(default)]
    input: Value,
    parent_close: Option<Policy>,
    retry: Option<Retry>,
    version: Option<String>,
}

/// What becomes of a child without its parent.
#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "snake_case")]
enum Policy {
    Terminate,
    RequestCancel,
    Abandon,
}

impl Child {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        outcome(self.call(ctx).await)
    }

    fn call(self, ctx: &Context) -> ChildCall<Value> {
        let mut call = ctx.child(&self.workflow, &self.input);
        if let Some(id) = self.id {
            call = call.id(id);
        }
        if let Some(version) = self.version {
            call = call.version(version);
        }
        if let Some(policy) = self.parent_close {
            call = call.parent_close(match policy {
                Policy::Terminate => ParentClose::Terminate,
                Policy::RequestCancel => ParentClose::RequestCancel,
                Policy::Abandon => ParentClose::Abandon,
            });
        }
        if let Some(retry) = self.retry {
            call = call.retry(retry.into());
        }
        call
    }
}

/// Starts a child, sets the status `{"child": id}`, waits for the signal `go`, and then leaves the child to its
/// parent-close policy.
#[derive(Deserialize, Debug)]
pub(crate) struct ChildThenFail {
    #[serde(flatten)]
    child: Child,
    how: Leave,
}

/// How a parent leaves its child.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Leave {
    /// It completes.
    Return,
    /// It fails.
    Fail,
    /// It drops the child, sets the status `"dropped"`, and completes after the signal `end`.
    DropThenWait,
}

impl ChildThenFail {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let child = self.child.call(ctx).start();
        ctx.set_status(&json!({ "child": child.id() }))?;
        ctx.signal::<Value>("go").await?;
        match self.how {
            Leave::Return => Ok(json!("left the child")),
            Leave::Fail => Err(Failure::application("told-to", "the parent was told to fail")),
            Leave::DropThenWait => {
                drop(child);
                ctx.set_status("dropped")?;
                ctx.signal::<Value>("end").await?;
                Ok(json!("dropped the child"))
            }
        }
    }
}

/// Starts that many children at once, each with that input, and awaits them with one wait; gives the outputs. A child
/// that fails fails this.
#[derive(Deserialize, Debug)]
pub(crate) struct Children {
    workflow: String,
    count: u64,
    #[serde(default)]
    input: Value,
}

impl Children {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        all(ctx.all((0..self.count).map(|_| ctx.child::<Value>(&self.workflow, &self.input))).await)
    }
}

/// Starts an instance that goes on by itself; gives `{"ok": null}` or `{"err": failure}`.
#[derive(Deserialize, Debug)]
pub(crate) struct Detached {
    workflow: String,
    id: String,
    #[serde(default)]
    input: Value,
    version: Option<String>,
}

impl Detached {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let Some(version) = self.version else {
            return outcome(ctx.start_detached(&self.workflow, &self.id, &self.input).await);
        };
        outcome(ctx.child::<()>(&self.workflow, &self.input).id(self.id).version(version).detach().await)
    }
}

/// Sends a signal; gives `{"ok": null}` or `{"err": failure}`.
#[derive(Deserialize, Debug)]
pub(crate) struct SendSignal {
    to: String,
    name: String,
    #[serde(default)]
    payload: Value,
}

impl SendSignal {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        outcome(ctx.instance(&self.to).signal(&self.name, &self.payload).await)
    }
}

/// Sends that many signals, with 0, 1, 2, ... as payloads, and runs the activity `echo` between two of them without
/// waiting for the signal before to be recorded; gives the outcomes as `send_signal` does.
#[derive(Deserialize, Debug)]
pub(crate) struct SendSignals {
    to: String,
    name: String,
    count: u64,
}

impl SendSignals {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let mut sent = Vec::new();
        for n in 0..self.count {
            sent.push(ctx.instance(&self.to).signal(&self.name, &n));
            ctx.activity::<Value>("echo", &n).await?;
        }
        all(ctx.all(sent).await.into_iter().map(outcome).collect())
    }
}

/// Asks an instance to cancel; gives `{"ok": null}` or `{"err": failure}`.
#[derive(Deserialize, Debug)]
pub(crate) struct SendCancel {
    to: String,
    #[serde(default)]
    reason: String,
}

impl SendCancel {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        outcome(ctx.instance(&self.to).cancel(&self.reason).await)
    }
}

/// Sets the status `{"left", "run"}` and goes on in a new run with one less to go, until none is left; the last gives
/// `{"run", "taken"}`.
#[derive(Deserialize, Serialize, Debug)]
#[serde(tag = "do", rename = "continue")]
pub(crate) struct Continue {
    left: u32,
    /// The name of a signal, of which each run takes one before it goes on or ends.
    take: Option<String>,
    #[serde(default)]
    version: Version,
    /// The payloads taken so far.
    #[serde(default)]
    taken: Vec<Value>,
    /// Where each run posts `{"url"}` of a callback that it leaves open, with a timer, when it goes on or ends.
    register_url: Option<String>,
}

/// The version that the next run has.
#[derive(Deserialize, Serialize, Clone, Copy, Default, Debug)]
#[serde(rename_all = "snake_case")]
enum Version {
    #[default]
    Newest,
    Same,
}

impl Continue {
    pub(crate) async fn run(mut self, ctx: &Context) -> Result<Value, Failure> {
        let run = ctx.info().run;
        ctx.set_status(&json!({ "left": self.left, "run": run }))?;
        let mut left_open = None;
        if let Some(url) = &self.register_url {
            let callback = ctx.callback::<Value>("left-open");
            ctx.http(HttpRequest::post(url).json(&json!({ "url": callback.url() }))?).await?;
            left_open = Some((callback, ctx.sleep(LEFT_OPEN)));
        }
        if let Some(name) = &self.take {
            self.taken.push(ctx.signal(name).await?);
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(json!({ "run": run, "taken": self.taken }));
        };
        let next = Continue { left, ..self };
        let outcome = match next.version {
            Version::Newest => ctx.continue_as_new(&next),
            Version::Same => ctx.continue_as_new_same_version(&next),
        };
        // Not even dropping it gives it up: the end of the run has to.
        std::mem::forget(left_open);
        outcome
    }
}

/// Starts itself as a child with one less to go, until none is left; gives how many stand below it.
#[derive(Deserialize, Debug)]
pub(crate) struct Depth {
    left: u32,
}

impl Depth {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(json!(0)) };
        let itself = ctx.info().workflow;
        let below: u32 = ctx.child(&itself, &json!({ "do": "depth", "left": left })).await?;
        Ok(json!(below + 1))
    }
}

/// Calls an entity, and gives `{"ok": answer}` or `{"err": failure}`; or signals it, and gives null.
#[derive(Deserialize, Debug)]
pub(crate) struct Operation {
    name: String,
    key: String,
    op: String,
    #[serde(default)]
    input: Value,
}

impl Operation {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        outcome(self.call(ctx).await)
    }

    async fn call(&self, ctx: &Context) -> Result<Value, Failure> {
        ctx.entity(&self.name, &self.key).call(&self.op, &self.input).await
    }

    pub(crate) fn signal(self, ctx: &Context) -> Result<Value, Failure> {
        ctx.entity(self.name, self.key).signal(&self.op, &self.input)?;
        Ok(Value::Null)
    }
}

/// Calls an entity that many times in a row; gives the last answer.
#[derive(Deserialize, Debug)]
pub(crate) struct EntityCalls {
    #[serde(flatten)]
    operation: Operation,
    count: u64,
}

impl EntityCalls {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let mut last = Value::Null;
        for _ in 0..self.count {
            last = self.operation.call(ctx).await?;
        }
        Ok(last)
    }
}

/// Locks two accounts and moves the amount between them; gives what each has then, `[from, to]`.
#[derive(Deserialize, Debug)]
pub(crate) struct Transfer {
    from: String,
    to: String,
    amount: i64,
    /// How long to sleep between the two operations.
    #[serde(default)]
    hold_ms: u64,
    /// What to do at the end, with the money moved, the status `"moved"` and the lock still held.
    then: Option<Then>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Then {
    Fail,
    Trap,
    /// Waits for the signal `go`.
    Wait,
}

impl Transfer {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let (from, to) = (ctx.entity(ENTITIES, &self.from), ctx.entity(ENTITIES, &self.to));
        let _lock = ctx.lock([&from, &to]).await?;
        let left: i64 = from.call("withdraw", &self.amount).await?;
        if self.hold_ms > 0 {
            ctx.sleep(Duration::from_millis(self.hold_ms)).await?;
        }
        let has: i64 = to.call("deposit", &self.amount).await?;
        if let Some(then) = self.then {
            ctx.set_status("moved")?;
            match then {
                Then::Fail => return Err(Failure::application("told-to", "the transfer was told to fail")),
                Then::Trap => panic!("the transfer was told to trap"),
                Then::Wait => drop(ctx.signal::<Value>("go").await?),
            }
        }
        Ok(json!([left, has]))
    }
}

/// Locks entities, sets the status `"locked"`, waits for a signal, unlocks, and gives `"unlocked after"`. With a time
/// limit on the lock it may give `"gave up"` instead, after the same signal.
#[derive(Deserialize, Debug)]
pub(crate) struct LockWait {
    keys: Vec<String>,
    signal: String,
    timeout_ms: Option<u64>,
}

impl LockWait {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let entities: Vec<_> = self.keys.iter().map(|key| ctx.entity(ENTITIES, key)).collect();
        let lock = ctx.lock(&entities);
        let lock = match self.timeout_ms {
            Some(ms) => ctx.timeout(Duration::from_millis(ms), lock).await.ok().transpose()?,
            None => Some(lock.await?),
        };
        ctx.set_status(if lock.is_some() { "locked" } else { "gave up" })?;
        ctx.signal::<Value>(&self.signal).await?;
        Ok(json!(if lock.is_some() { "unlocked after" } else { "gave up" }))
    }
}

/// Runs an activity that many times, at once or in a row, with that input, or else with 0, 1, 2, ...; gives the outputs.
/// The first failure, in that order, fails this; of those at once, after all have ended.
#[derive(Deserialize, Debug)]
pub(crate) struct Rewindable {
    activity: String,
    count: u64,
    input: Option<Value>,
    #[serde(default)]
    in_a_row: bool,
    /// Where to post `{"url"}` of a callback first, whose body this gives when the activities have ended well.
    register_url: Option<String>,
}

impl Rewindable {
    pub(crate) async fn run(self, ctx: &Context) -> Result<Value, Failure> {
        let mut callback = None;
        if let Some(url) = &self.register_url {
            let created = ctx.callback::<Value>("before");
            ctx.http(HttpRequest::post(url).json(&json!({ "url": created.url() }))?).await?;
            callback = Some(created);
        }
        let input = |n| self.input.clone().unwrap_or_else(|| json!(n));
        let calls = (0..self.count).map(|n| ctx.activity::<Value>(&self.activity, &input(n)));
        let outputs = if self.in_a_row {
            let mut outputs = Vec::new();
            for call in calls {
                outputs.push(call.await?);
            }
            Value::Array(outputs)
        } else {
            all(join_all(calls).await)?
        };
        match callback {
            Some(callback) => callback.await,
            None => Ok(outputs),
        }
    }
}
