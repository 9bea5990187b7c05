//! Dropping what is old: instances some time after their end, and past runs of instances that are started again and
//! again.
//!
//! What is due is decided from a row and the time alone. The loop looks at the ended instances from time to time and
//! purges those that are due, at a bounded rate. Past runs need no search: the actor that begins a run tells the loop
//! when the instance has more of them than are kept.

use crate::actor::{Instances, Post, PurgePlan, answered};
use crate::catalog::blocking;
use crate::error::{ErrorKind, RuntimeError};
use crate::{clock, purge};
use rehydrate_core::{InstanceKey, Nanos, RunNumber, Timestamp};
use rehydrate_store::{InstanceRow, InstanceStateTag, ListQuery};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Rows looked at for one piece of a pass.
const PIECE: usize = 1_000;

/// Instances whose past runs wait to be dropped, at most. One that finds no room is told of again with its next run.
const NOTICED_MAX: usize = 100_000;

/// How often a second the loop rests when it has much to drop.
const RESTS_PER_SECOND: u32 = 20;

/// How long an instance is kept after its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kept {
    /// Until somebody purges it.
    #[default]
    ForEver,
    /// That long.
    For(Nanos),
}

/// How long instances are kept, by how they ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeptByOutcome<K> {
    /// Those that completed.
    pub completed: K,
    /// Those that failed.
    pub failed: K,
    /// Those that were cancelled.
    pub cancelled: K,
    /// Those that were terminated.
    pub terminated: K,
}

impl<K: Copy> KeptByOutcome<K> {
    fn of(&self, state: InstanceStateTag) -> Option<K> {
        match state {
            InstanceStateTag::Completed => Some(self.completed),
            InstanceStateTag::Failed => Some(self.failed),
            InstanceStateTag::Cancelled => Some(self.cancelled),
            InstanceStateTag::Terminated => Some(self.terminated),
            _ => None,
        }
    }
}

/// What is dropped, when, and how fast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionConfig {
    /// How long instances are kept.
    pub kept: KeptByOutcome<Kept>,
    /// What differs for some workflows, by name.
    pub workflows: BTreeMap<String, KeptByOutcome<Option<Kept>>>,
    /// How many runs before its last one are kept of an instance.
    pub past_runs: u32,
    /// Instances and past runs dropped in a second, at most; at least 1.
    pub deletes_per_second: u32,
    /// How long after the start of the host the first pass begins.
    pub first_after: Duration,
    /// How long after a pass the next one begins.
    pub every: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        RetentionConfig {
            kept: KeptByOutcome::default(),
            workflows: BTreeMap::new(),
            past_runs: 10,
            deletes_per_second: 100,
            first_after: Duration::from_secs(60),
            every: Duration::from_secs(3_600),
        }
    }
}

impl RetentionConfig {
    /// Whether an instance has been kept long enough. One that has not ended is never due.
    pub fn is_due(&self, row: &InstanceRow, now: Timestamp) -> bool {
        let own = self.workflows.get(&row.workflow).and_then(|own| own.of(row.state).flatten());
        match own.or_else(|| self.kept.of(row.state)) {
            Some(Kept::For(age)) => row.updated <= before(now, age),
            Some(Kept::ForEver) | None => false,
        }
    }

    /// The rows to look at: all that can be due; none if nothing ever is.
    fn candidates(&self, now: Timestamp) -> Option<ListQuery> {
        let ages = |state: InstanceStateTag| {
            let own = self.workflows.values().filter_map(move |own| own.of(state).flatten());
            own.chain(self.kept.of(state)).filter_map(|kept| match kept {
                Kept::For(age) => Some(age),
                Kept::ForEver => None,
            })
        };
        let states: Vec<_> = InstanceStateTag::ALL.into_iter().filter(|state| ages(*state).next().is_some()).collect();
        let shortest = states.iter().flat_map(|state| ages(*state)).min()?;
        // What ended before then was created before then.
        let created_to = Some(before(now, shortest));
        Some(ListQuery { states, created_to, limit: PIECE, scan_max: PIECE, ..ListQuery::default() })
    }

