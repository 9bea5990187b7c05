//! The guest side of entities: what an operation may ask and do, and how the state of a type gets in and out of it.
//! An entity is not replayed: each operation is performed once, and what it did becomes durable as a whole or not.

use crate::entity_ref::EntityId;
use crate::failure::{Failure, FailureKind};
use crate::host::Level;
use crate::operation::encode;
use crate::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The key under which the state of a `#[rehydrate::entity]` is kept, and which the HTTP API shows.
const STATE: &str = "state";

/// A kind of entity. Implemented by [`#[rehydrate::entity]`](crate::entity).
pub trait Entity {
    /// Performs an operation; input and output are JSON.
    ///
    /// Fails with kind `not-found` for an operation that there is not. To `delete` the host then answers by removing
    /// all values.
    fn handle(ctx: EntityContext, operation: &str, input: &str) -> Result<String, Failure>;
}

/// The operation under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperationInfo {
    /// The entity.
    pub entity: EntityId,
    /// The instance or entity that asked; none: somebody outside.
    pub caller: Option<String>,
    /// Whether somebody waits for the answer.
    pub is_call: bool,
}

/// An entity's view of its host. Cheap to clone.
///
/// All that an operation changes or sends is dropped if it fails.
#[derive(Clone)]
pub struct EntityContext {
    door: door::Door,
}

impl EntityContext {
    pub(crate) fn new(door: door::Door) -> EntityContext {
        EntityContext { door }
    }

    /// The operation under way.
    pub fn info(&self) -> OperationInfo {
        self.door.info()
    }

    /// The time of the operation.
    pub fn now(&self) -> Timestamp {
        self.door.now()
    }

    /// The value under that key, if it has one. Fails with code `sdk.decode` if it has another shape.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.door.get(key) else { return Ok(None) };
        let what = || format!("the value under key `{key}` of entity `{}`", self.info().entity);
        serde_json::from_str(&text).map(Some).map_err(|error| Failure::decode(&what(), &error))
    }

    /// Sets the value under that key. The key `state` belongs to the state of the type. Fails only for a value that
    /// JSON can not hold.
    pub fn set(&self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        self.door.set(key, &encode(value, format_args!("the value under key `{key}`"))?);
        Ok(())
    }

    /// Removes the value under that key.
    pub fn remove(&self, key: &str) {
        self.door.remove(key);
    }

    /// All keys that have a value, in order.
    pub fn keys(&self) -> Vec<String> {
        self.door.keys()
    }

    /// Has another entity perform an operation, without an answer. Fails only for an input that JSON can not hold.
    pub fn signal_entity(
        &self,
        on: &EntityId,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        let input = encode(input, format_args!("the input of operation `{operation}` of entity `{on}`"))?;
        self.door.signal_entity(on, operation, &input);
        Ok(())
    }

    /// Sends a signal to an instance. Fails only for a payload that JSON can not hold.
    pub fn signal_instance(
        &self,
        instance: &str,
        name: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        let payload = encode(payload, format_args!("the payload of signal `{name}`"))?;
        self.door.signal_instance(instance, name, &payload);
        Ok(())
    }

    /// Starts an instance of the newest version of a workflow. Fails only for an input that JSON can not hold.
    pub fn start(&self, workflow: &str, id: &str, input: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
        self.start_any(workflow, id, input, None)
    }

    /// Starts an instance of that version of a workflow. Fails only for an input that JSON can not hold.
    pub fn start_version(
        &self,
        workflow: &str,
        version: &str,
        id: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        self.start_any(workflow, id, input, Some(version))
    }

    fn start_any(
        &self,
        workflow: &str,
        id: &str,
        input: &(impl Serialize + ?Sized),
        version: Option<&str>,
    ) -> Result<(), Failure> {
        let input = encode(input, format_args!("the input of workflow `{workflow}`"))?;
        self.door.start(workflow, id, &input, version);
        Ok(())
    }

    /// A random UUID (version 4).
    pub fn uuid(&self) -> String {
        self.door.uuid()
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.door.log(level, message.as_ref());
    }
}

impl fmt::Debug for EntityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityContext").field("info", &self.info()).finish_non_exhaustive()
    }
}

/// An operation that may change the state. The state is written if its JSON is another one than before.
#[doc(hidden)]
pub fn change<S, I, O, E>(
    ctx: EntityContext,
    input: &str,
    operation: impl FnOnce(&mut S, EntityContext, I) -> Result<O, E>,
) -> Result<String, Failure>
where
    S: Default + Serialize + DeserializeOwned,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    let input = read_input(&ctx, input)?;
    let before = ctx.door.get(STATE);
    let mut state: S = read_state(&ctx, before.as_deref())?;
    let output = operation(&mut state, ctx.clone(), input).map_err(Into::into)?;
    let after = encode(&state, "the entity's state")?;
    if before.as_ref() != Some(&after) {
        ctx.door.set(STATE, &after);
    }
    encode(&output, "the operation's output")
}

