//! The bare store: the host's store and its commit thread on a directory of their own, without the host.
//!
//! So many runs each have one batch under way. A batch is that of a step of W1: the activity's completion and
//! the next activity, as the events that the host would write. One thread makes all batches; the commit thread
//! is the store's own.

use crate::numbers::{Sorted, count, micros, per_one, per_second};
use crate::proc::own_cpu;
use anyhow::{Context as _, anyhow};
use rehydrate_core::{ActivityOptions, AttemptNumber, Event, EventBody, EventId, InstanceKey, RunNumber, Timestamp};
use rehydrate_store::{Batch, Committer, CommitterOptions, CommitterStats, RocksStore, StoreError, StoreOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What the store alone can do, over all measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found {
    /// Batches made durable in a second.
    pub commits_per_second: f64,
    /// Synced writes in a second.
    pub syncs_per_second: f64,
    /// The time from handing a batch over until it is durable.
    pub p50: Duration,
    /// The same, for the slowest hundredth.
    pub p99: Duration,
    /// Bytes of a batch, as the host counts them.
    pub batch_bytes: u64,
    /// Microseconds of CPU time of a batch: making it, handing it over, making it durable.
    pub cpu: f64,
    /// The best of the measurements by the worst: how far the machine drifted between them.
    pub drift: f64,
}

/// The longest a commit may take.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);

/// One run whose last batch is under way.
struct Run {
    key: InstanceKey,
    last: EventId,
    submitted: Instant,
}

/// The store. Between measurements it has nothing to do.
pub struct BareStore {
    committer: Committer,
    runs: Vec<Run>,
    tell: Sender<usize>,
    told: Receiver<usize>,
    times: Vec<Duration>,
    took: Duration,
    cpu: Duration,
    rates: Vec<f64>,
    counted: CommitterStats,
}

impl BareStore {
    /// Opens it, with that many runs.
    pub fn open(directory: &Path, submitters: u64) -> anyhow::Result<BareStore> {
        let store = RocksStore::open(directory.join("store"), StoreOptions::default());
        let on_fatal = Box::new(|error: &StoreError| eprintln!("the bare store failed: {error}"));
        let store = Arc::new(store.context("the bare store opens")?);
        let committer = Committer::start(store, CommitterOptions::new(on_fatal)).context("a thread starts")?;
        let run = |number: u64| {
            let mut key = [0; 16];
            // Spread over the whole range, as the keys of the host are.
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key[..8].copy_from_slice(&spread.to_be_bytes());
            Run { key: InstanceKey(key), last: EventId::NONE, submitted: Instant::now() }
        };
        let (tell, told) = channel();
        Ok(BareStore {
            committer,
            runs: (1..=submitters).map(run).collect(),
            tell,
            told,
            times: Vec::new(),
            took: Duration::ZERO,
            cpu: Duration::ZERO,
            rates: Vec::new(),
            counted: CommitterStats::default(),
        })
    }

    /// Measures for `length`, after a fifth of that to warm up.
    pub fn measure(&mut self, length: Duration) -> anyhow::Result<()> {
        (0..self.runs.len()).try_for_each(|index| self.submit(index))?;
        self.keep_going(length / 5)?;
        let (before, cpu_before) = (self.committer.stats(), own_cpu()?);
        let begun = Instant::now();
        let times = self.keep_going(length)?;
        let (took, after) = (begun.elapsed(), self.committer.stats());
        self.cpu += own_cpu()?.saturating_sub(cpu_before);
        (0..self.runs.len()).try_for_each(|_| self.next_durable().map(drop))?;
        self.rates.push(per_second(count(times.len()), took));
        self.times.extend(times);
        self.took += took;
        self.counted.commits += after.commits - before.commits;
        self.counted.batches += after.batches - before.batches;
        self.counted.bytes += after.bytes - before.bytes;
        Ok(())
    }

    /// What all measurements found together.
    pub fn found(&self) -> Found {
        let times = Sorted::new(self.times.clone());
        let best = self.rates.iter().copied().fold(0.0, f64::max);
        let worst = self.rates.iter().copied().fold(f64::INFINITY, f64::min);
        Found {
            commits_per_second: per_second(count(self.times.len()), self.took),
            syncs_per_second: per_second(self.counted.commits, self.took),
            p50: times.percentile(50).unwrap_or_default(),
            p99: times.percentile(99).unwrap_or_default(),
            cpu: per_one(micros(self.cpu), count(self.times.len())),
            batch_bytes: self.counted.bytes.checked_div(self.counted.batches).unwrap_or(0),
            drift: best / worst,
        }
    }

    fn submit(&mut self, index: usize) -> anyhow::Result<()> {
        let run = &mut self.runs[index];
        let batch = step(run.key, run.last);
        run.last = batch.last_event();
        run.submitted = Instant::now();
        let tell = self.tell.clone();
        // Dropped untold if the store fails, which then shows as a commit that takes too long.
        let acknowledge = Box::new(move |result: Result<(), _>| {
            if result.is_ok() {
                // Nobody listens any more once the store is closed.
                let _ = tell.send(index);
            }
        });
        self.committer.submit(batch, acknowledge).map_err(|error| anyhow!("the bare store takes no batch: {error}"))
    }

    /// Waits for the next run whose batch is durable.
    fn next_durable(&self) -> anyhow::Result<usize> {
        let waited = self.told.recv_timeout(COMMIT_LIMIT);
        waited.with_context(|| format!("no commit of the bare store within {COMMIT_LIMIT:?}"))
    }

    /// As soon as a batch of a run is durable the next one follows; gives the time that each took.
    fn keep_going(&mut self, length: Duration) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < length {
            let index = self.next_durable()?;
            times.push(self.runs[index].submitted.elapsed());
            self.submit(index)?;
        }
        Ok(times)
    }
}

/// What a step of W1 writes.
fn step(key: InstanceKey, last: EventId) -> Batch {
    let at = Timestamp(1_700_000_000_000_000_000);
    let (completed, scheduled) = (last.next(), last.next().next());
    let bodies = [
        (
            completed,
            EventId::NONE,
            EventBody::ActivityCompleted {
                op: last,
                attempt: AttemptNumber::FIRST,
                started: at,
                output: "7".to_owned(),
            },
        ),
        (
            scheduled,
            completed,
            EventBody::ActivityScheduled {
                name: "next".to_owned(),
                input: "7".to_owned(),
                options: ActivityOptions::default(),
            },
        ),
    ];
    let mut batch = Batch::new(key, RunNumber::FIRST, last);
    batch.events =
        bodies.into_iter().map(|(id, cause, body)| (id, Event { id, time: at, cause, body }.encode())).collect();
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_taken_together() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = BareStore::open(directory.path(), 3).unwrap();
        for _ in 0..2 {
            store.measure(Duration::from_millis(100)).unwrap();
        }
        let found = store.found();
        assert!(found.commits_per_second > 0.0 && found.syncs_per_second > 0.0, "{found:?}");
        assert!(found.p50 <= found.p99 && found.batch_bytes > 0 && found.drift >= 1.0, "{found:?}");
        assert_eq!(store.rates.len(), 2);
    }

    #[test]
    fn a_step_is_two_events_after_the_last() {
        let batch = step(InstanceKey([1; 16]), EventId(4));
        assert_eq!((batch.expected_last, batch.last_event(), batch.events.len()), (EventId(4), EventId(6), 2));
    }
}
