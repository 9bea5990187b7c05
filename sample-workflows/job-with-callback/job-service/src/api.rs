//! The HTTP side: routes, answers, and the tasks that carry the runs out.
//!
//! Decisions are those of [`Jobs`]; here is only waiting, sending and translating. A caller that hangs up
//! never stops a run.

use crate::behaviour::{Behaviour, delay};
use crate::jobs::{Jobs, JobsError, Millis, RunId, Submission, Submitted, WebhookAnswer, Which};
use crate::webhook::{RetryLimits, Sender};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

/// The largest request body, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Runs in one answer of the list.
const LIST_MAX: usize = 1_000;

/// The service: its runs and its webhook sender. Clones share them.
#[derive(Clone, Debug)]
pub struct Service {
    jobs: Arc<Mutex<Jobs>>,
    sender: Sender,
}

impl Service {
    /// A service without runs.
    pub fn new(limits: RetryLimits) -> reqwest::Result<Service> {
        Ok(Service { jobs: Arc::default(), sender: Sender::new(limits)? })
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // No method of `Jobs` leaves it half changed, so a panic elsewhere does not make it unusable.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a run out: waits for its time, ends it, delivers its webhooks.
    async fn carry_out(self, id: RunId) {
        let Some((behaviour, time)) = self.begin(id) else { return };
        match behaviour {
            Behaviour::Early => {}
            Behaviour::Late { delay_seconds } => tokio::time::sleep(time + delay(delay_seconds)).await,
            _ => tokio::time::sleep(time).await,
        }
        let webhooks = self.jobs().finish(id, now());
        for (index, webhook) in webhooks.iter().enumerate() {
            let answered = |answer: crate::webhook::Answer| {
                let crate::webhook::Answer { attempt, status, body } = answer;
                self.jobs().answered(id, WebhookAnswer { at: now(), delivery: index + 1, attempt, status, body });
            };
            self.sender.deliver(webhook, answered).await;
        }
    }

    fn begin(&self, id: RunId) -> Option<(Behaviour, std::time::Duration)> {
        let mut jobs = self.jobs();
        jobs.begin(id);
        jobs.get(&Which::Run(id)).ok().map(|run| (run.behaviour.clone(), run.job.run))
    }
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener, service: Service) -> std::io::Result<()> {
    // Answers are small: waiting to fill a packet would only add latency.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router(service)).await
}

fn router(service: Service) -> Router {
    Router::new()
        .route("/api/2.1/jobs/runs/submit", post(submit))
        .route("/api/2.1/jobs/runs/get", get(get_run))
        .route("/api/2.1/jobs/runs/cancel", post(cancel))
        .route("/api/2.1/jobs/runs/list", get(list))
        .route("/api/ledger", get(ledger))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(service)
}

/// An error answer in the API's own form.
struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error_code": self.1, "message": self.2 }))).into_response()
    }
}

impl From<JobsError> for Refused {
    fn from(error: JobsError) -> Self {
        let (status, code) = match error {
            JobsError::Invalid(_) => (StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
            JobsError::NoRun(_) => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
            JobsError::Full => (StatusCode::SERVICE_UNAVAILABLE, "RESOURCE_EXHAUSTED"),
        };
        Refused(status, code, error.to_string())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitBody {
    #[serde(default)]
    job: Value,
    #[serde(default)]
    idempotency_token: Option<String>,
    #[serde(default)]
    callback_url: Option<String>,
}

#[derive(Deserialize)]
struct RunQuery {
    run_id: Option<RunId>,
    idempotency_token: Option<String>,
}

impl RunQuery {
    fn which(self) -> Result<Which, Refused> {
        match (self.run_id, self.idempotency_token) {
            (Some(id), None) => Ok(Which::Run(id)),
            (None, Some(token)) => Ok(Which::Token(token)),
            _ => Err(malformed("give either `run_id` or `idempotency_token`")),
        }
    }
}

#[derive(Deserialize)]
struct ListQuery {
    before: Option<RunId>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct LedgerQuery {
    run_id: Option<RunId>,
}

fn malformed(reason: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", reason.to_owned())
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|e| malformed(&format!("the body is not what is expected here: {e}")))
}

async fn submit(State(service): State<Service>, body: Bytes) -> Result<Response, Refused> {
    let SubmitBody { job, idempotency_token: token, callback_url } = read(&body)?;
    if token.as_ref().is_some_and(String::is_empty) {
        return Err(malformed("`idempotency_token` is empty; leave it out or give some characters"));
    }
    let submitted = service.jobs().submit(Submission { job, token, callback_url }, now())?;
    match submitted {
        Submitted::Known(id) => Ok(Json(json!({ "run_id": id })).into_response()),
        Submitted::New(id) => Ok(start(service, id).await),
        Submitted::Refused { status, retry_after } => Ok(refused(status, retry_after)),
    }
}

/// Starts the new run and answers when its behaviour says so.
async fn start(service: Service, id: RunId) -> Response {
    let behaviour = service.jobs().get(&Which::Run(id)).map(|run| run.behaviour.clone());
    let run = tokio::spawn(service.carry_out(id));
    match behaviour {
        Ok(Behaviour::Early) => {
            // Also if the run panicked: the submission was accepted and is answered.
            let _ = run.await;
        }
        Ok(Behaviour::Slow { delay_seconds }) => tokio::time::sleep(delay(delay_seconds)).await,
        _ => {}
    }
    Json(json!({ "run_id": id })).into_response()
}

fn refused(status: u16, retry_after: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (code, message) = match status {
        StatusCode::TOO_MANY_REQUESTS => ("REQUEST_LIMIT_EXCEEDED", "too many submissions; try again later"),
        _ => ("INTERNAL_ERROR", "the job service broke, as the job asked it to"),
    };
    let mut response = Refused(status, code, message.to_owned()).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn get_run(State(service): State<Service>, Query(query): Query<RunQuery>) -> Result<Json<Value>, Refused> {
    let which = query.which()?;
    Ok(Json(service.jobs().get(&which)?.shown()))
}

async fn cancel(State(service): State<Service>, body: Bytes) -> Result<Json<Value>, Refused> {
    let which = read::<RunQuery>(&body)?.which()?;
    service.jobs().cancel(&which, now())?;
    Ok(Json(json!({})))
}

async fn list(State(service): State<Service>, Query(query): Query<ListQuery>) -> Json<Value> {
    let limit = query.limit.unwrap_or(100).clamp(1, LIST_MAX);
    let jobs = service.jobs();
    let mut runs: Vec<_> = jobs.list(query.before, limit + 1).iter().map(|run| run.shown()).collect();
    let has_more = runs.len() > limit;
    runs.truncate(limit);
    Json(json!({ "runs": runs, "has_more": has_more }))
}

async fn ledger(State(service): State<Service>, Query(query): Query<LedgerQuery>) -> Json<Value> {
    Json(json!({ "entries": service.jobs().ledger(query.run_id) }))
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
