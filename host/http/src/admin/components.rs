//! Deploying and listing components.

use super::Admin;
use crate::body::{self, BodySize, BodyTime};
use crate::dto::{Component, ComponentList};
use crate::problem::Problem;
use crate::request::InPath;
use axum::Json;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::SemaphorePermit;

/// The setting of the largest upload.
const COMPONENT_BYTES_SETTING: &str = "runtime.component-mb";

/// An upload may take this many times as long as another body.
const UPLOAD_TIME: u32 = 10;

/// Deploys a component under a name and version, which then stand for these bytes for ever.
#[utoipa::path(
    put, path = "/v1/components/{name}/{version}", operation_id = "deploy_component", tag = "components",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The bytes of a Wasm component."),
    responses(
        (status = 201, description = "Deployed.", body = Component),
        (status = 200, description = "The same bytes were there under this name and version.", body = Component),
        (status = 409, description = "Other bytes are deployed under this name and version.", body = Problem),
        (status = 413, description = "The component is too large.", body = Problem),
        (status = 422, description = "The component can't run here; the detail names what it lacks.", body = Problem),
    ),
)]
pub async fn deploy(
    State(admin): State<Admin>,
    InPath((name, version)): InPath<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<Component>), Problem> {
    let (bytes, _place) = upload(&admin, request).await?;
    let reply = admin.runtime.deploy(&name, &version, bytes).await?;
    let status = if reply.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Component::from(&reply.deployment))))
}

/// The bytes of a component, with the place that they take as long as they are worked on.
pub(super) async fn upload(admin: &Admin, request: Request) -> Result<(Bytes, SemaphorePermit<'_>), Problem> {
    let place = admin.uploads.acquire().await.map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "host.stopping", "the host is stopping; deploy after its restart")
    })?;
    let time = BodyTime { idle: admin.time.idle, total: admin.time.total * UPLOAD_TIME };
    let size = BodySize { bytes: admin.component_bytes, setting: COMPONENT_BYTES_SETTING };
    Ok((body::read(request.into_body(), size, time).await?, place))
}

/// Lists all deployed components, oldest first.
#[utoipa::path(
    get, path = "/v1/components", operation_id = "list_components", tag = "components",
    responses((status = 200, body = ComponentList)),
)]
pub async fn list(State(admin): State<Admin>) -> Result<Json<ComponentList>, Problem> {
    let rows = admin.runtime.deployments().await?;
    Ok(Json(ComponentList { components: rows.iter().map(Component::from).collect() }))
}
