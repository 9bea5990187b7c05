//! A running workflow: a fiber that is polled until it waits.
//!
//! The guest runs inside a future that owns its store. Nothing wakes that future: [`WorkflowGuest::step`]
//! polls it, looks at what the replay says the guest waits for, applies recorded events until that is
//! satisfied, and polls again. So one step takes the guest from one wait that only a new event can
//! satisfy to the next one, and a guest that waits costs its memory and nothing else.

use crate::component::WorkflowComponent;
use crate::contract::{Shared, WorkflowHost, lock};
use crate::convert;
use crate::limiter::Limiter;
use crate::log::{LogBuffer, LogLine};
use crate::{trap, wasi};
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{Divergence, EventId, Failure, LimitExceeded, Outcome, Replay, RunNumber, Stop};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};

/// Makes the URLs of callbacks; the key to sign them is the runtime's.
pub trait CallbackUrls: Send + Sync {
    /// The URL of the callback begun by event `op`, created under `origin`.
    fn url(&self, origin: &CallbackOrigin, op: EventId) -> String;
    /// The run it belongs to.
    fn run(&self) -> RunNumber;
}

/// Where a step left the guest.
#[derive(Debug)]
pub enum Step {
    /// It waits for an event that has not happened yet.
    Waiting,
    /// It used up its slice of time and wants to go on.
    Yielded,
    /// It returned; the last command says with what.
    Returned,
    /// It can't go on.
    Stopped(Stopped),
}

/// Why a guest can't go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// It does not match its history: pause, keep the history.
    Diverged(Divergence),
    /// It reached a limit, trapped or used the contract wrongly: the instance fails.
    Failed(Failure),
    /// The host could not run it: not the guest's fault, try again.
    HostFault(String),
}

type GuestFuture = Pin<Box<dyn Future<Output = (Store<WorkflowHost>, wasmtime::Result<Outcome>)> + Send>>;

/// A workflow's guest, alive.
pub struct WorkflowGuest {
    future: GuestFuture,
    shared: Arc<Mutex<Shared>>,
    cpu: Arc<CpuUse>,
    memory_bytes: Arc<AtomicUsize>,
    has_run: bool,
    interrupted: bool,
    ended: bool,
    /// Of a guest that has ended: it goes with the rest, as clearing its memory takes a while.
    spent: Option<Store<WorkflowHost>>,
}

/// CPU time of the turn under way, in nanoseconds. Asking for it is a system call, and most turns are over long
/// before the first tick of the epoch: so it is counted from that tick on.
#[derive(Default)]
struct CpuUse {
    /// Used in earlier polls of this turn.
    before: AtomicU64,
    /// The thread's clock when counting began in this poll; zero if it has not.
    since: AtomicU64,
    /// The epoch has ticked in this poll.
    ticked: AtomicBool,
}

impl CpuUse {
    /// A poll begins. What was interrupted before is counted from here.
    fn begin_poll(&self, was_interrupted: bool) {
        self.since.store(if was_interrupted { thread_cpu_nanos() } else { 0 }, Ordering::Relaxed);
        self.ticked.store(false, Ordering::Relaxed);
    }

    /// The epoch ticks in a poll. Whether it is the first time: then that tick may have come long ago, while the
    /// guest waited, and its slice of time begins now.
    fn ticks_first(&self) -> bool {
        !self.ticked.swap(true, Ordering::Relaxed)
    }

    /// The time used so far.
    fn used(&self) -> u64 {
        let now = thread_cpu_nanos();
        if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(now, Ordering::Relaxed);
        }
        let in_poll = now.saturating_sub(self.since.load(Ordering::Relaxed));
        self.before.load(Ordering::Relaxed).saturating_add(in_poll)
    }

    /// The poll ends because the guest was interrupted.
    fn interrupted(&self) {
        self.before.store(self.used(), Ordering::Relaxed);
    }

    /// A wait was satisfied: a new allowance.
    fn reset(&self) {
        self.before.store(0, Ordering::Relaxed);
    }
}

fn thread_cpu_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