    /// The first run that is kept when this one has begun; none if all are.
    fn first_kept(&self, last: RunNumber) -> Option<RunNumber> {
        last.0.checked_sub(self.past_runs).filter(|first| *first > RunNumber::FIRST.0).map(RunNumber)
    }
}

fn before(now: Timestamp, age: Nanos) -> Timestamp {
    Timestamp(now.0.saturating_sub_unsigned(age.0))
}

/// What the loop is told.
pub struct Retention {
    config: RetentionConfig,
    noticed: Mutex<BTreeMap<InstanceKey, RunNumber>>,
    wake: Notify,
}

impl Retention {
    /// With these settings.
    pub fn new(config: RetentionConfig) -> Retention {
        Retention { config, noticed: Mutex::default(), wake: Notify::new() }
    }

    /// A run has begun: its instance may now have more past runs than are kept.
    pub fn began(&self, key: InstanceKey, run: RunNumber) {
        let Some(first) = self.config.first_kept(run) else { return };
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.len() < NOTICED_MAX || noticed.contains_key(&key) {
            noticed.insert(key, first);
            self.wake.notify_one();
        }
    }

    fn next_noticed(&self) -> Option<(InstanceKey, RunNumber)> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

/// Runs until the host ends.
pub async fn run(instances: Arc<Instances>) {
    let config = &instances.retention.config;
    let mut pace = Pace::new(config.deletes_per_second);
    let mut next_pass = Instant::now() + config.first_after;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_pass) => {
                match pass(&instances, &mut pace).await {
                    Ok(0) => {}
                    Ok(purged) => tracing::info!(purged, "instances that were kept long enough are purged"),
                    Err(error) => tracing::error!(%error, "old instances could not be purged; the next pass tries again"),
                }
                next_pass = Instant::now() + config.every;
            }
            () = instances.retention.wake.notified() => {}
        }
        drop_past_runs(&instances, &mut pace).await;
    }
}

/// Purges all instances that are due; says how many.
async fn pass(instances: &Arc<Instances>, pace: &mut Pace) -> Result<u64, RuntimeError> {
    let config = &instances.retention.config;
    let now = clock::now();
    let Some(mut query) = config.candidates(now) else { return Ok(0) };
    let mut purged = 0;
    loop {
        let (store, of_piece) = (instances.store.clone(), query.clone());
        let page = blocking(move || store.list(&of_piece)).await??;
        for row in page.rows.iter().filter(|row| config.is_due(row, now)) {
            purged += u64::from(purge::purge_row(instances, row).await?);
            pace.step().await;
        }
        drop_past_runs(instances, pace).await;
        query.after = page.next;
        if query.after.is_none() {
            return Ok(purged);
        }
    }
}

async fn drop_past_runs(instances: &Arc<Instances>, pace: &mut Pace) {
    while let Some((key, first)) = instances.retention.next_noticed() {
        let (reply, answer) = oneshot::channel();
        instances.post(key, Post::Purge(PurgePlan::RunsBefore(first), reply));
        match answered(answer).await {
            Ok(()) => {}
            // It was purged meanwhile, and perhaps has begun anew.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict) => {}
            Err(error) => tracing::error!(?key, %error, "past runs could not be dropped; the next run tries again"),
        }
        pace.step().await;
    }
}

/// Bounds a rate by resting now and then.
struct Pace {
    steps: u32,
    steps_before_rest: u32,
    rest: Duration,
}

impl Pace {
    fn new(per_second: u32) -> Pace {
        let per_second = per_second.max(1);
        let steps_before_rest = (per_second / RESTS_PER_SECOND).max(1);
        Pace { steps: 0, steps_before_rest, rest: Duration::from_secs(1) * steps_before_rest / per_second }
    }

