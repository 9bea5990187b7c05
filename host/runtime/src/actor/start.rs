//! Starting a run: the policies for an id that is taken, and the first turn.

use super::next_run::new_run;
use super::process::{Told, ended};
use super::{Instances, Reply, Resident};
use crate::api::{ConflictPolicy, ReusePolicy, StartReply};
use crate::catalog::ComponentPin;
use crate::error::{ErrorKind, RuntimeError};
use crate::outbox::answer;
use crate::turn::Turn;
use crate::{clock, load};
use rehydrate_core::{Digest, EventBody, EventId, InstanceKey, InstanceState, Json, Lineage, Message, RunNumber};
use rehydrate_store::{DedupRow, InstanceRow, InstanceStateTag};
use std::sync::Arc;

/// The scope of idempotency keys of starts.
pub const START_SCOPE: &str = "start";

/// A checked request to start.
#[derive(Debug)]
pub struct StartPlan {
    /// The instance's id.
    pub id: String,
    /// The workflow.
    pub workflow: String,
    /// Its version.
    pub version: String,
    /// Its component.
    pub digest: Digest,
    /// Keeps that from being removed until the start is durable.
    pub pin: ComponentPin,
    /// The input.
    pub input: Json,
    /// The seed of the run's random numbers.
    pub seed: u64,
    /// After the last run has ended.
    pub reuse: ReusePolicy,
    /// While the last run goes on.
    pub conflict: ConflictPolicy,
    /// The idempotency key and the digest of the request.
    pub idempotency: Option<(String, Digest)>,
    /// Where the run comes from.
    pub lineage: Lineage,
    /// Whoever asked waits for the end of the run, and is in no hurry to learn that it has begun.
    pub waits_for_end: bool,
}

/// Who wants an instance to be started.
pub enum Starter {
    /// Somebody outside.
    Request(Reply<StartReply>),
    /// Another instance.
    Message(Box<Message>),
}

fn conflict(code: &'static str, message: String) -> RuntimeError {
    RuntimeError::new(ErrorKind::Conflict, code, message)
}

impl Instances {
    /// Starts a run, or gives the one that is there, as the plan says.
    pub(super) async fn start(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: Option<Box<Resident>>,
        plan: StartPlan,
        starter: Starter,
    ) -> Option<Box<Resident>> {
        let row = match &resident {
            Some(resident) => Ok(Some(resident.row.clone())),
            None => self.store.instance(key).map_err(RuntimeError::from),
        };
        let position = row.and_then(|row| self.position(row.as_ref(), &plan).map(|position| (position, row)));
        match position {
            Err(error) => {
                self.refuse(key, starter, error).await;
                resident
            }
            Ok((Position::Existing(existing), _)) => {
                match starter {
                    Starter::Request(reply) => drop(reply.send(Ok(existing))),
                    Starter::Message(message) => self.answer_alone(key, message, Ok("null".to_owned())).await,
                }
                resident
            }
            Ok((Position::New(run), row)) => self.begin_run(key, plan, run, row.as_ref(), starter).await,
            Ok((Position::AfterTerminating(run), _)) => match self.end_run(key, resident).await {
                Ok(row) => self.begin_run(key, plan, run, Some(&row), starter).await,
                Err(error) => {
                    self.refuse(key, starter, error).await;
                    None
                }
            },
        }
    }

    async fn refuse(self: &Arc<Self>, key: InstanceKey, starter: Starter, error: RuntimeError) {
        match starter {
            Starter::Request(reply) => drop(reply.send(Err(error))),
            Starter::Message(message) => self.refuse_start(key, message, &error).await,
        }
    }

