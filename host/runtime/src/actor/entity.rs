//! Entities as actors: one operation at a time, many in one commit.
//!
//! Nothing of an entity stays in memory: each turn reads its row and values, performs what is in the mailbox, and commits
//! values, messages and answers as one. While a workflow holds its lock, it performs that one's operations only;
//! others wait in its row.

use super::process::stored_lines;
use super::{Instances, Post, Reply};
use crate::catalog::internal;
use crate::entities::NOT_DEPLOYED;
use crate::error::{ErrorKind, RuntimeError};
use crate::outbox::answer;
use crate::{clock, runtime};
use rehydrate_core::{
    EntityId, EventId, Failure, FailureKind, InstanceKey, Json, Message, MessageBody, MessageId, Outcome, RunNumber,
};
use rehydrate_guest::{ActivityLog, EntityRequest, EntitySend, EntityTurn, perform};
use rehydrate_store::{Batch, EntityChange, EntityRow, LockHolder, LogLine};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Operations that wait in one entity's row while it is locked.
const WAITING_MAX: usize = 1_000;

/// An operation that somebody outside asks for.
pub struct EntityAsk {
    /// The entity.
    pub entity: EntityId,
    /// The operation.
    pub operation: String,
    /// Its input.
    pub input: Json,
    /// Whom to tell; the outcome of a call, or for a signal `null` once it is recorded.
    pub reply: Reply<Outcome>,
    /// Whether the outcome is waited for.
    pub is_call: bool,
}

/// A turn of an entity under way.
struct EntityWork {
    id: EntityId,
    key: InstanceKey,
    row: EntityRow,
    /// It was there before this turn.
    existed: bool,
    values: BTreeMap<String, Json>,
    changed: BTreeMap<String, Option<Json>>,
    send: Vec<Message>,
    log: Vec<LogLine>,
    replies: Vec<(Reply<Outcome>, Outcome)>,
    messages: Vec<Message>,
}

/// What is to be performed.
struct Asked<'a> {
    operation: &'a str,
    input: &'a str,
    caller: Option<&'a str>,
    is_call: bool,
}

