//! W2: a workflow that waits for a callback, completed over HTTP.
//!
//! The workflow shows its callback's URL as its status, which is set in the turn that creates the callback.

use super::wide;
use crate::api;
use crate::bench::{Bench, HTTP_RATE, HTTP_TIME};
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::load;
use crate::meter::Meter;
use crate::numbers::{Sorted, count, float, mean, micros, per_second};
use crate::record::{Limit, Record};
use anyhow::Context as _;
use std::cell::RefCell;
use std::time::{Duration, Instant};

const WORK: &str = "W2";

/// What the workflow is told.
pub const INPUT: &str = r#""park_shown""#;

/// The clients of the measurement of throughput.
const CLIENTS: usize = 64;

/// The longest a workflow may take once it is called back.
const LIMIT: Duration = Duration::from_secs(60);

/// How long before a callback its client begins to wait for the result.
const HEAD_START: Duration = Duration::from_millis(2);

/// The connections of one who measures alone.
struct Clients {
    admin: Conn,
    waiter: Conn,
    public: Conn,
}

/// Alone, then many at once.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let host = BenchHost::start(&bench.places, &[]).await?;
    alone(bench, &host).await?;
    many(bench, &host).await?;
    cycles(bench, &host).await?;
    bench.peak_memory(WORK, wide(CLIENTS), &host)
}

/// One after another: from sending the callback to the answer of a client that waits for the result.
async fn alone(bench: &mut Bench, host: &BenchHost) -> anyhow::Result<()> {
    let http_before = bench.http_time().await?;
    let mut store = bench.bare_store(1)?;
    store.measure().await?;
    let mut clients = Clients { admin: host.admin().await?, waiter: host.admin().await?, public: host.public().await? };
    let (mut completed, mut answered) = (Vec::new(), Vec::new());
    for round in 0..bench.scale.rounds {
        for index in 0..bench.scale.pick(200, 25) {
            let (seen, answer) = call_one_back(&mut clients, &format!("w2-alone-{round}-{index}")).await?;
            completed.push(seen);
            answered.push(answer);
        }
        store.measure().await?;
    }
    let http = mean(http_before, bench.http_time().await?);
    let limits = bench.store_limits(WORK, store)?;
    bench.report.add(Record::new(WORK, 1, HTTP_TIME, http, "us"))?;
    let (completed, answered) = (Sorted::new(completed), Sorted::new(answered));
    for (name, times) in [(figures::CALLBACK_COMPLETED, &completed), ("callback to its answer", &answered)] {
        for (figure, percent) in [(figures::P50, 50), (figures::P99, 99)] {
            let time = times.percentile(percent).map_or(0.0, micros);
            let record = Record::new(WORK, 1, format!("{name} {figure}"), time, "us");
            bench.report.add(record.beside(limits.time.clone()))?;
        }
    }
    Ok(())
}

/// From sending a callback to its workflow's result, and to its own answer.
async fn call_one_back(clients: &mut Clients, id: &str) -> anyhow::Result<(Duration, Duration)> {
    let Clients { admin, waiter, public } = clients;
    api::start(admin, id, INPUT).await?;
    let path = api::shown_callback(admin, id).await?;
    let seen = async {
        api::result(waiter, id, LIMIT).await?;
        anyhow::Ok(Instant::now())
    };
    let posted = async {
        tokio::time::sleep(HEAD_START).await;
        let begun = Instant::now();
        api::call_back(public, &path).await?;
        anyhow::Ok((begun, begun.elapsed()))
    };
    let (seen, (begun, answer)) = futures::try_join!(seen, posted)?;
    Ok((seen.saturating_duration_since(begun), answer))
}

/// All are started first, then all are called back: the two are timed apart.
async fn many(bench: &mut Bench, host: &BenchHost) -> anyhow::Result<()> {
    let (clients, workflows) = (wide(CLIENTS), bench.scale.pick(20_000, 1_000));
    let mut store = bench.bare_store(clients)?;
    let http_before = bench.http_rate(CLIENTS).await?;
    store.measure().await?;
    let started = start_all(bench, host, workflows).await?;
    store.measure().await?;
    let completed = call_all_back(bench, host, workflows).await?;
    store.measure().await?;
    let http = Limit::new(HTTP_RATE, mean(http_before, bench.http_rate(CLIENTS).await?));
    bench.store_limits(WORK, store)?;
    bench.report.add(Record::new(WORK, clients, HTTP_RATE, http.value, "requests/s"))?;
    bench.report.add(Record::new(WORK, clients, "starts", started, "workflows/s").beside(http.clone()))?;
    bench.report.add(Record::new(WORK, clients, figures::CALLBACKS, completed, "callbacks/s").beside(http))
}

