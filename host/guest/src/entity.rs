//! Performing one operation of an entity.
//!
//! An entity is not replayed: its values are handed in, and what it changed is handed out, to be committed as one.
//! So it may ask a clock and random numbers; it reaches nothing outside but by the messages it leaves behind.

use crate::activity::{ActivityLog, CurrentLog, wasi};
use crate::bindings::entity as bindings;
use crate::bindings::workflow::rehydrate::workflow::types;
use crate::component::EntityComponent;
use crate::contract::entity_id;
use crate::convert;
use crate::limiter::Limiter;
use crate::trap;
use crate::workflow::Stopped;
use rehydrate_core::limits::check;
use rehydrate_core::random::Random;
use rehydrate_core::{
    EntityId, Failure, FailureKind, InstanceId, Json, LimitExceeded, Limits, MessageBody, Outcome, StartMessage, Stop,
    Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// Values that one entity may keep.
const VALUES_MAX: usize = 10_000;

/// One operation to perform.
#[derive(Debug)]
pub struct EntityRequest {
    /// The entity.
    pub entity: EntityId,
    /// The operation.
    pub operation: String,
    /// Its input, JSON text.
    pub input: Json,
    /// The instance or entity that asked; none: somebody outside.
    pub caller: Option<String>,
    /// Whether somebody waits for the answer.
    pub is_call: bool,
    /// The time of the operation.
    pub now: Timestamp,
    /// The seed of its random numbers.
    pub seed: u64,
    /// All its values.
    pub values: BTreeMap<String, Json>,
}

/// A message that an operation left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntitySend {
    /// To which instance or entity.
    pub to: String,
    /// What it says.
    pub body: MessageBody,
}

/// What an operation came to. On a failure nothing else of it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityTurn {
    /// What it gave.
    pub outcome: Outcome,
    /// The values as they are now.
    pub values: BTreeMap<String, Json>,
    /// Values that were set, or with none removed.
    pub changed: BTreeMap<String, Option<Json>>,
    /// Messages, in order.
    pub send: Vec<EntitySend>,
}

/// The store's data of an entity.
pub struct EntityState {
    request: EntityRequest,
    changed: BTreeMap<String, Option<Json>>,
    send: Vec<EntitySend>,
    sent_bytes: usize,
    random: Random,
    limits: Limits,
    log: ActivityLog,
    table: ResourceTable,
    wasi: WasiCtx,
    limiter: Limiter,
}

impl WasiView for EntityState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl EntityState {
    fn json(what: &str, text: &str) -> Result<(), Stop> {
        convert::check_json(what, text).map_err(Stop::Misuse)
    }

    fn push(&mut self, to: String, body: MessageBody, bytes: usize) -> Result<(), Stop> {
        let limits = &self.limits;
        self.sent_bytes += bytes;
        check(
            "commands-per-turn",
            "too many messages of one operation",
            self.send.len() + 1,
            limits.commands_per_turn,
        )?;
        check(
            "turn-bytes",
            "the messages of one operation are too large in bytes",
            self.sent_bytes,
            limits.turn_bytes,
        )?;
        self.send.push(EntitySend { to, body });
        Ok(())
    }
}

impl bindings::rehydrate::workflow::entity_context::Host for EntityState {
    fn get_info(&mut self) -> wasmtime::Result<bindings::rehydrate::workflow::entity_context::OperationInfo> {
        let EntityId { name, key } = self.request.entity.clone();
        Ok(bindings::rehydrate::workflow::entity_context::OperationInfo {
            entity: types::EntityId { name, key },
            caller: self.request.caller.clone(),
            is_call: self.request.is_call,
        })
    }

