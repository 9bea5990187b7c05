//! The runtime as others see it: opening, asking, shutting down.

use crate::actor::{ACTIVE_GUESTS_MAX, Instances, Parts, Post, StartPlan, answered};
use crate::api::{
    CallbackPost, DeployReply, HistoryPage, InstanceDetail, InstanceResult, LogEntry, Readiness, ReplayReport,
    RuntimeConfig, StartReply, StartRequest,
};
use crate::catalog::{Catalog, internal};
use crate::commit::Commits;
use crate::error::{ErrorKind, RuntimeError};
use crate::follow::{Changes, End, WatchedRun};
use crate::schedules::{self, Schedules};
use crate::tokens::{Locator, TokenKeys};
use crate::workers::{Outbound, Workers};
use crate::{clock, identity, load, outbox, replay_check, retention, timers};
use bytes::Bytes;
use rehydrate_core::view::{activities, waiting_for};
use rehydrate_core::{Answer, EventBody, EventId, Input, InstanceKey, Json, Limits, Lineage, RunNumber};
use rehydrate_guest::{ActivityHost, GuestEngine, GuestSettings, Level};
use rehydrate_store::{DeploymentRow, InstanceRow, InstanceStateTag, ListPage, ListQuery, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Ended activities shown with an instance.
const ACTIVITIES_SHOWN_MAX: usize = 100;

/// Task rows read at once in recovery, and rows dropped at once by housekeeping.
const PAGE: usize = 1024;

/// How often idempotency keys that are too old are dropped.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(600);

/// A running host. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) instances: Arc<Instances>,
    schedules: Arc<Schedules>,
    loops: Arc<Vec<JoinHandle<()>>>,
}

impl Runtime {
    /// Sets everything up, recovers what was under way, and starts the loops. Must be called within a
    /// multi-threaded tokio runtime. `on_fatal` is called when the store fails; the process should end.
    pub async fn open(
        config: RuntimeConfig,
        store: Arc<dyn Store>,
        on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Runtime, RuntimeError> {
        let instances = Arc::new(Instances::new(parts(config, store.clone(), on_fatal)?));
        recover(&instances)?;
        let schedules = Arc::new(Schedules::open(&*store)?);
        let timer_loop = timers::run(store, instances.clone(), instances.timers.clone());
        let runtime = Runtime { instances: instances.clone(), schedules, loops: Arc::default() };
        let loops = vec![
            tokio::spawn(timer_loop),
            tokio::spawn(outbox::forget_received(instances.clone())),
            tokio::spawn(housekeeping(instances.clone())),
            tokio::spawn(retention::run(instances)),
            tokio::spawn(schedules::run(runtime.clone())),
        ];
        Ok(Runtime { loops: Arc::new(loops), ..runtime })
    }

    /// Takes no new work, interrupts attempts (they run again at the next start), waits at most `grace` for
    /// turns under way, and commits what is in the queue.
    pub async fn shutdown(&self, grace: Duration) {
        self.instances.admission.drain();
        self.loops.iter().for_each(JoinHandle::abort);
        self.schedules.stop();
        self.instances.workers.interrupt_all();
        if tokio::time::timeout(grace, self.instances.settled()).await.is_err() {
            tracing::warn!("turns were still under way when the host stopped; they are taken again at its next start");
        }
        let instances = self.instances.clone();
        let stop = move || {
            instances.commits.stop();
            // What is not forgotten now is found at the next start, and known.
            drop(instances.received.forget(&*instances.store));
        };
        let stopped = tokio::task::spawn_blocking(stop).await;
        if stopped.is_err() {
            tracing::error!("the commit thread could not be stopped");
        }
    }

    pub(crate) fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }

    pub(crate) fn schedules(&self) -> &Arc<Schedules> {
        &self.schedules
    }

    /// Deploys a component.
    pub async fn deploy(&self, name: &str, version: &str, bytes: Bytes) -> Result<DeployReply, RuntimeError> {
        self.instances.admission.admit()?;
        let (deployment, created) = self.instances.catalog.deploy(name, version, bytes).await?;
        Ok(DeployReply { deployment, created })
    }

    /// What is deployed, oldest first.
    pub async fn deployments(&self) -> Result<Vec<DeploymentRow>, RuntimeError> {
        Ok(self.instances.catalog.deployments())
    }

