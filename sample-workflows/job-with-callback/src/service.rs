//! The job service's HTTP API, as far as the workflow needs it. Every request is an activity of the host.

use rehydrate::{Context, Failure, HttpRequest, HttpResponse, Operation, RetryPolicy};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest the service may take to answer one request to submit.
const SUBMIT_REQUEST_MAX: Duration = Duration::from_secs(30);
/// The longest a cancellation may take, and one request of it.
const CANCEL_MAX: Duration = Duration::from_secs(15);
const CANCEL_REQUEST_MAX: Duration = Duration::from_secs(5);

pub struct JobService {
    ctx: Context,
    url: String,
}

/// What the service answers to a submission.
#[derive(Deserialize)]
pub struct SubmitAnswer {
    run_id: u64,
}

impl SubmitAnswer {
    /// None for a service that names no run; the job is then known by its token alone.
    pub fn run_id(answer: &HttpResponse) -> Option<u64> {
        answer.read::<SubmitAnswer>().ok().map(|answer| answer.run_id)
    }
}

impl JobService {
    pub fn new(ctx: &Context, url: &str) -> JobService {
        JobService { ctx: ctx.clone(), url: url.to_owned() }
    }

    /// Begins to submit the job. The token makes it safe to send twice, so the host may try again after 429
    /// or a lost connection; an internal error of the service ends the attempt at once.
    pub fn submit(&self, job: &Value, token: &str, callback_url: &str) -> Result<Operation<HttpResponse>, Failure> {
        let request = HttpRequest::post(format!("{}/api/2.1/jobs/runs/submit", self.url)).json(&json!({
            "job": job,
            "idempotency_token": token,
            "callback_url": callback_url,
        }))?;
        let retry = RetryPolicy::attempts(3).initial(Duration::from_millis(500)).never_for("http.status-500");
        Ok(self.ctx.http(request).start_to_close(SUBMIT_REQUEST_MAX).retry(retry).start())
    }

    /// Cancels the job, by its run if that is known.
    pub async fn cancel(&self, run_id: Option<u64>, token: &str) -> Result<(), Failure> {
        let job = match run_id {
            Some(run_id) => json!({ "run_id": run_id }),
            None => json!({ "idempotency_token": token }),
        };
        let request = HttpRequest::post(format!("{}/api/2.1/jobs/runs/cancel", self.url)).json(&job)?;
        let retry = RetryPolicy::attempts(3).initial(Duration::from_millis(500));
        let call = self.ctx.http(request).start_to_close(CANCEL_REQUEST_MAX).schedule_to_close(CANCEL_MAX).retry(retry);
        call.await.map(|_| ())
    }
}
