//! A host for unit tests: runs a workflow natively, in virtual time, against activities that are closures.
//!
//! It keeps no history and replays nothing; that the real host does so is tested there. It exists only in
//! native builds, and time in it moves only when the workflow waits, straight to the next thing that happens.
//!
//! ```
//! use rehydrate::testing::{Reply, TestHost};
//! use rehydrate::{Context, Failure};
//! use std::time::Duration;
//!
//! async fn flow(ctx: Context, name: String) -> Result<String, Failure> {
//!     ctx.sleep(Duration::from_secs(3600)).await?;
//!     ctx.activity("greet", &name).await
//! }
//!
//! let host = TestHost::new();
//! host.activity("greet", |call| Reply::ok(Duration::from_secs(1), &format!("Hello, {}", call.input)));
//! let start = host.now();
//! assert_eq!(host.run(flow, "you".to_owned()).unwrap(), "Hello, \"you\"");
//! assert_eq!(host.now(), start + Duration::from_secs(3601));
//! ```

use crate::context::Context;
use crate::failure::Failure;
use crate::host::Level;
use crate::reactor::Outcome;
use crate::retry::ActivityOptions;
use crate::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static RUNNING: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// An activity that the workflow scheduled.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The activity's name.
    pub name: String,
    /// Its input.
    pub input: Value,
    /// Its options. The test host retries nothing: a closure answers for all attempts.
    pub options: ActivityOptions,
    /// When it was scheduled.
    pub at: Timestamp,
}

/// How an activity ends, and what else the outside does because of it.
#[derive(Debug)]
pub struct Reply {
    after: Duration,
    outcome: Option<Outcome>,
    also: Vec<(Duration, Happening)>,
}

impl Reply {
    /// It succeeds that long after it was scheduled.
    pub fn ok(after: Duration, output: &(impl Serialize + ?Sized)) -> Reply {
        Reply { after, outcome: Some(Ok(text(output))), also: Vec::new() }
    }

    /// It fails that long after it was scheduled.
    pub fn fail(after: Duration, failure: Failure) -> Reply {
        Reply { after, outcome: Some(Err(failure)), also: Vec::new() }
    }

    /// It never ends.
    pub fn never() -> Reply {
        Reply { after: Duration::ZERO, outcome: None, also: Vec::new() }
    }

    /// Besides, that body is posted to that callback URL, that long after the activity was scheduled.
    #[must_use]
    pub fn and_post(mut self, after: Duration, url: &str, body: &(impl Serialize + ?Sized)) -> Reply {
        self.also.push((after, Happening::Post(url.to_owned(), Ok(text(body)))));
        self
    }

    /// Besides, that callback is rejected with that failure.
    #[must_use]
    pub fn and_reject(mut self, after: Duration, url: &str, failure: Failure) -> Reply {
        self.also.push((after, Happening::Post(url.to_owned(), Err(failure))));
        self
    }
}

fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("a test's value is JSON")
}

#[derive(Clone, Debug)]
enum Happening {
    Settle(u64, Outcome),
    Post(String, Outcome),
    Signal(String, String),
    Cancel(String),
}

/// The host. See the [module's documentation](self).
#[derive(Clone)]
pub struct TestHost(Rc<RefCell<State>>);

type Handler = Rc<RefCell<dyn FnMut(&Call) -> Reply>>;

struct State {
    now: Timestamp,
    handlers: HashMap<String, Handler>,
    /// What will happen, in order of time and then of being asked for.
    to_come: BTreeMap<(Timestamp, u64), Happening>,
    numbers: u64,
    operations: BTreeMap<u64, Operation>,
    /// Callback URLs and their operations; None once they are settled or gone.
    callbacks: HashMap<String, Option<u64>>,
    signals: HashMap<String, VecDeque<String>>,
    takers: HashMap<String, VecDeque<u64>>,
    cancelled: Option<String>,
    calls: Vec<Call>,
    statuses: Vec<(Timestamp, Value)>,
    refused: Vec<(Timestamp, String)>,
    log: Vec<(Level, String)>,
}

/// An operation of the workflow.
#[derive(Default)]
struct Operation {
    /// The outcome, and its number in the order of settling.
    settled: Option<(u64, Outcome)>,
    /// The signal it takes, and whether the payload was read.
    signal: Option<(String, bool)>,
}

impl Default for TestHost {
    fn default() -> Self {
        TestHost::new()
    }
}

impl fmt::Debug for TestHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestHost")
    }
}

impl TestHost {
    /// A host with no activities, at 2026-01-01T00:00:00Z.
    pub fn new() -> TestHost {
        TestHost(Rc::new(RefCell::new(State {
            now: Timestamp::from_parts(1_767_225_600, 0),
            handlers: HashMap::new(),
            to_come: BTreeMap::new(),
            numbers: 0,
            operations: BTreeMap::new(),
            callbacks: HashMap::new(),
            signals: HashMap::new(),
            takers: HashMap::new(),
            cancelled: None,
            calls: Vec::new(),
            statuses: Vec::new(),
            refused: Vec::new(),
            log: Vec::new(),
        })))
    }

    /// What the activity of that name does. A call of one that has no closure fails with kind `not-found`.
    pub fn activity(&self, name: &str, handler: impl FnMut(&Call) -> Reply + 'static) {
        self.0.borrow_mut().handlers.insert(name.to_owned(), Rc::new(RefCell::new(handler)));
    }

    /// Sends a signal, that long after now.
    pub fn signal(&self, after: Duration, name: &str, payload: &(impl Serialize + ?Sized)) {
        self.0.borrow_mut().happens(after, Happening::Signal(name.to_owned(), text(payload)));
    }

