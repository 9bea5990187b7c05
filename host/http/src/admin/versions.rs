//! Versions of components: who runs one, whether one can go, and whether a new one would do what the old ones did.

use super::Admin;
use super::components::upload;
use crate::dto::{ComponentDetail, DeployCheck, MigratedAll};
use crate::problem::Problem;
use crate::request::{CheckParams, InPath, InQuery};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

/// A deployed component, with the number of instances that are pinned to it.
#[utoipa::path(
    get, path = "/v1/components/{name}/{version}", operation_id = "describe_component", tag = "components",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = ComponentDetail), (status = 404, body = Problem)),
)]
pub async fn describe(
    State(admin): State<Admin>,
    InPath((name, version)): InPath<(String, String)>,
) -> Result<Json<ComponentDetail>, Problem> {
    let detail = admin.runtime.deployment(&name, &version).await?;
    Ok(Json(ComponentDetail::from(&detail)))
}

/// Removes a component, unless an open instance is pinned to it. Its name and version are then free; instances of it
/// that have ended can still be described.
#[utoipa::path(
    delete, path = "/v1/components/{name}/{version}", operation_id = "remove_component", tag = "components",
    params(("name" = String, Path), ("version" = String, Path)),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = Problem),
        (status = 409, description = "Open instances are pinned to it; the detail says how many.", body = Problem),
    ),
)]
pub async fn remove(
    State(admin): State<Admin>,
    InPath((name, version)): InPath<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.runtime.remove_deployment(&name, &version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replays a component that might be deployed under this name and version against the histories of all open instances
/// of the name, and the newest of those that have ended. Nothing is deployed or written.
#[utoipa::path(
    post, path = "/v1/components/{name}/{version}/check", operation_id = "check_component", tag = "components",
    params(("name" = String, Path), ("version" = String, Path), CheckParams),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The bytes of a Wasm component."),
    responses(
        (status = 200, body = DeployCheck),
        (status = 409, description = "Other bytes are deployed under this name and version.", body = Problem),
        (status = 413, description = "The component is too large.", body = Problem),
        (status = 422, description = "The component can't run here; the detail names what it lacks.", body = Problem),
        (status = 503, description = "Another check is under way.", body = Problem),
    ),
)]
pub async fn check(
    State(admin): State<Admin>,
    InPath((name, version)): InPath<(String, String)>,
    InQuery(params): InQuery<CheckParams>,
    request: Request,
) -> Result<Json<DeployCheck>, Problem> {
    let ended = params.ended()?;
    let (bytes, _place) = upload(&admin, request).await?;
    let check = admin.runtime.check_deploy(&name, &version, bytes, ended).await?;
    Ok(Json(DeployCheck::from(&check)))
}

/// Deploys a component and moves all open instances of its name to it, if it matches the histories of all of them.
/// Each is checked again when it is moved; one that has gone on to where it does not match stays, and is named.
#[utoipa::path(
    post, path = "/v1/components/{name}/{version}/migrate", operation_id = "deploy_and_migrate", tag = "components",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The bytes of a Wasm component."),
    responses(
        (status = 200, body = MigratedAll),
        (status = 409, body = Problem,
            description = "It does not match all histories, and nothing was done; or other bytes are deployed so."),
        (status = 413, description = "The component is too large.", body = Problem),
        (status = 422, description = "The component can't run here; the detail names what it lacks.", body = Problem),
        (status = 503, description = "Another check is under way.", body = Problem),
    ),
)]
pub async fn migrate(
    State(admin): State<Admin>,
    InPath((name, version)): InPath<(String, String)>,
    request: Request,
) -> Result<Json<MigratedAll>, Problem> {
    let (bytes, _place) = upload(&admin, request).await?;
    let reply = admin.runtime.deploy_and_migrate(&name, &version, bytes).await?;
    Ok(Json(MigratedAll::from(&reply)))
}
