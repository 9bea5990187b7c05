//! Plain calls of the standard library, which go through WASI 0.2: what they give must be the same on replay.

use rehydrate::Context;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Random values, the order of a hash map, and both clocks before and after a sleep of that many milliseconds.
pub(crate) fn observe(ctx: &Context, ms: u64) -> Value {
    let map: HashMap<String, u32> = (0..100).map(|n| (format!("key-{n}"), n)).collect();
    let order: Vec<u32> = map.values().copied().collect();
    let (system, monotonic) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_millis(ms));
    println!("slept {ms} ms");
    eprintln!("and says so on stderr");
    json!({
        "uuids": [ctx.uuid(), ctx.uuid()],
        "random": [ctx.random_u64(), ctx.random_u64()],
        "order": order,
        "now": ctx.now(),
        "system_before_ns": since_epoch_ns(system),
        "system_after_ns": since_epoch_ns(SystemTime::now()),
        "monotonic_elapsed_ns": nanos(monotonic.elapsed()),
        "environment": std::env::vars().count(),
        "arguments": std::env::args().count(),
    })
}

fn since_epoch_ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map(nanos).unwrap_or_default()
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
