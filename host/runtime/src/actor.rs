//! Instances as actors: a mailbox each, one task at a time, turns committed one after the other.
//!
//! An instance that has nothing to do has no task; if its guest is not resident it has nothing in memory
//! at all. Whoever posts to it wakes it: the task loads what is missing, takes what is in the mailbox,
//! commits, answers, and when the mailbox is empty it becomes the worker of the attempt that it dispatched
//! last. So a workflow that does one thing after another is one task from its start to its end.

mod entity;
mod messages;
mod next_run;
mod process;
mod purge;
mod start;

use crate::admission::Admission;
use crate::api::{RuntimeConfig, StartReply};
use crate::catalog::{Catalog, ComponentPin, internal};
use crate::commit::Commits;
use crate::error::RuntimeError;
use crate::follow::Watchers;
use crate::outbox::Received;
use crate::residents::Residents;
use crate::retention::Retention;
use crate::timers::TimerSignals;
use crate::tokens::TokenKeys;
use crate::workers::{self, Dispatch, Workers};
use rehydrate_core::{Answer, Digest, EventId, Input, InstanceKey, InstanceState, Message, RunNumber};
use rehydrate_guest::{LogLine, WorkflowGuest};
use rehydrate_store::{InstanceRow, KeyMap, Store, TimerRow, UnderWay};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use entity::EntityAsk;
pub use process::{HOST_FAULT, MovePlan};
pub use purge::PurgePlan;
pub use start::{START_SCOPE, StartPlan, repeated};

/// Guests that run or commit at once, besides those that wait in memory.
pub const ACTIVE_GUESTS_MAX: usize = 512;

/// Instances that take turns at once, or wait for a quick commit; more wait, in the order in which they came. With
/// many more of them than the processor's caches hold, each would find everything it needs gone whenever it comes to
/// its next step.
const PLACES: usize = 128;

/// Steps that an instance takes before it goes to the end of that queue.
const STEPS_IN_PLACE_MAX: u64 = 32;

/// Inputs that may wait in one mailbox.
const MAILBOX_MAX: usize = 10_000;

/// Inputs taken into one turn.
const INPUTS_PER_TURN_MAX: usize = 256;

/// The answer to a post.
pub type Reply<T> = oneshot::Sender<Result<T, RuntimeError>>;

/// What is posted to an instance.
pub enum Post {
    /// An input of a run, and whom to tell.
    Input {
        /// Which run it is for; none: the current one.
        run: Option<RunNumber>,
        /// The input.
        input: Input,
        /// Lines for the instance's log.
        log: Vec<LogLine>,
        /// Whom to tell.
        reply: Option<Reply<Answer>>,
    },
    /// A timer row that is due.
    Timer(TimerRow),
    /// A new run.
    Start(Box<StartPlan>, Reply<StartReply>),
    /// The host starts, and this was under way when it ended.
    Recover(UnderWay),
    /// A run goes on from the one before, and its guest has its first turn to take.
    Begun,
    /// A paused instance is to try again, a suspended one to run again.
    Resume {
        /// Why; none: only a paused one is meant, by the host itself.
        reason: Option<String>,
        /// Whom to tell.
        reply: Reply<()>,
    },
    /// A failed instance is to go on from before the failure.
    Rewind {
        /// Why.
        reason: String,
        /// Whom to tell.
        reply: Reply<()>,
    },
    /// A message from another instance; if it comes `again`, it may have been received before.
    Message {
        /// The message.
        message: Box<Message>,
        /// Whether it comes again.
        again: bool,
    },
    /// An operation that somebody outside asks of an entity.
    Entity(Box<EntityAsk>),
    /// The instance is to go on with another component if its history matches that; else it stays as it is.
    Move(Box<MovePlan>, Reply<()>),
    /// The instance, or runs of it, are to be dropped.
    Purge(PurgePlan, Reply<()>),
    /// The instance is to go on with another component.
    Migrate {
        /// The version.
        version: String,
        /// Its component.
        digest: Digest,
        /// Keeps that from being removed until the instance is pinned to it.
        pin: ComponentPin,
        /// Whom to tell.
        reply: Reply<()>,
    },
}

/// A guest in memory, with the room it takes.
pub struct LiveGuest {
    guest: WorkflowGuest,
    _room: OwnedSemaphorePermit,
}

/// An instance in memory.
pub struct Resident {
    row: InstanceRow,
    state: InstanceState,
    guest: Option<LiveGuest>,
    /// The index of the row as it is stored.
    stored: Option<rehydrate_store::RowIndexKeys>,
    /// The last event as it is stored.
    stored_last: EventId,
    /// What is stored as under way, if that is known.
    stored_under_way: Option<UnderWay>,
    /// Attempts whose turn is durable, to be handed to workers.
    dispatch: Vec<Dispatch>,
}

#[derive(Default)]
struct Slot {
    mailbox: VecDeque<Post>,
    running: bool,
    resident: Option<Box<Resident>>,
}

