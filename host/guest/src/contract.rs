//! The imports of a workflow: each asks the replay, and nothing else.

use crate::bindings::workflow::rehydrate::workflow::{
    activities, callbacks, children, control, entities, instances, operations, signals, timers, types,
};
use crate::convert;
use crate::limiter::Limiter;
use crate::log::LogBuffer;
use crate::workflow::CallbackUrls;
use rehydrate_core::limits::check;
use rehydrate_core::replay::WaitMode;
use rehydrate_core::{EntityId, EventId, Failure, Nanos, Replay, Stop};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::WasiCtx;

/// A guest's handle to an operation.
#[derive(Debug)]
pub struct Pending {
    op: EventId,
    /// The operation belongs to a callback or a lock, which cancels it; this handle only looks at it.
    is_owned: bool,
}

/// A guest's handle to a callback.
#[derive(Debug)]
pub struct Callback {
    op: EventId,
}

/// A guest's handle to a lock.
#[derive(Debug)]
pub struct Lock {
    op: EventId,
}

/// What the guest and its driver share: the driver looks at it while the guest is suspended.
pub struct Shared {
    pub replay: Replay,
    pub log: LogBuffer,
    /// A stop that could not be told by a trap, because it came up in a destructor.
    pub stop: Option<Stop>,
    /// The guest was interrupted by the clock, not by a wait.
    pub yielded: bool,
    /// The guest has returned or is being dropped: handles that go away now mean nothing.
    pub closed: bool,
    /// The guest was instantiated: its own code has begun to run.
    pub running: bool,
    pub host_calls: u64,
}

/// The store's data of a workflow.
pub struct WorkflowHost {
    pub shared: Arc<Mutex<Shared>>,
    pub urls: Arc<dyn CallbackUrls>,
    pub table: ResourceTable,
    pub wasi: WasiCtx,
    pub limiter: Limiter,
}

/// Locks what is shared. A poisoned lock is taken as it is: the guest that panicked inside is gone.
pub fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Counts one host call.
    pub fn count_call(&mut self) -> Result<(), Stop> {
        self.host_calls += 1;
        let limit = self.replay.limits().host_calls_per_turn;
        if self.host_calls <= limit {
            return Ok(());
        }
        let wide = |calls: u64| usize::try_from(calls).unwrap_or(usize::MAX);
        let what = "too many host calls between two waits";
        Ok(check("host-calls-per-turn", what, wide(self.host_calls), wide(limit))?)
    }
}

impl WorkflowHost {
    /// Locks what is shared and counts the call.
    pub fn call(&self) -> wasmtime::Result<MutexGuard<'_, Shared>> {
        let mut shared = lock(&self.shared);
        shared.count_call()?;
        Ok(shared)
    }

    fn push_pending(&mut self, op: EventId, is_owned: bool) -> wasmtime::Result<Resource<Pending>> {
        Ok(self.table.push(Pending { op, is_owned })?)
    }

    fn ops(&self, on: &[Resource<Pending>]) -> wasmtime::Result<Vec<EventId>> {
        if on.is_empty() {
            let text = "the workflow waits for an empty list of operations, which would never end";
            return Err(Stop::Misuse(text.to_owned()).into());
        }
        on.iter().map(|pending| Ok(self.table.get(pending)?.op)).collect()
    }
}

