//! The replay core: given a history and one input, it says what happens next and never does it.
//!
//! Nothing here knows a clock, randomness from outside, floating point, async or I/O. Time comes in as
//! an argument, random bits from a seed in the history, and what must be done goes out as
//! [`Effect`]s, which the caller may carry out only after the events they came from are durable.
//!
//! Two readers of one history live here. [`InstanceState`] folds *all* recorded events and is the truth
//! that inputs are decided against. [`Replay`] is what the guest has seen so far: it hands out recorded
//! outcomes one at a time, only while the guest waits, and compares every command of the guest with
//! the recorded one.

pub mod activity;
pub mod callback;
pub mod child;
pub mod continue_as_new;
pub mod entity;
pub mod event;
pub mod failure;
pub mod ids;
pub mod instance;
pub mod limits;
pub mod message;
pub mod random;
pub mod remote;
pub mod replay;
pub mod retry;
pub mod rewind;
pub mod signal;
#[cfg(test)]
#[path = "common_tests.rs"]
mod testing;
pub mod time;
pub mod timer;
pub mod view;

pub use child::{ChildOptions, ParentClose};
pub use entity::EntityId;
pub use event::{Event, EventBody, Lineage};
pub use failure::{Failure, FailureKind, Json, Outcome};
pub use ids::{AttemptNumber, Digest, EventId, InstanceId, InstanceKey, RunNumber};
pub use instance::{Answer, Decision, Effect, Input, InstanceState, Lifecycle, TimerPurpose};
pub use limits::{LimitExceeded, Limits};
pub use message::{Message, MessageBody, MessageId, Outgoing, Parent, ReplyTo, StartMessage};
pub use replay::{Divergence, Replay, Stop};
pub use retry::{ActivityOptions, RetryPolicy};
pub use time::{Nanos, Timestamp};