    fn position(&self, row: Option<&InstanceRow>, plan: &StartPlan) -> Result<Position, RuntimeError> {
        let Some(row) = row else { return Ok(Position::New(RunNumber::FIRST)) };
        if let Some((idempotency_key, fingerprint)) = &plan.idempotency
            && let Some(known) = self.store.dedup(START_SCOPE, idempotency_key)?
        {
            return repeated(Some(row), &known, *fingerprint).map(Position::Existing);
        }
        let id = &row.id;
        let next = row.run.next();
        if row.state.is_closed() {
            let failed = row.state != InstanceStateTag::Completed;
            return match plan.reuse {
                ReusePolicy::Allow => Ok(Position::New(next)),
                ReusePolicy::AllowIfFailed if failed => Ok(Position::New(next)),
                ReusePolicy::AllowIfFailed => Err(conflict(
                    "instance.completed",
                    format!("instance `{id}` has completed and may be started again only if it failed; use another id"),
                )),
                ReusePolicy::Refuse => Err(conflict(
                    "instance.exists",
                    format!("instance `{id}` has ended and may not be started again; use another id"),
                )),
            };
        }
        match plan.conflict {
            ConflictPolicy::UseExisting => Ok(Position::Existing(existing(row))),
            ConflictPolicy::Terminate => Ok(Position::AfterTerminating(next)),
            ConflictPolicy::Refuse => Err(conflict(
                "instance.running",
                format!(
                    "instance `{id}` has not ended; use another id, or the conflict policy `use-existing` or `terminate`"
                ),
            )),
        }
    }

    async fn begin_run(
        self: &Arc<Self>,
        key: InstanceKey,
        plan: StartPlan,
        run: RunNumber,
        previous: Option<&InstanceRow>,
        starter: Starter,
    ) -> Option<Box<Resident>> {
        // Until the run is durable.
        let _pin = plan.pin;
        let now = clock::now();
        let has_no_parent = plan.lineage.parent.is_none();
        let mut state = InstanceState::new(run, 0);
        let body = EventBody::InstanceStarted {
            instance: plan.id.clone(),
            workflow: plan.workflow.clone(),
            version: plan.version.clone(),
            digest: plan.digest,
            input: plan.input,
            seed: plan.seed,
            lineage: Some(Box::new(plan.lineage)).filter(|lineage| **lineage != Lineage::default()),
        };
        let first = state.next_event(body, now);
        let stored = previous.map(InstanceRow::index_keys);
        let mut turn = Turn::new(key, run, EventId::NONE, stored);
        turn.row_changed();
        let mut effects = Vec::new();
        state.apply(&first, &mut effects);
        turn.effects(effects);
        turn.event(first.clone());
        if let Some((idempotency_key, fingerprint)) = plan.idempotency {
            let scope = START_SCOPE.to_owned();
            turn.dedup(DedupRow { scope, key: idempotency_key, fingerprint, instance: key, run, at: now });
        }
        let row = InstanceRow {
            id: plan.id.clone(),
            run,
            workflow: plan.workflow,
            version: plan.version.clone(),
            digest: plan.digest,
            state: InstanceStateTag::Running,
            created: first.time,
            updated: first.time,
            last_event: first.id,
            ran_through: EventId::NONE,
            custom_status: None,
            problem: None,
        };
        let resident = new_run(row, state, stored);
        let told = match starter {
            Starter::Request(reply) => {
                let started = StartReply { id: plan.id, run, version: plan.version, created: true };
                Told::Started { reply, started, is_awaited: !plan.waits_for_end }
            }
            Starter::Message(message) => {
                // Whoever waits for a child waits for its end; whoever started another is told that it began.
                if has_no_parent {
                    turn.answer(answer(&message, Ok("null".to_owned())));
                }
                turn.received(message.id);
                Told::Message(message)
            }
        };
        self.first_turn(key, resident, turn, first, Some(told)).await.0
    }