async fn wait_for(shared: Arc<Mutex<Shared>>, mode: WaitMode, ops: &[EventId]) {
    poll_fn(|_| match lock(&shared).replay.wait(mode, ops) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn outcome(shared: Arc<Mutex<Shared>>, op: EventId) -> Result<String, Failure> {
    wait_for(shared.clone(), WaitMode::Any, &[op]).await;
    let gone = || Err(Failure::cancelled("the operation's handle was dropped"));
    lock(&shared).replay.read(op).unwrap_or_else(gone)
}

/// JSON from the guest, checked unless it is known to have been checked when it was recorded.
fn checked_json(shared: &Shared, what: &str, text: &str) -> Result<(), Stop> {
    if shared.replay.is_replaying() {
        return Ok(());
    }
    convert::check_json(what, text).map_err(Stop::Misuse)
}

fn checked_instant(at: types::Instant) -> Result<types::Instant, Stop> {
    if at.nanoseconds < 1_000_000_000 {
        return Ok(at);
    }
    Err(Stop::Misuse(format!("an instant has {} nanoseconds; at most 999,999,999 make sense", at.nanoseconds)))
}

impl types::Host for WorkflowHost {}

impl operations::Host for WorkflowHost {
    async fn wait_any(&mut self, on: Vec<Resource<Pending>>) -> wasmtime::Result<Vec<u32>> {
        drop(self.call()?);
        let ops = self.ops(&on)?;
        wait_for(self.shared.clone(), WaitMode::Any, &ops).await;
        Ok(lock(&self.shared).replay.settled_among(&ops))
    }

    async fn wait_all(&mut self, on: Vec<Resource<Pending>>) -> wasmtime::Result<()> {
        drop(self.call()?);
        if on.is_empty() {
            return Ok(());
        }
        let ops = self.ops(&on)?;
        wait_for(self.shared.clone(), WaitMode::All, &ops).await;
        Ok(())
    }
}

impl operations::HostPending for WorkflowHost {
    fn get(&mut self, pending: Resource<Pending>) -> wasmtime::Result<Option<Result<String, types::Failure>>> {
        let op = self.table.get(&pending)?.op;
        let outcome = self.call()?.replay.read(op);
        Ok(outcome.map(|outcome| outcome.map_err(convert::failure_to_guest)))
    }

    async fn wait(&mut self, pending: Resource<Pending>) -> wasmtime::Result<Result<String, types::Failure>> {
        drop(self.call()?);
        let op = self.table.get(&pending)?.op;
        Ok(outcome(self.shared.clone(), op).await.map_err(convert::failure_to_guest))
    }

    fn cancel(&mut self, pending: Resource<Pending>) -> wasmtime::Result<()> {
        let op = self.table.get(&pending)?.op;
        Ok(self.call()?.replay.cancel(op)?)
    }

    fn drop(&mut self, pending: Resource<Pending>) -> wasmtime::Result<()> {
        let Pending { op, is_owned } = self.table.delete(pending)?;
        let mut shared = self.call()?;
        if !is_owned && !shared.closed {
            shared.replay.cancel(op)?;
        }
        shared.replay.release(op);
        Ok(())
    }
}

impl activities::Host for WorkflowHost {
    fn schedule(
        &mut self,
        name: String,
        input: String,
        options: Option<types::ActivityOptions>,
    ) -> wasmtime::Result<Resource<Pending>> {
        let op = {
            let mut shared = self.call()?;
            checked_json(&shared, "the activity's input", &input)?;
            let options = options.map(convert::options).unwrap_or_default();
            shared.replay.schedule_activity(name, input, options)?
        };
        self.push_pending(op, false)
    }
}

impl timers::Host for WorkflowHost {
    fn now(&mut self) -> wasmtime::Result<types::Instant> {
        Ok(convert::instant(self.call()?.replay.now()))
    }

    async fn sleep(&mut self, length: u64) -> wasmtime::Result<Result<(), types::Failure>> {
        let op = {
            let mut shared = self.call()?;
            let deadline = shared.replay.now().after(Nanos(length));
            shared.replay.start_timer(deadline)?
        };
        let outcome = outcome(self.shared.clone(), op).await;
        lock(&self.shared).replay.release(op);
        Ok(outcome.map(drop).map_err(convert::failure_to_guest))
    }

    fn start(&mut self, deadline: types::Instant) -> wasmtime::Result<Resource<Pending>> {
        let deadline = convert::timestamp(checked_instant(deadline)?);
        let op = self.call()?.replay.start_timer(deadline)?;
        self.push_pending(op, false)
    }
}

impl callbacks::Host for WorkflowHost {}

impl callbacks::HostCallback for WorkflowHost {
    fn new(&mut self, name: String, expires: Option<u64>) -> wasmtime::Result<Resource<Callback>> {
        let op = self.call()?.replay.create_callback(name, expires.map(Nanos))?;
        Ok(self.table.push(Callback { op })?)
    }

    fn url(&mut self, callback: Resource<Callback>) -> wasmtime::Result<String> {
        let op = self.table.get(&callback)?.op;
        let shared = self.call()?;
        let origin = shared.replay.callback_origin(op).cloned().unwrap_or_default();
        Ok(self.urls.url(&origin, op))
    }

    fn id(&mut self, callback: Resource<Callback>) -> wasmtime::Result<String> {
        Ok(self.table.get(&callback)?.op.to_string())
    }

    fn pending(&mut self, callback: Resource<Callback>) -> wasmtime::Result<Resource<Pending>> {
        let op = self.table.get(&callback)?.op;
        self.call()?.replay.retain(op);
        self.push_pending(op, true)
    }

    fn drop(&mut self, callback: Resource<Callback>) -> wasmtime::Result<()> {
        let Callback { op } = self.table.delete(callback)?;
        let mut shared = self.call()?;
        if !shared.closed {
            shared.replay.cancel(op)?;
        }
        shared.replay.release(op);
        Ok(())
    }
}

impl signals::Host for WorkflowHost {
    fn next(&mut self, name: String) -> wasmtime::Result<Resource<Pending>> {
        let op = self.call()?.replay.next_signal(name)?;
        self.push_pending(op, false)
    }
}

impl children::Host for WorkflowHost {
    fn start(
        &mut self,
        workflow: String,
        id: String,
        input: String,
        options: children::ChildOptions,
    ) -> wasmtime::Result<Resource<Pending>> {
        let op = {
            let mut shared = self.call()?;
            checked_json(&shared, "the child's input", &input)?;
            shared.replay.start_child(id, workflow, input, convert::child_options(options))?
        };
        self.push_pending(op, false)
    }

    fn start_detached(
        &mut self,
        workflow: String,
        id: String,
        input: String,
        version: Option<String>,
    ) -> wasmtime::Result<Resource<Pending>> {
        let op = {
            let mut shared = self.call()?;
            checked_json(&shared, "the instance's input", &input)?;
            shared.replay.start_detached(id, workflow, version, input)?
        };
        self.push_pending(op, false)
    }
}

impl instances::Host for WorkflowHost {
    fn signal(&mut self, instance: String, name: String, payload: String) -> wasmtime::Result<Resource<Pending>> {
        let op = {
            let mut shared = self.call()?;
            checked_json(&shared, "the signal's payload", &payload)?;
            shared.replay.send_signal(instance, name, payload)?
        };
        self.push_pending(op, false)
    }

    fn cancel(&mut self, instance: String, reason: String) -> wasmtime::Result<Resource<Pending>> {
        let op = self.call()?.replay.send_cancel(instance, reason)?;
        self.push_pending(op, false)
    }
}

/// The entity that a guest names, which must be one.
pub fn entity_id(id: types::EntityId) -> Result<EntityId, Stop> {
    EntityId::new(&id.name, &id.key).map_err(|error| Stop::Misuse(error.to_string()))
}

impl entities::Host for WorkflowHost {
    fn call(&mut self, on: types::EntityId, operation: String, input: String) -> wasmtime::Result<Resource<Pending>> {
        let op = {
            let mut shared = WorkflowHost::call(self)?;
            checked_json(&shared, "the input of the entity's operation", &input)?;
            shared.replay.call_entity(entity_id(on)?, operation, input)?
        };
        self.push_pending(op, false)
    }

    fn signal(&mut self, on: types::EntityId, operation: String, input: String) -> wasmtime::Result<()> {
        let mut shared = WorkflowHost::call(self)?;
        checked_json(&shared, "the input of the entity's operation", &input)?;
        Ok(shared.replay.signal_entity(entity_id(on)?, operation, input)?)
    }
}

impl entities::HostLock for WorkflowHost {
    fn new(&mut self, on: Vec<types::EntityId>) -> wasmtime::Result<Resource<Lock>> {
        let on = on.into_iter().map(entity_id).collect::<Result<Vec<_>, Stop>>()?;
        let op = WorkflowHost::call(self)?.replay.lock(on)?;
        Ok(self.table.push(Lock { op })?)
    }

    fn acquired(&mut self, lock: Resource<Lock>) -> wasmtime::Result<Resource<Pending>> {
        let op = self.table.get(&lock)?.op;
        WorkflowHost::call(self)?.replay.retain(op);
        self.push_pending(op, true)
    }

    fn drop(&mut self, lock: Resource<Lock>) -> wasmtime::Result<()> {
        let Lock { op } = self.table.delete(lock)?;
        let mut shared = WorkflowHost::call(self)?;
        if !shared.closed {
            shared.replay.release_lock(op)?;
        }
        shared.replay.release(op);
        Ok(())
    }
}

impl control::Host for WorkflowHost {
    fn get_info(&mut self) -> wasmtime::Result<control::Info> {
        let shared = self.call()?;
        let started = shared.replay.started();
        Ok(control::Info {
            instance_id: started.instance.clone(),
            run: started.rewound_from.unwrap_or_else(|| self.urls.run()).0,
            workflow: started.workflow.clone(),
            version: started.version.clone(),
        })
    }

    fn set_status(&mut self, status: String) -> wasmtime::Result<()> {
        let mut shared = self.call()?;
        checked_json(&shared, "the custom status", &status)?;
        Ok(shared.replay.set_status(status)?)
    }

    fn cancel_requested(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.call()?.replay.cancel_requested().map(str::to_owned))
    }

    fn patched(&mut self, change: String) -> wasmtime::Result<bool> {
        Ok(self.call()?.replay.patched(change)?)
    }

    fn continue_as_new(&mut self, input: String, newest_version: bool) -> wasmtime::Result<()> {
        let mut shared = self.call()?;
        checked_json(&shared, "the input of the next run", &input)?;
        Ok(shared.replay.continue_as_new(input, newest_version)?)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call()?.replay.random().next_u64())
    }

    fn uuid(&mut self) -> wasmtime::Result<String> {
        Ok(self.call()?.replay.random().uuid())
    }

    fn log(&mut self, level: types::LogLevel, message: String) -> wasmtime::Result<()> {
        let mut shared = self.call()?;
        let (silent, limit) = (shared.replay.is_replaying(), shared.replay.limits().log_bytes_per_turn);
        shared.log.line(convert::level(level), message, silent, limit).map_err(Stop::Limit)?;
        Ok(())
    }
}
