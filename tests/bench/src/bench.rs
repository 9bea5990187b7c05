//! What all works share: where things are, how long to measure, where figures go.

use crate::figures;
use crate::host::{BenchHost, Places};
use crate::limits::http::BareHttp;
use crate::limits::parts::Parts;
use crate::limits::store::BareStore;
use crate::meter::Spent;
use crate::numbers::{count, float, micros};
use crate::record::{Limit, Record};
use crate::report::Report;
use anyhow::Context as _;
use std::time::Duration;
use tempfile::TempDir;

/// The limit of durable writes, in batches per second.
pub const STORE_RATE: &str = "bare-store commits";
/// The time in which one batch becomes durable while nothing else does.
pub const STORE_TIME: &str = "bare-store commit p50";
/// The limit of HTTP on this machine, in requests per second.
pub const HTTP_RATE: &str = "bare-http requests";
/// The time of one request and its answer while there are no others.
pub const HTTP_TIME: &str = "bare-http round trip p50";

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// A run of seconds, to see that everything works.
    pub quick: bool,
    /// How long load runs before it is measured.
    pub warm: Duration,
    /// How long it is measured, in all rounds together.
    pub length: Duration,
    /// In how many rounds, between which raw limits are measured.
    pub rounds: u32,
    /// How long a raw limit is measured, each time.
    pub limit_length: Duration,
}

impl Scale {
    /// The two sizes.
    pub fn new(quick: bool) -> Scale {
        let millis = if quick { [200, 1_000, 300] } else { [1_000, 10_000, 1_000] };
        let [warm, length, limit_length] = millis.map(Duration::from_millis);
        Scale { quick, warm, length, rounds: if quick { 2 } else { 5 }, limit_length }
    }

    /// The one or the other.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// A run of the benchmarks.
pub struct Bench {
    /// Where things are.
    pub places: Places,
    /// How long and how much.
    pub scale: Scale,
    /// Counts chosen by the user, if any.
    pub counts: Vec<u64>,
    /// Where figures go.
    pub report: Report,
    /// A server with nothing behind it.
    pub bare_http: BareHttp,
}

impl Bench {
    /// The counts of a work.
    pub fn counts(&self, full: &[u64], quick: &[u64]) -> Vec<u64> {
        if !self.counts.is_empty() {
            return self.counts.clone();
        }
        self.scale.pick(full, quick).to_vec()
    }

    /// A bare store for that many submitters, to be measured between pieces of a work.
    pub fn bare_store(&self, submitters: u64) -> anyhow::Result<StoreProbe> {
        let directory = self.places.directory()?;
        let store = BareStore::open(directory.path(), submitters)?;
        Ok(StoreProbe { store: Some(store), submitters, length: self.scale.limit_length, _directory: directory })
    }

    /// Writes down what the store alone can do.
    pub fn store_limits(&mut self, work: &str, probe: StoreProbe) -> anyhow::Result<StoreLimits> {
        let found = probe.store.as_ref().context("a measurement of the bare store was given up")?.found();
        let (rate, time) = (found.commits_per_second, micros(found.p50));
        let figures = [
            (STORE_RATE, rate, "batches/s"),
            (STORE_TIME, time, "us"),
            ("bare-store commit p99", micros(found.p99), "us"),
            ("bare-store syncs", found.syncs_per_second, "syncs/s"),
            ("bare-store bytes per batch", float(found.batch_bytes), "B"),
            (figures::DRIFT, found.drift, "x"),
        ];
        for (figure, value, unit) in figures {
            self.report.add(Record::new(work, probe.submitters, figure, value, unit))?;
        }
        Ok(StoreLimits { rate: Limit::new(STORE_RATE, rate), time: Limit::new(STORE_TIME, time), cpu: found.cpu })
    }

    /// Measures requests per second of HTTP with nothing behind it.
    pub async fn http_rate(&self, concurrency: usize) -> anyhow::Result<f64> {
        self.bare_http.requests_per_second(concurrency, self.scale.limit_length).await
    }

    /// Measures one request and its answer of HTTP with nothing behind it, in microseconds.
    pub async fn http_time(&self) -> anyhow::Result<f64> {
        self.bare_http.round_trip(self.scale.limit_length).await.map(micros)
    }

    /// Writes down what a stretch of work cost the host, for each of the workflows in it.
    pub fn cost(
        &mut self,
        work: &str,
        concurrency: u64,
        phase: &str,
        spent: &Spent,
        workflows: u64,
    ) -> anyhow::Result<()> {
        for (figure, value, unit) in spent.figures(workflows) {
            self.report.add(Record::new(work, concurrency, format!("{phase}{figure}"), value, unit))?;
        }
        Ok(())
    }

    /// Measures and writes down what a step costs in the parts alone, beside what the store alone can do.
    pub async fn parts(
        &mut self,
        work: &str,
        concurrency: usize,
        steps: u64,
        store: &StoreLimits,
    ) -> anyhow::Result<()> {
        let parts = Parts::measure(self, concurrency, steps, store.cpu).await?;
        let at = count(concurrency);
        let figures = [
            ("cpu of the store", parts.store),
            ("cpu of HTTP, both sides", parts.http),
            ("cpu of the workflow's guest", parts.workflow),
            ("cpu of the activity", parts.activity),
        ];
        for (figure, value) in figures {
            self.report.add(Record::new(work, at, format!("{} {figure}", figures::PARTS), value, "us/step"))?;
        }
        let most = Record::new(work, at, figures::PARTS, parts.steps_per_second(), "steps/s");
        self.report.add(most.beside(store.rate.clone()))
    }

    /// Writes down the most memory that the host ever had.
    pub fn peak_memory(&mut self, work: &str, concurrency: u64, host: &BenchHost) -> anyhow::Result<()> {
        let peak = float(host.memory()?.peak) / MIB;
        self.report.add(Record::new(work, concurrency, "peak memory", peak, "MiB"))
    }
}

/// Bytes of a MiB.
pub const MIB: f64 = 1_048_576.0;

/// A bare store that is measured again and again.
pub struct StoreProbe {
    // Dropped before its directory.
    store: Option<BareStore>,
    submitters: u64,
    length: Duration,
    _directory: TempDir,
}

impl StoreProbe {
    /// Measures once more.
    pub async fn measure(&mut self) -> anyhow::Result<()> {
        let mut store = self.store.take().context("a measurement of the bare store was given up")?;
        let length = self.length;
        let measuring = tokio::task::spawn_blocking(move || store.measure(length).map(|()| store));
        self.store = Some(measuring.await.context("measuring the bare store ended in a panic")??);
        Ok(())
    }
}

/// What the store alone can do.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// Batches per second.
    pub rate: Limit,
    /// The time of one, in microseconds.
    pub time: Limit,
    /// The CPU time of one, in microseconds.
    pub cpu: f64,
}
