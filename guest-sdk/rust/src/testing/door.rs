//! The functions of [`crate::host`], answered by the test host that is running.

use super::{Call, Child, Continued, Happening, Operation, RUNNING, Reply, SELF, Sent, State, step};
use crate::child_call::ChildOptions;
use crate::entity_ref::EntityId;
use crate::failure::{Failure, FailureKind};
use crate::host::{Info, Level};
use crate::reactor::{Outcome, Wait};
use crate::retry::ActivityOptions;
use crate::time::Timestamp;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

fn running() -> Rc<RefCell<State>> {
    RUNNING.with_borrow(Clone::clone).expect("a workflow runs natively only under `TestHost::run`")
}

fn with<R>(what: impl FnOnce(&mut State) -> R) -> R {
    what(&mut running().borrow_mut())
}

pub(crate) struct Pending {
    id: u64,
    host: Rc<RefCell<State>>,
    /// It belongs to a callback or a lock, and may be dropped freely.
    is_owned: bool,
}

fn pending(open: impl FnOnce(&mut State) -> u64) -> Pending {
    let host = running();
    let id = open(&mut host.borrow_mut());
    Pending { id, host, is_owned: false }
}

impl Wait for Pending {
    fn get(&self) -> Option<Outcome> {
        let mut host = self.host.borrow_mut();
        let operation: &mut Operation = host.operations.get_mut(&self.id)?;
        let outcome = operation.settled.as_ref().map(|(_, outcome)| outcome.clone())?;
        if let Some((_, read)) = &mut operation.signal {
            *read = true;
        }
        Some(outcome)
    }

    fn cancel(&self) {
        let mut host = self.host.borrow_mut();
        host.give_up(self.id);
        host.settle(self.id, Err(Failure::cancelled("cancelled by the workflow")));
    }

    fn wait(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.get() {
                return outcome;
            }
            step(&running());
        }
    }

    fn wait_any(on: &[&Self]) -> Vec<u32> {
        loop {
            let settled = with(|host| {
                let number = |op: &Operation| op.settled.as_ref().map(|(number, _)| *number);
                let settled_at = |pending: &Pending| host.operations.get(&pending.id).and_then(number);
                let on = (0..).zip(on);
                let mut settled: Vec<(u64, u32)> = on.filter_map(|(i, op)| Some((settled_at(op)?, i))).collect();
                settled.sort_unstable();
                settled
            });
            if !settled.is_empty() {
                return settled.into_iter().map(|(_, index)| index).collect();
            }
            step(&running());
        }
    }

    fn wait_all(on: &[&Self]) {
        while with(|host| on.iter().any(|op| host.operations.get(&op.id).is_some_and(|op| op.settled.is_none()))) {
            step(&running());
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut host = self.host.borrow_mut();
        if !self.is_owned {
            host.give_up(self.id);
            host.operations.remove(&self.id);
        }
    }
}

pub(crate) fn schedule(name: &str, input: &str, options: &ActivityOptions) -> Pending {
    let input = serde_json::from_str(input).expect("the SDK writes JSON");
    let call = Call { name: name.to_owned(), input, options: options.clone(), at: now() };
    let handler = with(|host| {
        host.calls.push(call.clone());
        host.handlers.get(name).cloned()
    });
    // Outside the borrow: a handler may use the host.
    let reply = match handler {
        Some(handler) => (handler.borrow_mut())(&call),
        None => missing("no-such-activity", format!("the test gave no activity `{name}`")),
    };
    replied(reply)
}

fn missing(code: &str, message: String) -> Reply {
    Reply::fail(Duration::ZERO, Failure::new(FailureKind::NotFound, code, message))
}

fn replied(reply: Reply) -> Pending {
    pending(|host| {
        let id = host.open();
        for (after, what) in reply.also {
            host.happens(after, what);
        }
        if let Some(outcome) = reply.outcome {
            host.happens(reply.after, Happening::Settle(id, outcome));
        }
        id
    })
}

pub(crate) fn start_child(workflow: &str, id: &str, input: &str, options: &ChildOptions) -> Pending {
    let child = Child::new(workflow, id, input, options, now());
    let handler = with(|host| host.child_handlers.get(workflow).cloned());
    let reply = match handler {
        Some(handler) => (handler.borrow_mut())(&child),
        None => missing("no-such-workflow", format!("the test gave no child workflow `{workflow}`")),
    };
    let pending = replied(reply);
    with(|host| host.children.push((Some(pending.id), child)));
    pending
}

pub(crate) fn start_detached(workflow: &str, id: &str, input: &str, version: Option<&str>) -> Pending {
    let options = ChildOptions { version: version.map(str::to_owned), ..ChildOptions::default() };
    let child = Child { detached: true, ..Child::new(workflow, id, input, &options, now()) };
    with(|host| host.children.push((None, child)));
    replied(Reply::ok(Duration::ZERO, &()))
}