    async fn step(&mut self) {
        self.steps += 1;
        if self.steps >= self.steps_before_rest {
            self.steps = 0;
            tokio::time::sleep(self.rest).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use InstanceStateTag::{Cancelled, Completed, Failed, Paused, Running, Terminated};
    use rehydrate_core::{Digest, EventId};

    const DAY: u64 = 86_400;
    const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

    fn days(days: u64) -> Kept {
        Kept::For(Nanos::from_secs(days * DAY))
    }

    /// An instance that ended so many seconds ago.
    fn ended(workflow: &str, state: InstanceStateTag, seconds_ago: u64) -> InstanceRow {
        let at = before(NOW, Nanos::from_secs(seconds_ago));
        InstanceRow {
            id: "a".to_owned(),
            run: RunNumber(1),
            workflow: workflow.to_owned(),
            version: "1".to_owned(),
            digest: Digest([1; 32]),
            state,
            created: before(at, Nanos::from_secs(DAY)),
            updated: at,
            last_event: EventId(1),
            ran_through: EventId::NONE,
            custom_status: None,
            problem: None,
        }
    }

    fn config() -> RetentionConfig {
        let kept = KeptByOutcome { completed: days(7), failed: days(30), ..KeptByOutcome::default() };
        let own = KeptByOutcome { completed: Some(days(1)), failed: Some(Kept::ForEver), ..KeptByOutcome::default() };
        let workflows = BTreeMap::from([("hourly".to_owned(), own)]);
        RetentionConfig { kept, workflows, ..RetentionConfig::default() }
    }

    #[test]
    fn an_instance_is_due_when_it_ended_long_enough_ago_for_how_it_ended() {
        let is_due = |state, seconds_ago| config().is_due(&ended("job", state, seconds_ago), NOW);
        assert_eq!([7 * DAY - 1, 7 * DAY].map(|ago| is_due(Completed, ago)), [false, true]);
        assert_eq!([30 * DAY - 1, 30 * DAY].map(|ago| is_due(Failed, ago)), [false, true]);
        for state in [Running, Paused, Cancelled, Terminated] {
            assert!(!is_due(state, 10_000 * DAY), "{state:?}");
        }
    }

    #[test]
    fn what_a_workflow_says_of_its_own_goes_before_the_rest() {
        let is_due = |state, seconds_ago| config().is_due(&ended("hourly", state, seconds_ago), NOW);
        assert_eq!([DAY - 1, DAY].map(|ago| is_due(Completed, ago)), [false, true]);
        assert!(!is_due(Failed, 10_000 * DAY), "kept for ever");
        let all = KeptByOutcome { cancelled: days(2), ..config().kept };
        let config = RetentionConfig { kept: all, ..config() };
        assert!(config.is_due(&ended("hourly", Cancelled, 2 * DAY), NOW), "what it does not say is as for others");
    }

    #[test]
    fn whatever_can_be_due_is_looked_at_and_nothing_younger() {
        let query = config().candidates(NOW).unwrap();
        assert_eq!(query.states, [Completed, Failed]);
        assert_eq!(query.created_to, Some(before(NOW, Nanos::from_secs(DAY))));
        assert_eq!(RetentionConfig::default().candidates(NOW), None);
    }

    #[test]
    fn the_runs_before_the_last_are_counted() {
        let first_kept = |past_runs, last| {
            let config = RetentionConfig { past_runs, ..RetentionConfig::default() };
            config.first_kept(RunNumber(last)).map(|run| run.0)
        };
        assert_eq!([1, 11, 12, 40].map(|last| first_kept(10, last)), [None, None, Some(2), Some(30)]);
        assert_eq!([1, 2].map(|last| first_kept(0, last)), [None, Some(2)]);
        assert_eq!(first_kept(u32::MAX, u32::MAX), None);
    }

    #[test]
    fn only_an_instance_with_too_many_runs_is_noticed_and_once() {
        let retention = Retention::new(RetentionConfig { past_runs: 1, ..RetentionConfig::default() });
        let key = InstanceKey([1; 16]);
        retention.began(key, RunNumber(2));
        assert_eq!(retention.next_noticed(), None);
        retention.began(key, RunNumber(3));
        retention.began(key, RunNumber(4));
        assert_eq!(retention.next_noticed(), Some((key, RunNumber(3))));
        assert_eq!(retention.next_noticed(), None);
    }

    #[test]
    fn the_pace_is_the_one_asked_for() {
        for per_second in [1, 7, 100, 5_000] {
            let pace = Pace::new(per_second);
            let rests_per_second = f64::from(per_second) / f64::from(pace.steps_before_rest);
            assert!((pace.rest.as_secs_f64() * rests_per_second - 1.0).abs() < 0.001, "{per_second}");
        }
        assert_eq!(Pace::new(0).rest, Duration::from_secs(1));
    }
}