    /// Asks the instance to cancel, that long after now.
    pub fn cancel(&self, after: Duration, reason: &str) {
        self.0.borrow_mut().happens(after, Happening::Cancel(reason.to_owned()));
    }

    /// Runs a workflow to its end. Panics if it waits for what will never happen.
    pub fn run<I, O, E, F>(&self, workflow: impl FnOnce(Context, I) -> F, input: I) -> Result<O, Failure>
    where
        E: Into<Failure>,
        F: Future<Output = Result<O, E>>,
    {
        let before = RUNNING.replace(Some(Rc::clone(&self.0)));
        let ctx = Context::new();
        let outcome = ctx.run(workflow(ctx.clone(), input));
        RUNNING.set(before);
        outcome?.map_err(Into::into)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.0.borrow().now
    }

    /// The activities that were scheduled.
    pub fn calls(&self) -> Vec<Call> {
        self.0.borrow().calls.clone()
    }

    /// The custom statuses that were set.
    pub fn statuses(&self) -> Vec<(Timestamp, Value)> {
        self.0.borrow().statuses.clone()
    }

    /// The bodies that were posted to callbacks already settled, cancelled or unknown.
    pub fn refused_posts(&self) -> Vec<(Timestamp, String)> {
        self.0.borrow().refused.clone()
    }

    /// The lines of the instance's log.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().log.clone()
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn open(&mut self) -> u64 {
        let id = self.number();
        self.operations.insert(id, Operation::default());
        id
    }

    fn happens(&mut self, after: Duration, what: Happening) {
        let number = self.number();
        self.to_come.insert((self.now + after, number), what);
    }

    fn settle(&mut self, id: u64, outcome: Outcome) {
        let number = self.number();
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.settled.get_or_insert((number, outcome));
        }
    }

    /// Moves time to the next thing that happens.
    fn step(&mut self) {
        let Some(((at, _), what)) = self.to_come.pop_first() else {
            panic!("the workflow waits at {} for what will never happen", self.now);
        };
        self.now = self.now.max(at);
        match what {
            Happening::Settle(id, outcome) => self.settle(id, outcome),
            Happening::Post(url, outcome) => match self.callbacks.get_mut(&url).and_then(Option::take) {
                Some(id) => self.settle(id, outcome),
                None => self.refused.push((self.now, outcome.unwrap_or_else(|failure| failure.to_string()))),
            },
            Happening::Signal(name, payload) => {
                self.signals.entry(name.clone()).or_default().push_back(payload);
                self.hand_out(&name);
            }
            Happening::Cancel(reason) => self.cancel_all(reason),
        }
    }

    fn cancel_all(&mut self, reason: String) {
        let open: Vec<u64> = self.operations.iter().filter(|(_, op)| op.settled.is_none()).map(|(id, _)| *id).collect();
        for id in open {
            self.settle(id, Err(Failure::cancelled(reason.as_str())));
        }
        self.takers.clear();
        self.cancelled = Some(reason);
    }

    /// Gives waiting signals to those who wait for them.
    fn hand_out(&mut self, name: &str) {
        while let Some(payload) = self.signals.get_mut(name).and_then(VecDeque::pop_front) {
            match self.takers.get_mut(name).and_then(VecDeque::pop_front) {
                Some(taker) => self.settle(taker, Ok(payload)),
                None => return self.signals.entry(name.to_owned()).or_default().push_front(payload),
            }
        }
    }

    /// A pending was dropped or cancelled: its signal, if it has an unread one, goes back.
    fn give_up(&mut self, id: u64) {
        self.to_come.retain(|_, what| !matches!(what, Happening::Settle(settles, _) if *settles == id));
        let Some(operation) = self.operations.get(&id) else { return };
        let Some((name, read)) = operation.signal.clone() else { return };
        if let Some(takers) = self.takers.get_mut(&name) {
            takers.retain(|taker| *taker != id);
        }
        if let (false, Some((_, Ok(payload)))) = (read, &operation.settled) {
            let payload = payload.clone();
            self.signals.entry(name.clone()).or_default().push_front(payload);
            self.hand_out(&name);
        }
    }
}

/// The functions of [`crate::host`], answered by the test host that is running.
pub(crate) mod door {
    use super::{Call, Happening, Operation, RUNNING, Reply, State};
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
        /// The pending of a callback may be dropped freely.
        owned_by_callback: bool,
    }

    fn pending(open: impl FnOnce(&mut State) -> u64) -> Pending {
        let host = running();
        let id = open(&mut host.borrow_mut());
        Pending { id, host, owned_by_callback: false }
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
                with(State::step);
            }
        }

        fn wait_all(on: &[&Self]) {
            while with(|host| on.iter().any(|op| host.operations.get(&op.id).is_some_and(|op| op.settled.is_none()))) {
                with(State::step);
            }
        }
    }

    impl Drop for Pending {
        fn drop(&mut self) {
            let mut host = self.host.borrow_mut();
            if !self.owned_by_callback {
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
            None => {
                let message = format!("the test gave no activity `{name}`");
                Reply::fail(Duration::ZERO, Failure::new(FailureKind::NotFound, "no-such-activity", message))
            }
        };
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
            Pending { id: self.id, host: Rc::clone(&self.host), owned_by_callback: true }
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
        Info { instance_id: text("test"), run: 1, workflow: text("test"), version: text("1.0.0") }
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
}

#[cfg(test)]
#[path = "testing_tests.rs"]
mod tests;
