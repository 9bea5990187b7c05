//! `rehydrate serve`: a host until a signal says stop.

use crate::args::ServeArgs;
use crate::config::Settings;
use crate::host::{self, Host, Signals};
use crate::output::{self, Ended};
use std::path::Path;

/// Where everything is kept if nobody says.
const DATA_DIR: &str = "rehydrate-data";

/// Serves. Prints the two URLs on stdout once the host takes requests.
pub async fn run(args: &ServeArgs) -> anyhow::Result<Ended> {
    let settings = Settings::load(&args.host, Path::new(DATA_DIR), |name| std::env::var(name).ok())?;
    host::start_log(&settings.log)?;
    // Before the store opens: a signal during recovery must not be lost.
    let mut signals = Signals::new()?;
    let host = tokio::select! {
        host = Host::open(&settings) => host?,
        () = signals.next() => return Ok(Ended::Well),
    };
    tracing::info!(data_dir = %settings.data_dir.display(), "the host is ready");
    output::line(&format!("admin: {}\npublic: {}", host.admin_url, host.public_url))?;
    signals.next().await;
    tracing::info!("stopping");
    host::stop(host, signals).await;
    Ok(Ended::Well)
}
