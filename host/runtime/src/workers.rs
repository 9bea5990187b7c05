//! Activity workers: attempts wait for a place in their queue, run under their limits, and are reported.
//!
//! An attempt is dispatched only after its task row is durable, and the row stays until its outcome is, so
//! a crash between the two runs the same attempt again under the same idempotency key. What is known here
//! only (since when it runs) is shown in the status and lost with the process.

use crate::actor::{Instances, Post};
use crate::catalog::{HTTP_ACTIVITY, internal};
use crate::error::RuntimeError;
use crate::outbound::{OutboundClient, SendOptions, run_http_activity};
use crate::{clock, identity, load};
use http_body_util::BodyExt;
use rehydrate_core::activity::AttemptReport;
use rehydrate_core::{
    ActivityOptions, AttemptNumber, EventBody, EventId, Failure, FailureKind, Input, InstanceKey, Json, Nanos, Outcome,
    RunNumber, Timestamp,
};
use rehydrate_guest::{
    ActivityLog, ActivityRequest, BoxError, BoxFuture, HttpBody, HttpTimeouts, Level, LogLine, OutboundHttp,
};
use rehydrate_store::TaskRow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// The queue of activities that name none.
pub const DEFAULT_QUEUE: &str = "default";

type Place = (InstanceKey, RunNumber, EventId);

struct Dispatched {
    attempt: AttemptNumber,
    since: Option<Timestamp>,
    task: AbortHandle,
    cancelled: Arc<AtomicBool>,
}

/// The workers.
pub struct Workers {
    client: OutboundClient,
    queues: BTreeMap<String, Arc<Semaphore>>,
    default_queue: Arc<Semaphore>,
    default_start_to_close: Nanos,
    dispatched: Mutex<HashMap<Place, Dispatched>>,
}

/// The way to the network that Wasm activities get.
pub struct Outbound(pub OutboundClient);

