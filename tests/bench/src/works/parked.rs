//! W4: very many workflows that wait for a callback, all evicted; then a kill -9 and callbacks to some of them.
//!
//! The host keeps few guests in memory, so that what is measured are the others. Before they are counted the
//! host is warmed up by workflows that end at once and others that wait: what grows to a fixed size (write buffers,
//! the cache, the list of the runs written lately) has grown then, and only swings. What those leave
//! on the disk is measured on a host that does nothing else.

use crate::api;
use crate::bench::{Bench, HTTP_RATE, MIB};
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::load;
use crate::meter::Meter;
use crate::numbers::{float, mean, millis, per_one, per_second};
use crate::proc::Memory;
use crate::record::{Limit, Record};
use anyhow::Context as _;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

const WORK: &str = "W4";

/// The clients that start the workflows and call them back.
const CLIENTS: usize = 64;

/// Guests that stay in memory.
const RESIDENTS: [&str; 2] = ["--resident-instances", "64"];

/// Workflows that are called back after the kill.
const CALLED: u64 = 1_000;

/// How long the host is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// The longest a workflow may take once it is called back.
const LIMIT: Duration = Duration::from_secs(120);

/// Each count on a host of its own.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let warm_disk = warm_disk(bench).await?;
    for parked in bench.counts(&[10_000, 100_000, 1_000_000], &[2_000]) {
        at(bench, parked, warm_disk).await?;
    }
    Ok(())
}

