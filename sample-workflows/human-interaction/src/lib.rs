//! Human interaction: something needs an approval. The first approver is asked; who does not decide in time is passed
//! over, and the next one is asked too. The first decision of anybody who was asked counts.
//!
//! A decision is a signal named `decision`. It is kept if it comes before the workflow waits for it, and survives a
//! crash, as every signal does.

use rehydrate::{Context, Failure, HttpRequest, Level, RetryPolicy, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The longest it may take to tell an approver; the time to decide runs meanwhile.
const NOTIFY_MAX: Duration = Duration::from_secs(30);

/// The input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What is to be approved; shown to the approvers as it is.
    pub request: Value,
    /// Whom to ask, one after another.
    pub approvers: Vec<Approver>,
}

/// Somebody who can decide.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Who it is.
    pub name: String,
    /// Where a POST tells them; without it they have to look at the instance's status.
    pub notify_url: Option<String>,
    /// How long to wait before the next one is asked too, in seconds; may have a fraction.
    pub wait_seconds: f64,
}

/// The payload of the signal, and the output.
#[derive(Serialize, Deserialize, PartialEq, Clone, Debug)]
pub struct Decision {
    /// Who decided.
    pub by: String,
    /// What.
    pub approved: bool,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// The workflow.
#[rehydrate::workflow]
async fn human_interaction(ctx: Context, input: Input) -> Result<Decision, Failure> {
    let mut asked: Vec<&str> = Vec::new();
    for approver in &input.approvers {
        let deadline = ctx.now() + patience(approver)?;
        asked.push(&approver.name);
        ctx.set_status(&json!({ "asked": asked, "until": deadline }))?;
        notify(&ctx, &input.request, approver, deadline).await?;
        match ctx.timeout_at(deadline, decision(&ctx, &asked)).await {
            Ok(decision) => return decision,
            Err(_) => ctx.log(Level::Info, format!("{} has not decided in time", approver.name)),
        }
    }
    Err(Failure::timed_out(format!("none of {} has decided in time", asked.join(", "))))
}

fn patience(approver: &Approver) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(approver.wait_seconds).map_err(|error| {
        let message = format!("wait_seconds of {} is {}: {error}", approver.name, approver.wait_seconds);
        Failure::rejected("approval.input", message)
    })
}

/// Tells an approver. That it may fail is only logged: they may still decide.
async fn notify(ctx: &Context, request: &Value, approver: &Approver, until: Timestamp) -> Result<(), Failure> {
    let Some(url) = &approver.notify_url else { return Ok(()) };
    let body =
        json!({ "instance": ctx.info().instance_id, "approver": approver.name, "request": request, "until": until });
    let retry = RetryPolicy::attempts(3);
    match ctx.http(HttpRequest::post(url).json(&body)?).schedule_to_close(NOTIFY_MAX).retry(retry).await {
        Err(failure) if failure.is_cancelled() => Err(failure),
        Err(failure) => {
            ctx.log(Level::Warn, format!("{} could not be told: {failure}", approver.name));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// The next decision that counts. A signal comes from outside: one that is no decision, or of somebody who was not
/// asked, is logged and passed over.
async fn decision(ctx: &Context, asked: &[&str]) -> Result<Decision, Failure> {
    loop {
        let payload: Value = ctx.signal("decision").await?;
        match serde_json::from_value::<Decision>(payload) {
            Ok(decision) if asked.contains(&decision.by.as_str()) => return Ok(decision),
            Ok(decision) => ctx.log(Level::Warn, format!("`{}` was not asked to decide", decision.by)),
            Err(error) => ctx.log(Level::Warn, format!("a signal is no decision: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
