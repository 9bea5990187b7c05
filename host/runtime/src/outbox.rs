//! Messages on their way: handed to their receivers once they are durable, and forgotten once they were received.
//!
//! Delivery on one host is a post into the receiver's mailbox. A message that was under way when the host ended is
//! delivered again at its next start; whether it was received before, the store knows.

use crate::actor::{Instances, Post};
use crate::{catalog, identity};
use rehydrate_core::{Failure, InstanceKey, Message, MessageBody, MessageId, Outcome};
use rehydrate_store::{Store, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Messages read at once in recovery, counted, and forgotten at once.
const PAGE: usize = 1024;

/// How long received messages are gathered before they are forgotten.
const GATHER: Duration = Duration::from_millis(20);

/// How long a message that could not be taken is left alone before it is delivered again.
const DELIVER_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Messages that were received and are still in the store.
#[derive(Default)]
pub struct Received {
    ids: Mutex<Vec<MessageId>>,
    some: Notify,
}

impl Received {
    /// What took this message is durable.
    pub fn add(&self, id: MessageId) {
        let first = {
            let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.push(id);
            ids.len() == 1
        };
        if first {
            self.some.notify_one();
        }
    }

    /// Forgets those gathered so far.
    pub fn forget(&self, store: &dyn Store) -> Result<(), StoreError> {
        let ids = std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner));
        ids.chunks(PAGE).try_for_each(|ids| store.drop_messages(ids))
    }
}

/// Forgets received messages until the host ends. What it does not come to is known and forgotten at the next start.
pub async fn forget_received(instances: Arc<Instances>) {
    loop {
        instances.received.some.notified().await;
        tokio::time::sleep(GATHER).await;
        let forgetting = instances.clone();
        let forgotten = catalog::blocking(move || forgetting.received.forget(&*forgetting.store)).await;
        if let Ok(Err(error)) = forgotten {
            tracing::error!(%error, "received messages could not be forgotten");
        }
    }
}

/// All messages that were under way when the host ended. Read before anything runs, so that none of them can be one
/// that is sent now.
pub fn left_over(store: &dyn Store) -> Result<Vec<Message>, StoreError> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let page = store.outbox(all.last().map(|message| message.id), PAGE)?;
        let done = page.len() < PAGE;
        all.extend(page);
        if done {
            return Ok(all);
        }
    }
}

/// How many messages are under way, or were a moment ago: at most [`PAGE`]; none if the store can't be read.
pub fn count(store: &dyn Store) -> Option<usize> {
    let page = tokio::task::block_in_place(|| store.outbox(None, PAGE));
    page.map(|messages| messages.len()).inspect_err(|error| tracing::error!(%error, "messages can't be read")).ok()
}

/// The answer to a message, if its sender waits for one.
pub fn answer(message: &Message, outcome: Outcome) -> Option<Message> {
    let to = message.reply_to?;
    Some(Message {
        id: MessageId { is_answer: true, ..message.id },
        from: message.to.clone(),
        to: message.from.clone(),
        reply_to: None,
        body: MessageBody::Reply { run: message.id.run, to, outcome },
    })
}

/// What the sender of a message to nobody is told.
pub fn nobody(message: &Message) -> Failure {
    let text = format!("there is no instance `{}`, or it has ended", message.to);
    Failure::new(rehydrate_core::FailureKind::NotFound, "instance.not-found", text)
}

/// The post that delivers a message which may have been received before.
pub fn delivered_again(message: Message) -> (InstanceKey, Post) {
    (identity::instance_key(&message.to), Post::Message { message: Box::new(message), again: true })
}

impl Instances {
    /// Hands a durable message to its receiver. `again`: it may have been received before.
    pub fn deliver(self: &Arc<Self>, message: Message, again: bool) {
        self.post(identity::instance_key(&message.to), Post::Message { message: Box::new(message), again });
    }

    /// The receiver could not take it: it is tried again.
    pub fn deliver_later(self: &Arc<Self>, message: Message) {
        let instances = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(DELIVER_AGAIN_AFTER).await;
            instances.deliver(message, true);
        });
    }
}