impl Instances {
    /// One turn of an entity: all these posts, one commit.
    pub(super) async fn take_entity_turn(self: &Arc<Self>, key: InstanceKey, posts: Vec<Post>) {
        let mut work = match self.begin_entity(key, &posts) {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(?key, %error, "an entity could not be loaded");
                return posts.into_iter().for_each(|post| self.refuse_entity_post(post, &error));
            }
        };
        for post in posts {
            match post {
                Post::Entity(ask) => self.take_ask(&mut work, *ask).await,
                Post::Message { message, again } => match self.is_known(&message, again) {
                    Ok(true) => self.received.add(message.id),
                    Ok(false) => self.take_entity_message(&mut work, *message).await,
                    Err(_) => self.deliver_later(*message),
                },
                _ => {}
            }
        }
        self.commit_entity(work).await;
    }

    fn begin_entity(&self, key: InstanceKey, posts: &[Post]) -> Result<EntityWork, RuntimeError> {
        let named = posts.iter().find_map(|post| match post {
            Post::Entity(ask) => Some(ask.entity.clone()),
            Post::Message { message, .. } => EntityId::parse(&message.to),
            _ => None,
        });
        let id = named.ok_or_else(|| internal("a message names no entity"))?;
        let text = id.to_string();
        let stored = self.store.entity(&text)?;
        let values = self.store.entity_values(&text)?;
        let existed = stored.is_some();
        let now = clock::now();
        let row = stored.unwrap_or_else(|| EntityRow {
            id: text,
            created: now,
            last_operation: now,
            operation: 0,
            lock: None,
            waiting: Vec::new(),
        });
        let (changed, send, log, replies, messages) = Default::default();
        Ok(EntityWork { id, key, row, existed, values, changed, send, log, replies, messages })
    }

    fn refuse_entity_post(self: &Arc<Self>, post: Post, error: &RuntimeError) {
        match post {
            Post::Entity(ask) => drop(ask.reply.send(Err(error.clone()))),
            Post::Message { message, .. } => self.deliver_later(*message),
            _ => {}
        }
    }

    async fn take_ask(self: &Arc<Self>, work: &mut EntityWork, ask: EntityAsk) {
        let EntityAsk { operation, input, reply, is_call, .. } = ask;
        if work.row.lock.is_none() {
            let asked = Asked { operation: &operation, input: &input, caller: None, is_call };
            let outcome = self.perform(work, asked).await;
            work.replies.push((reply, outcome));
        } else if is_call {
            let text = format!("entity `{}` is locked by a workflow; try again in a moment", work.id);
            drop(reply.send(Err(RuntimeError::new(ErrorKind::Conflict, "entity.locked", text))));
        } else if work.row.waiting.len() >= WAITING_MAX {
            drop(reply.send(Err(RuntimeError::new(ErrorKind::Unavailable, "entity.busy", too_many_wait(work)))));
        } else {
            // It gets an id as if the entity had sent it to itself.
            let id = work.next_message_id();
            let body = MessageBody::Operation { operation, input };
            let (from, to) = (String::new(), work.id.to_string());
            work.row.waiting.push(Message { id, from, to, reply_to: None, body });
            work.replies.push((reply, Ok("null".to_owned())));
        }
    }

    async fn take_entity_message(self: &Arc<Self>, work: &mut EntityWork, message: Message) {
        if work.has_no_room_for(&message) {
            // Its sender would never learn that it was refused.
            return self.deliver_later(message);
        }
        work.messages.push(message.clone());
        match &message.body {
            MessageBody::Unlock { op } => self.unlock(work, &message, *op).await,
            _ if !work.may_serve(&message) => work.wait(message),
            _ => self.serve(work, message).await,
        }
    }

    /// Performs what a message asks for, or gives it the lock.
    async fn serve(self: &Arc<Self>, work: &mut EntityWork, message: Message) {
        let outcome = match &message.body {
            MessageBody::Operation { operation, input } => {
                let caller = Some(message.from.as_str()).filter(|from| !from.is_empty());
                let is_call = message.reply_to.is_some();
                self.perform(work, Asked { operation, input, caller, is_call }).await
            }
            MessageBody::Lock => {
                let op = message.reply_to.map_or(EventId::NONE, |to| to.op);
                work.row.lock = Some(LockHolder { instance: message.from.clone(), run: message.id.run, op });
                Ok("null".to_owned())
            }
            _ => Err(Failure::new(FailureKind::Rejected, "entity.not-an-instance", not_an_instance(&work.id))),
        };
        work.send.extend(answer(&message, outcome));
    }

    /// The holder gives the lock back, or a waiting one its request up: what waits is served, up to the next lock.
    async fn unlock(self: &Arc<Self>, work: &mut EntityWork, message: &Message, op: EventId) {
        let is_request = |waiting: &Message| {
            matches!(waiting.body, MessageBody::Lock)
                && waiting.from == message.from
                && waiting.id.run == message.id.run
                && waiting.reply_to.is_some_and(|to| to.op == op)
        };
        work.row.waiting.retain(|waiting| !is_request(waiting));
        let holder = LockHolder { instance: message.from.clone(), run: message.id.run, op };
        if work.row.lock.as_ref() != Some(&holder) {
            return;
        }
        work.row.lock = None;
        let mut waiting = VecDeque::from(std::mem::take(&mut work.row.waiting));
        while let Some(message) = waiting.pop_front() {
            if work.may_serve(&message) {
                self.serve(work, message).await;
            } else {
                work.row.waiting.push(message);
            }
        }
    }

    async fn perform(self: &Arc<Self>, work: &mut EntityWork, asked: Asked<'_>) -> Outcome {
        let component = match self.catalog.entity(&work.id.name).await {
            Ok(Some(component)) => component,
            Ok(None) => {
                let text =
                    format!("no entity `{}` is deployed; deploy a component of world `entity` so named", work.id.name);
                return Err(Failure::new(FailureKind::NotFound, NOT_DEPLOYED, text));
            }
            Err(error) => return Err(Failure::new(FailureKind::Rejected, error.code, error.message)),
        };
        let now = work.begin_operation();
        let seed = runtime::random_seed().unwrap_or(work.row.operation);
        let request = EntityRequest {
            entity: work.id.clone(),
            operation: asked.operation.to_owned(),
            input: asked.input.to_owned(),
            caller: asked.caller.map(str::to_owned),
            is_call: asked.is_call,
            now,
            seed,
            values: std::mem::take(&mut work.values),
        };
        let log = ActivityLog::default();
        let turn = perform(&component, request, &self.config.limits, &log).await;
        work.log.extend(stored_lines(log.take()));
        work.take_turn(turn, asked.operation)
    }

    async fn commit_entity(self: &Arc<Self>, work: EntityWork) {
        let EntityWork { key, row, existed, values, changed, send, log, replies, messages, .. } = work;
        // With nothing to keep and nobody to wait for it is no more.
        let is_empty = values.is_empty() && row.lock.is_none() && row.waiting.is_empty();
        let mut batch = Box::new(Batch::new(key, RunNumber(0), EventId::NONE));
        if existed || !is_empty {
            let id = row.id.clone();
            batch.entity =
                Some(EntityChange { id, row: (!is_empty).then_some(row), values: changed.into_iter().collect() });
        }
        batch.received = messages.iter().map(|message| message.id).collect();
        batch.send.clone_from(&send);
        batch.log = log;
        match self.commit_batch(batch).await {
            Ok(()) => {
                replies.into_iter().for_each(|(reply, outcome)| drop(reply.send(Ok(outcome))));
                messages.iter().for_each(|message| self.received.add(message.id));
                send.into_iter().for_each(|message| self.deliver(message, false));
                self.watchers.notify(key);
            }
            Err(error) => {
                tracing::warn!(?key, %error, "a turn of an entity was not committed");
                replies.into_iter().for_each(|(reply, _)| drop(reply.send(Err(error.clone()))));
                messages.into_iter().for_each(|message| self.deliver_later(message));
            }
        }
    }
}

