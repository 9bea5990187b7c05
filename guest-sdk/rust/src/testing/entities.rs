//! Entities, in tests: those of the workflow's own code base, or closures. Operations take no time, but are performed
//! one after another and only while no other's lock is in the way.

use super::{Child, Happening, SELF, Sent, State, TestHost, step, text};
use crate::child_call::ChildOptions;
use crate::entity::{Entity, EntityContext, OperationInfo};
use crate::entity_ref::EntityId;
use crate::failure::{Failure, FailureKind};
use crate::host::Level;
use crate::reactor::Outcome;
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::{Ref, RefCell, RefMut};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

type Handler = Rc<RefCell<dyn FnMut(EntityContext, &str, &str) -> Result<String, Failure>>>;

/// All entities, and the lock that the workflow asks for or holds.
#[derive(Default)]
pub(super) struct Entities {
    handlers: HashMap<String, Handler>,
    kept: BTreeMap<EntityId, Kept>,
    lock: Option<LockState>,
}

#[derive(Default)]
struct Kept {
    values: BTreeMap<String, String>,
    holder: Option<Holder>,
    /// What waits for the lock to be released, with its number in the order of happening.
    waiting: Vec<(u64, Message)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Workflow,
    Other,
}

struct LockState {
    operation: u64,
    entities: Vec<EntityId>,
    granted: usize,
}

/// A message to an entity.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub to: EntityId,
    pub caller: Option<String>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Perform an operation; who waits for the answer.
    Perform(String, String, Option<u64>),
    /// Be locked by the workflow.
    Lock,
    /// Be locked by another for that long.
    Hold(Duration),
    /// Be released by that other.
    Free,
}

impl TestHost {
    /// The entities of that name are of this kind. An operation for a name that has no kind fails with kind
    /// `not-found`; a signal to one is dropped.
    ///
    /// ```
    /// # use rehydrate::{Context, Failure, testing::TestHost};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Counter(i64);
    ///
    /// #[rehydrate::entity]
    /// impl Counter {
    ///     fn add(&mut self, n: i64) -> Result<i64, Failure> {
    ///         self.0 += n;
    ///         Ok(self.0)
    ///     }
    /// }
    ///
    /// let host = TestHost::new();
    /// host.entity::<Counter>("counter");
    /// assert_eq!(host.call_entity::<i64>("counter", "a", "add", &3), Ok(3));
    /// assert_eq!(host.entity_state("counter", "a"), Some(3.into()));
    /// ```
    pub fn entity<E: Entity + 'static>(&self, name: &str) {
        self.0.borrow_mut().entities.handlers.insert(name.to_owned(), Rc::new(RefCell::new(E::handle)));
    }

    /// The entities of that name do what a closure does, with context, operation and input.
    pub fn entity_with(
        &self,
        name: &str,
        mut handler: impl FnMut(&EntityContext, &str, Value) -> Result<Value, Failure> + 'static,
    ) {
        let handler = move |ctx: EntityContext, operation: &str, input: &str| {
            let input = serde_json::from_str(input).expect("the SDK writes JSON");
            handler(&ctx, operation, input).map(|output| output.to_string())
        };
        self.0.borrow_mut().entities.handlers.insert(name.to_owned(), Rc::new(RefCell::new(handler)));
    }

    /// Has an entity perform an operation, as somebody outside, and lets happen what is to come until it has.
    pub fn call_entity<T: DeserializeOwned>(
        &self,
        name: &str,
        key: &str,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        let id = self.0.borrow_mut().open();
        self.perform(Duration::ZERO, EntityId::new(name, key), operation, text(input), Some(id));
        loop {
            let settled = self.0.borrow().operations.get(&id).and_then(|operation| operation.settled.clone());
            if let Some((_, outcome)) = settled {
                self.0.borrow_mut().operations.remove(&id);
                return Ok(serde_json::from_str(&outcome?)?);
            }
            step(&self.0);
        }
    }

    /// Signals an entity, as somebody outside, that long after now.
    pub fn signal_entity(
        &self,
        after: Duration,
        name: &str,
        key: &str,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) {
        self.perform(after, EntityId::new(name, key), operation, text(input), None);
    }

    fn perform(&self, after: Duration, to: EntityId, operation: &str, input: String, reply_to: Option<u64>) {
        let what = What::Perform(operation.to_owned(), input, reply_to);
        self.0.borrow_mut().happens(after, Happening::Entity(Message { to, caller: None, what }));
    }

    /// Another workflow holds the lock over that entity, for that long from now.
    pub fn hold_entity(&self, name: &str, key: &str, length: Duration) {
        let message = Message { to: EntityId::new(name, key), caller: None, what: What::Hold(length) };
        self.0.borrow_mut().happens(Duration::ZERO, Happening::Entity(message));
    }

    /// The state of an entity, which is its value under key `state`.
    pub fn entity_state(&self, name: &str, key: &str) -> Option<Value> {
        self.entity_values(name, key).remove("state")
    }

    /// All values of an entity.
    pub fn entity_values(&self, name: &str, key: &str) -> BTreeMap<String, Value> {
        let host = self.0.borrow();
        let values = host.entities.kept.get(&EntityId::new(name, key)).map(|kept| &kept.values);
        let value = |text: &String| serde_json::from_str(text).expect("the SDK writes JSON");
        values.into_iter().flatten().map(|(key, text)| (key.clone(), value(text))).collect()
    }
}

