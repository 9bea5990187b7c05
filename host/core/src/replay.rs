//! The guest's view of its history.
//!
//! While the guest runs, every command it issues is compared with the recorded one, or recorded if the
//! guest is further than it has ever been. While it waits, inbound events are applied one at a time
//! until its wait is satisfied. Because a command remembers the inbound event that the guest had last
//! seen (its *cause*), inbound events may be recorded while the guest can't run, and still every replay
//! applies each of them at the same wait.
//!
//! A turn that was never finished (the guest trapped, the host died) left no commands behind: the run is
//! known to be complete only through the inbound event [`Replay::ran_through`]. Up to there a command
//! that is not in the history is a divergence; after it, it is new.

use crate::child::ChildOptions;
use crate::entity::EntityId;
use crate::event::{Event, EventBody};
use crate::failure::{Failure, FailureKind, Json, Outcome};
use crate::ids::{EventId, InstanceId, RunNumber};
use crate::limits::{LimitExceeded, Limits, check};
use crate::random::Random;
use crate::retry::ActivityOptions;
use crate::signal::SignalQueues;
use crate::time::{Nanos, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The guest did something else than its history says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("the workflow does not match its history at event {event}: expected {expected}, got {got}")]
pub struct Divergence {
    /// The first event that does not match.
    pub event: EventId,
    /// What the history has there.
    pub expected: String,
    /// What the guest did.
    pub got: String,
}

/// Why the guest can't go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stop {
    /// It does not match its history: the instance pauses.
    #[error(transparent)]
    Diverged(#[from] Box<Divergence>),
    /// It reached a limit: the instance fails.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// It used the contract wrongly: the instance fails.
    #[error("{0}")]
    Misuse(String),
}

/// Who is running, from the first event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The instance's id.
    pub instance: String,
    /// The deployment's name.
    pub workflow: String,
    /// The deployment's version.
    pub version: String,
    /// The workflow's input.
    pub input: Json,
    /// The run whose history this was made of, if it was rewound.
    pub rewound_from: Option<RunNumber>,
}

/// What new callbacks are created with; recorded ones keep their own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CallbackOrigin {
    /// The public base URL.
    pub base_url: String,
    /// The key that signs tokens.
    pub key_id: u32,
}

/// How a wait is satisfied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitMode {
    /// By one of its operations.
    Any,
    /// By all of them.
    All,
}

#[derive(Debug)]
struct View {
    kind: ViewKind,
    outcome: Option<Settled>,
    read: bool,
    handles: u32,
}

#[derive(Debug)]
enum ViewKind {
    Plain,
    Callback(CallbackOrigin),
    Signal(String),
    Lock,
}

#[derive(Debug)]
struct Settled {
    order: u64,
    outcome: Outcome,
}

#[derive(Debug)]
struct Wait {
    mode: WaitMode,
    ops: Vec<EventId>,
    /// Those that have not settled, each once however often the guest named it.
    left: BTreeSet<EventId>,
    /// One has settled since the wait began.
    woken: bool,
}

impl Wait {
    fn is_satisfied(&self) -> bool {
        match self.mode {
            WaitMode::Any => self.woken,
            WaitMode::All => self.left.is_empty(),
        }
    }
}

#[derive(Debug, Default)]
struct TurnUse {
    commands: usize,
    bytes: usize,
}

/// The guest's view of its history.
#[derive(Debug)]
pub struct Replay {
    limits: Limits,
    origin: CallbackOrigin,
    started: Started,
    commands: VecDeque<Event>,
    inbound: VecDeque<Event>,
    complete_through: EventId,
    applied: EventId,
    applied_time: Timestamp,
    turn_time: Timestamp,
    last: EventId,
    fresh: Vec<Event>,
    turn: TurnUse,
    views: BTreeMap<EventId, View>,
    unsettled: usize,
    settled_count: u64,
    signals: SignalQueues<Json>,
    wait: Option<Wait>,
    random: Random,
    cancel_requested: Option<String>,
    ended_by_host: bool,
    /// The lock that is asked for or held.
    lock: Option<EventId>,
    depth: u32,
    continues: Option<(Json, bool)>,
}

