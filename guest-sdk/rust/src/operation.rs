//! Durable operations as futures. They add types, by serde, to what the executor waits for; what an operation
//! means is decided by the host alone.

use crate::entity_ref::EntityId;
use crate::failure::Failure;
use crate::host::{self, CallbackHandle, Pending};
use crate::reactor::{Group, Outcome, Reactor, Single};
use crate::time::Timestamp;
use futures::future::FusedFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

pub(crate) type HostReactor = Rc<Reactor<Pending>>;

fn decode<T: DeserializeOwned>(what: &What, outcome: Outcome) -> Result<T, Failure> {
    serde_json::from_str(&outcome?).map_err(|error| Failure::decode(&what.to_string(), &error))
}

/// A value as JSON, for the host; `what` names it, should it not be possible.
pub(crate) fn encode(value: &(impl Serialize + ?Sized), what: impl fmt::Display) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::encode(&what.to_string(), &error))
}

/// What an operation gives, for errors: put into words only when there is one.
pub(crate) enum What {
    Output(String),
    ChildOutput(String),
    Acknowledgement(String),
    Answer(EntityId, String),
    Lock,
    Payload(String),
    Posted(String),
    Timer,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Output(activity) => write!(f, "the output of activity `{activity}`"),
            What::ChildOutput(workflow) => write!(f, "the output of child workflow `{workflow}`"),
            What::Acknowledgement(instance) => write!(f, "the acknowledgement of instance `{instance}`"),
            What::Answer(entity, operation) => write!(f, "the answer of entity `{entity}` to `{operation}`"),
            What::Lock => f.write_str("a lock"),
            What::Payload(signal) => write!(f, "the payload of signal `{signal}`"),
            What::Posted(callback) => write!(f, "the body posted to callback `{callback}`"),
            What::Timer => f.write_str("a timer"),
        }
    }
}

/// An operation under way: a started activity, a timer, a wait for a signal, a call of an entity.
///
/// It runs at the host whether or not it is polled. Dropping it cancels it, if it has not settled.
#[must_use = "dropping an operation cancels it"]
pub struct Operation<T> {
    what: What,
    state: State,
    output: PhantomData<fn() -> T>,
}

enum State {
    Open(Single<Pending>),
    /// It never reached the host, as its input could not be written.
    Refused(Failure),
    Done,
}

impl<T> Operation<T> {
    pub(crate) fn open(reactor: &HostReactor, what: What, pending: Pending) -> Operation<T> {
        Operation { what, state: State::Open(Single::begun(reactor, pending)), output: PhantomData }
    }

    pub(crate) fn signal(reactor: &HostReactor, name: &str) -> Operation<T> {
        let single = Single::signal(reactor, host::next_signal(name));
        Operation { what: What::Payload(name.to_owned()), state: State::Open(single), output: PhantomData }
    }

    /// What has begun, or could not because its input could not be written.
    pub(crate) fn begun(reactor: &HostReactor, what: What, pending: Result<Pending, Failure>) -> Operation<T> {
        match pending {
            Ok(pending) => Operation::open(reactor, what, pending),
            Err(failure) => Operation::refused(what, failure),
        }
    }

    pub(crate) fn refused(what: What, failure: Failure) -> Operation<T> {
        Operation { what, state: State::Refused(failure), output: PhantomData }
    }

    /// Cancels the operation: it settles at once with a failure of kind `cancelled`, unless it has settled.
    pub fn cancel(&self) {
        if let State::Open(single) = &self.state {
            single.cancel();
        }
    }
}

impl<T: DeserializeOwned> Future for Operation<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &self.state {
            State::Open(single) => ready!(single.poll(task)),
            State::Refused(failure) => Err(failure.clone()),
            State::Done => return Poll::Pending,
        };
        self.state = State::Done;
        Poll::Ready(decode(&self.what, outcome))
    }
}

impl<T: DeserializeOwned> FusedFuture for Operation<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

impl<T> fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({})", self.what)
    }
}

/// The outcomes of many operations, in their given order; see [`Context::all`](crate::Context::all).
#[must_use = "dropping it cancels the operations"]
pub struct All<T> {
    /// What each one is, for errors; and the failure of one that never reached the host.
    whats: Vec<(What, Option<Failure>)>,
    group: Group<Pending>,
    done: bool,
    output: PhantomData<fn() -> T>,
}

