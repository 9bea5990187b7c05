//! What comes out of the API about entities.

use super::Failure;
use crate::show;
use rehydrate_runtime as runtime;
use rehydrate_runtime::core;
use rehydrate_runtime::store::{EntityRow, LockHolder};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Which workflow has locked an entity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntityLock {
    /// The instance.
    pub instance: String,
    /// Its run.
    pub run: u32,
}

impl From<&LockHolder> for EntityLock {
    fn from(holder: &LockHolder) -> Self {
        EntityLock { instance: show::text(&holder.instance), run: holder.run.0 }
    }
}

/// An entity in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntitySummary {
    /// The name of its component's deployment.
    pub name: String,
    /// Its key.
    pub key: String,
    /// When it was first told something.
    pub created: String,
    /// When it last performed an operation.
    pub last_operation: String,
    /// Who has locked it.
    pub locked_by: Option<EntityLock>,
    /// Operations that wait for the lock.
    pub waiting: u64,
}

impl EntitySummary {
    /// A row as it is listed.
    pub fn of(row: &EntityRow) -> Option<EntitySummary> {
        let id = core::EntityId::parse(&row.id)?;
        Some(EntitySummary {
            name: id.name,
            key: id.key,
            created: show::time(row.created),
            last_operation: show::time(row.last_operation),
            locked_by: row.lock.as_ref().map(EntityLock::from),
            waiting: u64::try_from(row.waiting.len()).unwrap_or(u64::MAX),
        })
    }
}

/// A page of the list of entities.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntityList {
    /// The entities; may be fewer than asked for, or none, while there are more pages.
    pub entities: Vec<EntitySummary>,
    /// What to give as `cursor` for the next page; none: this is the last.
    pub next_cursor: Option<String>,
}

/// An entity with what it keeps.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Entity {
    /// The name of its component's deployment.
    pub name: String,
    /// Its key.
    pub key: String,
    /// When it was first told something.
    pub created: String,
    /// When it last performed an operation.
    pub last_operation: String,
    /// Who has locked it.
    pub locked_by: Option<EntityLock>,
    /// Operations that wait for the lock.
    pub waiting: u64,
    /// Its values by their keys; an entity that keeps one thing has it under `state`.
    #[schema(value_type = std::collections::BTreeMap<String, Value>)]
    pub values: BTreeMap<String, Box<RawValue>>,
}

impl From<&runtime::EntityDetail> for Entity {
    fn from(detail: &runtime::EntityDetail) -> Self {
        let row = &detail.row;
        Entity {
            name: detail.id.name.clone(),
            key: detail.id.key.clone(),
            created: show::time(row.created),
            last_operation: show::time(row.last_operation),
            locked_by: row.lock.as_ref().map(EntityLock::from),
            waiting: u64::try_from(row.waiting.len()).unwrap_or(u64::MAX),
            values: detail.values.iter().map(|(key, value)| (show::text(key), show::json(value))).collect(),
        }
    }
}

/// What an operation of an entity gave.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OperationResult {
    /// What it gave, if it went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub output: Option<Box<RawValue>>,
    /// Why it failed, if it did; then it changed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl From<&core::failure::Outcome> for OperationResult {
    fn from(outcome: &core::failure::Outcome) -> Self {
        OperationResult {
            output: outcome.as_deref().ok().map(show::json),
            failure: outcome.as_ref().err().map(Failure::from),
        }
    }
}
