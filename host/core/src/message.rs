//! Messages: the one way in which instances reach each other.
//!
//! | who | what | then |
//! |---|---|---|
//! | sender | an event leads to [`Effect::Send`](crate::Effect::Send) | the message is kept with the sender's batch |
//! | receiver | takes it | what it led to and the message's id are one batch of the receiver's |
//! | host | the receiver's batch is durable | message and id are forgotten together |
//!
//! A message is delivered at least once and taken once: one that comes again after a crash is known by its id. The
//! messages from one instance to another arrive in the order in which they were sent.

use crate::failure::{Json, Outcome};
use crate::ids::{EventId, InstanceKey, RunNumber};
use serde::{Deserialize, Serialize};

/// What tells a message from all others. The order of ids of one sender is the order in which it sent them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct MessageId {
    /// Who sent it, or asked what it answers.
    pub sender: InstanceKey,
    /// The sender's run; zero for an entity.
    pub run: RunNumber,
    /// The event that led to it; for an entity the number of its operation.
    pub event: EventId,
    /// Which of that event's messages, from 1.
    pub part: u32,
    /// It is the answer to the message with this id.
    pub is_answer: bool,
}

/// A message under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The sender's instance id, or entity id as text.
    pub from: String,
    /// The receiver's.
    pub to: String,
    /// The operation of the sender that an answer settles; none: nobody waits for one.
    pub reply_to: Option<ReplyTo>,
    /// What it says.
    pub body: MessageBody,
}

/// Which operation of the sender's run an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The event that began the operation.
    pub op: EventId,
    /// Which of its questions: the attempt of a child, the entity of a lock.
    pub part: u32,
}

/// A message before it has an id: what an event of an instance leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The event that led to it.
    pub event: EventId,
    /// Whom it goes to.
    pub to: String,
    /// The operation that an answer settles.
    pub reply_to: Option<ReplyTo>,
    /// What it says.
    pub body: MessageBody,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MessageBody {
    /// Start an instance under the receiver's id.
    Start(StartMessage),
    /// A signal.
    Signal {
        /// Its name.
        name: String,
        /// Its payload.
        payload: Json,
    },
    /// A request to cancel.
    Cancel {
        /// Why.
        reason: String,
        /// Only if the receiver is still the child that was started for this; none: whoever it is.
        child_of: Option<Parent>,
    },
    /// An order to end at once, to a child.
    Terminate {
        /// Why.
        reason: String,
        /// Only if the receiver is still the child that was started for this.
        child_of: Parent,
    },
    /// How a question of the receiver's was answered.
    Reply {
        /// The receiver's run that asked.
        run: RunNumber,
        /// The operation.
        to: ReplyTo,
        /// The answer.
        outcome: Outcome,
    },
    /// An operation of an entity.
    Operation {
        /// Its name.
        operation: String,
        /// Its input.
        input: Json,
    },
    /// A request for an entity's lock.
    Lock,
    /// The lock, or the request for it, is given up by the sender's operation `op`.
    Unlock {
        /// The operation that asked for the lock.
        op: EventId,
    },
}

/// What is to be started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartMessage {
    /// The workflow.
    pub workflow: String,
    /// Its version; none: the newest when the message arrives.
    pub version: Option<String>,
    /// The input.
    pub input: Json,
    /// Whose child it is.
    pub parent: Option<Parent>,
    /// How many instances stand above it.
    pub depth: u32,
}

/// Whose child an instance is, and which of that one's operations waits for its outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's id.
    pub instance: String,
    /// Its run.
    pub run: RunNumber,
    /// The operation, and which attempt of it this is.
    pub reply_to: ReplyTo,
}
