//! Taking turns: deciding inputs, running the guest, committing, releasing.

mod moving;
mod posts;

pub use moving::MovePlan;
use posts::refuse_all;

use super::start::Starter;
use super::{Instances, LiveGuest, Post, Reply, Resident};
use crate::api::{InstanceResult, StartReply};
use crate::catalog::{ComponentPin, internal};
use crate::error::{ErrorKind, RuntimeError};
use crate::tokens::RunUrls;
use crate::turn::{Release, Turn};
use crate::workers::Dispatch;
use crate::{clock, load};
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{
    Answer, Effect, Event, EventBody, EventId, Input, InstanceKey, InstanceState, Lifecycle, Message, Replay, RunNumber,
};
use rehydrate_guest::{LogLine, Step, Stopped, WorkflowGuest};
use rehydrate_store::{InstanceRow, InstanceStateTag, LogLine as StoredLine, Problem, TimerRow, UnderWay};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a guest that the host could not run is left alone before it is tried again.
const HOST_FAULT_PAUSE: Duration = Duration::from_secs(2);

/// The code of a pause that the host itself is to blame for; such instances are tried again.
pub const HOST_FAULT: &str = "host.fault";

/// The code of a pause because the component does not match the history.
pub const DIVERGED: &str = "workflow.diverged";

/// Slices of time a guest may take before what woke it is committed without waiting for it.
const SLICES_BEFORE_EARLY_COMMIT: u32 = 5;

/// Who is told what once the turn is durable.
pub(super) enum Told {
    Answer(Reply<Answer>, Answer),
    Started { reply: Reply<StartReply>, started: StartReply, is_awaited: bool },
    Done(Reply<()>),
    Timer(TimerRow, bool),
    Message(Box<Message>),
}

impl Told {
    /// Whether somebody waits for the answer.
    fn is_awaited(&self) -> bool {
        !matches!(self, Told::Timer(..) | Told::Message(_) | Told::Started { is_awaited: false, .. })
    }

    pub(super) fn tell(self, instances: &Arc<Instances>, failed: Option<&RuntimeError>) {
        match (self, failed) {
            (Told::Answer(reply, answer), None) => drop(reply.send(Ok(answer))),
            (Told::Answer(reply, _), Some(error)) => drop(reply.send(Err(error.clone()))),
            (Told::Started { reply, started, .. }, None) => drop(reply.send(Ok(started))),
            (Told::Started { reply, .. }, Some(error)) => drop(reply.send(Err(error.clone()))),
            (Told::Done(reply), None) => drop(reply.send(Ok(()))),
            (Told::Done(reply), Some(error)) => drop(reply.send(Err(error.clone()))),
            (Told::Timer(row, dropped), None) => instances.timers.done(&row, dropped),
            (Told::Timer(row, _), Some(_)) => instances.timer_later(row),
            (Told::Message(message), None) => instances.received.add(message.id),
            (Told::Message(message), Some(_)) => instances.deliver_later(*message),
        }
    }
}

/// One turn under way. It is handed on from future to future, and so in boxes.
pub(super) struct Work {
    pub(super) resident: Box<Resident>,
    pub(super) turn: Box<Turn>,
    pub(super) told: Vec<Told>,
    /// While the guest is not there, all events of the run: it is made from them if it is needed, and then
    /// they are gone.
    events: Vec<Event>,
    /// The guest of a run that it has ended: it goes after everybody was told, as clearing its memory takes a while.
    spent: Option<LiveGuest>,
    /// An early commit failed: nothing more may be committed or told.
    pub(super) failed: Option<RuntimeError>,
    retry: bool,
    /// Keep components that the instance is about to be pinned to.
    pins: Vec<ComponentPin>,
}