/// All instances of the host.
pub struct Instances {
    pub store: Arc<dyn Store>,
    pub commits: Commits,
    pub catalog: Catalog,
    pub keys: Arc<TokenKeys>,
    pub residents: Residents,
    pub watchers: Watchers,
    pub timers: Arc<TimerSignals>,
    pub received: Received,
    pub workers: Workers,
    pub admission: Admission,
    pub retention: Retention,
    pub config: RuntimeConfig,
    pub counters: Counters,
    /// One check of a deployment runs at a time.
    pub checking: Semaphore,
    room: Arc<Semaphore>,
    /// Places for instances that take turns.
    places: Semaphore,
    slots: Mutex<KeyMap<InstanceKey, Slot>>,
    tasks: AtomicUsize,
    idle: tokio::sync::Notify,
}

/// What the host has done since it started.
#[derive(Default)]
pub struct Counters {
    /// Turns committed.
    pub turns: std::sync::atomic::AtomicU64,
    /// Guests brought back by replay.
    pub rehydrated: std::sync::atomic::AtomicU64,
    /// Guests dropped to make room.
    pub evicted: std::sync::atomic::AtomicU64,
    /// Instances dropped for good.
    pub purged: std::sync::atomic::AtomicU64,
}

/// The parts that all instances share.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub commits: Commits,
    pub catalog: Catalog,
    pub keys: Arc<TokenKeys>,
    pub workers: Workers,
    pub config: RuntimeConfig,
}

impl Instances {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Instances {
        let Parts { store, commits, catalog, keys, workers, config } = parts;
        Instances {
            residents: Residents::new(config.resident_instances, config.resident_bytes),
            watchers: Watchers::default(),
            timers: Arc::default(),
            received: Received::default(),
            admission: Admission::new(store.clone(), config.free_bytes_min),
            room: Arc::new(Semaphore::new(config.resident_instances.saturating_add(ACTIVE_GUESTS_MAX))),
            checking: Semaphore::new(1),
            places: Semaphore::new(PLACES),
            slots: Mutex::default(),
            tasks: AtomicUsize::new(0),
            idle: tokio::sync::Notify::new(),
            counters: Counters::default(),
            retention: Retention::new(config.retention.clone()),
            store,
            commits,
            catalog,
            keys,
            workers,
            config,
        }
    }

    fn slots(&self) -> MutexGuard<'_, KeyMap<InstanceKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts to an instance and wakes it. A full mailbox refuses what somebody waits for, and takes what
    /// the host itself has to say.
    pub fn post(self: &Arc<Self>, key: InstanceKey, post: Post) {
        if self.put_in_mailbox(key, post) {
            tokio::spawn(self.clone().run(key));
        }
    }

    /// Posts all this before any of it is taken: what was sent before the host ended arrives before what is sent now.
    pub fn post_all(self: &Arc<Self>, posts: impl IntoIterator<Item = (InstanceKey, Post)>) {
        let to_run: Vec<InstanceKey> =
            posts.into_iter().filter_map(|(key, post)| self.put_in_mailbox(key, post).then_some(key)).collect();
        for key in to_run {
            tokio::spawn(self.clone().run(key));
        }
    }

    /// Whether the instance had no task, and the caller must run it.
    fn put_in_mailbox(&self, key: InstanceKey, post: Post) -> bool {
        let mut slots = self.slots();
        let slot = slots.entry(key).or_default();
        if slot.mailbox.len() >= MAILBOX_MAX
            && let Post::Input { reply: Some(reply), .. } = post
        {
            drop(slots);
            drop(reply.send(Err(mailbox_full())));
            return false;
        }
        slot.mailbox.push_back(post);
        if slot.running {
            return false;
        }
        slot.running = true;
        self.tasks.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Hands attempts to workers of their own.
    fn spawn_attempts(self: &Arc<Self>, attempts: impl IntoIterator<Item = Dispatch>) {
        for attempt in attempts {
            let instances = self.clone();
            tokio::spawn(async move {
                let key = attempt.key;
                if let Some(post) = workers::attempt(&instances, attempt).await
                    && instances.put_in_mailbox(key, post)
                {
                    // Another type than the task's own: a future can't hold itself.
                    let run: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(instances.run(key));
                    run.await;
                }
            });
        }
    }

    /// Posts an input and waits until what it led to is durable.
    pub async fn ask(
        self: &Arc<Self>,
        key: InstanceKey,
        run: Option<RunNumber>,
        input: Input,
    ) -> Result<Answer, RuntimeError> {
        let (reply, answer) = oneshot::channel();
        self.post(key, Post::Input { run, input, log: Vec::new(), reply: Some(reply) });
        answered(answer).await
    }

    /// A timer row is due.
    pub fn timer_due(self: &Arc<Self>, row: TimerRow) {
        self.post(row.key, Post::Timer(row));
    }

    /// The task of an instance: takes turns until its mailbox is empty, then runs the attempt that this led to,
    /// and tells the instance how it ended. It has a place while it does so, for so many steps at a time.
    async fn run(self: Arc<Self>, key: InstanceKey) {
        let mut place = self.places.acquire().await;
        for step in 1_u64.. {
            // Boxed: what a turn and an attempt need while they last is then memory that the last one has just given
            // back, and not a part of each task, which is cold by the time that hundreds of others had their turn.
            let attempt = Box::pin(self.take_turns_while_posted(key)).await;
            if self.tasks.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.idle.notify_waiters();
            }
            let Some(attempt) = attempt else { return };
            let mut attempt = Box::pin(workers::attempt(&self, attempt));
            let post = match poll_fn(|task| Poll::Ready(attempt.as_mut().poll(task))).await {
                Poll::Ready(post) => post,
                Poll::Pending => {
                    drop(place);
                    let post = attempt.await;
                    place = self.places.acquire().await;
                    post
                }
            };
            let Some(post) = post else { return };
            if !self.put_in_mailbox(key, post) {
                return;
            }
            if step.is_multiple_of(STEPS_IN_PLACE_MAX) {
                drop(place);
                place = self.places.acquire().await;
            }
        }
    }

