//! The workflow of the benchmarks; its input says what it does: `{"steps": 10}`.
//!
//! It computes as little as it can. The enum is tagged from outside because that is the form which is read
//! without a detour.

use rehydrate::{Callback, Context, Failure, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// What to do.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Do {
    /// Ends at once.
    Nothing,
    /// Runs the activity `next` that many times, one after another; gives the last output.
    Steps(u64),
    /// Runs the activity `next` that many times, all at once; gives the sum of the outputs.
    FanOut(u64),
    /// Sleeps that many milliseconds; gives when the timer was due and what the clock showed when it had fired.
    SleepMs(u64),
    /// Waits for a callback; gives what was posted.
    Park,
    /// The same, with the callback's URL as status, without the marker by which the host knows tokens and
    /// hides them. It is set in the same turn, so it costs no commit.
    ParkShown,
}

/// When a timer was due and when it had fired, in nanoseconds since 1970.
#[derive(Serialize, Debug)]
struct Slept {
    deadline: i64,
    fired: i64,
}

/// What every token begins with.
const MARKER: &str = "rhcb_";

/// The workflow.
#[rehydrate::workflow]
async fn bench_workflows(ctx: Context, what: Do) -> Result<Value, Failure> {
    match what {
        Do::Nothing => Ok(Value::Null),
        Do::Steps(count) => steps(&ctx, count).await.map(Value::from),
        Do::FanOut(count) => fan_out(&ctx, count).await.map(Value::from),
        Do::SleepMs(ms) => sleep(&ctx, ms).await,
        Do::Park => ctx.callback("go").await,
        Do::ParkShown => {
            let callback: Callback<Value> = ctx.callback("go");
            ctx.set_status(&callback.url().replacen(MARKER, "", 1))?;
            callback.await
        }
    }
}

async fn steps(ctx: &Context, count: u64) -> Result<u64, Failure> {
    let mut number = 0;
    for _ in 0..count {
        number = ctx.activity("next", &number).await?;
    }
    Ok(number)
}

async fn fan_out(ctx: &Context, count: u64) -> Result<u64, Failure> {
    let outputs = ctx.all((0..count).map(|number| ctx.activity::<u64>("next", &number))).await;
    outputs.into_iter().sum()
}

async fn sleep(ctx: &Context, ms: u64) -> Result<Value, Failure> {
    let deadline = ctx.now() + Duration::from_millis(ms);
    ctx.sleep_until(deadline).await?;
    let slept = Slept { deadline: nanos(deadline), fired: nanos(ctx.now()) };
    serde_json::to_value(slept).map_err(|error| Failure::application("bench.output", error.to_string()))
}

fn nanos(at: Timestamp) -> i64 {
    let (seconds, nanoseconds) = at.parts();
    seconds * 1_000_000_000 + i64::from(nanoseconds)
}