impl Instances {
    /// Takes as many turns as the posts need; a start is a turn of its own.
    pub(super) async fn take_turns(
        self: &Arc<Self>,
        key: InstanceKey,
        mut resident: Option<Box<Resident>>,
        posts: Vec<Post>,
    ) -> Option<Box<Resident>> {
        if posts.first().is_some_and(Post::is_for_entity) {
            // Boxed, as are the other turns that few instances take: the future of a usual one is to stay small.
            Box::pin(self.take_entity_turn(key, posts)).await;
            return None;
        }
        let mut inputs = Vec::new();
        for post in posts {
            if !post.stands_alone() {
                inputs.push(post);
                continue;
            }
            resident = self.take_turn(key, resident, std::mem::take(&mut inputs)).await;
            resident = match post {
                Post::Start(plan, reply) => Box::pin(self.start(key, resident, *plan, Starter::Request(reply))).await,
                Post::Message { message, again } => Box::pin(self.take_start(key, resident, message, again)).await,
                Post::Rewind { reason, reply } => Box::pin(self.rewind(key, &reason, reply)).await,
                Post::Purge(plan, reply) => {
                    let (resident, result) = Box::pin(self.purge(key, resident, plan)).await;
                    drop(reply.send(result));
                    resident
                }
                _ => resident,
            };
        }
        self.take_turn(key, resident, inputs).await
    }

    /// One turn: all these inputs, one commit.
    async fn take_turn(
        self: &Arc<Self>,
        key: InstanceKey,
        mut resident: Option<Box<Resident>>,
        posts: Vec<Post>,
    ) -> Option<Box<Resident>> {
        if posts.is_empty() {
            return resident;
        }
        // Attempts of a turn before this one: without its guest the instance is loaded anew, and would forget them.
        if let Some(resident) = &mut resident {
            self.spawn_attempts(resident.dispatch.drain(..));
        }
        let mut work = match self.begin(key, resident) {
            Ok(Some(work)) => work,
            Ok(None) => {
                Box::pin(refuse_all(self, posts, &RuntimeError::no_instance("(unknown)"), Some(key))).await;
                return None;
            }
            Err(error) => {
                tracing::error!(?key, %error, "an instance could not be loaded");
                Box::pin(refuse_all(self, posts, &error, None)).await;
                return None;
            }
        };
        let mut posts = posts.into_iter();
        while let Some(post) = posts.next() {
            if work.is_continued() {
                work = match Box::pin(self.continue_run(key, work)).await {
                    Ok(next) => next,
                    Err(error) => {
                        Box::pin(refuse_all(self, [post].into_iter().chain(posts).collect(), &error, None)).await;
                        return None;
                    }
                };
            }
            self.take_post(key, &mut work, post).await;
        }
        self.commit(key, work).await
    }

    fn begin(&self, key: InstanceKey, resident: Option<Box<Resident>>) -> Result<Option<Box<Work>>, RuntimeError> {
        // Without its guest an instance is loaded anew: a guest is made from all events, and they are not kept.
        let (resident, events) = match resident.filter(|resident| resident.guest.is_some()) {
            Some(resident) => (resident, Vec::new()),
            None => {
                let Some(loaded) = load::instance(&*self.store, key)? else { return Ok(None) };
                (Resident::loaded(loaded.row, loaded.state), loaded.events)
            }
        };
        let turn = Turn::new(key, resident.row.run, resident.stored_last, resident.stored);
        Ok(Some(Work::new(resident, turn, events)))
    }

    /// The same for a run that is just being created: its first event is the only one.
    pub(super) async fn first_turn(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: Box<Resident>,
        turn: Box<Turn>,
        first: Event,
        told: Option<Told>,
    ) -> (Option<Box<Resident>>, Result<(), RuntimeError>) {
        let mut work = Work::new(resident, turn, vec![first]);
        work.told.extend(told);
        self.run_guest(key, &mut work).await;
        self.try_commit(key, work).await
    }