    /// Starts an instance, or gives the one that is there.
    pub async fn start(&self, request: StartRequest) -> Result<StartReply, RuntimeError> {
        Ok(self.start_as(request, false).await?.0)
    }

    /// The same for whoever waits for the end: gives it to [`Runtime::result_of`].
    pub async fn start_watched(&self, request: StartRequest) -> Result<(StartReply, WatchedRun), RuntimeError> {
        let (reply, end) = self.start_as(request, true).await?;
        let watched = match end.filter(|_| reply.created) {
            Some(end) => WatchedRun { id: reply.id.clone(), end, begun: Some(reply.run) },
            None => self.watch_result(&reply.id),
        };
        Ok((reply, watched))
    }

    /// What a start came to, and the watch of its end if that is wanted: it begins before anything can have ended.
    async fn start_as(
        &self,
        request: StartRequest,
        waits_for_end: bool,
    ) -> Result<(StartReply, Option<End>), RuntimeError> {
        self.instances.admission.admit()?;
        check_json("the input", &request.input)?;
        self.check_payload("the input", request.input.len())?;
        let fingerprint = fingerprint(&request);
        if let Some(idempotency_key) = &request.idempotency_key
            && let Some(reply) = self.known_start(idempotency_key, fingerprint)?
        {
            return Ok((reply, None));
        }
        let (deployment, pin) =
            self.instances.catalog.pinned_workflow(&request.workflow, request.version.as_deref())?;
        let id = request.id.unwrap_or_else(identity::new_id);
        let (id, key) = identity::checked_id(&id)?;
        let plan = StartPlan {
            id: id.as_str().to_owned(),
            workflow: deployment.name,
            version: deployment.version,
            digest: deployment.digest,
            pin,
            input: request.input,
            seed: random_seed()?,
            reuse: request.reuse,
            conflict: request.conflict,
            idempotency: request.idempotency_key.clone().map(|key| (key, fingerprint)),
            lineage: Lineage::default(),
            waits_for_end,
        };
        let end = waits_for_end.then(|| self.instances.watchers.watch_end(key));
        let (reply, answer) = oneshot::channel();
        self.instances.post(key, Post::Start(Box::new(plan), reply));
        match answered(answer).await {
            // Two requests with one key at one moment, for ids of their own: the second learns of the first.
            Err(error) if error.code == "idempotency.in-use" => {
                let known = request.idempotency_key.map(|key| self.known_start(&key, fingerprint)).transpose()?;
                known.flatten().ok_or(error).map(|reply| (reply, None))
            }
            other => other.map(|reply| (reply, end)),
        }
    }

    fn known_start(
        &self,
        idempotency_key: &str,
        fingerprint: rehydrate_core::Digest,
    ) -> Result<Option<StartReply>, RuntimeError> {
        const KEY_BYTES_MAX: usize = 256;
        if idempotency_key.is_empty() || idempotency_key.len() > KEY_BYTES_MAX {
            let message = format!("the Idempotency-Key must have 1 to {KEY_BYTES_MAX} bytes");
            return Err(RuntimeError::new(ErrorKind::Invalid, "idempotency.invalid", message));
        }
        let Some(known) = self.instances.store.dedup(crate::actor::START_SCOPE, idempotency_key)? else {
            return Ok(None);
        };
        let row = self.instances.store.instance(known.instance)?;
        crate::actor::repeated(row.as_ref(), &known, fingerprint).map(Some)
    }

    pub(crate) fn check_payload(&self, what: &str, bytes: usize) -> Result<(), RuntimeError> {
        let checked = self.instances.config.limits.check_payload(what, bytes);
        checked.map_err(|error| RuntimeError::new(ErrorKind::TooLarge, "limit.payload-bytes", error.to_string()))
    }

    pub(crate) fn row(&self, id: &str) -> Result<(InstanceKey, InstanceRow), RuntimeError> {
        let (id, key) = identity::checked_id(id)?;
        let row = self.instances.store.instance(key)?;
        row.map(|row| (key, row)).ok_or_else(|| RuntimeError::no_instance(id.as_str()))
    }

