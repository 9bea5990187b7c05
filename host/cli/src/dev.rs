//! `rehydrate dev`: build a workflow, run it on a host of its own, follow it.
//!
//! The host's log shows warnings only, so that the workflow can be seen; its data stays under the package, so
//! that the next `dev` goes on where this one was stopped.

use crate::args::{DevArgs, Output};
use crate::client::{Client, with_json};
use crate::commands::{deploy_bytes, follow, start_request};
use crate::config::Settings;
use crate::guest_build::{self, Built};
use crate::host::{self, Host, Signals};
use crate::output::{self, Ended};
use anyhow::Context as _;
use rehydrate_http::dto::InstanceStarted;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where everything is kept if nobody says, below the package.
const DATA_DIR: &str = ".rehydrate";

/// How long the host may take to compile and start.
const START: Duration = Duration::from_secs(60);

/// Builds, serves, deploys, starts and follows, until a signal says stop.
pub async fn run(args: &DevArgs) -> anyhow::Result<Ended> {
    let mut settings = Settings::load(&args.host, &data_dir(&args.path), |name| std::env::var(name).ok())?;
    if args.host.log_level.is_none() {
        settings.log.level = "warn".to_owned();
    }
    // A developer's services run here.
    settings.allow_localhost();
    host::start_log(&settings.log)?;
    let mut signals = Signals::new()?;
    let prepare = async {
        let built = guest_build::component(&args.path).await?;
        anyhow::Ok((built, Host::open(&settings).await?))
    };
    let (built, host) = tokio::select! {
        prepared = prepare => prepared?,
        () = signals.next() => return Ok(Ended::Well),
    };
    let worked = tokio::select! {
        worked = work(args, &settings, &host, &built) => worked,
        () = signals.next() => Ok(Ended::Well),
    };
    if let Err(error) = &worked {
        // The host goes down with it; say why before that takes its time.
        eprintln!("stopping: {}", output::clean(&format!("{error:#}")));
    }
    host::stop(host, signals).await;
    worked
}

fn data_dir(path: &Path) -> PathBuf {
    let package = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    package.join(DATA_DIR)
}

/// Ends only with an error: when the instance has ended, the host stays to be looked at.
async fn work(args: &DevArgs, settings: &Settings, host: &Host, built: &Built) -> anyhow::Result<Ended> {
    let client = Client::of(&host.admin_url, settings.admin.token.clone())?;
    let name = args.name.as_deref().unwrap_or(&built.name);
    output::line(&format!("admin: {}\npublic: {}", host.admin_url, host.public_url))?;
    let version = deploy(&client, name, built).await?;
    output::line(&format!("deployed {name}@{version}"))?;
    if let Some(input) = &args.input {
        let start = start_request(&format!("{name}@{version}"), args.id.clone(), input)?;
        let request = with_json(client.request(Method::POST, "/v1/instances")?, serde_json::to_string(&start)?);
        let started: InstanceStarted = client.send(request, START).await?.parse()?;
        output::line(&output::clean(&format!("started {}", started.id)))?;
        follow(&client, Output::Table, &started.id, Some(started.run), 1).await?;
    } else {
        output::line(&format!("start an instance with `rehydrate instance start {name} --url {}`", host.admin_url))?;
    }
    output::line("the host goes on; stop it with ctrl-c")?;
    std::future::pending().await
}

/// Deploys under a version made from the bytes, so that each build is its own.
async fn deploy(client: &Client, name: &str, built: &Built) -> anyhow::Result<String> {
    let read = tokio::fs::read(&built.file).await;
    let bytes = read.with_context(|| format!("{} can't be read; build it again", built.file.display()))?;
    let digest = Sha256::digest(&bytes);
    let version = digest.iter().take(4).fold("dev-".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    deploy_bytes(client, name, &version, bytes.into()).await?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_lies_beside_what_is_run() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(data_dir(dir.path()), dir.path().join(".rehydrate"));
        assert_eq!(data_dir(&dir.path().join("job.wasm")), dir.path().join(".rehydrate"));
        assert_eq!(data_dir(Path::new("job.wasm")), Path::new(".rehydrate"));
    }
}
