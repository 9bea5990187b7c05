//! W5: one workflow of very many steps: whether a step costs the same at the end as at the beginning, and how
//! soon the workflow goes on after a kill -9.
//!
//! All times are those of the history's events: the step `n`, counted from 1, has ended with event `2n + 1`. A
//! piece of the run is judged by the median of its steps: the mean, which is there too, is moved by whatever else
//! the machine does.

use crate::api;
use crate::bench::Bench;
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::limits::replay::Replayer;
use crate::meter::Meter;
use crate::numbers::{Sorted, mean, micros, millis, per_one, per_second};
use crate::record::{Limit, Record};
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant, SystemTime};

const WORK: &str = "W5";

/// The longest that a step may take on average, before it is called a fault.
const STEP_LIMIT: Duration = Duration::from_millis(50);

/// Events of a history that are read at once.
const PAGE: u64 = 1_000;

/// How often the growing history is looked at by who waits to kill the host.
const LOOK: Duration = Duration::from_millis(5);

/// Each length on two hosts: one run goes through, one is killed.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let directory = bench.places.directory()?;
    let replayer = Replayer::new(&bench.places, directory.path())?;
    let ten = replayer.measure(10, bench.scale.limit_length)?;
    bench.report.add(Record::new(WORK, 10, figures::BARE_REPLAY, ten.events_per_second(), "events/s"))?;
    for steps in bench.counts(&[1_000, 10_000, 100_000], &[1_000]) {
        whole(bench, steps).await?;
        killed(bench, &replayer, steps).await?;
    }
    Ok(())
}

