//! A host for unit tests: runs a workflow natively, in virtual time, against activities and children that are
//! closures, and entities that are real or closures.
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

pub(crate) mod door;
pub(crate) mod entities;
mod remote;

pub use remote::{Child, Continued, Sent};

use crate::context::Context;
use crate::failure::Failure;
use crate::host::Level;
use crate::reactor::Outcome;
use crate::retry::ActivityOptions;
use crate::time::Timestamp;
use entities::{Entities, Message, Turn};
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static RUNNING: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// The id of the workflow's instance.
const SELF: &str = "test";

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

/// How an activity or a child ends, and what else the outside does because of it.
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
    Entity(Message),
}

/// The host. See the [module's documentation](self).
#[derive(Clone)]
pub struct TestHost(Rc<RefCell<State>>);

type Handler<C> = Rc<RefCell<dyn FnMut(&C) -> Reply>>;

struct State {
    now: Timestamp,
    handlers: HashMap<String, Handler<Call>>,
    child_handlers: HashMap<String, Handler<Child>>,
    /// What will happen, in order of time and then of being asked for.
    to_come: BTreeMap<(Timestamp, u64), Happening>,
    numbers: u64,
    operations: BTreeMap<u64, Operation>,
    /// Callback URLs and their operations; None once they are settled or gone.
    callbacks: HashMap<String, Option<u64>>,
    signals: HashMap<String, VecDeque<String>>,
    takers: HashMap<String, VecDeque<u64>>,
    cancelled: Option<String>,
    run: u32,
    continued: Option<Continued>,
    entities: Entities,
    calls: Vec<Call>,
    /// With the operations of those that are awaited.
    children: Vec<(Option<u64>, Child)>,
    sent: Vec<Sent>,
    /// Instances that there are not.
    missing: HashSet<String>,
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
            child_handlers: HashMap::new(),
            to_come: BTreeMap::new(),
            numbers: 0,
            operations: BTreeMap::new(),
            callbacks: HashMap::new(),
            signals: HashMap::new(),
            takers: HashMap::new(),
            cancelled: None,
            run: 1,
            continued: None,
            entities: Entities::default(),
            calls: Vec::new(),
            children: Vec::new(),
            sent: Vec::new(),
            missing: HashSet::new(),
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
    ///
    /// A run that asks to continue as new gives the error that [is no failure](Failure::is_continue_as_new), whatever
    /// it returned; what it asked for is [`continued`](TestHost::continued), and the next `run` is that run.
    pub fn run<I, O, E, F>(&self, workflow: impl FnOnce(Context, I) -> F, input: I) -> Result<O, Failure>
    where
        E: Into<Failure>,
        F: Future<Output = Result<O, E>>,
    {
        self.0.borrow_mut().begin_run();
        let before = RUNNING.replace(Some(Rc::clone(&self.0)));
        let ctx = Context::new();
        let outcome = ctx.run(workflow(ctx.clone(), input));
        RUNNING.set(before);
        if self.continued().is_some() {
            return Err(Failure::continued_as_new());
        }
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
    fn begin_run(&mut self) {
        if self.continued.take().is_some() {
            self.run += 1;
            self.cancelled = None;
        }
    }

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

    /// Moves time to the next thing that happens; an entity's turn that comes of it is still to be performed.
    fn step(&mut self) -> Option<Turn> {
        let Some(((at, number), what)) = self.to_come.pop_first() else {
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
            Happening::Entity(message) => return self.arrive(number, message),
        }
        None
    }

    fn cancel_all(&mut self, reason: String) {
        let open: Vec<u64> = self.operations.iter().filter(|(_, op)| op.settled.is_none()).map(|(id, _)| *id).collect();
        self.give_up_children(&open);
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
        let signal = operation.signal.clone();
        if operation.settled.is_none() {
            self.give_up_children(&[id]);
        }
        let Some((name, read)) = signal else { return };
        if let Some(takers) = self.takers.get_mut(&name) {
            takers.retain(|taker| *taker != id);
        }
        let settled = self.operations.get(&id).and_then(|operation| operation.settled.clone());
        if let (false, Some((_, Ok(payload)))) = (read, settled) {
            self.signals.entry(name.clone()).or_default().push_front(payload);
            self.hand_out(&name);
        }
    }
}

/// Lets the next thing happen.
fn step(host: &RefCell<State>) {
    let turn = host.borrow_mut().step();
    if let Some(turn) = turn {
        turn.perform(host);
    }
}

#[cfg(test)]
#[path = "testing_tests.rs"]
mod tests;
