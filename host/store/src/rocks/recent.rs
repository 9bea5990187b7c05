//! The last events of the runs that were written lately.
//!
//! Nobody else writes to an open store, so what a commit wrote stays true until the next one: a batch for a
//! run that is known here needs no look into the database. It must hold only what is durable, and never more
//! than a bounded number of runs.

use crate::KeyMap;
use rehydrate_core::{EventId, InstanceKey, RunNumber};

/// Runs in one generation; there are at most two.
const GENERATION_MAX: usize = 32 << 10;

type Runs = KeyMap<(InstanceKey, RunNumber), EventId>;

/// Runs by age, in two generations: the old one goes as a whole when the new one is full.
#[derive(Default)]
pub(super) struct RecentRuns {
    new: Runs,
    old: Runs,
}

impl RecentRuns {
    /// The last event of a run, if it is known.
    pub(super) fn last(&self, run: (InstanceKey, RunNumber)) -> Option<EventId> {
        self.new.get(&run).or_else(|| self.old.get(&run)).copied()
    }

    /// A commit that purged these runs is durable.
    pub(super) fn purged(&mut self, key: InstanceKey, until: RunNumber) {
        // Of more runs than this the whole is looked through instead.
        const FEW: u32 = 1024;
        if until.0 <= FEW {
            for run in (0..until.0).map(RunNumber) {
                self.new.remove(&(key, run));
                self.old.remove(&(key, run));
            }
        } else {
            let stays = |run: &(InstanceKey, RunNumber)| run.0 != key || run.1 >= until;
            self.new.retain(|run, _| stays(run));
            self.old.retain(|run, _| stays(run));
        }
    }

    /// A commit that wrote up to this event is durable.
    pub(super) fn written(&mut self, run: (InstanceKey, RunNumber), last: EventId) {
        if self.new.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(run, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_runs_are_known_and_their_number_is_bounded() {
        let run = |n: usize| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            (InstanceKey(key), RunNumber::FIRST)
        };
        let mut recent = RecentRuns::default();
        for n in 0..GENERATION_MAX * 3 {
            recent.written(run(n), EventId(1));
            recent.written(run(n), EventId(2));
            assert_eq!(recent.last(run(n)), Some(EventId(2)));
        }
        assert_eq!(recent.last(run(0)), None);
        assert_eq!(recent.last(run(GENERATION_MAX * 2 - 1)), Some(EventId(2)));
        assert!(recent.new.len() + recent.old.len() <= GENERATION_MAX * 2);
    }

    #[test]
    fn purged_runs_are_forgotten_and_no_others() {
        let (key, other) = (InstanceKey([1; 16]), InstanceKey([2; 16]));
        for until in [3, 5_000] {
            let mut recent = RecentRuns::default();
            let runs = [(key, RunNumber(until - 1)), (key, RunNumber(until)), (other, RunNumber(1))];
            for run in runs {
                recent.written(run, EventId(7));
            }
            recent.purged(key, RunNumber(until));
            assert_eq!(runs.map(|run| recent.last(run)), [None, Some(EventId(7)), Some(EventId(7))]);
        }
    }
}
