//! Schedules: putting, looking at, pausing, resuming, triggering and deleting them.

use super::Admin;
use super::instances::parse_or_default;
use crate::body;
use crate::dto::{InstanceStarted, Note, PutSchedule, Schedule, ScheduleList, ScheduleSummary};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, SchedulesParams};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// Puts a schedule under a name, in place of the one that is there. The same again changes nothing; what it counts, and
/// what it runs, stays. New times are due from now on.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", operation_id = "put_schedule", tag = "schedules",
    params(("name" = String, Path)),
    request_body = PutSchedule,
    responses(
        (status = 201, description = "It is new.", body = Schedule),
        (status = 200, description = "It was there.", body = Schedule),
        (status = 400, description = "The name, the expression, the time zone or a length of time is wrong.", body = Problem),
        (status = 404, description = "There is no such workflow or version.", body = Problem),
        (status = 409, description = "There are as many schedules as there may be.", body = Problem),
        (status = 413, description = "The input is too large.", body = Problem),
        (status = 503, description = "The host takes no new work now.", body = Problem),
    ),
)]
pub async fn put(
    State(admin): State<Admin>,
    InPath(name): InPath<String>,
    request: Request,
) -> Result<(StatusCode, Json<Schedule>), Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let put: PutSchedule = body::parse(&bytes)?;
    let (detail, is_new) = admin.runtime.put_schedule(&name, put.into_request()?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Schedule::from(&detail))))
}

/// Lists schedules in the order of their names. Go on with `next_after` until there is none.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules",
    params(SchedulesParams),
    responses((status = 200, body = ScheduleList), (status = 400, body = Problem)),
)]
pub async fn list(
    State(admin): State<Admin>,
    InQuery(params): InQuery<SchedulesParams>,
) -> Result<Json<ScheduleList>, Problem> {
    let limit = params.limit()?;
    // One more than is shown says whether there is more.
    let mut page = admin.runtime.list_schedules(params.after.as_deref(), limit.saturating_add(1)).await?;
    let more = page.len() > limit;
    page.truncate(limit);
    let schedules: Vec<ScheduleSummary> = page.iter().map(ScheduleSummary::from).collect();
    let next_after = schedules.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(ScheduleList { schedules, next_after }))
}

/// Everything about a schedule: its next due times, what runs, the last start and the last error.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", operation_id = "show_schedule", tag = "schedules",
    params(("name" = String, Path)),
    responses((status = 200, body = Schedule), (status = 404, body = Problem)),
)]
pub async fn show(State(admin): State<Admin>, InPath(name): InPath<String>) -> Result<Json<Schedule>, Problem> {
    let detail = admin.runtime.show_schedule(&name).await?;
    Ok(Json(Schedule::from(&detail)))
}

/// Deletes a schedule. The instances that it started go on.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", operation_id = "delete_schedule", tag = "schedules",
    params(("name" = String, Path)),
    responses((status = 204, description = "It is gone."), (status = 404, body = Problem)),
)]
pub async fn delete(State(admin): State<Admin>, InPath(name): InPath<String>) -> Result<StatusCode, Problem> {
    admin.runtime.delete_schedule(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pauses a schedule: nothing is due until it is resumed, and a due time that waits is left out. What runs goes on.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules",
    params(("name" = String, Path)),
    request_body = Option<Note>,
    responses((status = 200, body = Schedule), (status = 404, body = Problem)),
)]
pub async fn pause(
    State(admin): State<Admin>,
    InPath(name): InPath<String>,
    request: Request,
) -> Result<Json<Schedule>, Problem> {
    let note = note(&admin, request).await?;
    let detail = admin.runtime.pause_schedule(&name, note).await?;
    Ok(Json(Schedule::from(&detail)))
}

/// Resumes a schedule. What was due while it was paused is not made.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule", tag = "schedules",
    params(("name" = String, Path)),
    request_body = Option<Note>,
    responses((status = 200, body = Schedule), (status = 404, body = Problem)),
)]
pub async fn resume(
    State(admin): State<Admin>,
    InPath(name): InPath<String>,
    request: Request,
) -> Result<Json<Schedule>, Problem> {
    let note = note(&admin, request).await?;
    let detail = admin.runtime.resume_schedule(&name, note).await?;
    Ok(Json(Schedule::from(&detail)))
}

async fn note(admin: &Admin, request: Request) -> Result<Option<String>, Problem> {
    let bytes = admin.body(request.into_body()).await?;
    let Note { note } = parse_or_default(&bytes)?;
    Ok(note)
}

/// Starts an instance of a schedule now, whether it is paused or not, and beside what runs.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/trigger", operation_id = "trigger_schedule", tag = "schedules",
    params(("name" = String, Path)),
    responses(
        (status = 202, description = "The instance is recorded and will run.", body = InstanceStarted,
            headers(("Location" = String, description = "The path of its status."))),
        (status = 404, description = "There is no such schedule, or its workflow is not there any more.", body = Problem),
        (status = 503, description = "The host takes no new work now.", body = Problem),
    ),
)]
pub async fn trigger(State(admin): State<Admin>, InPath(name): InPath<String>) -> Result<Response, Problem> {
    let started = InstanceStarted::from(admin.runtime.trigger_schedule(&name).await?);
    let location = [(header::LOCATION, started.status_url.clone())];
    Ok((StatusCode::ACCEPTED, location, Json(started)).into_response())
}
