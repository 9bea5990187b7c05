//! `rehydrate`: the host and its command line in one binary.
//!
//! This room parses arguments and configuration, wires the other rooms and prints. It decides nothing about
//! instances: every command but `serve` and `dev` is a client of the API. Results go to stdout, everything
//! else to stderr; every error ends with the next step.

mod args;
mod client;
mod commands;
mod config;
mod dev;
mod guest_build;
mod host;
mod output;
mod retention;
mod serve;
mod show;

use crate::args::{Args, Command};
use crate::output::Ended;
use clap::Parser as _;
use std::process::ExitCode;
use std::time::Duration;

/// Memory is taken on one thread and given back on another all the time (a batch by the commit thread, an answer by
/// whoever asked), which makes threads wait for each other in the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the end of the process waits for what still blocks.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(3);

/// The instance of a `--wait`, `follow` or `replay` did not end well.
const EXIT_INSTANCE_FAILED: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::InstanceFailed) => ExitCode::from(EXIT_INSTANCE_FAILED),
        // Whoever read our output has had enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::clean(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<Ended> {
    // Both the client and the host's way out speak TLS; this fails only if a provider is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let serves = matches!(args.command, Command::Serve(_) | Command::Dev(_));
    let mut builder = if serves {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build()?;
    let ended = runtime.block_on(commands::run(args));
    // The last task to go closes the store, which must not happen while the process is taken down around it. What
    // still blocks then (a compiler) must not keep the process.
    runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
    ended
}
