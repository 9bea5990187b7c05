//! What work costs the host: read at both ends of it, and divided by the workflows in between.

use crate::api::{self, Stats};
use crate::client::Conn;
use crate::figures;
use crate::host::BenchHost;
use crate::numbers::{float, micros, per_one};
use crate::proc::{self, Usage};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// What a host has used and counted at one moment.
#[derive(Clone, Debug)]
pub struct Meter {
    /// When.
    pub at: Instant,
    /// What the process has used.
    pub usage: Usage,
    /// What the host has counted.
    pub stats: Stats,
}

impl Meter {
    /// Reads it.
    pub async fn read(host: &BenchHost, conn: &mut Conn) -> anyhow::Result<Meter> {
        let stats = api::stats(conn).await?;
        Ok(Meter { at: Instant::now(), usage: proc::usage(host.pid()?)?, stats })
    }

    /// What was used since an earlier reading.
    pub fn since(&self, earlier: &Meter) -> Spent {
        let (now, then) = (&self.stats, &earlier.stats);
        Spent {
            length: self.at - earlier.at,
            cpu: self.usage.cpu.saturating_sub(earlier.usage.cpu),
            written: self.usage.written.saturating_sub(earlier.usage.written),
            wal_bytes: now.wal_bytes.zip(then.wal_bytes).map(|(now, then)| now.saturating_sub(then)),
            commits: now.commits.saturating_sub(then.commits),
            batches: now.batches.saturating_sub(then.batches),
            batch_bytes: now.batch_bytes.saturating_sub(then.batch_bytes),
        }
    }
}

/// What a host used between two readings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    length: Duration,
    cpu: Duration,
    written: u64,
    wal_bytes: Option<u64>,
    commits: u64,
    batches: u64,
    batch_bytes: u64,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, more: Spent) {
        self.length += more.length;
        self.cpu += more.cpu;
        self.written += more.written;
        self.wal_bytes = match (self.wal_bytes, more.wal_bytes) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.commits += more.commits;
        self.batches += more.batches;
        self.batch_bytes += more.batch_bytes;
    }
}

impl Spent {
    /// As figures, with their units, for each of that many workflows.
    pub fn figures(&self, workflows: u64) -> Vec<(&'static str, f64, &'static str)> {
        let seconds = self.length.as_secs_f64();
        let wal_bytes = self.wal_bytes.map(|bytes| (figures::WAL_BYTES, per_one(float(bytes), workflows), "B"));
        let used = [
            ("cpu time per workflow", per_one(micros(self.cpu), workflows), "us"),
            ("cores used", self.cpu.as_secs_f64() / seconds, "cores"),
            ("bytes written per workflow", per_one(float(self.written), workflows), "B"),
        ];
        let committed = [
            ("synced commits", float(self.commits) / seconds, "commits/s"),
            ("batches per commit", per_one(float(self.batches), self.commits), "batches"),
            ("batches per workflow", per_one(float(self.batches), workflows), "batches"),
            ("bytes per batch", per_one(float(self.batch_bytes), self.batches), "B"),
        ];
        used.into_iter().chain(wal_bytes).chain(committed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(at: Instant, factor: u32) -> Meter {
        let usage = Usage { cpu: Duration::from_secs(1) * factor, written: 4_096 * u64::from(factor) };
        let wide = u64::from(factor);
        let stats = Stats { commits: 10 * wide, batches: 40 * wide, batch_bytes: 800 * wide, ..Stats::default() };
        Meter { at: at + Duration::from_secs(2) * factor, usage, stats }
    }

    #[test]
    fn costs_are_differences_divided_by_workflows() {
        let begun = Instant::now();
        let mut spent = meter(begun, 2).since(&meter(begun, 1));
        spent += meter(begun, 5).since(&meter(begun, 4));
        let figures = spent.figures(4);
        let value = |name: &str| figures.iter().find(|figure| figure.0 == name).map(|figure| figure.1);
        assert_eq!(value("cpu time per workflow"), Some(500_000.0));
        assert_eq!(value("cores used"), Some(0.5));
        assert_eq!(value("bytes written per workflow"), Some(2_048.0));
        assert_eq!(value("synced commits"), Some(5.0));
        assert_eq!(value("batches per commit"), Some(4.0));
        assert_eq!(value("batches per workflow"), Some(20.0));
        assert_eq!(value("bytes per batch"), Some(20.0));
        assert_eq!(value(figures::WAL_BYTES), None);
    }
}