    /// Everything about an instance, as of its last commit.
    pub async fn describe(&self, id: &str) -> Result<InstanceDetail, RuntimeError> {
        let (key, mut row) = self.row(id)?;
        let instances = &self.instances;
        let events = load::history(&*instances.store, key, row.run)?;
        let state = load::fold(&events, row.run, ACTIVITIES_SHOWN_MAX);
        row.last_event = state.last;
        row.updated = row.updated.max(state.last_time);
        let input = match events.into_iter().next().map(|event| event.body) {
            Some(EventBody::InstanceStarted { input, .. }) => input,
            _ => return Err(internal("the history does not begin with InstanceStarted")),
        };
        let now = clock::now();
        let since = |op, attempt| instances.workers.executing_since(key, row.run, op, attempt);
        let (output, failure) = match state.outcome() {
            None => (None, None),
            Some(Ok(output)) => (Some(output), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        Ok(InstanceDetail {
            input,
            output,
            failure,
            cancel_requested: state.cancel_requested.as_ref().map(|(_, reason)| reason.clone()),
            suspended: state.suspended.as_ref().map(|(_, reason)| reason.clone()),
            parent: state.lineage.parent.as_ref().map(|parent| parent.instance.clone()),
            waiting_for: waiting_for(&state, now),
            activities: activities(&state, now, since),
            buffered_signals: state.buffered_signals(),
            resident: instances.residents.contains(key),
            row,
        })
    }

    /// Watches for the end of an instance, for [`Runtime::result_of`].
    pub fn watch_result(&self, id: &str) -> WatchedRun {
        WatchedRun { id: id.to_owned(), end: self.watch_end(id), begun: None }
    }

    pub(crate) fn watch_end(&self, id: &str) -> End {
        self.instances.watchers.watch_end(identity::instance_key(id))
    }

    /// How an instance that is watched stands, as soon as it has ended, at the latest after `patience`.
    pub async fn result_of(
        &self,
        watched: &mut WatchedRun,
        patience: Duration,
    ) -> Result<InstanceResult, RuntimeError> {
        let WatchedRun { id, end, begun } = watched;
        if begun.is_none() {
            let (key, row) = self.row(id)?;
            if row.state.is_closed() {
                return self.recorded_result(key, row);
            }
        }
        if let Ok(result) = tokio::time::timeout(patience, end.result(begun.unwrap_or(RunNumber::FIRST))).await {
            return Ok((*result).clone());
        }
        let (key, row) = self.row(id)?;
        self.recorded_result(key, row)
    }

    fn recorded_result(&self, key: InstanceKey, row: InstanceRow) -> Result<InstanceResult, RuntimeError> {
        let outcome = if row.state.is_closed() {
            let last = load::event(&*self.instances.store, key, row.run, row.last_event)?;
            let outcome = last.and_then(|event| event.body.result());
            Some(outcome.ok_or_else(|| internal("the last event of a run that has ended does not say how"))?)
        } else {
            None
        };
        Ok(InstanceResult { id: row.id, run: row.run, state: row.state, outcome })
    }

    /// The status that the workflow set last; reads nothing of its history.
    pub async fn custom_status(&self, id: &str) -> Result<Option<Json>, RuntimeError> {
        Ok(self.row(id)?.1.custom_status)
    }

    /// The input of an instance, and how it stands: what a list of instances with both shows of each.
    pub async fn brief(&self, row: &InstanceRow) -> Result<(Json, InstanceResult), RuntimeError> {
        let key = identity::instance_key(&row.id);
        let first = load::event(&*self.instances.store, key, row.run, EventId(1))?;
        let Some(EventBody::InstanceStarted { input, .. }) = first.map(|event| event.body) else {
            return Err(RuntimeError::no_instance(&row.id));
        };
        Ok((input, self.recorded_result(key, row.clone())?))
    }

    /// A page of the list of instances.
    pub async fn list(&self, query: ListQuery) -> Result<ListPage, RuntimeError> {
        let store = &*self.instances.store;
        tokio::task::block_in_place(|| {
            let mut page = store.list(&query)?;
            for row in &mut page.rows {
                load::refresh(store, identity::instance_key(&row.id), row)?;
            }
            Ok(page)
        })
    }

    /// Events of a run, from `from` on.
    pub async fn history(
        &self,
        id: &str,
        run: Option<RunNumber>,
        from: EventId,
        limit: usize,
    ) -> Result<HistoryPage, RuntimeError> {
        let (key, mut row) = self.row(id)?;
        let run = run.unwrap_or(row.run);
        let store = &*self.instances.store;
        load::refresh(store, key, &mut row)?;
        let from = from.max(EventId(1));
        let events = tokio::task::block_in_place(|| load::events(store, key, run, from, limit))?;
        if run != row.run && events.is_empty() && load::event(store, key, run, EventId(1))?.is_none() {
            return Err(no_run(&row, run));
        }
        let current = run == row.run;
        let last_read = match events.last() {
            Some(event) => event.id,
            None if current => EventId::NONE,
            None => store.last_event(key, run)?.map_or(EventId::NONE, |(id, _)| id),
        };
        // The row was read first, so events may have come since; an old run ends where its events do.
        let last = if current { row.last_event.max(last_read) } else { last_read };
        let closed = !current || row.state.is_closed();
        Ok(HistoryPage { run, events, last, closed })
    }

    /// The commits to an instance from now on.
    pub fn changed(&self, id: &str) -> Changes {
        self.instances.watchers.watch(identity::instance_key(id))
    }

    /// Lines of a run's log.
    pub async fn log(
        &self,
        id: &str,
        run: Option<RunNumber>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LogEntry>, RuntimeError> {
        let (key, row) = self.row(id)?;
        let run = run.unwrap_or(row.run);
        if run != row.run && load::event(&*self.instances.store, key, run, EventId(1))?.is_none() {
            return Err(no_run(&row, run));
        }
        let lines = self.instances.store.log(key, run, from, limit)?;
        let entry = |(sequence, line): (u64, rehydrate_store::LogLine)| LogEntry {
            sequence,
            time: line.time,
            level: Level::from_number(line.level).as_str(),
            text: line.text,
        };
        Ok(lines.into_iter().map(entry).collect())
    }

    pub(crate) async fn ask(&self, id: &str, input: Input) -> Result<Answer, RuntimeError> {
        let (key, row) = self.row(id)?;
        match self.instances.ask(key, None, input).await? {
            Answer::Gone => Err(RuntimeError::new(
                ErrorKind::Gone,
                "instance.ended",
                format!("instance `{}` has ended; see how with `rehydrate instance describe {}`", row.id, row.id),
            )),
            answer => Ok(answer),
        }
    }

    /// Sends a signal.
    pub async fn signal(
        &self,
        id: &str,
        name: &str,
        payload: Json,
        message_id: Option<String>,
    ) -> Result<Answer, RuntimeError> {
        self.instances.admission.admit()?;
        check_json("the signal's payload", &payload)?;
        self.ask(id, Input::Signal { name: name.to_owned(), payload, message_id }).await
    }

    /// Asks an instance to cancel.
    pub async fn cancel(&self, id: &str, reason: String) -> Result<Answer, RuntimeError> {
        self.ask(id, Input::Cancel { reason: shortened(reason) }).await
    }

    /// Ends an instance at once.
    pub async fn terminate(&self, id: &str, reason: String) -> Result<Answer, RuntimeError> {
        self.ask(id, Input::Terminate { reason: shortened(reason) }).await
    }

    /// Pins an open instance to another version of its workflow. It replays against it at once, and pauses
    /// if it diverges.
    pub async fn migrate(&self, id: &str, version: &str) -> Result<(), RuntimeError> {
        let (key, row) = self.row(id)?;
        let (deployment, pin) = self.instances.catalog.pinned_workflow(&row.workflow, Some(version))?;
        let (reply, answer) = oneshot::channel();
        let post = Post::Migrate { version: deployment.version, digest: deployment.digest, pin, reply };
        self.instances.post(key, post);
        answered(answer).await
    }

    /// Replays a run, with its own component or another version of it, and writes nothing.
    pub async fn replay(
        &self,
        id: &str,
        run: Option<RunNumber>,
        version: Option<&str>,
    ) -> Result<ReplayReport, RuntimeError> {
        let (key, row) = self.row(id)?;
        let run = run.unwrap_or(row.run);
        let (version, digest) = match version {
            Some(version) => {
                let deployment = self.instances.catalog.workflow(&row.workflow, Some(version))?;
                (deployment.version, deployment.digest)
            }
            None if run == row.run => (row.version.clone(), row.digest),
            None => self.version_of_run(key, run)?,
        };
        replay_check::replay(&self.instances, key, &row, run, &version, digest).await
    }

    fn version_of_run(
        &self,
        key: InstanceKey,
        run: RunNumber,
    ) -> Result<(String, rehydrate_core::Digest), RuntimeError> {
        match load::event(&*self.instances.store, key, run, EventId(1))?.map(|event| event.body) {
            Some(EventBody::InstanceStarted { version, digest, .. }) => Ok((version, digest)),
            _ => {
                let message = format!("the instance has no run {}", run.0);
                Err(RuntimeError::new(ErrorKind::NotFound, "run.not-found", message))
            }
        }
    }

    fn locate(&self, token: &str) -> Option<Locator> {
        self.instances.keys.locate(token)
    }

    /// Whether we made a token. In constant time, reading nothing.
    pub fn callback_exists(&self, token: &str) -> bool {
        self.locate(token).is_some()
    }

    /// Settles a callback. `body` is what was posted, byte for byte: it tells a repetition from a
    /// contradiction.
    pub async fn callback(&self, token: &str, post: CallbackPost, body: &[u8]) -> Result<Answer, RuntimeError> {
        let unknown = || {
            let message = "there is no such callback; check that the URL is complete";
            RuntimeError::new(ErrorKind::NotFound, "callback.not-found", message)
        };
        let Locator { key, run, op } = self.locate(token).ok_or_else(unknown)?;
        self.instances.admission.admit_completion()?;
        self.check_payload("the callback's body", body.len())?;
        let (form, outcome) = match post {
            CallbackPost::Complete(payload) => {
                check_json("the callback's body", &payload)?;
                ("complete", Ok(payload))
            }
            CallbackPost::Reject(failure) => ("reject", Err(failure)),
        };
        let digest = identity::digest(&[form.as_bytes(), body]);
        match self.instances.ask(key, Some(run), Input::CallbackPosted { op, outcome, digest }).await? {
            Answer::NotFound => Err(unknown()),
            answer => Ok(answer),
        }
    }

    /// Whether the host takes new work.
    pub fn readiness(&self) -> Readiness {
        self.instances.admission.readiness()
    }

    /// The limits of one instance.
    pub fn limits(&self) -> &Limits {
        &self.instances.config.limits
    }

    /// What the host has done, and holds.
    pub fn stats(&self) -> serde_json::Value {
        let instances = &self.instances;
        let commits = instances.commits.stats();
        let (resident_instances, resident_bytes) = instances.residents.stats();
        serde_json::json!({
            "turns": instances.counters.turns.load(Ordering::Relaxed),
            "rehydrated": instances.counters.rehydrated.load(Ordering::Relaxed),
            "purged": instances.counters.purged.load(Ordering::Relaxed),
            "evicted": instances.counters.evicted.load(Ordering::Relaxed),
            "resident_instances": resident_instances,
            "resident_bytes": resident_bytes,
            "attempts_under_way": instances.workers.count(),
            "messages_under_way": outbox::count(&*instances.store),
            "commits": commits.commits,
            "batches": commits.batches,
            "batch_bytes": commits.bytes,
            "wal_bytes": instances.store.bytes_written(),
            "durability": "synced",
        })
    }
}

fn parts(
    config: RuntimeConfig,
    store: Arc<dyn Store>,
    on_fatal: Arc<dyn Fn(String) + Send + Sync>,
) -> Result<Parts, RuntimeError> {
    let setup = |code, error: String| RuntimeError::new(ErrorKind::Internal, code, error);
    let guests =
        config.resident_instances.saturating_add(ACTIVE_GUESTS_MAX).saturating_add(config.activity_concurrency);
    let settings = GuestSettings {
        guests_max: u32::try_from(guests).unwrap_or(u32::MAX),
        limits: config.limits.clone(),
        cache_dir: config.data_dir.join("compiled"),
    };
    let engine = GuestEngine::new(&settings).map_err(|error| setup("host.engine", error.to_string()))?;
    if !engine.is_pooled() {
        tracing::warn!(
            "the system has no room for a pool of {guests} guests, which makes each start of a guest slower; lift its limit on \
             address space (`ulimit -v`), or lower `runtime.resident-instances` or `limits.memory-bytes`"
        );
    }
    let outbound = Arc::new(Outbound(config.outbound.clone()));
    let activities = ActivityHost::new(outbound, config.limits.clone());
    let catalog =
        Catalog::open(store.clone(), Arc::new(engine), activities, config.component_bytes, config.compile_timeout)?;
    let keys = TokenKeys::open(&config.data_dir).map_err(|error| {
        let dir = config.data_dir.display();
        setup("host.callback-keys", format!("the callback keys in {dir} can't be read or made: {error}"))
    })?;
    let commits = Commits::start(store.clone(), on_fatal)
        .map_err(|error| setup("host.threads", format!("the commit thread can't be started: {error}")))?;
    let workers = Workers::new(
        config.outbound.clone(),
        config.activity_concurrency,
        &config.queue_concurrency,
        config.default_start_to_close,
    );
    Ok(Parts { store, commits, catalog, keys: Arc::new(keys), workers, config })
}

/// Takes up what was under way when the host ended: attempts without an outcome, and instances that the
/// host could not run. Timers need nothing: their loop finds those that are due.
fn recover(instances: &Arc<Instances>) -> Result<(), RuntimeError> {
    let messages = outbox::left_over(&*instances.store)?;
    let mut posts = Vec::new();
    let mut after = None;
    loop {
        let tasks = instances.store.tasks(after.as_ref(), PAGE)?;
        let Some(last) = tasks.last().copied() else { break };
        posts.extend(tasks.into_iter().map(|task| (task.key, Post::Recover(task.under_way))));
        after = Some(last);
    }
    tracing::info!(instances = posts.len(), messages = messages.len(), "recovered");
    let mut query =
        ListQuery { states: vec![InstanceStateTag::Paused], limit: PAGE, scan_max: PAGE * 16, ..ListQuery::default() };
    loop {
        let page = instances.store.list(&query)?;
        for row in
            page.rows.iter().filter(|row| row.problem.as_ref().is_some_and(|it| it.code == crate::actor::HOST_FAULT))
        {
            let (reply, _answer) = oneshot::channel();
            posts.push((identity::instance_key(&row.id), Post::Resume { reason: None, reply }));
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    posts.extend(messages.into_iter().map(outbox::delivered_again));
    instances.post_all(posts);
    Ok(())
}

async fn housekeeping(instances: Arc<Instances>) {
    loop {
        let retention = instances.config.idempotency_retention;
        let before = rehydrate_core::Timestamp(clock::now().0.saturating_sub_unsigned(retention.0));
        let store = instances.store.clone();
        let dropped = tokio::task::spawn_blocking(move || store.drop_dedup_before(before, PAGE)).await;
        match dropped {
            Ok(Ok(PAGE)) => continue,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "old idempotency keys could not be dropped"),
            Err(error) => tracing::error!(%error, "housekeeping failed"),
        }
        tokio::time::sleep(HOUSEKEEPING_EVERY).await;
    }
}

fn no_run(row: &InstanceRow, run: RunNumber) -> RuntimeError {
    let message = format!("instance `{}` has no run {}; its current one is {}", row.id, run.0, row.run.0);
    RuntimeError::new(ErrorKind::NotFound, "run.not-found", message)
}

pub(crate) fn check_json(what: &str, text: &str) -> Result<(), RuntimeError> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| {
        RuntimeError::new(
            ErrorKind::Invalid,
            "json.invalid",
            format!("{what} is not JSON: {error}; send UTF-8 JSON text"),
        )
    })
}

pub(crate) fn random_seed() -> Result<u64, RuntimeError> {
    getrandom::u64().map_err(|error| internal(&format!("the system gives no random numbers: {error}")))
}

/// A reason or note for people, at most this long.
pub(crate) fn shortened(reason: String) -> String {
    const REASON_CHARS_MAX: usize = 1024;
    reason.chars().take(REASON_CHARS_MAX).collect()
}

/// What makes two starts the same request.
fn fingerprint(request: &StartRequest) -> rehydrate_core::Digest {
    let id = request.id.as_deref().unwrap_or("");
    let version = request.version.as_deref().unwrap_or("");
    let policies = format!("{:?} {:?}", request.reuse, request.conflict);
    let parts = [&*request.workflow, version, id, &*request.input, &*policies];
    identity::digest(&parts.map(str::as_bytes))
}