    /// Runs the guest to its next wait, unless the instance has ended or is paused.
    pub(super) async fn run_guest(self: &Arc<Self>, key: InstanceKey, work: &mut Work) {
        if work.resident.state.is_closed() {
            work.resident.guest = None;
            return;
        }
        if work.resident.row.state == InstanceStateTag::Paused || work.resident.state.suspended.is_some() {
            return;
        }
        let mut live = match work.resident.guest.take() {
            Some(live) => live,
            // Boxed, as is an early commit: most turns need neither.
            None => match Box::pin(self.rehydrate(key, work)).await {
                Ok(live) => live,
                Err(error) => return self.host_fault(key, work, error.to_string()),
            },
        };
        live.guest.begin_turn(clock::now());
        let mut slices = 0;
        let step = loop {
            match live.guest.step() {
                // It computes: others come first.
                Step::Yielded => self.without_place(tokio::task::yield_now()).await,
                other => break other,
            }
            slices += 1;
            if slices == SLICES_BEFORE_EARLY_COMMIT {
                Box::pin(self.commit_early(key, work)).await;
            }
        };
        work.turn.log(stored_lines(live.guest.take_log()));
        if !matches!(step, Step::Stopped(_)) {
            // A turn that was not finished leaves no commands behind: it never happened.
            let (fresh, through) = live.guest.with_replay(|replay| (replay.take_fresh(), replay.ran_through()));
            // That the guest ran through this event is said by a command that it caused; else the row must say it.
            if live.guest.has_run() && fresh.iter().all(|event| event.cause != through) {
                work.turn.row_changed();
            }
            work.resident.row.ran_through = through;
            fresh.into_iter().for_each(|event| work.apply(event));
        }
        match step {
            Step::Waiting | Step::Yielded => work.resident.guest = Some(live),
            Step::Returned => work.spent = Some(live),
            Step::Stopped(Stopped::Failed(failure)) => {
                drop(live);
                let event = work.resident.state.next_event(EventBody::InstanceStopped { failure }, clock::now());
                work.apply(event);
            }
            Step::Stopped(Stopped::Diverged(divergence)) => {
                let message = format!("{divergence}; deploy a matching version and migrate the instance to it");
                pause(work, DIVERGED, message, Some(divergence));
            }
            Step::Stopped(Stopped::HostFault(text)) => self.host_fault(key, work, text),
        }
    }

    fn host_fault(self: &Arc<Self>, key: InstanceKey, work: &mut Work, text: String) {
        tracing::error!(
            ?key,
            instance = work.resident.row.id,
            text,
            "the host could not run a guest; it is tried again"
        );
        pause(work, HOST_FAULT, format!("the host could not run the workflow: {text}; it tries again by itself"), None);
        work.retry = true;
    }

