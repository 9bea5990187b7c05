//! W7: how soon a host is ready whose components are compiled, and what it needs when it has nothing to do.

use crate::api;
use crate::bench::{Bench, MIB};
use crate::figures;
use crate::host::BenchHost;
use crate::meter::Meter;
use crate::numbers::{Sorted, float, millis};
use crate::record::Record;
use anyhow::Context as _;
use std::time::Duration;

const WORK: &str = "W7";

/// How long a host is left alone before it is looked at.
const REST: Duration = Duration::from_secs(2);

/// One host, started again and again.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut host = BenchHost::start(&bench.places, &[]).await?;
    api::run(&mut host.admin().await?, "w7-warm", r#"{"steps":1}"#, Duration::from_secs(60)).await?;
    let mut times = Vec::new();
    for _ in 0..bench.scale.pick(20, 5) {
        host.stop()?;
        host.restart()?;
        times.push(host.start_up().took);
    }
    let times = Sorted::new(times);
    for (figure, percent) in [(figures::START_UP, 50), ("start-up maximum", 100)] {
        let time = times.percentile(percent).context("it was started")?;
        bench.report.add(Record::new(WORK, 1, figure, millis(time), "ms"))?;
    }
    idle(bench, &host).await
}

async fn idle(bench: &mut Bench, host: &BenchHost) -> anyhow::Result<()> {
    let mut observer = host.admin().await?;
    tokio::time::sleep(REST).await;
    let resident = float(host.memory()?.resident) / MIB;
    bench.report.add(Record::new(WORK, 1, figures::IDLE_MEMORY, resident, "MiB"))?;
    let before = Meter::read(host, &mut observer).await?;
    tokio::time::sleep(REST).await;
    let after = Meter::read(host, &mut observer).await?;
    let cores = (after.usage.cpu - before.usage.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64();
    bench.report.add(Record::new(WORK, 1, "cores used when idle", cores, "cores"))?;
    bench.peak_memory(WORK, 1, host)
}
