//! The executor: drives one `async fn` over the host's blocking waits.
//!
//! The whole guest is one task. Every durable operation it awaits is registered here while it is
//! unsettled; when the task can not go on, one host wait covers all that are registered, and the wakers of
//! those that settled are called. Works with any combinator that uses wakers. It knows the host only through
//! [`Wait`], never blocks by other means, and never waits for an empty set: that is a failure of the guest.

use crate::failure::Failure;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// How an operation ended: JSON text or a failure.
pub(crate) type Outcome = Result<String, Failure>;

/// What the executor needs of an operation under way at the host.
pub(crate) trait Wait: Sized {
    /// The outcome, if it has settled in what the guest has seen. Never blocks.
    fn get(&self) -> Option<Outcome>;
    /// Cancels it; it then settles at once.
    fn cancel(&self);
    /// Blocks until it has settled; the outcome.
    fn wait(&self) -> Outcome;
    /// Blocks until at least one has settled; the indexes of those that have, in the order they did.
    fn wait_any(on: &[&Self]) -> Vec<u32>;
    /// Blocks until all have settled.
    fn wait_all(on: &[&Self]);
}

/// The guest waits for something that no operation can bring.
#[derive(Debug)]
pub(crate) struct Stalled;

/// What is registered with the host's next wait.
pub(crate) struct Reactor<P> {
    registered: RefCell<Vec<Rc<Waiter<P>>>>,
    /// How often the guest has waited.
    waits: Cell<u64>,
}

/// One or many operations that one future waits for.
struct Waiter<P> {
    members: Members<P>,
    /// How many members the future has already seen settled.
    seen: Cell<usize>,
    /// Only a wait of the guest, or cancelling it, settles it. A signal's may be settled by another one that gives its
    /// signal back; and reading it takes the signal, so that it must not be read before somebody asks.
    settles_in_waits: bool,
    /// The number of the guest's waits after which it had not settled, if that is known.
    open_after: Cell<Option<u64>>,
    /// What the guest's last wait gave.
    outcome: Cell<Option<Outcome>>,
    /// Where in the reactor's list this is, while it is registered.
    place: Cell<Option<usize>>,
    waker: Cell<Option<Waker>>,
}

enum Members<P> {
    One(P),
    All(Vec<P>),
}

impl<P> Waiter<P> {
    fn new(members: Members<P>, settles_in_waits: bool) -> Rc<Waiter<P>> {
        Rc::new(Waiter {
            members,
            seen: Cell::new(0),
            settles_in_waits,
            open_after: Cell::new(None),
            outcome: Cell::new(None),
            place: Cell::new(None),
            waker: Cell::new(None),
        })
    }

    /// The members the future has not yet seen settled.
    fn rest(&self) -> &[P] {
        let all = match &self.members {
            Members::One(pending) => std::slice::from_ref(pending),
            Members::All(pendings) => pendings,
        };
        all.get(self.seen.get()..).unwrap_or_default()
    }
}

impl<P: Wait> Reactor<P> {
    pub(crate) fn new() -> Rc<Reactor<P>> {
        Rc::new(Reactor { registered: RefCell::new(Vec::new()), waits: Cell::new(0) })
    }

