//! The works: what the host is made to do while it is measured.

mod callback;
mod fan_out;
mod idle;
mod long_history;
mod parked;
mod sequential;
mod timers;

use crate::args::Work;
use crate::bench::Bench;

/// Measures one work.
pub async fn run(bench: &mut Bench, work: Work) -> anyhow::Result<()> {
    match work {
        Work::Sequential => sequential::run(bench).await,
        Work::Callback => callback::run(bench).await,
        Work::Timers => timers::run(bench).await,
        Work::Parked => parked::run(bench).await,
        Work::LongHistory => long_history::run(bench).await,
        Work::FanOut => fan_out::run(bench).await,
        Work::Idle => idle::run(bench).await,
    }
}

/// A number of connections as a figure's concurrency.
fn wide(connections: usize) -> u64 {
    crate::numbers::count(connections)
}
