//! Moving an instance to another component, if its history matches: checked where nothing can be added to it meanwhile.

use super::{Told, Work, ended};
use crate::actor::{Instances, Reply};
use crate::api::ReplayVerdict;
use crate::catalog::ComponentPin;
use crate::error::{ErrorKind, RuntimeError};
use crate::{load, replay_check};
use rehydrate_core::{Digest, Event, InstanceKey};
use rehydrate_guest::WorkflowComponent;
use rehydrate_store::InstanceStateTag;
use std::sync::Arc;

/// Where to move an instance.
pub struct MovePlan {
    /// The version.
    pub version: String,
    /// The digest of its component.
    pub digest: Digest,
    /// The component.
    pub component: WorkflowComponent,
    /// Keeps that from being removed until the instance is pinned to it.
    pub pin: ComponentPin,
}

impl Instances {
    pub(super) async fn take_move(
        self: &Arc<Self>,
        key: InstanceKey,
        work: &mut Work,
        plan: MovePlan,
        reply: Reply<()>,
    ) {
        let events = match self.matching_events(key, work, &plan).await {
            Ok(events) => events,
            Err(error) => return drop(reply.send(Err(error))),
        };
        work.resident.row.version = plan.version;
        work.resident.row.digest = plan.digest;
        work.pins.push(plan.pin);
        work.turn.row_changed();
        if work.resident.row.state == InstanceStateTag::Paused {
            self.unpause(key, work).await;
        } else {
            // It waits where it waited, so its new guest is made when it has something to do.
            work.resident.guest = None;
            work.events = events;
        }
        work.told.push(Told::Done(reply));
    }

    /// All events of the run, if the component does what they say.
    async fn matching_events(
        self: &Arc<Self>,
        key: InstanceKey,
        work: &mut Work,
        plan: &MovePlan,
    ) -> Result<Vec<Event>, RuntimeError> {
        let row = &work.resident.row;
        if work.resident.state.is_closed() {
            return Err(ended(row));
        }
        // The events of this turn, if any, are not stored yet: they come on top of the stored ones.
        let events = work.turn.with_new_events(load::history(&*self.store, key, row.run)?);
        let ran_through = load::ran_through(row.ran_through, &events);
        let run = replay_check::Run { key, run: row.run, events: events.clone(), ran_through };
        match replay_check::verdict(self, run, &plan.component).await? {
            ReplayVerdict::Matches { .. } => Ok(events),
            other => Err(does_not_match(&row.id, &plan.version, &other)),
        }
    }
}

fn does_not_match(id: &str, version: &str, verdict: &ReplayVerdict) -> RuntimeError {
    let why = match verdict {
        ReplayVerdict::Diverges(divergence) => divergence.to_string(),
        ReplayVerdict::Stopped(failure) => format!("it was stopped: {failure}"),
        ReplayVerdict::Matches { .. } => "it matches".to_owned(),
    };
    let message =
        format!("version {version} does not match the history of instance `{id}`, which stays as it is: {why}");
    RuntimeError::new(ErrorKind::Conflict, "instance.diverges", message)
}
