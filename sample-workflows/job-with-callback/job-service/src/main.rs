//! The command `job-service`: listens, prints its address, serves until it is asked to stop.
//!
//! It must print exactly one line to stdout, once it accepts connections: scripts wait for it.

use anyhow::Context;
use clap::Parser;
use job_service::webhook::RetryLimits;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// A small job service in the style of the Databricks Jobs API, with webhooks on completion.
///
/// It keeps everything in memory. How a job behaves is told in the job itself: see the README beside it.
#[derive(Parser, Debug)]
#[command(name = "job-service", version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090", env = "JOB_SERVICE_LISTEN")]
    listen: SocketAddr,

    /// For how long, in seconds, a webhook is tried again while its receiver can't be reached or answers 429 or 5xx.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    webhook_retry_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("can't listen on {}; choose another address with --listen", arguments.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    println!("job-service listening on http://{address}");
    std::io::stdout().flush().context("can't print the address")?;
    let limits = RetryLimits { total: Duration::from_secs(arguments.webhook_retry_seconds), ..RetryLimits::default() };
    let service = job_service::api::Service::new(limits).context("can't make the HTTP client")?;
    tokio::select! {
        served = job_service::api::serve(listener, service) => served.context("the service ended"),
        stopped = asked_to_stop() => stopped.context("can't listen for signals"),
    }
}

/// Completes at SIGTERM or ctrl-c.
async fn asked_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            stopped = tokio::signal::ctrl_c() => stopped,
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
