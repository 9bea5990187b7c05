//! Callbacks: settled once, by whoever has the URL.
//!
//! | state | input or event | next | answer, effects |
//! |---|---|---|---|
//! | – | `CallbackCreated` | open | put the expiry row, if it expires |
//! | open | posted → `CallbackSettled` | settled | accepted; drop the expiry row |
//! | open | expiry due → `CallbackExpired` | expired | drop the expiry row |
//! | open | `OperationCancelled`, `CancelRequested`, end of the run | cancelled | drop the expiry row |
//! | settled | posted, the same digest | settled | duplicate, nothing recorded |
//! | settled | posted, another digest | settled | conflict, nothing recorded |
//! | expired, cancelled | posted | the same | gone, nothing recorded |
//!
//! A settled callback goes on answering from its own record after its instance has ended: an external
//! system that repeats itself because it lost our answer gets the same answer again.

use crate::event::EventBody;
use crate::failure::Outcome;
use crate::ids::{Digest, EventId};
use crate::instance::{Answer, Decision, Effect, TimerPurpose};
use crate::time::Timestamp;

/// A callback that waits for its call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallbackState {
    /// Its name, for people.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Option<Timestamp>,
}

/// What is left of a callback that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedCallback {
    /// Somebody called; the digest of what was posted.
    Settled(Digest),
    /// Nobody called in time, or it was cancelled.
    Gone,
}

impl CallbackState {
    fn expiry(&self, op: EventId) -> Option<(Timestamp, EventId, TimerPurpose)> {
        self.expires.map(|due| (due, op, TimerPurpose::CallbackExpiry))
    }

    /// What must be done when it is created.
    pub fn open(&self, op: EventId, effects: &mut Vec<Effect>) {
        if let Some((due, op, purpose)) = self.expiry(op) {
            effects.push(Effect::PutTimer { due, op, purpose });
        }
    }

    /// What must be done when it ends, in whatever way.
    pub fn close(&self, op: EventId, effects: &mut Vec<Effect>) {
        if let Some((due, op, purpose)) = self.expiry(op) {
            effects.push(Effect::DropTimer { due, op, purpose });
        }
    }

    /// The answer to a post while it is open. A post that comes after the expiry is too late even when
    /// the expiry itself has not been recorded yet.
    pub fn decide_posted(&self, op: EventId, outcome: Outcome, digest: Digest, now: Timestamp) -> Decision {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Decision { answer: Answer::Gone, ..Decision::event(EventBody::CallbackExpired { op }) };
        }
        Decision::event(EventBody::CallbackSettled { op, outcome, digest })
    }

    /// The event when its expiry row is due: none while it is early.
    pub fn decide_due(&self, op: EventId, now: Timestamp) -> Option<EventBody> {
        self.expires.is_some_and(|expires| now >= expires).then_some(EventBody::CallbackExpired { op })
    }
}

impl ClosedCallback {
    /// The answer to a post after it ended.
    pub fn answer(self, posted: Digest) -> Answer {
        match self {
            ClosedCallback::Settled(first) if first == posted => Answer::Duplicate,
            ClosedCallback::Settled(_) => Answer::Conflict,
            ClosedCallback::Gone => Answer::Gone,
        }
    }
}
