//! W1: one workflow, ten activities in a row.
//!
//! Each client starts a workflow, waits for its result in the same request, and starts the next. In between all
//! pause and the bare store is measured, so that both have the same minutes of the disk.

use super::wide;
use crate::api;
use crate::bench::Bench;
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::load;
use crate::meter::{Meter, Spent};
use crate::numbers::{Sorted, count, micros, per_second};
use crate::record::Record;
use std::time::Duration;

const WORK: &str = "W1";

/// Activities of a workflow.
const STEPS: u64 = 10;

/// How many clients there are at once.
const CLIENTS: [usize; 3] = [1, 64, 512];

/// The longest a workflow may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Alone, then with many at once; one host for all.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let host = BenchHost::start(&bench.places, &[]).await?;
    for concurrency in CLIENTS {
        at(bench, &host, concurrency).await?;
    }
    Ok(())
}

async fn at(bench: &mut Bench, host: &BenchHost, concurrency: usize) -> anyhow::Result<()> {
    let clients = wide(concurrency);
    let mut store = bench.bare_store(clients)?;
    store.measure().await?;
    let mut conns = host.admins(concurrency).await?;
    let mut observer = host.admin().await?;
    let input = format!(r#"{{"steps":{STEPS}}}"#);
    let (mut took, mut done, mut times, mut spent) = (Duration::ZERO, 0, Vec::new(), Spent::default());
    for round in 0..bench.scale.rounds {
        let job = async |conn: &mut Conn, index: u64| {
            api::run(conn, &format!("w1-{concurrency}-{round}-{index}"), &input, LIMIT).await.map(drop)
        };
        let meter = async || Meter::read(host, &mut observer).await;
        let length = bench.scale.length / bench.scale.rounds;
        let window = load::for_a_while(&mut conns, bench.scale.warm, length, job, meter).await?;
        took += window.length;
        done += count(window.times.len());
        times.extend(window.times);
        spent += window.after.since(&window.before);
        store.measure().await?;
    }
    let limits = bench.store_limits(WORK, store)?;

    let (steps, times) = (per_second(done * STEPS, took), Sorted::new(times));
    bench.report.add(Record::new(WORK, clients, figures::THROUGHPUT, steps, "steps/s").beside(limits.rate.clone()))?;
    for (figure, percent) in [(figures::P50, 50), (figures::P99, 99)] {
        let time = times.percentile(percent).map_or(0.0, micros);
        bench.report.add(Record::new(WORK, clients, figure, time, "us").beside(limits.time.clone()))?;
    }
    bench.cost(WORK, clients, "", &spent, done)?;
    bench.peak_memory(WORK, clients, host)?;
    // It is with the most clients that the processors are what is scarce.
    let is_last = CLIENTS.last() == Some(&concurrency);
    if is_last { bench.parts(WORK, concurrency, STEPS, &limits).await } else { Ok(()) }
}
