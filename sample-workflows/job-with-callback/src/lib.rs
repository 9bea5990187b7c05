//! Runs a job at a service that takes its time and calls back: submit, wait for the callback or the timeout,
//! cancel what is late, try again, and end with the result or with what became of every attempt.
//!
//! Everything that must survive a crash is in local variables; nothing here is written to a database, and
//! nothing asks what time it is but the workflow's clock.

mod attempt;
mod input;
mod service;

use attempt::{Attempt, Attempts, State};
use futures::select_biased;
use input::Input;
use rehydrate::{Callback, Context, Failure, Level};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::{JobService, SubmitAnswer};

/// What the workflow ends with.
#[derive(Serialize, Deserialize, Debug)]
pub struct Output {
    /// What the job gave back.
    pub result: Value,
    /// What became of every attempt, the last one successful.
    pub attempts: Vec<Attempt>,
}

/// What the job service posts to the callback.
#[derive(Deserialize)]
struct Report {
    run_id: Option<u64>,
    state: String,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    message: String,
}

/// How one attempt ended.
enum Ending {
    Success(Value),
    /// Not a success; the attempt's record says why. Whether the service may still be at work on it.
    Failed {
        at_work: bool,
    },
    /// The instance was asked to cancel.
    Cancelled(Failure),
}

/// The workflow.
#[rehydrate::workflow]
async fn job_with_callback(ctx: Context, input: Input) -> Result<Output, Failure> {
    let plan = input.check()?;
    let service = JobService::new(&ctx, &plan.service_url);
    let mut attempts = Attempts::new(&ctx, plan.kind.as_deref());
    for number in 1..=plan.attempts {
        if number > 1
            && let Err(failure) = ctx.sleep(plan.backoff_before(number)).await
        {
            return Err(with_attempts(failure, attempts));
        }
        let token = idempotency_token(&ctx, number);
        let ending = attempt_once(&ctx, &service, &plan, &token, attempts.begin(number)?).await?;
        let run_id = attempts.current().and_then(|attempt| attempt.run_id);
        match ending {
            Ending::Success(result) => return Ok(Output { result, attempts: attempts.into_list() }),
            Ending::Failed { at_work: false } => {}
            Ending::Failed { at_work: true } => cancel_job(&ctx, &service, run_id, &token).await,
            Ending::Cancelled(failure) => {
                cancel_job(&ctx, &service, run_id, &token).await;
                return Err(with_attempts(failure, attempts));
            }
        }
        if let Some(reason) = ctx.cancel_requested() {
            return Err(with_attempts(Failure::cancelled(reason), attempts));
        }
    }
    let message = format!("the job did not succeed in {} attempts", plan.attempts);
    Err(with_attempts(Failure::application("job.attempts-exhausted", message), attempts))
}

fn with_attempts(failure: Failure, attempts: Attempts) -> Failure {
    failure.with_details(json!({ "attempts": attempts.into_list() }))
}

/// The same for one attempt however often it is sent, another for the next one.
fn idempotency_token(ctx: &Context, attempt: u32) -> String {
    let info = ctx.info();
    format!("{}-{}-{attempt}", info.instance_id, info.run)
}

/// One attempt, from its callback to its end. What is still open at its end is dropped here, and so cancelled
/// before the next attempt begins: a late callback finds its URL gone.
async fn attempt_once(
    ctx: &Context,
    service: &JobService,
    plan: &input::Plan,
    token: &str,
    mut attempt: attempt::Current<'_>,
) -> Result<Ending, Failure> {
    let mut callback: Callback<Value> = ctx.callback(&format!("job-attempt-{}", attempt.number()));
    let due = ctx.now() + plan.timeout;
    let mut submission = service.submit(&plan.job, token, callback.url())?;
    let mut timer = ctx.sleep_until(due);
    attempt.dispatched(due)?;
    loop {
        // In this order: of all that is there at one wake, a callback counts first.
        select_biased! {
            body = callback => return called_back(&mut attempt, body),
            answer = submission => match answer {
                Ok(answer) => attempt.submitted(SubmitAnswer::run_id(&answer))?,
                Err(failure) if failure.is_cancelled() => return cancelled(&mut attempt, failure),
                Err(failure) => {
                    attempt.set(State::ExecutionFailed, &failure.to_string())?;
                    // An answer that says no means no; after silence the job may be under way.
                    return Ok(Ending::Failed { at_work: failure.is_timed_out() });
                }
            },
            fired = timer => {
                if let Err(failure) = fired {
                    return cancelled(&mut attempt, failure);
                }
                attempt.set(State::TimedOut, "no callback came in time")?;
                return Ok(Ending::Failed { at_work: true });
            },
        }
    }
}

fn called_back(attempt: &mut attempt::Current<'_>, body: Result<Value, Failure>) -> Result<Ending, Failure> {
    let body = match body {
        Ok(body) => body,
        Err(failure) if failure.is_cancelled() => return cancelled(attempt, failure),
        Err(failure) => {
            attempt.set(State::CallbackFailure, &failure.to_string())?;
            return Ok(Ending::Failed { at_work: false });
        }
    };
    let report: Report = match serde_json::from_value(body) {
        Ok(report) => report,
        Err(error) => {
            attempt.set(State::CallbackFailure, &format!("the callback's body is no job report: {error}"))?;
            return Ok(Ending::Failed { at_work: false });
        }
    };
    attempt.ran_as(report.run_id);
    if report.state.eq_ignore_ascii_case("success") {
        attempt.set(State::CallbackSuccess, &report.message)?;
        return Ok(Ending::Success(report.result));
    }
    let message = if report.message.is_empty() { &report.state } else { &report.message };
    attempt.set(State::CallbackFailure, message)?;
    Ok(Ending::Failed { at_work: false })
}

fn cancelled(attempt: &mut attempt::Current<'_>, failure: Failure) -> Result<Ending, Failure> {
    attempt.note(&format!("the instance was asked to cancel: {}", failure.message))?;
    Ok(Ending::Cancelled(failure))
}

/// Tells the service to stop. That it may fail changes nothing for the next attempt, so it is only logged.
async fn cancel_job(ctx: &Context, service: &JobService, run_id: Option<u64>, token: &str) {
    if let Err(failure) = service.cancel(run_id, token).await {
        ctx.log(Level::Warn, format!("the job {token} could not be cancelled at the service: {failure}"));
    }
}

#[cfg(test)]
mod tests;
