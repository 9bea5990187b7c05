//! A host in this process: the store, the runtime and the two listeners, wired and taken down in order.
//!
//! The listeners are bound before the runtime opens, because its callback URLs name the public port; they serve
//! only once it has. A store that fails ends the process at once: what it holds is known again after a restart.

use crate::args::LogFormat;
use crate::config::{Log, Settings};
use anyhow::{Context as _, bail};
use rehydrate_http::{AdminServer, Bound, PublicServer};
use rehydrate_runtime::Runtime;
use rehydrate_store::{OpenError, RocksStore, StoreOptions};
use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long a store that is in use is tried again, and how often.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_REST: Duration = Duration::from_millis(50);

/// A running host.
pub struct Host {
    /// The base URL of the admin API.
    pub admin_url: String,
    /// The base URL of the public listener on this machine.
    pub public_url: String,
    runtime: Runtime,
    admin: AdminServer,
    public: PublicServer,
    grace: Duration,
}

impl Host {
    /// Opens the data directory, recovers what was under way and serves.
    pub async fn open(settings: &Settings) -> anyhow::Result<Host> {
        settings.admin.check(settings.admin_listen)?;
        let admin = Bound::admin(settings.admin_listen).await?;
        let public = Bound::public(settings.public_listen).await?;
        let config = settings.runtime(public.local_addr())?;
        make_data_dir(&settings.data_dir)?;
        let store = open_store(settings).await?;
        let runtime = Runtime::open(config, store, Arc::new(fatal)).await?;
        let admin = AdminServer::start(admin, runtime.clone(), settings.admin.clone(), settings.http.clone())?;
        let public = PublicServer::start(public, runtime.clone(), settings.http.clone());
        Ok(Host {
            admin_url: format!("http://{}", admin.local_addr()),
            public_url: format!("http://{}", public.local_addr()),
            runtime,
            admin,
            public,
            grace: settings.shutdown_grace,
        })
    }

    /// Stops accepting, lets requests and turns under way finish, and closes the store.
    pub async fn stop(self) {
        let (admin, public) = tokio::join!(self.admin.drain(self.grace), self.public.drain(self.grace));
        if !(admin && public) {
            tracing::warn!("some requests were cut off: they took longer than the grace");
        }
        self.runtime.shutdown(self.grace).await;
    }
}

/// Opens the store, and waits a little if it is in use: a host that was killed a moment ago still has it.
async fn open_store(settings: &Settings) -> anyhow::Result<Arc<RocksStore>> {
    let path = settings.data_dir.join("store");
    let options = StoreOptions {
        log_bytes_kept: settings.limits.log_bytes_kept,
        abort_after_writes: settings.abort_after_writes,
        ..StoreOptions::default()
    };
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let (path, options) = (path.clone(), options.clone());
        let opened = tokio::task::spawn_blocking(move || RocksStore::open(&path, options)).await;
        match opened.context("the store could not be opened; look at the log above")? {
            Err(OpenError::InUse { .. }) if Instant::now() < until => tokio::time::sleep(LOCK_REST).await,
            opened => return Ok(Arc::new(opened?)),
        }
    }
}

/// The directory holds keys and everybody's data: nobody else may look.
fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the data directory {} can't be made; choose another by --data-dir", path.display()))
}

/// The outcome of a write is unknown. Nothing in this process may act on it, so there is no orderly end.
fn fatal(reason: String) {
    tracing::error!(%reason, "the store failed; the host ends now, start it again");
    std::process::abort();
}

/// Sends the log to stderr.
pub fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| {
        format!("the log level `{}` is not understood; give error, warn, info, debug or trace", log.level)
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    match started {
        Ok(()) => Ok(()),
        Err(error) => bail!("the log could not be started: {error}; this is a fault of the host, report it"),
    }
}

/// The signals that ask the process to end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on those signals are ours.
    pub fn new() -> anyhow::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Stops the host; a second signal ends the process at once.
pub async fn stop(host: Host, mut signals: Signals) {
    tokio::select! {
        () = host.stop() => {}
        () = signals.next() => {
            tracing::warn!("a second signal: ending at once; nothing that was acknowledged is lost");
            std::process::exit(1);
        }
    }
}
