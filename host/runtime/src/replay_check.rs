//! Replaying an instance without writing anything.

use crate::actor::Instances;
use crate::api::{ReplayReport, ReplayVerdict};
use crate::catalog::internal;
use crate::error::RuntimeError;
use crate::load;
use crate::tokens::RunUrls;
use rehydrate_core::replay::CallbackOrigin;
use rehydrate_core::{Digest, Event, EventBody, EventId, Failure, InstanceKey, Outcome, Replay, RunNumber};
use rehydrate_guest::{Step, Stopped, WorkflowGuest};
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
    let events = load::history(&*instances.store, key, run)?;
    let count = events.last().map_or(0, |event| event.id.0);
    let recorded = recorded_result(&events);
    let stop = recorded_stop(&events);
    let known = if run == row.run { row.ran_through } else { EventId::NONE };
    let ran_through = load::ran_through(known, &events);
    let component = instances.catalog.workflow_component(digest).await?;
    let told_run = load::fold(&events, run, 0).told_run();
    let replay = Replay::new(events, ran_through, instances.config.limits.clone(), CallbackOrigin::default())
        .map_err(|error| internal(&error.to_string()))?;
    let urls = Arc::new(RunUrls { keys: instances.keys.clone(), key, run: told_run });
    let mut guest = WorkflowGuest::new(&component, replay, urls);
    let step = loop {
        match guest.step() {
            Step::Yielded => tokio::task::yield_now().await,
            other => break other,
        }
    };
    let verdict = match step {
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
    };
    Ok(ReplayReport { id: row.id.clone(), run, version: version.to_owned(), events: count, verdict })
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