    /// A guest from the run's events.
    async fn rehydrate(self: &Arc<Self>, key: InstanceKey, work: &mut Work) -> Result<LiveGuest, RuntimeError> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| internal("the host has stopped"))?;
        let row = &work.resident.row;
        let component = match self.catalog.loaded_workflow(row.digest) {
            Some(component) => component,
            None => self.without_place(self.catalog.workflow_component(row.digest)).await?,
        };
        let origin = CallbackOrigin { base_url: self.config.public_url.clone(), key_id: self.keys.current() };
        let events = std::mem::take(&mut work.events);
        let replay = Replay::new(events, row.ran_through, self.config.limits.clone(), origin)
            .map_err(|error| internal(&error.to_string()))?;
        let urls = Arc::new(RunUrls { keys: self.keys.clone(), key, run: work.resident.state.told_run() });
        if row.ran_through != EventId::NONE {
            self.counters.rehydrated.fetch_add(1, Ordering::Relaxed);
        }
        Ok(LiveGuest { guest: WorkflowGuest::new(&component, replay, urls), _room: room })
    }

    /// The guest takes its time: what woke it is committed and answered now, with a mark that the guest has a
    /// turn to take, so that a crash does not leave it asleep.
    async fn commit_early(self: &Arc<Self>, key: InstanceKey, work: &mut Work) {
        if work.turn.writes_nothing() || work.failed.is_some() {
            return;
        }
        let next = Turn::new(key, work.resident.row.run, work.resident.state.last, work.resident.stored);
        let turn = std::mem::replace(&mut work.turn, next);
        let told = std::mem::take(&mut work.told);
        match self.commit_turn(key, &mut work.resident, turn, true).await {
            Ok(()) => {
                work.turn.replaces(work.resident.stored);
                self.spawn_attempts(work.resident.dispatch.drain(..));
                told.into_iter().for_each(|told| told.tell(self, None));
            }
            Err(error) => {
                told.into_iter().for_each(|told| told.tell(self, Some(&error)));
                work.failed = Some(error);
            }
        }
    }

    async fn commit(self: &Arc<Self>, key: InstanceKey, work: Box<Work>) -> Option<Box<Resident>> {
        self.try_commit(key, work).await.0
    }

    pub(super) async fn try_commit(
        self: &Arc<Self>,
        key: InstanceKey,
        work: Box<Work>,
    ) -> (Option<Box<Resident>>, Result<(), RuntimeError>) {
        if work.is_continued() {
            return match Box::pin(self.continue_run(key, work)).await {
                Ok(next) => (Some(next.resident), Ok(())),
                Err(error) => (None, Err(error)),
            };
        }
        let Work { mut resident, turn, told, retry, failed, spent, .. } = *work;
        let committed = match failed {
            Some(error) => Err(error),
            None => self.commit_turn(key, &mut resident, turn, false).await,
        };
        if let Err(error) = committed {
            tracing::warn!(?key, %error, "a turn was not committed");
            told.into_iter().for_each(|told| told.tell(self, Some(&error)));
            return (None, Err(error));
        }
        let is_awaited = told.iter().any(Told::is_awaited);
        told.into_iter().for_each(|told| told.tell(self, None));
        if is_awaited || (spent.is_some() && self.is_alone()) {
            // Who is told may be next on this very thread, which the next step of this instance would block.
            tokio::task::yield_now().await;
        }
        drop(spent);
        if retry {
            self.try_again(key);
        }
        (Some(resident), Ok(()))
    }

    /// Makes a turn durable and releases what it led to. `owed`: the guest has still to take a turn.
    async fn commit_turn(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: &mut Resident,
        mut turn: Box<Turn>,
        owed: bool,
    ) -> Result<(), RuntimeError> {
        if resident.describe() {
            turn.row_changed();
        }
        let under_way = UnderWay { activities: resident.state.has_open_activities(), guest: owed };
        // Of an instance that was loaded it is not known what is stored; it is written if anything is.
        let differs = resident.stored_under_way.map_or(!turn.writes_nothing(), |stored| stored != under_way);
        if differs {
            turn.under_way(under_way);
        }
        let writes_nothing = turn.writes_nothing();
        let (batch, release) = turn.finish(Some(&resident.row));
        let wrote_row = batch.row.is_some();
        if !writes_nothing {
            self.commit_batch(batch).await?;
        }
        if wrote_row {
            resident.stored = Some(resident.row.index_keys());
        }
        if differs {
            resident.stored_under_way = Some(under_way);
        }
        if resident.stored_last == EventId::NONE {
            self.retention.began(key, resident.row.run);
        }
        resident.stored_last = resident.state.last;
        if release.ended {
            self.watchers.notify_end(key, || resident.result());
        }
        resident.dispatch.extend(self.release(key, release));
        Ok(())
    }

    /// Makes a batch durable.
    pub(super) async fn commit_batch(&self, batch: Box<rehydrate_store::Batch>) -> Result<(), RuntimeError> {
        let commit = pin!(self.commits.commit(batch, self.is_alone()));
        let committed = if self.commits.is_slow() { self.without_place(commit).await } else { commit.await };
        committed?.map_err(commit_refused)?;
        self.counters.turns.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What the turn led to becomes visible; gives the attempts to hand to workers.
    pub(super) fn release(self: &Arc<Self>, key: InstanceKey, release: Release) -> Vec<Dispatch> {
        for (run, op) in release.interrupt {
            self.workers.interrupt(key, run, op);
        }
        if let Some(due) = release.earliest_timer {
            self.timers.put(due);
        }
        if release.notify {
            self.watchers.notify(key);
        }
        release.messages.into_iter().for_each(|message| self.deliver(message, false));
        release.dispatch
    }

    /// A due row whose instance could not take it: it stays under way for a while, so that the timer loop does
    /// not hand it over again at once.
    fn timer_later(self: &Arc<Self>, row: TimerRow) {
        let instances = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HOST_FAULT_PAUSE).await;
            instances.timers.done(&row, false);
        });
    }

    fn try_again(self: &Arc<Self>, key: InstanceKey) {
        let instances = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HOST_FAULT_PAUSE).await;
            let (reply, _answer) = oneshot::channel();
            instances.post(key, Post::Resume { reason: None, reply });
        });
    }
}

impl Work {
    pub(super) fn new(resident: Box<Resident>, turn: Box<Turn>, events: Vec<Event>) -> Box<Work> {
        let (told, pins) = (Vec::new(), Vec::new());
        Box::new(Work { resident, turn, told, events, spent: None, failed: None, retry: false, pins })
    }

