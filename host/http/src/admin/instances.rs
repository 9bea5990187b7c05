//! Starting, listing and looking at instances, and getting paused ones going again.

use super::Admin;
use crate::body;
use crate::cursor;
use crate::dto::{
    InstanceList, InstanceResult, InstanceStarted, InstanceStatus, InstanceSummary, Migrate, Replay, ReplayReport,
    StartInstance,
};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, ListParams, WaitParams, idempotency_key};
use crate::show;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use rehydrate_runtime::core::RunNumber;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Starts an instance. With an own id or an `Idempotency-Key` it is safe to repeat. With `wait_seconds` the answer
/// waits that long for the instance to end, and is its result if it does.
#[utoipa::path(
    post, path = "/v1/instances", operation_id = "start_instance", tag = "instances",
    params(
        WaitParams,
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat."),
    ),
    request_body = StartInstance,
    responses(
        (status = 200, description = "It has ended, within the time to wait.", body = InstanceResult),
        (status = 202, description = "It is recorded and will run.", body = InstanceStarted,
            headers(("Location" = String, description = "The path of its status."))),
        (status = 404, description = "There is no such workflow or version.", body = Problem),
        (status = 409, description = "The id or the key is in use.", body = Problem),
        (status = 413, description = "The input is too large.", body = Problem),
        (status = 503, description = "The host takes no new work now.", body = Problem),
    ),
)]
pub async fn start(
    State(admin): State<Admin>,
    InQuery(wait): InQuery<WaitParams>,
    request: Request,
) -> Result<Response, Problem> {
    let patience = wait.patience()?;
    let key = idempotency_key(request.headers())?;
    let bytes = admin.body(request.into_body()).await?;
    let start: StartInstance = body::parse(&bytes)?;
    let request = start.into_request(key);
    let reply = match patience {
        None => admin.runtime.start(request).await?,
        Some(patience) => {
            let (reply, watched) = admin.runtime.start_watched(request).await?;
            let result = admin.result_of(watched, patience).await?;
            if result.outcome.is_some() {
                return Ok(Json(InstanceResult::from(&result)).into_response());
            }
            reply
        }
    };
    let started = InstanceStarted::from(reply);
    let location = [(header::LOCATION, started.status_url.clone())];
    Ok((StatusCode::ACCEPTED, location, Json(started)).into_response())
}

/// Lists instances, newest first. Go on with `next_cursor` until there is none.
#[utoipa::path(
    get, path = "/v1/instances", operation_id = "list_instances", tag = "instances",
    params(ListParams),
    responses((status = 200, body = InstanceList), (status = 400, body = Problem)),
)]
pub async fn list(
    State(admin): State<Admin>,
    InQuery(params): InQuery<ListParams>,
) -> Result<Json<InstanceList>, Problem> {
    let page = admin.runtime.list(params.into_query()?).await?;
    Ok(Json(InstanceList {
        instances: page.rows.iter().map(InstanceSummary::from).collect(),
        next_cursor: page.next.as_ref().map(cursor::encode),
    }))
}

/// Everything about an instance: its state, what it waits for, every attempt of its activities.
#[utoipa::path(
    get, path = "/v1/instances/{id}", operation_id = "describe_instance", tag = "instances",
    params(("id" = String, Path)),
    responses((status = 200, body = InstanceStatus), (status = 404, body = Problem)),
)]
pub async fn describe(State(admin): State<Admin>, InPath(id): InPath<String>) -> Result<Json<InstanceStatus>, Problem> {
    let detail = admin.runtime.describe(&id).await?;
    Ok(Json(InstanceStatus::from(&detail)))
}

/// The status that the workflow set, as the bare JSON value; `null` if it set none. Cheap to ask for again and again: the
/// history is not read.
#[utoipa::path(
    get, path = "/v1/instances/{id}/custom-status", operation_id = "custom_status", tag = "instances",
    params(("id" = String, Path)),
    responses((status = 200, description = "The status.", body = serde_json::Value), (status = 404, body = Problem)),
)]
pub async fn custom_status(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
) -> Result<Json<Box<RawValue>>, Problem> {
    let status = admin.runtime.custom_status(&id).await?;
    Ok(Json(status.map_or_else(|| RawValue::NULL.to_owned(), |status| show::json(&status))))
}

/// What an instance gave. With `wait_seconds` the answer waits that long for it to end; ask again if it did not.
#[utoipa::path(
    get, path = "/v1/instances/{id}/result", operation_id = "instance_result", tag = "instances",
    params(("id" = String, Path), WaitParams),
    responses(
        (status = 200, description = "It has ended.", body = InstanceResult),
        (status = 202, description = "It has not ended.", body = InstanceResult),
        (status = 404, body = Problem),
    ),
)]
pub async fn result(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    InQuery(wait): InQuery<WaitParams>,
) -> Result<Response, Problem> {
    let result = admin.result(&id, wait.patience()?.unwrap_or_default()).await?;
    let status = if result.outcome.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(InstanceResult::from(&result))).into_response())
}

/// Pins an open instance to another version of its workflow. It is replayed with it, and pauses where it
/// does not match its history.
#[utoipa::path(
    post, path = "/v1/instances/{id}/migrate", operation_id = "migrate_instance", tag = "instances",
    params(("id" = String, Path)),
    request_body = Migrate,
    responses(
        (status = 202, description = "It goes on with that version."),
        (status = 404, description = "There is no such instance or version.", body = Problem),
        (status = 410, description = "It has ended.", body = Problem),
    ),
)]
pub async fn migrate(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let Migrate { version } = body::parse(&bytes)?;
    admin.runtime.migrate(&id, &version).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Runs the workflow again against its history, writing nothing, and says whether it did the same.
#[utoipa::path(
    post, path = "/v1/instances/{id}/replay", operation_id = "replay_instance", tag = "instances",
    params(("id" = String, Path)),
    request_body = Option<Replay>,
    responses((status = 200, body = ReplayReport), (status = 404, body = Problem)),
)]
pub async fn replay(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<Json<ReplayReport>, Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let Replay { version, run } = parse_or_default(&bytes)?;
    let report = admin.runtime.replay(&id, run.map(RunNumber), version.as_deref()).await?;
    Ok(Json(ReplayReport::from(&report)))
}

/// A body that may be left out.
pub(super) fn parse_or_default<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { body::parse(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::Reason;

    #[test]
    fn a_body_that_may_be_left_out_is_still_checked() {
        assert_eq!(parse_or_default::<Reason>(b" ").expect("none"), Reason::default());
        assert_eq!(parse_or_default::<Reason>(br#"{"reason":"r"}"#).expect("one").reason.as_deref(), Some("r"));
        for wrong in [&br#"{"raison":"r"}"#[..], b"{", b"[]x"] {
            assert_eq!(parse_or_default::<Reason>(wrong).expect_err("wrong").status, 400);
        }
    }
}
