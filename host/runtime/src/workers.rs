//! Activity workers: attempts wait for a place in their queue, run under their limits, and are reported.
//!
//! An attempt is dispatched only after what led to it is durable, and its run counts as having activities under
//! way until its outcome is, so a crash between the two runs the same attempt again under the same idempotency
//! key. What is known here only (since when it runs) is shown in the status and lost with the process.

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
use rehydrate_guest::{ActivityLog, ActivityRequest, BoxError, BoxFuture, HttpBody, HttpTimeouts, Level, OutboundHttp};
use rehydrate_store::KeyMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The queue of activities that name none.
pub const DEFAULT_QUEUE: &str = "default";

type Place = (InstanceKey, RunNumber, EventId);

/// An attempt to run. What led to it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispatch {
    /// Which instance.
    pub key: InstanceKey,
    /// Which of its runs.
    pub run: RunNumber,
    /// The event that scheduled the activity.
    pub op: EventId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// The instance's id.
    pub instance: String,
    /// What that event says; none: it must be read.
    pub scheduled: Option<Box<Scheduled>>,
}

impl Dispatch {
    fn place(&self) -> Place {
        (self.key, self.run, self.op)
    }
}

/// An activity as it was scheduled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheduled {
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: Json,
    /// Its limits.
    pub options: ActivityOptions,
}

struct Dispatched {
    attempt: AttemptNumber,
    since: Option<Timestamp>,
    interrupt: Arc<Interrupt>,
}

/// Ends an attempt from outside.
#[derive(Default)]
struct Interrupt {
    /// What the guest sees at its next heartbeat.
    cancelled: Arc<AtomicBool>,
    /// Wakes who waits for the attempt.
    told: Notify,
}

impl Interrupt {
    fn now(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }
}

/// The workers.
pub struct Workers {
    client: OutboundClient,
    queues: BTreeMap<String, Arc<Semaphore>>,
    default_queue: Arc<Semaphore>,
    default_start_to_close: Nanos,
    dispatched: Mutex<KeyMap<Place, Dispatched>>,
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

    fn dispatched(&self) -> MutexGuard<'_, KeyMap<Place, Dispatched>> {
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
            dispatched.interrupt.now();
        }
    }

    /// Interrupts all attempts; they run again at the next start of the host.
    pub fn interrupt_all(&self) {
        self.dispatched().drain().for_each(|(_, dispatched)| dispatched.interrupt.now());
    }

    /// An attempt is about to run; none if it is under way already.
    fn begin(&self, attempt: &Dispatch) -> Option<Arc<Interrupt>> {
        let mut dispatched = self.dispatched();
        if dispatched.get(&attempt.place()).is_some_and(|it| it.attempt == attempt.attempt) {
            return None;
        }
        let interrupt = Arc::<Interrupt>::default();
        let entry = Dispatched { attempt: attempt.attempt, since: None, interrupt: interrupt.clone() };
        if let Some(earlier) = dispatched.insert(attempt.place(), entry) {
            earlier.interrupt.now();
        }
        Some(interrupt)
    }

    fn started(&self, place: Place, since: Timestamp) {
        if let Some(dispatched) = self.dispatched().get_mut(&place) {
            dispatched.since = Some(since);
        }
    }

    /// The attempt has ended: it can't be interrupted any more.
    fn ended(&self, place: Place, attempt: AttemptNumber) {
        let mut dispatched = self.dispatched();
        if dispatched.get(&place).is_some_and(|it| it.attempt == attempt) {
            dispatched.remove(&place);
        }
    }

    /// The queue of an activity; one that is not configured shares the default one's places.
    fn queue(&self, options: &ActivityOptions) -> Arc<Semaphore> {
        let name = options.queue.as_deref().unwrap_or(DEFAULT_QUEUE);
        self.queues.get(name).unwrap_or(&self.default_queue).clone()
    }
}

/// Runs an attempt to its end, and gives what its instance is to be told; nothing if it was interrupted, or is
/// under way already.
pub async fn attempt(instances: &Arc<Instances>, dispatch: Dispatch) -> Option<Post> {
    if instances.admission.is_draining() {
        return None;
    }
    let interrupt = instances.workers.begin(&dispatch)?;
    let (place, attempt) = (dispatch.place(), dispatch.attempt);
    let log = ActivityLog::default();
    let ended = tokio::select! {
        biased;
        () = interrupt.told.notified() => None,
        ended = run_scheduled(instances, dispatch, interrupt.cancelled.clone(), &log) => Some(ended),
    };
    let (started, outcome) = ended?;
    instances.workers.ended(place, attempt);
    let (_, run, op) = place;
    let report = AttemptReport { op, attempt, started, outcome };
    Some(Post::Input { run: Some(run), input: Input::AttemptEnded(report), log: log.take(), reply: None })
}

async fn run_scheduled(
    instances: &Arc<Instances>,
    mut dispatch: Dispatch,
    cancelled: Arc<AtomicBool>,
    log: &ActivityLog,
) -> (Option<Timestamp>, Outcome) {
    let scheduled = match dispatch.scheduled.take() {
        Some(scheduled) => Ok(scheduled),
        None => read_scheduled(instances, &dispatch),
    };
    match scheduled {
        Ok(scheduled) => run_in_queue(instances, dispatch, scheduled, cancelled, log).await,
        Err(error) => {
            tracing::error!(?dispatch, %error, "an activity's event can't be read");
            (None, Err(Failure::new(FailureKind::Rejected, "host.internal", error.to_string()).retryable()))
        }
    }
}