    /// The run that an input for this run names: the URLs of callbacks name the one whose history it has taken over.
    fn run_meant_by(&self, input: &Input) -> RunNumber {
        match input {
            Input::CallbackPosted { .. } => self.resident.state.told_run(),
            _ => self.resident.row.run,
        }
    }

    fn apply(&mut self, event: Event) {
        let mut effects: Vec<Effect> = Vec::new();
        self.resident.state.apply(&event, &mut effects);
        self.turn.effects(effects);
        self.turn.event(event);
    }
}

impl Resident {
    /// An instance as the store has it, its guest not there.
    pub(super) fn loaded(row: InstanceRow, state: InstanceState) -> Box<Resident> {
        let (stored, stored_last) = (Some(row.index_keys()), state.last);
        let (guest, stored_under_way, dispatch) = (None, None, Vec::new());
        Box::new(Resident { row, state, guest, stored, stored_last, stored_under_way, dispatch })
    }

    /// How the run has ended, if it has.
    fn result(&self) -> Option<InstanceResult> {
        let InstanceRow { id, run, state, .. } = &self.row;
        let outcome = Some(self.state.outcome()?);
        Some(InstanceResult { id: id.clone(), run: *run, state: *state, outcome })
    }

    /// Brings the row up to the state; whether it then says something that the events don't.
    fn describe(&mut self) -> bool {
        let state = &self.state;
        let row = &mut self.row;
        row.last_event = state.last;
        row.updated = row.updated.max(state.last_time);
        let status_set = row.custom_status != state.custom_status;
        if status_set {
            row.custom_status.clone_from(&state.custom_status);
        }
        let closed = match &state.lifecycle {
            Lifecycle::Running | Lifecycle::Continued => return self.describe_suspension() || status_set,
            Lifecycle::Completed(_) => InstanceStateTag::Completed,
            Lifecycle::Failed(_) => InstanceStateTag::Failed,
            Lifecycle::Cancelled(_) => InstanceStateTag::Cancelled,
            Lifecycle::Terminated(_) => InstanceStateTag::Terminated,
        };
        let ended = row.state != closed;
        row.state = closed;
        row.problem = None;
        self.guest = None;
        ended || status_set
    }
}

impl Resident {
    /// Whether it was suspended or resumed, which the row says from now on.
    fn describe_suspension(&mut self) -> bool {
        let wanted = match self.state.suspended {
            Some(_) => InstanceStateTag::Suspended,
            None => InstanceStateTag::Running,
        };
        let changed = self.row.state != InstanceStateTag::Paused && self.row.state != wanted;
        if changed {
            self.row.state = wanted;
        }
        changed
    }
}

fn pause(work: &mut Work, code: &str, message: String, divergence: Option<rehydrate_core::Divergence>) {
    work.resident.guest = None;
    work.resident.row.state = InstanceStateTag::Paused;
    work.resident.row.problem = Some(Problem { code: code.to_owned(), message, divergence });
    work.turn.row_changed();
}

/// The error of an input that comes after the end.
pub fn ended(row: &InstanceRow) -> RuntimeError {
    let message = format!("instance `{}` has ended; start a new run of it, or another instance", row.id);
    RuntimeError::new(ErrorKind::Gone, "instance.ended", message)
}

fn too_much(error: &rehydrate_core::LimitExceeded) -> RuntimeError {
    RuntimeError::new(ErrorKind::TooLarge, "limit.reached", error.to_string())
}

pub(super) fn commit_refused(refused: rehydrate_store::CommitError) -> RuntimeError {
    match refused {
        rehydrate_store::CommitError::Duplicate(_) => {
            let text = "the Idempotency-Key was used by another request at the same moment; send the request again";
            RuntimeError::new(ErrorKind::Conflict, "idempotency.in-use", text)
        }
        other => internal(&other.to_string()),
    }
}

/// A guest's lines as the store keeps them.
pub fn stored_lines(lines: Vec<LogLine>) -> Vec<StoredLine> {
    let time = clock::now();
    lines.into_iter().map(|line| StoredLine { time, level: line.level as u8, text: line.text }).collect()
}
