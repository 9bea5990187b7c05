//! Messages to an instance: signals, and requests to cancel, terminate, suspend, resume or rewind.

use super::Admin;
use super::instances::parse_or_default;
use crate::body::{self, BodySize};
use crate::dto::{MessageTaken, Reason, Taken};
use crate::problem::Problem;
use crate::request::{InPath, idempotency_key};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use rehydrate_runtime::core::Answer;

/// What an instance is told when nobody says why.
const NO_REASON: &str = "requested over the API";

type Reply = Result<(StatusCode, Json<MessageTaken>), Problem>;

/// Sends a signal. Signals of a name are taken in the order in which they arrived, each once.
#[utoipa::path(
    post, path = "/v1/instances/{id}/signals/{name}", operation_id = "signal_instance", tag = "messages",
    params(
        ("id" = String, Path), ("name" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key again adds no second signal."),
    ),
    request_body(content = serde_json::Value, description = "The payload: any JSON value."),
    responses(
        (status = 202, body = MessageTaken),
        (status = 400, description = "The payload is not JSON.", body = Problem),
        (status = 404, body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
        (status = 413, description = "The payload is too large.", body = Problem),
    ),
)]
pub async fn signal(
    State(admin): State<Admin>,
    InPath((id, name)): InPath<(String, String)>,
    request: Request,
) -> Reply {
    let key = idempotency_key(request.headers())?;
    let limit = BodySize::payload(admin.runtime.limits(), 0);
    let bytes = body::read(request.into_body(), limit, admin.time).await?;
    let payload = body::json_text(&bytes)?;
    taken(&id, admin.runtime.signal(&id, &name, payload, key).await?)
}

/// Asks an instance to cancel: its open operations are cancelled, and it may clean up before it ends.
#[utoipa::path(
    post, path = "/v1/instances/{id}/cancel", operation_id = "cancel_instance", tag = "messages",
    params(("id" = String, Path)),
    request_body = Option<Reason>,
    responses(
        (status = 202, body = MessageTaken),
        (status = 404, body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
    ),
)]
pub async fn cancel(State(admin): State<Admin>, InPath(id): InPath<String>, request: Request) -> Reply {
    let reason = reason(&admin, request).await?;
    taken(&id, admin.runtime.cancel(&id, reason).await?)
}

/// Ends an instance at once.
#[utoipa::path(
    post, path = "/v1/instances/{id}/terminate", operation_id = "terminate_instance", tag = "messages",
    params(("id" = String, Path)),
    request_body = Option<Reason>,
    responses(
        (status = 202, body = MessageTaken),
        (status = 404, body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
    ),
)]
pub async fn terminate(State(admin): State<Admin>, InPath(id): InPath<String>, request: Request) -> Reply {
    let reason = reason(&admin, request).await?;
    taken(&id, admin.runtime.terminate(&id, reason).await?)
}

/// Suspends an instance: what comes in is recorded, activities go on, and the workflow runs again when it is resumed.
#[utoipa::path(
    post, path = "/v1/instances/{id}/suspend", operation_id = "suspend_instance", tag = "messages",
    params(("id" = String, Path)),
    request_body = Option<Reason>,
    responses(
        (status = 202, body = MessageTaken),
        (status = 404, body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
    ),
)]
pub async fn suspend(State(admin): State<Admin>, InPath(id): InPath<String>, request: Request) -> Reply {
    let reason = reason(&admin, request).await?;
    taken(&id, admin.runtime.suspend(&id, reason).await?)
}

/// Lets a suspended instance run again, and a paused one try again.
#[utoipa::path(
    post, path = "/v1/instances/{id}/resume", operation_id = "resume_instance", tag = "messages",
    params(("id" = String, Path)),
    request_body = Option<Reason>,
    responses(
        (status = 202, description = "It runs."),
        (status = 404, body = Problem),
        (status = 409, description = "It is neither suspended nor paused.", body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
    ),
)]
pub async fn resume(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let reason = reason(&admin, request).await?;
    admin.runtime.resume(&id, reason).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Lets a failed instance go on from before the first failure in it: the activities, children and calls that failed run
/// again, in a new run.
#[utoipa::path(
    post, path = "/v1/instances/{id}/rewind", operation_id = "rewind_instance", tag = "messages",
    params(("id" = String, Path)),
    request_body = Option<Reason>,
    responses(
        (status = 202, description = "It goes on."),
        (status = 404, body = Problem),
        (status = 409, description = "It has not ended, or nothing in it failed but the workflow itself.", body = Problem),
        (status = 410, description = "It has ended without failing.", body = Problem),
    ),
)]
pub async fn rewind(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let reason = reason(&admin, request).await?;
    admin.runtime.rewind(&id, reason).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn reason(admin: &Admin, request: Request) -> Result<String, Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let Reason { reason } = parse_or_default(&bytes)?;
    Ok(reason.unwrap_or_else(|| NO_REASON.to_owned()))
}

fn taken(id: &str, answer: Answer) -> Reply {
    let status = match answer {
        Answer::Accepted => Taken::Accepted,
        // It was asked before; that request stands.
        Answer::Duplicate | Answer::Ignored => Taken::Duplicate,
        Answer::Conflict => {
            let detail = format!("instance `{id}` has taken something else in its place; look at its history");
            return Err(Problem::new(StatusCode::CONFLICT, "instance.conflict", detail));
        }
        Answer::Gone => {
            let detail = format!("instance `{id}` has ended and takes nothing more; look at its status");
            return Err(Problem::new(StatusCode::GONE, "instance.ended", detail));
        }
        Answer::NotFound => {
            let detail = format!("instance `{id}` knows no such operation; look at its status");
            return Err(Problem::new(StatusCode::NOT_FOUND, "operation.not-found", detail));
        }
    };
    Ok((StatusCode::ACCEPTED, Json(MessageTaken { status })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_status() {
        let status = |answer| match taken("a", answer) {
            Ok((status, Json(reply))) => (status.as_u16(), Some(reply.status)),
            Err(problem) => (problem.status, None),
        };
        assert_eq!(status(Answer::Accepted), (202, Some(Taken::Accepted)));
        assert_eq!(status(Answer::Duplicate), (202, Some(Taken::Duplicate)));
        assert_eq!(status(Answer::Ignored), (202, Some(Taken::Duplicate)));
        assert_eq!(status(Answer::Conflict), (409, None));
        assert_eq!(status(Answer::Gone), (410, None));
        assert_eq!(status(Answer::NotFound), (404, None));
    }
}