/// Fills what grows to a fixed size: the caches, the write buffers, the resident guests.
async fn warm_up(bench: &Bench, conns: &mut [Conn]) -> anyhow::Result<()> {
    let (ended, parked) = bench.scale.pick((50_000, 20_000), (2_000, 2_000));
    let job = async |conn: &mut Conn, index: u64| api::start(conn, &format!("warm-{index}"), r#""nothing""#).await;
    load::each(conns, 0..ended, job).await?;
    let job = async |conn: &mut Conn, index: u64| api::start(conn, &format!("warm-parked-{index}"), r#""park""#).await;
    load::each(conns, 0..parked, job).await.map(drop)
}

/// The disk that the warm-up takes.
async fn warm_disk(bench: &Bench) -> anyhow::Result<u64> {
    let mut host = BenchHost::start(&bench.places, &RESIDENTS).await?;
    warm_up(bench, &mut host.admins(CLIENTS).await?).await?;
    settled_disk(&mut host).await
}

/// The size of the store once the log has become tables, which a new start makes of it.
async fn settled_disk(host: &mut BenchHost) -> anyhow::Result<u64> {
    host.stop()?;
    host.restart()?;
    tokio::time::sleep(REST).await;
    host.store_bytes()
}

async fn at(bench: &mut Bench, parked: u64, warm_disk: u64) -> anyhow::Result<()> {
    let mut host = BenchHost::start(&bench.places, &RESIDENTS).await?;
    let paths = park(bench, &host, parked).await?;
    host.kill();
    host.restart()?;
    call_back(bench, &host, parked, &paths).await?;
    let disk = settled_disk(&mut host).await?.saturating_sub(warm_disk);
    let per_workflow = per_one(float(disk), parked);
    bench.report.add(Record::new(WORK, parked, "disk of all parked", float(disk) / MIB, "MiB"))?;
    bench.report.add(Record::new(WORK, parked, figures::PARKED_DISK, per_workflow, "B"))
}

fn id(index: u64) -> String {
    format!("p-{index:07}")
}

/// The workflows that are called back: spread evenly over all.
fn called(index: u64, parked: u64) -> u64 {
    index * parked / called_count(parked)
}

fn called_count(parked: u64) -> u64 {
    CALLED.min(parked)
}

/// Whether a workflow is one of those that are called back.
fn is_called(index: u64, parked: u64) -> bool {
    // The only candidate is the next one at or after its share of all.
    let candidate = (index * called_count(parked)).div_ceil(parked);
    candidate < called_count(parked) && called(candidate, parked) == index
}

/// Starts them all, looks at the memory, and gives the paths of the callbacks of some.
async fn park(bench: &mut Bench, host: &BenchHost, parked: u64) -> anyhow::Result<Vec<String>> {
    let http_before = bench.http_rate(CLIENTS).await?;
    let mut observer = host.admin().await?;
    let mut conns = host.admins(CLIENTS).await?;
    warm_up(bench, &mut conns).await?;
    tokio::time::sleep(REST).await;
    let memory_before = host.memory()?;
    let before = Meter::read(host, &mut observer).await?;
    let starting = Instant::now();
    let job = async |conn: &mut Conn, index: u64| {
        let input = if is_called(index, parked) { r#""park_shown""# } else { r#""park""# };
        api::start(conn, &id(index), input).await
    };
    load::each(&mut conns, 0..parked, job).await?;
    let took = starting.elapsed();
    let after = Meter::read(host, &mut observer).await?;
    tokio::time::sleep(REST).await;
    let memory_after = host.memory()?;
    let http = mean(http_before, bench.http_rate(CLIENTS).await?);

    let starts = Record::new(WORK, parked, "starts", per_second(parked, took), "workflows/s");
    bench.report.add(starts.beside(Limit::new(HTTP_RATE, http)))?;
    bench.cost(WORK, parked, "", &after.since(&before), parked)?;
    memory(bench, parked, memory_before, memory_after)?;
    let resident = float(after.stats.resident_instances);
    bench.report.add(Record::new(WORK, parked, "resident instances", resident, "workflows"))?;

    let paths = RefCell::new(vec![String::new(); usize::try_from(called_count(parked))?]);
    let job = async |conn: &mut Conn, index: u64| {
        let path = api::shown_callback(conn, &id(called(index, parked))).await?;
        paths.borrow_mut()[usize::try_from(index)?] = path;
        Ok(())
    };
    load::each(&mut conns, 0..called_count(parked), job).await?;
    Ok(paths.into_inner())
}

fn memory(bench: &mut Bench, parked: u64, before: Memory, after: Memory) -> anyhow::Result<()> {
    let mut add =
        |figure: &str, value: f64, unit: &str| bench.report.add(Record::new(WORK, parked, figure, value, unit));
    add("memory before", float(before.resident) / MIB, "MiB")?;
    add("memory after", float(after.resident) / MIB, "MiB")?;
    add("peak memory", float(after.peak) / MIB, "MiB")?;
    let more = (float(after.resident) - float(before.resident)).max(0.0);
    add(figures::PARKED_MEMORY, per_one(more, parked), "B")?;
    // The peak holds what was needed for a while, such as to compact.
    let peak = (float(after.peak) - float(before.peak)).max(0.0);
    add("peak memory per parked workflow", per_one(peak, parked), "B")
}

/// Calls some of them back on a host that was just started: first one, then the others.
async fn call_back(bench: &mut Bench, host: &BenchHost, parked: u64, paths: &[String]) -> anyhow::Result<()> {
    let start_up = host.start_up();
    let ready_memory = host.memory()?;
    let (mut publics, admins) = (host.publics(CLIENTS).await?, host.admins(CLIENTS).await?);
    let (first, last) = (Cell::new(None), Cell::new(Duration::ZERO));
    let idle = RefCell::new(admins);
    let job = async |public: &mut Conn, index: u64| {
        let mut admin = idle.borrow_mut().pop().context("there are as many connections to both listeners")?;
        api::call_back(public, &paths[usize::try_from(index)?]).await?;
        api::result(&mut admin, &id(called(index, parked)), LIMIT).await?;
        idle.borrow_mut().push(admin);
        let since = start_up.begun.elapsed();
        first.set(first.get().or(Some(since)));
        last.set(last.get().max(since));
        Ok(())
    };
    load::each(&mut publics[..1], 0..1, &job).await?;
    load::each(&mut publics, 1..called_count(parked), &job).await?;

    let first = first.get().context("one was called back")?;
    let mut add =
        |figure: &str, value: f64, unit: &str| bench.report.add(Record::new(WORK, parked, figure, value, unit));
    add(figures::READY, millis(start_up.took), "ms")?;
    add(figures::FIRST_CALLBACK, millis(first), "ms")?;
    add(figures::LAST_CALLBACK, millis(last.get()), "ms")?;
    add("callbacks after restart", float(called_count(parked)), "callbacks")?;
    add("memory when ready again", float(ready_memory.resident) / MIB, "MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_those_that_are_called_show_their_callback() {
        for parked in [1, 7, 999, 1_000, 1_001, 2_000, 12_345] {
            let chosen: Vec<u64> = (0..called_count(parked)).map(|index| called(index, parked)).collect();
            let shown: Vec<u64> = (0..parked).filter(|index| is_called(*index, parked)).collect();
            assert_eq!(chosen, shown, "{parked}");
        }
    }
}
