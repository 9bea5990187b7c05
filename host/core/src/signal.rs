//! Signals: named messages, first in first out, each taken once.
//!
//! | state | event | next |
//! |---|---|---|
//! | nobody waits | `SignalReceived` | buffered |
//! | waiters of that name | `SignalReceived` | the oldest waiter has it |
//! | buffered | `SignalAwaited` | the new waiter has the oldest one |
//! | none buffered | `SignalAwaited` | the waiter waits |
//! | a waiter without a signal | cancelled | forgotten: it can't swallow one |
//! | a waiter with a signal it never read | cancelled | the signal goes back to its place in front |

use crate::ids::EventId;
use std::collections::{BTreeMap, VecDeque};

/// The signals and waiters of one instance. `P` is what is kept of a payload: the fold of the history
/// keeps nothing, the guest's view keeps the text.
#[derive(Clone, Debug)]
pub struct SignalQueues<P> {
    by_name: BTreeMap<String, Queue<P>>,
    taken: BTreeMap<EventId, Taken>,
    buffered: usize,
}

#[derive(Clone, Debug)]
struct Queue<P> {
    waiters: VecDeque<EventId>,
    signals: VecDeque<(EventId, P)>,
}

/// Which signal a waiter was given.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Taken {
    name: String,
    signal: EventId,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Queue { waiters: VecDeque::new(), signals: VecDeque::new() }
    }
}

impl<P> Default for SignalQueues<P> {
    fn default() -> Self {
        SignalQueues { by_name: BTreeMap::new(), taken: BTreeMap::new(), buffered: 0 }
    }
}

/// A signal handed to a waiter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handed<P> {
    /// Who gets it.
    pub waiter: EventId,
    /// What it carries.
    pub payload: P,
}

impl<P> SignalQueues<P> {
    /// Signals that nobody has taken yet.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The events of the signals that nobody has taken yet, in order of arrival.
    pub fn buffered_events(&self) -> Vec<EventId> {
        let mut events: Vec<EventId> =
            self.by_name.values().flat_map(|queue| queue.signals.iter().map(|(event, _)| *event)).collect();
        events.sort_unstable();
        events
    }

    /// Whether somebody waits for a signal of `name`: then the next one is not buffered.
    pub fn is_awaited(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|queue| !queue.waiters.is_empty())
    }

    /// The event of the oldest signal of `name` that nobody has taken.
    pub fn oldest(&self, name: &str) -> Option<EventId> {
        self.by_name.get(name)?.signals.front().map(|(signal, _)| *signal)
    }

    /// The waiter `op` asks for the next signal of `name`.
    pub fn await_next(&mut self, name: &str, op: EventId) -> Option<Handed<P>> {
        self.by_name.entry(name.to_owned()).or_default().waiters.push_back(op);
        self.hand_over(name)
    }

    /// A signal arrived.
    pub fn receive(&mut self, name: &str, signal: EventId, payload: P) -> Option<Handed<P>> {
        self.by_name.entry(name.to_owned()).or_default().signals.push_back((signal, payload));
        self.buffered += 1;
        self.hand_over(name)
    }

    /// A waiter is given up before it was handed a signal.
    pub fn forget_waiter(&mut self, name: &str, op: EventId) {
        if let Some(queue) = self.by_name.get_mut(name) {
            queue.waiters.retain(|waiter| *waiter != op);
        }
        self.tidy(name);
    }

    /// A waiter that was handed a signal gives it back unread; the next waiter may get it at once.
    pub fn give_back(&mut self, op: EventId, payload: P) -> Option<Handed<P>> {
        let Taken { name, signal } = self.taken.remove(&op)?;
        let queue = self.by_name.entry(name.clone()).or_default();
        let place = queue.signals.partition_point(|(earlier, _)| *earlier < signal);
        queue.signals.insert(place, (signal, payload));
        self.buffered += 1;
        self.hand_over(&name)
    }

    /// The waiter has read what it was handed: it can't come back.
    pub fn read(&mut self, op: EventId) {
        self.taken.remove(&op);
    }

    fn hand_over(&mut self, name: &str) -> Option<Handed<P>> {
        let queue = self.by_name.get_mut(name)?;
        if queue.waiters.is_empty() || queue.signals.is_empty() {
            return None;
        }
        let waiter = queue.waiters.pop_front()?;
        let (signal, payload) = queue.signals.pop_front()?;
        self.buffered -= 1;
        self.taken.insert(waiter, Taken { name: name.to_owned(), signal });
        self.tidy(name);
        Some(Handed { waiter, payload })
    }

    fn tidy(&mut self, name: &str) {
        if self.by_name.get(name).is_some_and(|q| q.waiters.is_empty() && q.signals.is_empty()) {
            self.by_name.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        EventId(n)
    }

    #[test]
    fn signals_are_taken_in_order_of_arrival_by_waiters_in_order_of_asking() {
        let mut queues = SignalQueues::default();
        assert_eq!(queues.receive("go", id(2), "a"), None);
        assert_eq!(queues.receive("go", id(3), "b"), None);
        assert_eq!(queues.await_next("go", id(4)), Some(Handed { waiter: id(4), payload: "a" }));
        assert_eq!(queues.await_next("go", id(5)), Some(Handed { waiter: id(5), payload: "b" }));
        assert_eq!(queues.await_next("go", id(6)), None);
        assert_eq!(queues.await_next("go", id(7)), None);
        assert_eq!(queues.receive("go", id(8), "c"), Some(Handed { waiter: id(6), payload: "c" }));
    }

    #[test]
    fn a_cancelled_waiter_swallows_nothing() {
        let mut queues = SignalQueues::default();
        queues.await_next("go", id(2));
        queues.await_next("go", id(3));
        queues.forget_waiter("go", id(2));
        assert_eq!(queues.receive("go", id(4), "a"), Some(Handed { waiter: id(3), payload: "a" }));
    }

    #[test]
    fn an_unread_signal_goes_back_in_front_of_later_ones() {
        let mut queues = SignalQueues::default();
        queues.await_next("go", id(2));
        queues.receive("go", id(3), "first");
        queues.receive("go", id(4), "second");
        assert_eq!(queues.give_back(id(2), "first"), None);
        assert_eq!(queues.await_next("go", id(5)).map(|h| h.payload), Some("first"));
        assert_eq!(queues.buffered(), 1);
    }

    #[test]
    fn a_signal_given_back_goes_to_the_waiter_that_waits() {
        let mut queues = SignalQueues::default();
        queues.await_next("go", id(2));
        queues.await_next("go", id(3));
        queues.receive("go", id(4), "a");
        assert_eq!(queues.give_back(id(2), "a"), Some(Handed { waiter: id(3), payload: "a" }));
    }

    #[test]
    fn names_do_not_mix_and_empty_queues_are_dropped() {
        let mut queues = SignalQueues::default();
        queues.await_next("go", id(2));
        assert_eq!(queues.receive("stop", id(3), "x"), None);
        queues.forget_waiter("go", id(2));
        queues.await_next("stop", id(4));
        assert!(queues.by_name.is_empty());
    }
}
