//! Entities. Their names are matched in any case with those that are deployed.

use super::instances::CONTINUATION;
use super::reply::{Refusal, micros};
use super::{Asked, Facade};
use crate::{body, show};
use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode};
use rehydrate_runtime::core::EntityId;
use rehydrate_runtime::store::{ComponentKind, EntityQuery};
use serde::Serialize;
use serde_json::value::RawValue;

/// Most entities on a page, and if nobody says.
const TOP_MAX: usize = 500;
const TOP: usize = 100;

/// Rows looked at for one page.
const SCAN_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    entity_id: ListedId,
    last_operation_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct ListedId {
    name: String,
    key: String,
}

/// The key in a path: `$` stands for the empty one.
fn key_of(segment: &str) -> &str {
    if segment == "$" { "" } else { segment }
}

impl Facade {
    async fn entity_name(&self, name: &str) -> Result<String, Refusal> {
        self.deployed_name(ComponentKind::Entity, name).await
    }

    pub(super) async fn read_entity(&self, name: &str, key: &str) -> Result<Response, Refusal> {
        let name = self.entity_name(name).await?;
        let found = self.runtime().entity(&name, key_of(key)).await?;
        // One that keeps nothing but a lock has no state either.
        let found = found.filter(|entity| !entity.values.is_empty());
        let entity = found.ok_or_else(|| Refusal::empty(StatusCode::NOT_FOUND))?;
        Ok(Json(show::json(&entity.state())).into_response())
    }

    pub(super) async fn list_entities(&self, name: Option<&str>, asked: Asked) -> Result<Response, Refusal> {
        let name = match name {
            Some(name) => Some(self.entity_name(name).await?),
            None => None,
        };
        let token = asked.headers.get(&CONTINUATION).filter(|token| !token.is_empty() && *token != "null");
        let after = token.map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token.as_bytes()).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| Refusal::bad("the continuation token is not one of this host"))
        });
        let query = EntityQuery {
            name,
            from: asked.query.time("lastoperationtimefrom")?,
            to: asked.query.time("lastoperationtimeto")?,
            after: after.transpose()?,
            limit: asked.query.top(TOP, TOP_MAX)?,
            scan_max: SCAN_MAX,
        };
        let page = self.runtime().entities(query).await?;
        let fetch_state = asked.query.flag("fetchstate", false);
        let mut listed = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let Some(EntityId { name, key }) = EntityId::parse(&row.id) else { continue };
            let state = match fetch_state {
                true => self.runtime().entity(&name, &key).await?.map(|entity| show::json(&entity.state())),
                false => None,
            };
            let last_operation_time = micros(row.last_operation);
            listed.push(Listed { entity_id: ListedId { name, key }, last_operation_time, state });
        }
        let mut response = Json(listed).into_response();
        let next = page.next.and_then(|next| HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(next)).ok());
        response.headers_mut().extend(next.map(|next| (CONTINUATION, next)));
        Ok(response)
    }

    /// A body that is not JSON is passed as a string.
    pub(super) async fn signal_entity(&self, name: &str, key: &str, asked: Asked) -> Result<Response, Refusal> {
        let operation = asked.query.get("op").unwrap_or_default().to_owned();
        let bytes = self.bytes(asked.body).await?;
        let input = match bytes.is_empty() {
            true => "null".to_owned(),
            false => body::json_text(&bytes)
                .unwrap_or_else(|_| serde_json::Value::from(String::from_utf8_lossy(&bytes)).to_string()),
        };
        let name = self.entity_name(name).await?;
        self.runtime().entity_signal(&name, key_of(key), &operation, input).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    pub(super) async fn delete_entity(&self, name: &str, key: &str) -> Result<Response, Refusal> {
        let name = self.entity_name(name).await?;
        self.runtime().entity_signal(&name, key_of(key), "delete", "null".to_owned()).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }
}
