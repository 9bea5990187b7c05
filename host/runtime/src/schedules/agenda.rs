//! When to look at which schedule next: names and times, in memory only. The store has everything else.

use rehydrate_core::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All schedules by name, and those that are to be looked at, by time.
#[derive(Debug, Default)]
pub struct Agenda {
    looks: BTreeSet<(Timestamp, Arc<str>)>,
    names: HashMap<Arc<str>, Option<Timestamp>>,
}

impl Agenda {
    /// How many schedules there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Adds a schedule; nothing is to be done with it yet.
    pub fn add(&mut self, name: &str) {
        self.names.entry(name.into()).or_default();
    }

    /// Drops a schedule.
    pub fn remove(&mut self, name: &str) {
        self.set(name, None);
        self.names.remove(name);
    }

    /// Looks at a schedule then, and not when it was said before. One that is not there stays so.
    pub fn set(&mut self, name: &str, at: Option<Timestamp>) {
        let Some((name, _)) = self.names.get_key_value(name) else { return };
        let name = name.clone();
        let before = self.names.insert(name.clone(), at).flatten();
        if let Some(before) = before {
            self.looks.remove(&(before, name.clone()));
        }
        if let Some(at) = at {
            self.looks.insert((at, name));
        }
    }

    /// When the first is to be looked at.
    pub fn first(&self) -> Option<Timestamp> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// The first that is to be looked at by now; it is in nobody's plans then, until it is set again.
    pub fn take(&mut self, now: Timestamp) -> Option<Arc<str>> {
        let (_, name) = self.looks.first().filter(|(at, _)| *at <= now)?.clone();
        self.set(&name, None);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_taken_in_the_order_in_which_they_are_due_and_once() {
        let mut agenda = Agenda::default();
        for (name, at) in [("a", 5), ("b", 3), ("c", 9), ("d", 3)] {
            agenda.add(name);
            agenda.set(name, Some(Timestamp(at)));
        }
        agenda.set("d", Some(Timestamp(4)));
        assert_eq!(agenda.first(), Some(Timestamp(3)));
        let mut taken = || agenda.take(Timestamp(5)).map(|name| name.to_string());
        assert_eq!(
            [taken(), taken(), taken(), taken()],
            [Some("b"), Some("d"), Some("a"), None].map(|n| n.map(str::to_owned))
        );
        assert_eq!((agenda.first(), agenda.len()), (Some(Timestamp(9)), 4));
    }

    #[test]
    fn a_schedule_that_was_dropped_does_not_come_back_by_being_set() {
        let mut agenda = Agenda::default();
        agenda.add("a");
        agenda.set("a", Some(Timestamp(1)));
        agenda.remove("a");
        agenda.set("a", Some(Timestamp(2)));
        assert_eq!((agenda.first(), agenda.len()), (None, 0));
    }
}
