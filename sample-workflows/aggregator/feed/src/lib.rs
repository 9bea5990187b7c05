//! Reads a sensor at intervals, for ever, and hands each reading to the entity `sensor` of that key.
//!
//! It never ends by itself and its history stays short: after some readings it goes on in a new run.

use futures::{FutureExt, select_biased};
use rehydrate::{Context, Failure, HttpRequest, Level, RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Readings of one run; each is a handful of events in its history.
const READINGS_PER_RUN: u32 = 100;
/// The longest the source may take to answer once.
const READ_MAX: Duration = Duration::from_secs(10);

/// The input.
#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The key of the entity.
    pub sensor: String,
    /// What to read, by GET: an answer like `{"value": 21.5}`.
    pub source_url: String,
    /// From one reading to the next.
    pub interval_seconds: u32,
}

/// What the source answers.
#[derive(Deserialize)]
struct Answer {
    value: f64,
}

/// The workflow. The signal `stop` ends it; its output is the entity's summary.
#[rehydrate::workflow]
async fn feed(ctx: Context, feed: Feed) -> Result<Value, Failure> {
    let sensor = ctx.entity("sensor", &feed.sensor);
    let interval = Duration::from_secs(feed.interval_seconds.max(1).into());
    // If the run ends without it, the signal is there for the next one.
    let mut stop = ctx.signal::<Value>("stop");
    for _ in 0..READINGS_PER_RUN {
        match read(&ctx, &feed.source_url).await {
            // Not waited for: what the entity makes of it is its business.
            Ok(value) => sensor.signal("record", &json!({ "value": value, "at": ctx.now() }))?,
            Err(failure) if failure.is_cancelled() => return Err(failure),
            Err(failure) => ctx.log(Level::Warn, format!("no reading this time: {failure}")),
        }
        select_biased! {
            stopped = stop => {
                stopped?;
                return sensor.call("summary", &()).await;
            }
            fired = ctx.sleep(interval).fuse() => fired?,
        }
    }
    ctx.continue_as_new(&feed)
}

async fn read(ctx: &Context, url: &str) -> Result<f64, Failure> {
    let request = ctx.http(HttpRequest::get(url)).start_to_close(READ_MAX);
    Ok(request.retry(RetryPolicy::attempts(3)).await?.read::<Answer>()?.value)
}

#[cfg(test)]
mod tests;