/// Starts per second.
async fn start_all(bench: &mut Bench, host: &BenchHost, workflows: u64) -> anyhow::Result<f64> {
    let clients = wide(CLIENTS);
    let (mut observer, mut admins) = (host.admin().await?, host.admins(CLIENTS).await?);
    let before = Meter::read(host, &mut observer).await?;
    let begun = Instant::now();
    let job = async |conn: &mut Conn, index: u64| api::start(conn, &format!("w2-{index}"), INPUT).await;
    load::each(&mut admins, 0..workflows, job).await?;
    let started = per_second(workflows, begun.elapsed());
    let after = Meter::read(host, &mut observer).await?;
    bench.cost(WORK, clients, "start: ", &after.since(&before), workflows)?;
    let resident = float(after.stats.resident_instances);
    bench.report.add(Record::new(WORK, clients, "resident when all had started", resident, "workflows"))?;
    Ok(started)
}

/// Callbacks per second, until the last workflow has completed.
async fn call_all_back(bench: &mut Bench, host: &BenchHost, workflows: u64) -> anyhow::Result<f64> {
    let clients = wide(CLIENTS);
    let paths = RefCell::new(vec![String::new(); usize::try_from(workflows)?]);
    let job = async |conn: &mut Conn, index: u64| {
        let path = api::shown_callback(conn, &format!("w2-{index}")).await?;
        paths.borrow_mut()[usize::try_from(index)?] = path;
        Ok(())
    };
    load::each(&mut host.admins(CLIENTS).await?, 0..workflows, job).await?;
    let paths = paths.into_inner();

    let (mut observer, mut publics) = (host.admin().await?, host.publics(CLIENTS).await?);
    let before = Meter::read(host, &mut observer).await?;
    let begun = Instant::now();
    let job = async |conn: &mut Conn, index: u64| api::call_back(conn, &paths[usize::try_from(index)?]).await;
    let answered = load::each(&mut publics, 0..workflows, job).await?;
    api::none_runs(&mut observer, LIMIT).await?;
    let completed = per_second(workflows, begun.elapsed());
    let after = Meter::read(host, &mut observer).await?;
    let p99 = answered.percentile(99).map_or(0.0, micros);
    bench.report.add(Record::new(WORK, clients, "callback to its answer p99", p99, "us"))?;
    bench.cost(WORK, clients, "callback: ", &after.since(&before), workflows)?;
    Ok(completed)
}

/// Each client takes one workflow from its start to its result, then the next.
async fn cycles(bench: &mut Bench, host: &BenchHost) -> anyhow::Result<()> {
    let clients = wide(CLIENTS);
    let admins = host.admins(CLIENTS).await?;
    let mut publics = host.publics(CLIENTS).await?;
    // A client has a connection to each listener; the load is spread over those to the public one.
    let idle = RefCell::new(admins);
    let job = async |public: &mut Conn, index: u64| {
        let mut admin = idle.borrow_mut().pop().context("there are as many connections to both listeners")?;
        let id = format!("w2-cycle-{index}");
        api::start(&mut admin, &id, INPUT).await?;
        let path = api::shown_callback(&mut admin, &id).await?;
        api::call_back(public, &path).await?;
        api::result(&mut admin, &id, LIMIT).await?;
        idle.borrow_mut().push(admin);
        Ok(())
    };
    let mut observer = host.admin().await?;
    let meter = async || Meter::read(host, &mut observer).await;
    let window = load::for_a_while(&mut publics, bench.scale.warm, bench.scale.length, job, meter).await?;
    let done = count(window.times.len());
    let rate = per_second(done, window.length);
    bench.report.add(Record::new(WORK, clients, "whole cycles", rate, "workflows/s"))?;
    bench.cost(WORK, clients, "cycle: ", &window.after.since(&window.before), done)
}
