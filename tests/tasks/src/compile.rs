//! Builds the host, the services of the samples, the samples and the guests of the tests.

use crate::prerequisites::{Environment, GUEST_TARGET};
use crate::process::succeeds;
use crate::say;
use crate::workspace::{Workspace, cargo};
use anyhow::{Context, bail};
use std::process::Command;
use std::time::Duration;

/// The longest a build may take: on two slow cores the first one needs about half an hour.
pub const BUILD_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// The programs, always built together: a selection of its own would have other features and build half of them again.
const PROGRAMS: [&str; 8] = ["build", "--release", "-p", "rehydrate-cli", "-p", "job-service", "-p", "shop-service"];

/// The samples that are components; their package names.
const SAMPLES: [&str; 11] = [
    "aggregator",
    "aggregator-feed",
    "async-http",
    "chaining",
    "fan-out-fan-in",
    "human-interaction",
    "job-attempts",
    "job-with-callback",
    "monitor",
    "order-saga",
    "sample-activities",
];

/// Runs one cargo command in the checkout.
pub fn run_cargo(workspace: &Workspace, environment: &Environment, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    environment.apply(command.current_dir(&workspace.root).args(arguments));
    command.env("CARGO_TARGET_DIR", &workspace.target);
    if succeeds(&mut command, BUILD_LIMIT)? {
        return Ok(());
    }
    bail!("`cargo {}` failed; what it printed above says why", arguments.join(" "))
}

/// The programs of this machine: the host and the services of the samples.
pub fn programs(workspace: &Workspace, environment: &Environment) -> anyhow::Result<()> {
    if workspace.is_warm() {
        say("building the host and the samples' services");
    } else {
        say("building the host and the samples' services; the first time this compiles RocksDB (C++) and wasmtime,");
        say("which takes about 15 minutes on 2 cores and is done once");
    }
    run_cargo(workspace, environment, &PROGRAMS)
}

/// The benchmark program and its guests.
pub fn bench(workspace: &Workspace, environment: &Environment) -> anyhow::Result<()> {
    say("building the benchmark program and its guests");
    run_cargo(workspace, environment, &[&PROGRAMS[..], &["-p", "rehydrate-bench"]].concat())?;
    let guests = ["build", "--release", "--target", GUEST_TARGET, "-p", "bench-workflows", "-p", "bench-activities"];
    run_cargo(workspace, environment, &guests)
}

/// The sample of the demo, as a component.
pub fn demo_sample(workspace: &Workspace, environment: &Environment) -> anyhow::Result<()> {
    say("building the sample workflow as a component");
    run_cargo(workspace, environment, &["build", "--release", "--target", GUEST_TARGET, "-p", "job-with-callback"])
}

/// All samples, as components.
pub fn samples(workspace: &Workspace, environment: &Environment) -> anyhow::Result<()> {
    say("building the samples as components");
    let mut build = vec!["build", "--release", "--target", GUEST_TARGET];
    build.extend(SAMPLES.iter().flat_map(|sample| ["-p", sample]));
    run_cargo(workspace, environment, &build)
}

/// The guests of the tests, as components; `test_guests_changed.wasm` is the same workflow after a change of
/// its code, for the tests of replay.
pub fn guests(workspace: &Workspace, environment: &Environment) -> anyhow::Result<()> {
    say("building the guests of the tests as components");
    let build = ["build", "--release", "--target", GUEST_TARGET];
    let changed = [&build[..], &["-p", "test-guests", "--features", "changed"]].concat();
    run_cargo(workspace, environment, &changed)?;
    let from = workspace.component("test_guests");
    let to = workspace.component("test_guests_changed");
    std::fs::copy(&from, &to).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    let plain = ["-p", "test-guests", "-p", "test-activities", "-p", "test-entities", "-p", "test-refused"];
    run_cargo(workspace, environment, &[&build[..], &plain].concat())
}
