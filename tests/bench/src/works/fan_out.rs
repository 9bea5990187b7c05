//! W6: one workflow with very many activities at once, and one wait for all of them.

use crate::api;
use crate::bench::Bench;
use crate::figures;
use crate::host::BenchHost;
use crate::meter::Meter;
use crate::numbers::{millis, per_second};
use crate::record::Record;
use std::time::{Duration, Instant};

const WORK: &str = "W6";

/// The longest it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Each count on a host of its own.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for activities in bench.counts(&[10_000], &[500]) {
        at(bench, activities).await?;
    }
    Ok(())
}

async fn at(bench: &mut Bench, activities: u64) -> anyhow::Result<()> {
    // Its batches are of one run, but so many at once that the store can write them together.
    let mut store = bench.bare_store(512)?;
    store.measure().await?;
    let host = BenchHost::start(&bench.places, &[]).await?;
    let (mut conn, mut observer) = (host.admin().await?, host.admin().await?);
    // The components are loaded by the first who needs them.
    api::run(&mut conn, "w6-warm", r#"{"fan_out":1}"#, LIMIT).await?;
    let before = Meter::read(&host, &mut observer).await?;
    let begun = Instant::now();
    api::run(&mut conn, "w6", &format!(r#"{{"fan_out":{activities}}}"#), LIMIT).await?;
    let took = begun.elapsed();
    let after = Meter::read(&host, &mut observer).await?;
    store.measure().await?;
    let limits = bench.store_limits(WORK, store)?;

    bench.report.add(Record::new(WORK, activities, "time in all", millis(took), "ms"))?;
    let rate = per_second(activities, took);
    bench.report.add(Record::new(WORK, activities, figures::ACTIVITIES, rate, "activities/s").beside(limits.rate))?;
    bench.cost(WORK, activities, "", &after.since(&before), 1)?;
    bench.peak_memory(WORK, activities, &host)
}
