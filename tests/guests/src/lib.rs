//! One workflow for the black-box tests whose input says what it does: `{"do": "sleep", "ms": 10}`.
//!
//! Built with feature `changed` it is the same workflow after a change of its code that old histories can not
//! follow: `sleep` and `sequence` begin with one timer more. Both builds give the same file name, so whoever
//! needs both copies the first away before building the second.

mod misbehave;
mod model;
mod std_calls;

use futures::FutureExt;
use futures::future::join_all;
use misbehave::Misbehave;
use rehydrate::{ActivityOptions, Callback, Context, Failure, HttpRequest, Unwrapped};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What to do.
#[derive(Deserialize, Debug)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Do {
    /// Gives the value back.
    Echo {
        value: Value,
    },
    /// Sleeps that long; gives the times before and after.
    Sleep {
        ms: u64,
    },
    /// Starts that many timers of that length, and waits for all.
    Timers {
        count: u64,
        ms: u64,
    },
    /// Runs an activity; gives its output.
    Activity {
        name: String,
        #[serde(default)]
        input: Value,
        #[serde(default)]
        options: Options,
    },
    /// Runs an activity that many times, one after another, with 0, 1, 2, ... as input; gives the outputs.
    Sequence {
        name: String,
        count: u64,
    },
    /// The same, all at once: with one wait for all, or as single futures.
    FanOut {
        name: String,
        count: u64,
        #[serde(default)]
        single: bool,
    },
    /// Races an activity against a timer; gives the output or null. The loser is cancelled.
    ActivityOrTimeout {
        name: String,
        #[serde(default)]
        input: Value,
        ms: u64,
    },
    /// Takes that many signals of that name; gives their payloads in order.
    Signal {
        name: String,
        count: u64,
    },
    /// Waits for a signal for that long, then drops the wait, and waits once more for ever; gives what each
    /// wait gave.
    SignalOrTimeout {
        name: String,
        ms: u64,
    },
    /// Creates a callback, posts `{"url", "id"}` to `register_url` with the activity `http`, and waits for it.
    Callback {
        name: String,
        expires_ms: Option<u64>,
        register_url: String,
    },
    /// Sets the status, then waits for the signal `go`.
    Status {
        value: Value,
    },
    /// Fails.
    Fail {
        failure: Failure,
    },
    /// Waits for a signal that never comes; asked to cancel, it runs the activity, if one is named, sleeps,
    /// sets the status `{"cleaned": <reason>}` and ends as cancelled.
    CancelCleanup {
        activity: Option<String>,
        #[serde(default)]
        ms: u64,
    },
    /// Gives whether the change is in force, before and after the signal `go`.
    Patched {
        change_id: String,
    },
    /// Uses randomness, hash maps and clocks of the standard library, with a sleep of that length between.
    Random {
        ms: u64,
    },
    /// Gives who it is, as the host says.
    Info,
    /// Waits for what no operation can bring.
    Deadlock,
    /// Something that must be stopped: `{"do": "misbehave", "how": "panic", ...}`.
    Misbehave(Misbehave),
    // With others, or with the next run of itself: see `model`.
    Child(model::Child),
    ChildThenFail(model::ChildThenFail),
    Children(model::Children),
    Detached(model::Detached),
    SendSignal(model::SendSignal),
    SendSignals(model::SendSignals),
    SendCancel(model::SendCancel),
    Continue(model::Continue),
    Depth(model::Depth),
    EntityCall(model::Operation),
    EntitySignal(model::Operation),
    EntityCalls(model::EntityCalls),
    LockedTransfer(model::Transfer),
    LockWait(model::LockWait),
    Rewindable(model::Rewindable),
}

/// An activity's options; times in milliseconds.
#[derive(Deserialize, Debug, Default)]
#[serde(default, deny_unknown_fields)]
struct Options {
    schedule_to_start_ms: Option<u64>,
    start_to_close_ms: Option<u64>,
    schedule_to_close_ms: Option<u64>,
    heartbeat_ms: Option<u64>,
    queue: Option<String>,
    retry: Option<Retry>,
}