impl OutboundHttp for Outbound {
    fn send(
        &self,
        request: http::Request<HttpBody>,
        timeouts: HttpTimeouts,
    ) -> BoxFuture<Result<http::Response<HttpBody>, BoxError>> {
        let client = self.0.clone();
        let options = SendOptions { connect: timeouts.connect, first_byte: timeouts.first_byte, between_bytes: None };
        Box::pin(async move {
            let sent = client.send(request, options).await;
            let response = sent.map_err(|error| BoxError::from(format!("{error} [{}]", error.code())))?;
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }
}

/// One attempt with all that it needs.
struct Attempt {
    row: TaskRow,
    instance: String,
    name: String,
    input: Json,
    options: ActivityOptions,
    cancelled: Arc<AtomicBool>,
    log: ActivityLog,
}

impl Workers {
    /// With so many places in the default queue and in those that are named.
    pub fn new(
        client: OutboundClient,
        concurrency: usize,
        queues: &BTreeMap<String, usize>,
        default_start_to_close: Nanos,
    ) -> Workers {
        let places = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Workers {
            client,
            queues: queues.iter().map(|(name, count)| (name.clone(), places(*count))).collect(),
            default_queue: places(concurrency),
            default_start_to_close,
            dispatched: Mutex::default(),
        }
    }

    fn dispatched(&self) -> MutexGuard<'_, HashMap<Place, Dispatched>> {
        self.dispatched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when an attempt runs, if it does.
    pub fn executing_since(
        &self,
        key: InstanceKey,
        run: RunNumber,
        op: EventId,
        attempt: AttemptNumber,
    ) -> Option<Timestamp> {
        self.dispatched().get(&(key, run, op)).filter(|it| it.attempt == attempt)?.since
    }

    /// How many attempts wait or run.
    pub fn count(&self) -> usize {
        self.dispatched().len()
    }

    /// Interrupts an attempt: nobody wants its outcome.
    pub fn interrupt(&self, key: InstanceKey, run: RunNumber, op: EventId) {
        if let Some(dispatched) = self.dispatched().remove(&(key, run, op)) {
            dispatched.cancelled.store(true, Ordering::Relaxed);
            dispatched.task.abort();
        }
    }

    /// Interrupts all attempts; their rows stay, so the next start of the host runs them again.
    pub fn interrupt_all(&self) {
        for (_, dispatched) in self.dispatched().drain() {
            dispatched.task.abort();
        }
    }

    fn started(&self, row: &TaskRow, since: Timestamp) {
        if let Some(dispatched) = self.dispatched().get_mut(&(row.key, row.run, row.op)) {
            dispatched.since = Some(since);
        }
    }

    /// The attempt has ended: it can't be interrupted any more.
    fn ended(&self, row: &TaskRow) {
        let mut dispatched = self.dispatched();
        let place = (row.key, row.run, row.op);
        if dispatched.get(&place).is_some_and(|it| it.attempt == row.attempt) {
            dispatched.remove(&place);
        }
    }

    /// The queue of an activity; one that is not configured shares the default one's places.
    fn queue(&self, options: &ActivityOptions) -> Arc<Semaphore> {
        let name = options.queue.as_deref().unwrap_or(DEFAULT_QUEUE);
        self.queues.get(name).unwrap_or(&self.default_queue).clone()
    }
}

/// Hands an attempt to a worker. Its task row is durable.
pub fn dispatch(instances: &Arc<Instances>, row: TaskRow) {
    if instances.admission.is_draining() {
        return;
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let mut dispatched = instances.workers.dispatched();
    let task = tokio::spawn(attempt(instances.clone(), row, cancelled.clone())).abort_handle();
    let entry = Dispatched { attempt: row.attempt, since: None, task, cancelled };
    if let Some(earlier) = dispatched.insert((row.key, row.run, row.op), entry) {
        earlier.task.abort();
    }
}

async fn attempt(instances: Arc<Instances>, row: TaskRow, cancelled: Arc<AtomicBool>) {
    let log = ActivityLog::default();
    let (started, outcome) = match read_attempt(&instances, row, cancelled, log.clone()) {
        Ok(attempt) => run_in_queue(&instances, attempt).await,
        Err(error) => {
            tracing::error!(?row, %error, "an activity's event can't be read");
            (None, Err(Failure::new(FailureKind::Rejected, "host.internal", error.to_string()).retryable()))
        }
    };
    instances.workers.ended(&row);
    let report = AttemptReport { op: row.op, attempt: row.attempt, started, outcome };
    let lines: Vec<LogLine> = log.take();
    let post = Post::Input { run: Some(row.run), input: Input::AttemptEnded(report), log: lines, reply: None };
    instances.post(row.key, post);
}

fn read_attempt(
    instances: &Arc<Instances>,
    row: TaskRow,
    cancelled: Arc<AtomicBool>,
    log: ActivityLog,
) -> Result<Attempt, RuntimeError> {
    let missing = || internal("a task's activity is missing from the history");
    let event = load::event(&*instances.store, row.key, row.run, row.op)?.ok_or_else(missing)?;
    let EventBody::ActivityScheduled { name, input, options } = event.body else { return Err(missing()) };
    let instance = instances.store.instance(row.key)?.ok_or_else(missing)?.id;
    Ok(Attempt { row, instance, name, input, options, cancelled, log })
}

/// Waits for a place in the queue, then runs the attempt under its limits.
async fn run_in_queue(instances: &Arc<Instances>, attempt: Attempt) -> (Option<Timestamp>, Outcome) {
    let place = instances.workers.queue(&attempt.options).acquire_owned();
    let place = match attempt.options.schedule_to_start {
        None => place.await,
        Some(limit) => match tokio::time::timeout(limit.into(), place).await {
            Ok(place) => place,
            Err(_) => return (None, Err(timed_out("schedule-to-start", &attempt.name, limit))),
        },
    };
    let started = clock::now();
    instances.workers.started(&attempt.row, started);
    let limit = attempt.options.start_to_close.unwrap_or(instances.workers.default_start_to_close);
    let name = attempt.name.clone();
    let outcome = match tokio::time::timeout(limit.into(), run_with_heartbeat(instances, attempt)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out("start-to-close", &name, limit)),
    };
    drop(place);
    (Some(started), checked(instances, &name, outcome))
}

/// A limit of time that ran out; another attempt may be quicker.
fn timed_out(limit_name: &str, activity: &str, limit: Nanos) -> Failure {
    let message = format!("an attempt of activity `{activity}` took longer than its {limit_name} limit of {limit}");
    Failure::new(FailureKind::TimedOut, &format!("timeout.{limit_name}"), message).retryable()
}

/// What an attempt gave, within the limit of a payload.
fn checked(instances: &Instances, name: &str, outcome: Outcome) -> Outcome {
    let bytes = outcome.as_ref().map_or_else(Failure::len_bytes, String::len);
    match instances.config.limits.check_payload(&format!("what activity `{name}` gave"), bytes) {
        Ok(()) => outcome,
        Err(limit) => Err(Failure::new(FailureKind::Rejected, &limit.code(), limit.to_string())),
    }
}

async fn run_with_heartbeat(instances: &Arc<Instances>, attempt: Attempt) -> Outcome {
    let Some(limit) = attempt.options.heartbeat else {
        return run(instances, attempt, Box::new(|| {})).await;
    };
    let name = attempt.name.clone();
    let began = Instant::now();
    let last_beat = Arc::new(AtomicU64::new(0));
    let beat = {
        let last_beat = last_beat.clone();
        move || last_beat.store(nanos_since(began), Ordering::Relaxed)
    };
    let silence = async {
        loop {
            let due = last_beat.load(Ordering::Relaxed).saturating_add(limit.0);
            let now = nanos_since(began);
            if now >= due {
                return timed_out("heartbeat", &name, limit);
            }
            tokio::time::sleep(Duration::from_nanos(due - now)).await;
        }
    };
    tokio::select! {
        outcome = run(instances, attempt, Box::new(beat)) => outcome,
        failure = silence => Err(failure),
    }
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

async fn run(instances: &Arc<Instances>, attempt: Attempt, heartbeat: Box<dyn Fn() + Send + Sync>) -> Outcome {
    let Attempt { row, instance, name, input, cancelled, log, .. } = attempt;
    let idempotency_key = identity::idempotency_key(&instance, row.run, row.op, row.attempt);
    if name == HTTP_ACTIVITY {
        return run_http_activity(&instances.workers.client, &input, &idempotency_key).await;
    }
    let component = match instances.catalog.activity(&name).await {
        Ok(Some(component)) => component,
        Ok(None) => return Err(not_offered(&name)),
        Err(error) => {
            log.note(Level::Error, format!("activity `{name}` could not be loaded: {error}"));
            return Err(Failure::new(FailureKind::Rejected, error.code, error.message).retryable());
        }
    };
    let request = ActivityRequest {
        name,
        input,
        instance_id: instance,
        run: row.run.0,
        attempt: row.attempt.0,
        idempotency_key,
        heartbeat,
        cancelled,
    };
    instances.catalog.activity_host().run(&component, request, &log).await
}

/// Worth another attempt: the component may be deployed meanwhile.
fn not_offered(name: &str) -> Failure {
    let message = format!("no deployed component offers activity `{name}`; deploy one that does");
    Failure::new(FailureKind::NotFound, "activity.not-found", message).retryable()
}
