//! Taking messages from other instances.

use super::process::{Told, Work};
use super::start::{StartPlan, Starter};
use super::{Instances, Resident};
use crate::api::{ConflictPolicy, ReusePolicy};
use crate::catalog::internal;
use crate::error::RuntimeError;
use crate::outbox::{answer, nobody};
use crate::turn::Turn;
use rehydrate_core::{
    Answer, EventId, Failure, FailureKind, Input, InstanceKey, Lineage, Message, MessageBody, Outcome, Parent,
    RunNumber, StartMessage,
};
use std::sync::Arc;

impl Instances {
    /// Whether a message was received before; only one that comes again can have been.
    pub(super) fn is_known(&self, message: &Message, again: bool) -> Result<bool, RuntimeError> {
        Ok(again && self.store.was_received(message.id)?)
    }

    /// Takes a message that is no start.
    pub(super) async fn take_message(
        self: &Arc<Self>,
        key: InstanceKey,
        work: &mut Work,
        message: Box<Message>,
        again: bool,
    ) {
        match self.is_known(&message, again) {
            Ok(true) => return self.received.add(message.id),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(?key, %error, "a message could not be taken");
                return self.deliver_later(*message);
            }
        }
        let mut wakes = false;
        let outcome = match self.input_of(work, &message) {
            None => Ok("null".to_owned()),
            Some(input) => match self.decide(work, input) {
                Ok(decided) => {
                    wakes = decided.wakes;
                    answered(&message, decided.answer)
                }
                Err(error) => Err(Failure::new(FailureKind::Rejected, error.code, error.message)),
            },
        };
        work.turn.answer(answer(&message, outcome));
        work.turn.received(message.id);
        work.told.push(Told::Message(message));
        if wakes {
            self.run_guest(key, work).await;
        }
    }

    /// What a message means to the instance; none: nothing, as it was meant for another than this.
    fn input_of(&self, work: &Work, message: &Message) -> Option<Input> {
        let is_child = |parent: &Parent| work.resident.state.lineage.parent.as_ref() == Some(parent);
        match message.body.clone() {
            MessageBody::Signal { name, payload } => Some(Input::Signal { name, payload, message_id: None }),
            MessageBody::Cancel { reason, child_of } => {
                child_of.as_ref().is_none_or(is_child).then_some(Input::Cancel { reason })
            }
            MessageBody::Terminate { reason, child_of } => is_child(&child_of).then_some(Input::Terminate { reason }),
            MessageBody::Reply { run, to, outcome } => {
                (run == work.resident.row.run).then_some(Input::Reply { to, outcome })
            }
            MessageBody::Start(_) | MessageBody::Operation { .. } | MessageBody::Lock | MessageBody::Unlock { .. } => {
                None
            }
        }
    }

    /// Takes a message that starts an instance; an id whose instance has ended begins a new run.
    pub(super) async fn take_start(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: Option<Box<Resident>>,
        message: Box<Message>,
        again: bool,
    ) -> Option<Box<Resident>> {
        let plan = self.is_known(&message, again).and_then(|known| match known {
            true => Ok(None),
            false => self.plan_of(&message).map(Some),
        });
        match plan {
            Ok(None) => {
                self.received.add(message.id);
                resident
            }
            Ok(Some(plan)) => self.start(key, resident, plan, Starter::Message(message)).await,
            Err(error) => {
                self.refuse_start(key, message, &error).await;
                resident
            }
        }
    }

    fn plan_of(&self, message: &Message) -> Result<StartPlan, RuntimeError> {
        let MessageBody::Start(start) = &message.body else { return Err(internal("a message is no start")) };
        let StartMessage { workflow, version, input, parent, depth } = start;
        let (deployment, pin) = self.catalog.pinned_workflow(workflow, version.as_deref())?;
        Ok(StartPlan {
            id: message.to.clone(),
            workflow: deployment.name,
            version: deployment.version,
            digest: deployment.digest,
            pin,
            input: input.clone(),
            seed: crate::runtime::random_seed()?,
            reuse: ReusePolicy::Allow,
            conflict: ConflictPolicy::Refuse,
            idempotency: None,
            lineage: Lineage { parent: parent.clone(), depth: *depth, ..Lineage::default() },
            waits_for_end: false,
        })
    }

    /// Tells the sender of a start why it can't be.
    pub(super) async fn refuse_start(self: &Arc<Self>, key: InstanceKey, message: Box<Message>, error: &RuntimeError) {
        let kind = match error.kind {
            crate::ErrorKind::NotFound => FailureKind::NotFound,
            _ => FailureKind::Rejected,
        };
        let failure = Failure::new(kind, error.code, error.message.clone());
        self.answer_alone(key, message, Err(failure)).await;
    }

    /// Answers a message that changes nothing of its receiver.
    pub(super) async fn answer_alone(self: &Arc<Self>, key: InstanceKey, message: Box<Message>, outcome: Outcome) {
        let mut turn = Turn::new(key, RunNumber(0), EventId::NONE, None);
        turn.answer(answer(&message, outcome));
        turn.received(message.id);
        let (batch, release) = turn.finish(None);
        match self.commits.commit(batch, false).await {
            Ok(Ok(())) => {
                self.received.add(message.id);
                release.messages.into_iter().for_each(|message| self.deliver(message, false));
            }
            _ => self.deliver_later(*message),
        }
    }
}

/// What the sender of a message is told.
fn answered(message: &Message, answer: Answer) -> Outcome {
    match answer {
        Answer::Gone | Answer::NotFound => Err(nobody(message)),
        Answer::Accepted | Answer::Duplicate | Answer::Conflict | Answer::Ignored => Ok("null".to_owned()),
    }
}