/// A retry policy; times in milliseconds. What is left out is as in the SDK, without jitter.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    initial_ms: Option<u64>,
    maximum_ms: Option<u64>,
    backoff_permille: Option<u32>,
    attempts: Option<u32>,
    total_ms: Option<u64>,
    jitter_permille: u32,
    non_retryable: Vec<String>,
}

impl From<Options> for ActivityOptions {
    fn from(options: Options) -> Self {
        let millis = |ms: Option<u64>| ms.map(Duration::from_millis);
        ActivityOptions {
            schedule_to_start: millis(options.schedule_to_start_ms),
            start_to_close: millis(options.start_to_close_ms),
            schedule_to_close: millis(options.schedule_to_close_ms),
            heartbeat: millis(options.heartbeat_ms),
            queue: options.queue,
            retry: options.retry.map(Into::into),
        }
    }
}

impl From<Retry> for rehydrate::RetryPolicy {
    fn from(retry: Retry) -> Self {
        let default = rehydrate::RetryPolicy::default();
        rehydrate::RetryPolicy {
            initial_interval: retry.initial_ms.map_or(default.initial_interval, Duration::from_millis),
            maximum_interval: retry.maximum_ms.map_or(default.maximum_interval, Duration::from_millis),
            backoff_permille: retry.backoff_permille.unwrap_or(default.backoff_permille),
            maximum_attempts: retry.attempts,
            total_timeout: retry.total_ms.map(Duration::from_millis),
            jitter_permille: retry.jitter_permille,
            non_retryable: retry.non_retryable,
        }
    }
}

/// The workflow. Its input may come from a client that encodes it twice.
#[rehydrate::workflow]
async fn test_guests(ctx: Context, Unwrapped(what): Unwrapped<Do>) -> Result<Value, Failure> {
    match what {
        Do::Echo { value } => Ok(value),
        Do::Sleep { ms } => sleep(&ctx, ms).await,
        Do::Timers { count, ms } => timers(&ctx, count, ms).await,
        Do::Activity { name, input, options } => ctx.activity(&name, &input).options(options.into()).await,
        Do::Sequence { name, count } => sequence(&ctx, &name, count).await,
        Do::FanOut { name, count, single } => fan_out(&ctx, &name, count, single).await,
        Do::ActivityOrTimeout { name, input, ms } => {
            let limit = Duration::from_millis(ms);
            ctx.timeout(limit, ctx.activity(&name, &input)).await.unwrap_or(Ok(Value::Null))
        }
        Do::Signal { name, count } => signals(&ctx, &name, count).await,
        Do::SignalOrTimeout { name, ms } => signal_or_timeout(&ctx, &name, ms).await,
        Do::Callback { name, expires_ms, register_url } => callback(&ctx, &name, expires_ms, register_url).await,
        Do::Status { value } => {
            ctx.set_status(&value)?;
            ctx.signal("go").await
        }
        Do::Fail { failure } => Err(failure),
        Do::CancelCleanup { activity, ms } => cancel_cleanup(&ctx, activity, ms).await,
        Do::Patched { change_id } => {
            let before = ctx.patched(&change_id);
            ctx.signal::<Value>("go").await?;
            Ok(json!([before, ctx.patched(&change_id)]))
        }
        Do::Random { ms } => Ok(std_calls::observe(&ctx, ms)),
        Do::Info => Ok(serde_json::to_value(ctx.info())?),
        Do::Deadlock => std::future::pending().await,
        Do::Misbehave(how) => how.run(&ctx),
        Do::Child(what) => what.run(&ctx).await,
        Do::ChildThenFail(what) => what.run(&ctx).await,
        Do::Children(what) => what.run(&ctx).await,
        Do::Detached(what) => what.run(&ctx).await,
        Do::SendSignal(what) => what.run(&ctx).await,
        Do::SendSignals(what) => what.run(&ctx).await,
        Do::SendCancel(what) => what.run(&ctx).await,
        Do::Continue(what) => what.run(&ctx).await,
        Do::Depth(what) => what.run(&ctx).await,
        Do::EntityCall(what) => what.run(&ctx).await,
        Do::EntitySignal(what) => what.signal(&ctx),
        Do::EntityCalls(what) => what.run(&ctx).await,
        Do::LockedTransfer(what) => what.run(&ctx).await,
        Do::LockWait(what) => what.run(&ctx).await,
        Do::Rewindable(what) => what.run(&ctx).await,
    }
}