    /// Gives others the place of the task that calls it for as long as that takes.
    async fn without_place<T>(&self, wait: impl Future<Output = T>) -> T {
        self.places.add_permits(1);
        let waited = wait.await;
        if let Ok(place) = self.places.acquire().await {
            place.forget();
        }
        waited
    }

    /// Empties the mailbox. Attempts that the turns led to are handed to workers, but for one that may be run
    /// here as nothing else is to be done.
    async fn take_turns_while_posted(self: &Arc<Self>, key: InstanceKey) -> Option<Dispatch> {
        loop {
            let (posts, resident) = {
                let mut slots = self.slots();
                let slot = slots.get_mut(&key)?;
                let count = slot.mailbox.len().min(INPUTS_PER_TURN_MAX);
                let posts: Vec<Post> = slot.mailbox.drain(..count).collect();
                (posts, slot.resident.take())
            };
            self.residents.remove(key);
            let mut resident = self.take_turns(key, resident, posts).await;
            let mut attempts = resident.as_mut().map(|resident| std::mem::take(&mut resident.dispatch));
            let idle = self.put_back(key, resident);
            let here = attempts.as_mut().filter(|_| idle).and_then(Vec::pop);
            self.spawn_attempts(attempts.into_iter().flatten());
            if idle {
                return here;
            }
        }
    }

    /// Puts the instance back; true if its task has nothing more to do.
    fn put_back(self: &Arc<Self>, key: InstanceKey, resident: Option<Box<Resident>>) -> bool {
        let waits = resident.as_ref().and_then(|resident| resident.guest.as_ref());
        let memory = waits.map(|live| live.guest.memory_bytes());
        let mut evicted = Vec::new();
        let idle = {
            let mut slots = self.slots();
            let Some(slot) = slots.get_mut(&key) else { return true };
            let idle = slot.mailbox.is_empty();
            slot.running = !idle;
            match memory {
                Some(memory) => {
                    slot.resident = resident;
                    if idle {
                        evicted = self.residents.insert(key, memory);
                    }
                }
                None if idle => drop(slots.remove(&key)),
                None => {}
            }
            idle
        };
        evicted.into_iter().for_each(|key| self.evict(key));
        idle
    }

    /// Drops a waiting guest. One that has begun to run again stays: it takes its place anew afterwards.
    fn evict(&self, key: InstanceKey) {
        let dropped = {
            let mut slots = self.slots();
            // Between its choice and now it may have run and found a place again.
            let waits = |slot: &Slot| !slot.running && slot.mailbox.is_empty() && !self.residents.contains(key);
            if slots.get(&key).is_some_and(waits) { slots.remove(&key) } else { None }
        };
        if dropped.is_some() {
            self.counters.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the instance that asks is the only one that takes a turn.
    fn is_alone(&self) -> bool {
        self.tasks.load(Ordering::SeqCst) <= 1
    }

    /// Room for a guest beside those of the instances, so that replays don't find the pool empty.
    pub async fn guest_room(&self) -> Result<OwnedSemaphorePermit, RuntimeError> {
        self.room.clone().acquire_owned().await.map_err(|_| internal("the host has stopped"))
    }

    /// Waits until no instance has a task.
    pub async fn settled(&self) {
        loop {
            let notified = self.idle.notified();
            if self.tasks.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// Waits for the answer to a post.
pub async fn answered<T>(answer: oneshot::Receiver<Result<T, RuntimeError>>) -> Result<T, RuntimeError> {
    answer.await.unwrap_or_else(|_| Err(internal("an instance's task ended without an answer")))
}

fn mailbox_full() -> RuntimeError {
    let message = format!("{MAILBOX_MAX} inputs wait for this instance already; try again in a moment");
    RuntimeError::new(crate::error::ErrorKind::Unavailable, "instance.busy", message)
}