fn read_scheduled(instances: &Instances, dispatch: &Dispatch) -> Result<Box<Scheduled>, RuntimeError> {
    let event = load::event(&*instances.store, dispatch.key, dispatch.run, dispatch.op)?;
    match event.map(|event| event.body) {
        Some(EventBody::ActivityScheduled { name, input, options }) => Ok(Box::new(Scheduled { name, input, options })),
        _ => Err(internal("an activity that is under way is missing from the history")),
    }
}

/// Waits for a place in the queue, then runs the attempt under its limits.
async fn run_in_queue(
    instances: &Arc<Instances>,
    dispatch: Dispatch,
    scheduled: Box<Scheduled>,
    cancelled: Arc<AtomicBool>,
    log: &ActivityLog,
) -> (Option<Timestamp>, Outcome) {
    let queue = instances.workers.queue(&scheduled.options);
    let place = match queue.try_acquire() {
        Ok(place) => Ok(place),
        // Boxed, as is all that few attempts need: the future of a usual one is to stay small.
        Err(_) => Box::pin(queue_up(&queue, &scheduled)).await,
    };
    let place = match place {
        Ok(place) => place,
        Err(failure) => return (None, Err(failure)),
    };
    let started = clock::now();
    instances.workers.started(dispatch.place(), started);
    let limit = scheduled.options.start_to_close.unwrap_or(instances.workers.default_start_to_close);
    let running = async {
        match scheduled.options.heartbeat {
            None => run(instances, &scheduled, request(dispatch, cancelled, Box::new(|| {})), log).await,
            Some(limit) => Box::pin(run_with_heartbeat(instances, dispatch, &scheduled, limit, cancelled, log)).await,
        }
    };
    let outcome = match tokio::time::timeout(limit.into(), running).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out("start-to-close", &scheduled.name, limit)),
    };
    drop(place);
    (Some(started), checked(instances, &scheduled.name, outcome))
}

async fn queue_up<'a>(queue: &'a Semaphore, scheduled: &Scheduled) -> Result<SemaphorePermit<'a>, Failure> {
    let closed = |_| Failure::new(FailureKind::Rejected, "host.internal", "the queue is closed").retryable();
    match scheduled.options.schedule_to_start {
        None => queue.acquire().await.map_err(closed),
        Some(limit) => match tokio::time::timeout(limit.into(), queue.acquire()).await {
            Ok(place) => place.map_err(closed),
            Err(_) => Err(timed_out("schedule-to-start", &scheduled.name, limit)),
        },
    }
}

/// A limit of time that ran out; another attempt may be quicker.
fn timed_out(limit_name: &str, activity: &str, limit: Nanos) -> Failure {
    let message = format!("an attempt of activity `{activity}` took longer than its {limit_name} limit of {limit}");
    Failure::new(FailureKind::TimedOut, &format!("timeout.{limit_name}"), message).retryable()
}

/// What an attempt gave, within the limit of a payload.
fn checked(instances: &Instances, name: &str, outcome: Outcome) -> Outcome {
    let bytes = outcome.as_ref().map_or_else(Failure::len_bytes, String::len);
    match instances.config.limits.check_payload(format_args!("what activity `{name}` gave"), bytes) {
        Ok(()) => outcome,
        Err(limit) => Err(Failure::new(FailureKind::Rejected, &limit.code(), limit.to_string())),
    }
}

async fn run_with_heartbeat(
    instances: &Arc<Instances>,
    dispatch: Dispatch,
    scheduled: &Scheduled,
    limit: Nanos,
    cancelled: Arc<AtomicBool>,
    log: &ActivityLog,
) -> Outcome {
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
                return timed_out("heartbeat", &scheduled.name, limit);
            }
            tokio::time::sleep(Duration::from_nanos(due - now)).await;
        }
    };
    let request = request(dispatch, cancelled, Box::new(beat));
    tokio::select! {
        outcome = run(instances, scheduled, request, log) => outcome,
        failure = silence => Err(failure),
    }
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn request(dispatch: Dispatch, cancelled: Arc<AtomicBool>, heartbeat: Box<dyn Fn() + Send + Sync>) -> ActivityRequest {
    let Dispatch { run, op, attempt, instance, .. } = dispatch;
    ActivityRequest {
        idempotency_key: identity::idempotency_key(&instance, run, op, attempt),
        instance_id: instance,
        run: run.0,
        attempt: attempt.0,
        heartbeat,
        cancelled,
    }
}

async fn run(
    instances: &Arc<Instances>,
    scheduled: &Scheduled,
    request: ActivityRequest,
    log: &ActivityLog,
) -> Outcome {
    let Scheduled { name, input, .. } = scheduled;
    if name == HTTP_ACTIVITY {
        let client = &instances.workers.client;
        return Box::pin(run_http_activity(client, input, &request.idempotency_key)).await;
    }
    match instances.catalog.activity(name).await {
        Ok(Some(component)) => instances.catalog.activity_host().run(&component, name, input, request, log).await,
        Ok(None) => Err(not_offered(name)),
        Err(error) => {
            log.note(Level::Error, format!("activity `{name}` could not be loaded: {error}"));
            Err(Failure::new(FailureKind::Rejected, error.code, error.message).retryable())
        }
    }
}

/// Worth another attempt: the component may be deployed meanwhile.
fn not_offered(name: &str) -> Failure {
    let message = format!("no deployed component offers activity `{name}`; deploy one that does");
    Failure::new(FailureKind::NotFound, "activity.not-found", message).retryable()
}