impl WorkflowGuest {
    /// A guest about to run `component` against `replay`. It runs only in [`WorkflowGuest::step`].
    pub fn new(component: &WorkflowComponent, replay: Replay, urls: Arc<dyn CallbackUrls>) -> WorkflowGuest {
        let memory_bytes = Arc::new(AtomicUsize::new(0));
        let limits = replay.limits().clone();
        let shared = Arc::new(Mutex::new(Shared {
            replay,
            log: LogBuffer::default(),
            stop: None,
            yielded: false,
            closed: false,
            running: false,
            host_calls: 0,
        }));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.open_operations.saturating_mul(4).max(10_000));
        let host = WorkflowHost {
            wasi: wasi::context(&shared),
            limiter: Limiter::new(limits.memory_bytes, limits.table_elements, memory_bytes.clone()),
            shared: shared.clone(),
            urls,
            table,
        };
        let cpu = Arc::new(CpuUse::default());
        let mut store = Store::new(component.engine(), host);
        store.limiter(|host| &mut host.limiter);
        store.set_hostcall_fuel(limits.turn_bytes.saturating_mul(2));
        interrupt(&mut store, &shared, &cpu, limits.cpu_per_turn_ms);
        let future = Box::pin(run(component.clone(), store));
        let (has_run, interrupted, ended, spent) = (false, false, false, None);
        WorkflowGuest { future, shared, cpu, memory_bytes, has_run, interrupted, ended, spent }
    }

    /// Gives the guest a new turn's time and an allowance for its log.
    pub fn begin_turn(&mut self, now: rehydrate_core::Timestamp) {
        self.has_run = false;
        lock(&self.shared).replay.begin_turn(now);
    }

    /// Whether the guest has run in this turn, or waited all the time.
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    /// A look at the replay, while the guest is suspended.
    pub fn with_replay<T>(&mut self, look: impl FnOnce(&mut Replay) -> T) -> T {
        look(&mut lock(&self.shared).replay)
    }

    /// The lines the guest logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        lock(&self.shared).log.take()
    }

    /// Bytes of linear memory it holds.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Runs the guest until it waits for something that has not happened, uses up its slice, or ends.
    pub fn step(&mut self) -> Step {
        loop {
            if self.ended {
                return Step::Waiting;
            }
            match self.unblock() {
                Ok(true) => {}
                Ok(false) => return Step::Waiting,
                Err(stop) => return self.stopped(trap::from_stop(stop)),
            }
            let polled = self.poll();
            let mut shared = lock(&self.shared);
            if let Some(stop) = shared.stop.take() {
                drop(shared);
                return self.stopped(trap::from_stop(stop));
            }
            match polled {
                Poll::Pending if shared.yielded => return Step::Yielded,
                Poll::Pending => {}
                Poll::Ready(Ok(outcome)) => {
                    let finished = finish(&mut shared, outcome);
                    drop(shared);
                    self.ended = true;
                    return finished.map_or_else(|stop| Step::Stopped(trap::from_stop(stop)), |()| Step::Returned);
                }
                Poll::Ready(Err(error)) => {
                    let stopped = trap::classify(&error, shared.log.last_panic(), shared.running);
                    drop(shared);
                    return self.stopped(stopped);
                }
            }
        }
    }

    fn stopped(&mut self, stopped: Stopped) -> Step {
        self.ended = true;
        Step::Stopped(stopped)
    }

    /// Applies recorded events until the guest may go on. A satisfied wait begins a new allowance.
    fn unblock(&mut self) -> Result<bool, Stop> {
        let mut shared = lock(&self.shared);
        if shared.yielded {
            shared.yielded = false;
            shared.replay.clear_wait();
            return Ok(true);
        }
        if !shared.replay.is_waiting() {
            return Ok(true);
        }
        if !shared.replay.unblock()? {
            return Ok(false);
        }
        shared.host_calls = 0;
        shared.log.begin_turn();
        self.cpu.reset();
        Ok(true)
    }

    fn poll(&mut self) -> Poll<wasmtime::Result<Outcome>> {
        self.has_run = true;
        self.cpu.begin_poll(std::mem::take(&mut self.interrupted));
        let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() && lock(&self.shared).yielded {
            self.interrupted = true;
            self.cpu.interrupted();
        }
        polled.map(|(store, outcome)| {
            self.spent = Some(store);
            outcome
        })
    }
}

impl Drop for WorkflowGuest {
    /// Eviction: handles that go away with the store are no commands of the guest.
    fn drop(&mut self) {
        lock(&self.shared).closed = true;
    }
}

impl std::fmt::Debug for WorkflowGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkflowGuest").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

fn finish(shared: &mut MutexGuard<'_, Shared>, outcome: Outcome) -> Result<(), Stop> {
    if !shared.replay.is_replaying()
        && let Ok(output) = &outcome
    {
        convert::check_json("the workflow's output", output).map_err(Stop::Misuse)?;
    }
    shared.replay.finish(outcome)
}

/// At every tick of the engine's epoch: stops a guest that used up its CPU time, and lets others run.
fn interrupt(store: &mut Store<WorkflowHost>, shared: &Arc<Mutex<Shared>>, cpu: &Arc<CpuUse>, limit_ms: u64) {
    let (shared, cpu) = (shared.clone(), cpu.clone());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if cpu.ticks_first() {
            return Ok(UpdateDeadline::Continue(1));
        }
        let used_ms = cpu.used() / 1_000_000;
        if used_ms > limit_ms {
            let what = "the guest computed too long between two waits, in milliseconds of CPU time".to_owned();
            let name = "cpu-per-turn-ms".to_owned();
            return Err(Stop::Limit(LimitExceeded { name, what, found: used_ms, limit: limit_ms }).into());
        }
        lock(&shared).yielded = true;
        Ok(UpdateDeadline::Yield(1))
    });
}

/// Runs the guest to its end, and gives what is left of it.
async fn run(
    component: WorkflowComponent,
    mut store: Store<WorkflowHost>,
) -> (Store<WorkflowHost>, wasmtime::Result<Outcome>) {
    let outcome = call(&component, &mut store).await;
    (store, outcome)
}

async fn call(component: &WorkflowComponent, store: &mut Store<WorkflowHost>) -> wasmtime::Result<Outcome> {
    let shared = store.data().shared.clone();
    let input = lock(&shared).replay.started().input.clone();
    let bindings = component.instantiate(&mut *store).await?;
    lock(&shared).running = true;
    let outcome = bindings.call_run(&mut *store, &input).await?;
    lock(&shared).closed = true;
    Ok(outcome.map_err(convert::failure_from_guest))
}