impl State {
    /// A message arrives. What it leads to, if the entity is to perform an operation.
    pub(super) fn arrive(&mut self, number: u64, message: Message) -> Option<Turn> {
        let is_own = message.caller.as_deref() == Some(SELF) && matches!(message.what, What::Perform(..));
        let kept = self.entities.kept.entry(message.to.clone()).or_default();
        let passes = match kept.holder {
            None => true,
            Some(Holder::Workflow) => is_own,
            Some(Holder::Other) => matches!(message.what, What::Free),
        };
        if !passes {
            kept.waiting.push((number, message));
            return None;
        }
        match message.what {
            What::Perform(operation, input, reply_to) => {
                let handler = self.entities.handlers.get(&message.to.name).cloned();
                let Some(handler) = handler else {
                    let text = format!("the test gave no entity `{}`", message.to.name);
                    let failure = Failure::new(FailureKind::NotFound, "no-such-entity", text);
                    self.answer(reply_to, Err(failure));
                    return None;
                };
                let is_call = reply_to.is_some();
                let info = OperationInfo { entity: message.to, caller: message.caller, is_call };
                return Some(Turn { handler, door: self.door(info), operation, input, reply_to });
            }
            What::Lock => {
                kept.holder = Some(Holder::Workflow);
                self.granted();
            }
            What::Hold(length) => {
                kept.holder = Some(Holder::Other);
                let free = Message { what: What::Free, ..message };
                self.happens(length, Happening::Entity(free));
            }
            What::Free => self.free(&message.to),
        }
        None
    }

    fn door(&mut self, info: OperationInfo) -> Door {
        let values = self.entities.kept.get(&info.entity).map(|kept| kept.values.clone()).unwrap_or_default();
        let (now, uuid) = (self.now, self.number());
        Door(Rc::new(RefCell::new(Work { info, now, values, effects: Vec::new(), log: Vec::new(), uuid })))
    }

    fn answer(&mut self, reply_to: Option<u64>, outcome: Outcome) {
        if let Some(id) = reply_to {
            self.settle(id, outcome);
        }
    }

    /// An operation was performed: all of it counts, or nothing.
    fn performed(&mut self, work: &mut Work, operation: &str, reply_to: Option<u64>, outcome: Outcome) {
        self.log.append(&mut work.log);
        let kept = self.entities.kept.entry(work.info.entity.clone()).or_default();
        let outcome = match outcome {
            Ok(output) => {
                kept.values = std::mem::take(&mut work.values);
                self.carry_out(work);
                Ok(output)
            }
            Err(failure) if operation == "delete" && failure.kind == FailureKind::NotFound => {
                kept.values.clear();
                Ok("null".to_owned())
            }
            Err(failure) => Err(failure),
        };
        self.answer(reply_to, outcome);
    }

    fn carry_out(&mut self, work: &mut Work) {
        for effect in std::mem::take(&mut work.effects) {
            match effect {
                Effect::Operation(to, operation, input) => {
                    let caller = Some(work.info.entity.to_string());
                    self.send_operation(to, caller, &operation, &input, None);
                }
                Effect::Signal(instance, name, payload) => {
                    let value = serde_json::from_str(&payload).expect("the SDK writes JSON");
                    self.sent.push(Sent::Signal { instance: instance.clone(), name: name.clone(), payload: value });
                    if instance == SELF {
                        self.happens(Duration::ZERO, Happening::Signal(name, payload));
                    }
                }
                Effect::Start(child) => self.children.push((None, child)),
            }
        }
    }

    /// Sends an operation to an entity.
    pub(super) fn send_operation(
        &mut self,
        to: EntityId,
        caller: Option<String>,
        operation: &str,
        input: &str,
        reply_to: Option<u64>,
    ) {
        self.sent.push(Sent::Operation {
            entity: to.clone(),
            operation: operation.to_owned(),
            input: serde_json::from_str(input).expect("the SDK writes JSON"),
            is_call: reply_to.is_some(),
        });
        let what = What::Perform(operation.to_owned(), input.to_owned(), reply_to);
        self.happens(Duration::ZERO, Happening::Entity(Message { to, caller, what }));
    }