/// Why a history can't be replayed at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the history does not begin with InstanceStarted; the store is damaged, restore it from a backup")]
pub struct NotAHistory;

impl Replay {
    /// A guest about to run against `history` (all events of the run, in order), whose turns are known to
    /// be complete through the inbound event `ran_through`.
    pub fn new(
        history: Vec<Event>,
        ran_through: EventId,
        limits: Limits,
        origin: CallbackOrigin,
    ) -> Result<Replay, NotAHistory> {
        let (last, last_time) = history.last().map(|event| (event.id, event.time)).ok_or(NotAHistory)?;
        let mut commands = VecDeque::new();
        let mut inbound = VecDeque::new();
        for event in history {
            if event.body.is_command() { commands.push_back(event) } else { inbound.push_back(event) }
        }
        let first = inbound.pop_front().ok_or(NotAHistory)?;
        let EventBody::InstanceStarted { instance, workflow, version, input, seed, lineage, .. } = first.body else {
            return Err(NotAHistory);
        };
        let (rewound_from, depth) = lineage.map_or((None, 0), |lineage| (lineage.rewound_from, lineage.depth));
        Ok(Replay {
            limits,
            origin,
            started: Started { instance, workflow, version, input, rewound_from },
            commands,
            inbound,
            complete_through: ran_through,
            applied: first.id,
            applied_time: first.time,
            turn_time: last_time,
            last,
            fresh: Vec::new(),
            turn: TurnUse::default(),
            views: BTreeMap::new(),
            unsettled: 0,
            settled_count: 0,
            signals: SignalQueues::default(),
            wait: None,
            random: Random::new(seed),
            cancel_requested: None,
            ended_by_host: false,
            lock: None,
            depth,
            continues: None,
        })
    }

    /// Who is running.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The time in the workflow.
    pub fn now(&self) -> Timestamp {
        self.applied_time
    }

    /// The reason of a request to cancel that the guest has seen.
    pub fn cancel_requested(&self) -> Option<&str> {
        self.cancel_requested.as_deref()
    }

    /// The generator of all random numbers of the run.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Whether the guest is where it has been before; its log is silent then.
    pub fn is_replaying(&self) -> bool {
        self.applied <= self.complete_through
    }

    /// The last inbound event applied: with a turn's commands committed, the run is complete through it.
    pub fn ran_through(&self) -> EventId {
        self.applied
    }

    /// Begins a turn: new commands get this time, and the limits per turn count from zero. They do so too
    /// with every inbound event applied, so that a guest that catches up in one go reaches no limit that it
    /// would not have reached event by event.
    pub fn begin_turn(&mut self, now: Timestamp) {
        self.turn_time = self.turn_time.max(now);
        self.turn = TurnUse::default();
    }

    /// A new inbound event; it must be the one after the last.
    pub fn push_inbound(&mut self, event: Event) {
        debug_assert_eq!(event.id, self.last.next(), "inbound events come in order");
        self.last = event.id;
        self.turn_time = self.turn_time.max(event.time);
        self.inbound.push_back(event);
    }

