//! W3: very many workflows that sleep one to five seconds each.
//!
//! A timer is late by what lies between its deadline and the time of the event that it led to, which the host
//! writes down when it takes the timer up. Both are in the list of instances: the deadline is the creation plus
//! the length, which a workflow's number tells, and its last event's time is the completion's. A sample of the
//! workflows is asked for its own clock, and another one is waited for by clients, who see what is durable.

use crate::api;
use crate::bench::{Bench, HTTP_RATE};
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::load;
use crate::meter::Meter;
use crate::numbers::{Sorted, count, float, mean, per_second};
use crate::record::{Limit, Record};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

const WORK: &str = "W3";

/// The clients that start the workflows.
const CLIENTS: usize = 64;

/// The clients that wait for a few of them.
const WATCHERS: u64 = 128;

/// The sleeps, in milliseconds, from the shortest on: so many different ones.
const SHORTEST_MS: u64 = 1_000;
const SPREAD_MS: u64 = 4_000;

/// How many workflows are asked for their own clock.
const ASKED: u64 = 1_000;

/// The longest it may take from the last start until all have ended.
const LIMIT: Duration = Duration::from_secs(300);

/// Each count on a host of its own.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for timers in bench.counts(&[10_000, 100_000], &[1_000]) {
        at(bench, timers).await?;
    }
    Ok(())
}

async fn at(bench: &mut Bench, timers: u64) -> anyhow::Result<()> {
    let http_before = bench.http_rate(CLIENTS).await?;
    let host = BenchHost::start(&bench.places, &[]).await?;
    let mut observer = host.admin().await?;
    let mut conns = host.admins(CLIENTS).await?;
    let before = Meter::read(&host, &mut observer).await?;
    let starting = Instant::now();
    let (starts, seen) = futures::try_join!(start_all(&mut conns, timers), watch(&host, timers))?;
    drop(conns);
    let longest = Duration::from_millis(SHORTEST_MS + SPREAD_MS);
    tokio::time::sleep((starts.0 + longest).saturating_duration_since(Instant::now())).await;
    api::none_runs(&mut observer, LIMIT).await?;
    let after = Meter::read(&host, &mut observer).await?;
    let recorded = recorded(&mut observer, timers).await?;
    let own = own_clocks(&host, timers).await?;
    let http = mean(http_before, bench.http_rate(CLIENTS).await?);

    let took = starts.0.duration_since(starting);
    let rate = Record::new(WORK, timers, "starts", per_second(timers, took), "workflows/s");
    bench.report.add(rate.beside(Limit::new(HTTP_RATE, http)))?;
    bench.report.add(Record::new(WORK, timers, "time to start all", took.as_secs_f64(), "s"))?;
    lateness(bench, timers, "", &recorded)?;
    lateness(bench, timers, "by the workflow's clock ", &own)?;
    lateness(bench, timers, "as a client sees it ", &seen)?;
    let early = |late: &Sorted<i64>| count(late.samples().iter().filter(|late| **late < 0).count());
    let early = float(early(&recorded) + early(&own));
    bench.report.add(Record::new(WORK, timers, figures::EARLY, early, "workflows"))?;
    bench.cost(WORK, timers, "", &after.since(&before), timers)?;
    bench.peak_memory(WORK, timers, &host)
}

fn id(index: u64) -> String {
    format!("w3-{index:07}")
}

/// Spread evenly, and not in the order of the starts: a step that shares no factor with the spread.
fn sleep_ms(index: u64) -> u64 {
    const STEP: u64 = 1_597;
    SHORTEST_MS + index * STEP % SPREAD_MS
}

/// When the last one had started.
async fn start_all(conns: &mut [Conn], timers: u64) -> anyhow::Result<(Instant,)> {
    let job = async |conn: &mut Conn, index: u64| {
        api::start(conn, &id(index), &format!(r#"{{"sleep_ms":{}}}"#, sleep_ms(index))).await
    };
    load::each(conns, 0..timers, job).await?;
    Ok((Instant::now(),))
}

/// Clients that wait for workflows of their own, which sleep like the others; how late each result came.
async fn watch(host: &BenchHost, timers: u64) -> anyhow::Result<Sorted<i64>> {
    let mut conns = host.admins(usize::try_from(WATCHERS)?).await?;
    let late = RefCell::new(Vec::new());
    let rounds = if timers < 50_000 { 1 } else { 4 };
    let job = async |conn: &mut Conn, index: u64| {
        let input = format!(r#"{{"sleep_ms":{}}}"#, sleep_ms(index));
        let answer = api::run(conn, &format!("w3-watched-{index}"), &input, LIMIT).await?;
        let slept: Slept = api::output(&answer)?;
        late.borrow_mut().push(nanos_of(SystemTime::now())? - slept.deadline);
        Ok(())
    };
    load::each(&mut conns, 0..WATCHERS * rounds, job).await?;
    Ok(Sorted::new(late.into_inner()))
}

/// What the workflow gives.
#[derive(Debug, Deserialize)]
struct Slept {
    deadline: i64,
    fired: i64,
}

fn nanos_of(at: SystemTime) -> anyhow::Result<i64> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).context("the clock is past 1970")?;
    Ok(i64::try_from(since.as_nanos())?)
}

/// How late each one was, by the times in the list.
async fn recorded(conn: &mut Conn, timers: u64) -> anyhow::Result<Sorted<i64>> {
    let mut late = Vec::new();
    api::for_each(conn, "completed", |summary| {
        let Some(index) = summary.id.strip_prefix("w3-").and_then(|index| index.parse::<u64>().ok()) else {
            return Ok(());
        };
        let nanos = |text: &str| anyhow::Ok(i64::try_from(text.parse::<jiff::Timestamp>()?.as_nanosecond())?);
        let deadline = nanos(summary.created)? + i64::try_from(sleep_ms(index) * 1_000_000)?;
        late.push(nanos(summary.updated)? - deadline);
        Ok(())
    })
    .await?;
    ensure!(count(late.len()) == timers, "{timers} workflows were started, but {} completed", late.len());
    Ok(Sorted::new(late))
}

/// How late a sample of them was by its own clock.
async fn own_clocks(host: &BenchHost, timers: u64) -> anyhow::Result<Sorted<i64>> {
    let mut conns = host.admins(CLIENTS).await?;
    let late = RefCell::new(Vec::new());
    let asked = ASKED.min(timers);
    let job = async |conn: &mut Conn, index: u64| {
        let answer = api::result(conn, &id(index * timers / asked), LIMIT).await?;
        let slept: Slept = api::output(&answer)?;
        late.borrow_mut().push(slept.fired - slept.deadline);
        Ok(())
    };
    load::each(&mut conns, 0..asked, job).await?;
    Ok(Sorted::new(late.into_inner()))
}

fn lateness(bench: &mut Bench, timers: u64, by: &str, late: &Sorted<i64>) -> anyhow::Result<()> {
    for (name, percent) in [(figures::P50, 50), (figures::P99, 99), ("maximum", 100)] {
        let nanos = late.percentile(percent).context("there were timers")?;
        let millis = nanos as f64 / 1e6;
        let figure = format!("{} {by}{name}", figures::LATENESS);
        bench.report.add(Record::new(WORK, timers, figure, millis, "ms"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_spread_evenly() {
        let mut sleeps: Vec<u64> = (0..SPREAD_MS).map(sleep_ms).collect();
        sleeps.sort_unstable();
        assert!(sleeps.into_iter().eq(SHORTEST_MS..SHORTEST_MS + SPREAD_MS));
    }
}
