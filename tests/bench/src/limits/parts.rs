//! What a step of W1 costs in CPU time when each part of a host does its share of it alone.
//!
//! A host has to do all of that, beside the client that asks for it. So the sum says how many steps a second the
//! processors of the machine can take at the most, whatever puts the parts together.

use crate::bench::Bench;
use crate::limits::activity::Caller;
use crate::limits::replay::Replayer;
use crate::numbers::{count, float, micros, per_one};
use crate::proc::own_cpu;
use anyhow::Context as _;

/// Microseconds of CPU time for a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Parts {
    /// Making one batch durable, with as many others as there are clients.
    pub store: f64,
    /// The step's share of a request and its answer, on both sides.
    pub http: f64,
    /// The workflow's guest: its share of a replay from the beginning.
    pub workflow: f64,
    /// One call of the activity.
    pub activity: f64,
}

impl Parts {
    /// Measures all but the store, of which it is told.
    pub async fn measure(bench: &Bench, concurrency: usize, steps: u64, store: f64) -> anyhow::Result<Parts> {
        let length = bench.scale.limit_length;
        let http = bench.bare_http.cpu_per_request(concurrency, length).await? / float(steps);
        let (places, directory) = (bench.places.clone(), bench.places.directory()?);
        let guests = move || {
            let replayer = Replayer::new(&places, directory.path())?;
            let workflow = cpu_of_each(|| Ok(steps * replayer.replay_for(steps, length)?))?;
            let caller = Caller::new(&places, directory.path())?;
            let activity = cpu_of_each(|| caller.call_for(length))?;
            anyhow::Ok((workflow, activity))
        };
        let (workflow, activity) =
            tokio::task::spawn_blocking(guests).await.context("the guests ended in a panic")??;
        Ok(Parts { store, http, workflow, activity })
    }

    /// A step in all.
    pub fn total(&self) -> f64 {
        self.store + self.http + self.workflow + self.activity
    }

    /// Steps a second that would keep all processors busy with nothing else.
    pub fn steps_per_second(&self) -> f64 {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        float(count(processors)) * 1e6 / self.total()
    }
}

/// Microseconds of this process for each of the things that `work` says it did.
fn cpu_of_each(work: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let before = own_cpu()?;
    let done = work()?;
    Ok(per_one(micros(own_cpu()?.saturating_sub(before)), done))
}
