//! Durable timers.
//!
//! | state | event | next | effects |
//! |---|---|---|---|
//! | – | `TimerStarted` | started | put the timer row |
//! | started | `TimerFired` | fired | drop the timer row |
//! | started | `OperationCancelled`, `CancelRequested`, end of the run | cancelled | drop the timer row |
//! | fired, cancelled | anything | the same | none: a timer fires once |

use crate::event::EventBody;
use crate::ids::EventId;
use crate::instance::{Effect, TimerPurpose};
use crate::time::Timestamp;

/// A started timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimerState {
    /// When it was started.
    pub started: Timestamp,
    /// It fires not before this.
    pub deadline: Timestamp,
}

impl TimerState {
    fn row(&self, op: EventId) -> (Timestamp, EventId, TimerPurpose) {
        (self.deadline, op, TimerPurpose::Timer)
    }

    /// What must be done when it starts.
    pub fn open(&self, op: EventId, effects: &mut Vec<Effect>) {
        let (due, op, purpose) = self.row(op);
        effects.push(Effect::PutTimer { due, op, purpose });
    }

    /// What must be done when it ends, in whatever way.
    pub fn close(&self, op: EventId, effects: &mut Vec<Effect>) {
        let (due, op, purpose) = self.row(op);
        effects.push(Effect::DropTimer { due, op, purpose });
    }

    /// The event when its row is due: none while it is early.
    pub fn decide_due(&self, op: EventId, now: Timestamp) -> Option<EventBody> {
        (now >= self.deadline).then_some(EventBody::TimerFired { op })
    }
}