/// An operation that only reads the state.
#[doc(hidden)]
pub fn read<S, I, O, E>(
    ctx: EntityContext,
    input: &str,
    operation: impl FnOnce(&S, EntityContext, I) -> Result<O, E>,
) -> Result<String, Failure>
where
    S: Default + DeserializeOwned,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    let input = read_input(&ctx, input)?;
    let state = read_state(&ctx, ctx.door.get(STATE).as_deref())?;
    let output = operation(&state, ctx, input).map_err(Into::into)?;
    encode(&output, "the operation's output")
}

/// An operation that uses the state up: it is removed.
#[doc(hidden)]
pub fn consume<S, I, O, E>(
    ctx: EntityContext,
    input: &str,
    operation: impl FnOnce(S, EntityContext, I) -> Result<O, E>,
) -> Result<String, Failure>
where
    S: Default + DeserializeOwned,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    let input = read_input(&ctx, input)?;
    let state = read_state(&ctx, ctx.door.get(STATE).as_deref())?;
    let output = operation(state, ctx.clone(), input).map_err(Into::into)?;
    ctx.door.remove(STATE);
    encode(&output, "the operation's output")
}

fn read_input<I: DeserializeOwned>(ctx: &EntityContext, input: &str) -> Result<I, Failure> {
    let what = || format!("the input of the operation of entity `{}`", ctx.info().entity);
    serde_json::from_str(input).map_err(|error| Failure::decode(&what(), &error))
}

fn read_state<S: Default + DeserializeOwned>(ctx: &EntityContext, text: Option<&str>) -> Result<S, Failure> {
    let Some(text) = text else { return Ok(S::default()) };
    let what = || format!("the state of entity `{}`", ctx.info().entity);
    serde_json::from_str(text).map_err(|error| Failure::decode(&what(), &error))
}

/// The failure of an operation that there is not.
#[doc(hidden)]
pub fn no_such_operation(ctx: &EntityContext, operation: &str, offered: &[&str]) -> Failure {
    let entity = ctx.info().entity;
    let message = format!("entity `{entity}` has no operation `{operation}`; it has: {}", offered.join(", "));
    Failure::new(FailureKind::NotFound, "sdk.no-such-operation", message)
}

/// Performs an operation in a component.
#[cfg(target_family = "wasm")]
pub(crate) fn handle<E: Entity>(operation: &str, input: &str) -> Result<String, Failure> {
    crate::panics::log_panics(|line| door::Door.log(Level::Error, line));
    E::handle(EntityContext::new(door::Door), operation, input)
}

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::entities as door;

/// The imports of world `entity`.
#[cfg(target_family = "wasm")]
pub(crate) mod door {
    use super::OperationInfo;
    use crate::bindings::entity::rehydrate::workflow::entity_context;
    use crate::entity_ref::EntityId;
    use crate::host::Level;
    use crate::time::Timestamp;
    use crate::wire;

    #[derive(Clone, Copy)]
    pub(crate) struct Door;

    impl Door {
        pub(crate) fn info(self) -> OperationInfo {
            let info = entity_context::get_info();
            let entity = EntityId { name: info.entity.name, key: info.entity.key };
            OperationInfo { entity, caller: info.caller, is_call: info.is_call }
        }

        pub(crate) fn now(self) -> Timestamp {
            let now = entity_context::now();
            Timestamp::from_parts(now.seconds, now.nanoseconds)
        }

        pub(crate) fn get(self, key: &str) -> Option<String> {
            entity_context::get(key)
        }

        pub(crate) fn set(self, key: &str, value: &str) {
            entity_context::set(key, value);
        }

        pub(crate) fn remove(self, key: &str) {
            entity_context::remove(key);
        }

        pub(crate) fn keys(self) -> Vec<String> {
            entity_context::keys()
        }

        pub(crate) fn signal_entity(self, on: &EntityId, operation: &str, input: &str) {
            entity_context::signal_entity(&wire::entity_id(on), operation, input);
        }

        pub(crate) fn signal_instance(self, instance: &str, name: &str, payload: &str) {
            entity_context::signal_instance(instance, name, payload);
        }

        pub(crate) fn start(self, workflow: &str, id: &str, input: &str, version: Option<&str>) {
            entity_context::start(workflow, id, input, version);
        }

        pub(crate) fn uuid(self) -> String {
            entity_context::uuid()
        }

        pub(crate) fn log(self, level: Level, message: &str) {
            entity_context::log(wire::level(level), message);
        }
    }
}
