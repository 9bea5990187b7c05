//! What is posted to an instance, taken one after another: what each leads to, and whom it wakes.

use super::{HOST_FAULT, Told, Work, ended, pause, stored_lines, too_much};
use crate::actor::{Instances, Post, Reply};
use crate::error::{ErrorKind, RuntimeError};
use crate::turn::Turn;
use crate::{clock, load};
use rehydrate_core::{Answer, EntityId, EventBody, EventId, Input, InstanceKey, MessageBody, RunNumber};
use rehydrate_store::{InstanceStateTag, LogLine as StoredLine, TimerRow};
use std::sync::Arc;

/// What deciding an input came to.
pub(in crate::actor) struct Decided {
    pub(in crate::actor) answer: Answer,
    /// The guest may have something to do.
    pub(in crate::actor) wakes: bool,
}

impl Instances {
    pub(super) async fn take_post(self: &Arc<Self>, key: InstanceKey, work: &mut Work, post: Post) {
        match post {
            Post::Input { run, input, log, reply } => {
                work.turn.log(stored_lines(log));
                if run.is_some_and(|run| run != work.run_meant_by(&input)) {
                    return self.answer_for_old_run(key, work, run, input, reply);
                }
                match (self.decide(work, input), reply) {
                    (Ok(decided), reply) => {
                        work.told.extend(reply.map(|reply| Told::Answer(reply, decided.answer)));
                        if decided.wakes {
                            self.run_guest(key, work).await;
                        }
                    }
                    (Err(error), Some(reply)) => drop(reply.send(Err(error))),
                    (Err(error), None) => tracing::error!(?key, %error, "an input of the host's own was refused"),
                }
            }
            Post::Recover(under_way) => {
                work.resident.stored_under_way = Some(under_way);
                work.turn.effects(work.resident.state.recover_activities(clock::now()));
                if under_way.guest {
                    self.run_guest(key, work).await;
                }
            }
            // Something that came before this may have woken the guest.
            Post::Begun if work.resident.row.ran_through != EventId::NONE => {}
            Post::Begun => self.run_guest(key, work).await,
            Post::Timer(row) => self.take_timer(key, work, row).await,
            Post::Message { message, again } => Box::pin(self.take_message(key, work, message, again)).await,
            Post::Resume { reason, reply } => Box::pin(self.take_resume(key, work, reason, reply)).await,
            // Boxed, as it is rare: the future of a turn is to stay small.
            Post::Move(plan, reply) => Box::pin(self.take_move(key, work, *plan, reply)).await,
            Post::Migrate { version, digest, pin, reply } => {
                if work.resident.state.is_closed() {
                    drop(reply.send(Err(ended(&work.resident.row))));
                    return;
                }
                work.resident.row.version = version;
                work.resident.row.digest = digest;
                work.pins.push(pin);
                self.unpause(key, work).await;
                work.told.push(Told::Done(reply));
            }
            Post::Start(..) | Post::Purge(..) | Post::Rewind { .. } | Post::Entity(_) => {}
        }
    }

    /// A suspended instance runs again, a paused one tries again; one that is both does both.
    async fn take_resume(
        self: &Arc<Self>,
        key: InstanceKey,
        work: &mut Work,
        reason: Option<String>,
        reply: Reply<()>,
    ) {
        let paused = work.resident.row.state == InstanceStateTag::Paused;
        if work.resident.state.is_closed() {
            drop(reply.send(Err(ended(&work.resident.row))));
            return;
        }
        if let (Some(reason), Some(_)) = (reason, &work.resident.state.suspended) {
            if let Err(error) = self.decide(work, Input::Resume { reason }) {
                drop(reply.send(Err(error)));
                return;
            }
            if !paused {
                self.run_guest(key, work).await;
            }
        } else if !paused {
            let text = "the instance is neither suspended nor paused, so there is nothing to resume";
            drop(reply.send(Err(RuntimeError::new(ErrorKind::Conflict, "instance.not-paused", text))));
            return;
        }
        if paused {
            self.unpause(key, work).await;
        }
        work.told.push(Told::Done(reply));
    }

    /// Lets the guest try again, from its history.
    pub(super) async fn unpause(self: &Arc<Self>, key: InstanceKey, work: &mut Work) {
        work.resident.row.state = InstanceStateTag::Running;
        work.resident.row.problem = None;
        work.turn.row_changed();
        work.resident.guest = None;
        // The events of this turn, if any, are not stored yet: they come on top of the stored ones.
        match load::history(&*self.store, key, work.resident.row.run) {
            Ok(events) => work.events = work.turn.with_new_events(events),
            Err(error) => return pause(work, HOST_FAULT, error.to_string(), None),
        }
        self.run_guest(key, work).await;
    }

    async fn take_timer(self: &Arc<Self>, key: InstanceKey, work: &mut Work, row: TimerRow) {
        let wanted = row.run == work.resident.row.run;
        let input = Input::TimerDue { op: row.op, purpose: row.purpose };
        let due = clock::now() >= row.due;
        let decided =
            if wanted { self.decide(work, input) } else { Ok(Decided { answer: Answer::Gone, wakes: false }) };
        let dropped = due && decided.is_ok();
        if dropped {
            work.turn.drop_timer(row);
        }
        work.told.push(Told::Timer(row, dropped));
        if decided.is_ok_and(|decided| decided.wakes) {
            self.run_guest(key, work).await;
        }
    }

