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
        let mut ids: Vec<(EventId, String)> = self.known_message_ids().collect();
        ids.sort_unstable();
        let surplus = ids.len().saturating_sub(MESSAGE_IDS_CARRIED_MAX);
        let message_ids = ids.into_iter().skip(surplus).map(|(_, id)| id).collect();
        let cancel = self.cancel_requested.as_ref().filter(|(cancel, _)| last.cause < *cancel);
        Some(Carried {
            lineage: Lineage { rewound_from: None, message_ids, ..self.lineage.clone() },
            signals: self.buffered_signal_events(),
            cancel: cancel.map(|(_, reason)| reason.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Digest, RunNumber};
    use crate::time::Timestamp;

    fn folded(bodies: Vec<(EventId, EventBody)>) -> (InstanceState, Event) {
        let mut state = InstanceState::new(RunNumber::FIRST, 0);
        let mut last = None;
        for (cause, body) in bodies {
            let event = Event { cause, ..state.next_event(body, Timestamp(1)) };
            state.apply(&event, &mut Vec::new());
            last = Some(event);
        }
        (state, last.unwrap())
    }

    fn started() -> (EventId, EventBody) {
        let text = |s: &str| s.to_owned();
        let body = EventBody::InstanceStarted {
            instance: text("a"),
            workflow: text("w"),
            version: text("1"),
            digest: Digest([0; 32]),
            input: text("null"),
            seed: 1,
            lineage: None,
        };
        (EventId::NONE, body)
    }

    fn signal(name: &str, id: &str) -> (EventId, EventBody) {
        let (name, payload) = (name.to_owned(), "1".to_owned());
        (EventId::NONE, EventBody::SignalReceived { name, payload, message_id: Some(id.to_owned()) })
    }

    fn continued(cause: u64) -> (EventId, EventBody) {
        (EventId(cause), EventBody::InstanceContinued { input: "2".to_owned(), newest: true })
    }

    #[test]
    fn signals_that_nobody_took_are_carried_in_order_of_arrival_and_all_keys_are_known() {
        let awaited = (EventId(1), EventBody::SignalAwaited { name: "b".to_owned() });
        let history = vec![started(), signal("b", "m1"), awaited, signal("b", "m2"), signal("a", "m3"), continued(5)];
        let (state, last) = folded(history);
        let carried = state.carried(&last).unwrap();
        assert_eq!(carried.signals, [EventId(4), EventId(5)]);
        assert_eq!(carried.lineage.message_ids, ["m1", "m2", "m3"]);
        assert!(state.is_closed() && state.outcome().is_none());
    }

    #[test]
    fn a_request_to_cancel_is_carried_only_if_the_guest_had_not_seen_it() {
        let cancel = (EventId::NONE, EventBody::CancelRequested { reason: "stop".to_owned() });
        for (cause, carried) in [(1, Some("stop".to_owned())), (2, None)] {
            let (state, last) = folded(vec![started(), cancel.clone(), continued(cause)]);
            assert_eq!(state.carried(&last).unwrap().cancel, carried);
        }
    }

    #[test]
    fn only_a_run_that_continued_carries_anything() {
        let (state, last) = folded(vec![started()]);
        assert_eq!(state.carried(&last), None);
    }
}