    /// Takes the commands issued since the last call, to be committed.
    pub fn take_fresh(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.fresh)
    }

    // ---- commands of the guest -------------------------------------------------------------------

    /// Schedules an activity.
    pub fn schedule_activity(&mut self, name: String, input: Json, options: ActivityOptions) -> Result<EventId, Stop> {
        self.check_name("the activity's name", name.len())?;
        self.check_payload("the activity's input", input.len())?;
        self.check_payload("the text of the activity's options", options.len_bytes())?;
        self.begin(EventBody::ActivityScheduled { name, input, options }, ViewKind::Plain)
    }

    /// Starts a timer.
    pub fn start_timer(&mut self, deadline: Timestamp) -> Result<EventId, Stop> {
        self.begin(EventBody::TimerStarted { deadline }, ViewKind::Plain)
    }

    /// Creates a callback.
    pub fn create_callback(&mut self, name: String, expires: Option<Nanos>) -> Result<EventId, Stop> {
        self.check_name("the callback's name", name.len())?;
        let recorded = self.commands.front().and_then(|event| match &event.body {
            EventBody::CallbackCreated { base_url, key_id, .. } => {
                Some(CallbackOrigin { base_url: base_url.clone(), key_id: *key_id })
            }
            _ => None,
        });
        let origin = recorded.unwrap_or_else(|| self.origin.clone());
        let body = EventBody::CallbackCreated {
            name,
            expires: expires.map(|length| self.now().after(length)),
            base_url: origin.base_url.clone(),
            key_id: origin.key_id,
        };
        self.begin(body, ViewKind::Callback(origin))
    }

    /// Where a callback's URL comes from; none if `op` is no callback that the guest still holds.
    pub fn callback_origin(&self, op: EventId) -> Option<&CallbackOrigin> {
        match &self.views.get(&op)?.kind {
            ViewKind::Callback(origin) => Some(origin),
            _ => None,
        }
    }

    /// Asks for the next signal of a name.
    pub fn next_signal(&mut self, name: String) -> Result<EventId, Stop> {
        self.check_name("the signal's name", name.len())?;
        let op = self.begin(EventBody::SignalAwaited { name: name.clone() }, ViewKind::Signal(name.clone()))?;
        if let Some(handed) = self.signals.await_next(&name, op) {
            self.settle(handed.waiter, Ok(handed.payload));
        }
        Ok(op)
    }

    /// Starts a child workflow.
    pub fn start_child(
        &mut self,
        id: String,
        workflow: String,
        input: Json,
        options: ChildOptions,
    ) -> Result<EventId, Stop> {
        self.check_start(&id, &workflow, &input)?;
        self.check_payload("the text of the child's options", options.len_bytes())?;
        if !self.is_replaying() {
            let depth = usize::try_from(self.depth).unwrap_or(usize::MAX).saturating_add(1);
            check("child-depth", "too many workflows stand above the child", depth, self.limits.child_depth)?;
        }
        self.begin(EventBody::ChildStarted { id, workflow, input, options }, ViewKind::Plain)
    }

    /// Starts an instance that belongs to nobody.
    pub fn start_detached(
        &mut self,
        id: String,
        workflow: String,
        version: Option<String>,
        input: Json,
    ) -> Result<EventId, Stop> {
        self.check_start(&id, &workflow, &input)?;
        self.check_name("the workflow's version", version.as_ref().map_or(0, String::len))?;
        self.begin(EventBody::StartSent { id, workflow, version, input }, ViewKind::Plain)
    }

    fn check_start(&self, id: &str, workflow: &str, input: &str) -> Result<(), Stop> {
        if !self.is_replaying() {
            InstanceId::new(id).map_err(|error| Stop::Misuse(error.to_string()))?;
        }
        self.check_name("the workflow's name", workflow.len())?;
        self.check_payload("the input", input.len())
    }

    /// Sends a signal to another instance.
    pub fn send_signal(&mut self, instance: String, name: String, payload: Json) -> Result<EventId, Stop> {
        self.check_name("the signal's name", name.len())?;
        self.check_payload("the signal's payload", payload.len())?;
        self.check_name("the id of the instance that is signalled", instance.len())?;
        self.begin(EventBody::SignalSent { instance, name, payload }, ViewKind::Plain)
    }

    /// Asks another instance to cancel.
    pub fn send_cancel(&mut self, instance: String, reason: String) -> Result<EventId, Stop> {
        self.check_name("the id of the instance that is asked to cancel", instance.len())?;
        self.check_payload("the reason to cancel", reason.len())?;
        self.begin(EventBody::CancelSent { instance, reason }, ViewKind::Plain)
    }

    /// Asks an entity to do something.
    pub fn call_entity(&mut self, entity: EntityId, operation: String, input: Json) -> Result<EventId, Stop> {
        self.check_operation(&operation, &input)?;
        self.begin(EventBody::EntityCalled { entity, operation, input }, ViewKind::Plain)
    }

    /// Tells an entity to do something.
    pub fn signal_entity(&mut self, entity: EntityId, operation: String, input: Json) -> Result<(), Stop> {
        self.check_operation(&operation, &input)?;
        self.command(EventBody::EntitySignalled { entity, operation, input }).map(drop)
    }

    fn check_operation(&self, operation: &str, input: &str) -> Result<(), Stop> {
        self.check_name("the name of the entity's operation", operation.len())?;
        self.check_payload("the input of the entity's operation", input.len())
    }

    /// Asks for a lock over entities, in the order of their ids. One at a time: a second one could wait for the first
    /// of another workflow that waits for this one's.
    pub fn lock(&mut self, mut entities: Vec<EntityId>) -> Result<EventId, Stop> {
        entities.sort_unstable();
        entities.dedup();
        if entities.is_empty() {
            return Err(Stop::Misuse("a lock over no entities was asked for; name at least one".to_owned()));
        }
        if !self.is_replaying() {
            let limit = self.limits.locked_entities;
            check("locked-entities", "a lock over too many entities", entities.len(), limit)?;
        }
        if self.lock.is_some() {
            let text = "a second lock was asked for while the first is asked for or held; lock all entities at once";
            return Err(Stop::Misuse(text.to_owned()));
        }
        let op = self.begin(EventBody::LockRequested { entities }, ViewKind::Lock)?;
        self.lock = Some(op);
        Ok(op)
    }

    /// Gives a lock back, or the request for it up.
    pub fn release_lock(&mut self, op: EventId) -> Result<(), Stop> {
        if self.lock != Some(op) {
            return Ok(());
        }
        self.lock = None;
        let held = self.views.get(&op).and_then(|view| view.outcome.as_ref()).is_some_and(|s| s.outcome.is_ok());
        if held { self.command(EventBody::LockReleased { op }).map(drop) } else { self.cancel(op) }
    }

    /// Says that the workflow, when it returns, goes on in a new run.
    pub fn continue_as_new(&mut self, input: Json, newest: bool) -> Result<(), Stop> {
        self.check_payload("the input of the next run", input.len())?;
        self.continues = Some((input, newest));
        Ok(())
    }

    /// Cancels an operation, if it has not settled; gives back a signal that was not read.
    pub fn cancel(&mut self, op: EventId) -> Result<(), Stop> {
        let Some(view) = self.views.get(&op) else { return Ok(()) };
        let is_signal = matches!(view.kind, ViewKind::Signal(_));
        let unread_signal = is_signal && !view.read && view.outcome.as_ref().is_some_and(|s| s.outcome.is_ok());
        if view.outcome.is_some() && !unread_signal {
            return Ok(());
        }
        self.command(EventBody::OperationCancelled { op })?;
        let cancelled = Err(Failure::cancelled("the workflow cancelled the operation"));
        if unread_signal {
            self.give_back(op, cancelled);
            return Ok(());
        }
        self.forget_waiter(op);
        self.settle(op, cancelled);
        Ok(())
    }

    /// The guest dropped a handle to the operation; with the last one the operation is forgotten.
    pub fn release(&mut self, op: EventId) {
        let Some(view) = self.views.get_mut(&op) else { return };
        view.handles -= 1;
        if view.handles > 0 {
            return;
        }
        let Some(view) = self.views.remove(&op) else { return };
        if view.outcome.is_none() {
            self.unsettled -= 1;
        }
        self.signals.read(op);
    }

    /// Sets the custom status.
    pub fn set_status(&mut self, status: Json) -> Result<(), Stop> {
        self.check_payload("the custom status", status.len())?;
        self.command(EventBody::StatusSet { status }).map(drop)
    }

    /// Whether a change is in force for this run.
    pub fn patched(&mut self, change: String) -> Result<bool, Stop> {
        self.check_name("the change id", change.len())?;
        let recorded_next = self.commands.front().is_some_and(|event| {
            event.cause == self.applied
                && matches!(&event.body, EventBody::ChangePatched { change: recorded } if *recorded == change)
        });
        if self.is_replaying() && !recorded_next {
            return Ok(false);
        }
        self.command(EventBody::ChangePatched { change }).map(|_| true)
    }

    /// The workflow returned.
    pub fn finish(&mut self, result: Outcome) -> Result<(), Stop> {
        let body = match result {
            _ if self.continues.is_some() => {
                let (input, newest) = self.continues.take().unwrap_or_default();
                EventBody::InstanceContinued { input, newest }
            }
            Ok(output) => {
                self.check_payload("the workflow's output", output.len())?;
                EventBody::InstanceCompleted { output }
            }
            Err(failure) => {
                self.check_payload("the workflow's failure", failure.len_bytes())?;
                let cancelled = failure.kind == FailureKind::Cancelled && self.cancel_requested.is_some();
                if cancelled { EventBody::InstanceCancelled { failure } } else { EventBody::InstanceFailed { failure } }
            }
        };
        self.command(body)?;
        match self.commands.front() {
            Some(left) => Err(diverged(left.id, left.body.describe(), "the workflow returned".to_owned())),
            None => Ok(()),
        }
    }

    fn check_name(&self, what: &str, bytes: usize) -> Result<(), Stop> {
        if self.is_replaying() {
            return Ok(());
        }
        Ok(self.limits.check_name(what, bytes)?)
    }

    fn check_payload(&self, what: &str, bytes: usize) -> Result<(), Stop> {
        if self.is_replaying() {
            return Ok(());
        }
        Ok(self.limits.check_payload(what, bytes)?)
    }

    fn begin(&mut self, body: EventBody, kind: ViewKind) -> Result<EventId, Stop> {
        if !self.is_replaying() {
            check(
                "open-operations",
                "too many operations are under way",
                self.unsettled + 1,
                self.limits.open_operations,
            )?;
        }
        let op = self.command(body)?;
        self.views.insert(op, View { kind, outcome: None, read: false, handles: 1 });
        self.unsettled += 1;
        Ok(op)
    }

    fn command(&mut self, body: EventBody) -> Result<EventId, Stop> {
        match self.commands.front() {
            Some(recorded) if recorded.cause == self.applied => {
                if recorded.body != body {
                    let (expected, mut got) = (recorded.body.describe(), body.describe());
                    if got == expected {
                        got.push_str(", different further on than is shown here");
                    }
                    return Err(diverged(recorded.id, expected, got));
                }
                let id = recorded.id;
                self.commands.pop_front();
                Ok(id)
            }
            None if !self.is_replaying() => self.record(body),
            _ => Err(self.diverged_instead_of_waiting(&body)),
        }
    }

    /// A command where the history has none, because the guest waited there.
    fn diverged_instead_of_waiting(&self, got: &EventBody) -> Stop {
        let (event, expected) = match self.inbound.front() {
            Some(next) => (next.id, format!("the workflow to wait for {}", next.body.describe())),
            None => (self.last.next(), "the workflow to wait".to_owned()),
        };
        diverged(event, expected, got.describe())
    }

    fn record(&mut self, body: EventBody) -> Result<EventId, Stop> {
        let limits = &self.limits;
        self.turn.commands += 1;
        self.turn.bytes += body.len_bytes();
        check(
            "commands-per-turn",
            "too many commands between two waits",
            self.turn.commands,
            limits.commands_per_turn,
        )?;
        check("turn-bytes", "the commands of one turn are too large in bytes", self.turn.bytes, limits.turn_bytes)?;
        let id = self.last.next();
        if id.0 > limits.history_events && !body.is_terminal() {
            let what = "the history of this run is too long in events".to_owned();
            let (found, limit) = (id.0, limits.history_events);
            return Err(LimitExceeded { name: "history-events".to_owned(), what, found, limit }.into());
        }
        self.last = id;
        self.fresh.push(Event { id, time: self.turn_time, cause: self.applied, body });
        Ok(id)
    }

    // ---- waiting ---------------------------------------------------------------------------------

    /// The outcome of an operation, if the guest may see it; reading it takes a signal for good.
    pub fn read(&mut self, op: EventId) -> Option<Outcome> {
        let view = self.views.get_mut(&op)?;
        let settled = view.outcome.as_ref()?;
        let outcome = settled.outcome.clone();
        view.read = true;
        self.signals.read(op);
        Some(outcome)
    }

    /// Whether an operation has settled. One that was released counts as settled: nobody can wait for it.
    pub fn is_settled(&self, op: EventId) -> bool {
        self.views.get(&op).is_none_or(|view| view.outcome.is_some())
    }

    /// The guest waits. True: the wait is satisfied and the guest may go on.
    pub fn wait(&mut self, mode: WaitMode, ops: &[EventId]) -> bool {
        let left: BTreeSet<EventId> = ops.iter().filter(|op| !self.is_settled(**op)).copied().collect();
        let satisfied = match mode {
            WaitMode::Any => ops.iter().any(|op| !left.contains(op)),
            WaitMode::All => left.is_empty(),
        };
        self.wait = (!satisfied).then(|| Wait { mode, ops: ops.to_vec(), left, woken: false });
        satisfied
    }

    /// Adds one operation, which has not settled, to what the guest waits for, of which any may satisfy it: for waits
    /// that are made up of several, like a poll of WASI.
    pub fn wait_also(&mut self, op: EventId) {
        match &mut self.wait {
            Some(wait) => {
                wait.ops.push(op);
                wait.left.insert(op);
            }
            None => drop(self.wait(WaitMode::Any, &[op])),
        }
    }

    /// Forgets what the guest waited for: it runs.
    pub fn clear_wait(&mut self) {
        self.wait = None;
    }

    /// One more handle to an operation; it takes as many [`Replay::release`]s to forget it.
    pub fn retain(&mut self, op: EventId) {
        if let Some(view) = self.views.get_mut(&op) {
            view.handles += 1;
        }
    }

    /// Which of these have settled, as indexes, in the order in which they settled.
    pub fn settled_among(&self, ops: &[EventId]) -> Vec<u32> {
        let order = |op: &EventId| self.views.get(op).and_then(|view| view.outcome.as_ref()).map(|s| s.order);
        let mut settled: Vec<(u64, u32)> =
            ops.iter().zip(0..).filter_map(|(op, index)| order(op).map(|order| (order, index))).collect();
        settled.sort_unstable();
        settled.into_iter().map(|(_, index)| index).collect()
    }

    /// What the guest waits for; empty if it does not wait.
    pub fn waiting_on(&self) -> &[EventId] {
        self.wait.as_ref().map_or(&[], |wait| &wait.ops)
    }

    /// Whether the guest is waiting (as opposed to having been interrupted while it ran).
    pub fn is_waiting(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether the history ends with an event by which the host ended the instance.
    pub fn ended_by_host(&self) -> bool {
        self.ended_by_host
    }

    /// Applies recorded inbound events until the guest's wait is satisfied. False: nothing is left to
    /// apply, the guest goes on waiting.
    pub fn unblock(&mut self) -> Result<bool, Stop> {
        loop {
            match &self.wait {
                None => return Ok(true),
                Some(wait) if wait.is_satisfied() => {
                    self.wait = None;
                    return Ok(true);
                }
                Some(_) => {}
            }
            if let Some(expected) = self.commands.front().filter(|command| command.cause <= self.applied) {
                let got = "the workflow waits".to_owned();
                return Err(diverged(expected.id, expected.body.describe(), got));
            }
            match self.inbound.pop_front() {
                Some(event) => self.apply(event),
                None => return Ok(false),
            }
        }
    }

    fn apply(&mut self, event: Event) {
        self.applied = event.id;
        self.turn = TurnUse::default();
        self.applied_time = self.applied_time.max(event.time);
        match event.body {
            EventBody::ActivityCompleted { op, output, .. } => self.settle(op, Ok(output)),
            EventBody::ActivityFailed { op, failure, .. } => self.settle(op, Err(failure)),
            EventBody::TimerFired { op } | EventBody::LockGranted { op, left: 0 } => {
                self.settle(op, Ok("null".to_owned()));
            }
            EventBody::ReplyReceived { op, outcome } => self.settle(op, outcome),
            EventBody::CallbackSettled { op, outcome, .. } => self.settle(op, outcome),
            EventBody::CallbackExpired { op } => {
                let message = "nobody called back before the callback expired";
                self.settle(op, Err(Failure::new(FailureKind::TimedOut, "timeout.callback", message)));
            }
            EventBody::SignalReceived { name, payload, .. } => {
                if let Some(handed) = self.signals.receive(&name, event.id, payload) {
                    self.settle(handed.waiter, Ok(handed.payload));
                }
            }
            EventBody::CancelRequested { reason } => {
                let open = self.views.iter().filter(|(_, view)| view.outcome.is_none());
                let open: Vec<EventId> = open.map(|(op, _)| *op).collect();
                for op in open {
                    self.forget_waiter(op);
                    self.settle(op, Err(Failure::cancelled(&reason)));
                }
                self.cancel_requested = Some(reason);
            }
            body if body.is_terminal() => self.ended_by_host = true,
            _ => {}
        }
    }

    fn settle(&mut self, op: EventId, outcome: Outcome) {
        let Some(view) = self.views.get_mut(&op).filter(|view| view.outcome.is_none()) else { return };
        self.settled_count += 1;
        self.unsettled -= 1;
        let failed = outcome.is_err();
        view.outcome = Some(Settled { order: self.settled_count, outcome });
        if let Some(wait) = &mut self.wait {
            wait.woken |= wait.left.remove(&op);
        }
        // A lock that was refused or cancelled is no lock.
        if matches!(view.kind, ViewKind::Lock) && failed && self.lock == Some(op) {
            self.lock = None;
        }
    }

    /// Turns a handed but unread signal wait into a cancelled one; the signal may go to another waiter.
    fn give_back(&mut self, op: EventId, cancelled: Outcome) {
        let Some(view) = self.views.get_mut(&op) else { return };
        let Some(settled) = &mut view.outcome else { return };
        let Ok(payload) = std::mem::replace(&mut settled.outcome, cancelled) else { return };
        if let Some(handed) = self.signals.give_back(op, payload) {
            self.settle(handed.waiter, Ok(handed.payload));
        }
    }

    fn forget_waiter(&mut self, op: EventId) {
        if let Some(View { kind: ViewKind::Signal(name), .. }) = self.views.get(&op) {
            let name = name.clone();
            self.signals.forget_waiter(&name, op);
        }
    }
}

fn diverged(event: EventId, expected: String, got: String) -> Stop {
    Stop::Diverged(Box::new(Divergence { event, expected, got }))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "replay_reach_tests.rs"]
mod reach_tests;

#[cfg(test)]
#[path = "replay_property_tests.rs"]
mod property_tests;