    /// A post for a run that is over: answered from that run's own history, nothing is changed.
    fn answer_for_old_run(
        &self,
        key: InstanceKey,
        work: &mut Work,
        run: Option<RunNumber>,
        input: Input,
        reply: Option<Reply<Answer>>,
    ) {
        let Some(reply) = reply else { return };
        let run = run.unwrap_or(work.resident.row.run);
        let answer = load::history(&*self.store, key, run).and_then(|events| {
            if events.is_empty() {
                return Ok(Answer::Gone);
            }
            let decision = load::fold(&events, run, 0).decide(input, clock::now(), &self.config.limits);
            decision.map(|decision| decision.answer).map_err(|error| too_much(&error))
        });
        match answer {
            Ok(answer) => work.told.push(Told::Answer(reply, answer)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Decides one input and records what it led to.
    pub(in crate::actor) fn decide(&self, work: &mut Work, input: Input) -> Result<Decided, RuntimeError> {
        let now = clock::now();
        let evidence = match &input {
            Input::CallbackPosted { op, outcome: Ok(payload), .. } => Some((*op, payload.clone())),
            Input::CallbackPosted { op, outcome: Err(failure), .. } => Some((*op, format!("rejected, {failure}"))),
            _ => None,
        };
        let decision = work.resident.state.decide(input, now, &self.config.limits).map_err(|error| too_much(&error))?;
        if let (Answer::Gone, Some((op, posted))) = (decision.answer, evidence) {
            work.turn.log([late_callback(op, &posted)]);
        }
        work.turn.effects(decision.effects);
        let mut wakes = false;
        for body in decision.events {
            wakes |= !matches!(
                body,
                EventBody::ActivityAttemptFailed { .. }
                    | EventBody::ChildAttemptFailed { .. }
                    | EventBody::InstanceSuspended { .. }
            );
            let event = work.resident.state.next_event(body, now);
            match &mut work.resident.guest {
                Some(live) => live.guest.with_replay(|replay| replay.push_inbound(event.clone())),
                None => work.events.push(event.clone()),
            }
            work.apply(event);
        }
        Ok(Decided { answer: decision.answer, wakes })
    }
}

impl Post {
    /// Whether it is for an entity, as all posts of an entity's mailbox are.
    pub(super) fn is_for_entity(&self) -> bool {
        match self {
            Post::Entity(_) => true,
            // A name that could be an entity's and is none is nobody's: what it is told is refused, as by no instance.
            Post::Message { message, .. } => message.to.starts_with('@') && EntityId::parse(&message.to).is_some(),
            _ => false,
        }
    }

    /// Whether it is not for the run that goes on: it is taken after what came before it is durable.
    pub(super) fn stands_alone(&self) -> bool {
        match self {
            Post::Start(..) | Post::Rewind { .. } | Post::Purge(..) => true,
            Post::Message { message, .. } => matches!(message.body, MessageBody::Start(_)),
            _ => false,
        }
    }
}

fn late_callback(op: EventId, posted: &str) -> StoredLine {
    const SHOWN_CHARS_MAX: usize = 1024;
    let shown: String = posted.chars().take(SHOWN_CHARS_MAX).collect();
    let text = format!("callback {op} was called too late and not used: {shown}");
    StoredLine { time: clock::now(), level: 3, text }
}

/// There is no such instance, or it can't be loaded: everybody is told, due timers are dropped.
pub(super) async fn refuse_all(
    instances: &Arc<Instances>,
    posts: Vec<Post>,
    error: &RuntimeError,
    missing: Option<InstanceKey>,
) {
    for post in posts {
        match post {
            Post::Input { input: Input::CallbackPosted { .. }, reply: Some(reply), .. } if missing.is_some() => {
                drop(reply.send(Ok(Answer::Gone)));
            }
            Post::Input { reply: Some(reply), .. } => drop(reply.send(Err(error.clone()))),
            Post::Resume { reply, .. }
            | Post::Rewind { reply, .. }
            | Post::Migrate { reply, .. }
            | Post::Move(_, reply) => {
                drop(reply.send(Err(error.clone())));
            }
            Post::Message { message, .. } => match missing {
                Some(key) => {
                    let nobody = crate::outbox::nobody(&message);
                    instances.answer_alone(key, message, Err(nobody)).await;
                }
                None => instances.deliver_later(*message),
            },
            Post::Timer(row) => {
                let mut turn = Turn::new(row.key, row.run, EventId::NONE, None);
                turn.drop_timer(row);
                let dropped = match missing {
                    Some(_) => {
                        matches!(instances.commits.commit(turn.finish(None).0, false).await, Ok(Ok(())))
                    }
                    None => false,
                };
                if dropped {
                    instances.timers.done(&row, true);
                } else {
                    instances.timer_later(row);
                }
            }
            Post::Input { reply: None, .. }
            | Post::Start(..)
            | Post::Purge(..)
            | Post::Recover(_)
            | Post::Begun
            | Post::Entity(_) => {}
        }
    }
}