fn limit(steps: u64) -> Duration {
    Duration::from_secs(60) + STEP_LIMIT * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// The event with which a step ends.
fn end_of(step: u64) -> u64 {
    2 * step + 1
}

/// Where the time per step is looked at: the first step of each piece, and how many steps a piece has.
fn pieces(steps: u64) -> (Vec<u64>, u64) {
    let length = (steps / 10).clamp(1, 1_000);
    let last = steps - length;
    let starts = [0, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000].into_iter();
    (starts.filter(|start| start + length <= last).chain([last]).collect(), length)
}

async fn whole(bench: &mut Bench, steps: u64) -> anyhow::Result<()> {
    let mut store = bench.bare_store(1)?;
    store.measure().await?;
    let host = BenchHost::start(&bench.places, &[]).await?;
    let (mut conn, mut observer) = (host.admin().await?, host.admin().await?);
    let before = Meter::read(&host, &mut observer).await?;
    let begun = Instant::now();
    api::run(&mut conn, "w5", &format!(r#"{{"steps":{steps}}}"#), limit(steps)).await?;
    let took = begun.elapsed();
    let after = Meter::read(&host, &mut observer).await?;
    store.measure().await?;
    let limits = bench.store_limits(WORK, store)?;
    let rate = Record::new(WORK, steps, figures::THROUGHPUT, per_second(steps, took), "steps/s");
    bench.report.add(rate.beside(limits.rate))?;
    let (starts, length) = pieces(steps);
    for start in starts {
        let times = times_of_steps(&mut conn, start, length).await?;
        let whole: Duration = times.samples().iter().sum();
        let median = times.percentile(50).map_or(0.0, micros);
        let mean = per_one(micros(whole), length);
        for (name, time) in [(figures::STEP_FROM, median), ("mean time per step from ", mean)] {
            let record = Record::new(WORK, steps, format!("{name}{start}"), time, "us");
            bench.report.add(record.beside(limits.time.clone()))?;
        }
    }
    bench.cost(WORK, steps, "", &after.since(&before), 1)?;
    bench.peak_memory(WORK, steps, &host)
}

/// How long each of `length` steps from `start` on took.
async fn times_of_steps(conn: &mut Conn, start: u64, length: u64) -> anyhow::Result<Sorted<Duration>> {
    let (mut from, until) = (end_of(start), end_of(start + length));
    let mut ends = Vec::new();
    while from <= until {
        let page = api::history(conn, "w5", from, PAGE.min(until - from + 1)).await?;
        ensure!(!page.events.is_empty(), "the history of w5 has no event {from}");
        for event in &page.events {
            // A step ends with every second event.
            if from % 2 == 1 {
                ends.push(event.time);
            }
            from += 1;
        }
    }
    let times = ends.windows(2).map(|pair| Duration::try_from(pair[1].duration_since(pair[0])));
    Ok(Sorted::new(times.collect::<Result<_, _>>().context("time goes on")?))
}

/// Kills the host when the run is nearly through, and looks when it went on.
async fn killed(bench: &mut Bench, replayer: &Replayer, steps: u64) -> anyhow::Result<()> {
    let done = steps * 95 / 100;
    let bare_before = replayer.measure(done, bench.scale.limit_length)?;
    let mut host = BenchHost::start(&bench.places, &[]).await?;
    let mut conn = host.admin().await?;
    api::start(&mut conn, "w5", &format!(r#"{{"steps":{steps}}}"#)).await?;
    let begun = Instant::now();
    while api::history(&mut conn, "w5", 1, 1).await?.last < end_of(done) {
        ensure!(begun.elapsed() < limit(steps), "the run of {steps} steps has not taken {done} in {:?}", limit(steps));
        tokio::time::sleep(LOOK).await;
    }
    host.kill();
    host.restart()?;
    let start_up = host.start_up();
    let mut conn = host.admin().await?;
    api::result(&mut conn, "w5", limit(steps)).await?;
    let went_on = went_on(&mut conn, steps, start_up.begun_at).await?;
    let recovery = went_on.saturating_sub(start_up.took);
    let bare_after = replayer.measure(done, bench.scale.limit_length)?;

    let bare = mean(bare_before.events_per_second(), bare_after.events_per_second());
    bench.report.add(Record::new(WORK, steps, figures::BARE_REPLAY, bare, "events/s"))?;
    let events = bare_after.events;
    let replayed = mean(bare_before.millis_for(events), bare_after.millis_for(events));
    bench.report.add(Record::new(WORK, steps, "start-up after kill -9", millis(start_up.took), "ms"))?;
    let recovery = Record::new(WORK, steps, figures::RECOVERY, millis(recovery), "ms");
    bench.report.add(recovery.beside(Limit::new("bare-replay of the history", replayed)))
}

/// From the start of the host until the second step ended in it. The first may be recorded before the replay
/// that it leads to; the second can't.
async fn went_on(conn: &mut Conn, steps: u64, begun_at: SystemTime) -> anyhow::Result<Duration> {
    let begun_at = jiff::Timestamp::try_from(begun_at).context("the clock shows a time")?;
    // The first event of the new process, by halving: times never go back.
    let (mut before, mut after) = (1, end_of(steps));
    while before + 1 < after {
        let middle = u64::midpoint(before, after);
        if api::event(conn, "w5", middle).await?.time < begun_at { before = middle } else { after = middle }
    }
    let history = api::history(conn, "w5", after, 10).await?;
    let mut ended = history.events.iter().filter(|event| event.kind == "ActivityCompleted");
    let second = ended.nth(1).context("the run was through before it was killed; take more steps")?;
    second.time.duration_since(begun_at).try_into().context("the host went on after it was started")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_within_the_run_and_end_with_its_end() {
        assert_eq!(pieces(1_000), (vec![0, 900], 100));
        assert_eq!(pieces(10_000), (vec![0, 1_000, 2_000, 5_000, 9_000], 1_000));
        assert_eq!(pieces(100_000), (vec![0, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 99_000], 1_000));
        for steps in [1, 10, 1_999, 3_000] {
            let (starts, length) = pieces(steps);
            assert!(starts.iter().all(|start| start + length <= steps) && starts.is_sorted(), "{steps}");
        }
    }
}
