//! `deploy` and `component`.

use super::messages::done;
use super::{Context, name_and_version};
use crate::args::{ComponentCommand, DeployArgs};
use crate::client::{Answer, Client, LONG_ANSWER, Refusal};
use crate::output::{self, Ended, Table};
use crate::show;
use anyhow::Context as _;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use rehydrate_http::dto::{Component, ComponentList, DeployCheck, MigratedAll};
use rehydrate_http::paths;
use reqwest::{Body, Method, StatusCode};
use std::time::Duration;

/// The code of a component that does not match all histories.
const DIVERGES: &str = "deployment.diverges";

/// How much of an upload the progress moves by.
const CHUNK: usize = 64 << 10;

/// `deploy`
pub async fn deploy(context: &Context, args: &DeployArgs) -> anyhow::Result<Ended> {
    let (name, version) = name_and_version(&args.deployment)?;
    let read = tokio::fs::read(&args.file).await;
    let bytes = read.with_context(|| format!("{} can't be read; check its path", args.file.display()))?;
    if args.check {
        return check(context, name, version, args.ended, bytes.into()).await;
    }
    if args.migrate {
        return migrate(context, name, version, bytes.into()).await;
    }
    let answer = deploy_bytes(&context.client, name, version, bytes.into()).await?;
    context.print(&answer, |answer| {
        let component: Component = answer.parse()?;
        let what = if answer.status == StatusCode::CREATED { "deployed" } else { "was deployed before:" };
        let Component { name, version, kind, bytes, .. } = &component;
        let activities = match component.activities.as_slice() {
            [] => String::new(),
            some => format!("\nactivities: {}", some.join(", ")),
        };
        let digest = component.digest.get(..12).unwrap_or_default();
        Ok(format!("{what} {name}@{version} ({kind}, {}, sha256 {digest}…){activities}", output::bytes(*bytes)))
    })?;
    Ok(Ended::Well)
}

/// `deploy --check`
async fn check(context: &Context, name: &str, version: &str, ended: usize, bytes: Bytes) -> anyhow::Result<Ended> {
    let path = format!("{}/check?ended={ended}", paths::component(name, version));
    let answer = upload(&context.client, Method::POST, &path, bytes).await?;
    let check: DeployCheck = answer.parse()?;
    context.print(&answer, |_| Ok(show::check(&check)))?;
    let failing = [check.open, check.ended].iter().any(|totals| totals.diverging + totals.stopped > 0);
    Ok(if failing { Ended::InstanceFailed } else { Ended::Well })
}

/// `deploy --migrate`
async fn migrate(context: &Context, name: &str, version: &str, bytes: Bytes) -> anyhow::Result<Ended> {
    let path = format!("{}/migrate", paths::component(name, version));
    let answer = match upload(&context.client, Method::POST, &path, bytes).await {
        Ok(answer) => answer,
        // It is what was to be found out, so it has the exit code of a check.
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == DIVERGES) => {
            eprintln!("error: {}", output::clean(&error.to_string()));
            return Ok(Ended::InstanceFailed);
        }
        Err(error) => return Err(error),
    };
    let migrated: MigratedAll = answer.parse()?;
    context.print(&answer, |_| Ok(show::migrated(&migrated)))?;
    Ok(if migrated.left > 0 { Ended::InstanceFailed } else { Ended::Well })
}

/// Uploads a component to be deployed.
pub async fn deploy_bytes(client: &Client, name: &str, version: &str, bytes: Bytes) -> anyhow::Result<Answer> {
    upload(client, Method::PUT, &paths::component(name, version), bytes).await
}

/// Uploads a component, with progress on a terminal: first the upload, then the host's compiler.
async fn upload(client: &Client, method: Method, path: &str, bytes: Bytes) -> anyhow::Result<Answer> {
    let total = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    // Draws nothing where stderr is no terminal.
    let bar = ProgressBar::new(total);
    let upload = ProgressStyle::with_template("uploading {bytes}/{total_bytes} {wide_bar}")?;
    bar.set_style(upload);
    let compile = ProgressStyle::with_template("{spinner} the host compiles it ({elapsed})")?;
    let chunks = {
        let bar = bar.clone();
        let starts = (0..bytes.len()).step_by(CHUNK);
        futures::stream::iter(starts.map(move |start| {
            let chunk = bytes.slice(start..bytes.len().min(start + CHUNK));
            bar.inc(u64::try_from(chunk.len()).unwrap_or(0));
            if bar.position() >= total {
                bar.set_style(compile.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            Ok::<_, std::convert::Infallible>(chunk)
        }))
    };
    let request = client
        .request(method, path)?
        .header("content-type", "application/wasm")
        .header("content-length", total)
        .body(Body::wrap_stream(chunks));
    let answer = client.send(request, LONG_ANSWER).await;
    bar.finish_and_clear();
    answer
}

/// `component`
pub async fn run(context: &Context, command: &ComponentCommand) -> anyhow::Result<Ended> {
    match command {
        ComponentCommand::List => {
            let answer = context.client.get("/v1/components", &[]).await?;
            context.print(&answer, |answer| Ok(table(&answer.parse()?)))?;
        }
        ComponentCommand::Show { deployment } => {
            let (name, version) = name_and_version(deployment)?;
            let request = context.client.request(Method::GET, &paths::component(name, version))?;
            let answer = context.client.send(request, LONG_ANSWER).await?;
            context.print(&answer, |answer| Ok(show::component(&answer.parse()?)))?;
        }
        ComponentCommand::Remove { deployment } => {
            let (name, version) = name_and_version(deployment)?;
            let request = context.client.request(Method::DELETE, &paths::component(name, version))?;
            context.client.send(request, LONG_ANSWER).await?;
            done(context, &format!("{deployment} is removed"))?;
        }
    }
    Ok(Ended::Well)
}

fn table(list: &ComponentList) -> String {
    if list.components.is_empty() {
        return "no components; deploy one with `rehydrate deploy NAME@VERSION FILE`".to_owned();
    }
    let mut table = Table::new(&["name", "version", "kind", "size", "deployed", "sha256"]);
    for component in &list.components {
        table.row([
            component.name.clone(),
            component.version.clone(),
            component.kind.clone(),
            output::bytes(component.bytes),
            output::time(&component.created),
            component.digest.get(..12).unwrap_or_default().to_owned(),
        ]);
    }
    table.render()
}
