//! All attempts of all jobs of one kind, at one place. The workflow of each job signals every change of its attempts;
//! whoever wants to know reads the entity, and does not have to ask every instance.

use rehydrate::{Failure, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Attempts that are kept, so that the state stays well below what a host accepts: the messages in them come from
/// outside.
const ATTEMPTS_MAX: usize = 500;

/// An attempt, as the workflow's status shows it, and whose it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The workflow's instance.
    pub instance: String,
    /// Its run.
    pub run: u32,
    /// From 1.
    pub attempt: u32,
    /// Where it is; see the workflow's README.
    pub state: String,
    /// When it began.
    pub started: Timestamp,
    /// Since when it is there.
    pub state_set: Timestamp,
    /// When it times out, once it was dispatched.
    pub timeout_due: Option<Timestamp>,
    /// Why it is there; empty if there is nothing to say.
    pub message: String,
    /// The service's number for it, once known.
    pub run_id: Option<u64>,
}

/// The attempts of a kind of jobs, oldest first.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    /// The latest of them.
    pub attempts: Vec<Attempt>,
    /// How many older ones are no longer kept.
    pub dropped: u64,
}

#[rehydrate::entity]
impl Attempts {
    /// An attempt began, or changed.
    pub fn changed(&mut self, attempt: Attempt) -> Result<(), Failure> {
        let whose =
            |a: &Attempt| (a.instance == attempt.instance, a.run, a.attempt) == (true, attempt.run, attempt.attempt);
        if let Some(known) = self.attempts.iter_mut().rfind(|known| whose(known)) {
            *known = attempt;
            return Ok(());
        }
        self.attempts.push(attempt);
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.remove(0);
            self.dropped += 1;
        }
        Ok(())
    }

    /// Gives the attempts of one instance.
    pub fn of(&self, instance: String) -> Result<Vec<Attempt>, Failure> {
        Ok(self.attempts.iter().filter(|attempt| attempt.instance == instance).cloned().collect())
    }

    /// Gives how many attempts are in each state.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let mut counts = BTreeMap::new();
        for attempt in &self.attempts {
            *counts.entry(attempt.state.clone()).or_default() += 1;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate::testing::TestHost;

    fn host() -> TestHost {
        let host = TestHost::new();
        host.entity::<Attempts>("attempts");
        host
    }

    fn changed(host: &TestHost, instance: &str, attempt: u32, state: &str) {
        let (instance, state, now) = (instance.to_owned(), state.to_owned(), host.now());
        let (timeout_due, message, run_id) = (None, String::new(), None);
        let attempt =
            Attempt { instance, run: 1, attempt, state, started: now, state_set: now, timeout_due, message, run_id };
        host.call_entity::<()>("attempts", "nightly", "changed", &attempt).expect("a change");
    }

    #[test]
    fn the_latest_state_of_every_attempt_is_kept() {
        let host = host();
        for (instance, attempt, state) in
            [("a", 1, "new"), ("b", 1, "new"), ("a", 1, "timed-out"), ("a", 2, "new"), ("a", 2, "callback-success")]
        {
            changed(&host, instance, attempt, state);
        }
        let of_a = host.call_entity::<Vec<Attempt>>("attempts", "nightly", "of", "a").expect("attempts");
        let of_a: Vec<(u32, &str)> = of_a.iter().map(|attempt| (attempt.attempt, attempt.state.as_str())).collect();
        assert_eq!(of_a, [(1, "timed-out"), (2, "callback-success")]);
        let counts = host.call_entity::<BTreeMap<String, u64>>("attempts", "nightly", "counts", &()).expect("counts");
        assert_eq!(
            counts,
            [("callback-success", 1), ("new", 1), ("timed-out", 1)].map(|(s, n)| (s.to_owned(), n)).into()
        );
    }

    #[test]
    fn of_very_many_attempts_the_latest_are_kept() {
        let host = host();
        for n in 1..=502 {
            changed(&host, "a", n, "timed-out");
        }
        let state = host.entity_state("attempts", "nightly").expect("a state");
        assert_eq!((&state["dropped"], &state["attempts"][0]["attempt"]), (&2.into(), &3.into()));
    }
}
