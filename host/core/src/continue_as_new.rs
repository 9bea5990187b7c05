//! Continue-as-new: a run ends and the next one of the same instance begins, in one commit.
//!
//! | the run that ends | the new run |
//! |---|---|
//! | signals that nobody took | its first events after `InstanceStarted`, in order of arrival |
//! | idempotency keys of signals | known, the latest [`MESSAGE_IDS_CARRIED_MAX`] |
//! | a request to cancel that the guest had not seen | recorded again |
//! | parent, depth | the same: who waits for the instance waits on |
//! | open operations, held locks | given up, as at any end |
//! | custom status, random numbers | begin anew |

use crate::event::{Event, EventBody, Lineage};
use crate::ids::EventId;
use crate::instance::InstanceState;
use std::collections::BTreeSet;

/// Idempotency keys of signals that a new run knows of the runs before it.
pub const MESSAGE_IDS_CARRIED_MAX: usize = 1_000;

/// What the next run takes over from a run that has continued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Where the next run comes from.
    pub lineage: Lineage,
    /// The events of the signals that nobody took, in order of arrival.
    pub signals: Vec<EventId>,
    /// The reason of a request to cancel that the guest had not seen.
    pub cancel: Option<String>,
}

impl InstanceState {
    /// What the next run takes over, if this run's last event says that there is one.
    pub fn carried(&self, last: &Event) -> Option<Carried> {
        let EventBody::InstanceContinued { .. } = last.body else { return None };
        let cancel = self.cancel_requested.as_ref().filter(|(cancel, _)| last.cause < *cancel);
        Some(Carried {
            lineage: Lineage { rewound_from: None, message_ids: self.latest_message_ids(), ..self.lineage.clone() },
            signals: self.buffered_signal_events(),
            cancel: cancel.map(|(_, reason)| reason.clone()),
        })
    }

    /// The latest idempotency keys of signals, oldest first: those that this run took over stand in the order in which
    /// the runs before took them, and come before its own.
    fn latest_message_ids(&self) -> Vec<String> {
        let mut own: Vec<(EventId, String)> =
            self.known_message_ids().filter(|(event, _)| *event != EventId::NONE).collect();
        own.sort_unstable();
        let own: Vec<String> = own.into_iter().map(|(_, id)| id).collect();
        let again: BTreeSet<&String> = own.iter().collect();
        let taken_over = self.lineage.message_ids.iter().filter(|id| !again.contains(id)).cloned();
        let mut ids: Vec<String> = taken_over.collect();
        ids.extend(own.iter().cloned());
        ids.split_off(ids.len().saturating_sub(MESSAGE_IDS_CARRIED_MAX))
    }
}

#[cfg(test)]
#[path = "continue_as_new_tests.rs"]
mod tests;