pub(crate) fn signal_instance(instance: &str, name: &str, payload: &str) -> Pending {
    if instance == SELF {
        let signal = Happening::Signal(name.to_owned(), payload.to_owned());
        with(|host| host.happens(Duration::ZERO, signal));
    }
    let payload = serde_json::from_str(payload).expect("the SDK writes JSON");
    send(instance, Sent::Signal { instance: instance.to_owned(), name: name.to_owned(), payload })
}

pub(crate) fn cancel_instance(instance: &str, reason: &str) -> Pending {
    if instance == SELF {
        with(|host| host.happens(Duration::ZERO, Happening::Cancel(reason.to_owned())));
    }
    send(instance, Sent::Cancel { instance: instance.to_owned(), reason: reason.to_owned() })
}

fn send(to: &str, sent: Sent) -> Pending {
    let is_missing = with(|host| {
        host.sent.push(sent);
        host.missing.contains(to)
    });
    if is_missing {
        return replied(missing("no-such-instance", format!("the test says that there is no instance `{to}`")));
    }
    replied(Reply::ok(Duration::ZERO, &()))
}

pub(crate) fn call_entity(on: &EntityId, operation: &str, input: &str) -> Pending {
    pending(|host| {
        let id = host.open();
        host.send_operation(on.clone(), Some(SELF.to_owned()), operation, input, Some(id));
        id
    })
}

pub(crate) fn signal_entity(on: &EntityId, operation: &str, input: &str) {
    with(|host| host.send_operation(on.clone(), Some(SELF.to_owned()), operation, input, None));
}

pub(crate) struct LockHandle {
    id: u64,
    host: Rc<RefCell<State>>,
}

impl LockHandle {
    pub(crate) fn ask(on: &[EntityId]) -> LockHandle {
        let host = running();
        let id = host.borrow_mut().ask_lock(on);
        LockHandle { id, host }
    }

    pub(crate) fn acquired(&self) -> Pending {
        Pending { id: self.id, host: Rc::clone(&self.host), is_owned: true }
    }
}

impl Drop for LockHandle {
    fn drop(&mut self) {
        let mut host = self.host.borrow_mut();
        host.release_lock(self.id);
        host.operations.remove(&self.id);
    }
}

pub(crate) fn continue_as_new(input: &str, newest_version: bool) {
    let input = serde_json::from_str(input).expect("the SDK writes JSON");
    with(|host| host.continued = Some(Continued { input, newest_version }));
}

pub(crate) fn now() -> Timestamp {
    with(|host| host.now)
}

pub(crate) fn start_timer(deadline: Timestamp) -> Pending {
    pending(|host| {
        let id = host.open();
        host.happens(deadline.since(host.now), Happening::Settle(id, Ok("null".to_owned())));
        id
    })
}

pub(crate) struct CallbackHandle {
    id: u64,
    url: String,
    host: Rc<RefCell<State>>,
}

impl CallbackHandle {
    pub(crate) fn open(_name: &str, expires: Option<Duration>) -> CallbackHandle {
        let host = running();
        let mut state = host.borrow_mut();
        let id = state.open();
        let url = format!("https://host.test/callback/{id}");
        state.callbacks.insert(url.clone(), Some(id));
        if let Some(expires) = expires {
            state.happens(expires, Happening::Post(url.clone(), Err(Failure::timed_out("the callback expired"))));
        }
        drop(state);
        CallbackHandle { id, url, host }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending { id: self.id, host: Rc::clone(&self.host), is_owned: true }
    }
}

impl Drop for CallbackHandle {
    fn drop(&mut self) {
        let mut host = self.host.borrow_mut();
        host.callbacks.insert(self.url.clone(), None);
        host.operations.remove(&self.id);
    }
}

pub(crate) fn next_signal(name: &str) -> Pending {
    pending(|host| {
        let id = host.number();
        let operation = Operation { signal: Some((name.to_owned(), false)), ..Operation::default() };
        host.operations.insert(id, operation);
        host.takers.entry(name.to_owned()).or_default().push_back(id);
        host.hand_out(name);
        id
    })
}

pub(crate) fn info() -> Info {
    let text = |text: &str| text.to_owned();
    Info { instance_id: text(SELF), run: with(|host| host.run), workflow: text("test"), version: text("1.0.0") }
}

pub(crate) fn set_status(status: &str) {
    let status = serde_json::from_str(status).expect("the SDK writes JSON");
    with(|host| host.statuses.push((host.now, status)));
}

pub(crate) fn cancel_requested() -> Option<String> {
    with(|host| host.cancelled.clone())
}

pub(crate) fn patched(_change_id: &str) -> bool {
    true
}

/// A sequence that is the same in every test (an odd multiplier visits all 64-bit numbers).
pub(crate) fn random_u64() -> u64 {
    with(State::number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub(crate) fn uuid() -> String {
    let (a, b) = (random_u64(), random_u64());
    format!("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", a >> 32, a >> 16 & 0xffff, a & 0xfff, b & 0xfff, b >> 16)
}

pub(crate) fn log(level: Level, message: &str) {
    with(|host| host.log.push((level, message.to_owned())));
}
