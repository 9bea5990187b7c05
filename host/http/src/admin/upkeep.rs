//! Keeping order among instances: dropping those that have ended, and starting them again.

use super::Admin;
use super::instances::parse_or_default;
use crate::dto::{InstanceStarted, Purged, Restart};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, PurgeParams};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// Drops an instance that has ended, with all its runs and their logs. Its id may then be used as if it had never
/// been; callbacks of its runs answer 410.
#[utoipa::path(
    delete, path = "/v1/instances/{id}", operation_id = "purge_instance", tag = "instances",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = Problem),
        (status = 409, description = "It has not ended.", body = Problem),
    ),
)]
pub async fn purge(State(admin): State<Admin>, InPath(id): InPath<String>) -> Result<StatusCode, Problem> {
    admin.runtime.purge(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Drops all instances that meet the conditions and have ended. Each is dropped whole; a request that breaks off has
/// dropped some of them, and may be sent again.
#[utoipa::path(
    delete, path = "/v1/instances", operation_id = "purge_instances", tag = "instances",
    params(PurgeParams),
    responses(
        (status = 200, body = Purged),
        (status = 400, description = "There is no condition, or one is wrong.", body = Problem),
    ),
)]
pub async fn purge_where(
    State(admin): State<Admin>,
    InQuery(params): InQuery<PurgeParams>,
) -> Result<Json<Purged>, Problem> {
    let purged = admin.runtime.purge_where(params.into_query()?).await?;
    Ok(Json(Purged { purged: u64::try_from(purged).unwrap_or(u64::MAX) }))
}

/// Starts the workflow of an instance again, with the input of its last run.
#[utoipa::path(
    post, path = "/v1/instances/{id}/restart", operation_id = "restart_instance", tag = "instances",
    params(("id" = String, Path)),
    request_body = Option<Restart>,
    responses(
        (status = 202, description = "It is recorded and will run.", body = InstanceStarted,
            headers(("Location" = String, description = "The path of its status."))),
        (status = 404, description = "There is no such instance or version.", body = Problem),
        (status = 409, description = "It has not ended, or the chosen id is in use.", body = Problem),
        (status = 503, description = "The host takes no new work now.", body = Problem),
    ),
)]
pub async fn restart(
    State(admin): State<Admin>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<Response, Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let restart: Restart = parse_or_default(&bytes)?;
    let started = InstanceStarted::from(admin.runtime.restart(&id, restart.into()).await?);
    let location = [(header::LOCATION, started.status_url.clone())];
    Ok((StatusCode::ACCEPTED, location, Json(started)).into_response())
}
