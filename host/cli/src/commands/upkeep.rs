//! `instance purge|restart`: dropping what has ended, and starting it again.

use super::Context;
use super::messages::done;
use crate::args::{PurgeArgs, RestartArgs};
use crate::client::{LONG_ANSWER, with_json};
use crate::show;
use rehydrate_http::dto::{NewId, Purged, Restart};
use rehydrate_http::paths;
use reqwest::Method;

/// `instance purge`
pub async fn purge(context: &Context, args: &PurgeArgs) -> anyhow::Result<()> {
    if let Some(id) = &args.id {
        let request = context.client.request(Method::DELETE, &paths::instance(id))?;
        context.client.send(request, LONG_ANSWER).await?;
        return done(context, &format!("`{id}` is purged"));
    }
    let request = context.client.request(Method::DELETE, "/v1/instances")?.query(&query(args));
    let answer = context.client.send(request, LONG_ANSWER).await?;
    context.print(&answer, |answer| {
        let Purged { purged } = answer.parse()?;
        Ok(format!("{purged} instances are purged"))
    })
}

fn query(args: &PurgeArgs) -> Vec<(&'static str, String)> {
    let states = (!args.state.is_empty()).then(|| args.state.join(","));
    [
        ("state", states),
        ("workflow", args.workflow.clone()),
        ("version", args.version.clone()),
        ("id_prefix", args.id_prefix.clone()),
        ("created_from", args.created_from.clone()),
        ("created_to", args.before.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// `instance restart`
pub async fn restart(context: &Context, args: &RestartArgs) -> anyhow::Result<()> {
    let new_id = args.new_id.as_ref().map(|id| match id.as_str() {
        "" => NewId::Made(true),
        id => NewId::Chosen(id.to_owned()),
    });
    let body = serde_json::to_string(&Restart { new_id, version: args.version.clone() })?;
    let request = context.client.request(Method::POST, &format!("{}/restart", paths::instance(&args.id)))?;
    let answer = context.client.send(with_json(request, body), LONG_ANSWER).await?;
    context.print(&answer, |answer| Ok(show::started(&answer.parse()?)))
}