impl EntityWork {
    /// Whether a message can be served now: the entity is not locked, or its sender holds the lock.
    fn may_serve(&self, message: &Message) -> bool {
        self.row.lock.as_ref().is_none_or(|holder| {
            holder.instance == message.from
                && holder.run == message.id.run
                && !matches!(message.body, MessageBody::Lock)
        })
    }

    /// Whether a message that nobody waits for the answer to would have to wait, and too many wait already.
    fn has_no_room_for(&self, message: &Message) -> bool {
        let must_wait = !matches!(message.body, MessageBody::Unlock { .. }) && !self.may_serve(message);
        must_wait && message.reply_to.is_none() && self.row.waiting.len() >= WAITING_MAX
    }

    fn wait(&mut self, message: Message) {
        if self.row.waiting.len() < WAITING_MAX {
            self.row.waiting.push(message);
            return;
        }
        let failure = Failure::new(FailureKind::Rejected, "limit.entity-waiting", too_many_wait(self));
        self.send.extend(answer(&message, Err(failure)));
    }

    /// A new number, which no operation of this entity had before, even if it was deleted meanwhile.
    fn begin_operation(&mut self) -> rehydrate_core::Timestamp {
        let now = clock::now();
        self.row.operation = self.row.operation.saturating_add(1).max(u64::try_from(now.0).unwrap_or(0));
        self.row.last_operation = now;
        now
    }

    fn next_message_id(&mut self) -> MessageId {
        self.begin_operation();
        let event = EventId(self.row.operation);
        MessageId { sender: self.key, run: RunNumber(0), event, part: 0, is_answer: false }
    }

    fn take_turn(&mut self, turn: EntityTurn, operation: &str) -> Outcome {
        let EntityTurn { outcome, values, changed, send } = turn;
        self.values = values;
        self.changed.extend(changed);
        let event = EventId(self.row.operation);
        for (EntitySend { to, body }, part) in send.into_iter().zip(1..) {
            let id = MessageId { sender: self.key, run: RunNumber(0), event, part, is_answer: false };
            self.send.push(Message { id, from: self.id.to_string(), to, reply_to: None, body });
        }
        // An entity that knows no operation `delete` is deleted by the host.
        let unknown = matches!(&outcome, Err(failure) if failure.kind == FailureKind::NotFound);
        if operation != "delete" || !unknown {
            return outcome;
        }
        self.changed.extend(std::mem::take(&mut self.values).into_keys().map(|key| (key, None)));
        Ok("null".to_owned())
    }
}

fn too_many_wait(work: &EntityWork) -> String {
    format!("{WAITING_MAX} operations wait for the lock of entity `{}` already; try again later", work.id)
}

fn not_an_instance(id: &EntityId) -> String {
    format!("entity `{id}` is no instance of a workflow; call one of its operations")
}