/// The change of the code that feature `changed` stands for.
async fn changed(ctx: &Context) -> Result<(), Failure> {
    if cfg!(feature = "changed") { ctx.sleep(Duration::from_millis(1)).await } else { Ok(()) }
}

async fn sleep(ctx: &Context, ms: u64) -> Result<Value, Failure> {
    changed(ctx).await?;
    let before = ctx.now();
    ctx.sleep(Duration::from_millis(ms)).await?;
    Ok(json!({ "before": before, "after": ctx.now() }))
}

async fn timers(ctx: &Context, count: u64, ms: u64) -> Result<Value, Failure> {
    let timers = (0..count).map(|_| ctx.sleep(Duration::from_millis(ms)));
    let fired = ctx.all(timers).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(json!(fired.len()))
}

async fn sequence(ctx: &Context, name: &str, count: u64) -> Result<Value, Failure> {
    changed(ctx).await?;
    let mut outputs = Vec::new();
    for n in 0..count {
        outputs.push(ctx.activity::<Value>(name, &n).await?);
    }
    Ok(Value::Array(outputs))
}

async fn fan_out(ctx: &Context, name: &str, count: u64, single: bool) -> Result<Value, Failure> {
    let calls = (0..count).map(|n| ctx.activity::<Value>(name, &n));
    let outcomes = if single { join_all(calls).await } else { ctx.all(calls).await };
    Ok(Value::Array(outcomes.into_iter().collect::<Result<_, _>>()?))
}

async fn signals(ctx: &Context, name: &str, count: u64) -> Result<Value, Failure> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        payloads.push(ctx.signal::<Value>(name).await?);
    }
    Ok(Value::Array(payloads))
}

async fn signal_or_timeout(ctx: &Context, name: &str, ms: u64) -> Result<Value, Failure> {
    let first = match ctx.timeout(Duration::from_millis(ms), ctx.signal::<Value>(name)).await {
        Ok(payload) => json!({ "payload": payload? }),
        Err(elapsed) => json!({ "elapsed": elapsed.to_string() }),
    };
    ctx.set_status(&first)?;
    Ok(json!([first, ctx.signal::<Value>(name).await?]))
}

async fn callback(ctx: &Context, name: &str, expires_ms: Option<u64>, register_url: String) -> Result<Value, Failure> {
    let callback: Callback<Value> = match expires_ms {
        Some(ms) => ctx.callback_within(name, Duration::from_millis(ms)),
        None => ctx.callback(name),
    };
    let body = json!({ "url": callback.url(), "id": callback.id() });
    ctx.http(HttpRequest::post(register_url).json(&body)?).await?;
    callback.await
}

async fn cancel_cleanup(ctx: &Context, activity: Option<String>, ms: u64) -> Result<Value, Failure> {
    let failure = match ctx.signal::<Value>("never").await {
        Ok(payload) => return Ok(payload),
        Err(failure) => failure,
    };
    if let Some(name) = activity {
        // `fuse` and `boxed_local`: combinators of the futures crate on the way out work as ever.
        ctx.activity::<Value>(&name, &"cleanup").fuse().boxed_local().await?;
    }
    ctx.sleep(Duration::from_millis(ms)).await?;
    ctx.set_status(&json!({ "cleaned": ctx.cancel_requested() }))?;
    Err(failure)
}
