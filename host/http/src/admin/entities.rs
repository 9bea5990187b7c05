//! Entities: calling and signalling them, reading their state, listing them.

use super::Admin;
use crate::body::{self, BodySize};
use crate::dto::{Entity, EntityList, EntitySummary, OperationResult};
use crate::problem::Problem;
use crate::request::{EntityListParams, InPath, InQuery};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

/// What an entity keeps, and who has locked it.
#[utoipa::path(
    get, path = "/v1/entities/{name}/{key}", operation_id = "describe_entity", tag = "entities",
    params(("name" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = Entity), (status = 404, description = "It keeps nothing.", body = Problem)),
)]
pub async fn describe(
    State(admin): State<Admin>,
    InPath((name, key)): InPath<(String, String)>,
) -> Result<Json<Entity>, Problem> {
    let detail = admin.runtime.entity(&name, &key).await?.ok_or_else(|| {
        let text = format!("entity `@{name}@{key}` keeps nothing; list those that do with GET /v1/entities");
        Problem::new(StatusCode::NOT_FOUND, "entity.not-found", text)
    })?;
    Ok(Json(Entity::from(&detail)))
}

/// Lists entities that keep something, in order of their ids `@name@key`. Go on with `next_cursor` until there is none.
#[utoipa::path(
    get, path = "/v1/entities", operation_id = "list_entities", tag = "entities",
    params(EntityListParams),
    responses((status = 200, body = EntityList), (status = 400, body = Problem)),
)]
pub async fn list(
    State(admin): State<Admin>,
    InQuery(params): InQuery<EntityListParams>,
) -> Result<Json<EntityList>, Problem> {
    let page = admin.runtime.entities(params.into_query()?).await?;
    let entities = page.rows.iter().filter_map(EntitySummary::of).collect();
    Ok(Json(EntityList { entities, next_cursor: page.next }))
}

/// Has an entity perform an operation and gives what it gave, once that is durable.
#[utoipa::path(
    post, path = "/v1/entities/{name}/{key}/call/{operation}", operation_id = "call_entity", tag = "entities",
    params(("name" = String, Path), ("key" = String, Path), ("operation" = String, Path)),
    request_body(content = serde_json::Value, description = "The operation's input: any JSON value; none is `null`."),
    responses(
        (status = 200, description = "It was performed, well or not.", body = OperationResult),
        (status = 409, description = "A workflow holds its lock.", body = Problem),
        (status = 413, description = "The input is too large.", body = Problem),
    ),
)]
pub async fn call(
    State(admin): State<Admin>,
    InPath((name, key, operation)): InPath<(String, String, String)>,
    request: Request,
) -> Result<Json<OperationResult>, Problem> {
    let input = input(&admin, request).await?;
    let outcome = admin.runtime.entity_call(&name, &key, &operation, input).await?;
    Ok(Json(OperationResult::from(&outcome)))
}

/// Has an entity perform an operation, without its answer.
#[utoipa::path(
    post, path = "/v1/entities/{name}/{key}/signal/{operation}", operation_id = "signal_entity", tag = "entities",
    params(("name" = String, Path), ("key" = String, Path), ("operation" = String, Path)),
    request_body(content = serde_json::Value, description = "The operation's input: any JSON value; none is `null`."),
    responses(
        (status = 202, description = "It is recorded."),
        (status = 404, description = "No entity of that name is deployed.", body = Problem),
        (status = 413, description = "The input is too large.", body = Problem),
    ),
)]
pub async fn signal(
    State(admin): State<Admin>,
    InPath((name, key, operation)): InPath<(String, String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let input = input(&admin, request).await?;
    admin.runtime.entity_signal(&name, &key, &operation, input).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn input(admin: &Admin, request: Request) -> Result<String, Problem> {
    let limit = BodySize::payload(admin.runtime.limits(), 0);
    let bytes = body::read(request.into_body(), limit, admin.time).await?;
    if bytes.is_empty() { Ok("null".to_owned()) } else { body::json_text(&bytes) }
}