    fn now(&mut self) -> wasmtime::Result<types::Instant> {
        Ok(convert::instant(self.request.now))
    }

    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.request.values.get(&key).cloned())
    }

    fn set(&mut self, key: String, value: String) -> wasmtime::Result<()> {
        EntityState::json("the entity's value", &value)?;
        self.limits.check_name("the key of the entity's value", key.len()).map_err(Stop::Limit)?;
        self.limits.check_payload("the entity's value", value.len()).map_err(Stop::Limit)?;
        self.request.values.insert(key.clone(), value.clone());
        let bytes = self.request.values.iter().map(|(key, value)| key.len() + value.len()).sum();
        check("turn-bytes", "what the entity keeps is too large in bytes", bytes, self.limits.turn_bytes)
            .map_err(Stop::Limit)?;
        check("entity-values", "the entity keeps too many values", self.request.values.len(), VALUES_MAX)
            .map_err(Stop::Limit)?;
        self.changed.insert(key, Some(value));
        Ok(())
    }

    fn remove(&mut self, key: String) -> wasmtime::Result<()> {
        if self.request.values.remove(&key).is_some() {
            self.changed.insert(key, None);
        }
        Ok(())
    }

    fn keys(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.request.values.keys().cloned().collect())
    }

    fn signal_entity(&mut self, on: types::EntityId, operation: String, input: String) -> wasmtime::Result<()> {
        let on = entity_id(on)?;
        EntityState::json("the input of the entity's operation", &input)?;
        self.limits.check_name("the operation's name", operation.len()).map_err(Stop::Limit)?;
        self.limits.check_payload("the operation's input", input.len()).map_err(Stop::Limit)?;
        let bytes = input.len();
        Ok(self.push(on.to_string(), MessageBody::Operation { operation, input }, bytes)?)
    }

    fn signal_instance(&mut self, instance: String, name: String, payload: String) -> wasmtime::Result<()> {
        EntityState::json("the signal's payload", &payload)?;
        self.limits.check_name("the signal's name", name.len()).map_err(Stop::Limit)?;
        self.limits.check_payload("the signal's payload", payload.len()).map_err(Stop::Limit)?;
        let bytes = payload.len();
        Ok(self.push(instance, MessageBody::Signal { name, payload }, bytes)?)
    }

    fn start(&mut self, workflow: String, id: String, input: String, version: Option<String>) -> wasmtime::Result<()> {
        InstanceId::new(&id).map_err(|error| Stop::Misuse(error.to_string()))?;
        EntityState::json("the instance's input", &input)?;
        self.limits.check_name("the workflow's name", workflow.len()).map_err(Stop::Limit)?;
        self.limits.check_payload("the instance's input", input.len()).map_err(Stop::Limit)?;
        let bytes = input.len();
        let start = StartMessage { workflow, version, input, parent: None, depth: 0 };
        Ok(self.push(id, MessageBody::Start(start), bytes)?)
    }

    fn uuid(&mut self) -> wasmtime::Result<String> {
        Ok(self.random.uuid())
    }

    fn log(&mut self, level: types::LogLevel, message: String) -> wasmtime::Result<()> {
        self.log.line(convert::level(level), message, self.limits.log_bytes_per_turn).map_err(Stop::Limit)?;
        Ok(())
    }
}

/// The linker of entities: WASI 0.2 without sockets and HTTP, the operation's context.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<EntityState>> {
    let mut linker = Linker::new(engine);
    // Its sockets and files are refused at deploy, by name, as a workflow's are.
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    type Context = HasSelf<EntityState>;
    bindings::rehydrate::workflow::entity_context::add_to_linker::<_, Context>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Performs one operation, in an instance of its own. `log` gets what it says.
pub async fn perform(
    component: &EntityComponent,
    request: EntityRequest,
    limits: &Limits,
    log: &ActivityLog,
) -> EntityTurn {
    let (operation, input) = (request.operation.clone(), request.input.clone());
    let before = request.values.clone();
    let mut store = store(component, request, limits, log);
    let mut running = false;
    let result = async {
        let bindings = component.instantiate(&mut store).await?;
        running = true;
        bindings.call_handle(&mut store, &operation, &input).await
    }
    .await;
    let outcome = match result {
        Ok(outcome) => {
            let what = format_args!("what operation `{operation}` gave");
            let outcome = outcome.map_err(convert::failure_from_guest);
            convert::checked_outcome(limits, what, "entity.invalid-json", outcome)
        }
        Err(error) => Err(failed(trap::classify(&error, log.last_panic().as_deref(), running))),
    };
    let state = store.into_data();
    match outcome {
        Ok(output) => {
            EntityTurn { outcome: Ok(output), values: state.request.values, changed: state.changed, send: state.send }
        }
        Err(failure) => {
            EntityTurn { outcome: Err(failure), values: before, changed: BTreeMap::new(), send: Vec::new() }
        }
    }
}

fn store(
    component: &EntityComponent,
    request: EntityRequest,
    limits: &Limits,
    log: &ActivityLog,
) -> Store<EntityState> {
    let wasi = wasi(&CurrentLog::of(log), limits.log_bytes_per_turn);
    let state = EntityState {
        random: Random::new(request.seed),
        request,
        changed: BTreeMap::new(),
        send: Vec::new(),
        sent_bytes: 0,
        log: log.clone(),
        table: ResourceTable::new(),
        wasi,
        limiter: Limiter::new(limits.memory_bytes, limits.table_elements, Arc::new(AtomicUsize::new(0))),
        limits: limits.clone(),
    };
    let mut store = Store::new(component.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.turn_bytes.saturating_mul(2));
    store.set_epoch_deadline(1);
    let (began, limit_ms) = (Instant::now(), limits.cpu_per_turn_ms);
    // An operation never waits for anything, so time that has passed is time it computed, or had to share.
    store.epoch_deadline_callback(move |_| {
        if began.elapsed() <= Duration::from_millis(limit_ms) {
            return Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())));
        }
        let what = "the operation of the entity took too long, in milliseconds".to_owned();
        let found = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Err(Stop::Limit(LimitExceeded { name: "cpu-per-turn-ms".to_owned(), what, found, limit: limit_ms }).into())
    });
    store
}

fn failed(stopped: Stopped) -> Failure {
    match stopped {
        Stopped::Failed(failure) => failure,
        Stopped::Diverged(divergence) => Failure::new(FailureKind::Rejected, "entity.failed", divergence.to_string()),
        Stopped::HostFault(text) => Failure::new(FailureKind::Rejected, "entity.host-fault", text).retryable(),
    }
}