impl<T> All<T> {
    pub(crate) fn new(reactor: &HostReactor, operations: impl Iterator<Item = Operation<T>>) -> All<T> {
        let (mut whats, mut pendings) = (Vec::new(), Vec::new());
        for operation in operations {
            let (pending, failure) = match operation.state {
                State::Open(single) => (single.into_pending(), None),
                State::Refused(failure) => (None, Some(failure)),
                State::Done => (None, Some(Failure::rejected("sdk.taken", "its outcome was already taken"))),
            };
            pendings.extend(pending);
            whats.push((operation.what, failure));
        }
        All { whats, group: Group::new(reactor, pendings), done: false, output: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for All<T> {
    type Output = Vec<Result<T, Failure>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        if self.done {
            return Poll::Pending;
        }
        let mut outcomes = ready!(self.group.poll(task)).into_iter();
        self.done = true;
        let whats = std::mem::take(&mut self.whats).into_iter();
        Poll::Ready(
            whats
                .filter_map(|(what, refused)| match refused {
                    Some(failure) => Some(Err(failure)),
                    None => Some(decode(&what, outcomes.next()?)),
                })
                .collect(),
        )
    }
}

impl<T: DeserializeOwned> FusedFuture for All<T> {
    fn is_terminated(&self) -> bool {
        self.done
    }
}

impl<T> fmt::Debug for All<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "All({} operations)", self.whats.len())
    }
}

/// A callback: a secret URL for an external system, and the future of what is posted to it.
///
/// Dropping it cancels it; from then on its URL answers 410. Await `&mut callback` to keep it.
#[must_use = "dropping a callback cancels it"]
pub struct Callback<T> {
    // Fields are dropped in this order: the operation is the callback's, so the callback goes last.
    operation: Operation<T>,
    url: String,
    id: String,
    _handle: CallbackHandle,
}

impl<T> Callback<T> {
    pub(crate) fn new(reactor: &HostReactor, name: &str, handle: CallbackHandle) -> Callback<T> {
        let operation = Operation::open(reactor, What::Posted(name.to_owned()), handle.pending());
        Callback { operation, url: handle.url(), id: handle.id(), _handle: handle }
    }

    /// The URL to hand out. Whoever has it can settle this callback and nothing else.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The callback's id within its instance, for logs; no secret.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl<T: DeserializeOwned> Future for Callback<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.operation).poll(task)
    }
}

impl<T: DeserializeOwned> FusedFuture for Callback<T> {
    fn is_terminated(&self) -> bool {
        self.operation.is_terminated()
    }
}

impl<T> fmt::Debug for Callback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it is a secret, and debug output ends in logs.
        f.debug_struct("Callback").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The time limit of a [`Timeout`] ran out first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit ran out")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for Failure {
    fn from(elapsed: Elapsed) -> Self {
        Failure::timed_out(elapsed.to_string())
    }
}

/// A future with a time limit; see [`Context::timeout`](crate::Context::timeout).
#[must_use = "futures do nothing unless awaited"]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    deadline: Timestamp,
    timer: Operation<()>,
    restarted: bool,
    reactor: HostReactor,
}

impl<F> Timeout<F> {
    pub(crate) fn new(reactor: &HostReactor, deadline: Timestamp, future: F) -> Timeout<F> {
        let timer = start_timer(reactor, deadline);
        Timeout { future: Box::pin(future), deadline, timer, restarted: false, reactor: Rc::clone(reactor) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(output) = self.future.as_mut().poll(task) {
                return Poll::Ready(Ok(output));
            }
            match ready!(Pin::new(&mut self.timer).poll(task)) {
                // The instance was asked to cancel, which ended the timer too. What the future still does to
                // undo its work stays under the same limit.
                Err(failure) if failure.is_cancelled() && !self.restarted => {
                    self.restarted = true;
                    self.timer = start_timer(&self.reactor, self.deadline);
                }
                Ok(()) | Err(_) => return Poll::Ready(Err(Elapsed)),
            }
        }
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

pub(crate) fn start_timer(reactor: &HostReactor, deadline: Timestamp) -> Operation<()> {
    Operation::open(reactor, What::Timer, host::start_timer(deadline))
}
