//! Fixed pieces of work for a program that counts instructions, such as `valgrind --tool=callgrind`.
//!
//! Instructions, unlike time, are the same on a busy machine. A piece is run twice with different numbers of steps;
//! the difference, divided by the steps between them, is the cost of one step without that of starting.

use crate::host::Places;
use crate::limits::replay::Replayer;
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use rehydrate_core::{Limits, Nanos};
use rehydrate_runtime::outbound::{OutboundClient, OutboundLimits, OutboundPolicy, Secrets};
use rehydrate_runtime::store::MemoryStore;
use rehydrate_runtime::{RetentionConfig, Runtime, RuntimeConfig, StartRequest};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Piece {
    /// Replaying a recorded step: the guest and its view of the history.
    Replay,
    /// A whole step: turn, commit to a store in memory, activity, report. All of the runtime but the disk.
    Turn,
}

/// How often a history is replayed, so that making it counts for little.
const REPLAYS: usize = 10;

/// The longest it may take, which is much under a program that counts.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a piece of that many steps, once.
pub fn run(piece: Piece, steps: u64) -> anyhow::Result<()> {
    let places = Places::find(None, None)?;
    let directory = places.directory()?;
    match piece {
        Piece::Replay => Replayer::new(&places, directory.path())?.repeat(steps, REPLAYS),
        Piece::Turn => {
            // One worker: two would take turns in an order of their own.
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            tokio.block_on(turns(&places, directory.path(), steps))
        }
    }
}

async fn turns(places: &Places, directory: &Path, steps: u64) -> anyhow::Result<()> {
    let on_fatal = Arc::new(|reason: String| eprintln!("the store failed: {reason}"));
    let runtime = Runtime::open(config(directory)?, Arc::new(MemoryStore::new()), on_fatal).await?;
    for (name, file) in [("bench", &places.workflow), ("activities", &places.activities)] {
        let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        runtime.deploy(name, "1", bytes.into()).await?;
    }
    let input = format!(r#"{{"steps":{steps}}}"#);
    let request = StartRequest { workflow: "bench".to_owned(), input, ..StartRequest::default() };
    let (_, mut watched) = runtime.start_watched(request).await?;
    let result = runtime.result_of(&mut watched, LIMIT).await?;
    match result.outcome {
        Some(Ok(output)) if output == steps.to_string() => {}
        other => bail!("the workflow should have given {steps}, but: {other:?}"),
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn config(directory: &Path) -> anyhow::Result<RuntimeConfig> {
    let outbound =
        OutboundClient::new(&OutboundPolicy::default(), Secrets::load(&BTreeMap::new())?, OutboundLimits::default())?;
    Ok(RuntimeConfig {
        data_dir: directory.to_owned(),
        public_url: "http://127.0.0.1:7071".to_owned(),
        limits: Limits::default(),
        resident_instances: 1,
        resident_bytes: 1 << 30,
        activity_concurrency: 1,
        queue_concurrency: BTreeMap::new(),
        default_start_to_close: Nanos::from_secs(600),
        component_bytes: 64 << 20,
        compile_timeout: Nanos::from_secs(600),
        free_bytes_min: 0,
        idempotency_retention: Nanos::from_secs(60),
        retention: RetentionConfig::default(),
        schedules_max: 10,
        outbound,
    })
}
