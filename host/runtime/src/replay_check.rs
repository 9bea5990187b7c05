//! Replaying an instance without writing anything.

use crate::actor::Instances;
use crate::api::{ReplayReport, ReplayVerdict};
use crate::catalog::internal;
use crate::error::RuntimeError;
use crate::load;
use crate::tokens::RunUrls;
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{Digest, Event, EventBody, EventId, Failure, InstanceKey, Outcome, Replay, RunNumber};
use rehydrate_guest::{Step, Stopped, WorkflowComponent, WorkflowGuest};
use rehydrate_store::InstanceRow;
use std::sync::Arc;

/// Replays a run with the component of that digest.
pub async fn replay(
    instances: &Arc<Instances>,
    key: InstanceKey,
    row: &InstanceRow,
    run: RunNumber,
    version: &str,
    digest: Digest,
) -> Result<ReplayReport, RuntimeError> {
    let recorded = Run::load(instances, key, row, run)?;
    let events = recorded.len();
    let component = instances.catalog.workflow_component(digest).await?;
    let verdict = verdict(instances, recorded, &component).await?;
    Ok(ReplayReport { id: row.id.clone(), run, version: version.to_owned(), events, verdict })
}

/// A recorded run.
pub struct Run {
    /// The instance.
    pub key: InstanceKey,
    /// Which run of it.
    pub run: RunNumber,
    /// All its events.
    pub events: Vec<Event>,
    /// The inbound event through which the guest is known to have run.
    pub ran_through: EventId,
}

impl Run {
    /// A run as the store has it; without events if it was purged.
    pub fn load(
        instances: &Instances,
        key: InstanceKey,
        row: &InstanceRow,
        run: RunNumber,
    ) -> Result<Run, RuntimeError> {
        let events = load::history(&*instances.store, key, run)?;
        let known = if run == row.run { row.ran_through } else { EventId::NONE };
        let ran_through = load::ran_through(known, &events);
        Ok(Run { key, run, events, ran_through })
    }

    /// How many events it has.
    pub fn len(&self) -> u64 {
        self.events.last().map_or(0, |event| event.id.0)
    }
}

/// What a component does with a recorded run. Nothing is written, and nothing goes out.
pub async fn verdict(
    instances: &Instances,
    run: Run,
    component: &WorkflowComponent,
) -> Result<ReplayVerdict, RuntimeError> {
    let Run { key, run, events, ran_through } = run;
    let recorded = recorded_result(&events);
    let stop = recorded_stop(&events);
    let told_run = load::fold(&events, run, 0).told_run();
    let replay = Replay::new(events, ran_through, instances.config.limits.clone(), CallbackOrigin::default())
        .map_err(|error| internal(&error.to_string()))?;
    let urls = Arc::new(RunUrls { keys: instances.keys.clone(), key, run: told_run });
    let mut guest = WorkflowGuest::new(component, replay, urls);
    let step = loop {
        match guest.step() {
            Step::Yielded => tokio::task::yield_now().await,
            other => break other,
        }
    };
    Ok(match step {
        Step::Waiting | Step::Yielded => ReplayVerdict::Matches { result: None },
        Step::Returned => ReplayVerdict::Matches { result: recorded.or_else(|| returned(&mut guest)) },
        Step::Stopped(Stopped::Diverged(divergence)) => ReplayVerdict::Diverges(divergence),
        Step::Stopped(Stopped::Failed(failure)) => match stop {
            Some((known, at)) if same_stop(&failure, &known) && guest.with_replay(|it| it.ran_through()) == at => {
                ReplayVerdict::Matches { result: Some(Err(known)) }
            }
            _ => ReplayVerdict::Stopped(failure),
        },
        Step::Stopped(Stopped::HostFault(text)) => return Err(internal(&text)),
    })
}

/// The result in the history. A guest that returned something else would have diverged.
fn recorded_result(events: &[Event]) -> Option<Outcome> {
    match &events.last()?.body {
        EventBody::InstanceCompleted { output } => Some(Ok(output.clone())),
        EventBody::InstanceFailed { failure } | EventBody::InstanceCancelled { failure } => Some(Err(failure.clone())),
        _ => None,
    }
}

/// Why the host stopped the guest, and the last inbound event that the guest could know by then.
fn recorded_stop(events: &[Event]) -> Option<(Failure, EventId)> {
    let (last, before) = events.split_last()?;
    let EventBody::InstanceStopped { failure } = &last.body else { return None };
    let inbound = before.iter().rfind(|event| event.cause == EventId::NONE)?;
    Some((failure.clone(), inbound.id))
}

/// Whether a guest was stopped for the reason in the history. What a limit's message counts may differ.
fn same_stop(stopped: &Failure, known: &Failure) -> bool {
    stopped == known || (stopped.code == known.code && known.code.starts_with("limit."))
}

/// The result of a guest that went further than its history.
fn returned(guest: &mut WorkflowGuest) -> Option<Outcome> {
    recorded_result(&guest.with_replay(Replay::take_fresh))
}
