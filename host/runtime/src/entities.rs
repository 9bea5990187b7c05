//! Entities as others see them: calling, signalling, reading, listing.

use crate::actor::{EntityAsk, Post, answered};
use crate::error::{ErrorKind, RuntimeError};
use crate::runtime::check_json;
use crate::{Runtime, identity};
use rehydrate_core::{EntityId, Json, Outcome};
use rehydrate_store::{EntityPage, EntityQuery, EntityRow};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// The value that an entity which keeps one thing keeps it under.
const STATE: &str = "state";

/// The code of a failure because no component of that name is deployed.
pub const NOT_DEPLOYED: &str = "entity.not-deployed";

/// An entity with its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityDetail {
    /// Its id.
    pub id: EntityId,
    /// Its row.
    pub row: EntityRow,
    /// Its values.
    pub values: BTreeMap<String, Json>,
}

impl EntityDetail {
    /// What it keeps, as one JSON text: the value `state` if it has no other, or else an object of all.
    pub fn state(&self) -> Json {
        if let (Some(state), 1) = (self.values.get(STATE), self.values.len()) {
            return state.clone();
        }
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let members: Vec<String> = self.values.iter().map(|(key, value)| format!("{}:{value}", quoted(key))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A checked entity id.
fn entity_id(name: &str, key: &str) -> Result<EntityId, RuntimeError> {
    EntityId::new(name, key)
        .map_err(|error| RuntimeError::new(ErrorKind::Invalid, "entity.invalid-id", error.to_string()))
}

impl Runtime {
    /// Has an entity perform an operation, and gives what it gave, once that is durable. Refused while a workflow holds
    /// the entity's lock.
    pub async fn entity_call(&self, name: &str, key: &str, op: &str, input: Json) -> Result<Outcome, RuntimeError> {
        self.ask_entity(name, key, op, input, true).await
    }

    /// The same, without what it gave: `Ok` means that the operation is recorded. It is performed before this returns,
    /// or, while a workflow holds the entity's lock, after that.
    pub async fn entity_signal(&self, name: &str, key: &str, op: &str, input: Json) -> Result<(), RuntimeError> {
        match self.ask_entity(name, key, op, input, false).await? {
            Err(failure) if failure.code == NOT_DEPLOYED => {
                Err(RuntimeError::new(ErrorKind::NotFound, NOT_DEPLOYED, failure.message))
            }
            _ => Ok(()),
        }
    }

    async fn ask_entity(
        &self,
        name: &str,
        key: &str,
        operation: &str,
        input: Json,
        is_call: bool,
    ) -> Result<Outcome, RuntimeError> {
        self.instances.admission.admit()?;
        let entity = entity_id(name, key)?;
        check_json("the operation's input", &input)?;
        self.check_payload("the operation's input", input.len())?;
        let named = self.limits().check_name("the operation's name", operation.len());
        named.map_err(|error| RuntimeError::new(ErrorKind::Invalid, "limit.name-bytes", error.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let at = identity::instance_key(&entity.to_string());
        let ask = EntityAsk { entity, operation: operation.to_owned(), input, reply, is_call };
        self.instances.post(at, Post::Entity(Box::new(ask)));
        answered(answer).await
    }

    /// An entity as of its last operation; none if it keeps nothing.
    pub async fn entity(&self, name: &str, key: &str) -> Result<Option<EntityDetail>, RuntimeError> {
        let id = entity_id(name, key)?;
        let store = &self.instances.store;
        let Some(row) = store.entity(&id.to_string())? else { return Ok(None) };
        let values = store.entity_values(&row.id)?;
        Ok(Some(EntityDetail { id, row, values }))
    }

    /// A page of the list of entities, in order of their names and keys; with their values, if asked for.
    pub async fn entities(&self, query: EntityQuery) -> Result<EntityPage, RuntimeError> {
        let store = &*self.instances.store;
        Ok(tokio::task::block_in_place(|| store.entities(&query))?)
    }
}