    /// The workflow asks for a lock. What the host would stop it for is a panic here.
    pub(super) fn ask_lock(&mut self, on: &[EntityId]) -> u64 {
        assert!(!on.is_empty(), "a lock over no entities was asked for; name at least one");
        assert!(self.entities.lock.is_none(), "a second lock was asked for while the first is asked for or held");
        let operation = self.open();
        let mut entities = on.to_vec();
        entities.sort();
        entities.dedup();
        self.entities.lock = Some(LockState { operation, entities, granted: 0 });
        self.lock_next();
        operation
    }

    fn lock_next(&mut self) {
        let Some(lock) = &self.entities.lock else { return };
        match lock.entities.get(lock.granted).cloned() {
            Some(to) => {
                let message = Message { to, caller: Some(SELF.to_owned()), what: What::Lock };
                self.happens(Duration::ZERO, Happening::Entity(message));
            }
            None => self.settle(lock.operation, Ok("null".to_owned())),
        }
    }

    fn granted(&mut self) {
        if let Some(lock) = &mut self.entities.lock {
            lock.granted += 1;
        }
        self.lock_next();
    }

    /// The workflow gives its lock back, or the request for it up.
    pub(super) fn release_lock(&mut self, operation: u64) {
        let Some(lock) = self.entities.lock.take_if(|lock| lock.operation == operation) else { return };
        let asks = |message: &Message| matches!(message.what, What::Lock);
        self.to_come.retain(|_, what| !matches!(what, Happening::Entity(message) if asks(message)));
        for entity in lock.entities {
            let Some(kept) = self.entities.kept.get_mut(&entity) else { continue };
            kept.waiting.retain(|(_, message)| !asks(message));
            if kept.holder == Some(Holder::Workflow) {
                self.free(&entity);
            }
        }
    }

    /// The lock over that entity is gone: what waited for it comes again, before everything that came later.
    fn free(&mut self, entity: &EntityId) {
        let Some(kept) = self.entities.kept.get_mut(entity) else { return };
        kept.holder = None;
        for (number, message) in std::mem::take(&mut kept.waiting) {
            self.to_come.insert((self.now, number), Happening::Entity(message));
        }
    }
}

/// An operation about to be performed.
pub(super) struct Turn {
    handler: Handler,
    door: Door,
    operation: String,
    input: String,
    reply_to: Option<u64>,
}

impl Turn {
    /// Performs it. Not while the host is borrowed: a closure may use the host.
    pub(super) fn perform(self, host: &RefCell<State>) {
        let ctx = EntityContext::new(self.door.clone());
        let outcome = (self.handler.borrow_mut())(ctx, &self.operation, &self.input);
        host.borrow_mut().performed(&mut self.door.work_mut(), &self.operation, self.reply_to, outcome);
    }
}

/// What an operation has done so far.
struct Work {
    info: OperationInfo,
    now: Timestamp,
    values: BTreeMap<String, String>,
    effects: Vec<Effect>,
    log: Vec<(Level, String)>,
    uuid: u64,
}

enum Effect {
    Operation(EntityId, String, String),
    Signal(String, String, String),
    Start(Child),
}

/// The imports of world `entity`, answered by the test host.
#[derive(Clone)]
pub(crate) struct Door(Rc<RefCell<Work>>);

impl Door {
    fn work(&self) -> Ref<'_, Work> {
        self.0.borrow()
    }

    fn work_mut(&self) -> RefMut<'_, Work> {
        self.0.borrow_mut()
    }

    pub(crate) fn info(&self) -> OperationInfo {
        self.work().info.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.work().now
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.work().values.get(key).cloned()
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.work_mut().values.insert(key.to_owned(), value.to_owned());
    }

    pub(crate) fn remove(&self, key: &str) {
        self.work_mut().values.remove(key);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.work().values.keys().cloned().collect()
    }

    pub(crate) fn signal_entity(&self, on: &EntityId, operation: &str, input: &str) {
        self.work_mut().effects.push(Effect::Operation(on.clone(), operation.to_owned(), input.to_owned()));
    }

    pub(crate) fn signal_instance(&self, instance: &str, name: &str, payload: &str) {
        let effect = Effect::Signal(instance.to_owned(), name.to_owned(), payload.to_owned());
        self.work_mut().effects.push(effect);
    }

    pub(crate) fn start(&self, workflow: &str, id: &str, input: &str, version: Option<&str>) {
        let options = ChildOptions { version: version.map(str::to_owned), ..ChildOptions::default() };
        let child = Child { detached: true, ..Child::new(workflow, id, input, &options, self.now()) };
        self.work_mut().effects.push(Effect::Start(child));
    }

    pub(crate) fn uuid(&self) -> String {
        let mut work = self.work_mut();
        work.uuid = work.uuid.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        format!("00000000-0000-4000-8000-{:012x}", work.uuid >> 16)
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        self.work_mut().log.push((level, message.to_owned()));
    }
}

#[cfg(test)]
#[path = "entities_tests.rs"]
mod tests;