    /// Terminates the run that is in the way; gives its last row.
    async fn end_run(
        self: &Arc<Self>,
        key: InstanceKey,
        resident: Option<Box<Resident>>,
    ) -> Result<InstanceRow, RuntimeError> {
        let mut resident = match resident {
            Some(resident) => resident,
            None => {
                let loaded =
                    load::instance(&*self.store, key)?.ok_or_else(|| RuntimeError::no_instance("(unknown)"))?;
                Resident::loaded(loaded.row, loaded.state)
            }
        };
        if resident.state.is_closed() {
            return Err(ended(&resident.row));
        }
        let reason = "a new run of the same id was started".to_owned();
        let event = resident.state.next_event(EventBody::InstanceTerminated { reason }, clock::now());
        let mut turn = Turn::new(key, resident.row.run, resident.stored_last, resident.stored);
        let mut effects = Vec::new();
        resident.state.apply(&event, &mut effects);
        turn.effects(effects);
        turn.event(event.clone());
        let (resident, result) = self.first_turn(key, resident, turn, event, None).await;
        result?;
        resident.map(|resident| resident.row).ok_or_else(|| RuntimeError::no_instance("(unknown)"))
    }
}

enum Position {
    New(RunNumber),
    AfterTerminating(RunNumber),
    Existing(StartReply),
}

fn existing(row: &InstanceRow) -> StartReply {
    StartReply { id: row.id.clone(), run: row.run, version: row.version.clone(), created: false }
}

/// The answer to a request whose idempotency key is known. What it started may have been purged since: it is not
/// started again, as the key promises.
pub fn repeated(row: Option<&InstanceRow>, known: &DedupRow, fingerprint: Digest) -> Result<StartReply, RuntimeError> {
    if known.fingerprint != fingerprint {
        return Err(conflict(
            "idempotency.mismatch",
            format!("the Idempotency-Key `{}` was used for another request; use a new key", known.key),
        ));
    }
    let Some(row) = row.filter(|row| !is_of_purged(row, known)) else {
        let message = format!(
            "what was started with the Idempotency-Key `{}` has been purged since and is not started again; use a new key",
            known.key
        );
        return Err(RuntimeError::new(ErrorKind::Gone, "idempotency.purged", message));
    };
    Ok(StartReply { run: known.run, ..existing(row) })
}

/// Whether the key's run belongs to an instance of the same id that was purged before this one began.
fn is_of_purged(row: &InstanceRow, known: &DedupRow) -> bool {
    known.run > row.run || (known.run == row.run && known.at < row.created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehydrate_core::Timestamp;

    const FINGERPRINT: Digest = Digest([7; 32]);

    fn row(run: u32, created: i64) -> InstanceRow {
        InstanceRow {
            id: "a".to_owned(),
            run: RunNumber(run),
            workflow: "w".to_owned(),
            version: "1".to_owned(),
            digest: Digest([1; 32]),
            state: InstanceStateTag::Running,
            created: Timestamp(created),
            updated: Timestamp(created),
            last_event: EventId(1),
            ran_through: EventId::NONE,
            custom_status: None,
            problem: None,
        }
    }

    fn asked(row: Option<InstanceRow>, run: u32, at: i64) -> Result<RunNumber, &'static str> {
        let known = DedupRow {
            scope: START_SCOPE.to_owned(),
            key: "k".to_owned(),
            fingerprint: FINGERPRINT,
            instance: InstanceKey([1; 16]),
            run: RunNumber(run),
            at: Timestamp(at),
        };
        repeated(row.as_ref(), &known, FINGERPRINT).map(|reply| reply.run).map_err(|error| error.code)
    }

    #[test]
    fn a_key_gives_the_run_that_it_started_and_none_of_an_instance_that_took_the_id_after_a_purge() {
        assert_eq!(asked(Some(row(1, 5)), 1, 5), Ok(RunNumber(1)));
        assert_eq!(asked(Some(row(3, 9)), 1, 5), Ok(RunNumber(1)));
        assert_eq!(asked(None, 1, 5), Err("idempotency.purged"));
        assert_eq!(asked(Some(row(1, 6)), 1, 5), Err("idempotency.purged"));
        assert_eq!(asked(Some(row(1, 6)), 2, 5), Err("idempotency.purged"));
    }
}
