//! The host itself: probes, counters and the description of the API.

use super::Admin;
use crate::dto::{Health, Ready};
use crate::openapi;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// Whether the process is alive. Needs no token.
#[utoipa::path(get, path = "/v1/health", tag = "host", security(()), responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "alive".to_owned() })
}

/// Whether the host takes new work. Needs no token.
#[utoipa::path(
    get, path = "/v1/ready", tag = "host", security(()),
    responses((status = 200, body = Ready), (status = 503, description = "Not now.", body = Ready)),
)]
pub async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Ready>) {
    let readiness = admin.runtime.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready: readiness.ready, reason: readiness.reason }))
}

/// Counters since the start of the process, for people; their names may change.
#[utoipa::path(get, path = "/v1/stats", tag = "host", responses((status = 200, body = serde_json::Value)))]
pub async fn stats(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(admin.runtime.stats())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "host", responses((status = 200, body = serde_json::Value)))]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}
