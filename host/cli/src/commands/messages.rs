//! `instance signal|cancel|terminate|suspend|resume|rewind|migrate`: what is sent to an instance.

use super::{Context, json_argument};
use crate::args::{Output, ReasonArgs, SignalArgs};
use crate::client::{Answer, LONG_ANSWER, with_json};
use crate::output;
use rehydrate_http::dto::{MessageTaken, Migrate, Reason, Taken};
use rehydrate_http::paths;
use reqwest::Method;

/// `instance signal`
pub async fn signal(context: &Context, args: &SignalArgs) -> anyhow::Result<()> {
    let payload = json_argument(&args.payload)?;
    let path = format!("{}/signals/{}", paths::instance(&args.id), paths::segment(&args.name));
    let mut request = with_json(context.client.request(Method::POST, &path)?, payload.get().to_owned());
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = context.client.send(request, LONG_ANSWER).await?;
    print_taken(context, &answer, &format!("signal `{}` for `{}`", args.name, args.id))
}

/// `instance cancel`, `instance terminate` and `instance suspend`
pub async fn end(context: &Context, verb: &str, args: &ReasonArgs) -> anyhow::Result<()> {
    let path = format!("{}/{verb}", paths::instance(&args.id));
    let reason = Reason { reason: args.reason.clone() };
    let answer = context.client.post(&path, serde_json::to_string(&reason)?).await?;
    print_taken(context, &answer, &format!("the request to {verb} `{}`", args.id))
}

fn print_taken(context: &Context, answer: &Answer, what: &str) -> anyhow::Result<()> {
    context.print(answer, |answer| {
        let MessageTaken { status } = answer.parse()?;
        Ok(output::clean(&match status {
            Taken::Accepted => format!("{what} is recorded"),
            Taken::Duplicate => format!("{what} was recorded before; nothing was added"),
        }))
    })
}

/// `instance resume` and `instance rewind`
pub async fn go_on(context: &Context, verb: &str, args: &ReasonArgs) -> anyhow::Result<()> {
    let id = &args.id;
    let reason = Reason { reason: args.reason.clone() };
    context.client.post(&format!("{}/{verb}", paths::instance(id)), serde_json::to_string(&reason)?).await?;
    done(context, &format!("`{id}` goes on; look at it with `rehydrate instance describe {id}`"))
}

/// `instance migrate`
pub async fn migrate(context: &Context, id: &str, version: String) -> anyhow::Result<()> {
    let text = format!("`{id}` goes on with version {version}");
    let body = serde_json::to_string(&Migrate { version })?;
    let request = context.client.request(Method::POST, &format!("{}/migrate", paths::instance(id)))?;
    context.client.send(with_json(request, body), LONG_ANSWER).await?;
    done(context, &text)
}

/// These answers have no content of their own.
pub(super) fn done(context: &Context, text: &str) -> anyhow::Result<()> {
    match context.output {
        Output::Json => output::line("{}")?,
        Output::Table => output::line(&output::clean(text))?,
    }
    Ok(())
}
