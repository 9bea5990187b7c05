//! Dropping an instance, or its past runs, between two turns: nobody else writes to it meanwhile.

use super::process::commit_refused;
use super::{Instances, Resident};
use crate::error::{ErrorKind, RuntimeError};
use rehydrate_core::{EventId, InstanceKey, RunNumber, Timestamp};
use rehydrate_store::{Batch, InstanceRow, Purge};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is to be dropped for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PurgePlan {
    /// The instance, if it has ended.
    Instance,
    /// The same, but only while its last run is that one, created then: what whoever plans this has seen.
    Seen(RunNumber, Timestamp),
    /// The runs before this one, if there are so many.
    RunsBefore(RunNumber),
}

impl Instances {
    /// Drops what the plan says. Of a purged instance nothing stays in memory either.
    pub(super) async fn purge(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: Option<Box<Resident>>,
        plan: PurgePlan,
    ) -> (Option<Box<Resident>>, Result<(), RuntimeError>) {
        let row = match &resident {
            Some(resident) => Ok(Some(resident.row.clone())),
            None => self.store.instance(key).map_err(RuntimeError::from),
        };
        let planned = row.and_then(|row| planned(row.as_ref(), plan));
        let done = match planned {
            Ok((row, purge)) => self.commit_purge(key, &row, purge).await.map(|()| purge),
            Err(error) => Err(error),
        };
        match done {
            Ok(Purge::Instance) => {
                self.watchers.notify(key);
                self.counters.purged.fetch_add(1, Ordering::Relaxed);
                (None, Ok(()))
            }
            Ok(Purge::RunsBefore(_)) => (resident, Ok(())),
            Err(error) => (resident, Err(error)),
        }
    }

    async fn commit_purge(&self, key: InstanceKey, row: &InstanceRow, purge: Purge) -> Result<(), RuntimeError> {
        let last = self.store.last_event(key, row.run)?.map_or(EventId::NONE, |(id, _)| id);
        let previous = Some(row.index_keys()).filter(|_| purge == Purge::Instance);
        let batch = Batch { purge: Some(purge), previous, ..Batch::new(key, row.run, last) };
        self.commits.commit(Box::new(batch), self.is_alone()).await?.map_err(commit_refused)
    }
}

/// What the plan comes to for an instance as it is now.
fn planned(row: Option<&InstanceRow>, plan: PurgePlan) -> Result<(InstanceRow, Purge), RuntimeError> {
    let row = row.ok_or_else(|| RuntimeError::no_instance("(unknown)"))?;
    let conflict = |code, message| Err(RuntimeError::new(ErrorKind::Conflict, code, message));
    let id = &row.id;
    match plan {
        PurgePlan::Seen(run, created) if (run, created) != (row.run, row.created) => {
            conflict("instance.run-began", format!("instance `{id}` has begun a run meanwhile; look at it"))
        }
        PurgePlan::Instance | PurgePlan::Seen(..) if !row.state.is_closed() => conflict(
            "instance.running",
            format!(
                "instance `{id}` has not ended, so it can't be purged; end it with `rehydrate instance terminate {id}`"
            ),
        ),
        PurgePlan::Instance | PurgePlan::Seen(..) => Ok((row.clone(), Purge::Instance)),
        PurgePlan::RunsBefore(run) if run > row.run => conflict(
            "run.not-past",
            format!("run {} of instance `{id}` is its last one, which stays; name an earlier one", row.run.0),
        ),
        PurgePlan::RunsBefore(run) => Ok((row.clone(), Purge::RunsBefore(run))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate_core::Digest;
    use rehydrate_store::InstanceStateTag;

    fn row(state: InstanceStateTag) -> InstanceRow {
        InstanceRow {
            id: "a".to_owned(),
            run: RunNumber(3),
            workflow: "w".to_owned(),
            version: "1".to_owned(),
            digest: Digest([1; 32]),
            state,
            created: Timestamp(0),
            updated: Timestamp(0),
            last_event: EventId(1),
            ran_through: EventId::NONE,
            custom_status: None,
            problem: None,
        }
    }

    fn code(state: InstanceStateTag, plan: PurgePlan) -> Result<Purge, &'static str> {
        planned(Some(&row(state)), plan).map(|(_, purge)| purge).map_err(|error| error.code)
    }

    #[test]
    fn only_what_has_ended_is_purged_and_only_the_run_that_was_meant() {
        for state in InstanceStateTag::ALL {
            let expected = if state.is_closed() { Ok(Purge::Instance) } else { Err("instance.running") };
            assert_eq!(code(state, PurgePlan::Instance), expected);
            assert_eq!(code(state, PurgePlan::Seen(RunNumber(3), Timestamp(0))), expected);
            // Also the same run of an instance that was purged and begun anew.
            for other in [PurgePlan::Seen(RunNumber(2), Timestamp(0)), PurgePlan::Seen(RunNumber(3), Timestamp(-1))] {
                assert_eq!(code(state, other), Err("instance.run-began"));
            }
        }
        let missing = planned(None, PurgePlan::Instance).map(drop);
        assert_eq!(missing.map_err(|error| error.code), Err("instance.not-found"));
    }

    #[test]
    fn past_runs_of_an_open_instance_may_go_but_never_its_last() {
        let running = InstanceStateTag::Running;
        let before = |run| PurgePlan::RunsBefore(RunNumber(run));
        assert_eq!(code(running, before(3)), Ok(Purge::RunsBefore(RunNumber(3))));
        assert_eq!(code(running, before(4)), Err("run.not-past"));
    }
}