    /// Runs `future` to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Stalled> {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut task = Context::from_waker(&waker);
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut task) {
                    return Ok(output);
                }
            }
            self.wait()?;
        }
    }

    /// One host wait, then the wakers of what settled, in the order in which it settled.
    fn wait(&self) -> Result<(), Stalled> {
        self.waits.set(self.waits.get() + 1);
        for waiter in self.settled()? {
            self.unregister(&waiter);
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
        Ok(())
    }

    fn settled(&self) -> Result<Vec<Rc<Waiter<P>>>, Stalled> {
        let registered = self.registered.borrow();
        if let [only] = registered.as_slice() {
            // Nothing else can go on before all of it has settled, so one wake is enough for a whole fan-out.
            match &only.members {
                Members::One(pending) if only.settles_in_waits => only.outcome.set(Some(pending.wait())),
                _ => P::wait_all(&only.rest().iter().collect::<Vec<_>>()),
            }
            return Ok(vec![Rc::clone(only)]);
        }
        // Of a group, the first open member stands for all: the group needs every one of them anyway.
        let on: Vec<&P> = registered.iter().filter_map(|waiter| waiter.rest().first()).collect();
        if on.is_empty() {
            return Err(Stalled);
        }
        let indexes = P::wait_any(&on);
        let waiter = |index| registered.get(usize::try_from(index).ok()?).cloned();
        Ok(indexes.into_iter().filter_map(waiter).collect())
    }

    fn register(&self, waiter: &Rc<Waiter<P>>, task: &Context<'_>) {
        waiter.waker.set(Some(task.waker().clone()));
        if waiter.place.get().is_none() {
            let mut registered = self.registered.borrow_mut();
            waiter.place.set(Some(registered.len()));
            registered.push(Rc::clone(waiter));
        }
    }

    fn unregister(&self, waiter: &Waiter<P>) {
        let Some(place) = waiter.place.take() else { return };
        let mut registered = self.registered.borrow_mut();
        registered.swap_remove(place);
        if let Some(moved) = registered.get(place) {
            moved.place.set(Some(place));
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future of one operation's outcome. Dropping it drops the operation, which cancels it if it is open.
pub(crate) struct Single<P: Wait> {
    reactor: Rc<Reactor<P>>,
    waiter: Rc<Waiter<P>>,
}

impl<P: Wait> Single<P> {
    /// Of a wait for a signal.
    pub(crate) fn signal(reactor: &Rc<Reactor<P>>, pending: P) -> Single<P> {
        Single { reactor: Rc::clone(reactor), waiter: Waiter::new(Members::One(pending), false) }
    }

    /// Of an operation that was just begun.
    pub(crate) fn begun(reactor: &Rc<Reactor<P>>, pending: P) -> Single<P> {
        let waiter = Waiter::new(Members::One(pending), true);
        waiter.open_after.set(Some(reactor.waits.get()));
        Single { reactor: Rc::clone(reactor), waiter }
    }

    /// The outcome, if it has settled. The host is asked only if it can have done so since it was asked last.
    fn outcome(&self) -> Option<Outcome> {
        let waits = Some(self.reactor.waits.get());
        if self.waiter.settles_in_waits && self.waiter.open_after.get() == waits {
            return None;
        }
        self.waiter.outcome.take().or_else(|| {
            let outcome = self.waiter.rest().first()?.get();
            if outcome.is_none() {
                self.waiter.open_after.set(waits);
            }
            outcome
        })
    }

    pub(crate) fn poll(&self, task: &Context<'_>) -> Poll<Outcome> {
        match self.outcome() {
            Some(outcome) => {
                self.reactor.unregister(&self.waiter);
                Poll::Ready(outcome)
            }
            None => {
                self.reactor.register(&self.waiter, task);
                Poll::Pending
            }
        }
    }

    /// The operation itself, to be waited for in another way.
    pub(crate) fn into_pending(self) -> Option<P> {
        self.reactor.unregister(&self.waiter);
        let waiter = Rc::clone(&self.waiter);
        drop(self);
        match Rc::into_inner(waiter)?.members {
            Members::One(pending) => Some(pending),
            Members::All(_) => None,
        }
    }

    pub(crate) fn cancel(&self) {
        if let Some(pending) = self.waiter.rest().first() {
            pending.cancel();
        }
        self.waiter.open_after.set(None);
        // It may be in nobody's wait: whoever holds it must look again.
        if let Some(waker) = self.waiter.waker.take() {
            waker.wake();
        }
    }
}

impl<P: Wait> Drop for Single<P> {
    fn drop(&mut self) {
        self.reactor.unregister(&self.waiter);
    }
}

/// A future of the outcomes of many operations, in their given order.
pub(crate) struct Group<P: Wait> {
    reactor: Rc<Reactor<P>>,
    waiter: Rc<Waiter<P>>,
    outcomes: Vec<Outcome>,
}

impl<P: Wait> Group<P> {
    pub(crate) fn new(reactor: &Rc<Reactor<P>>, pendings: Vec<P>) -> Group<P> {
        let outcomes = Vec::with_capacity(pendings.len());
        Group { reactor: Rc::clone(reactor), waiter: Waiter::new(Members::All(pendings), false), outcomes }
    }

    pub(crate) fn poll(&mut self, task: &Context<'_>) -> Poll<Vec<Outcome>> {
        while let Some(next) = self.waiter.rest().first() {
            let Some(outcome) = next.get() else {
                self.reactor.register(&self.waiter, task);
                return Poll::Pending;
            };
            self.outcomes.push(outcome);
            self.waiter.seen.set(self.outcomes.len());
        }
        self.reactor.unregister(&self.waiter);
        Poll::Ready(std::mem::take(&mut self.outcomes))
    }
}

impl<P: Wait> Drop for Group<P> {
    fn drop(&mut self) {
        self.reactor.unregister(&self.waiter);
    }
}

#[cfg(test)]
#[path = "reactor_tests.rs"]
mod tests;
